//! `manage: rotation`: the estate is somebody else's. It is checked against the spec, and nothing of it is changed.

use std::collections::BTreeSet;

use super::SOON_S;
use super::action::Action;
use super::estate;
use super::observed::{Observed, SeenListener, SeenService, SeenTargetGroup, Status, TargetStatus};
use super::present::{network_policy, service_policy};
use crate::id::TargetId;
use crate::plan::{BlockCode, Plan};
use crate::spec::{Given, Spec};

/// Instances that a sentence names before it only counts them.
const NAMED: usize = 5;

struct Check<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
}

pub(super) fn plan(spec: &Spec, given: &Given, observed: &Observed, plan: &mut Plan<Action>) {
    let check = Check { spec, observed };
    let eligible = estate::eligible(spec, &observed.estate, plan);
    estate::check(spec, &observed.estate, plan);
    if let Some(network) = &observed.network {
        network_policy(network, plan);
    }
    match &observed.service {
        None => not_found(&format!("lattice.serviceId {}", given.service_id), plan),
        Some(service) => {
            check.service(service, plan);
            service_policy(service, plan);
            check.network(service, plan);
            check.record(service, plan);
            check.forwards(given, plan);
        }
    }
    check.groups(given, plan);
    check.targets(&eligible, plan);
}

impl<'a> Check<'a> {
    fn service(&self, service: &SeenService, plan: &mut Plan<Action>) {
        let (id, wanted) = (&service.owned.id, self.spec.service.domain_name.as_str());
        is_settled(&format!("service {id}"), &service.status, plan);
        if service.custom_domain_name.as_deref() != Some(wanted) {
            let seen = service.custom_domain_name.as_deref().unwrap_or_default();
            differs(
                format!(
                    "service {id} has the custom domain {seen:?} and the spec the domainName {wanted:?}, which VPC Lattice \
                     compares with what clients ask for: correct the one or the other"
                ),
                plan,
            );
        }
    }

    /// The service is in a network, and each consumer's VPC is in the same one.
    fn network(&self, service: &SeenService, plan: &mut Plan<Action>) {
        let of_service = self.observed.service_associations.iter().filter(|one| one.service_id == service.owned.id);
        let mut networks = BTreeSet::new();
        for one in of_service {
            if is_settled(&format!("service association {}", one.owned.id), &one.status, plan) {
                networks.insert(one.network_id.as_str());
            }
        }
        if let Some(given) = self.spec.network.service_network_id.as_ref().filter(|it| !networks.contains(it.id())) {
            let id = &service.owned.id;
            differs(
                format!("service {id} is not associated with {given}, the spec's serviceNetworkId: associate it"),
                plan,
            );
        } else if networks.is_empty() && plan.waits.is_empty() {
            differs(format!("service {} is in no service network, so no client reaches it", service.owned.id), plan);
        }
        for consumer in &self.spec.network.consumers {
            let mut of_vpc = self.observed.vpc_associations.iter().filter(|one| one.vpc_id == consumer.vpc_id);
            let is_there = of_vpc.any(|one| networks.contains(one.network_id.as_str()));
            if !is_there && !networks.is_empty() {
                let vpc = &consumer.vpc_id;
                differs(
                    format!("VPC {vpc} is a consumer and not associated with the service's network: associate it"),
                    plan,
                );
            }
        }
    }

    fn record(&self, service: &SeenService, plan: &mut Plan<Action>) {
        let name = &self.spec.service.domain_name;
        // A missing zone is a block of its own.
        let Some(zone) = &self.observed.estate.hosted_zone else { return };
        match self.observed.record.as_ref().map(|record| &record.alias) {
            None => differs(format!("{name} has no A record or CNAME in hosted zone {zone}: publish it there"), plan),
            Some(Some(alias)) if service.dns_entry.as_ref().is_some_and(|entry| entry != alias) => differs(
                format!("{name} is an alias of {}, which is not the service's name: correct it", alias.domain_name),
                plan,
            ),
            // Where a CNAME or plain addresses lead to, the probe through the service says.
            Some(Some(_) | None) => {}
        }
    }

    /// The listener passes TLS through to the listed groups and no others.
    fn forwards(&self, given: &Given, plan: &mut Plan<Action>) {
        let port = self.spec.service.port;
        let Some(listener) = self.observed.listeners.iter().find(|listener| listener.port == port) else {
            not_found(&format!("a listener on port {port} of {}", given.service_id), plan);
            return;
        };
        if !listener.is_tls_passthrough {
            let because =
                format!("listener {} is not TLS_PASSTHROUGH: VPC Lattice would end TLS itself", listener.owned.id);
            plan.block(BlockCode::Unsupported, because);
            return;
        }
        let live: BTreeSet<&str> = live(listener).collect();
        let listed: BTreeSet<&str> = given.target_group_ids.iter().map(|id| id.as_str()).collect();
        for id in live.difference(&listed) {
            differs(
                format!(
                    "the listener forwards to {id}, which lattice.targetGroupIds does not list: its targets would not be \
                         rotated; list it"
                ),
                plan,
            );
        }
        for id in listed.difference(&live) {
            differs(
                format!("{id} is in lattice.targetGroupIds and the listener does not forward to it: remove it"),
                plan,
            );
        }
    }

    fn groups(&self, given: &Given, plan: &mut Plan<Action>) {
        for id in &given.target_group_ids {
            let mut groups = self.observed.target_groups.iter();
            match groups.find(|group| group.owned.id == id.as_str()) {
                None => not_found(&format!("lattice.targetGroupIds: {id}"), plan),
                Some(group) if !group.is_tcp => {
                    let because = format!("target group {id} is not TCP, which alone a TLS_PASSTHROUGH listener takes");
                    plan.block(BlockCode::Unsupported, because);
                }
                Some(group) => {
                    is_settled(&format!("target group {id}"), &group.status, plan);
                }
            }
        }
    }

    /// Who is selected is who is registered: anybody else serves a certificate that nobody rotates.
    fn targets(&self, eligible: &BTreeSet<TargetId>, plan: &mut Plan<Action>) {
        let port = self.spec.targets.port;
        let registered: BTreeSet<(&str, u16)> = self.observed.target_groups.iter().flat_map(registered).collect();
        let missing: Vec<&str> =
            eligible.iter().map(TargetId::as_str).filter(|id| !registered.contains(&(*id, port))).collect();
        if !missing.is_empty() {
            let names = name(&missing);
            differs(
                format!("selected and not registered on port {port}: {names}; register or do not select them"),
                plan,
            );
        }
        let instances = self.observed.estate.instances.iter();
        let selected: BTreeSet<&str> = instances.map(|instance| instance.id.as_str()).collect();
        let others: Vec<&str> = registered.iter().map(|(id, _)| *id).filter(|id| !selected.contains(id)).collect();
        if !others.is_empty() {
            let names = name(&others);
            differs(
                format!("registered and not selected: {names}; their certificates would not be rotated: select them"),
                plan,
            );
        }
    }
}

fn live(listener: &SeenListener) -> impl Iterator<Item = &str> {
    listener.forwards.iter().filter(|(_, weight)| *weight > 0).map(|(id, _)| id.as_str())
}

fn registered(group: &SeenTargetGroup) -> impl Iterator<Item = (&str, u16)> {
    let staying = group.targets.iter().filter(|target| target.status != TargetStatus::Draining);
    staying.map(|target| (target.id.as_str(), target.port))
}

/// Whether something is active; waits while it is on its way, and says what only its owner can mend.
fn is_settled(what: &str, status: &Status, plan: &mut Plan<Action>) -> bool {
    match status {
        Status::Active => return true,
        Status::Creating | Status::Updating | Status::Deleting => {
            plan.wait(format!("{what}, which somebody else is changing"), SOON_S);
        }
        Status::CreateFailed(failure) | Status::UpdateFailed(failure) | Status::DeleteFailed(failure) => {
            plan.block(BlockCode::Failed, format!("{what} failed ({failure}); it is its owner's to mend"));
        }
    }
    false
}

fn not_found(what: &str, plan: &mut Plan<Action>) {
    plan.block(
        BlockCode::NotFound,
        format!("{what} does not exist, or is not shared with this account; correct the spec"),
    );
}

fn differs(because: String, plan: &mut Plan<Action>) {
    plan.block(BlockCode::Differs, because);
}

fn name(ids: &[&str]) -> String {
    match ids.get(..NAMED) {
        Some(first) if ids.len() > NAMED => format!("{} and {} more", first.join(" "), ids.len() - NAMED),
        Some(_) | None => ids.join(" "),
    }
}
