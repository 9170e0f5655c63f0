//! From what was just seen and what was known to what is known now.
//!
//! Applying the same sighting twice, or two sightings in the wrong order, ends in the same record, and a floor never
//! goes down.

use time::OffsetDateTime;

use crate::record::{SightingRecord, ThroughRecord};
use crate::verdict::Fault;
use crate::work::{SeenThrough, SeenTarget};

/// The record after a target was seen.
pub fn after(previous: Option<&SightingRecord>, seen: &SeenTarget) -> SightingRecord {
    let proven = seen.verdict.is_good().then_some(seen.generation);
    let floor = previous.and_then(|record| record.floor).max(proven);
    match previous {
        // An older sighting that arrives late still proves that its generation was once served.
        Some(known) if known.at > seen.at => SightingRecord { floor, ..known.clone() },
        _ => SightingRecord {
            target: seen.target.clone(),
            generation: seen.generation,
            at: seen.at,
            verdict: seen.verdict.clone(),
            floor,
            failing_since: failing_since(
                // Another generation was expected then: what was wrong with that says nothing about this one.
                previous
                    .filter(|record| record.generation == seen.generation)
                    .map(|record| (record.verdict.is_good(), record.failing_since, record.at)),
                seen.verdict.is_good(),
                seen.at,
            ),
        },
    }
}

/// The record after a probe through the service; the previous one when no sample was taken.
pub fn after_through(previous: Option<&ThroughRecord>, samples: &[SeenThrough]) -> Option<ThroughRecord> {
    let Some(at) = samples.iter().map(|sample| sample.at).max() else { return previous.cloned() };
    if let Some(known) = previous
        && known.at > at
    {
        return Some(known.clone());
    }
    let mut faults: Vec<Fault> = samples.iter().flat_map(|sample| sample.verdict.faults.iter().copied()).collect();
    faults.sort();
    faults.dedup();
    let good = samples.iter().filter(|sample| sample.verdict.is_good()).count();
    Some(ThroughRecord {
        at,
        samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
        good: u32::try_from(good).unwrap_or(u32::MAX),
        failing_since: failing_since(
            previous.map(|record| (record.is_good(), record.failing_since, record.at)),
            faults.is_empty(),
            at,
        ),
        faults,
    })
}

/// Since when it has been wrong without interruption.
fn failing_since(
    previous: Option<(bool, Option<OffsetDateTime>, OffsetDateTime)>,
    good: bool,
    at: OffsetDateTime,
) -> Option<OffsetDateTime> {
    match (good, previous) {
        (true, _) => None,
        (false, None | Some((true, ..))) => Some(at),
        (false, Some((false, since, seen_at))) => Some(since.unwrap_or(seen_at)),
    }
}
