//! What was seen of the estate in one look. Adapters fill it; they decide nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use time::OffsetDateTime;

use super::block::IpBlock;
use super::zones::SeenPrivateZone;
use crate::id::{HostedZoneId, SecurityGroupId, SubnetId, TargetId, VpcId};
use crate::record::SightingRecord;

/// Everything one look saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When the look began; goes into client tokens.
    pub looked_at: OffsetDateTime,
    /// The service network with our name, or the one that the spec names. The latter is never ours.
    pub network: Option<SeenNetwork>,
    /// All associations of that network, and whatever else the consumers' VPCs are associated with.
    pub vpc_associations: Vec<SeenVpcAssociation>,
    /// All target groups that carry our tag, and the one with the wanted name whoever's it is; or those that the spec
    /// gives by id.
    pub target_groups: Vec<SeenTargetGroup>,
    /// The service with our name, or the one that the spec gives by id.
    pub service: Option<SeenService>,
    /// All listeners of that service.
    pub listeners: Vec<SeenListener>,
    /// All network associations of that service, and all service associations of that network.
    pub service_associations: Vec<SeenServiceAssociation>,
    /// The access-log subscriptions of that service, as far as anybody needs to know them: unless the spec wants none and
    /// nothing was left to do under it.
    pub access_logs: Vec<SeenAccessLog>,
    /// The A record of the service's domain name in the hosted zone (an alias or not).
    pub record: Option<SeenRecord>,
    /// The same in other zones that the service's tag names: a former spec had the record there.
    pub former_records: Vec<(HostedZoneId, SeenRecord)>,
    /// What was last seen on each target's wire, from the ledger.
    pub sightings: BTreeMap<TargetId, SightingRecord>,
    /// The user's own infrastructure.
    pub estate: Estate,
}

impl Observed {
    /// Only instances were looked at: nothing else is anybody's business.
    pub fn of_instances(looked_at: OffsetDateTime, instances: Vec<SeenInstance>) -> Self {
        let estate = Estate { instances, ..Estate::default() };
        Self {
            looked_at,
            network: None,
            vpc_associations: Vec::new(),
            target_groups: Vec::new(),
            service: None,
            listeners: Vec::new(),
            service_associations: Vec::new(),
            access_logs: Vec::new(),
            record: None,
            former_records: Vec::new(),
            sightings: BTreeMap::new(),
            estate,
        }
    }

    /// What is seen of VPC Lattice's resources, whoever's they are.
    pub(super) fn owned(&self) -> impl Iterator<Item = &Owned> {
        let network = self.network.iter().map(|one| &one.owned);
        let vpcs = self.vpc_associations.iter().map(|one| &one.owned);
        let groups = self.target_groups.iter().map(|one| &one.owned);
        let service = self.service.iter().map(|one| &one.owned);
        let listeners = self.listeners.iter().map(|one| &one.owned);
        let associations = self.service_associations.iter().map(|one| &one.owned);
        network.chain(vpcs).chain(groups).chain(service).chain(listeners).chain(associations)
    }
}

/// What every resource of VPC Lattice tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Its id (`sn-...`, `svc-...`, ...).
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// Whether it carries the stack's `espalier:stack` tag.
    pub ours: bool,
    /// Its `espalier:spec-hash` tag: the spec under which it was last settled.
    pub spec_hash: Option<String>,
}

/// The life of an asynchronous resource (`status` in the VPC Lattice API).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// `CREATE_IN_PROGRESS`.
    Creating,
    /// `ACTIVE`.
    Active,
    /// `UPDATE_IN_PROGRESS`.
    Updating,
    /// `DELETE_IN_PROGRESS`.
    Deleting,
    /// `CREATE_FAILED`, and why.
    CreateFailed(SeenFailure),
    /// `UPDATE_FAILED`, and why.
    UpdateFailed(SeenFailure),
    /// `DELETE_FAILED`, and why.
    DeleteFailed(SeenFailure),
}

/// Why something failed, in VPC Lattice's own words (`failureCode` and `failureMessage` of its `Get` calls). What codes
/// there are is not documented: they are told and never branched on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenFailure {
    /// The code, for whoever asks AWS about it.
    pub code: Option<String>,
    /// The message.
    pub message: Option<String>,
}

impl fmt::Display for SeenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => write!(f, "{code}: {message}"),
            (Some(only), None) | (None, Some(only)) => f.write_str(only),
            (None, None) => f.write_str("VPC Lattice gives no reason"),
        }
    }
}

/// A service network. It has no status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNetwork {
    /// Identity and ownership.
    pub owned: Owned,
    /// The auth policy in force on it: an empty text if there is none to allow anything, `None` without authorization or
    /// when it may not be read.
    pub auth_policy: Option<String>,
}

/// A VPC's association with a service network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenVpcAssociation {
    /// Identity and ownership.
    pub owned: Owned,
    /// The network's id.
    pub network_id: String,
    /// The VPC.
    pub vpc_id: VpcId,
    /// Its state.
    pub status: Status,
    /// Its security groups.
    pub security_group_ids: BTreeSet<SecurityGroupId>,
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenTargetGroup {
    /// Identity and ownership.
    pub owned: Owned,
    /// Its name.
    pub name: String,
    /// Its state.
    pub status: Status,
    /// Whether its protocol is TCP, which alone a TLS listener forwards to.
    pub is_tcp: bool,
    /// Its health check; `None` when disabled. Compared with [`TargetGroupWant::health_check`](super::TargetGroupWant).
    pub health_check: Option<crate::spec::HealthCheckOn>,
    /// Services that use it (`serviceArns`).
    pub service_arns: Vec<String>,
    /// Its targets.
    pub targets: Vec<SeenTarget>,
}

/// A registered target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenTarget {
    /// The target's id as registered (in groups of ours an instance id, or an address in its usual form).
    pub id: String,
    /// Its port.
    pub port: u16,
    /// Its state.
    pub status: TargetStatus,
}

/// The state of a target (`TargetStatus` in the VPC Lattice API).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetStatus {
    /// Being registered, or first checks pending.
    Initial,
    /// Health checks are on and good.
    Healthy,
    /// Health checks are on and bad.
    Unhealthy,
    /// The group is not used by a service yet.
    Unused,
    /// Being deregistered.
    Draining,
    /// Health checks are off: the steady state then.
    Unavailable,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenService {
    /// Identity and ownership.
    pub owned: Owned,
    /// Its state.
    pub status: Status,
    /// Its custom domain.
    pub custom_domain_name: Option<String>,
    /// Whether its auth type is `AWS_IAM`: its auth policy is in force.
    pub is_iam: bool,
    /// Its auth policy, as far as anybody needs to know it: when the spec has one, or its owner is somebody else.
    pub auth_policy: Option<String>,
    /// Its idle timeout in seconds, if it reports one.
    pub idle_timeout_seconds: Option<u16>,
    /// Its generated name.
    pub dns_entry: Option<DnsEntry>,
    /// Its `espalier:hosted-zones` tag: where there may be a record of ours.
    pub record_zones: BTreeSet<HostedZoneId>,
}

/// Where a service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsEntry {
    /// The generated domain name.
    pub domain_name: String,
    /// The hosted zone of the generated name, for alias records.
    pub hosted_zone_id: String,
}

/// A listener. It has no status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenListener {
    /// Identity and ownership.
    pub owned: Owned,
    /// Its port.
    pub port: u16,
    /// Whether its protocol is `TLS_PASSTHROUGH`.
    pub is_tls_passthrough: bool,
    /// The ids of the target groups it forwards to, with their weights; empty for any other action.
    pub forwards: Vec<(String, u32)>,
    /// When it was last changed (`lastUpdatedAt`): how long ago its weights moved.
    pub changed_at: OffsetDateTime,
}

/// A service's association with a service network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenServiceAssociation {
    /// Identity and ownership.
    pub owned: Owned,
    /// The network's id.
    pub network_id: String,
    /// The service's id.
    pub service_id: String,
    /// Its state.
    pub status: Status,
}

/// A subscription to a service's access logs. It has no status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAccessLog {
    /// Identity and ownership.
    pub owned: Owned,
    /// The destination's ARN, as VPC Lattice tells it.
    pub destination: String,
}

/// An A record at the service's domain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRecord {
    /// Where it points if it is an alias (name without trailing dot).
    pub alias: Option<DnsEntry>,
}

/// The user's own infrastructure, read only, but for ingress rules with our description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Estate {
    /// The Region of all this.
    pub region: String,
    /// The VPCs the spec names, as far as they exist.
    pub vpcs: Vec<SeenVpc>,
    /// The subnets the spec names, as far as they exist.
    pub subnets: Vec<SeenSubnet>,
    /// The security groups the spec names, as far as they exist.
    pub groups: Vec<SeenGroup>,
    /// The managed prefix list `com.amazonaws.<region>.vpc-lattice` (IPv4).
    pub prefix_list_id: Option<String>,
    /// The managed prefix list `com.amazonaws.<region>.ipv6.vpc-lattice`.
    pub ipv6_prefix_list_id: Option<String>,
    /// The ingress rules of the targets' security group that carry our description.
    pub ingress: Vec<SeenIngress>,
    /// Its other ingress rules. EC2 refuses a second rule for what one of them admits already, whosever it is.
    pub other_ingress: Vec<SeenIngress>,
    /// Rules of ours in other groups: the spec named another group before.
    pub former_ingress: Vec<(SecurityGroupId, SeenIngress)>,
    /// The instances the spec selects, as far as they exist; what it selects by address, as [`SeenInstance::at`] has it.
    pub instances: Vec<SeenInstance>,
    /// The lifecycle hooks of the Auto Scaling groups the spec selects; looked at while an instance waits for one.
    pub hooks: Vec<SeenHook>,
    /// The Auto Scaling groups the spec names, as far as they exist.
    pub scaling_groups: BTreeSet<String>,
    /// The hosted zone, if it exists and the spec means only this one.
    pub hosted_zone: Option<HostedZoneId>,
    /// All that it may mean by a name, when they are several.
    pub other_zones: Vec<HostedZoneId>,
    /// The private hosted zones of the stack's own, by whatever name; looked for when
    /// [`may_have_zones`](super::may_have_zones).
    pub private_zones: Vec<SeenPrivateZone>,
    /// Private zones of the wanted name that are not the stack's, in VPCs that its own is to be associated with.
    pub zones_in_the_way: Vec<(VpcId, HostedZoneId)>,
}

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenVpc {
    /// Its id.
    pub id: VpcId,
    /// Whether both DNS attributes (`enableDnsSupport`, `enableDnsHostnames`) are on.
    pub resolves_private_zones: bool,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSubnet {
    /// Its id.
    pub id: SubnetId,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// Its zone's id (`euw1-az1`), not its name.
    pub zone_id: String,
    /// Its addresses.
    pub blocks: Vec<IpBlock>,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenGroup {
    /// Its id.
    pub id: SecurityGroupId,
    /// Its VPC.
    pub vpc_id: Option<VpcId>,
    /// Its `espalier:stack` tag: the stack that its owner lets write rules.
    pub stack: Option<String>,
    /// The TCP ports that it lets anybody in on, first and last.
    pub open_ports: Vec<(u16, u16)>,
}

/// An ingress rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenIngress {
    /// The rule's id (`sgr-...`).
    pub rule_id: String,
    /// Who is admitted, whatever the protocol; `None` for a source we never write.
    pub source: Option<super::IngressSource>,
    /// Whether it is for TCP alone.
    pub is_tcp: bool,
    /// First and last port.
    pub ports: (u16, u16),
    /// Whether it is for an IPv6 block: the quota counts the families apart.
    pub is_ipv6_block: bool,
}

impl SeenIngress {
    /// Whether it is the very rule that admits this source to this port. EC2 takes another one beside any wider rule.
    pub fn admits(&self, source: &super::IngressSource, port: u16) -> bool {
        self.is_tcp && self.source.as_ref() == Some(source) && self.ports == (port, port)
    }

    /// Whether it lets this source in on this port, as wide as it may be: for more ports, or for every protocol.
    pub fn lets_in(&self, source: &super::IngressSource, port: u16) -> bool {
        let is_for_all = self.ports == (0, u16::MAX);
        (self.is_tcp || is_for_all)
            && self.source.as_ref() == Some(source)
            && (self.ports.0..=self.ports.1).contains(&port)
    }
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenInstance {
    /// Its id.
    pub id: TargetId,
    /// Its VPC; a terminated instance has none.
    pub vpc_id: Option<VpcId>,
    /// Whether its state is `running`.
    pub is_running: bool,
    /// Its state's name, for messages.
    pub state: String,
    /// Its private address.
    pub private_ip: Option<IpAddr>,
    /// Whether its owner opted in: tag `espalier:stack` with this stack's name.
    pub opted_in: bool,
    /// When it was last started.
    pub launched_at: Option<OffsetDateTime>,
    /// Its place in an Auto Scaling group the spec selects.
    pub scaling: Option<Scaling>,
}

impl SeenInstance {
    /// What the spec selects by its address or name: there as long as the spec says so, since nobody else can be asked for it. Whoever
    /// installs on its node looks for the node's owner's consent.
    pub fn at(target: TargetId, vpc_id: VpcId) -> Self {
        Self {
            private_ip: target.address(),
            id: target,
            vpc_id: Some(vpc_id),
            is_running: true,
            state: "running".to_owned(),
            opted_in: true,
            launched_at: None,
            scaling: None,
        }
    }
}

/// An instance's place in its Auto Scaling group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaling {
    /// The group's name.
    pub group: String,
    /// Where it stands.
    pub life: Life,
}

/// The life of an instance in its Auto Scaling group (`LifecycleState`), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// `Pending`, `Pending:Proceed`.
    Coming,
    /// `Pending:Wait`: launch hooks have to be answered.
    ComingWaits,
    /// `InService`.
    InService,
    /// `Terminating`, `Terminating:Proceed`.
    Going,
    /// `Terminating:Wait`: termination hooks have to be answered.
    GoingWaits,
    /// Anything else: in standby, detached, in a warm pool. Its owner took it out of service.
    Aside,
}

/// A lifecycle hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenHook {
    /// The group's name.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Whether it is for instances that come (`autoscaling:EC2_INSTANCE_LAUNCHING`), and not for those that go.
    pub is_for_launch: bool,
    /// Whether its notification metadata says that this stack answers it.
    pub ours: bool,
}
