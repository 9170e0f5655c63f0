//! The service, its listener, its place in the network, and its name in DNS.

use std::collections::BTreeSet;

use super::Look;
use super::family::{Family, Share};
use super::fleet::Fleet;
use super::life::{is_leaving, settled};
use super::replace::CONNECTION_S;
use crate::id::HostedZoneId;
use crate::network::action::Action;
use crate::network::observed::{DnsEntry, Estate, SeenListener, SeenService};
use crate::network::{SOON_S, listener_name, service_name};
use crate::plan::{BlockCode, Plan};
use crate::spec::Spec;
use crate::tag;

/// A service's idle timeout if nobody set one (VPC Lattice user guide, TLS listeners).
const DEFAULT_IDLE_TIMEOUT_S: u16 = 60;

impl<'a> Look<'a> {
    pub(super) fn service(&self, plan: &mut Plan<Action>) -> Option<&'a SeenService> {
        let name = service_name(&self.spec.stack);
        let wanted = &self.spec.service;
        let Some(seen) = &self.observed.service else {
            let action = Action::CreateService {
                token: self.token("Service", &name),
                name,
                custom_domain_name: wanted.domain_name.clone(),
                idle_timeout_seconds: wanted.idle_timeout_seconds,
                tags: tag::in_zones(&self.spec.stack, &self.observed.estate.hosted_zone.iter().cloned().collect()),
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
        if seen.custom_domain_name.as_deref() != Some(wanted.domain_name.as_str()) {
            plan.block(
                BlockCode::Immutable,
                format!(
                    "service {name} answers for {old:?}; VPC Lattice cannot change that to {:?} in place, and another service \
                     is another stack. Beside this one, with its network as serviceNetworkId, it costs clients nothing: they \
                     move, then this one is taken down under the name {old:?}, but for network and VPC associations, which \
                     stay while the other uses them. In its place it costs an outage: from the teardown until the new service \
                     is there and clients use the new name, minutes at least",
                    wanted.domain_name.as_str(),
                    old = seen.custom_domain_name.as_deref().unwrap_or_default(),
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

    pub(super) fn listener(
        &self,
        service: &SeenService,
        family: &Family<'a>,
        fleet: &Fleet,
        is_admitted: bool,
        plan: &mut Plan<Action>,
    ) {
        let port = self.spec.service.port;
        let shares = &family.shares;
        // It begins with the fullest group; the others come into use one after another.
        let Some(Share { group, .. }) = shares.iter().rev().max_by_key(|share| share.targets) else { return };
        let service_id = service.owned.id.clone();
        let Some(seen) = self.observed.listeners.iter().find(|listener| listener.port == port) else {
            let token = self.token("Listener", &format!("{service_id}/{port}"));
            let (name, target_group_id) = (listener_name(&self.spec.stack, port), group.owned.id.clone());
            let tags = self.tags();
            let action = Action::CreateListener { service_id, name, port, target_group_id, tags, token };
            plan.step(action, self.opening(port));
            return;
        };
        let what = format!("listener on port {port}");
        if !self.accept(&what, &seen.owned, plan) || !is_passthrough(seen, plan) {
            return;
        }
        // Clients go only where VPC Lattice is let in: a rule may be refused for good (quota).
        let moving = fleet.moving(self.observed, &family.names);
        let are_checked = family.groups.iter().all(|group| self.is_checked_as_wanted(group));
        let is_ready = is_admitted && are_checked && !moving.is_empty() && self.are_registered(&moving);
        self.forwards(service_id, seen, shares, is_ready, plan);
        self.former_listeners(service, seen, shares, is_ready, plan);
    }

    /// Why a listener is made, and what it costs the clients of those whose place it takes.
    fn opening(&self, port: u16) -> String {
        let others = self.observed.listeners.iter().filter(|one| one.owned.ours && one.port != port);
        let others: Vec<String> = others.map(|one| one.port.to_string()).collect();
        if others.is_empty() {
            return "missing".to_owned();
        }
        let (former, minutes) = (others.join(", "), CONNECTION_S / 60);
        format!(
            "missing; it takes the place of port {former}: both serve for {minutes} minutes, then {former} closes, and whoever \
             still connects there fails"
        )
    }

    /// Listeners of ours on other ports: left behind by a change. Clients get as long to come to the new one as a
    /// connection lives. Whoever still comes to the old one is led to the wanted group first, as through the new one: when
    /// it has closed, nobody can tell any more how long ago it sent clients elsewhere.
    fn former_listeners(
        &self,
        service: &SeenService,
        current: &SeenListener,
        shares: &[Share<'_>],
        is_ready: bool,
        plan: &mut Plan<Action>,
    ) {
        let left_s = CONNECTION_S.saturating_sub(self.since_s(current.changed_at));
        let (port, service_id) = (current.port, &service.owned.id);
        for former in self.observed.listeners.iter().filter(|one| one.owned.ours && one.port != port) {
            if !self.is_led_there(former, shares) {
                self.forwards(service_id.clone(), former, shares, is_ready, plan);
            } else if left_s > 0 {
                let on = format!(
                    "clients of port {} to come to port {port}; then it closes, and they fail there",
                    former.port
                );
                plan.wait(on, left_s);
            } else {
                let (service_id, listener_id) = (service_id.clone(), former.owned.id.clone());
                let because =
                    format!("port {port} has taken the place of port {}; who still uses it fails", former.port);
                plan.step(Action::DeleteListener { service_id, listener_id }, because);
            }
        }
    }

    pub(super) fn service_association(&self, network_id: &str, service: &SeenService, plan: &mut Plan<Action>) {
        let service_id = &service.owned.id;
        if let Some(elsewhere) = self.elsewhere(network_id, service_id) {
            plan.block(
                BlockCode::Immutable,
                format!(
                    "the service is in service network {elsewhere}; moving it to {network_id} would cut its clients off: \
                     tear the stack down first, or use another stack name"
                ),
            );
            return;
        }
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
            self.name(service, plan);
        }
    }

    pub(super) fn is_associated(&self, network_id: &str, service: &SeenService) -> bool {
        let mut of_both = self.observed.service_associations.iter();
        of_both.any(|seen| seen.network_id == network_id && seen.service_id == service.owned.id)
    }

    /// Another network into which we put the service under a former spec.
    fn elsewhere(&self, network_id: &str, service_id: &str) -> Option<&str> {
        let mut ours = self.observed.service_associations.iter().filter(|seen| seen.owned.ours);
        let other = ours.find(|seen| seen.service_id == service_id && seen.network_id != network_id);
        other.filter(|other| !is_leaving(&other.status)).map(|other| other.network_id.as_str())
    }

    /// The service's name in DNS.
    fn name(&self, service: &SeenService, plan: &mut Plan<Action>) {
        let Some(target) = &service.dns_entry else {
            plan.wait("the service's generated domain name", SOON_S);
            return;
        };
        if self.private_zone(plan) && self.record(service, target, plan) && self.zone_in_place(plan) {
            self.former_records(service, plan);
            self.former_zones(plan);
        }
    }

    /// Whether the record is there and leads to the service.
    fn record(&self, service: &SeenService, target: &DnsEntry, plan: &mut Plan<Action>) -> bool {
        let name = &self.spec.service.domain_name;
        let (former, because) = match &self.observed.record {
            None => (None, "missing"),
            Some(seen) => match &seen.alias {
                Some(alias) if alias == target => return true,
                Some(alias) if self.is_ours(alias) => (Some(alias.clone()), "it points to a former service of ours"),
                Some(_) | None => {
                    plan.block(
                        BlockCode::Foreign,
                        format!("an A record {name} exists and does not point to this stack's service; remove it"),
                    );
                    return false;
                }
            },
        };
        // That it is missing was told.
        let Some(hosted_zone_id) = self.observed.estate.hosted_zone.clone() else { return false };
        if !service.record_zones.contains(&hosted_zone_id) {
            let mut zones = service.record_zones.clone();
            zones.insert(hosted_zone_id);
            self.remember_zones(service, &zones, "before a record is written in another zone", plan);
            return false;
        }
        let (name, target) = (name.clone(), target.clone());
        plan.step(Action::WriteRecord { hosted_zone_id, name, former, target }, because);
        false
    }

    /// Records of ours in zones of former specs: they go when the one in the zone of now is there.
    fn former_records(&self, service: &SeenService, plan: &mut Plan<Action>) {
        let Some(zone) = &self.observed.estate.hosted_zone else { return };
        let mut are_gone = true;
        // What is in a zone of the stack's own goes with the zone.
        let of_others = |zone: &HostedZoneId| self.observed.estate.private_zones.iter().all(|one| one.id != *zone);
        for (former, seen) in self.observed.former_records.iter().filter(|(zone, _)| of_others(zone)) {
            let Some(target) = seen.alias.clone().filter(|alias| self.is_ours(alias)) else { continue };
            are_gone = false;
            let (hosted_zone_id, name) = (former.clone(), self.spec.service.domain_name.clone());
            let because = format!("the record is in zone {zone} now");
            plan.step(Action::DeleteRecord { hosted_zone_id, name, target }, because);
        }
        let only = [zone.clone()].into();
        if are_gone && service.record_zones != only {
            self.remember_zones(service, &only, "the record is in this zone alone", plan);
        }
    }

    /// Whether a record points to a service of this stack.
    fn is_ours(&self, alias: &DnsEntry) -> bool {
        is_our_name(self.spec, &self.observed.estate, alias)
    }

    fn remember_zones(
        &self,
        service: &SeenService,
        zones: &BTreeSet<HostedZoneId>,
        because: &str,
        plan: &mut Plan<Action>,
    ) {
        let (arn, what) = (service.owned.arn.clone(), "service (hosted zones)".to_owned());
        plan.step(Action::Tag { arn, what, tags: tag::in_zones(&self.spec.stack, zones) }, because);
    }
}

/// Whether a record points to a service of this stack, present or former. Records carry no tags; a generated name
/// begins with the service's name, which is the stack's, and the service's id, and says its Region (VPC Lattice user guide,
/// services): a stack of the same name in another Region is another stack. An id has no hyphen, so that the services of
/// `api` and of `api-v2` are told apart.
pub(in crate::network) fn is_our_name(spec: &Spec, estate: &Estate, alias: &DnsEntry) -> bool {
    let rest = alias.domain_name.strip_prefix(&format!("{}-", service_name(&spec.stack)));
    let here = format!("vpc-lattice-svcs.{}.", estate.region);
    let id = rest.and_then(|rest| rest.split_once('.')).filter(|(_, zone)| zone.contains(&here));
    id.is_some_and(|(id, _)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
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
