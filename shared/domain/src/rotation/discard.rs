//! Which bundles lie in Parameter Store for nobody: a target is given the newest generation or none, and goes back to what is on its own
//! disk.

use time::OffsetDateTime;

use crate::id::Generation;
use crate::record::{AttemptRecord, DiscardRecord, GenerationRecord, LeafRecord};

/// Of so many generations the bundles are discarded at most when one is made: targets wait for that one.
const AT_ONCE: usize = 2;

/// The generations whose bundles are discarded now, oldest first. The newest one and the one before it stay; so does what a delivery
/// may still be about to fetch, with everything newer. Of leaves that are each target's own the ledger has to know all: where it
/// has forgotten some, a person alone can tell what lies in Parameter Store, and nobody says that it was deleted.
pub fn discardable(
    generations: &[GenerationRecord],
    discarded: &[DiscardRecord],
    attempts: &[AttemptRecord],
    now: OffsetDateTime,
) -> impl Iterator<Item = Generation> {
    let done = discarded.iter().map(|one| one.generation).max();
    let fetched = attempts.iter().filter(|attempt| attempt.may_run(now)).map(|attempt| attempt.generation).min();
    let previous =
        generations.iter().map(|record| record.generation).max().map_or(0, |newest| newest.0.saturating_sub(1));
    let end = fetched.map_or(previous, |fetched| previous.min(fetched.0));
    let is_known =
        move |record: &&GenerationRecord| !record.scope.is_each() || now < LeafRecord::kept_until(record.not_after);
    let known = generations.iter().filter(is_known).map(|record| record.generation);
    known.filter(move |generation| done < Some(*generation) && generation.0 < end).take(AT_ONCE)
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

    fn made(generation: u32, scope: &str, days_ago: i64) -> GenerationRecord {
        let mut record: GenerationRecord = serde_json::from_value(serde_json::json!({
            "scope": scope, "generation": generation, "parameter": "p", "dnsNames": [], "notBefore": "2026-11-22T12:00:00Z",
            "notAfter": "2026-11-29T12:00:00Z", "mintedAt": "2026-11-22T12:00:00Z", "authority": "a", "because": "due"
        }))
        .unwrap();
        record.not_after = NOW - Duration::days(days_ago);
        record
    }

    fn of(generations: &[GenerationRecord], before: u32, attempts: &[AttemptRecord]) -> Vec<u32> {
        let before: Vec<_> = (1..=before).map(|one| DiscardRecord { generation: Generation(one), at: NOW }).collect();
        discardable(generations, &before, attempts, NOW).map(|generation| generation.0).collect()
    }

    fn discarded(newest: u32, before: u32, attempts: &[AttemptRecord]) -> Vec<u32> {
        let generations: Vec<_> = (1..=newest).map(|one| made(one, "shared", 400)).collect();
        of(&generations, before, attempts)
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

    #[test]
    fn of_own_leaves_that_the_ledger_has_forgotten_nobody_says_that_they_were_deleted() {
        let generations = [
            made(1, "target", 31),
            made(2, "target", 29),
            made(3, "target", 1),
            made(4, "target", -1),
            made(5, "target", -7),
        ];
        assert_eq!(of(&generations, 0, &[]), [2, 3]);
        assert_eq!(of(&generations, 3, &[]), [0_u32; 0]);
    }
}
