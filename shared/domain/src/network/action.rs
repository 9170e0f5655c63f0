//! The steps `provision` can take. Each carries everything its call needs; executing one makes no choice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::observed::DnsEntry;
use crate::id::{HostName, HostedZoneId, LogDestination, SecurityGroupId, TargetId, VpcId};
use crate::spec::{HealthCheckOn, TargetKind};

/// What a target group is created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroupWant {
    /// Its name.
    pub name: String,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// What it holds.
    pub kind: TargetKind,
    /// Its port.
    pub port: u16,
    /// Its health check; `None` for none.
    pub health_check: Option<HealthCheckOn>,
}

/// Who is admitted to the targets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum IngressSource {
    /// A managed prefix list.
    PrefixList(String),
    /// A security group.
    Group(SecurityGroupId),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the parameters of the call of the same name")]
pub enum Action {
    CreateServiceNetwork {
        name: String,
        tags: BTreeMap<String, String>,
        token: String,
    },
    AssociateVpc {
        network_id: String,
        vpc_id: VpcId,
        security_group_ids: BTreeSet<SecurityGroupId>,
        tags: BTreeMap<String, String>,
        token: String,
    },
    UpdateVpcAssociation {
        association_id: String,
        vpc_id: VpcId,
        security_group_ids: BTreeSet<SecurityGroupId>,
    },
    CreateTargetGroup {
        want: TargetGroupWant,
        tags: BTreeMap<String, String>,
        token: String,
    },
    UpdateHealthCheck {
        target_group_id: String,
        name: String,
        health_check: Option<HealthCheckOn>,
    },
    RegisterTargets {
        target_group_id: String,
        name: String,
        targets: Vec<TargetId>,
        port: u16,
    },
    DeregisterTargets {
        target_group_id: String,
        name: String,
        targets: Vec<(String, u16)>,
    },
    CreateService {
        name: String,
        custom_domain_name: HostName,
        idle_timeout_seconds: Option<u16>,
        tags: BTreeMap<String, String>,
        token: String,
    },
    UpdateIdleTimeout {
        service_id: String,
        name: String,
        idle_timeout_seconds: u16,
    },
    PutAuthPolicy {
        service_id: String,
        name: String,
        policy: String,
    },
    SubscribeAccessLogs {
        service_id: String,
        name: String,
        destination: LogDestination,
        tags: BTreeMap<String, String>,
        token: String,
    },
    UpdateAccessLogs {
        subscription_id: String,
        name: String,
        destination: LogDestination,
    },
    DeleteAccessLogs {
        subscription_id: String,
        name: String,
        /// As VPC Lattice tells it; for the reader.
        destination: String,
    },
    /// Has the auth policy in force.
    RequireAuth {
        service_id: String,
        name: String,
    },
    /// Has no auth policy in force, and then none at all.
    DropAuth {
        service_id: String,
        name: String,
    },
    CreateListener {
        service_id: String,
        name: String,
        port: u16,
        target_group_id: String,
        tags: BTreeMap<String, String>,
        token: String,
    },
    UpdateListener {
        service_id: String,
        listener_id: String,
        name: String,
        /// Target groups and their weights, all of them.
        forwards: Vec<(String, u32)>,
    },
    AssociateService {
        network_id: String,
        service_id: String,
        tags: BTreeMap<String, String>,
        token: String,
    },
    CreatePrivateZone {
        name: HostName,
        /// Its first VPC: a private zone is never without one.
        vpc_id: VpcId,
        /// Whose it is.
        comment: String,
        token: String,
    },
    AssociateZone {
        hosted_zone_id: HostedZoneId,
        vpc_id: VpcId,
    },
    DisassociateZone {
        hosted_zone_id: HostedZoneId,
        vpc_id: VpcId,
    },
    WriteRecord {
        hosted_zone_id: HostedZoneId,
        name: HostName,
        /// The alias of ours whose place it takes; `None` where there was no record.
        former: Option<DnsEntry>,
        target: DnsEntry,
    },
    AuthorizeIngress {
        security_group_id: SecurityGroupId,
        source: IngressSource,
        port: u16,
        description: String,
    },
    /// Writes down, in the `espalier:spec-hash` tag, under which spec nothing was left to do.
    Tag {
        arn: String,
        what: String,
        tags: BTreeMap<String, String>,
    },
    DeleteRecord {
        hosted_zone_id: HostedZoneId,
        name: HostName,
        target: DnsEntry,
    },
    DeletePrivateZone {
        hosted_zone_id: HostedZoneId,
        name: String,
    },
    DeleteServiceAssociation {
        association_id: String,
    },
    DeleteListener {
        service_id: String,
        listener_id: String,
    },
    DeleteService {
        service_id: String,
        name: String,
    },
    DeleteTargetGroup {
        target_group_id: String,
        name: String,
    },
    DeleteVpcAssociation {
        association_id: String,
        vpc_id: VpcId,
    },
    DeleteServiceNetwork {
        network_id: String,
        name: String,
    },
    RevokeIngress {
        security_group_id: SecurityGroupId,
        rule_id: String,
    },
    /// With the result `CONTINUE`; no other is ever given.
    CompleteLifecycleAction {
        group: String,
        hook: String,
        instance: TargetId,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateServiceNetwork { name, .. } => write!(f, "+ ServiceNetwork {name}"),
            Self::AssociateVpc { vpc_id, .. } => write!(f, "+ VpcAssociation {vpc_id}"),
            Self::UpdateVpcAssociation { vpc_id, .. } => write!(f, "~ VpcAssociation {vpc_id}"),
            Self::CreateTargetGroup { want, .. } => write!(f, "+ TargetGroup {}", want.name),
            Self::UpdateHealthCheck { name, .. } => write!(f, "~ TargetGroup {name} health check"),
            Self::RegisterTargets { name, targets, .. } => {
                let list: Vec<&str> = targets.iter().map(TargetId::as_str).collect();
                write!(f, "+ Targets {} in {name}", list.join(" "))
            }
            Self::DeregisterTargets { name, targets, .. } => {
                let list: Vec<&str> = targets.iter().map(|(id, _)| id.as_str()).collect();
                write!(f, "- Targets {} in {name}", list.join(" "))
            }
            Self::CreateService { name, custom_domain_name, .. } => {
                write!(f, "+ Service {name} ({custom_domain_name})")
            }
            Self::UpdateIdleTimeout { name, idle_timeout_seconds, .. } => {
                write!(f, "~ Service {name} idle timeout {idle_timeout_seconds} s")
            }
            Self::PutAuthPolicy { name, .. } => write!(f, "~ Service {name} auth policy"),
            Self::SubscribeAccessLogs { name, destination, .. } => write!(f, "+ AccessLogs {name} -> {destination}"),
            Self::UpdateAccessLogs { name, destination, .. } => write!(f, "~ AccessLogs {name} -> {destination}"),
            Self::DeleteAccessLogs { name, destination, subscription_id } => {
                write!(f, "- AccessLogs {name} -> {destination} ({subscription_id})")
            }
            Self::RequireAuth { name, .. } => write!(f, "~ Service {name} auth type AWS_IAM"),
            Self::DropAuth { name, .. } => write!(f, "~ Service {name} auth type NONE"),
            Self::CreateListener { name, port, .. } => write!(f, "+ Listener {name} (TLS_PASSTHROUGH, port {port})"),
            Self::UpdateListener { name, forwards, .. } => {
                let list: Vec<String> = forwards.iter().map(|(id, weight)| format!("{id}:{weight}")).collect();
                write!(f, "~ Listener {name} -> {}", list.join(" "))
            }
            Self::AssociateService { .. } => write!(f, "+ ServiceAssociation"),
            Self::CreatePrivateZone { name, vpc_id, .. } => write!(f, "+ HostedZone {name} (private, in {vpc_id})"),
            Self::AssociateZone { hosted_zone_id, vpc_id } => write!(f, "+ ZoneAssociation {hosted_zone_id} {vpc_id}"),
            Self::DisassociateZone { hosted_zone_id, vpc_id } => {
                write!(f, "- ZoneAssociation {hosted_zone_id} {vpc_id}")
            }
            Self::WriteRecord { name, target, .. } => write!(f, "+ Record {name} -> {}", target.domain_name),
            Self::AuthorizeIngress { security_group_id, source, port, .. } => {
                write!(f, "+ Ingress {security_group_id} tcp {port} from {source}")
            }
            Self::Tag { what, .. } => write!(f, "~ Tags {what}"),
            Self::DeleteRecord { name, hosted_zone_id, .. } => write!(f, "- Record {name} in {hosted_zone_id}"),
            Self::DeletePrivateZone { hosted_zone_id, name } => write!(f, "- HostedZone {name} ({hosted_zone_id})"),
            Self::DeleteServiceAssociation { association_id } => write!(f, "- ServiceAssociation {association_id}"),
            Self::DeleteListener { listener_id, .. } => write!(f, "- Listener {listener_id}"),
            Self::DeleteService { name, .. } => write!(f, "- Service {name}"),
            Self::DeleteTargetGroup { name, .. } => write!(f, "- TargetGroup {name}"),
            Self::DeleteVpcAssociation { vpc_id, .. } => write!(f, "- VpcAssociation {vpc_id}"),
            Self::DeleteServiceNetwork { name, .. } => write!(f, "- ServiceNetwork {name}"),
            Self::RevokeIngress { security_group_id, rule_id } => write!(f, "- Ingress {security_group_id} {rule_id}"),
            Self::CompleteLifecycleAction { hook, instance, .. } => write!(f, "~ LifecycleHook {hook} {instance}"),
        }
    }
}

impl fmt::Display for IngressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefixList(id) => f.write_str(id),
            Self::Group(id) => write!(f, "{id}"),
        }
    }
}
