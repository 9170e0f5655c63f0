//! From what was just seen and what was known to what is known now.
//!
//! Applying the same sighting twice, or two sightings in the wrong order, ends in the same record, and a floor never
//! goes down.

use time::OffsetDateTime;

use crate::id::Generation;
use crate::record::{SightingRecord, ThroughRecord};
use crate::verdict::{Fault, Verdict};
use crate::work::{SeenTarget, SeenThrough};

/// The record after a target was seen.
pub fn after(previous: Option<&SightingRecord>, seen: &SeenTarget) -> SightingRecord {
    // What others installed proves nothing of ours.
    let proven = (seen.verdict.is_good() && seen.generation != Generation::NONE).then_some(seen.generation);
    let floor = previous.and_then(|record| record.floor).max(proven);
    match previous {
        // An older sighting that arrives late still proves that its generation was once served.
        Some(known) if known.at > seen.at => SightingRecord { floor, ..known.clone() },
        _ => SightingRecord {
            target: seen.target.clone(),
            generation: seen.generation,
            at: seen.at,
            port: seen.port,
            verdict: seen.verdict.clone(),
            floor,
            failing_since: failing_since(
                // Another generation was expected then: what was wrong with that says nothing about this one.
                previous.filter(|record| record.generation == seen.generation).map(|record| {
                    // Patience with what fails clients begins when it does, not when another certificate was first seen.
                    let is_better = !fails_clients(&record.verdict) && fails_clients(&seen.verdict);
                    (record.verdict.is_good() || is_better, record.failing_since, record.at)
                }),
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

fn fails_clients(verdict: &Verdict) -> bool {
    verdict.faults.iter().any(|fault| fault.fails_clients())
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

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::id::TargetId;

    fn seen(generation: u32, second: i64, good: bool) -> SeenTarget {
        SeenTarget {
            target: TargetId::parse("i-0000000a").unwrap(),
            generation: Generation(generation),
            at: datetime!(2026-11-21 12:00 UTC) + Duration::seconds(second),
            port: Some(8443),
            verdict: if good {
                Verdict { fingerprint: None, serial: None, not_after: None, tls: None, faults: Vec::new() }
            } else {
                Verdict::unseen(Fault::TimedOut)
            },
            connect_ms: None,
            handshake_ms: 1.0,
        }
    }

    #[test]
    fn patience_with_what_fails_clients_begins_when_it_does() {
        let other = |second| {
            let mut seen = seen(1, second, false);
            seen.verdict.faults = vec![Fault::OtherCertificate];
            seen
        };
        let (accepted, silent, again) = (other(1), seen(1, 900, false), seen(1, 905, false));
        let known = all(&[accepted.clone(), other(600)]);
        assert_eq!(known.failing_since, Some(accepted.at));
        assert_eq!(all(&[accepted.clone(), silent.clone(), again.clone()]).failing_since, Some(silent.at));
        // It was accepted in between.
        assert_eq!(all(&[accepted, silent, other(901), again.clone()]).failing_since, Some(again.at));
    }

    fn all(sightings: &[SeenTarget]) -> SightingRecord {
        sightings.iter().fold(None, |known, seen| Some(after(known.as_ref(), seen))).unwrap()
    }

    #[test]
    fn neither_order_nor_repetition_changes_the_record_and_the_floor_stays() {
        let (a, b, c) = (seen(1, 1, true), seen(2, 2, true), seen(2, 3, false));
        let straight = all(&[a.clone(), b.clone(), c.clone()]);
        assert_eq!((straight.floor, straight.failing_since), (Some(Generation(2)), Some(c.at)));
        for order in [[&a, &c, &b], [&b, &a, &c], [&b, &c, &a], [&c, &a, &b], [&c, &b, &a]] {
            let record = all(&order.map(Clone::clone));
            assert_eq!((record.floor, record.at, &record.verdict), (straight.floor, straight.at, &straight.verdict));
        }
        assert_eq!(all(&[a, b.clone(), b, c.clone(), c]), straight);
    }

    #[test]
    fn what_others_installed_raises_no_floor_and_lowers_none() {
        let (ours, others) = (seen(2, 1, true), seen(Generation::NONE.0, 2, true));
        assert_eq!(all(std::slice::from_ref(&others)).floor, None);
        let known = all(&[ours, others.clone()]);
        assert_eq!((known.floor, known.generation, known.at), (Some(Generation(2)), Generation::NONE, others.at));
    }

    #[test]
    fn failing_is_counted_from_the_first_bad_sighting_of_the_same_generation() {
        assert_eq!(all(&[seen(1, 1, false), seen(1, 5, false)]).failing_since, Some(seen(1, 1, false).at));
        assert_eq!(all(&[seen(1, 1, false), seen(1, 5, true)]).failing_since, None);
        assert_eq!(all(&[seen(1, 1, false), seen(2, 5, false)]).failing_since, Some(seen(2, 5, false).at));
    }

    #[test]
    fn a_probe_is_good_only_if_every_sample_is() {
        let sample = |second, good| SeenThrough {
            address: None,
            at: seen(1, second, good).at,
            verdict: seen(1, second, good).verdict,
            connect_ms: None,
            handshake_ms: 1.0,
        };
        assert_eq!(after_through(None, &[]), None);
        let good = after_through(None, &[sample(1, true), sample(2, true)]).unwrap();
        assert!(good.is_good() && good.samples == 2 && good.at == sample(2, true).at);
        let bad = after_through(Some(&good), &[sample(4, true), sample(3, false)]).unwrap();
        assert!(!bad.is_good());
        assert_eq!((bad.good, bad.faults.as_slice(), bad.failing_since), (1, &[Fault::TimedOut][..], Some(bad.at)));
        assert_eq!(after_through(Some(&bad), &[sample(1, true)]), Some(bad.clone()), "a late answer changes nothing");
        assert_eq!(after_through(Some(&bad), &[]), Some(bad));
    }
}
