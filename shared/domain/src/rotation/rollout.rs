//! The rollout of the newest generation: which generations belong to it, who reverted what, and how often a target
//! failed in it. Derived from the ledger's records each time.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use crate::id::{Generation, TargetId};
use crate::record::{AttemptRecord, GenerationRecord};
use crate::rotation::evidence::{Evidence, TargetEvidence};
use crate::rotation::policy::{
    ATTEMPTS, BACKOFF, BACKOFF_CAP, COMMAND_DEADLINE, CONSENT_RETRY, LOST_AFTER, MENDING_RETRY, PROOF_GRACE, Policy,
    STUCK_RETRY,
};
use crate::rotation::settle::{InstallerCode, Weight, weigh};
use crate::work::DeliveryAction;

/// The newest generation and those it replaces because a target reverted them: one rollout with one failure budget.
///
/// A generation minted for another reason (a renewal, other names, its predecessor's age) begins a new rollout, so that
/// a single broken host can never keep a renewal from all the others.
pub struct Rollout<'a> {
    pub(crate) evidence: &'a Evidence,
    pub(crate) newest: Option<&'a GenerationRecord>,
    /// The first generation of the rollout.
    pub(crate) start: Generation,
    reverted: BTreeMap<Generation, BTreeSet<&'a TargetId>>,
}

impl<'a> Rollout<'a> {
    /// Reads the rollout out of the evidence.
    pub fn of(evidence: &'a Evidence) -> Self {
        let newest = evidence.newest();
        let mut reverted: BTreeMap<Generation, BTreeSet<&TargetId>> = BTreeMap::new();
        for target in evidence.targets.iter().filter(|target| target.wanted) {
            for attempt in &target.attempts {
                if attempt.ended.as_ref().is_some_and(|end| weigh(end) == Weight::Reverted) {
                    reverted.entry(attempt.generation).or_default().insert(&target.target);
                }
            }
        }
        let start = start(evidence, |generation| reverted.contains_key(&generation));
        Self { evidence, newest, start, reverted }
    }

    /// Whether this target reverted a generation of this rollout.
    pub(crate) fn reverted_by(&self, target: &TargetId) -> bool {
        self.reverted.range(self.start..).any(|(_, targets)| targets.contains(target))
    }

    /// Whether the newest generation replaces one that a target reverted.
    pub(crate) fn is_replacement(&self) -> bool {
        self.newest.is_some_and(|newest| self.reverted.range(self.start..newest.generation).next().is_some())
    }

    /// Whether this target reverted the newest generation.
    pub(crate) fn newest_reverted_by(&self, target: &TargetId) -> bool {
        self.newest
            .and_then(|newest| self.reverted.get(&newest.generation))
            .is_some_and(|targets| targets.contains(target))
    }

    /// What the target's deliveries in this rollout came to, latest last.
    pub(crate) fn tally(&self, target: &'a TargetEvidence) -> Tally<'a> {
        let mut attempts: Vec<&AttemptRecord> =
            target.attempts.iter().filter(|attempt| attempt.generation >= self.start).collect();
        attempts.sort_by_key(|attempt| (attempt.generation, attempt.attempt));
        let newest = self.newest.map_or(Generation::FIRST, |record| record.generation);
        let mut tally = Tally {
            last: attempts.last().copied().filter(|attempt| attempt.generation == newest),
            next_attempt: attempts.last().filter(|a| a.generation == newest).map_or(1, |a| a.attempt.saturating_add(1)),
            tries: attempts.iter().filter(|attempt| attempt.generation == newest && !has_prepared(attempt)).count(),
            failures: 0,
            missed: 0,
            end: None,
            is_asked_again: false,
        };
        let latest = attempts.len().saturating_sub(1);
        for (index, attempt) in attempts.iter().enumerate().rev() {
            let Some(mut end) = ended(attempt, self.evidence.now) else { continue };
            if proven(target, attempt, end.at) {
                break;
            }
            if end.weight == Weight::Installed {
                match disproved(target, attempt, end.at) {
                    Some(at) => {
                        end = End { weight: Weight::Failed, at, word: "installed, but never seen".into(), unseen: true }
                    }
                    // Nothing was seen yet, or a newer generation came before anything was.
                    None if index == latest
                        || attempts.get(index + 1).is_none_or(|n| n.generation != attempt.generation) =>
                    {
                        tally.end.get_or_insert(end);
                        continue;
                    }
                    None => end.weight = Weight::Failed,
                }
            }
            match end.weight {
                Weight::Failed | Weight::Reverted => tally.failures = tally.failures.saturating_add(1),
                Weight::Missed if tally.failures == 0 => tally.missed = tally.missed.saturating_add(1),
                Weight::Missed | Weight::NotOptedIn | Weight::ServerBroken | Weight::Prepared | Weight::Installed => {}
            }
            tally.end.get_or_insert(end);
        }
        tally.is_asked_again = tally.end.as_ref().is_some_and(|end| self.evidence.is_asked_again(end.at));
        tally
    }
}

/// The first generation of the newest rollout.
fn start(evidence: &Evidence, reverted: impl Fn(Generation) -> bool) -> Generation {
    let mut records: Vec<&GenerationRecord> = evidence.generations.iter().collect();
    records.sort_by_key(|record| record.generation);
    let Some(mut start) = records.first().map(|record| record.generation) else { return Generation::FIRST };
    let served: BTreeSet<Generation> =
        evidence.targets.iter().filter(|target| target.wanted).filter_map(TargetEvidence::floor).collect();
    let mut begun = 1;
    for (index, pair) in records.windows(2).enumerate() {
        let (before, record) = (pair[0], pair[1]);
        // The deadline last: it costs a hash per generation, and there may be years of them.
        // A broken host that halted the rollout of what turned out to be unsafe must not keep its replacement from others.
        let replaces = reverted(before.generation)
            && evidence.is_tainted(before.generation) == evidence.is_tainted(record.generation)
            && record.scope == before.scope
            && record.custody == before.custody
            && record.follows == before.follows
            && record.dns_names == before.dns_names
            && record.authority == before.authority
            && deadline(evidence, &served, &records[..begun]).is_none_or(|deadline| record.minted_at < deadline);
        if !replaces {
            start = record.generation;
            begun = index + 2;
        }
    }
    start
}

/// When a rollout that begins with the last of these generations has taken so long that whoever still serves one of
/// them needs a new leaf: whatever is minted from then on begins a new rollout, with a fresh budget.
fn deadline(evidence: &Evidence, served: &BTreeSet<Generation>, known: &[&GenerationRecord]) -> Option<OffsetDateTime> {
    let first = known.last()?;
    let begun_at = first.minted_at;
    let relevant =
        known.iter().filter(|record| record.generation == first.generation || served.contains(&record.generation));
    let renewals = relevant.map(|record| renew_at(&evidence.policy, record));
    renewals.filter(|at| *at > begun_at).min()
}

/// When a generation has to be replaced: so long before its end as the policy says, but not before a third of its life.
/// (A leaf clipped by its authority may live for less than that time.)
pub fn renew_at(policy: &Policy, record: &GenerationRecord) -> OffsetDateTime {
    let life = (record.not_after - record.not_before).max(Duration::ZERO);
    let before = policy.renew_before().saturating_add(policy.renew_spread(record));
    record.not_after.saturating_sub(before.min(life * 2_i32 / 3_i32))
}

/// A target's deliveries in a rollout.
pub(crate) struct Tally<'a> {
    /// The latest delivery of the newest generation.
    pub(crate) last: Option<&'a AttemptRecord>,
    /// The number a further delivery of the newest generation would have.
    pub(crate) next_attempt: u32,
    /// How often it was given to the target, or told to make its key in vain.
    pub(crate) tries: usize,
    /// Failures in a row, since the target was last proven.
    pub(crate) failures: u32,
    /// Deliveries in a row that did not take place, since anything else happened.
    pub(crate) missed: u32,
    /// How the latest delivery ended.
    pub(crate) end: Option<End>,
    /// Somebody asked for a fresh look since.
    is_asked_again: bool,
}

impl Tally<'_> {
    /// The target has used up its attempts.
    pub(crate) fn is_failed(&self) -> bool {
        self.failures >= ATTEMPTS
    }

    /// When a further delivery may begin.
    pub(crate) fn retry_at(&self) -> Option<OffsetDateTime> {
        let end = self.end.as_ref()?;
        let pause = match end.weight {
            Weight::Installed | Weight::Prepared => return None,
            // Whoever mended it and says so is not kept waiting for hours.
            Weight::Failed | Weight::Reverted if self.is_failed() && self.is_asked_again => Duration::ZERO,
            Weight::NotOptedIn | Weight::ServerBroken if self.is_asked_again => Duration::ZERO,
            Weight::NotOptedIn => CONSENT_RETRY,
            Weight::ServerBroken => MENDING_RETRY,
            Weight::Missed => backoff(self.missed).min(BACKOFF_CAP),
            Weight::Failed | Weight::Reverted if self.is_failed() => STUCK_RETRY,
            Weight::Failed | Weight::Reverted => backoff(self.failures),
        };
        Some(end.at.saturating_add(pause))
    }
}

/// Whether all that it was about is done: the host has its key.
fn has_prepared(attempt: &AttemptRecord) -> bool {
    attempt.ended.as_ref().map(weigh) == Some(Weight::Prepared)
}

pub(crate) fn backoff(times: u32) -> Duration {
    BACKOFF.saturating_mul(4_i32.saturating_pow(times.saturating_sub(1).min(10)))
}

/// An attempt's end, told or inferred.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) weight: Weight,
    pub(crate) at: OffsetDateTime,
    /// For a person.
    pub(crate) word: String,
    /// The installer said `installed`, and the wire never agreed.
    pub(crate) unseen: bool,
}

impl End {
    /// The host has gone back by itself.
    fn is_unconfirmed(&self) -> bool {
        self.word.starts_with(InstallerCode::Unconfirmed.as_str())
    }
}

/// How an attempt ended; nothing while it may still be under way.
pub(crate) fn ended(attempt: &AttemptRecord, now: OffsetDateTime) -> Option<End> {
    if let Some(end) = &attempt.ended {
        let word = if end.detail.is_empty() { end.code.clone() } else { format!("{}: {}", end.code, end.detail) };
        return Some(End { weight: weigh(end), at: end.at, word, unseen: false });
    }
    let (deadline, weight, word) = match attempt.command_id {
        None => (LOST_AFTER, Weight::Missed, "the command was never sent, or its id was lost"),
        Some(_) => (COMMAND_DEADLINE, Weight::Failed, "the command was never answered"),
    };
    let at = attempt.begun_at.saturating_add(deadline);
    (now >= at).then(|| End { weight, at, word: word.into(), unseen: false })
}

/// A good sighting came after the attempt ended: by its doing, or because a person repaired the host.
fn proven(target: &TargetEvidence, attempt: &AttemptRecord, ended_at: OffsetDateTime) -> bool {
    target.sighting.as_ref().is_some_and(|sighting| {
        sighting.floor.is_some_and(|floor| floor >= attempt.generation)
            && match (sighting.verdict.is_good(), sighting.failing_since) {
                (true, _) => sighting.at >= ended_at || sighting.generation > attempt.generation,
                (false, since) => since.is_some_and(|since| since > ended_at),
            }
    })
}

/// A host that goes back by itself unless it is told to keep what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Awaiting {
    /// What it was given.
    pub(crate) generation: Generation,
    /// Since when it waits.
    pub(crate) since: OffsetDateTime,
    /// The number that a confirmation would have.
    pub(crate) attempt: u32,
    /// When that may be sent.
    pub(crate) at: OffsetDateTime,
}

/// Whether what was last done to a target awaits confirmation. What was sent since and did not take place, or failed
/// before it changed anything, alters nothing about that.
pub(crate) fn awaiting(target: &TargetEvidence, now: OffsetDateTime) -> Option<Awaiting> {
    let mut attempts: Vec<&AttemptRecord> = target.attempts.iter().collect();
    attempts.sort_by_key(|attempt| (attempt.generation, attempt.attempt));
    let (mut missed, mut at) = (0, None);
    for attempt in attempts.iter().rev() {
        let end = ended(attempt, now)?;
        match (attempt.action, end.weight) {
            (DeliveryAction::Install, Weight::Installed) => {
                let armed = attempt.ended.as_ref().is_some_and(|end| end.code == InstallerCode::Armed.as_str());
                let last = attempts.iter().filter(|other| other.generation == attempt.generation);
                let attempt_number = last.map(|other| other.attempt).max().unwrap_or_default().saturating_add(1);
                let pause = if missed == 0 { Duration::ZERO } else { backoff(missed).min(BACKOFF_CAP) };
                return armed.then(|| Awaiting {
                    generation: attempt.generation,
                    since: end.at,
                    attempt: attempt_number,
                    at: at.unwrap_or(end.at).saturating_add(pause),
                });
            }
            (DeliveryAction::Confirm, Weight::Missed) if !end.is_unconfirmed() => {
                missed = missed.saturating_add(1);
                at.get_or_insert(end.at);
            }
            (
                DeliveryAction::Install,
                Weight::Missed | Weight::Failed | Weight::NotOptedIn | Weight::ServerBroken | Weight::Prepared,
            )
            | (DeliveryAction::Prepare, _) => {}
            (DeliveryAction::Install, Weight::Reverted) | (DeliveryAction::Confirm, _) => return None,
        }
    }
    None
}

/// By when the generation should have been seen, if a sighting made after that did not show it.
fn disproved(target: &TargetEvidence, attempt: &AttemptRecord, installed_at: OffsetDateTime) -> Option<OffsetDateTime> {
    let sighting = target.sighting.as_ref()?;
    let bad = sighting.generation == attempt.generation && !sighting.verdict.is_good();
    let deadline = installed_at.saturating_add(PROOF_GRACE);
    (bad && sighting.at >= deadline).then_some(deadline)
}
