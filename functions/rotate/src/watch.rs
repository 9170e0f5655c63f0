//! The numbers that alarms and people watch: a stack's slack, what its targets serve, and what of it needs a person.

use espalier_domain::id::StackName;
use espalier_domain::plan::Block;
use espalier_domain::rotation::evidence::Evidence;
use espalier_domain::rotation::slack::{self, Assumed};
use espalier_domain::rotation::status::Served;
use espalier_domain::work::{RotateOutcome, SeenTarget, SeenThrough};
use espalier_edge::metric::{self, Unit};
use time::OffsetDateTime;

/// A look at every stack has come to its end, whatever it found: that this number is there is what it says. An invocation
/// that something else asked for, or that Lambda ended before the last stack, writes none.
pub(crate) fn swept(now: OffsetDateTime) {
    metric::emit(now, &[("Function", "rotate")], &[("Sweeps", Unit::Count, 1.0)]);
}

/// What a look has seen: whoever looks writes it.
pub(crate) fn seen(stack: &StackName, evidence: &Evidence, now: OffsetDateTime) {
    slack(stack, evidence, now);
    served(stack, evidence, now);
}

/// How much time is left between a replacement that goes badly and the end of what is served. Of who serves nothing that was
/// proven nobody knows it, which keeps none of the others' from being told; that it does not is [`served`]'s to tell.
fn slack(stack: &StackName, evidence: &Evidence, now: OffsetDateTime) {
    let all = slack::slack(evidence, &Assumed::default());
    let Some(slack_s) = all.iter().filter_map(|one| one.slack_s).min() else { return };
    #[expect(clippy::cast_precision_loss, reason = "a span of years in seconds is exact in 53 bits")]
    let slack_s = slack_s as f64;
    for dimension in dimensions(stack) {
        metric::emit(now, &[dimension], &[("Slack", Unit::Seconds, slack_s)]);
    }
}

/// What targets were last seen to serve, in numbers; nothing of a stack of which nothing was seen yet.
fn served(stack: &StackName, evidence: &Evidence, now: OffsetDateTime) {
    let Some(Served { days_to_expiry, failing, stale }) = Served::of(evidence) else { return };
    for dimension in dimensions(stack) {
        metric::emit(now, &[dimension], &[("VerificationFailed", Unit::Count, f64::from(failing))]);
        metric::emit(now, &[dimension], &[("StaleServed", Unit::Count, f64::from(stale))]);
        if let Some(days) = days_to_expiry {
            metric::emit(now, &[dimension], &[("DaysToExpiry", Unit::Count, f64::from(days))]);
        }
    }
}

/// How long the slowest of a tour took to connect, and to shake hands after that: a network that is slow is told from a server
/// that is.
pub(crate) fn latency(stack: &StackName, sightings: &[SeenTarget], through: &[SeenThrough]) {
    let targets = slowest(sightings.iter().map(|seen| (seen.at, seen.connect_ms, seen.handshake_ms)));
    let samples = slowest(through.iter().map(|sample| (sample.at, sample.connect_ms, sample.handshake_ms)));
    for (way, slowest) in [("Targets", targets), ("Service", samples)] {
        let Some((at, connect, shake)) = slowest else { continue };
        let dimensions = [("Stack", stack.as_str()), ("Way", way)];
        metric::emit(at, &dimensions, &[("ConnectTime", Unit::Milliseconds, connect)]);
        metric::emit(at, &dimensions, &[("HandshakeTime", Unit::Milliseconds, shake)]);
    }
}

/// The longest connecting and the longest handshake, in milliseconds, and when the last of all was. Of who was not connected there is
/// nothing to tell.
fn slowest(tour: impl Iterator<Item = (OffsetDateTime, Option<f64>, f64)>) -> Option<(OffsetDateTime, f64, f64)> {
    tour.filter_map(|(at, connect, shake)| Some((at, connect?, shake)))
        .reduce(|one, other| (one.0.max(other.0), one.1.max(other.1), one.2.max(other.2)))
}

/// What needs a person: a block behind which there is nothing to do starts no execution that could halt.
pub(crate) fn blocks(stack: &StackName, blocks: &[Block], now: OffsetDateTime) {
    for Block { code, because } in blocks {
        tracing::warn!(%stack, ?code, because, "a person is needed");
    }
    let (acms, others): (Vec<&Block>, Vec<&Block>) = blocks.iter().partition(|block| block.code.is_about_acm());
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let (acms, others) = (acms.len() as f64, others.len() as f64);
    for dimension in dimensions(stack) {
        metric::emit(now, &[dimension], &[("Blocked", Unit::Count, others)]);
        metric::emit(now, &[dimension], &[("AcmBlocked", Unit::Count, acms)]);
    }
}

/// The answer, with its blocks counted.
pub(crate) fn counted(outcome: RotateOutcome, stack: &StackName, now: OffsetDateTime) -> RotateOutcome {
    blocks(stack, &outcome.blocks, now);
    outcome
}

/// A stack's numbers are written twice: an alarm cannot know the stacks, and a person wants to.
fn dimensions(stack: &StackName) -> [(&'static str, &str); 2] {
    [("Stack", stack.as_str()), ("Function", "rotate")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn of_a_tour_the_slowest_connecting_and_the_slowest_handshake_are_told_and_nothing_of_who_was_not_connected() {
        let at = |second: i64| datetime!(2026-11-23 12:00 UTC) + time::Duration::seconds(second);
        let tour = [(at(1), Some(2.0), 30.0), (at(3), Some(5.0), 4.0), (at(2), Some(1.0), 9.0), (at(9), None, 3_000.0)];
        assert_eq!(slowest(tour.into_iter()), Some((at(3), 5.0, 30.0)));
        assert_eq!(slowest(tour[3..].iter().copied()), None);
    }
}
