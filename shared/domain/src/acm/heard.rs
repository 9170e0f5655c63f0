//! The events about a certificate that ACM should have sent: which of them did not come.
//!
//! Events are best effort, and nothing waits for one: the sweep reads every certificate anyway. But a rule that somebody
//! disabled, or a Region or account that forwards nothing, makes every renewal as late as the sweep, and nobody sees it. So
//! what was heard is kept, and compared with what is read.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::{AcmEvidence, AcmStatus};
use crate::id::AcmArn;

/// How much later than the certificate itself its event may come, as EventBridge tries again to hand it over.
const LATE: Duration = Duration::hours(1);

/// How much earlier than the certificate itself its event may come: a look just after it may be shown the former one.
const EARLY: Duration = Duration::days(1);

/// From when on ACM sends a reminder every day, as far as its pages agree: 45 days before the end by the API's reference, 30
/// for public certificates by the user guide.
const REMINDED: Duration = Duration::days(30);

/// One daily reminder may be lost without a word.
const REMINDERS: Duration = Duration::days(2);

/// What was heard of a certificate since we listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeardRecord {
    /// The certificate.
    pub certificate: AcmArn,
    /// Its serial number when it was last read; absent since an event said that there is another.
    pub serial: Option<String>,
    /// When a new one was last said to be available.
    #[serde(with = "time::serde::rfc3339::option")]
    pub available_at: Option<OffsetDateTime>,
    /// When its end was last said to come near, or that was last counted as missed; at first, since when we listen.
    #[serde(with = "time::serde::rfc3339")]
    pub reminded_at: OffsetDateTime,
    /// When it was first read with another serial number, while its event is awaited.
    #[serde(with = "time::serde::rfc3339::option")]
    pub unheard_since: Option<OffsetDateTime>,
}

/// What an event of ACM's says, as far as it is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `ACM Certificate Available`: issued, renewed or imported.
    Available,
    /// `ACM Certificate Approaching Expiration`, once a day.
    Approaching,
}

impl Said {
    /// Reads a detail type; nothing where nobody awaits it.
    pub fn parse(detail_type: &str) -> Option<Self> {
        match detail_type {
            "ACM Certificate Available" => Some(Self::Available),
            "ACM Certificate Approaching Expiration" => Some(Self::Approaching),
            _ => None,
        }
    }
}

/// An event that should have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// `ACM Certificate Available`, when the certificate got this serial number.
    Available {
        /// It.
        serial: String,
    },
    /// `ACM Certificate Approaching Expiration`, for two days.
    Approaching {
        /// When the certificate ends.
        not_after: OffsetDateTime,
    },
}

/// The record after an event.
pub fn hear(known: &HeardRecord, said: Said, now: OffsetDateTime) -> HeardRecord {
    match said {
        Said::Available => HeardRecord { serial: None, available_at: Some(now), unheard_since: None, ..known.clone() },
        Said::Approaching => HeardRecord { reminded_at: known.reminded_at.max(now), ..known.clone() },
    }
}

/// The record after a certificate was read, and what should have been heard by now. Each is counted once.
pub fn look(known: Option<&HeardRecord>, seen: &AcmEvidence, now: OffsetDateTime) -> (HeardRecord, Vec<Missed>) {
    let mut record = known.cloned().unwrap_or_else(|| HeardRecord {
        certificate: seen.certificate.clone(),
        serial: None,
        available_at: None,
        reminded_at: now,
        unheard_since: None,
    });
    let mut missed = Vec::new();
    let (AcmStatus::Issued, Some(serial)) = (&seen.status, &seen.serial) else { return (record, missed) };
    if record.serial.as_ref() != Some(serial) {
        let was_heard = record.available_at.is_some_and(|at| now - at <= EARLY);
        if record.serial.is_some() && !was_heard {
            record.unheard_since = Some(now);
        }
        record.serial = Some(serial.clone());
    }
    if record.unheard_since.is_some_and(|since| now - since >= LATE) {
        record.unheard_since = None;
        missed.push(Missed::Available { serial: serial.clone() });
    }
    if let Some(not_after) = seen.not_after {
        let expected_since = not_after.saturating_sub(REMINDED).max(record.reminded_at);
        if now < not_after && now - expected_since >= REMINDERS {
            record.reminded_at = now;
            missed.push(Missed::Approaching { not_after });
        }
    }
    (record, missed)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const BEGUN: OffsetDateTime = datetime!(2026-11-23 00:00 UTC);
    const END: OffsetDateTime = datetime!(2027-03-01 00:00 UTC);

    /// A certificate that is read and talked about.
    struct Story {
        known: Option<HeardRecord>,
        missed: Vec<(OffsetDateTime, Missed)>,
    }

    impl Story {
        fn begin() -> Self {
            let mut story = Self { known: None, missed: Vec::new() };
            story.look("01", BEGUN);
            story
        }

        fn look(&mut self, serial: &str, at: OffsetDateTime) {
            let arn = AcmArn::parse("arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4").unwrap();
            let seen = AcmEvidence {
                status: AcmStatus::Issued,
                serial: Some(serial.into()),
                not_after: Some(END),
                ..AcmEvidence::missing(arn)
            };
            let (record, missed) = look(self.known.as_ref(), &seen, at);
            self.known = Some(record);
            self.missed.extend(missed.into_iter().map(|one| (at, one)));
        }

        fn hear(&mut self, said: Said, at: OffsetDateTime) {
            self.known = self.known.as_ref().map(|known| hear(known, said, at));
        }

        /// Looks every quarter of an hour.
        fn sweep(&mut self, serial: &str, from: OffsetDateTime, to: OffsetDateTime) {
            let mut at = from;
            while at < to {
                self.look(serial, at);
                at += Duration::minutes(15);
            }
        }
    }

    #[test]
    fn a_renewal_that_nobody_told_of_is_counted_once() {
        let mut story = Story::begin();
        let renewed = BEGUN + Duration::days(3);
        story.sweep("02", renewed, renewed + Duration::days(5));
        assert_eq!(story.missed, [(renewed + LATE, Missed::Available { serial: "02".into() })]);
    }

    #[test]
    fn an_event_that_comes_first_or_a_little_later_is_none_that_was_missed() {
        let at = BEGUN + Duration::days(3);
        // The event; and what is read then is still the former one.
        let mut story = Story::begin();
        story.hear(Said::Available, at);
        story.look("01", at);
        story.sweep("02", at + Duration::minutes(15), at + Duration::days(3));
        assert_eq!(story.missed, []);
        // Nothing is read for a week after the event.
        let mut story = Story::begin();
        story.hear(Said::Available, at);
        story.sweep("02", at + Duration::days(7), at + Duration::days(8));
        assert_eq!(story.missed, []);
        // A sweep is faster than the event.
        let mut story = Story::begin();
        story.look("02", at);
        story.hear(Said::Available, at + Duration::minutes(50));
        story.sweep("02", at + Duration::minutes(50), at + Duration::days(3));
        assert_eq!(story.missed, []);
        // The one of a former renewal is not this one's.
        story.sweep("03", at + Duration::days(9), at + Duration::days(10));
        assert_eq!(story.missed.len(), 1);
    }

    #[test]
    fn reminders_that_stay_away_for_two_days_are_counted_every_two_days() {
        let first = END - REMINDED;
        let mut story = Story::begin();
        story.sweep("01", first - Duration::days(1), first + Duration::days(5));
        let days: Vec<i64> = story.missed.iter().map(|(at, _)| (*at - first).whole_days()).collect();
        assert_eq!(days, [2, 4]);
        // They come every day, and one is lost.
        let mut story = Story::begin();
        for day in [0, 1, 3, 4] {
            let at = first + Duration::days(day);
            story.hear(Said::Approaching, at);
            story.sweep("01", at, at + Duration::days(1));
        }
        assert_eq!(story.missed, []);
        // Nobody reminds of what is over.
        let mut story = Story::begin();
        story.sweep("01", END, END + Duration::days(9));
        assert_eq!(story.missed, []);
    }

    #[test]
    fn who_begins_to_listen_late_has_missed_nothing_yet() {
        let begun = END - Duration::days(10);
        let mut story = Story { known: None, missed: Vec::new() };
        story.sweep("01", begun, begun + Duration::hours(47));
        assert_eq!(story.missed, []);
    }

    #[test]
    fn what_is_not_issued_is_not_talked_about() {
        let arn = AcmArn::parse("arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4").unwrap();
        let mut story = Story::begin();
        let known = story.known.take().unwrap();
        let later = BEGUN + Duration::days(200);
        assert_eq!(look(Some(&known), &AcmEvidence::missing(arn), later), (known.clone(), Vec::new()));
    }
}
