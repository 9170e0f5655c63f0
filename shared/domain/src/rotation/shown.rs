//! Whose certificate was seen where another one was wanted: a target's own former one, which is merely stale, or one that
//! somebody else put there; and, through the service, one of somebody else's altogether.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Generation;
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::verdict::Fault;

/// What a target shows in place of the certificate that is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Shown {
    /// Its own certificate of this generation.
    Generation(Generation),
    /// One that is not known to be its own: another virtual host answers, somebody installed another one, or it is so old that it is
    /// not remembered.
    Unknown,
}

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation(generation) => write!(out, "generation {generation}"),
            Self::Unknown => out.write_str("not known to be its own"),
        }
    }
}

impl Shown {
    /// Nothing of a target that shows what is wanted, or no certificate at all, and where others install.
    pub(crate) fn of(evidence: &Evidence, target: &TargetEvidence) -> Option<Self> {
        let verdict = &target.sighting.as_ref().filter(|_| evidence.policy.others.is_none())?.verdict;
        let seen = verdict.fingerprint.as_deref().filter(|_| verdict.faults.contains(&Fault::OtherCertificate))?;
        let own = evidence.generations.iter().find(|record| target.fingerprint(record) == Some(seen));
        Some(own.map_or(Self::Unknown, |record| Self::Generation(record.generation)))
    }
}

/// Faults with whose certificate it was that came with them.
pub(crate) fn told(faults: &[Fault], shown: Option<Shown>) -> String {
    let one = |fault: &Fault| match shown.filter(|_| *fault == Fault::OtherCertificate) {
        Some(shown) => format!("{fault:?} ({shown})"),
        None => format!("{fault:?}"),
    };
    faults.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whether the service's name leads to somebody else: through it certificates were seen that clients refuse or that are others,
/// and every target by itself was seen to show what it should.
pub(crate) fn is_misrouted(evidence: &Evidence) -> bool {
    let through = evidence.through.as_ref();
    let is_other = through.is_some_and(|seen| seen.faults.iter().any(|fault| !fault.is_about_reaching()));
    let wanted = evidence.wanted();
    let is_good = |target: &&TargetEvidence| target.sighting.as_ref().is_some_and(|seen| seen.verdict.is_good());
    is_other && !wanted.is_empty() && wanted.iter().all(is_good)
}
