//! Target groups and their targets.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::checker::Due;
use super::health::{Health, Requested};
use super::page::{Page, page};
use super::rules::{Fault, Rule};
use super::services::put;
use super::state::{Group, Life, Moment, Phase, State, Target, look_up_mut, stamp};
use super::tally::Tally;
use super::{Answer, input};
use crate::fabric::Network;

const GROUPS: usize = 500;
const TARGETS: usize = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateTargetGroup {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    port: Option<u16>,
    protocol: Option<String>,
    protocol_version: Option<String>,
    ip_address_type: Option<String>,
    vpc_identifier: Option<String>,
    health_check: Option<Requested>,
    lambda_event_structure_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupInput {
    target_group_identifier: String,
    #[serde(default)]
    health_check: Requested,
    #[serde(default)]
    targets: Vec<TargetInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetInput {
    id: String,
    port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupFilter {
    vpc_identifier: Option<String>,
    target_group_type: Option<String>,
}

/// Target groups.
impl State {
    pub(super) fn create_target_group(&mut self, request: &Value, ec2: &Network, now: Moment) -> Answer {
        let wanted: CreateTargetGroup = input(request)?;
        let config = wanted.config;
        check_config(&wanted.kind, &config, ec2)?;
        let health_check = config.health_check.clone().unwrap_or_default();
        let health_check = health_check.settle(&wanted.kind, config.protocol.as_deref())?;
        if let Some((id, _)) = self.groups.iter().find(|(_, group)| group.name == wanted.name) {
            return Err(Fault::about(Rule::NameTaken, "TARGET_GROUP", id));
        }
        if self.groups.len() >= GROUPS {
            return Err(Fault::about(Rule::GroupQuota, "TARGET_GROUP", ""));
        }
        let http = config.protocol.as_deref().is_some_and(|protocol| protocol != "TCP");
        let group = Group {
            name: wanted.name,
            address_type: (wanted.kind == "IP").then(|| config.ip_address_type.unwrap_or_else(|| "IPV4".into())),
            kind: wanted.kind,
            protocol: config.protocol,
            protocol_version: config.protocol_version.or_else(|| http.then(|| "HTTP1".into())),
            port: config.port,
            vpc: config.vpc_identifier,
            lambda_event_version: config.lambda_event_structure_version,
            health_check,
            targets: Default::default(),
            life: Life::begin(now, self.options.create_delay),
        };
        let id = self.issue("tg-");
        self.groups.insert(id.clone(), group);
        self.changed_group(&id)
    }

    /// The answer to creating and updating.
    fn changed_group(&self, id: &str) -> Answer {
        let (id, group) = self.group(id)?;
        Ok(json!({
            "id": id, "arn": self.group_arn(&id), "name": group.name, "type": group.kind,
            "config": config_members(group), "status": group.life.phase.status(),
        }))
    }

    pub(super) fn get_target_group(&self, request: &Value) -> Answer {
        let wanted: GroupInput = input(request)?;
        let (id, group) = self.group(&wanted.target_group_identifier)?;
        let mut answer = self.changed_group(&id)?;
        put(&mut answer, "createdAt", Some(stamp(group.life.created)));
        put(&mut answer, "lastUpdatedAt", Some(stamp(group.life.updated)));
        put(&mut answer, "serviceArns", Some(self.service_arns(&id)));
        Ok(answer)
    }

    fn service_arns(&self, group: &str) -> Value {
        self.services_using(group).iter().map(|service| Value::from(self.service_arn(service))).collect()
    }

    pub(super) fn list_target_groups(&self, request: &Value) -> Answer {
        let filter: GroupFilter = input(request)?;
        let wanted = self.groups.iter().filter(|(_, group)| {
            filter.vpc_identifier.as_deref().is_none_or(|vpc| group.vpc.as_deref() == Some(vpc))
                && filter.target_group_type.as_deref().is_none_or(|kind| group.kind == kind)
        });
        page(&self.options, request, wanted.map(|(id, group)| self.group_summary(id, group))).map(Page::answer)
    }

    fn group_summary(&self, id: &str, group: &Group) -> Value {
        let mut summary = json!({
            "id": id, "arn": self.group_arn(id), "name": group.name, "type": group.kind,
            "createdAt": stamp(group.life.created), "lastUpdatedAt": stamp(group.life.updated),
            "status": group.life.phase.status(), "serviceArns": self.service_arns(id),
        });
        put(&mut summary, "port", group.port.map(Value::from));
        put(&mut summary, "protocol", group.protocol.clone().map(Value::from));
        put(&mut summary, "vpcIdentifier", group.vpc.clone().map(Value::from));
        put(&mut summary, "ipAddressType", group.address_type.clone().map(Value::from));
        put(&mut summary, "lambdaEventStructureVersion", group.lambda_event_version.clone().map(Value::from));
        summary
    }

    pub(super) fn update_target_group(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: GroupInput = input(request)?;
        let id = wanted.target_group_identifier;
        let group = look_up_mut(&mut self.groups, "TARGET_GROUP", &id)?;
        if !group.life.is_active() {
            return Err(Fault::about(Rule::GroupNotActive, "TARGET_GROUP", super::state::tail(&id)));
        }
        let serving: Vec<_> = targets_open_to_traffic(group, now).into_iter().map(|(key, _)| key).collect();
        group.health_check = wanted.health_check.settle(&group.kind, group.protocol.as_deref())?;
        group.life.updated = now;
        for (key, target) in &mut group.targets {
            target.health = Health::unchecked(serving.contains(key));
        }
        self.changed_group(&id)
    }

    pub(super) fn delete_target_group(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: GroupInput = input(request)?;
        let (id, group) = self.group(&wanted.target_group_identifier)?;
        if !self.services_using(&id).is_empty() {
            return Err(Fault::about(Rule::GroupInUse, "TARGET_GROUP", &id));
        }
        if !group.targets.is_empty() {
            return Err(Fault::about(Rule::GroupHasTargets, "TARGET_GROUP", &id));
        }
        match group.life.phase {
            Phase::Creating | Phase::Updating => return Err(Fault::about(Rule::GroupNotActive, "TARGET_GROUP", &id)),
            Phase::Active => {
                let delay = self.options.delete_delay;
                look_up_mut(&mut self.groups, "TARGET_GROUP", &id)?.life.enter(Phase::Deleting, now, delay);
            }
            Phase::Deleting => {}
        }
        let status = self.group(&id)?.1.life.phase.status();
        Ok(json!({"id": id, "arn": self.group_arn(&id), "status": status}))
    }
}

/// What AWS refuses in a target group's configuration, whatever else exists.
fn check_config(kind: &str, config: &Config, ec2: &Network) -> Result<(), Fault> {
    let tcp = config.protocol.as_deref() == Some("TCP");
    if kind == "LAMBDA" {
        if tcp {
            return Err(Fault::field(Rule::TcpNoLambda, "type", "LAMBDA with protocol TCP"));
        }
        let set = [config.port.is_some(), config.protocol.is_some(), config.vpc_identifier.is_some()];
        if set.contains(&true) || config.health_check.is_some() {
            return Err(Fault::field(Rule::LambdaConfig, "config", "type LAMBDA"));
        }
        return Ok(());
    }
    let vpc = config.vpc_identifier.as_deref();
    let (Some(vpc), Some(_), Some(_)) = (vpc, config.port, config.protocol.as_deref()) else {
        return Err(Fault::field(Rule::GroupConfig, "config", format!("type {kind}")));
    };
    if !ec2.vpcs.contains_key(vpc) {
        return Err(Fault::field(Rule::UnknownVpc, "config.vpcIdentifier", vpc));
    }
    if let Some(version) = config.protocol_version.as_deref().filter(|_| tcp) {
        return Err(Fault::field(Rule::TcpNoProtocolVersion, "config.protocolVersion", version));
    }
    if let Some(family) = config.ip_address_type.as_deref().filter(|_| kind != "IP") {
        return Err(Fault::field(Rule::AddressTypeOnlyForIp, "config.ipAddressType", family));
    }
    Ok(())
}

fn config_members(group: &Group) -> Value {
    let mut config = json!({});
    put(&mut config, "port", group.port.map(Value::from));
    put(&mut config, "protocol", group.protocol.clone().map(Value::from));
    put(&mut config, "protocolVersion", group.protocol_version.clone().map(Value::from));
    put(&mut config, "vpcIdentifier", group.vpc.clone().map(Value::from));
    put(&mut config, "ipAddressType", group.address_type.clone().map(Value::from));
    put(&mut config, "lambdaEventStructureVersion", group.lambda_event_version.clone().map(Value::from));
    if group.kind != "LAMBDA" && group.kind != "ALB" {
        put(&mut config, "healthCheck", serde_json::to_value(&group.health_check).ok());
    }
    config
}

/// Targets.
impl State {
    pub(super) fn register_targets(&mut self, request: &Value, ec2: &Network, now: Moment) -> Answer {
        let wanted: GroupInput = input(request)?;
        let (id, group) = self.group(&wanted.target_group_identifier)?;
        if !group.life.is_active() {
            return Err(Fault::about(Rule::GroupNotActive, "TARGET_GROUP", &id));
        }
        let initial_until = now + self.options.register_delay;
        let group = look_up_mut(&mut self.groups, "TARGET_GROUP", &id)?;
        let (mut successful, mut unsuccessful) = (Vec::new(), Vec::new());
        for target in wanted.targets {
            // Load balancers and functions are not asked about: the lab has none.
            let port = target.port.or(group.port).unwrap_or(0);
            if let Err(fault) = check_target(group, &target.id, ec2) {
                unsuccessful.push(failure(&target.id, port, &fault));
                continue;
            }
            let key = (target.id.clone(), port);
            if !group.targets.contains_key(&key) && group.targets.len() >= TARGETS {
                return Err(Fault::about(Rule::TargetQuota, "TARGET_GROUP", &id));
            }
            let fresh =
                || Target { initial_until, draining_until: None, health: Health::default(), tally: Tally::new() };
            let known = group.targets.entry(key).or_insert_with(fresh);
            // Registering what is registered changes nothing; what is draining comes back (UG register-targets).
            if known.draining_until.take().is_some() {
                (known.initial_until, known.health) = (initial_until, Health::default());
            }
            successful.push(json!({"id": target.id, "port": port}));
        }
        Ok(json!({"successful": successful, "unsuccessful": unsuccessful}))
    }

    pub(super) fn deregister_targets(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: GroupInput = input(request)?;
        let (id, group) = self.group(&wanted.target_group_identifier)?;
        if !group.life.is_active() {
            return Err(Fault::about(Rule::GroupNotActive, "TARGET_GROUP", &id));
        }
        let used = !self.services_using(&id).is_empty();
        let until = now + if used { self.options.draining } else { std::time::Duration::ZERO };
        let group = look_up_mut(&mut self.groups, "TARGET_GROUP", &id)?;
        let (mut successful, mut unsuccessful) = (Vec::new(), Vec::new());
        for target in wanted.targets {
            let port = target.port.or(group.port).unwrap_or(0);
            match group.targets.get_mut(&(target.id.clone(), port)) {
                Some(known) => {
                    known.draining_until.get_or_insert(until);
                    successful.push(json!({"id": target.id, "port": port}));
                }
                None => {
                    let fault = Fault::new(Rule::TargetNotRegistered, format!("{}:{port}", target.id));
                    unsuccessful.push(failure(&target.id, port, &fault));
                }
            }
        }
        Ok(json!({"successful": successful, "unsuccessful": unsuccessful}))
    }

    pub(super) fn list_targets(&self, request: &Value, now: Moment) -> Answer {
        let wanted: GroupInput = input(request)?;
        let (id, group) = self.group(&wanted.target_group_identifier)?;
        let used = !self.services_using(&id).is_empty();
        let asked = |key: &(String, u16)| {
            let same = |t: &TargetInput| t.id == key.0 && t.port.is_none_or(|port| port == key.1);
            wanted.targets.is_empty() || wanted.targets.iter().any(same)
        };
        let items = group.targets.iter().filter(|(key, _)| asked(key)).map(
            |(key, target)| json!({"id": key.0, "port": key.1, "status": target_status(group, target, used, now)}),
        );
        page(&self.options, request, items).map(Page::answer)
    }
}

/// Health checks.
impl State {
    pub(super) fn has_health_checks(&self) -> bool {
        self.groups.values().any(|group| group.health_check.enabled && !group.targets.is_empty())
    }

    /// Every target that has to be checked, with where its check goes. Unused groups are not checked.
    pub(super) fn health_checks(&self, ec2: &Network) -> Vec<Due> {
        let mut all = Vec::new();
        for (id, group) in self.groups.iter().filter(|(_, group)| group.health_check.enabled) {
            if self.services_using(id).is_empty() {
                continue;
            }
            for (key, _) in group.targets.iter().filter(|(_, target)| target.draining_until.is_none()) {
                let instance = ec2.instances.get(&key.0).map(|instance| instance.address);
                if let Some(address) = instance.or_else(|| key.0.parse().ok()) {
                    let to = SocketAddr::new(address, group.health_check.port.unwrap_or(key.1));
                    all.push(Due { group: id.clone(), target: key.clone(), to, check: group.health_check.clone() });
                }
            }
        }
        all
    }
}

/// A target's status (API TargetSummary).
pub(super) fn target_status(group: &Group, target: &Target, used: bool, now: Moment) -> &'static str {
    if target.draining_until.is_some() {
        return "DRAINING";
    }
    if !used {
        return "UNUSED";
    }
    if now < target.initial_until {
        return "INITIAL";
    }
    match (group.health_check.enabled, target.health.healthy) {
        (false, _) => "UNAVAILABLE",
        (true, None) => "INITIAL",
        (true, Some(true)) => "HEALTHY",
        (true, Some(false)) => "UNHEALTHY",
    }
}

/// The targets that take new connections (UG target-group-health-checks): all that are registered when checks are off;
/// when on, the healthy ones and those in service before anything was checked; all of them when there are none.
pub(super) fn targets_open_to_traffic(group: &Group, now: Moment) -> Vec<((String, u16), Arc<Tally>)> {
    let with = |statuses: &[&str]| -> Vec<_> {
        let all = group.targets.iter().map(|(key, target)| (key, target, target_status(group, target, true, now)));
        let open = all.filter(|(_, target, status)| {
            statuses.contains(status)
                || (*status == "INITIAL" && now >= target.initial_until && target.health.is_in_service())
        });
        open.map(|(key, target, _)| (key.clone(), target.tally.clone())).collect()
    };
    if !group.health_check.enabled {
        return with(&["UNAVAILABLE"]);
    }
    let serving = with(&["HEALTHY"]);
    if serving.is_empty() { with(&["UNHEALTHY"]) } else { serving }
}

fn check_target(group: &Group, id: &str, ec2: &Network) -> Result<(), Fault> {
    let vpc = group.vpc.as_deref().unwrap_or_default();
    match group.kind.as_str() {
        "INSTANCE" => {
            let instance = ec2.instances.get(id).ok_or_else(|| Fault::new(Rule::TargetUnknown, id))?;
            if instance.vpc != vpc {
                return Err(Fault::new(Rule::TargetElsewhere, format!("{id} is in {}, not in {vpc}", instance.vpc)));
            }
            if instance.state != "running" {
                return Err(Fault::new(Rule::TargetNotRunning, format!("{id} is {}", instance.state)));
            }
        }
        "IP" => {
            let address: IpAddr = id.parse().map_err(|_| Fault::new(Rule::TargetUnknown, id))?;
            let family = if address.is_ipv6() { "IPV6" } else { "IPV4" };
            if group.address_type.as_deref().is_some_and(|of_group| of_group != family) {
                return Err(Fault::new(Rule::TargetFamily, id));
            }
            if !ec2.subnets.values().any(|subnet| subnet.vpc == vpc && subnet.block.contains(address)) {
                return Err(Fault::new(Rule::TargetElsewhere, format!("{id} is in no subnet of {vpc}")));
            }
        }
        _ => return Err(Fault::new(Rule::TargetUnknown, id)),
    }
    Ok(())
}

fn failure(id: &str, port: u16, fault: &Fault) -> Value {
    json!({"id": id, "port": port, "failureCode": fault.rule.code(), "failureMessage": fault.message()})
}
