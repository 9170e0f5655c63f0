//! What a person says about authorities: never an event's to say, and written down with who said it.

use time::Duration;

use super::plan::turn;
use super::{Facts, Phase, digest, phase, tainted};
use crate::id::{Caller, Reason, VerifierName};
use crate::plan::{Block, BlockCode};
use crate::record::{AcknowledgementRecord, AuthorityRecord, Turn, TurnRecord};
use crate::rotation::due::minute;

/// A person's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Make the next authority now.
    Prepare,
    /// A registered verifier has the bundle with this authority's root, and accepts what is below it.
    Acknowledge {
        /// The authority.
        authority: String,
        /// Who has it.
        verifier: VerifierName,
        /// SHA-256 of the bundle it has.
        bundle: String,
        /// How long that holds.
        holds: Duration,
    },
    /// This one signs from now on, whoever has not acknowledged it: forward in an emergency, or back to the former one.
    Activate {
        /// The authority.
        authority: String,
        /// Why.
        reason: Reason,
    },
    /// What this one signed is unsafe: it never signs again, and each of its leaves is replaced without waiting.
    Taint {
        /// The authority.
        authority: String,
        /// Why.
        reason: Reason,
    },
    /// Nobody is to trust this one any more.
    Retire {
        /// The authority.
        authority: String,
        /// Why.
        reason: Reason,
    },
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// The next authority is made.
    Prepare,
    /// The acknowledgement is written down.
    Acknowledge(AcknowledgementRecord),
    /// The turn is written down, unless there is one of its number.
    Turn(TurnRecord),
    /// It is so already.
    Known(String),
    /// Nothing good would come of it.
    Refused(Block),
}

/// What becomes of a person's word.
pub fn rule(facts: &Facts, word: &Word, caller: &Caller, request: &str) -> Ruling {
    match word {
        Word::Prepare => prepare(facts),
        Word::Acknowledge { authority, verifier, bundle, holds } => match of(facts, authority) {
            Ok((_, Phase::Retired)) => refused(BlockCode::Unsupported, format!("authority {authority} is retired")),
            Ok(_) => acknowledge(facts, (authority, verifier), bundle, *holds, (caller, request)),
            Err(block) => Ruling::Refused(block),
        },
        Word::Activate { authority, reason } => match of(facts, authority) {
            Ok((_, Phase::Active)) => Ruling::Known(format!("authority {authority} is active")),
            Ok((_, Phase::Retired)) => {
                refused(BlockCode::Unsupported, format!("authority {authority} is retired for good"))
            }
            Ok((_, Phase::Prepared | Phase::Retiring { .. })) => match tainted(authority, &facts.turns) {
                Some(taint) => {
                    let because = format!(
                        "authority {authority} was declared unsafe at {}: it never signs again",
                        minute(taint.at)
                    );
                    refused(BlockCode::Unsupported, because)
                }
                None => said(facts, authority, Turn::Activated, reason, caller),
            },
            Err(block) => Ruling::Refused(block),
        },
        Word::Taint { authority, reason } => match of(facts, authority) {
            Ok((_, Phase::Active)) => {
                let because = format!("authority {authority} is active: activate another one first");
                refused(BlockCode::Unsupported, because)
            }
            Ok((_, Phase::Prepared)) => {
                refused(BlockCode::Unsupported, format!("authority {authority} has signed nothing: retire it"))
            }
            Ok((_, Phase::Retired)) => Ruling::Known(format!("authority {authority} is retired")),
            Ok((_, Phase::Retiring { .. })) => match tainted(authority, &facts.turns) {
                Some(taint) => {
                    Ruling::Known(format!("authority {authority} was declared unsafe at {}", minute(taint.at)))
                }
                None => said(facts, authority, Turn::Tainted, reason, caller),
            },
            Err(block) => Ruling::Refused(block),
        },
        Word::Retire { authority, reason } => match of(facts, authority) {
            Ok((_, Phase::Active)) => {
                let because = format!("authority {authority} is active: activate another one first");
                refused(BlockCode::Unsupported, because)
            }
            Ok((_, Phase::Retired)) => Ruling::Known(format!("authority {authority} is retired")),
            Ok((_, Phase::Prepared | Phase::Retiring { .. })) => said(facts, authority, Turn::Retired, reason, caller),
            Err(block) => Ruling::Refused(block),
        },
    }
}

fn prepare(facts: &Facts) -> Ruling {
    if facts.authorities.is_empty() {
        let because = "there is no authority: the first one is made when the first leaf is due";
        return refused(BlockCode::NotFound, because.to_owned());
    }
    if let Some(because) = facts.damage() {
        return refused(BlockCode::AuthorityUnusable, because);
    }
    match facts.prepared() {
        Some(next) => Ruling::Known(format!("authority {} is prepared", next.authority)),
        None if facts.has_keys => Ruling::Prepare,
        None => {
            let because =
                "every key has its authority: deploy the template with KeysOfAuthority=both (docs/certificates.md)";
            refused(BlockCode::AuthorityUnusable, because.to_owned())
        }
    }
}

fn acknowledge(
    facts: &Facts,
    (authority, verifier): (&str, &VerifierName),
    bundle: &str,
    holds: Duration,
    (caller, request): (&Caller, &str),
) -> Ruling {
    if !facts.rules.verifiers.contains(verifier) {
        let because = format!("{verifier} is none of TrustVerifiers: nobody waits for it");
        return refused(BlockCode::NotFound, because);
    }
    // What is published holds the root of every authority that is not retired, or is about to be published anew.
    let wanted = super::bundle(&facts.authorities, &facts.turns);
    let published = facts.bundle.as_deref().unwrap_or_default();
    if published != wanted || digest(published) != bundle {
        let because = format!(
            "{verifier} has a bundle with SHA-256 {bundle}; /espalier-trust/bundle is to have {}: take it, and say so again",
            digest(&wanted)
        );
        return refused(BlockCode::Differs, because);
    }
    Ruling::Acknowledge(AcknowledgementRecord {
        authority: authority.to_owned(),
        verifier: verifier.clone(),
        bundle: bundle.to_owned(),
        at: facts.now,
        until: facts.now.saturating_add(holds),
        caller: caller.clone(),
        request: request.to_owned(),
    })
}

fn said(facts: &Facts, authority: &str, what: Turn, reason: &Reason, caller: &Caller) -> Ruling {
    Ruling::Turn(TurnRecord { caller: Some(caller.clone()), ..turn(facts, authority, what, reason.as_str()) })
}

fn of<'a>(facts: &'a Facts, authority: &str) -> Result<(&'a AuthorityRecord, Phase), Block> {
    let found = facts.authorities.iter().find(|record| record.authority == authority);
    let Some(found) = found else {
        let there: Vec<&str> = facts.authorities.iter().map(|record| record.authority.as_str()).collect();
        let because = format!("there is no authority {authority}; there are: {}", there.join(", "));
        return Err(Block { code: BlockCode::NotFound, because });
    };
    Ok((found, phase(found, &facts.authorities, &facts.turns)))
}

fn refused(code: BlockCode, because: String) -> Ruling {
    Ruling::Refused(Block { code, because })
}
