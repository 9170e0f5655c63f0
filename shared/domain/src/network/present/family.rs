//! The target groups that share a fleet: one takes so many targets, so that a larger fleet has several.
//!
//! A target stays in the group it is in, whoever else comes and goes; who is new goes to the first group with room. Clients
//! come to each group by what is in it.

use std::collections::{BTreeMap, BTreeSet};

use super::Look;
use super::fleet::Fleet;
use super::targets::is_steady;
use crate::id::TargetId;
use crate::network::action::Action;
use crate::network::observed::{SeenTargetGroup, TargetStatus};
use crate::network::target_group_names;
use crate::plan::Plan;

/// The groups that are wanted now.
pub(super) struct Family<'a> {
    /// Their names.
    pub(super) names: Vec<String>,
    /// Those that can be used: there, ours and active.
    pub(super) groups: Vec<&'a SeenTargetGroup>,
    /// Targets that are in several of them, by group and id: in all but the first in which they are settled they are one
    /// too many. Two runs that look at the same time may register one in two places.
    doubled: BTreeSet<(&'a str, &'a str)>,
    /// The groups that clients are to be sent to, and how many in each are to serve them. Who is on its way out counts
    /// only while there is nobody else; there is always one group, if any can be used.
    pub(super) shares: Vec<Share<'a>>,
}

/// A group's part of the clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share<'a> {
    pub(super) group: &'a SeenTargetGroup,
    /// How many in it are to serve them.
    pub(super) targets: u32,
    pub(super) seen: Seen,
}

/// What was last seen of those in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Somebody serves well.
    Well,
    /// Nobody is known to serve well, and somebody may.
    Undecided,
    /// All fail clients.
    Failing,
}

impl Family<'_> {
    /// Whether a target is settled in another group, too, and leaves this one.
    pub(super) fn is_double(&self, group: &SeenTargetGroup, id: &str) -> bool {
        self.doubled.contains(&(group.owned.id.as_str(), id))
    }
}

impl<'a> Look<'a> {
    /// Finds the wanted groups, makes those that are missing and mends the others.
    pub(super) fn family(&self, fleet: &Fleet, plan: &mut Plan<Action>) -> Family<'a> {
        let names = self.wanted_names(fleet);
        let groups: Vec<_> = names.iter().filter_map(|name| self.target_group(name, plan)).collect();
        let doubled = self.doubled(&groups);
        let mut family = Family { names, groups, doubled, shares: Vec::new() };
        family.shares = self.shares(&family, fleet);
        family
    }

    /// A group is wanted while somebody is in it, or as long as there is no room for everybody in the others.
    fn wanted_names(&self, fleet: &Fleet) -> Vec<String> {
        let names = target_group_names(self.spec);
        let inside = |name: &String| {
            let group = self.observed.target_groups.iter().find(|group| group.owned.ours && group.name == *name);
            group.map_or(0, |group| group.targets.len())
        };
        let unplaced = fleet.ids().filter(|id| self.place(id.as_str()).is_none()).count();
        let mut is_wanted = names.each_ref().map(|name| inside(name) > 0);
        let mut room: usize = names.iter().map(inside).filter(|inside| *inside > 0).map(|n| self.room(n)).sum();
        for index in 0..names.len() {
            let is_any = is_wanted.contains(&true);
            if !is_wanted[index] && (!is_any || unplaced > room) {
                is_wanted[index] = true;
                room += self.room(0);
            }
        }
        names.into_iter().zip(is_wanted).filter_map(|(name, is_wanted)| is_wanted.then_some(name)).collect()
    }

    /// How many more a group takes that has so many targets, in whatever state.
    fn room(&self, inside: usize) -> usize {
        usize::try_from(self.spec.targets.targets_per_group).unwrap_or(usize::MAX).saturating_sub(inside)
    }

    /// The state of a target in the stack's wanted groups; in the most settled one, should it be in several.
    pub(super) fn place(&self, id: &str) -> Option<TargetStatus> {
        self.roster.place(id, self.spec.targets.port)
    }

    /// Where each of these is to be registered: in the first group with room.
    pub(super) fn placement<'i>(
        &self,
        family: &Family<'a>,
        missing: &[&'i TargetId],
    ) -> Vec<(&'a SeenTargetGroup, Vec<&'i TargetId>)> {
        let mut rest = missing.iter().copied();
        let take = |group: &&'a SeenTargetGroup| (*group, rest.by_ref().take(self.room(group.targets.len())).collect());
        family.groups.iter().map(take).collect()
    }

    fn shares(&self, family: &Family<'a>, fleet: &Fleet) -> Vec<Share<'a>> {
        let port = self.spec.targets.port;
        let count = |group: &SeenTargetGroup, counts: &dyn Fn(&str) -> bool| {
            let targets = group.targets.iter().filter(|one| one.status != TargetStatus::Draining && one.port == port);
            let count = targets.filter(|one| counts(&one.id) && !family.is_double(group, &one.id)).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let has = |group, counts: &dyn Fn(&str) -> bool| count(group, counts) > 0;
        let seen = |group| match (has(group, &|id| fleet.is_proven(id)), has(group, &|id| fleet.serves(id))) {
            (true, _) => Seen::Well,
            (false, true) => Seen::Undecided,
            (false, false) => Seen::Failing,
        };
        let filled = |counts: &dyn Fn(&str) -> bool| -> Vec<_> {
            let groups = family.groups.iter().map(|group| (*group, count(group, counts)));
            let filled = groups.filter(|(_, targets)| *targets > 0);
            filled.map(|(group, targets)| Share { group, targets, seen: seen(group) }).collect()
        };
        let staying = filled(&|id| fleet.serves(id));
        let any = if staying.is_empty() { filled(&|_| true) } else { staying };
        if !any.is_empty() {
            return any;
        }
        let used = |group: &&&SeenTargetGroup| self.gets_clients(group);
        let known = family.groups.iter().find(used).or(family.groups.first());
        known.map(|group| Share { group, targets: 1, seen: Seen::Failing }).into_iter().collect()
    }

    fn gets_clients(&self, group: &SeenTargetGroup) -> bool {
        let forwards = self.observed.listeners.iter().flat_map(|listener| &listener.forwards);
        forwards.into_iter().any(|(id, weight)| *id == group.owned.id && *weight > 0)
    }

    fn doubled(&self, groups: &[&'a SeenTargetGroup]) -> BTreeSet<(&'a str, &'a str)> {
        if groups.len() < 2 {
            return BTreeSet::new();
        }
        let port = self.spec.targets.port;
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        for group in groups {
            for target in group.targets.iter().filter(|one| one.port == port && is_steady(one.status)) {
                first.entry(&target.id).or_insert(&group.owned.id);
            }
        }
        let targets = groups.iter().flat_map(|group| group.targets.iter().map(|one| (group.owned.id.as_str(), one)));
        let here = targets.filter(|(_, one)| one.port == port && one.status != TargetStatus::Draining);
        let doubled = here.filter(|(group, one)| first.get(one.id.as_str()).is_some_and(|first| first != group));
        doubled.map(|(group, one)| (group, one.id.as_str())).collect()
    }
}
