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

impl ToldRecord {
    /// What is remembered after these blocks were found, by the one who tells them if he tells them only now.
    pub fn after(former: Option<&Self>, blocks: &[Block], by: Option<&str>, now: OffsetDateTime) -> Self {
        let repeated = former.filter(|former| former.is_repeated_by(blocks, by, now));
        Self {
            blocks: blocks.to_vec(),
            at: repeated.map_or(now, |former| former.at),
            found_at: now,
            by: repeated.map_or_else(|| by.map(str::to_owned), |former| former.by.clone()),
        }
    }

    /// Whether finding these blocks now tells nobody anything new.
    pub fn is_repeated_by(&self, blocks: &[Block], by: Option<&str>, now: OffsetDateTime) -> bool {
        let by_another = self.by.is_none() || self.by.as_deref() != by;
        by_another && self.blocks == blocks && now - self.found_at < GONE && now - self.at < REMINDER
    }
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
        let mut told = ToldRecord::after(None, &block("a"), None, NOON);
        let mut times = 0;
        for look in 1..=200_i32 {
            let now = NOON + Duration::minutes(15) * look;
            times += u32::from(!told.is_repeated_by(&block("a"), None, now));
            told = ToldRecord::after(Some(&told), &block("a"), None, now);
        }
        assert_eq!(times, 2, "fifty hours, and the first time was before");
    }

    #[test]
    fn what_is_new_or_has_come_back_is_told() {
        let told = ToldRecord::after(None, &block("a"), None, NOON);
        let soon = NOON + Duration::minutes(15);
        assert!(told.is_repeated_by(&block("a"), None, soon));
        assert!(!told.is_repeated_by(&block("b"), None, soon), "something else");
        assert!(!told.is_repeated_by(&block("a"), None, NOON + GONE), "it was gone");
        assert!(!told.is_repeated_by(&[], None, soon), "nothing is not the same");
    }

    #[test]
    fn whoever_noted_it_before_telling_it_tells_it_again() {
        let (first, second) = (Some("payments-1-1"), Some("payments-1-2"));
        let told = ToldRecord::after(None, &block("a"), first, NOON);
        assert!(!told.is_repeated_by(&block("a"), first, NOON), "it may have died in between");
        assert_eq!(ToldRecord::after(Some(&told), &block("a"), first, NOON), told);
        let soon = NOON + Duration::minutes(15);
        let next = ToldRecord::after(Some(&told), &block("a"), second, soon);
        assert_eq!(next, ToldRecord { found_at: soon, ..told }, "who told it, and when, stays");
    }
}
