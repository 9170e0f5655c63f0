//! Times and numbers as people say them, in a terminal and on a page.

use time::{Duration, OffsetDateTime};

/// `ends in 6 d 23 h`, or `ended 5 min ago`.
pub fn ends(at: OffsetDateTime, now: OffsetDateTime) -> String {
    if at > now { format!("ends in {}", span(at - now)) } else { format!("ended {}", ago(at, now)) }
}

/// `5 min ago`.
pub fn ago(at: OffsetDateTime, now: OffsetDateTime) -> String {
    // Another machine's clock may be ahead of ours.
    format!("{} ago", span((now - at).max(Duration::ZERO)))
}

/// The two largest units that matter.
pub fn span(span: Duration) -> String {
    let sign = if span.is_negative() { "-" } else { "" };
    let seconds = span.whole_seconds().unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let text = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    };
    format!("{sign}{text}")
}

/// `1 target`, `2 targets`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
