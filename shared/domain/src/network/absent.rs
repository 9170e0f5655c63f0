//! `state: absent`: the same rule read in the other direction. A thing goes when nothing that is seen still needs it.

use super::action::Action;
use super::observed::{DnsEntry, Observed, Owned};
use super::present::{delete_vpc_association, is_our_name, leave, let_go, retire_group};
use super::zones::retire;
use super::{estate, network_name, service_name};
use crate::id::HostedZoneId;
use crate::plan::{BlockCode, Plan};
use crate::spec::Spec;

const GONE: &str = "state is absent";

pub(super) fn plan(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    // Whatever keeps the stack from going keeps nobody from being ended.
    let_go(observed, plan);
    if is_of_another_name(spec, observed, plan) {
        return;
    }
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

/// A record is looked for under the name that the spec says: under another one it would be left behind.
fn is_of_another_name(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let service = observed.service.as_ref().filter(|service| service.owned.ours);
    let name = service.and_then(|service| service.custom_domain_name.as_deref());
    let other = name.filter(|name| *name != spec.service.domain_name.as_str());
    if let Some(name) = other {
        let because = format!(
            "the service to be deleted answers for {name:?}, and its record is under that name: write it as service.domainName, \
             and the stack is taken down"
        );
        plan.block(BlockCode::Immutable, because);
    }
    other.is_some()
}

/// Whether somebody else's service is in our network: its clients come by the VPCs that we associated.
fn serves_others(observed: &Observed) -> bool {
    let network = observed.network.as_ref().map(|network| &network.owned);
    let service = observed.service.as_ref().map(|service| service.owned.id.as_str());
    let mut here = observed.service_associations.iter().filter(|one| is(&one.network_id, network));
    here.any(|one| !one.owned.ours && Some(one.service_id.as_str()) != service)
}

fn record(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let foreign = observed.service.as_ref().filter(|service| !service.owned.ours);
    let foreign = foreign.and_then(|service| service.dns_entry.as_ref());
    let current = observed.estate.hosted_zone.iter().zip(&observed.record);
    let former = observed.former_records.iter().map(|(zone, record)| (zone, record));
    // Only a record that points to a service of ours is ours; somebody else's service may have our name.
    let is_ours = |alias: &DnsEntry| Some(alias) != foreign && is_our_name(spec, &observed.estate, alias);
    let zones = &observed.estate.private_zones;
    let of_others = |zone: &HostedZoneId| zones.iter().all(|one| one.id != *zone);
    let mut gone = true;
    for (zone, record) in current.chain(former).filter(|(zone, _)| of_others(zone)) {
        if let Some(alias) = record.alias.as_ref().filter(|alias| is_ours(alias)) {
            gone = false;
            let (hosted_zone_id, name) = (zone.clone(), spec.service.domain_name.clone());
            plan.step(Action::DeleteRecord { hosted_zone_id, name, target: alias.clone() }, GONE);
        }
    }
    for zone in zones {
        gone &= retire(spec, zone, &is_ours, GONE, plan);
    }
    gone
}

fn service_associations(observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let mut gone = true;
    for seen in &observed.service_associations {
        let of_ours = is(&seen.network_id, observed.network.as_ref().map(|network| &network.owned))
            || is(&seen.service_id, observed.service.as_ref().map(|service| &service.owned));
        if seen.owned.ours {
            gone = false;
            let association_id = seen.owned.id.clone();
            let action = Action::DeleteServiceAssociation { association_id };
            leave("association of the service", &seen.status, GONE, plan, action);
        } else if of_ours {
            gone = false;
            in_use(&format!("service association {}", seen.owned.id), plan);
        }
    }
    gone
}

fn service(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) -> bool {
    let Some(seen) = observed.service.as_ref().filter(|service| service.owned.ours) else { return true };
    let name = service_name(&spec.stack);
    // Deleting a service takes its listeners along.
    let action = Action::DeleteService { service_id: seen.owned.id.clone(), name: name.clone() };
    leave(&format!("service {name}"), &seen.status, GONE, plan, action);
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
    let Some(network) = observed.network.as_ref().map(|network| &network.owned) else { return true };
    let (mut gone, is_needed) = (true, serves_others(observed));
    for seen in observed.vpc_associations.iter().filter(|seen| seen.network_id == network.id) {
        if seen.owned.ours {
            gone = false;
            if is_needed {
                continue;
            }
            let what = format!("association of {}", seen.vpc_id);
            leave(&what, &seen.status, GONE, plan, delete_vpc_association(seen));
        } else if network.ours {
            gone = false;
            in_use(&format!("the association of {} ({})", seen.vpc_id, seen.owned.id), plan);
        }
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
    let ours = observed.estate.ingress.iter().map(|rule| (&spec.targets.security_group_id, rule));
    for (group, rule) in ours.chain(estate::former(&observed.estate)) {
        let (security_group_id, rule_id) = (group.clone(), rule.rule_id.clone());
        plan.step(Action::RevokeIngress { security_group_id, rule_id }, GONE);
    }
}

/// Whether `id` is that of a resource of ours.
fn is(id: &str, owned: Option<&Owned>) -> bool {
    owned.is_some_and(|owned| owned.ours && owned.id == id)
}

/// Somebody else's thing hangs on ours: VPC Lattice will not delete ours, and we do not delete theirs.
fn in_use(what: &str, plan: &mut Plan<Action>) {
    plan.block(BlockCode::Foreign, format!("{what} is not ours and holds what is to be deleted; remove it first"));
}
