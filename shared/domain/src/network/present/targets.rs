//! A target group, the fleet's targets, and groups that a change has left behind.

use std::collections::{BTreeMap, BTreeSet};

use super::Look;
use super::family::Family;
use super::fleet::Fleet;
use super::life::{leave, settled};
use crate::id::TargetId;
use crate::network::action::{Action, TargetGroupWant};
use crate::network::estate::is_out_of_service;
use crate::network::observed::{Life, SeenTarget, SeenTargetGroup, TargetStatus};
use crate::network::{SOON_S, target_group_names};
use crate::plan::Plan;
use crate::spec::{HealthCheck, HealthCheckOn};

/// Registers and deregisters at most this many targets in one call (VPC Lattice API reference).
const TARGETS_PER_CALL: usize = 100;

impl<'a> Look<'a> {
    /// The target group of that name, if it can be used.
    pub(super) fn target_group(&self, name: &str, plan: &mut Plan<Action>) -> Option<&'a SeenTargetGroup> {
        let name = name.to_owned();
        let health_check = self.wanted_check().cloned();
        let Some(seen) = self.observed.target_groups.iter().find(|group| group.name == name) else {
            if !self.fit.place {
                return None;
            }
            let token = self.token("TargetGroup", &name);
            let (vpc_id, port) = (self.spec.network.vpc_id.clone(), self.spec.targets.port);
            let want = TargetGroupWant { name, vpc_id, kind: self.spec.targets.select.kind(), port, health_check };
            plan.step(Action::CreateTargetGroup { want, tags: self.tags(), token }, "missing");
            return None;
        };
        let what = format!("target group {name}");
        if !self.accept(&what, &seen.owned, plan) {
            return None;
        }
        let id = seen.owned.id.clone();
        let ready = settled(&what, &seen.status, plan, |plan, because| {
            plan.step(Action::DeleteTargetGroup { target_group_id: id, name: name.clone() }, because);
        });
        if ready && !self.is_checked_as_wanted(seen) && self.is_open_for(seen) {
            let target_group_id = seen.owned.id.clone();
            let action = Action::UpdateHealthCheck { target_group_id, name, health_check };
            plan.step(action, "its health check differs from the spec");
        }
        ready.then_some(seen)
    }

    fn wanted_check(&self) -> Option<&HealthCheckOn> {
        match &self.spec.health_check {
            HealthCheck::Off => None,
            HealthCheck::On(check) => Some(check),
        }
    }

    /// What is in force of a check: who leaves something out gets VPC Lattice's default.
    fn in_force(&self, check: Option<&HealthCheckOn>) -> Option<HealthCheckOn> {
        check.map(|check| check.with_defaults(self.spec.targets.port))
    }

    /// Whether the group's check is the spec's. A former one may look at a port that is closed by now: nobody is moved to a
    /// group before it is mended.
    pub(super) fn is_checked_as_wanted(&self, group: &SeenTargetGroup) -> bool {
        self.in_force(group.health_check.as_ref()) == self.in_force(self.wanted_check())
    }

    /// Whether the targets' security group lets a check in where it is to be made: on a port that is closed every target
    /// would fail it.
    fn is_open_for(&self, group: &SeenTargetGroup) -> bool {
        let port = |check: Option<&HealthCheckOn>| self.in_force(check).and_then(|check| check.port);
        let wanted = self.wanted_check();
        self.is_admitted || wanted.is_none() || port(group.health_check.as_ref()) == port(wanted)
    }

    pub(super) fn targets(&self, family: &Family<'a>, fleet: &Fleet, plan: &mut Plan<Action>) {
        let port = self.spec.targets.port;
        let mut missing = Vec::new();
        for id in &fleet.proven {
            match self.place(id.as_str()) {
                None => missing.push(id),
                Some(TargetStatus::Draining) => plan.wait(format!("{id} to finish draining"), SOON_S),
                Some(TargetStatus::Initial) => plan.wait(format!("{id} to be registered"), SOON_S),
                Some(
                    TargetStatus::Healthy | TargetStatus::Unhealthy | TargetStatus::Unused | TargetStatus::Unavailable,
                ) => {}
            }
        }
        for (group, targets) in self.placement(family, &missing) {
            for targets in targets.chunks(TARGETS_PER_CALL) {
                let because = format!("{} seen serving a valid certificate and not registered", targets.len());
                let (target_group_id, name) = (group.owned.id.clone(), group.name.clone());
                let targets = targets.iter().copied().cloned().collect();
                plan.step(Action::RegisterTargets { target_group_id, name, targets, port }, because);
            }
        }
        let drained = self.drained(fleet);
        for group in &family.groups {
            self.part(group, family, fleet, &drained, plan);
        }
    }

    /// Takes out of a group whoever is not to be in it.
    fn part(
        &self,
        group: &SeenTargetGroup,
        family: &Family<'a>,
        fleet: &Fleet,
        drained: &BTreeMap<&str, &str>,
        plan: &mut Plan<Action>,
    ) {
        let port = self.spec.targets.port;
        let mut leaving = self.leaving(group, fleet);
        let doubled = group.targets.iter().filter(|one| one.port == port && family.is_double(group, &one.id));
        leaving.extend(doubled.map(|one| (one.id.as_str(), one.port)));
        let here = group.targets.iter().filter(|one| one.port == port && one.status != TargetStatus::Draining);
        let failing = here.filter_map(|one| Some((one.id.as_str(), *drained.get(one.id.as_str())?)));
        let failing: BTreeMap<&str, &str> = failing.collect();
        let goes = |id: &str, at: u16| leaving.contains(&(id, at)) || (at == port && failing.contains_key(id));
        let is_held = self.is_held(group, family, goes);
        let may_go = |id: &str| match is_held {
            Held::No => true,
            // Its time is short, and nobody is sent there any more.
            Held::Connected => self.is_taken_away(id),
            Held::Used => false,
        };
        let unwanted = |id: &str, at: u16| leaving.contains(&(id, at)) && may_go(id);
        deregister(group, unwanted, "registered and not (or no longer) wanted", plan);
        for (id, faults) in failing.into_iter().filter(|(id, _)| may_go(id)) {
            let (target_group_id, name) = (group.owned.id.clone(), group.name.clone());
            let targets = vec![(id.to_owned(), port)];
            let because = format!("it fails clients ({faults})");
            plan.step(Action::DeregisterTargets { target_group_id, name, targets }, because);
        }
        if self.is_awaited(group) {
            plan.wait(format!("targets of {} to finish draining", group.name), SOON_S);
        }
    }

    /// Whether its Auto Scaling group ends it, whatever we do.
    fn is_taken_away(&self, id: &str) -> bool {
        let scaling = self.roster.instance(id).and_then(|instance| instance.scaling.as_ref());
        scaling.is_some_and(|scaling| matches!(scaling.life, Life::Going | Life::GoingWaits))
    }

    /// Whether a group that nobody stays in has to be kept for the clients that it was sent: it leaves the listener first,
    /// as a group that is replaced does. Of a fleet in one group the last one stays in any case.
    fn is_held(&self, group: &SeenTargetGroup, family: &Family<'a>, goes: impl Fn(&str, u16) -> bool) -> Held {
        let stays = |one: &SeenTarget| one.status != TargetStatus::Draining && !goes(&one.id, one.port);
        let has_others = family.shares.iter().any(|other| other.group.owned.id != group.owned.id);
        if !has_others || group.targets.iter().any(stays) {
            return Held::No;
        }
        let forwards = self.observed.listeners.iter().flat_map(|listener| &listener.forwards);
        match forwards.filter(|(id, _)| *id == group.owned.id).map(|(_, weight)| *weight).max() {
            None => Held::No,
            Some(0) => Held::Connected,
            Some(1..) => Held::Used,
        }
    }

    /// Who is registered and not to be. Make before break: what serves stays until everything wanted is there and somebody
    /// of it is known to serve; the last target stays anyway (then a block says why there is no other). Who does not run
    /// serves nobody. Whom its Auto Scaling group takes away may go as soon as enough others serve, or nobody else is to
    /// come: its time is short.
    fn leaving<'g>(&self, group: &'g SeenTargetGroup, fleet: &Fleet) -> BTreeSet<(&'g str, u16)> {
        let port = self.spec.targets.port;
        let expected: BTreeSet<TargetId> = fleet.proven.union(&fleet.undecided).cloned().collect();
        let others = fleet.proven.iter().filter(|id| self.place(id.as_str()).is_some_and(is_steady)).count();
        let is_complete = others > 0 && self.are_registered(&expected);
        let enough = others >= usize::try_from(self.spec.targets.minimum_in_service.max(1)).unwrap_or(usize::MAX);
        let may_leave = |id: &str| match self.roster.instance(id) {
            Some(instance) if !instance.is_running => !fleet.is_empty(),
            Some(instance) if is_out_of_service(instance) => enough || is_complete || fleet.is_empty(),
            Some(_) | None => is_complete,
        };
        let targets = group.targets.iter().map(|target| (target.id.as_str(), target.port));
        targets.filter(|(id, at)| !(*at == port && fleet.contains(id)) && may_leave(id)).collect()
    }

    /// Who is registered and fails clients, as many as can be spared.
    fn drained<'f>(&self, fleet: &'f Fleet) -> BTreeMap<&'f str, &'f str> {
        let registered = |id: &TargetId| self.place(id.as_str()).is_some_and(|s| s != TargetStatus::Draining);
        let steady = |id: &&TargetId| self.place(id.as_str()).is_some_and(is_steady);
        let failing: Vec<_> = fleet.failing.iter().filter(|(id, _)| registered(id)).collect();
        let staying = fleet.proven.iter().chain(&fleet.undecided).filter(steady).count();
        let minimum = usize::try_from(self.spec.targets.minimum_in_service).unwrap_or(usize::MAX);
        let spared = (staying + failing.len()).saturating_sub(minimum);
        failing.into_iter().take(spared).map(|(id, faults)| (id.as_str(), faults.as_str())).collect()
    }

    /// Whether somebody waits for a draining target of the group to be gone: its Auto Scaling group, to terminate it.
    fn is_awaited(&self, group: &SeenTargetGroup) -> bool {
        let mut draining = group.targets.iter().filter(|target| target.status == TargetStatus::Draining);
        draining.any(|target| {
            let scaling = self.roster.instance(&target.id).and_then(|instance| instance.scaling.as_ref());
            scaling.is_some_and(|scaling| scaling.life == Life::GoingWaits)
        })
    }

    /// Whether every eligible target is registered in one of the wanted groups, and registration has come to its end.
    pub(super) fn are_registered(&self, eligible: &BTreeSet<TargetId>) -> bool {
        eligible.iter().all(|id| self.place(id.as_str()).is_some_and(is_steady))
    }

    /// Groups of ours with another name than the wanted ones: left behind by a change that cannot be made in place, or by
    /// a fleet that has become smaller.
    pub(super) fn stale_groups(&self, family: &Family<'_>, plan: &mut Plan<Action>) {
        let is_stale = |group: &&SeenTargetGroup| group.owned.ours && !family.names.contains(&group.name);
        let own = target_group_names(self.spec);
        let stale = self.observed.target_groups.iter().filter(is_stale);
        for group in stale {
            let used =
                self.observed.listeners.iter().any(|one| one.forwards.iter().any(|(id, _)| *id == group.owned.id));
            if !used {
                let is_own = own.contains(&group.name);
                let because = if is_own { "the others have room for all" } else { "replaced by another target group" };
                retire_group(group, because, plan);
            }
        }
    }
}

/// What keeps the last targets in a group.
enum Held {
    /// Nothing.
    No,
    /// Clients may still be connected to them.
    Connected,
    /// Clients are still sent to them.
    Used,
}

/// Whether registration has come to its end, and deregistration has not begun.
pub(super) fn is_steady(status: TargetStatus) -> bool {
    match status {
        TargetStatus::Initial | TargetStatus::Draining => false,
        TargetStatus::Healthy | TargetStatus::Unhealthy | TargetStatus::Unused | TargetStatus::Unavailable => true,
    }
}

/// Deregisters everything in a group, waits for draining to end, then deletes it.
pub(in crate::network) fn retire_group(group: &SeenTargetGroup, because: &str, plan: &mut Plan<Action>) {
    if group.targets.is_empty() {
        let (target_group_id, name) = (group.owned.id.clone(), group.name.clone());
        let action = Action::DeleteTargetGroup { target_group_id, name };
        leave(&format!("target group {}", group.name), &group.status, because, plan, action);
    } else {
        deregister(group, |_, _| true, because, plan);
        if group.targets.iter().any(|target| target.status == TargetStatus::Draining) {
            plan.wait(format!("targets of {} to finish draining", group.name), SOON_S);
        }
    }
}

fn deregister(group: &SeenTargetGroup, unwanted: impl Fn(&str, u16) -> bool, because: &str, plan: &mut Plan<Action>) {
    let staying = group.targets.iter().filter(|target| target.status != TargetStatus::Draining);
    let leaving: Vec<(String, u16)> = staying
        .filter(|target| unwanted(&target.id, target.port))
        .map(|target| (target.id.clone(), target.port))
        .collect();
    for targets in leaving.chunks(TARGETS_PER_CALL) {
        let (target_group_id, name) = (group.owned.id.clone(), group.name.clone());
        plan.step(Action::DeregisterTargets { target_group_id, name, targets: targets.to_vec() }, because);
    }
}
