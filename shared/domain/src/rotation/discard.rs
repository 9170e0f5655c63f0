//! Which bundles lie in Parameter Store for nobody: a target is given the newest generation or none, and goes back to what is on its own
//! disk.

use time::OffsetDateTime;

use crate::id::Generation;
use crate::record::{AttemptRecord, DiscardRecord};

/// Of so many generations the bundles are discarded at most when one is made: targets wait for that one.
const AT_ONCE: usize = 2;

/// The generations whose bundles are discarded now, oldest first. The newest one and the one before it stay; so does what a delivery
/// may still be about to fetch, with everything newer.
pub fn discardable(
    newest: Generation,
    discarded: &[DiscardRecord],
    attempts: &[AttemptRecord],
    now: OffsetDateTime,
) -> impl Iterator<Item = Generation> {
    let first = discarded.iter().map(|one| one.generation).max().map_or(Generation::FIRST, Generation::next);
    let fetched = attempts.iter().filter(|attempt| attempt.may_run(now)).map(|attempt| attempt.generation).min();
    let previous = newest.0.saturating_sub(1);
    let end = fetched.map_or(previous, |fetched| previous.min(fetched.0));
    (first.0..end).take(AT_ONCE).map(Generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    fn attempt(generation: u32, minutes_ago: i64, ended: bool) -> AttemptRecord {
        let end = serde_json::json!({ "installed": true, "code": "installed", "at": "2026-11-22T11:59:00Z" });
        let mut record: AttemptRecord = serde_json::from_value(serde_json::json!({
            "target": "i-0000000000000000a", "generation": generation, "attempt": 1, "epoch": 1, "action": "Install",
            "begunAt": "2026-11-22T12:00:00Z", "leafEndsAt": "2026-11-29T12:00:00Z"
        }))
        .unwrap();
        record.begun_at = NOW - Duration::minutes(minutes_ago);
        record.ended = ended.then(|| serde_json::from_value(end).unwrap());
        record
    }

    fn discarded(newest: u32, before: u32, attempts: &[AttemptRecord]) -> Vec<u32> {
        let before: Vec<_> = (1..=before).map(|one| DiscardRecord { generation: Generation(one), at: NOW }).collect();
        discardable(Generation(newest), &before, attempts, NOW).map(|generation| generation.0).collect()
    }

    #[test]
    fn the_newest_and_the_one_before_stay() {
        assert_eq!(discarded(1, 0, &[]), [0_u32; 0]);
        assert_eq!(discarded(2, 0, &[]), [0_u32; 0]);
        assert_eq!(discarded(3, 0, &[]), [1]);
        assert_eq!(discarded(4, 1, &[]), [2]);
        assert_eq!(discarded(4, 2, &[]), [0_u32; 0]);
    }

    #[test]
    fn what_is_left_of_former_times_is_caught_up_with_little_by_little() {
        assert_eq!(discarded(100, 0, &[]), [1, 2]);
        assert_eq!(discarded(101, 2, &[]), [3, 4]);
    }

    #[test]
    fn what_a_delivery_may_still_fetch_stays_with_all_that_is_newer() {
        assert_eq!(discarded(6, 3, &[attempt(4, 59, false)]), [0_u32; 0]);
        assert_eq!(discarded(6, 2, &[attempt(4, 59, false), attempt(6, 1, false)]), [3]);
        assert_eq!(discarded(6, 3, &[attempt(4, 59, true)]), [4]);
        assert_eq!(discarded(6, 3, &[attempt(4, 60, false)]), [4], "Run Command gave it up long ago");
    }
}
