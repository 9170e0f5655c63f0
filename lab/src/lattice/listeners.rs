//! Listeners, their default action, and which target takes a connection.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Facts, admits};
use super::groups::targets_open_to_traffic;
use super::page::{Page, page};
use super::rules::{Fault, Rule};
use super::state::{
    Action, Group, Listener, ListenerProtocol, Moment, Phase, State, Weighted, look_up_mut, stamp, tail,
};
use super::tally::Tally;
use super::{Answer, input};
use crate::fabric::Network;

const LISTENERS_PER_SERVICE: usize = 2;
const GROUPS_PER_SERVICE: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateListener {
    service_identifier: String,
    name: String,
    protocol: String,
    port: Option<u16>,
    default_action: ActionInput,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListenerInput {
    service_identifier: String,
    listener_identifier: String,
    default_action: Option<ActionInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceInput {
    service_identifier: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionInput {
    forward: Option<ForwardInput>,
    fixed_response: Option<FixedResponseInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ForwardInput {
    target_groups: Vec<WeightedInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WeightedInput {
    target_group_identifier: String,
    weight: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FixedResponseInput {
    status_code: u16,
}

impl State {
    pub(super) fn create_listener(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: CreateListener = input(request)?;
        let (service_id, service) = self.service(&wanted.service_identifier)?;
        if !service.life.is_active() {
            return Err(Fault::about(Rule::ServiceNotActive, "SERVICE", &service_id));
        }
        let (protocol, default_port) = match wanted.protocol.as_str() {
            "HTTP" => (ListenerProtocol::Http, Some(80)),
            "HTTPS" => (ListenerProtocol::Https, Some(443)),
            _ => (ListenerProtocol::TlsPassthrough, None),
        };
        if protocol == ListenerProtocol::TlsPassthrough && service.custom_domain.is_none() {
            return Err(Fault::field(Rule::TlsNeedsCustomDomain, "protocol", service.name.as_str()));
        }
        let port = wanted.port.or(default_port).ok_or_else(|| Fault::field(Rule::Shape, "port", "is required"))?;
        let action = self.parse_action(&service_id, protocol, wanted.default_action)?;
        for (id, other) in self.listeners_of(&service_id) {
            if other.name == wanted.name {
                return Err(Fault::about(Rule::NameTaken, "LISTENER", id));
            }
            if other.port == port {
                return Err(Fault::about(Rule::PortTaken, "LISTENER", id));
            }
        }
        if self.listeners_of(&service_id).count() >= LISTENERS_PER_SERVICE {
            return Err(Fault::about(Rule::ListenerQuota, "LISTENER", &service_id));
        }
        self.begin_using(&action, now);
        let (service, name) = (service_id, wanted.name);
        let listener = Listener { service, name, protocol, port, action, created: now, updated: now };
        let id = self.issue("listener-");
        self.listeners.insert(id.clone(), listener);
        self.listener_members(&id)
    }

    /// A target group that comes into use starts like a new one: its targets are INITIAL again.
    fn begin_using(&mut self, action: &Action, now: Moment) {
        let initial_until = now + self.options.register_delay;
        for weighted in action.groups() {
            if self.services_using(&weighted.group).is_empty()
                && let Some(group) = self.groups.get_mut(&weighted.group)
            {
                group.targets.values_mut().for_each(|target| target.initial_until = initial_until);
            }
        }
    }

    fn parse_action(&self, service: &str, protocol: ListenerProtocol, given: ActionInput) -> Result<Action, Fault> {
        let tls = protocol == ListenerProtocol::TlsPassthrough;
        let Some(forward) = given.forward else {
            let status = given.fixed_response.map_or(0, |fixed| fixed.status_code);
            return match status {
                _ if tls => Err(Fault::field(Rule::TlsOnlyForwards, "defaultAction", "fixedResponse")),
                404 | 500 => Ok(Action::FixedResponse(status)),
                _ => Err(Fault::field(Rule::FixedResponseStatus, "defaultAction", status.to_string())),
            };
        };
        let only = forward.target_groups.len() == 1;
        let mut groups = Vec::new();
        let mut named = BTreeSet::new();
        for given in forward.target_groups {
            let unknown =
                || Fault::about(Rule::ForwardUnknownGroup, "TARGET_GROUP", tail(&given.target_group_identifier));
            let (id, group) = self.group(&given.target_group_identifier).map_err(|_| unknown())?;
            if !named.insert(id.clone()) {
                return Err(Fault::field(Rule::ForwardTwice, "defaultAction.forward", &id));
            }
            self.check_forward(service, tls, &id, group)?;
            groups.push(Weighted { group: id, weight: given.weight.unwrap_or(if only { 100 } else { 1 }) });
        }
        let other = self.listeners_of(service).flat_map(|(_, listener)| listener.action.groups());
        let all: BTreeSet<&String> = other.chain(&groups).map(|weighted| &weighted.group).collect();
        if all.len() > GROUPS_PER_SERVICE {
            return Err(Fault::about(Rule::GroupsPerServiceQuota, "TARGET_GROUP", service));
        }
        Ok(Action::Forward(groups))
    }

    fn check_forward(&self, service: &str, tls: bool, id: &str, group: &Group) -> Result<(), Fault> {
        let tcp = group.protocol.as_deref() == Some("TCP");
        if tls && !tcp {
            return Err(Fault::field(Rule::TlsOnlyTcpGroups, "defaultAction.forward", id));
        }
        if tcp && !tls {
            return Err(Fault::field(Rule::TcpOnlyTlsListeners, "defaultAction.forward", id));
        }
        if !group.life.is_active() {
            return Err(Fault::about(Rule::GroupNotActive, "TARGET_GROUP", id));
        }
        if self.services_using(id).iter().any(|user| user != service) {
            return Err(Fault::about(Rule::GroupServesAnother, "TARGET_GROUP", id));
        }
        Ok(())
    }

    fn listener_members(&self, id: &str) -> Answer {
        let (id, listener) = super::state::look_up(&self.listeners, "LISTENER", id)?;
        let action = match &listener.action {
            Action::FixedResponse(status) => json!({"fixedResponse": {"statusCode": status}}),
            Action::Forward(groups) => {
                let member = |w: &Weighted| json!({"targetGroupIdentifier": w.group, "weight": w.weight});
                json!({"forward": {"targetGroups": groups.iter().map(member).collect::<Vec<_>>()}})
            }
        };
        Ok(json!({
            "id": id, "arn": self.listener_arn(&listener.service, &id), "name": listener.name,
            "protocol": listener.protocol.name(), "port": listener.port, "defaultAction": action,
            "serviceId": listener.service, "serviceArn": self.service_arn(&listener.service),
        }))
    }

    pub(super) fn get_listener(&self, request: &Value, now: Moment) -> Answer {
        let wanted: ListenerInput = input(request)?;
        let (id, listener) = self.listener(&wanted.service_identifier, &wanted.listener_identifier)?;
        let mut answer = self.listener_members(&id)?;
        super::services::put(&mut answer, "createdAt", Some(stamp(listener.created)));
        super::services::put(&mut answer, "lastUpdatedAt", Some(stamp(self.told(listener.updated, now))));
        Ok(answer)
    }

    pub(super) fn list_listeners(&self, request: &Value, now: Moment) -> Answer {
        let wanted: ServiceInput = input(request)?;
        let (service, _) = self.service(&wanted.service_identifier)?;
        let items = self.listeners_of(&service).map(|(id, listener)| {
            json!({
                "id": id, "arn": self.listener_arn(&service, id), "name": listener.name,
                "protocol": listener.protocol.name(), "port": listener.port,
                "createdAt": stamp(listener.created), "lastUpdatedAt": stamp(self.told(listener.updated, now)),
            })
        });
        page(&self.options, request, items).map(Page::answer)
    }

    pub(super) fn update_listener(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: ListenerInput = input(request)?;
        let (id, listener) = self.listener(&wanted.service_identifier, &wanted.listener_identifier)?;
        let given = wanted.default_action.ok_or_else(|| Fault::field(Rule::Shape, "defaultAction", "is required"))?;
        let action = self.parse_action(&listener.service, listener.protocol, given)?;
        self.begin_using(&action, now);
        let listener = look_up_mut(&mut self.listeners, "LISTENER", &id)?;
        (listener.action, listener.updated) = (action, now);
        self.listener_members(&id)
    }

    pub(super) fn delete_listener(&mut self, request: &Value) -> Answer {
        let wanted: ListenerInput = input(request)?;
        let (id, _) = self.listener(&wanted.service_identifier, &wanted.listener_identifier)?;
        self.listeners.remove(&id);
        Ok(json!({}))
    }

    /// A listener has its default rule and, here, no other.
    pub(super) fn list_rules(&self, request: &Value) -> Answer {
        let wanted: ListenerInput = input(request)?;
        let (id, listener) = self.listener(&wanted.service_identifier, &wanted.listener_identifier)?;
        let rule = id.replacen("listener-", "rule-", 1);
        let items = [json!({
            "id": rule, "arn": format!("{}/rule/{rule}", self.listener_arn(&listener.service, &id)),
            "name": "default", "isDefault": true,
            "createdAt": stamp(listener.created), "lastUpdatedAt": stamp(listener.updated),
        })];
        page(&self.options, request, items.into_iter()).map(Page::answer)
    }

    pub(super) fn create_rule(&self, request: &Value) -> Answer {
        let wanted: ListenerInput = input(request)?;
        let (id, listener) = self.listener(&wanted.service_identifier, &wanted.listener_identifier)?;
        Err(match listener.protocol {
            ListenerProtocol::TlsPassthrough => Fault::field(Rule::TlsOnlyDefaultRule, "listenerIdentifier", id),
            ListenerProtocol::Http | ListenerProtocol::Https => Fault::new(Rule::NoRules, id),
        })
    }
}

/// A listener that should accept connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Door {
    pub(super) listener: String,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
}

/// What the data plane has to know to judge one connection.
#[derive(Debug)]
pub(super) struct Gatekeeping {
    /// The ways in: associated VPCs.
    pub(super) vpcs: Vec<Way>,
    /// The name that the ClientHello must carry.
    pub(super) custom_domain: String,
    /// How long a connection may be silent.
    pub(super) idle: Duration,
    /// The service, for policies that test it.
    pub(super) service_arn: String,
    /// The service's auth policy, if authorization is asked for.
    pub(super) policy: Option<String>,
    /// Whose VPCs there are: the lab has one account.
    pub(super) account: String,
}

/// A VPC's way to a service: its association with a network that holds the service.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) vpc: String,
    /// The association's security groups.
    pub(super) groups: Vec<String>,
    pub(super) network_arn: String,
    /// The network's auth policy, if authorization is asked for.
    pub(super) policy: Option<String>,
}

impl Gatekeeping {
    /// Whether the policies admit a caller who comes this way; else whose does not (UG monitoring-access-logs:
    /// `authDeniedReason` is `Service` or `Network`).
    pub(super) fn authorize(&self, way: &Way, port: u16) -> Result<(), &'static str> {
        let facts = Facts::from([
            ("vpc-lattice-svcs:sourcevpc", way.vpc.clone()),
            ("vpc-lattice-svcs:sourcevpcowneraccount", self.account.clone()),
            ("vpc-lattice-svcs:servicenetworkarn", way.network_arn.clone()),
            ("vpc-lattice-svcs:servicearn", self.service_arn.clone()),
            ("vpc-lattice-svcs:port", port.to_string()),
        ]);
        let policies = [("Network", &way.policy), ("Service", &self.policy)];
        let denying = policies.into_iter().find(|(_, policy)| policy.as_ref().is_some_and(|it| !admits(it, &facts)));
        denying.map_or(Ok(()), |(whose, _)| Err(whose))
    }
}

/// The target chosen for a connection.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) tally: Arc<Tally>,
}

/// Reads for the data plane.
impl State {
    /// The TLS listeners of every service that is not being created.
    pub(super) fn doors(&self) -> Vec<Door> {
        let tls = self.listeners.iter().filter(|(_, listener)| listener.protocol == ListenerProtocol::TlsPassthrough);
        tls.filter_map(|(id, listener)| {
            let service = self.services.get(&listener.service)?;
            (service.life.phase != Phase::Creating).then(|| Door {
                listener: id.clone(),
                address: service.address,
                port: listener.port,
            })
        })
        .collect()
    }

    /// Who may come in through a listener; `None` once it is gone. An association being updated still works.
    pub(super) fn gatekeeping(&self, listener: &str) -> Option<Gatekeeping> {
        let listener = self.listeners.get(listener)?;
        let service = self.services.get(&listener.service)?;
        let works = |phase: Phase| matches!(phase, Phase::Active | Phase::Updating);
        let mut vpcs = Vec::new();
        for served in self.service_associations.values() {
            if served.service == listener.service && works(served.life.phase) {
                let clients = self.vpc_associations.values();
                let clients = clients.filter(|client| client.network == served.network && works(client.life.phase));
                vpcs.extend(clients.map(|client| Way {
                    vpc: client.vpc.clone(),
                    groups: client.security_groups.clone(),
                    network_arn: self.network_arn(&served.network),
                    policy: self.policy_in_force(&served.network),
                }));
            }
        }
        let idle = Duration::from_secs(service.idle_timeout_s);
        Some(Gatekeeping {
            vpcs,
            custom_domain: service.custom_domain.clone()?,
            idle,
            service_arn: self.service_arn(&listener.service),
            policy: self.policy_in_force(&listener.service),
            account: self.options.account.clone(),
        })
    }

    /// Chooses a target in weighted turns: first among target groups, then among the targets of the group.
    pub(super) fn route(&mut self, listener_id: &str, ec2: &Network, now: Moment) -> Option<Route> {
        let listener = self.listeners.get(listener_id)?;
        let groups = listener.action.groups();
        let turn = self.turns.entry(listener_id.to_owned()).or_default();
        let this_turn = *turn;
        *turn += 1;
        let total: u64 = groups.iter().map(|weighted| u64::from(weighted.weight)).sum();
        let mut left = this_turn.checked_rem(total)?;
        let chosen = groups.iter().find(|weighted| {
            let weight = u64::from(weighted.weight);
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        })?;
        let group = self.groups.get(&chosen.group)?;
        let open = targets_open_to_traffic(group, now);
        // Counting by rounds of all groups keeps a group's own targets in even turns.
        let own_turn = usize::try_from(this_turn / total.max(1) + this_turn % total.max(1)).ok()?;
        let ((id, port), tally) = open.get(own_turn.checked_rem(open.len())?)?;
        let address = match ec2.instances.get(id) {
            Some(instance) => instance.address,
            None => id.parse().ok()?,
        };
        Some(Route { address, port: *port, tally: tally.clone() })
    }
}
