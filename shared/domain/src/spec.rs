//! The spec of a stack: what its writer wants, parsed once into types that cannot hold a passthrough stack AWS refuses.
//!
//! Three layers, each reporting everything it finds: the `shape` table (fields, types, ranges, identifiers; the JSON
//! Schema is printed from the same table), the typed document below, and the `rules` that compare fields.

mod allowed;
mod auth;
mod certificate;
mod change;
mod document;
mod health_check;
mod key_type;
mod others;
mod rules;
mod shape;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

pub use allowed::{AllowedDomains, NotADomain};
pub use auth::AuthPolicy;
pub use certificate::{AcmRequest, AcmSource, Certificate, Custody, Follow, Issuer, Sharing};
pub use change::{CHANGES, Change, FieldChange, page as changes_page};
pub use health_check::{HealthCheck, HealthCheckOn, HealthCheckProtocol, HealthCheckVersion};
pub use key_type::KeyType;
pub use others::{Others, Trust};

use crate::id::{
    HostName, HostedZoneId, LogDestination, NodeId, ProberName, SecurityGroupId, ServiceId, ServiceNetworkRef,
    StackName, SubnetId, TargetGroupId, TargetId, VpcId,
};
use crate::rotation::calendar::{Freeze, Window};

/// A stack as its writer wants it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The stack; the last segment of the spec's parameter name, too.
    pub stack: StackName,
    /// Who answers for it; named in every event.
    pub owner: String,
    /// Whom to notify beside the owner.
    #[serde(default)]
    pub notify: Vec<String>,
    /// How much is Espalier's.
    #[serde(default)]
    pub manage: Manage,
    /// The estate that somebody else manages; there exactly with `manage: rotation`.
    #[serde(default)]
    pub lattice: Option<Given>,
    /// Whether the stack shall exist.
    #[serde(default)]
    pub state: State,
    /// What becomes of drift.
    #[serde(default)]
    pub drift: Drift,
    /// Whether `state: absent` is refused.
    #[serde(default = "yes")]
    pub deletion_protection: bool,
    /// The networks it lives in.
    pub network: Network,
    /// What clients see.
    pub service: Service,
    /// Who serves.
    pub targets: Targets,
    /// What the targets prove themselves with.
    pub certificate: Certificate,
    /// How a new certificate reaches them.
    #[serde(default)]
    pub rollout: Rollout,
    /// What VPC Lattice checks by itself.
    #[serde(default)]
    pub health_check: HealthCheck,
    /// Who verifies.
    pub prober: Prober,
    #[serde(skip)]
    hash: String,
}

/// How much of the stack belongs to Espalier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Manage {
    /// Lattice, DNS and rotation.
    #[default]
    Stack,
    /// Only the rotation; the Lattice estate is somebody else's, is given by id, and is only read.
    Rotation,
    /// Nothing: targets are dialled and judged, and nothing is changed anywhere.
    Nothing,
}

/// A Lattice estate that belongs to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// The service.
    pub service_id: ServiceId,
    /// The target groups that its TLS listener forwards to, all of them.
    pub target_group_ids: Vec<TargetGroupId>,
}

/// Whether the stack shall exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It shall.
    #[default]
    Present,
    /// It shall be torn down; refused while deletion protection is on.
    Absent,
}

/// What becomes of a difference that nobody asked for in the spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Drift {
    /// It is repaired.
    #[default]
    Repair,
    /// It is told, as event and metric, and stays.
    Report,
}

/// The VPCs the stack lives in. They belong to the user; Espalier reads them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The targets' VPC.
    pub vpc_id: VpcId,
    /// The targets' subnets.
    pub subnet_ids: Vec<SubnetId>,
    /// A service network that is somebody else's, or shared to us: used, never changed. Else the stack has its own.
    #[serde(default)]
    pub service_network_id: Option<ServiceNetworkRef>,
    /// The VPCs whose clients may use the service; with a network of somebody else's there may be none.
    #[serde(default)]
    pub consumers: Vec<Consumer>,
}

/// A VPC that is associated with the service network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consumer {
    /// The VPC.
    pub vpc_id: VpcId,
    /// The association's security groups, 1 to 5: without one, everything in the VPC may connect, and a list that was
    /// once filled cannot be emptied again.
    pub security_group_ids: Vec<SecurityGroupId>,
}

/// What clients see.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// The custom domain; VPC Lattice matches the ClientHello's server name against it, exactly.
    pub domain_name: HostName,
    /// The listener's port.
    pub port: u16,
    /// How long a connection may be idle, 60 to 600 seconds; VPC Lattice's default is 60.
    #[serde(default)]
    pub idle_timeout_seconds: Option<u16>,
    /// Who may connect; everybody whom the network's associations admit, if left out.
    #[serde(default)]
    pub auth_policy: Option<AuthPolicy>,
    /// Where access logs go; nowhere if left out.
    #[serde(default)]
    pub access_logs: Option<AccessLogs>,
    /// Where the name is published.
    pub dns: Dns,
}

/// Where access logs go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLogs {
    /// The bucket, log group or stream.
    pub destination_arn: LogDestination,
}

/// Where the custom domain is published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Dns {
    /// In this existing hosted zone, associated with the consumers' VPCs.
    HostedZoneId(HostedZoneId),
    /// In the one private hosted zone of this name among those that are associated with the consumers' VPCs.
    HostedZoneName(HostName),
    /// In a private hosted zone of the stack's own: made, associated with the consumers' VPCs, and deleted with the stack.
    PrivateZone {
        /// The zone's name: the domain name, or a domain that it is in.
        name: HostName,
    },
}

impl Dns {
    /// The zone, if the spec gives its id.
    pub fn zone_id(&self) -> Option<&HostedZoneId> {
        match self {
            Self::HostedZoneId(id) => Some(id),
            Self::HostedZoneName(_) | Self::PrivateZone { .. } => None,
        }
    }
}

/// Who serves.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    /// Where the targets serve TLS.
    pub port: u16,
    /// The group on the targets in which Espalier keeps its ingress rules.
    pub security_group_id: SecurityGroupId,
    /// How many inbound rules that group may have, where the account's quota was raised.
    #[serde(default = "sixty")]
    pub rules_per_group: u32,
    /// How many targets one target group takes, where the account's quota differs or the fleet is to be spread.
    #[serde(default = "thousand")]
    pub targets_per_group: u32,
    /// Which instances.
    pub select: Select,
    /// A target that fails its verification is taken out of service only while so many others stay.
    #[serde(default = "one")]
    pub minimum_in_service: u32,
}

/// Who the targets are. Each instance, and each node, must carry the tag `espalier:stack` with the stack's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Select {
    /// These.
    InstanceIds(Vec<TargetId>),
    /// All that carry this tag.
    Tag {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// All instances of these Auto Scaling groups.
    AutoScalingGroups(Vec<String>),
    /// Whatever answers at these addresses.
    Addresses(Vec<AddressTarget>),
    /// Whatever answers to these names, wherever they lead: looked at and never registered.
    Hosts(Vec<HostName>),
}

/// A target that is registered by its address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressTarget {
    /// Where it serves, in a subnet of the targets.
    pub address: IpAddr,
    /// The managed node that answers there, on which the certificate is installed. Left out, somebody else installs it, and
    /// it is only looked at.
    #[serde(default)]
    pub node: Option<NodeId>,
}

impl AddressTarget {
    /// The target.
    pub fn target(&self) -> TargetId {
        TargetId::at(self.address)
    }
}

impl Select {
    /// The node that serves as this target: the instance itself, or the one that the spec names beside an address.
    pub fn node(&self, target: &TargetId) -> Option<NodeId> {
        match self {
            Self::InstanceIds(_) | Self::Tag { .. } | Self::AutoScalingGroups(_) => NodeId::of(target),
            Self::Addresses(all) => {
                let address = target.address()?;
                all.iter().find(|one| one.address == address).and_then(|one| one.node.clone())
            }
            Self::Hosts(_) => None,
        }
    }

    /// What a target group of them holds.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::InstanceIds(_) | Self::Tag { .. } | Self::AutoScalingGroups(_) => TargetKind::Instance,
            // The parser lets no two families through.
            Self::Addresses(all) if all.iter().any(|one| one.address.is_ipv6()) => TargetKind::Ipv6,
            // Names are in no target group: the parser takes them only where nothing is Espalier's.
            Self::Addresses(_) | Self::Hosts(_) => TargetKind::Ipv4,
        }
    }
}

/// What a target group holds (`type` and `ipAddressType` of `CreateTargetGroup`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// EC2 instances.
    Instance,
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
}

/// How a new certificate reaches the targets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// How many targets prove it first.
    pub canary: u32,
    /// How long the canary has to have served it before others follow, in minutes, up to a week.
    pub bake_minutes: u32,
    /// How many follow at a time, 1 to 50.
    pub wave_size: u32,
    /// The same in percent of all targets, 1 to 100.
    pub wave_percent: Option<u32>,
    /// How many percent of the targets have to be well, untouched, while others are changed, 1 to 99; none if absent.
    pub minimum_healthy_percent: Option<u32>,
    /// How many may fail before nothing new starts.
    pub failure_budget: u32,
    /// Which targets go back by themselves unless they are told that the new certificate was seen.
    pub confirm: Confirm,
    /// After how long they do, in seconds.
    pub confirm_seconds: u32,
    /// When rollouts may begin and go on; none means always.
    pub windows: Vec<Window>,
    /// When they may not.
    pub freezes: Vec<Freeze>,
    /// How long before the end of what is served windows and freezes no longer count, in hours; half of
    /// `renew_before_hours` if absent.
    pub safety_margin_hours: Option<u32>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            canary: 1,
            bake_minutes: 0,
            wave_size: 10,
            wave_percent: None,
            minimum_healthy_percent: None,
            failure_budget: 0,
            confirm: Confirm::Canary,
            confirm_seconds: 1_800,
            windows: Vec::new(),
            freezes: Vec::new(),
            safety_margin_hours: None,
        }
    }
}

/// Which installations are taken back by the host itself unless they are confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Confirm {
    /// The canary's: an outage of the control plane must not undo what has proven itself elsewhere.
    #[default]
    Canary,
    /// Every target's.
    All,
    /// None.
    Never,
}

/// Who verifies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prober {
    /// Which prober it is, of those beside the control plane's own; absent for that one.
    #[serde(default)]
    pub name: Option<ProberName>,
    /// The prober's security group, admitted to the targets' traffic port.
    pub security_group_id: SecurityGroupId,
    /// How many connections through the service are sampled, 0 to 20; 0 where the prober's VPC is no consumer.
    #[serde(default = "six")]
    pub samples: u32,
    /// A resolver to ask in place of the VPC's own.
    #[serde(default)]
    pub resolver: Option<SocketAddr>,
}

/// One mistake in a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}; {remedy}")]
pub struct SpecError {
    /// Where, as a JSON pointer; empty for the whole document.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// Every mistake in a spec. As text the first ones: it goes into an event, and an event takes 256 KB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the spec has {} mistake(s): {}", .0.len(), first(.0))]
pub struct SpecErrors(pub Vec<SpecError>);

/// Mistakes told in one text; whoever has more of them mends these first.
const TOLD: usize = 40;

fn first(errors: &[SpecError]) -> String {
    let mut told: Vec<String> = errors.iter().take(TOLD).map(ToString::to_string).collect();
    if errors.len() > TOLD {
        told.push(format!("and {} more", errors.len() - TOLD));
    }
    told.join(" | ")
}

/// Reads a spec, or reports everything that is wrong with it.
pub fn parse(text: &str, allowed: &AllowedDomains) -> Result<Spec, SpecErrors> {
    document::parse(text, allowed)
}

/// The published JSON Schema (draft 2020-12), printed from the table that [`parse`] checks with.
pub fn schema() -> serde_json::Value {
    document::schema()
}

/// Every field that holds a value and not further fields, as JSON pointers (`*` for any place of a list).
pub fn fields() -> Vec<String> {
    document::fields()
}

impl Spec {
    /// SHA-256 of the document, keys sorted and white space gone: what `espalier:spec-hash` carries.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Where the service's name has to resolve: the consumers' VPCs, or the targets' when others associate theirs.
    pub fn resolving_vpcs(&self) -> BTreeSet<&VpcId> {
        let mut vpcs: BTreeSet<_> = self.network.consumers.iter().map(|consumer| &consumer.vpc_id).collect();
        if vpcs.is_empty() {
            vpcs.insert(&self.network.vpc_id);
        }
        vpcs
    }

    fn with_hash_of(mut self, document: &serde_json::Value) -> Self {
        // serde_json's map is sorted by key, so the text of a value is canonical.
        let digest = Sha256::digest(document.to_string().as_bytes());
        self.hash = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self
    }
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn sixty() -> u32 {
    60
}

/// Targets in one target group (VPC Lattice user guide, quotas).
fn thousand() -> u32 {
    1_000
}

fn six() -> u32 {
    6
}
