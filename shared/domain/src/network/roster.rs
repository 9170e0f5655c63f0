//! One look, indexed once: which instances there are and which targets are registered where. Planning asks that for each
//! target of a fleet, and a list that is searched for each would make it quadratic.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::{Observed, SeenInstance, TargetStatus};

/// The index.
pub(super) struct Roster<'a> {
    instances: BTreeMap<&'a str, &'a SeenInstance>,
    /// Who is in a group of ours, in whatever state.
    ours: BTreeSet<&'a str>,
    /// By the target's id and port, whichever of the groups that share the fleet it is in.
    places: BTreeMap<(&'a str, u16), TargetStatus>,
}

impl<'a> Roster<'a> {
    /// `names` are those of the groups that share the fleet.
    pub(super) fn of(observed: &'a Observed, names: &[String]) -> Self {
        let mut roster = Self { instances: BTreeMap::new(), ours: BTreeSet::new(), places: BTreeMap::new() };
        for instance in &observed.estate.instances {
            roster.instances.entry(instance.id.as_str()).or_insert(instance);
        }
        for group in &observed.target_groups {
            let is_shared = names.contains(&group.name);
            for target in &group.targets {
                if group.owned.ours {
                    roster.ours.insert(target.id.as_str());
                    if is_shared {
                        let place = roster.places.entry((target.id.as_str(), target.port)).or_insert(target.status);
                        *place = more_settled(*place, target.status);
                    }
                }
            }
        }
        roster
    }

    pub(super) fn instance(&self, id: &str) -> Option<&'a SeenInstance> {
        self.instances.get(id).copied()
    }

    /// The state of a target in the groups that share the fleet: the more settled one, should it be in two.
    pub(super) fn place(&self, id: &str, port: u16) -> Option<TargetStatus> {
        self.places.get(&(id, port)).copied()
    }

    /// Whether it is in no group of ours any more.
    pub(super) fn is_out(&self, id: &str) -> bool {
        !self.ours.contains(id)
    }
}

fn more_settled(one: TargetStatus, other: TargetStatus) -> TargetStatus {
    let rank = |status| match status {
        TargetStatus::Draining => 0,
        TargetStatus::Initial => 1,
        TargetStatus::Healthy | TargetStatus::Unhealthy | TargetStatus::Unused | TargetStatus::Unavailable => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}
