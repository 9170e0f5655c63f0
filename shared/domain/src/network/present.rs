//! `state: present`: make what is missing, mend what has drifted, retire what is no longer wanted.

use std::collections::BTreeSet;

use super::action::{Action, TargetGroupWant};
use super::observed::{
    DnsEntry, Observed, Owned, SeenListener, SeenService, SeenTargetGroup, SeenVpcAssociation, Status, TargetStatus,
};
use super::{SOON_S, estate, listener_name, network_name, service_name, target_group_name};
use crate::id::InstanceId;
use crate::plan::{BlockCode, Plan};
use crate::spec::{HealthCheck, HealthCheckOn, Spec};
use crate::tag;
use crate::token::token;

/// Registers and deregisters at most this many targets in one call (VPC Lattice API reference).
const TARGETS_PER_CALL: usize = 100;

/// A service's idle timeout if nobody set one (VPC Lattice user guide, TLS listeners).
const DEFAULT_IDLE_TIMEOUT_S: u16 = 60;

struct Look<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
}

pub(super) fn plan(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    let look = Look { spec, observed };
    let eligible = estate::eligible(spec, &observed.estate, plan);
    if !estate::check(spec, &observed.estate, plan) {
        return;
    }
    estate::admit(spec, &observed.estate, plan);
    let network = look.network(plan);
    if let Some(network) = network {
        look.vpc_associations(network, plan);
    }
    let group = look.target_group(plan);
    if let Some(group) = group {
        look.targets(group, &eligible, plan);
    }
    let service = look.service(plan);
    if let Some(service) = service {
        if let Some(group) = group {
            look.listener(service, group, &eligible, plan);
        }
        if let Some(network) = network {
            look.service_association(network, service, plan);
        }
    }
    look.stale_groups(plan);
    if look.has_moved(group, plan) {
        estate::revoke(spec, &observed.estate, plan);
    }
}

impl<'a> Look<'a> {
    fn tags(&self) -> std::collections::BTreeMap<String, String> {
        tag::tags(&self.spec.stack, self.spec.hash())
    }

    fn token(&self, kind: &str, name: &str) -> String {
        token(&self.spec.stack, kind, name, self.observed.looked_at)
    }

    /// Whether the resource may be used; blocks if it is foreign.
    fn accept(&self, what: &str, owned: &Owned, plan: &mut Plan<Action>) -> bool {
        if !owned.ours {
            let tag = tag::STACK;
            plan.block(
                BlockCode::Foreign,
                format!("{what} ({}) exists without our tag {tag}={}; rename or remove it", owned.id, self.spec.stack),
            );
        }
        owned.ours
    }

    /// Refreshes the spec hash of a resource of ours that is there to stay.
    fn refresh(&self, what: &str, owned: &Owned, plan: &mut Plan<Action>) {
        if owned.spec_hash.as_deref() != Some(self.spec.hash()) {
            let action = Action::Tag { arn: owned.arn.clone(), what: what.to_owned(), tags: self.tags() };
            plan.step(action, "the spec has changed since it was tagged");
        }
    }

    /// Whether nothing is served any more in a way the spec no longer describes, and nothing is under way.
    fn has_moved(&self, group: Option<&SeenTargetGroup>, plan: &Plan<Action>) -> bool {
        let only_one = |group: &SeenTargetGroup| {
            self.observed.target_groups.iter().all(|other| !other.owned.ours || other.name == group.name)
        };
        plan.steps.is_empty() && plan.waits.is_empty() && group.is_some_and(only_one)
    }

    fn network(&self, plan: &mut Plan<Action>) -> Option<&'a str> {
        let name = network_name(&self.spec.stack);
        match &self.observed.network {
            None => {
                let token = self.token("ServiceNetwork", &name);
                plan.step(Action::CreateServiceNetwork { name, tags: self.tags(), token }, "missing");
                None
            }
            Some(network) => {
                let what = format!("service network {name}");
                if !self.accept(&what, &network.owned, plan) {
                    return None;
                }
                self.refresh(&what, &network.owned, plan);
                Some(network.owned.id.as_str())
            }
        }
    }

    fn vpc_associations(&self, network_id: &str, plan: &mut Plan<Action>) {
        let ours = |seen: &&SeenVpcAssociation| seen.network_id == network_id;
        for consumer in &self.spec.network.consumers {
            let vpc_id = &consumer.vpc_id;
            let wanted: BTreeSet<_> = consumer.security_group_ids.iter().cloned().collect();
            let mut of_vpc = self.observed.vpc_associations.iter().filter(|seen| seen.vpc_id == *vpc_id);
            if let Some(seen) = of_vpc.clone().find(ours) {
                self.vpc_association(seen, &wanted, plan);
            } else if let Some(other) = of_vpc.next() {
                if is_leaving(&other.status) {
                    plan.wait(format!("{vpc_id} to leave service network {}", other.network_id), SOON_S);
                    continue;
                }
                plan.block(
                    BlockCode::Foreign,
                    format!(
                        "VPC {vpc_id} is associated with service network {} and can have only one ({})",
                        other.network_id, other.owned.id
                    ),
                );
            } else {
                let action = Action::AssociateVpc {
                    network_id: network_id.to_owned(),
                    vpc_id: vpc_id.clone(),
                    security_group_ids: wanted,
                    tags: self.tags(),
                    token: self.token("VpcAssociation", vpc_id.as_str()),
                };
                plan.step(action, "missing");
            }
        }
        let wanted: BTreeSet<_> = self.spec.network.consumers.iter().map(|consumer| &consumer.vpc_id).collect();
        for seen in self.observed.vpc_associations.iter().filter(ours).filter(|seen| !wanted.contains(&seen.vpc_id)) {
            if seen.owned.ours {
                let what = format!("association of {}", seen.vpc_id);
                let because = "the spec no longer lists this consumer";
                leave(&what, &seen.status, because, plan, delete_vpc_association(seen));
            }
        }
    }

    fn vpc_association(
        &self,
        seen: &SeenVpcAssociation,
        wanted: &BTreeSet<crate::id::SecurityGroupId>,
        plan: &mut Plan<Action>,
    ) {
        let what = format!("association of {}", seen.vpc_id);
        if !self.accept(&what, &seen.owned, plan) {
            return;
        }
        let ready =
            settled(&what, &seen.status, plan, |plan, because| plan.step(delete_vpc_association(seen), because));
        if ready {
            self.refresh(&what, &seen.owned, plan);
        }
        if ready && seen.security_group_ids != *wanted {
            let action = Action::UpdateVpcAssociation {
                association_id: seen.owned.id.clone(),
                vpc_id: seen.vpc_id.clone(),
                security_group_ids: wanted.clone(),
            };
            plan.step(action, "its security groups differ from the spec");
        }
    }

    fn target_group(&self, plan: &mut Plan<Action>) -> Option<&'a SeenTargetGroup> {
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
        if ready {
            self.refresh(&what, &seen.owned, plan);
        }
        let port = self.spec.targets.port;
        let in_force = |check: Option<&HealthCheckOn>| check.map(|check| check.with_defaults(port));
        if ready && in_force(seen.health_check.as_ref()) != in_force(health_check.as_ref()) {
            let target_group_id = seen.owned.id.clone();
            let action = Action::UpdateHealthCheck { target_group_id, name, health_check };
            plan.step(action, "its health check differs from the spec");
        }
        ready.then_some(seen)
    }

    fn targets(&self, group: &SeenTargetGroup, eligible: &BTreeSet<InstanceId>, plan: &mut Plan<Action>) {
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
    fn are_registered(&self, group: &SeenTargetGroup, eligible: &BTreeSet<InstanceId>) -> bool {
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

    fn service(&self, plan: &mut Plan<Action>) -> Option<&'a SeenService> {
        let name = service_name(&self.spec.stack);
        let wanted = &self.spec.service;
        let Some(seen) = &self.observed.service else {
            let action = Action::CreateService {
                token: self.token("Service", &name),
                name,
                custom_domain_name: wanted.domain_name.clone(),
                idle_timeout_seconds: wanted.idle_timeout_seconds,
                tags: self.tags(),
            };
            plan.step(action, "missing");
            return None;
        };
        let what = format!("service {name}");
        if !self.accept(&what, &seen.owned, plan) {
            return None;
        }
        let service_id = seen.owned.id.clone();
        let ready = settled(&what, &seen.status, plan, |plan, because| {
            plan.step(Action::DeleteService { service_id: service_id.clone(), name: name.clone() }, because);
        });
        if !ready {
            return None;
        }
        self.refresh(&what, &seen.owned, plan);
        if seen.custom_domain_name.as_deref() != Some(wanted.domain_name.as_str()) {
            plan.block(
                BlockCode::Immutable,
                format!(
                    "service {name} answers for {:?}; VPC Lattice cannot change that to {:?} in place: tear the stack \
                     down first, or use another stack name",
                    seen.custom_domain_name.as_deref().unwrap_or_default(),
                    wanted.domain_name.as_str()
                ),
            );
            return None;
        }
        let seen_timeout = seen.idle_timeout_seconds.unwrap_or(DEFAULT_IDLE_TIMEOUT_S);
        let wanted = wanted.idle_timeout_seconds.unwrap_or(DEFAULT_IDLE_TIMEOUT_S);
        if wanted != seen_timeout {
            let because = format!("its idle timeout is {seen_timeout} s");
            plan.step(Action::UpdateIdleTimeout { service_id, name, idle_timeout_seconds: wanted }, because);
        }
        Some(seen)
    }

    fn listener(
        &self,
        service: &SeenService,
        group: &SeenTargetGroup,
        eligible: &BTreeSet<InstanceId>,
        plan: &mut Plan<Action>,
    ) {
        let (name, port) = (listener_name(&self.spec.stack), self.spec.service.port);
        let (service_id, target_group_id) = (service.owned.id.clone(), group.owned.id.clone());
        if let Some(seen) = self.observed.listeners.iter().find(|listener| listener.port == port) {
            let what = format!("listener on port {port}");
            if !self.accept(&what, &seen.owned, plan) || !is_passthrough(seen, plan) {
                return;
            }
            self.refresh(&what, &seen.owned, plan);
            let forwards_there = seen.forwards.iter().map(|(id, _)| id).eq([&target_group_id]);
            let is_ready = !eligible.is_empty() && self.are_registered(group, eligible);
            if !forwards_there && is_ready {
                let listener_id = seen.owned.id.clone();
                let action = Action::UpdateListener { service_id, listener_id, name, target_group_id };
                plan.step(action, format!("it does not forward to {} alone", group.name));
            }
        } else if let Some(other) = self.observed.listeners.iter().find(|listener| listener.owned.ours) {
            plan.block(
                BlockCode::Immutable,
                format!(
                    "the listener is on port {}; VPC Lattice cannot move it to {port} in place: tear the stack down first",
                    other.port
                ),
            );
        } else {
            let token = self.token("Listener", &format!("{service_id}/{port}"));
            let tags = self.tags();
            let action = Action::CreateListener { service_id, name, port, target_group_id, tags, token };
            plan.step(action, "missing");
        }
    }

    fn service_association(&self, network_id: &str, service: &SeenService, plan: &mut Plan<Action>) {
        let service_id = &service.owned.id;
        let mut of_both = self.observed.service_associations.iter();
        let Some(seen) = of_both.find(|seen| seen.network_id == network_id && seen.service_id == *service_id) else {
            let token = self.token("ServiceAssociation", &format!("{network_id}/{service_id}"));
            let (network_id, service_id) = (network_id.to_owned(), service_id.clone());
            plan.step(Action::AssociateService { network_id, service_id, tags: self.tags(), token }, "missing");
            return;
        };
        if !self.accept("association of the service", &seen.owned, plan) {
            return;
        }
        let association_id = seen.owned.id.clone();
        let ready = settled("association of the service", &seen.status, plan, |plan, because| {
            plan.step(Action::DeleteServiceAssociation { association_id }, because);
        });
        if ready {
            self.refresh("association of the service", &seen.owned, plan);
            self.record(service, plan);
        }
    }

    fn record(&self, service: &SeenService, plan: &mut Plan<Action>) {
        let Some(target) = &service.dns_entry else {
            plan.wait("the service's generated domain name", SOON_S);
            return;
        };
        let name = &self.spec.service.domain_name;
        let because = match &self.observed.record {
            None => "missing".to_owned(),
            Some(seen) => match &seen.alias {
                Some(alias) if alias == target => return,
                Some(alias) if is_our_name(self.spec, alias) => "it points to a former service of ours".to_owned(),
                Some(_) | None => {
                    plan.block(
                        BlockCode::Foreign,
                        format!("an A record {name} exists and does not point to this stack's service; remove it"),
                    );
                    return;
                }
            },
        };
        let hosted_zone_id = self.spec.service.dns.hosted_zone_id.clone();
        plan.step(Action::UpsertRecord { hosted_zone_id, name: name.clone(), target: target.clone() }, because);
    }

    /// Groups of ours with another name than the wanted one: left behind by a change that cannot be made in place.
    fn stale_groups(&self, plan: &mut Plan<Action>) {
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
pub(super) fn retire_group(group: &SeenTargetGroup, because: &str, plan: &mut Plan<Action>) {
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

pub(super) fn delete_vpc_association(seen: &SeenVpcAssociation) -> Action {
    Action::DeleteVpcAssociation { association_id: seen.owned.id.clone(), vpc_id: seen.vpc_id.clone() }
}

/// Whether a resource is on its way out.
fn is_leaving(status: &Status) -> bool {
    matches!(status, Status::Deleting)
}

/// Whether a record points to a service of this stack, present or former. Records carry no tags; a generated name
/// begins with the service's name, which is the stack's, and the service's id (VPC Lattice user guide, services). An id
/// has no hyphen, so that the services of `api` and of `api-v2` are told apart.
pub(super) fn is_our_name(spec: &Spec, alias: &DnsEntry) -> bool {
    let rest = alias.domain_name.strip_prefix(&format!("{}-", service_name(&spec.stack)));
    let id = rest.and_then(|rest| rest.split_once('.')).filter(|(_, zone)| zone.contains("vpc-lattice-svcs."));
    id.is_some_and(|(id, _)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Deletes a resource unless it is going already or in a state that VPC Lattice deletes nothing in.
pub(super) fn leave(what: &str, status: &Status, because: &str, plan: &mut Plan<Action>, delete: Action) {
    match status {
        Status::Deleting => plan.wait(format!("{what} to be deleted"), SOON_S),
        Status::Creating | Status::Updating => plan.wait(format!("{what} to settle before it is deleted"), SOON_S),
        Status::DeleteFailed(message) => plan.step(delete, format!("{because}; the last deletion failed ({message})")),
        Status::Active | Status::CreateFailed(_) | Status::UpdateFailed(_) => plan.step(delete, because),
    }
}

/// Whether the resource is active; if not, waits for it, or has it deleted when it failed for good ("if CREATE_FAILED
/// you must delete and recreate").
fn settled(
    what: &str,
    status: &Status,
    plan: &mut Plan<Action>,
    delete: impl FnOnce(&mut Plan<Action>, String),
) -> bool {
    match status {
        Status::Active => return true,
        Status::Creating => plan.wait(format!("{what} to become active"), SOON_S),
        Status::Updating => plan.wait(format!("{what} to be updated"), SOON_S),
        Status::Deleting => plan.wait(format!("{what} to be deleted"), SOON_S),
        Status::CreateFailed(message) => delete(plan, format!("its creation failed ({message})")),
        Status::DeleteFailed(message) => delete(plan, format!("its deletion failed ({message})")),
        // The former configuration is still in force: comparing it with the spec plans the update again.
        Status::UpdateFailed(_) => return true,
    }
    false
}

fn is_passthrough(listener: &SeenListener, plan: &mut Plan<Action>) -> bool {
    if !listener.is_tls_passthrough {
        plan.block(
            BlockCode::Immutable,
            format!("listener {} is not TLS_PASSTHROUGH and cannot become it; remove it", listener.owned.id),
        );
    }
    listener.is_tls_passthrough
}
