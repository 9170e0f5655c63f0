//! What the last sighting of a target says about sending clients to it.
//!
//! The question is the clients': is a certificate served that they accept? One that is merely not the newest (every
//! target in the middle of a rotation) is accepted, so [`Fault::OtherCertificate`] is no reason against it.

use time::{Duration, OffsetDateTime};

use crate::record::{Member, SightingRecord};
use crate::rotation::policy::{LOOK_AGAIN, PROOF_GRACE};
use crate::verdict::Fault;

/// Whether clients may be sent to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It was not seen since it was started, or not where it is to serve.
    Missing,
    /// It was seen serving a certificate that clients accept.
    Good,
    /// The last look was bad, and not for long enough; or what was seen has run out since. Nothing is changed by that.
    Doubtful,
    /// It was seen to fail clients, for longer than a reload or a passing hiccup takes.
    Bad(String),
}

/// What is known of a target that is to serve on `port` and was last started at `launched_at`.
pub fn proof(
    sighting: Option<&SightingRecord>,
    port: u16,
    launched_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Proof {
    let Some(sighting) = sighting.filter(|sighting| is_about(sighting, port, launched_at)) else {
        return Proof::Missing;
    };
    let faults: Vec<Fault> = failing_clients(sighting).collect();
    if faults.is_empty() {
        let has_ended = sighting.verdict.not_after.is_some_and(|end| end <= now);
        return if has_ended { Proof::Doubtful } else { Proof::Good };
    }
    let lasted = (sighting.at - sighting.failing_since.unwrap_or(sighting.at)).max(Duration::ZERO);
    if lasted < grace(&faults) {
        return Proof::Doubtful;
    }
    let names: Vec<String> = faults.iter().map(|fault| format!("{fault:?}")).collect();
    Proof::Bad(names.join(", "))
}

/// Whether the sighting is of this start of the target and of the port it is to serve on.
pub fn is_about(sighting: &SightingRecord, port: u16, launched_at: Option<OffsetDateTime>) -> bool {
    sighting.port.is_none_or(|seen| seen == port) && launched_at.is_none_or(|at| sighting.at >= at)
}

/// Whether `provision` has to hear of this sighting: it changes what should be registered, and was not decided upon yet.
pub fn is_news(sighting: &SightingRecord, member: &Member, port: u16, now: OffsetDateTime) -> bool {
    let changes = match proof(Some(sighting), port, member.launched_at, now) {
        Proof::Good => !member.registered,
        Proof::Bad(_) => member.registered,
        Proof::Missing | Proof::Doubtful => false,
    };
    changes && member.seen_at != Some(sighting.at)
}

/// The faults for which clients do not get what they ask for.
pub(crate) fn failing_clients(sighting: &SightingRecord) -> impl Iterator<Item = Fault> + '_ {
    sighting.verdict.faults.iter().copied().filter(|fault| fault.fails_clients())
}

/// Whether clients do not accept what was seen.
pub(crate) fn fails_clients(sighting: &SightingRecord) -> bool {
    failing_clients(sighting).next().is_some()
}

/// The patience of a rotation with a target that was proven: one that does not answer may be rebooting; one that shows
/// a wrong certificate will not stop by itself.
fn grace(faults: &[Fault]) -> Duration {
    if faults.iter().all(|fault| fault.is_about_reaching()) { PROOF_GRACE } else { LOOK_AGAIN.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, TargetId};
    use crate::verdict::Verdict;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn seen(faults: &[Fault], lasted_s: i64) -> SightingRecord {
        SightingRecord {
            target: TargetId::parse("i-0000000000000000a").unwrap(),
            generation: Generation(1),
            at: NOW,
            port: Some(443),
            verdict: Verdict {
                faults: faults.to_vec(),
                not_after: Some(NOW + Duration::HOUR),
                ..Verdict::unseen(Fault::Refused)
            },
            floor: None,
            failing_since: (!faults.is_empty()).then_some(NOW - Duration::seconds(lasted_s)),
        }
    }

    fn of(sighting: &SightingRecord) -> Proof {
        proof(Some(sighting), 443, None, NOW)
    }

    #[test]
    fn what_clients_accept_is_good_whichever_generation_it_is() {
        assert_eq!(of(&seen(&[], 0)), Proof::Good);
        assert_eq!(of(&seen(&[Fault::OtherCertificate], 9_999)), Proof::Good);
        assert_eq!(proof(None, 443, None, NOW), Proof::Missing);
    }

    #[test]
    fn a_sighting_counts_for_its_port_its_start_and_as_long_as_the_certificate_lives() {
        let good = seen(&[], 0);
        assert_eq!(proof(Some(&good), 444, None, NOW), Proof::Missing);
        assert_eq!(proof(Some(&good), 443, Some(NOW + Duration::SECOND), NOW), Proof::Missing);
        assert_eq!(proof(Some(&good), 443, Some(NOW), NOW), Proof::Good);
        assert_eq!(proof(Some(&good), 443, None, NOW + Duration::HOUR), Proof::Doubtful);
        let before_ports = SightingRecord { port: None, ..good };
        assert_eq!(proof(Some(&before_ports), 444, None, NOW), Proof::Good);
    }

    #[test]
    fn a_failure_counts_when_it_has_lasted() {
        assert_eq!(of(&seen(&[Fault::Expired], 4)), Proof::Doubtful);
        assert_eq!(of(&seen(&[Fault::Expired, Fault::OtherCertificate], 5)), Proof::Bad("Expired".into()));
        assert_eq!(of(&seen(&[Fault::TimedOut], 59)), Proof::Doubtful);
        assert_eq!(of(&seen(&[Fault::TimedOut], 60)), Proof::Bad("TimedOut".into()));
    }

    #[test]
    fn provision_hears_once_of_what_changes_anything() {
        let news = |sighting: &SightingRecord, registered, seen_at| {
            is_news(sighting, &Member { launched_at: None, registered, seen_at }, 443, NOW)
        };
        let (good, bad) = (seen(&[], 0), seen(&[Fault::Expired], 5));
        assert!(news(&good, false, None) && news(&bad, true, None) && news(&good, false, Some(NOW - Duration::SECOND)));
        assert!(!news(&good, true, None) && !news(&bad, false, None));
        assert!(!news(&good, false, Some(NOW)) && !news(&bad, true, Some(NOW)));
        assert!(!news(&seen(&[Fault::Expired], 0), true, None));
    }
}
