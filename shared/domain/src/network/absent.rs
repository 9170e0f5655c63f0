//! `state: absent`: the same rule read in the other direction. A thing goes when nothing that is seen still needs it.

use super::action::Action;
use super::observed::{Observed, Status};
use super::present::{delete_vpc_association, is_leaving, is_our_name, retire_group};
use super::{SOON_S, network_name, service_name};
use crate::plan::Plan;
use crate::spec::Spec;

const GONE: &str = "state is absent";

pub(super) fn plan(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    let record_is_gone = record(spec, observed, plan);
    let association_is_gone = record_is_gone && service_associations(observed, plan);
    let service_is_gone = association_is_gone && service(spec, observed, plan);
    let groups_are_gone = service_is_gone && target_groups(observed, plan);
    let vpcs_are_gone = record_is_gone && vpc_associations(observed, plan);
    if association_is_gone && vpcs_are_gone {
        network(spec, observed, plan);
    }
    if groups_are_gone {
        ingress(spec, observed, plan);
    }
}

fn record(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let current = observed.service.as_ref().and_then(|service| service.dns_entry.as_ref());
    let alias = observed.record.as_ref().and_then(|record| record.alias.as_ref());
    match alias {
        // Only a record that points to us is ours.
        Some(alias) if Some(alias) == current || is_our_name(spec, alias) => {
            let hosted_zone_id = spec.service.dns.hosted_zone_id.clone();
            let name = spec.service.domain_name.clone();
            plan.step(Action::DeleteRecord { hosted_zone_id, name, target: alias.clone() }, GONE);
            false
        }
        Some(_) | None => true,
    }
}

fn service_associations(observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let mut gone = true;
    for seen in observed.service_associations.iter().filter(|seen| seen.owned.ours) {
        gone = false;
        let association_id = seen.owned.id.clone();
        leave("association of the service", &seen.status, plan, Action::DeleteServiceAssociation { association_id });
    }
    gone
}

fn service(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let Some(seen) = observed.service.as_ref().filter(|service| service.owned.ours) else { return true };
    let name = service_name(&spec.stack);
    // Deleting a service takes its listeners along.
    let action = Action::DeleteService { service_id: seen.owned.id.clone(), name: name.clone() };
    leave(&format!("service {name}"), &seen.status, plan, action);
    false
}

fn target_groups(observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let mut gone = true;
    for group in observed.target_groups.iter().filter(|group| group.owned.ours) {
        gone = false;
        retire_group(group, GONE, plan);
    }
    gone
}

fn vpc_associations(observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let network_id = observed.network.as_ref().map(|network| network.owned.id.as_str());
    let mut gone = true;
    let of_ours = observed.vpc_associations.iter().filter(|seen| Some(seen.network_id.as_str()) == network_id);
    for seen in of_ours.filter(|seen| seen.owned.ours) {
        gone = false;
        leave(&format!("association of {}", seen.vpc_id), &seen.status, plan, delete_vpc_association(seen));
    }
    gone
}

fn network(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    if let Some(seen) = observed.network.as_ref().filter(|network| network.owned.ours) {
        let name = network_name(&spec.stack);
        plan.step(Action::DeleteServiceNetwork { network_id: seen.owned.id.clone(), name }, GONE);
    }
}

fn ingress(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    for rule in &observed.estate.ingress {
        let security_group_id = spec.targets.security_group_id.clone();
        plan.step(Action::RevokeIngress { security_group_id, rule_id: rule.rule_id.clone() }, GONE);
    }
}

fn leave(what: &str, status: &Status, plan: &mut Plan<Action>, delete: Action) {
    match status {
        _ if is_leaving(status) => plan.wait(format!("{what} to be deleted"), SOON_S),
        Status::Creating | Status::Updating => plan.wait(format!("{what} to settle before it is deleted"), SOON_S),
        Status::DeleteFailed(message) => plan.step(delete, format!("{GONE}; the last deletion failed ({message})")),
        Status::Active | Status::Deleting | Status::CreateFailed(_) | Status::UpdateFailed(_) => {
            plan.step(delete, GONE)
        }
    }
}
