//! Emergencies: a person's word that what was issued so far must not be served any longer (a stolen key, a wrong
//! certificate, an expiry that nobody can wait for).
//!
//! What follows from the word is in the rules it concerns: the next leaf is due now ([`due`](crate::rotation::due)), neither
//! calendar nor bake time keeps it waiting, no host is told to go back by itself, and the rollout begins anew. Canary, waves,
//! failure budget and proof stay: a leaf that no server takes helps nobody.

use time::OffsetDateTime;

use crate::id::{Caller, Generation, Reason};
use crate::plan::{Block, BlockCode};
use crate::record::EmergencyRecord;
use crate::rotation::evidence::{Evidence, TargetEvidence};

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The newest generation that is unsafe; the newest one there is if it is not named.
    pub through: Option<Generation>,
    /// Who says so.
    pub caller: Caller,
    /// Why.
    pub reason: Reason,
    /// The invocation's request id.
    pub request: String,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// It is to be written down.
    Declare(EmergencyRecord),
    /// It says nothing new: this one has been written down and reaches as far.
    Known(EmergencyRecord),
    /// Nothing would come of it.
    Refused(Block),
}

/// What becomes of a declaration. Without a generation it is about what is served now; while a former emergency is under way
/// that is the former one's, so that whoever asks twice does not replace the replacement.
pub fn rule(evidence: &Evidence, declaration: &Declaration) -> Ruling {
    let policy = &evidence.policy;
    let refused = |code, because: String| Ruling::Refused(Block { code, because });
    if policy.observes {
        return refused(BlockCode::Unsupported, "manage is `nothing`: nothing is replaced".into());
    }
    if policy.source.is_some() {
        let because = "the certificate comes from ACM, and another copy of it has the same key: replace it in ACM, name the \
                       new one in certificate.issuer, and it is exported at once";
        return refused(BlockCode::Unsupported, because.into());
    }
    let Some(newest) = evidence.newest() else {
        return refused(BlockCode::NotFound, "nothing was issued yet: there is nothing to replace".into());
    };
    let through = declaration.through.unwrap_or(newest.generation);
    if through > newest.generation {
        let because = format!("generation {through} was not issued: {} is the newest", newest.generation);
        return refused(BlockCode::NotFound, because);
    }
    if let Some(known) = &evidence.emergency {
        let is_repeated = known.request == declaration.request || through <= known.through;
        if is_repeated || declaration.through.is_none() && is_under_way(evidence) {
            return Ruling::Known(known.clone());
        }
    }
    Ruling::Declare(record(evidence, declaration, through, evidence.now))
}

fn record(evidence: &Evidence, declaration: &Declaration, through: Generation, at: OffsetDateTime) -> EmergencyRecord {
    EmergencyRecord {
        through,
        at,
        caller: declaration.caller.clone(),
        reason: declaration.reason.clone(),
        request: declaration.request.clone(),
        epoch: evidence.epoch_number(),
    }
}

/// Whether something that was declared unsafe is still served by a wanted target, or nothing else was issued yet.
pub fn is_under_way(evidence: &Evidence) -> bool {
    let is_newest = evidence.newest().is_some_and(|newest| evidence.declared_unsafe(newest.generation).is_some());
    let is_declared = |floor| evidence.declared_unsafe(floor).is_some();
    let serves = |target: &TargetEvidence| target.wanted && target.floor().is_some_and(is_declared);
    is_newest || evidence.targets.iter().any(serves)
}

/// What whoever declares is told of an emergency that was written down before.
pub fn told(known: &EmergencyRecord) -> String {
    let EmergencyRecord { through, caller, at, reason, .. } = known;
    format!(
        "{caller} declared generation {through} and all before it unsafe at {}: {reason}; name a generation to declare a later \
         one unsafe as well",
        crate::rotation::due::minute(*at)
    )
}
