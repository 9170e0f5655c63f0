//! What can be done now about authorities, and why.

use time::Duration;

use super::{Facts, LATE, LONGEST_LEAF, Phase, ROOM, bundle, last_leaf_ends, tainted};
use crate::plan::{BlockCode, Plan};
use crate::record::{AuthorityRecord, Turn, TurnRecord};
use crate::rotation::due::minute;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the next authority, with the keys that no authority was made of yet.
    Prepare,
    /// Publish this bundle.
    Publish {
        /// Concatenated PEM.
        bundle: String,
    },
    /// Write this turn down, unless there is one of its number.
    Turn(TurnRecord),
}

/// What can be done now. Total: any facts have an answer. One turn at most, for the next one has another number.
pub fn plan(facts: &Facts) -> Plan<Action> {
    let mut plan = Plan::default();
    if facts.authorities.is_empty() {
        // The first one is made when the first leaf is due.
        return plan;
    }
    let Some(active) = facts.active() else {
        plan.block(BlockCode::AuthorityUnusable, "the authority that was activated is not in the ledger: restore it");
        return plan;
    };
    if let Some(because) = facts.damage() {
        // Clients are not given what they cannot read, nor somebody else's root.
        plan.block(BlockCode::AuthorityUnusable, because);
        return plan;
    }
    let wanted = bundle(&facts.authorities, &facts.turns);
    if facts.bundle.as_ref() != Some(&wanted) {
        // All that follows counts on clients finding it.
        plan.step(
            Action::Publish { bundle: wanted },
            "clients are to find the root of every authority that is not retired",
        );
        return plan;
    }
    match facts.prepared() {
        Some(next) => activate(facts, active, next, &mut plan),
        None => prepare(facts, active, &mut plan),
    }
    if plan.steps.is_empty() {
        retire(facts, &mut plan);
    }
    plan
}

/// Early enough for people, for the wait and for the last leaf.
fn prepare(facts: &Facts, active: &AuthorityRecord, plan: &mut Plan<Action>) {
    let needed = facts.rules.wait.saturating_add(LONGEST_LEAF).saturating_add(ROOM);
    if facts.now < active.not_after.saturating_sub(needed) {
        return;
    }
    let because = format!("authority {} ends at {}", active.authority, minute(active.not_after));
    if facts.has_keys {
        plan.step(Action::Prepare, because);
    } else {
        let remedy =
            "the next one needs keys of its own: deploy the template with KeysOfAuthority=both (docs/certificates.md)";
        plan.block(BlockCode::AuthorityExpiring, format!("{because}; {remedy}"));
    }
}

/// When everybody trusts it, as far as that can be known.
fn activate(facts: &Facts, active: &AuthorityRecord, next: &AuthorityRecord, plan: &mut Plan<Action>) {
    let id = &next.authority;
    if next.not_after <= facts.now.saturating_add(LONGEST_LEAF) {
        let because = format!("authority {id} was prepared and ends at {}: retire it", minute(next.not_after));
        plan.block(BlockCode::AuthorityExpiring, because);
        return;
    }
    let published = next.published_at.unwrap_or(facts.now);
    // Written down as it was begun, it was published somewhat later.
    let from = published.saturating_add(facts.rules.wait).saturating_add(LATE);
    if from > facts.now {
        let what = format!("clients that nobody registered, until {}: authority {id}", minute(from));
        plan.wait(what, seconds(from - facts.now));
    }
    let missing = facts.missing(id);
    if !missing.is_empty() {
        let names: Vec<&str> = missing.into_iter().map(|verifier| verifier.as_str()).collect();
        let names = names.join(", ");
        plan.block(
            BlockCode::Unacknowledged,
            format!("authority {id} is not activated: {names} did not acknowledge it, or not for long enough"),
        );
    }
    if from > facts.now || !plan.blocks.is_empty() {
        return;
    }
    let verifiers = facts.rules.verifiers.len();
    let because = format!(
        "it was published at {}, and {verifiers} of {verifiers} registered verifiers acknowledge it; {} ends at {}",
        minute(published),
        active.authority,
        minute(active.not_after)
    );
    plan.step(Action::Turn(turn(facts, id, Turn::Activated, &because)), because);
}

/// When no leaf lives any more that it can have signed.
fn retire(facts: &Facts, plan: &mut Plan<Action>) {
    for (record, phase) in facts.phases() {
        let Phase::Retiring { since: Some(since) } = phase else { continue };
        let (id, ends) = (&record.authority, last_leaf_ends(since));
        if tainted(id, &facts.turns).is_some() {
            // Whether anybody serves what it signed is the stacks' knowledge, and not to be waited for in silence.
            let because = format!(
                "authority {id} was declared unsafe and is still trusted: retire it when no target serves a leaf of it (espalier status)"
            );
            plan.block(BlockCode::AuthorityUnusable, because);
        }
        if ends > facts.now {
            plan.wait(
                format!("the end of the last leaf of authority {id} at {}", minute(ends)),
                seconds(ends - facts.now),
            );
            continue;
        }
        let because = format!("another one took over at {}: no leaf lives that it signed", minute(since));
        plan.step(Action::Turn(turn(facts, id, Turn::Retired, &because)), because);
        return;
    }
}

/// The next turn.
pub(super) fn turn(facts: &Facts, authority: &str, turn: Turn, because: &str) -> TurnRecord {
    let (number, at) = (facts.next_number(), facts.now);
    TurnRecord { number, authority: authority.to_owned(), turn, at, because: because.to_owned(), caller: None }
}

fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.whole_seconds()).unwrap_or(u32::MAX).max(1)
}
