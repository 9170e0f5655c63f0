//! One look, indexed once: which instances there are and which targets are registered where. Planning asks that for each
//! target of a fleet, and a list that is searched for each would make it quadratic.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::{Observed, SeenInstance, SeenTargetGroup, TargetStatus};

/// The index.
pub(super) struct Roster<'a> {
    instances: BTreeMap<&'a str, &'a SeenInstance>,
    /// By the group's id, the target's id and its port.
    targets: BTreeMap<(&'a str, &'a str, u16), TargetStatus>,
    /// Who is in a group of ours, in whatever state.
    ours: BTreeSet<&'a str>,
}

impl<'a> Roster<'a> {
    pub(super) fn of(observed: &'a Observed) -> Self {
        let mut roster = Self { instances: BTreeMap::new(), targets: BTreeMap::new(), ours: BTreeSet::new() };
        for instance in &observed.estate.instances {
            roster.instances.entry(instance.id.as_str()).or_insert(instance);
        }
        for group in &observed.target_groups {
            for target in &group.targets {
                let place = (group.owned.id.as_str(), target.id.as_str(), target.port);
                roster.targets.entry(place).or_insert(target.status);
                if group.owned.ours {
                    roster.ours.insert(target.id.as_str());
                }
            }
        }
        roster
    }

    pub(super) fn instance(&self, id: &str) -> Option<&'a SeenInstance> {
        self.instances.get(id).copied()
    }

    /// The state of a target in a group; `None` if it is not registered there.
    pub(super) fn status(&self, group: &SeenTargetGroup, id: &str, port: u16) -> Option<TargetStatus> {
        self.targets.get(&(group.owned.id.as_str(), id, port)).copied()
    }

    /// Whether it is in no group of ours any more.
    pub(super) fn is_out(&self, id: &str) -> bool {
        !self.ours.contains(id)
    }
}
