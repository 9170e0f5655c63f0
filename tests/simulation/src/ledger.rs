//! The ledger's rules in memory: appended once, ended once, claimed once.

use std::collections::BTreeMap;

use espalier_domain::id::{Epoch, Generation, Nonce, TargetId};
use espalier_domain::record::{
    AttemptEnd, AttemptRecord, AuthorityRecord, DiscardRecord, EmergencyRecord, EpochRecord, GenerationRecord,
    LeafRecord, MembershipRecord, SightingRecord, ThroughRecord,
};
use espalier_domain::work::{DeliverItem, DeliveryAction};
use time::{Duration, OffsetDateTime};

/// One delivery's name.
pub(crate) type Key = (TargetId, Generation, u32);

#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) generations: Vec<GenerationRecord>,
    /// Targets' own leaves.
    pub(crate) leaves: BTreeMap<(TargetId, Generation), LeafRecord>,
    /// The keys that they certify, where hosts have made them.
    pub(crate) certified: BTreeMap<(TargetId, Generation), u32>,
    /// Leaves that were stored and perhaps not appended yet: the one under a generation's name is the one that counts.
    pub(crate) stored: BTreeMap<Generation, GenerationRecord>,
    /// Whose bundles were deleted.
    pub(crate) discarded: Vec<DiscardRecord>,
    pub(crate) attempts: BTreeMap<Key, AttemptRecord>,
    pub(crate) sightings: BTreeMap<TargetId, SightingRecord>,
    pub(crate) through: Option<ThroughRecord>,
    pub(crate) membership: Option<MembershipRecord>,
    pub(crate) look_since: Option<OffsetDateTime>,
    pub(crate) emergency: Option<EmergencyRecord>,
    pub(crate) authorities: Vec<AuthorityRecord>,
    pub(crate) epoch: Option<EpochRecord>,
    pub(crate) nudges: u32,
}

impl Ledger {
    pub(crate) fn newest(&self) -> Option<&GenerationRecord> {
        self.generations.last()
    }

    pub(crate) fn generation(&self, generation: Generation) -> Option<&GenerationRecord> {
        let index = usize::try_from(generation.0.checked_sub(1)?).ok()?;
        self.generations.get(index)
    }

    /// The fingerprint of what a generation is on a target.
    pub(crate) fn fingerprint(&self, target: &TargetId, generation: Generation) -> Option<&str> {
        let record = self.generation(generation)?;
        if record.scope.is_each() {
            return self.leaves.get(&(target.clone(), generation)).map(|leaf| leaf.fingerprint.as_str());
        }
        Some(&record.fingerprint)
    }

    /// Appends all attempts of an item or none.
    pub(crate) fn begin(&mut self, item: &DeliverItem, now: OffsetDateTime) -> bool {
        let key = |target: &TargetId| (target.clone(), item.generation, item.attempt);
        if item.targets.iter().any(|target| self.attempts.contains_key(&key(target))) {
            return false;
        }
        let Some(leaf) = self.generation(item.generation) else { return false };
        let receivers = item.receivers().unwrap_or_default();
        let begun = match item.action {
            DeliveryAction::Prepare => item.preparations(leaf, &receivers, &nonce(item.attempt), now),
            DeliveryAction::Install | DeliveryAction::Confirm => item.attempts(leaf, now),
        };
        let begun = begun.into_iter();
        self.attempts.extend(begun.map(|record| (key(&record.target), record)));
        true
    }

    pub(crate) fn note(&mut self, item: &DeliverItem, command: u32) {
        for target in &item.targets {
            if let Some(record) = self.attempts.get_mut(&(target.clone(), item.generation, item.attempt)) {
                record.command_id.get_or_insert(command.to_string());
            }
        }
    }

    pub(crate) fn end(&mut self, key: &Key, end: AttemptEnd) {
        if let Some(record) = self.attempts.get_mut(key) {
            record.ended.get_or_insert(end);
        }
    }

    /// The rotation in progress, if one is.
    pub(crate) fn open(&self) -> Option<&EpochRecord> {
        self.epoch.as_ref().filter(|epoch| epoch.ended_at.is_none())
    }

    /// Claims the next execution.
    pub(crate) fn claim(&mut self, now: OffsetDateTime) -> EpochRecord {
        let (epoch, attempt, begun_at) = match &self.epoch {
            Some(open) if open.ended_at.is_none() => (open.epoch, open.attempt + 1, open.begun_at),
            Some(ended) => (Epoch(ended.epoch.0 + 1), 1, now),
            None => (Epoch(1), 1, now),
        };
        let record =
            EpochRecord { epoch, attempt, begun_at, ended_at: None, execution: format!("payments-{epoch}-{attempt}") };
        self.nudges = 0;
        self.epoch = Some(record.clone());
        record
    }

    /// Forgets deliveries that decide nothing any more: those below a target's floor, which evidence may leave out, and those
    /// that the real ledger keeps no longer.
    pub(crate) fn forget(&mut self, now: OffsetDateTime) {
        let before = now - Duration::days(1);
        let sightings = &self.sightings;
        let floor = |record: &AttemptRecord| sightings.get(&record.target).and_then(|sighting| sighting.floor);
        self.attempts.retain(|_, record| {
            let matters =
                Some(record.generation) >= floor(record) || record.ended.as_ref().is_none_or(|end| end.at > before);
            matters && record.kept_until().is_none_or(|until| until > now)
        });
    }
}

/// What nobody compares here: the request's number stands for the key.
fn nonce(number: u32) -> Nonce {
    Nonce::parse(format!("{number:064x}")).expect("64 hexadecimal digits")
}
