//! Who is to serve: the instances that can be registered, told apart by what was seen of them.

use std::collections::{BTreeMap, BTreeSet};

use super::Look;
use super::family::Family;
use crate::id::TargetId;
use crate::network::action::Action;
use crate::network::observed::{Observed, TargetStatus};
use crate::plan::Plan;
use crate::rotation::proof::{Proof, proof};

/// `rotate` says when there is a proof, so nobody sits and waits for it; this is for the answer's reader.
const PROOF_S: u32 = 300;

/// How many instances a sentence names before it only counts them.
const NAMED: usize = 5;

/// The eligible instances.
pub(super) struct Fleet {
    /// Clients are sent to these.
    pub(super) proven: BTreeSet<TargetId>,
    /// Nothing speaks for or against these: they stay as they are.
    pub(super) undecided: BTreeSet<TargetId>,
    /// These fail clients, and how.
    pub(super) failing: BTreeMap<TargetId, String>,
    unproven: BTreeSet<TargetId>,
}

impl Look<'_> {
    pub(super) fn fleet(&self, eligible: &BTreeSet<TargetId>) -> Fleet {
        let (observed, port) = (self.observed, self.spec.targets.port);
        let mut fleet = Fleet {
            proven: BTreeSet::new(),
            undecided: BTreeSet::new(),
            failing: BTreeMap::new(),
            unproven: BTreeSet::new(),
        };
        for id in eligible {
            let launched_at = self.roster.instance(id.as_str()).and_then(|one| one.launched_at);
            match proof(observed.sightings.get(id), port, launched_at, observed.looked_at) {
                Proof::Good => {
                    fleet.proven.insert(id.clone());
                }
                Proof::Missing => {
                    fleet.unproven.insert(id.clone());
                    fleet.undecided.insert(id.clone());
                }
                Proof::Doubtful => {
                    fleet.undecided.insert(id.clone());
                }
                Proof::Bad(faults) => {
                    fleet.failing.insert(id.clone(), faults);
                }
            }
        }
        fleet
    }

    /// Says what is unfinished although nothing else says so: whoever is to take over fails clients, so that clients, or
    /// somebody who is not selected any more, stay where they are.
    pub(super) fn unfinished(&self, family: &Family<'_>, plan: &mut Plan<Action>) {
        let mut listeners = self.observed.listeners.iter();
        let listener = listeners.find(|one| one.port == self.spec.service.port);
        let targets = family.groups.iter().flat_map(|group| &group.targets);
        let mut staying = targets.filter(|one| one.status != TargetStatus::Draining);
        let left = staying.find(|one| self.roster.instance(&one.id).is_none());
        let what = match (left, listener) {
            _ if !plan.is_converged() => return,
            (Some(target), _) => format!("before {} leaves", target.id),
            (None, Some(seen)) if !self.is_led_there(seen, &family.shares) => "before clients are led there".to_owned(),
            (None, _) => return,
        };
        plan.wait(format!("somebody who is selected to be seen serving well, {what}"), PROOF_S);
    }
}

impl Fleet {
    /// Everybody who is selected and can serve, whatever was seen of them.
    pub(super) fn contains(&self, id: &str) -> bool {
        let Ok(id) = TargetId::parse(id) else { return false };
        self.proven.contains(&id) || self.undecided.contains(&id) || self.failing.contains_key(&id)
    }

    /// All of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = &TargetId> {
        self.proven.iter().chain(&self.undecided).chain(self.failing.keys())
    }

    /// Who is to get clients, and can as far as anybody knows.
    pub(super) fn serves(&self, id: &str) -> bool {
        let Ok(id) = TargetId::parse(id) else { return false };
        self.proven.contains(&id) || self.undecided.contains(&id)
    }

    /// Who was just seen serving.
    pub(super) fn is_proven(&self, id: &str) -> bool {
        TargetId::parse(id).is_ok_and(|id| self.proven.contains(&id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.proven.is_empty() && self.undecided.is_empty() && self.failing.is_empty()
    }

    /// Who has to be registered in the wanted groups before clients move there: the proven, and whoever serves them now.
    pub(super) fn moving(&self, observed: &Observed, wanted: &[String]) -> BTreeSet<TargetId> {
        let others = observed.target_groups.iter().filter(|group| group.owned.ours && !wanted.contains(&group.name));
        let targets = others.flat_map(|group| &group.targets);
        let serving = targets.filter(|target| target.status != TargetStatus::Draining);
        let serving: BTreeSet<&str> = serving.map(|target| target.id.as_str()).collect();
        let serves_now = |id: &&TargetId| serving.contains(id.as_str());
        self.proven.iter().chain(self.undecided.iter().filter(serves_now)).cloned().collect()
    }

    /// Says whose proof is awaited: of whoever was not seen at all, and of whoever clients cannot come to before.
    pub(super) fn wait(&self, is_registered: impl Fn(&TargetId) -> bool, plan: &mut Plan<Action>) {
        let others = self.undecided.iter().chain(self.failing.keys()).filter(|id| !is_registered(id));
        let awaited: BTreeSet<&TargetId> = self.unproven.iter().chain(others).collect();
        let names: Vec<&str> = awaited.into_iter().map(TargetId::as_str).collect();
        let text = match names.get(..NAMED) {
            Some(first) if names.len() > NAMED => format!("{} and {} more", first.join(", "), names.len() - NAMED),
            _ => names.join(", "),
        };
        if !names.is_empty() {
            plan.wait(format!("{text} to be seen serving a certificate for the service's name"), PROOF_S);
        }
    }
}
