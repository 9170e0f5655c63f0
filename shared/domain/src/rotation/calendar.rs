//! When a rollout may begin or go on: maintenance windows and freezes, all in UTC.
//!
//! A calendar never outlives a certificate: what is served so close to its end that the safety margin has begun is
//! replaced at any time. The planner knows that; here is only the calendar itself.

use std::fmt;

use serde::Deserialize;
use time::{Duration, OffsetDateTime, UtcOffset, Weekday};

/// How far ahead an opening is looked for: windows come back within a week, whatever freezes are in between.
const DAYS: i64 = 8;

/// When a rollout may go on. Without windows always, but for freezes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calendar {
    /// The windows; none means always.
    pub windows: Vec<Window>,
    /// The freezes.
    pub freezes: Vec<Freeze>,
}

/// A window that comes back on certain days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// On which days it opens; none means every day.
    #[serde(default)]
    pub days: Vec<Day>,
    /// When it opens.
    pub from: TimeOfDay,
    /// When it closes; not later than `from` means on the next day.
    pub to: TimeOfDay,
}

/// A span in which nothing begins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Its first moment.
    #[serde(with = "time::serde::rfc3339")]
    pub from: OffsetDateTime,
    /// The moment after it.
    #[serde(with = "time::serde::rfc3339")]
    pub to: OffsetDateTime,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}

/// A time of day in UTC, written `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeOfDay {
    minutes: u16,
}

impl TimeOfDay {
    /// Reads `00:00` to `23:59`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str, end: u16| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten().filter(|number| *number < end)
        };
        Some(Self { minutes: number(hours, 24)? * 60 + number(minutes, 60)? })
    }

    fn after_midnight(self) -> Duration {
        Duration::minutes(i64::from(self.minutes))
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, NotATime> {
        Self::parse(&text).ok_or(NotATime)
    }
}

/// A text that is no time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a time of day such as 02:00")]
pub struct NotATime;

/// What the calendar says about a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// A rollout may go on.
    Open,
    /// It may not.
    Closed {
        /// What is in the way.
        why: Why,
        /// When it opens next; nothing if no opening is known within a week after the last freeze.
        opens: Option<OffsetDateTime>,
    },
}

/// What is in a rollout's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No window is open.
    Window,
    /// A freeze.
    Freeze,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window => "the next maintenance window",
            Self::Freeze => "the end of the freeze",
        })
    }
}

impl Calendar {
    /// What it says about this moment.
    pub fn gate(&self, now: OffsetDateTime) -> Gate {
        match self.closed(now) {
            None => Gate::Open,
            Some(why) => Gate::Closed { why, opens: self.opens_after(now) },
        }
    }

    /// The first moment from `now` on at which a rollout may go on.
    pub fn opens(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        if self.closed(now).is_none() { Some(now) } else { self.opens_after(now) }
    }

    fn closed(&self, at: OffsetDateTime) -> Option<Why> {
        if self.freezes.iter().any(|freeze| freeze.from <= at && at < freeze.to) {
            return Some(Why::Freeze);
        }
        let is_open = self.windows.is_empty() || self.windows.iter().any(|window| window.is_open(at));
        (!is_open).then_some(Why::Window)
    }

    /// It can only open when a window opens or a freeze ends.
    fn opens_after(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let ends: Vec<OffsetDateTime> = self.freezes.iter().map(|freeze| freeze.to).filter(|to| *to > now).collect();
        let from = ends.iter().copied().chain([now]);
        let openings = from.flat_map(|from| self.windows.iter().flat_map(move |window| window.openings(from)));
        openings.chain(ends.iter().copied()).filter(|at| *at > now && self.closed(*at).is_none()).min()
    }
}

impl Window {
    fn opens_on(&self, weekday: Weekday) -> bool {
        self.days.is_empty() || self.days.iter().any(|day| day.weekday() == weekday)
    }

    fn length(&self) -> Duration {
        let length = self.to.after_midnight() - self.from.after_midnight();
        if length > Duration::ZERO { length } else { length + Duration::DAY }
    }

    fn is_open(&self, at: OffsetDateTime) -> bool {
        // Yesterday's may still be open.
        [0, -1]
            .into_iter()
            .filter_map(|days| self.opening(at, days))
            .any(|from| from <= at && at - from < self.length())
    }

    /// When it opens on the day that is so many days away, if it does.
    fn opening(&self, at: OffsetDateTime, days: i64) -> Option<OffsetDateTime> {
        let day = at.checked_to_offset(UtcOffset::UTC)?.replace_time(time::Time::MIDNIGHT);
        let day = day.checked_add(Duration::days(days))?;
        self.opens_on(day.weekday()).then(|| day.checked_add(self.from.after_midnight())).flatten()
    }

    fn openings(&self, from: OffsetDateTime) -> impl Iterator<Item = OffsetDateTime> + '_ {
        (0..=DAYS).filter_map(move |days| self.opening(from, days))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn window(days: &[Day], from: &str, to: &str) -> Window {
        let at = |text| TimeOfDay::parse(text).unwrap();
        Window { days: days.to_vec(), from: at(from), to: at(to) }
    }

    fn closed(calendar: &Calendar, now: OffsetDateTime) -> (Why, Option<OffsetDateTime>) {
        match calendar.gate(now) {
            Gate::Closed { why, opens } => (why, opens),
            Gate::Open => panic!("{now} is open"),
        }
    }

    #[test]
    fn an_empty_calendar_is_always_open() {
        assert_eq!(Calendar::default().gate(datetime!(2026-11-21 03:00 UTC)), Gate::Open);
    }

    #[test]
    fn a_window_opens_closes_and_comes_back() {
        let calendar = Calendar { windows: vec![window(&[Day::Tue, Day::Sat], "02:00", "04:30")], freezes: Vec::new() };
        // 2026-11-21 is a Saturday.
        let tuesday = datetime!(2026-11-24 02:00 UTC);
        assert_eq!(
            closed(&calendar, datetime!(2026-11-21 01:59 UTC)),
            (Why::Window, Some(datetime!(2026-11-21 02:00 UTC)))
        );
        assert_eq!(calendar.gate(datetime!(2026-11-21 02:00 UTC)), Gate::Open);
        assert_eq!(calendar.gate(datetime!(2026-11-21 05:29 +1)), Gate::Open);
        assert_eq!(closed(&calendar, datetime!(2026-11-21 04:30 UTC)), (Why::Window, Some(tuesday)));
        assert_eq!(calendar.opens(datetime!(2026-11-22 12:00 UTC)), Some(tuesday));
    }

    #[test]
    fn a_window_may_end_on_the_next_day() {
        let calendar = Calendar { windows: vec![window(&[Day::Sat], "22:00", "02:00")], freezes: Vec::new() };
        assert_eq!(calendar.gate(datetime!(2026-11-22 01:59 UTC)), Gate::Open);
        assert_eq!(
            closed(&calendar, datetime!(2026-11-22 02:00 UTC)),
            (Why::Window, Some(datetime!(2026-11-28 22:00 UTC)))
        );
        let whole_day = Calendar { windows: vec![window(&[], "00:00", "00:00")], freezes: Vec::new() };
        assert_eq!(whole_day.gate(datetime!(2026-11-22 23:59 UTC)), Gate::Open);
    }

    #[test]
    fn a_freeze_closes_windows_and_ends() {
        let freeze = Freeze { from: datetime!(2026-12-20 00:00 UTC), to: datetime!(2027-01-04 12:00 UTC) };
        let always = Calendar { windows: Vec::new(), freezes: vec![freeze.clone()] };
        assert_eq!(
            closed(&always, datetime!(2026-12-24 00:00 UTC)),
            (Why::Freeze, Some(datetime!(2027-01-04 12:00 UTC)))
        );
        let nightly = Calendar { windows: vec![window(&[], "02:00", "04:00")], freezes: vec![freeze] };
        assert_eq!(
            closed(&nightly, datetime!(2026-12-24 03:00 UTC)),
            (Why::Freeze, Some(datetime!(2027-01-05 02:00 UTC)))
        );
        assert_eq!(
            closed(&nightly, datetime!(2026-12-19 05:00 UTC)),
            (Why::Window, Some(datetime!(2027-01-05 02:00 UTC)))
        );
    }

    #[test]
    fn what_is_no_time_of_day_is_refused() {
        for text in ["24:00", "12:60", "1:00", "01:0", "0100", "+1:00", "", "01:00:00"] {
            assert_eq!(TimeOfDay::parse(text), None, "{text}");
        }
    }
}
