//! What a person was told: once, and again when it is about something else, has come back, or has lasted another day. Whoever
//! looks every quarter of an hour would say the same a hundred times a day, and soon nobody would read it.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::plan::Block;

/// What lasts is told again after this time.
const REMINDER: Duration = Duration::hours(24);

/// What was not found for this long was gone, and has come back: twice the rarest sweep that the template allows.
const GONE: Duration = Duration::hours(2);

/// Blocks as they were last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldRecord {
    /// What was told.
    pub blocks: Vec<Block>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// When they were last found.
    #[serde(with = "time::serde::rfc3339")]
    pub found_at: OffsetDateTime,
    /// Who was about to tell them, where they are noted before: repeated by the same one they may not have been told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What finding blocks comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The very same were told before, and nothing about them is new.
    pub repeated: bool,
    /// What is to be remembered.
    pub record: ToldRecord,
}

/// What finding these blocks now comes to. `by` is who tells them and notes it before: the same one again may not have come to
/// telling them.
pub fn news(former: Option<&ToldRecord>, blocks: &[Block], by: Option<&str>, now: OffsetDateTime) -> News {
    let former = former.filter(|former| {
        let by_another = former.by.is_none() || former.by.as_deref() != by;
        by_another && former.blocks == blocks && now - former.found_at < GONE && now - former.at < REMINDER
    });
    let record = ToldRecord {
        blocks: blocks.to_vec(),
        at: former.map_or(now, |former| former.at),
        found_at: now,
        by: former.map_or_else(|| by.map(str::to_owned), |former| former.by.clone()),
    };
    News { repeated: former.is_some(), record }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BlockCode;
    use time::macros::datetime;

    const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    fn block(because: &str) -> Vec<Block> {
        vec![Block { code: BlockCode::Foreign, because: because.to_owned() }]
    }

    #[test]
    fn what_lasts_is_told_once_a_day() {
        let mut told = news(None, &block("a"), None, NOON).record;
        let mut times = 0;
        for look in 1..=200_i32 {
            let found = news(Some(&told), &block("a"), None, NOON + Duration::minutes(15) * look);
            times += u32::from(!found.repeated);
            told = found.record;
        }
        assert_eq!(times, 2, "fifty hours, and the first time was before");
    }

    #[test]
    fn what_is_new_or_has_come_back_is_told() {
        let first = news(None, &block("a"), None, NOON);
        assert!(!first.repeated);
        let repeated = |blocks: &[Block], now| news(Some(&first.record), blocks, None, now).repeated;
        let soon = NOON + Duration::minutes(15);
        assert!(repeated(&block("a"), soon));
        assert!(!repeated(&block("b"), soon), "something else");
        assert!(!repeated(&block("a"), NOON + GONE), "it was gone");
        assert!(!repeated(&[], soon), "nothing is not the same");
    }

    #[test]
    fn whoever_noted_it_before_telling_it_tells_it_again() {
        let (first, second) = (Some("payments-1-1"), Some("payments-1-2"));
        let told = news(None, &block("a"), first, NOON).record;
        let again = news(Some(&told), &block("a"), first, NOON);
        assert_eq!(again, News { repeated: false, record: told.clone() }, "it may have died in between");
        let soon = NOON + Duration::minutes(15);
        let next = news(Some(&told), &block("a"), second, soon);
        let record = ToldRecord { found_at: soon, ..told };
        assert_eq!(next, News { repeated: true, record }, "who told it, and when, stays");
    }
}
