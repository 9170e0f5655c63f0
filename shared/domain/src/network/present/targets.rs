//! The target group, its targets, and groups that a change has left behind.

use std::collections::BTreeSet;

use super::Look;
use super::life::{leave, settled};
use crate::id::InstanceId;
use crate::network::action::{Action, TargetGroupWant};
use crate::network::observed::{SeenTargetGroup, TargetStatus};
use crate::network::{SOON_S, target_group_name};
use crate::plan::Plan;
use crate::spec::{HealthCheck, HealthCheckOn};

/// Registers and deregisters at most this many targets in one call (VPC Lattice API reference).
const TARGETS_PER_CALL: usize = 100;

impl<'a> Look<'a> {
    pub(super) fn target_group(&self, plan: &mut Plan<Action>) -> Option<&'a SeenTargetGroup> {
        let name = target_group_name(self.spec);
        let health_check = match &self.spec.health_check {
            HealthCheck::Off => None,
            HealthCheck::On(check) => Some(check.clone()),
        };
        let Some(seen) = self.observed.target_groups.iter().find(|group| group.name == name) else {
            let token = self.token("TargetGroup", &name);
            let (vpc_id, port) = (self.spec.network.vpc_id.clone(), self.spec.targets.port);
            let want = TargetGroupWant { name, vpc_id, port, health_check };
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
        let port = self.spec.targets.port;
        let in_force = |check: Option<&HealthCheckOn>| check.map(|check| check.with_defaults(port));
        if ready && in_force(seen.health_check.as_ref()) != in_force(health_check.as_ref()) {
            let target_group_id = seen.owned.id.clone();
            let action = Action::UpdateHealthCheck { target_group_id, name, health_check };
            plan.step(action, "its health check differs from the spec");
        }
        ready.then_some(seen)
    }

    pub(super) fn targets(&self, group: &SeenTargetGroup, eligible: &BTreeSet<InstanceId>, plan: &mut Plan<Action>) {
        let port = self.spec.targets.port;
        let seen = |id: &str| group.targets.iter().find(|target| target.id == id && target.port == port);
        let mut missing = Vec::new();
        for id in eligible {
            match seen(id.as_str()).map(|target| target.status) {
                None => missing.push(id.clone()),
                Some(TargetStatus::Draining) => plan.wait(format!("{id} to finish draining"), SOON_S),
                Some(TargetStatus::Initial) => plan.wait(format!("{id} to be registered"), SOON_S),
                Some(
                    TargetStatus::Healthy | TargetStatus::Unhealthy | TargetStatus::Unused | TargetStatus::Unavailable,
                ) => {}
            }
        }
        let is_complete = missing.is_empty() && self.are_registered(group, eligible);
        for targets in missing.chunks(TARGETS_PER_CALL) {
            let because = format!("{} selected and not registered", targets.len());
            let (target_group_id, name) = (group.owned.id.clone(), group.name.clone());
            let targets = targets.to_vec();
            plan.step(Action::RegisterTargets { target_group_id, name, targets, port }, because);
        }
        // Make before break: what serves stays until everything wanted is there, and the last target stays anyway (then
        // a block says why there is no other). Who does not run serves nobody.
        let stopped = |id: &str| {
            let mut instances = self.observed.estate.instances.iter();
            instances.any(|instance| instance.id.as_str() == id && !instance.is_running)
        };
        let wanted = |id: &str, at: u16| at == port && eligible.iter().any(|wanted| wanted.as_str() == id);
        let may_leave = |id: &str| !eligible.is_empty() && (is_complete || stopped(id));
        let unwanted = |id: &str, at: u16| !wanted(id, at) && may_leave(id);
        deregister(group, unwanted, "registered and not (or no longer) wanted", plan);
    }

    /// Whether every eligible target is registered in the group, and registration has come to its end.
    pub(super) fn are_registered(&self, group: &SeenTargetGroup, eligible: &BTreeSet<InstanceId>) -> bool {
        let port = self.spec.targets.port;
        eligible.iter().all(|id| {
            let mut targets = group.targets.iter();
            let seen = targets.find(|target| target.id == id.as_str() && target.port == port);
            seen.is_some_and(|seen| match seen.status {
                TargetStatus::Initial | TargetStatus::Draining => false,
                TargetStatus::Healthy | TargetStatus::Unhealthy | TargetStatus::Unused | TargetStatus::Unavailable => {
                    true
                }
            })
        })
    }

    /// Groups of ours with another name than the wanted one: left behind by a change that cannot be made in place.
    pub(super) fn stale_groups(&self, plan: &mut Plan<Action>) {
        let wanted = target_group_name(self.spec);
        let stale = self.observed.target_groups.iter().filter(|group| group.owned.ours && group.name != wanted);
        for group in stale {
            let used =
                self.observed.listeners.iter().any(|one| one.forwards.iter().any(|(id, _)| *id == group.owned.id));
            if !used {
                retire_group(group, "replaced by another target group", plan);
            }
        }
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
