//! Why the newest generation is not good enough any more, if it is not.

use time::{Duration, OffsetDateTime};

use crate::acm::{Act, Meaning, Use, meaning};
use crate::id::{Caller, Generation, TargetId};
use crate::plan::{Block, BlockCode};
use crate::record::{AcmMark, EmergencyRecord, GenerationRecord, TurnRecord};
use crate::rotation::evidence::Evidence;
use crate::rotation::rollout::renew_at;
use crate::spec::Custody;

/// A reason to mint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// There is no generation yet.
    First,
    /// Somebody declared it unsafe.
    Tainted(EmergencyRecord),
    /// Somebody declared the authority that signed it unsafe.
    AuthorityTainted(TurnRecord),
    /// The spec asks for other names.
    Names {
        /// In the newest generation.
        leaf: Vec<String>,
        /// In the spec.
        spec: Vec<String>,
    },
    /// The followed ACM certificate was renewed, or came into its expiry window.
    Acm {
        /// What the newest generation answers.
        leaf: Option<AcmMark>,
        /// What there is to answer.
        acm: AcmMark,
    },
    /// It came out of ACM, and the spec now wants leaves of our own.
    Source,
    /// One leaf is shared, and the spec now wants one for each target; or the other way round.
    Scope {
        /// Whether each target is to have its own.
        each: bool,
    },
    /// The spec wants keys to be made somewhere else.
    Custody(Custody),
    /// The authority that signed it is not one of ours any more.
    AuthorityRetired {
        /// Its id.
        authority: String,
    },
    /// Another authority signs now.
    AuthoritySuperseded {
        /// The one that signed it.
        authority: String,
        /// The one that signs now.
        by: String,
    },
    /// Its end comes near.
    Age {
        /// When it ends.
        not_after: OffsetDateTime,
    },
    /// Targets reverted it.
    Reverted {
        /// One of them.
        target: TargetId,
    },
    /// An older generation is still served, comes to its end, and the newest one does not get there.
    Overdue {
        /// The older generation.
        generation: Generation,
        /// When it ends.
        not_after: OffsetDateTime,
        /// One of those that serve it.
        target: TargetId,
    },
    /// What a target shows fails clients, and the newest generation was reverted on another, so that it may not have it.
    Failing {
        /// The target.
        target: TargetId,
    },
}

impl Due {
    /// The reason as a sentence about the newest generation.
    pub fn because(&self, newest: Option<&GenerationRecord>) -> String {
        let leaf =
            newest.map_or_else(|| "no leaf yet".into(), |record| format!("leaf generation {}", record.generation));
        match self {
            Self::First => "the stack has no leaf yet".into(),
            Self::Tainted(EmergencyRecord { caller, at, reason, .. }) => {
                format!("{leaf} was declared unsafe by {caller} at {}: {reason}", minute(*at))
            }
            Self::AuthorityTainted(TurnRecord { authority, caller, at, because, .. }) => {
                let caller = caller.as_ref().map_or("nobody", Caller::as_str);
                format!(
                    "{leaf} was signed by {authority}, which {caller} declared unsafe at {}: {because}",
                    minute(*at)
                )
            }
            Self::Names { leaf: was, spec } => {
                format!("{leaf} is for {}; the spec now asks for {}", was.join(", "), spec.join(", "))
            }
            Self::Acm { leaf: None, acm } => {
                format!("{leaf} answers no ACM certificate; ACM now has serial {}", acm.serial)
            }
            Self::Acm { leaf: Some(was), acm } if was.serial == acm.serial => {
                format!("{leaf} answers ACM serial {}, which now comes to its end", acm.serial)
            }
            Self::Acm { leaf: Some(was), acm } => {
                format!("{leaf} answers ACM serial {}; ACM now has {}", was.serial, acm.serial)
            }
            Self::Source => format!("{leaf} was exported from ACM; the spec now asks for one of our own authority"),
            Self::Scope { each: true } => format!("{leaf} is one for all targets; the spec now asks for one for each"),
            Self::Scope { each: false } => {
                format!("{leaf} is one for each target; the spec now asks for one for all")
            }
            Self::Custody(Custody::Target) => {
                format!("{leaf}'s keys came from the control plane; the spec now asks for keys made on the targets")
            }
            Self::Custody(Custody::ParameterStore) => {
                format!("{leaf}'s keys were made on the targets; the spec now asks for keys from the control plane")
            }
            Self::AuthorityRetired { authority } => format!("{leaf} was signed by {authority}, which is retired"),
            Self::AuthoritySuperseded { authority, by } => {
                format!("{leaf} was signed by {authority}; {by} signs now")
            }
            Self::Age { not_after } => format!("{leaf} ends at {}", minute(*not_after)),
            Self::Reverted { target } => format!("{leaf} was reverted on {target} and is never used again"),
            Self::Overdue { generation, not_after, target } => {
                format!("{target} still serves generation {generation}, which ends at {}", minute(*not_after))
            }
            Self::Failing { target } => {
                format!("what {target} shows fails clients, and {leaf} was reverted on another and is never used again")
            }
        }
    }
}

/// What the state of the ACM certificate that the stack serves or follows means; absent when it uses none.
pub(crate) fn of_acm(evidence: &Evidence) -> Option<Meaning> {
    let (policy, newest) = (&evidence.policy, evidence.newest());
    if let Some(others) = &policy.others {
        let certificate = others.certificate_arn.as_ref()?;
        let watched = Use::Watches { certificate, renew_before: policy.renew_before() };
        return Some(meaning(Some(watched), evidence.acm.as_ref(), evidence.now));
    }
    let names = policy.leaf_names();
    if policy.source.as_ref().is_some_and(|source| source.certificate.is_none()) {
        return Some(Meaning { act: Act::Await, tell: None });
    }
    let serves = policy.source.as_ref().and_then(|source| {
        Some(Use::Serves {
            certificate: source.certificate.as_ref()?,
            newest,
            names: &names,
            renew_before: policy.renew_before(),
            allowed: &source.allowed,
            is_requested: source.is_requested,
        })
    });
    let follows = policy.follow.as_ref().map(|follow| Use::Follows {
        certificate: &follow.certificate,
        newest,
        expiring_days: follow.expiring_days,
    });
    let used = serves.or(follows)?;
    Some(meaning(Some(used), evidence.acm.as_ref(), evidence.now))
}

/// The reason that lies in the newest generation itself; what targets made of it is the planner's business.
pub(crate) fn due(evidence: &Evidence, acm: Option<&Meaning>) -> Option<Due> {
    let Some(newest) = evidence.newest() else {
        return (evidence.policy.source.is_none() || is_exportable(acm)).then_some(Due::First);
    };
    let renewed = renewed(newest, acm);
    if evidence.policy.source.is_some() {
        return renewed;
    }
    if let Some(emergency) = evidence.declared_unsafe(newest.generation) {
        return Some(Due::Tainted(emergency.clone()));
    }
    if newest.export.is_some() {
        return Some(Due::Source);
    }
    if let Some(turn) = evidence.signed_unsafely(newest.generation) {
        return Some(Due::AuthorityTainted(turn.clone()));
    }
    let spec = evidence.policy.leaf_names();
    let mut leaf = newest.dns_names.clone();
    leaf.sort();
    if leaf != spec {
        return Some(Due::Names { leaf, spec });
    }
    if !evidence.authorities.iter().any(|authority| authority.authority == newest.authority) {
        return Some(Due::AuthorityRetired { authority: newest.authority.clone() });
    }
    // It may wait for the calendar, and none of the above may.
    if newest.scope.is_each() != evidence.policy.scope.is_each() {
        return Some(Due::Scope { each: evidence.policy.scope.is_each() });
    }
    if newest.custody != evidence.policy.custody {
        return Some(Due::Custody(evidence.policy.custody));
    }
    if let Some(issuing) = evidence.issuing().filter(|issuing| issuing.authority != newest.authority) {
        let (authority, by) = (newest.authority.clone(), issuing.authority.clone());
        return Some(Due::AuthoritySuperseded { authority, by });
    }
    let by_age =
        || (evidence.now >= renew_at(&evidence.policy, newest)).then_some(Due::Age { not_after: newest.not_after });
    renewed.or_else(by_age)
}

fn renewed(newest: &GenerationRecord, acm: Option<&Meaning>) -> Option<Due> {
    let marked = |serial: &String| AcmMark { serial: serial.clone(), expiring: false };
    match &acm?.act {
        Act::Export(serial) => {
            let leaf = newest.export.as_ref().map(|_| marked(&newest.serial));
            Some(Due::Acm { leaf, acm: marked(serial) })
        }
        Act::Mint(mark) => Some(Due::Acm { leaf: newest.follows.clone(), acm: mark.clone() }),
        Act::Ignore | Act::Keep | Act::Hold | Act::Await => None,
    }
}

/// Whether ACM would hand out the certificate that the stack serves, new or not.
pub(crate) fn is_exportable(acm: Option<&Meaning>) -> bool {
    match acm.map(|meaning| &meaning.act) {
        Some(Act::Export(_) | Act::Keep) => true,
        None | Some(Act::Ignore | Act::Hold | Act::Await | Act::Mint(_)) => false,
    }
}

/// What keeps a leaf from being minted: its authority has ended, or ends so soon that nothing would be won.
pub(crate) fn unmintable(evidence: &Evidence, due: &Due) -> Option<Block> {
    if evidence.policy.source.is_some() {
        return None;
    }
    // With no authority yet, one is made first.
    let issuing = evidence.issuing()?;
    let block = |because: String| Some(Block { code: BlockCode::AuthorityExpiring, because });
    if issuing.not_after <= evidence.now {
        let ended = minute(issuing.not_after);
        return block(format!("authority {} ended at {ended}: nothing can be signed any more", issuing.authority));
    }
    let by_age = match due {
        Due::Age { not_after } | Due::Overdue { not_after, .. } => *not_after,
        Due::First
        | Due::Tainted(_)
        | Due::AuthorityTainted(_)
        | Due::Names { .. }
        | Due::Acm { .. }
        | Due::Source
        | Due::Scope { .. }
        | Due::Custody(_)
        | Due::AuthorityRetired { .. }
        | Due::AuthoritySuperseded { .. }
        | Due::Reverted { .. }
        | Due::Failing { .. } => {
            return None;
        }
    };
    let validity = evidence.policy.validity();
    let next = evidence.now.saturating_add(validity).min(issuing.not_after);
    // A leaf that lives hardly longer than the one it replaces would be due again at once, for ever.
    if next - by_age >= (validity / 20_i32).max(Duration::SECOND) {
        return None;
    }
    let (ends, leaf) = (minute(issuing.not_after), minute(by_age));
    block(format!("a leaf ends at {leaf} and cannot be renewed: authority {} ends at {ends}", issuing.authority))
}

/// A moment for a person: `2026-11-21 05:02 UTC`.
pub(crate) fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}
