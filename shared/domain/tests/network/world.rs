//! A small strict VPC Lattice, EC2 and Route 53: refuses what AWS refuses (the numbers are sections of the project's
//! fact sheet), takes its time for what AWS takes time for, and panics when somebody else's resource is touched.

use std::collections::{BTreeMap, BTreeSet};

use espalier_domain::id::{Generation, HostedZoneId, SecurityGroupId, TargetId, VpcId};
use espalier_domain::network::{
    Action, DnsEntry, Estate, IngressSource, IpBlock, Observed, Owned, SeenAccessLog, SeenFailure, SeenGroup,
    SeenIngress, SeenInstance, SeenListener, SeenNetwork, SeenRecord, SeenService, SeenServiceAssociation, SeenSubnet,
    SeenTarget, SeenTargetGroup, SeenVpc, SeenVpcAssociation, Status, TargetStatus,
};
use espalier_domain::record::SightingRecord;
use espalier_domain::spec::{Dns, Select, Spec, State, TargetKind};
use espalier_domain::tag;
use espalier_domain::verdict::{Fault, Verdict};
use time::OffsetDateTime;

use super::zones::Zone;

pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const PREFIX_LIST: &str = "pl-0a1b2c3d";
pub(crate) const IPV6_PREFIX_LIST: &str = "pl-0a1b2c36";

/// Why a call was refused.
pub(crate) type Answer = Result<(), String>;

pub(crate) type Tags = BTreeMap<String, String>;

/// A resource's identity, whatever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing<T> {
    pub(crate) id: String,
    pub(crate) tags: Tags,
    pub(crate) status: Status,
    pub(crate) of: T,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) vpc: VpcId,
    pub(crate) kind: TargetKind,
    pub(crate) port: u16,
    pub(crate) check: Option<espalier_domain::spec::HealthCheckOn>,
    pub(crate) targets: BTreeMap<(String, u16), TargetStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) idle: u16,
    pub(crate) is_iam: bool,
    pub(crate) policy: Option<String>,
}

impl Service {
    pub(crate) fn new(name: &str, domain: &str) -> Self {
        Self { name: name.to_owned(), domain: domain.to_owned(), idle: 60, is_iam: false, policy: None }
    }

    /// With `AWS_IAM` and no policy everything is denied (1.9).
    pub(crate) fn admits(&self) -> bool {
        !self.is_iam || self.policy.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) service: String,
    pub(crate) port: u16,
    pub(crate) forwards: Vec<(String, u32)>,
    pub(crate) changed_at: i64,
}

impl Listener {
    pub(crate) fn uses(&self, group: &str) -> bool {
        self.forwards.iter().any(|(id, _)| id == group)
    }
}

/// Everything there is.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: i64,
    last_id: u32,
    pub(crate) networks: Vec<Thing<String>>,
    /// Network and VPC, security groups.
    pub(crate) vpcs: Vec<Thing<(String, VpcId, BTreeSet<SecurityGroupId>)>>,
    pub(crate) groups: Vec<Thing<Group>>,
    pub(crate) services: Vec<Thing<Service>>,
    pub(crate) listeners: Vec<Thing<Listener>>,
    /// Network and service.
    pub(crate) associations: Vec<Thing<(String, String)>>,
    /// Service and destination of access-log subscriptions.
    pub(crate) logs: Vec<Thing<(String, String)>>,
    /// In the zone of the first spec.
    pub(crate) record: Option<SeenRecord>,
    /// In other zones.
    pub(crate) other_records: BTreeMap<HostedZoneId, SeenRecord>,
    pub(crate) home: HostedZoneId,
    /// Private zones, whoever's.
    pub(crate) zones: Vec<Zone>,
    /// VPCs of other accounts.
    pub(crate) abroad: BTreeSet<VpcId>,
    pub(crate) estate: Estate,
    /// The targets' security group of the first spec: whose rules the estate has. Rules of ours in others are its former.
    pub(crate) group: SecurityGroupId,
    /// What the first spec selects: every instance, unless it is written here what else it is tagged.
    pub(crate) first: Select,
    pub(crate) tagged: BTreeMap<String, (String, String)>,
    tokens: BTreeMap<String, String>,
    /// When the last client was sent to each group.
    pub(crate) last_clients: BTreeMap<String, i64>,
    /// What is wrong with targets, and since when; whoever is not listed was just seen serving well.
    pub(crate) faults: BTreeMap<String, (Vec<Fault>, i64)>,
    /// Nobody has seen these serving.
    pub(crate) unseen: BTreeSet<String>,
    /// Where targets fail their health checks.
    pub(crate) sick_port: Option<u16>,
    /// The next so many creations fail in the end.
    pub(crate) bad_creations: u32,
    /// The next so many updates fail in the end.
    pub(crate) bad_updates: u32,
    /// The next so many deletions fail in the end.
    pub(crate) bad_deletions: u32,
    /// What takes its time, by id: until when. Everything else arrives with the next second.
    pub(crate) slow: BTreeMap<String, i64>,
}

impl World {
    /// The user's part of the world, as the spec names it, with these instances running and opted in.
    pub(crate) fn new(spec: &Spec, instances: &[&str]) -> Self {
        let mut vpcs: BTreeSet<VpcId> = spec.network.consumers.iter().map(|one| one.vpc_id.clone()).collect();
        vpcs.insert(spec.network.vpc_id.clone());
        let subnet = |(n, id): (usize, &_)| SeenSubnet {
            id: Clone::clone(id),
            vpc_id: spec.network.vpc_id.clone(),
            zone_id: format!("euw1-az{}", n + 1),
            blocks: vec![IpBlock::parse(&format!("10.0.{}.0/24", n + 1)).unwrap()],
        };
        let estate = Estate {
            region: REGION.into(),
            vpcs: vpcs.into_iter().map(|id| SeenVpc { id, resolves_private_zones: true }).collect(),
            subnets: spec.network.subnet_ids.iter().enumerate().map(subnet).collect(),
            groups: groups(spec),
            prefix_list_id: Some(PREFIX_LIST.into()),
            ipv6_prefix_list_id: Some(IPV6_PREFIX_LIST.into()),
            ingress: Vec::new(),
            other_ingress: Vec::new(),
            former_ingress: Vec::new(),
            instances: instances.iter().map(|id| instance(spec, id)).collect(),
            hooks: Vec::new(),
            scaling_groups: BTreeSet::new(),
            hosted_zone: Some(home(spec)),
            other_zones: Vec::new(),
            private_zones: Vec::new(),
            zones_in_the_way: Vec::new(),
        };
        Self {
            now: 1_795_000_000,
            last_id: 0,
            networks: Vec::new(),
            vpcs: Vec::new(),
            groups: Vec::new(),
            services: Vec::new(),
            listeners: Vec::new(),
            associations: Vec::new(),
            logs: Vec::new(),
            record: None,
            other_records: BTreeMap::new(),
            home: home(spec),
            zones: Vec::new(),
            abroad: BTreeSet::new(),
            estate,
            group: spec.targets.security_group_id.clone(),
            first: spec.targets.select.clone(),
            tagged: BTreeMap::new(),
            tokens: BTreeMap::new(),
            last_clients: BTreeMap::new(),
            faults: BTreeMap::new(),
            unseen: BTreeSet::new(),
            sick_port: None,
            bad_creations: 0,
            bad_updates: 0,
            bad_deletions: 0,
            slow: BTreeMap::new(),
        }
    }

    pub(crate) fn id(&mut self, prefix: &str) -> String {
        self.last_id += 1;
        format!("{prefix}0{}", self.last_id)
    }

    /// Time passes: what was on its way arrives.
    pub(crate) fn tick(&mut self) {
        self.pass(1);
    }

    /// So many seconds pass.
    pub(crate) fn pass(&mut self, seconds: u32) {
        self.now += i64::from(seconds);
        for (group, weight) in self.listeners.iter().flat_map(|listener| &listener.of.forwards) {
            if *weight > 0 {
                self.last_clients.insert(group.clone(), self.now);
            }
        }
        self.slow.retain(|_, until| *until > self.now);
        let arrived = |id: &str| !self.slow.contains_key(id);
        settle(&mut self.networks, &arrived);
        settle(&mut self.vpcs, &arrived);
        settle(&mut self.groups, &arrived);
        settle(&mut self.services, &arrived);
        settle(&mut self.associations, &arrived);
        let there: BTreeSet<_> = self.services.iter().map(|service| service.id.clone()).collect();
        self.listeners.retain(|listener| there.contains(&listener.of.service));
        // Deleting a service takes its subscriptions along (1.6).
        self.logs.retain(|one| there.contains(&one.of.0));
        if self.listeners.is_empty() {
            // Nobody is connected to anything any more.
            self.last_clients.clear();
        }
        let used: BTreeSet<_> =
            self.listeners.iter().flat_map(|one| one.of.forwards.iter().map(|(id, _)| id.clone())).collect();
        for group in &mut self.groups {
            let checked = group.of.check.is_some();
            let steady = match (used.contains(&group.id), checked) {
                (false, _) => TargetStatus::Unused,
                (true, true) => TargetStatus::Healthy,
                (true, false) => TargetStatus::Unavailable,
            };
            group.of.targets.retain(|_, status| *status != TargetStatus::Draining);
            for ((_, port), status) in &mut group.of.targets {
                let is_sick = steady == TargetStatus::Healthy && self.sick_port == Some(*port);
                *status = if is_sick { TargetStatus::Unhealthy } else { steady };
            }
        }
    }

    /// What an adapter would fill in.
    #[allow(clippy::too_many_lines, reason = "one member after the other")]
    pub(crate) fn look(&self, spec: &Spec) -> Observed {
        let given_network = spec.network.service_network_id.as_ref();
        let network = self.networks.iter().find(|network| match given_network {
            Some(given) => network.id == given.id(),
            None => spec.lattice.is_none() && network.of == format!("{}-network", spec.stack),
        });
        let service = self.services.iter().find(|service| match &spec.lattice {
            Some(given) => service.id == given.service_id.as_str(),
            None => service.of.name == spec.stack.as_str(),
        });
        let zones = self.seen_zones(spec);
        let zone = if matches!(spec.service.dns, Dns::PrivateZone { .. }) { zones.current } else { self.zone_of(spec) };
        let network_id = network.map(|network| &network.id);
        let service_id = service.map(|service| &service.id);
        let wanted = espalier_domain::network::target_group_names(spec);
        let consumers: BTreeSet<&VpcId> = spec.network.consumers.iter().map(|one| &one.vpc_id).collect();
        let owned = |id: &str, tags: &Tags| owned(spec, id, tags);
        Observed {
            looked_at: OffsetDateTime::from_unix_timestamp(self.now).unwrap(),
            network: network.map(|network| {
                // What is given by id is never ours.
                let tags = if given_network.is_some() { &Tags::new() } else { &network.tags };
                SeenNetwork { owned: owned(&network.id, tags), auth_policy: None }
            }),
            vpc_associations: self
                .vpcs
                .iter()
                .filter(|one| Some(&one.of.0) == network_id || consumers.contains(&one.of.1))
                .map(|one| SeenVpcAssociation {
                    owned: owned(&one.id, &one.tags),
                    network_id: one.of.0.clone(),
                    vpc_id: one.of.1.clone(),
                    status: one.status.clone(),
                    security_group_ids: one.of.2.clone(),
                })
                .collect(),
            target_groups: self
                .groups
                .iter()
                .filter(|one| match &spec.lattice {
                    Some(given) => given.target_group_ids.iter().any(|id| id.as_str() == one.id),
                    None => wanted.contains(&one.of.name) || tag::is_ours(&spec.stack, &one.tags),
                })
                .map(|one| self.seen_group(one, owned(&one.id, &one.tags)))
                .collect(),
            service: self.seen_service(spec),
            listeners: self
                .listeners
                .iter()
                .filter(|one| Some(&one.of.service) == service_id)
                .map(|one| SeenListener {
                    owned: owned(&one.id, &one.tags),
                    port: one.of.port,
                    is_tls_passthrough: true,
                    forwards: one.of.forwards.clone(),
                    changed_at: OffsetDateTime::from_unix_timestamp(one.of.changed_at).unwrap(),
                })
                .collect(),
            service_associations: self
                .associations
                .iter()
                .filter(|one| {
                    // A network's other services matter when it is to go.
                    let is_to_go = spec.state == State::Absent && given_network.is_none();
                    (is_to_go && Some(&one.of.0) == network_id) || Some(&one.of.1) == service_id
                })
                .map(|one| SeenServiceAssociation {
                    owned: owned(&one.id, &one.tags),
                    network_id: one.of.0.clone(),
                    service_id: one.of.1.clone(),
                    status: one.status.clone(),
                })
                .collect(),
            access_logs: self
                .logs
                .iter()
                .filter(|one| Some(&one.of.0) == service_id)
                .map(|one| SeenAccessLog { owned: owned(&one.id, &one.tags), destination: one.of.1.clone() })
                .collect(),
            record: zone.as_ref().and_then(|zone| self.record_in(zone)),
            former_records: service.map_or(Vec::new(), |one| {
                let zones = tag::zones(&one.tags).into_iter();
                let former = zones.filter(|one| Some(one) != zone.as_ref());
                former.filter_map(|zone| Some((zone.clone(), self.record_in(&zone)?))).collect()
            }),
            sightings: self.sightings(spec),
            estate: Estate {
                instances: self.selected(spec),
                hosted_zone: zone,
                private_zones: zones.ours,
                zones_in_the_way: zones.in_the_way,
                ..self.rules(spec)
            },
        }
    }

    pub(crate) fn seen_service(&self, spec: &Spec) -> Option<SeenService> {
        let one = self.services.iter().find(|service| match &spec.lattice {
            Some(given) => service.id == given.service_id.as_str(),
            None => service.of.name == spec.stack.as_str(),
        })?;
        Some(SeenService {
            owned: owned(spec, &one.id, &one.tags),
            status: one.status.clone(),
            custom_domain_name: Some(one.of.domain.clone()),
            idle_timeout_seconds: Some(one.of.idle),
            is_iam: one.of.is_iam,
            auth_policy: one.of.policy.clone().filter(|_| spec.service.auth_policy.is_some()),
            dns_entry: (one.status == Status::Active).then(|| dns_entry(one)),
            record_zones: tag::zones(&one.tags),
        })
    }

    /// By a name it is the zone of the first spec, unless there is none or there are several.
    fn zone_of(&self, spec: &Spec) -> Option<HostedZoneId> {
        let found = self.estate.hosted_zone.as_ref();
        found.map(|_| spec.service.dns.zone_id().unwrap_or(&self.home).clone())
    }

    /// What `rotate` has recorded by now: it keeps looking.
    fn sightings(&self, spec: &Spec) -> BTreeMap<TargetId, SightingRecord> {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let instances = self.selected(spec);
        let instances = instances.iter().filter(|one| !self.unseen.contains(one.id.as_str()));
        let sighting = |instance: &SeenInstance| {
            let bad = self.faults.get(instance.id.as_str());
            let (faults, since) = bad.cloned().map_or((Vec::new(), None), |(faults, since)| (faults, Some(at(since))));
            SightingRecord {
                target: instance.id.clone(),
                generation: Generation(1),
                at: at(self.now),
                port: None,
                verdict: Verdict { fingerprint: None, serial: None, not_after: None, tls: None, faults },
                floor: Some(Generation(1)),
                failing_since: since,
            }
        };
        instances.map(|instance| (instance.id.clone(), sighting(instance))).collect()
    }

    fn seen_group(&self, group: &Thing<Group>, owned: Owned) -> SeenTargetGroup {
        let users = self.listeners.iter().filter(|listener| listener.of.uses(&group.id));
        let targets = group.of.targets.iter();
        // VPC Lattice reports defaults as numbers (1.2).
        let check = group.of.check.clone().map(|mut check| {
            check.port.get_or_insert(group.of.port);
            check.interval_seconds.get_or_insert(30);
            check.timeout_seconds.get_or_insert(5);
            check.healthy_threshold.get_or_insert(5);
            check.unhealthy_threshold.get_or_insert(2);
            check
        });
        SeenTargetGroup {
            owned,
            name: group.of.name.clone(),
            status: group.status.clone(),
            is_tcp: true,
            health_check: check,
            service_arns: users.map(|listener| listener.of.service.clone()).collect(),
            targets: targets
                .map(|((id, port), status)| SeenTarget { id: id.clone(), port: *port, status: *status })
                .collect(),
        }
    }

    pub(crate) fn record_in(&self, zone: &HostedZoneId) -> Option<SeenRecord> {
        if *zone == self.home { self.record.clone() } else { self.other_records.get(zone).cloned() }
    }

    pub(crate) fn write_record(&mut self, zone: &HostedZoneId, record: Option<SeenRecord>) {
        match record {
            record if *zone == self.home => self.record = record,
            Some(record) => drop(self.other_records.insert(zone.clone(), record)),
            None => drop(self.other_records.remove(zone)),
        }
    }

    /// Whether a client in a consumer VPC reaches a running target by name now.
    pub(crate) fn serves(&self) -> bool {
        let records = self.record.iter().chain(self.other_records.values());
        let points_to: Vec<_> = records.filter_map(|record| record.alias.as_ref()).collect();
        let service = self.services.iter().find(|one| points_to.contains(&&dns_entry(one)));
        let Some(service) = service else { return false };
        let is_there = self.associations.iter().any(|one| one.of.1 == service.id && one.status == Status::Active);
        let listener = self.listeners.iter().find(|listener| listener.of.service == service.id);
        let live = listener.into_iter().flat_map(|one| &one.of.forwards).filter(|(_, weight)| *weight > 0);
        let mut live = live.map(|(id, _)| self.groups.iter().find(|group| group.id == *id)).peekable();
        let is_running = |id: &str| {
            let is_address = TargetId::parse(id).is_ok_and(|id| id.address().is_some());
            is_address || self.estate.instances.iter().any(|one| one.id.as_str() == id && one.is_running)
        };
        let admits = |port: u16| {
            let wanted = IngressSource::PrefixList(PREFIX_LIST.into());
            // Instances carry both groups while the one takes the other's place.
            let former = self.estate.former_ingress.iter().map(|(_, rule)| rule);
            let home = self.estate.ingress.iter().chain(&self.estate.other_ingress);
            home.chain(former).any(|rule| rule.admits(&wanted, port))
        };
        is_there
            && service.of.admits()
            // After a failed update the former groups are in force.
            && self.vpcs.iter().any(|one| takes(&one.status))
            && live.peek().is_some()
            // Every group that clients are sent to has somebody for them.
            && live.all(|group| {
                group.is_some_and(|group| {
                    // Whom the check does not reach is not healthy.
                    let check = group.of.check.as_ref();
                    let is_checked = check.is_none_or(|check| admits(check.port.unwrap_or(group.of.port)));
                    let mut targets = group.of.targets.iter();
                    is_checked
                        && targets.any(|((id, port), status)| {
                            let takes = !matches!(status, TargetStatus::Draining | TargetStatus::Initial);
                            takes && is_running(id) && admits(*port)
                        })
                })
            })
    }

    /// Nothing of the stack is left.
    pub(crate) fn leftovers(&self, spec: &Spec) -> Vec<String> {
        let things = [
            owners(&self.networks),
            owners(&self.vpcs),
            owners(&self.groups),
            owners(&self.services),
            owners(&self.listeners),
            owners(&self.associations),
            owners(&self.logs),
        ];
        let tagged = things.into_iter().flatten().filter(|(_, tags)| tag::is_ours(&spec.stack, tags));
        let former = self.estate.former_ingress.iter().map(|(_, rule)| rule);
        let rules = self.estate.ingress.iter().chain(former).map(|rule| rule.rule_id.clone());
        let comment = tag::zone_comment(&spec.stack, REGION);
        let zones = self.zones.iter().filter(|zone| zone.comment == comment).map(|zone| zone.id.to_string());
        tagged.map(|(id, _)| id).chain(rules).chain(zones).collect()
    }

    /// A token repeated with the same parameters has no second effect; with others it is refused (1.6).
    pub(crate) fn is_new(&mut self, token: &str, action: &Action) -> Result<bool, String> {
        let text = format!("{action:?}");
        match self.tokens.insert(token.to_owned(), text.clone()) {
            None => Ok(true),
            Some(earlier) if earlier == text => Ok(false),
            Some(_) => Err(format!("1.6: token {token} was used for something else")),
        }
    }

    pub(crate) fn is_bad(count: &mut u32) -> bool {
        let is_bad = *count > 0;
        *count = count.saturating_sub(1);
        is_bad
    }
}

/// The security groups the spec names, each open to clients on the listener's port.
pub(crate) fn groups(spec: &Spec) -> Vec<SeenGroup> {
    let port = spec.service.port;
    let group = |id: &SecurityGroupId, vpc: &VpcId| SeenGroup {
        id: id.clone(),
        vpc_id: Some(vpc.clone()),
        stack: Some(spec.stack.to_string()),
        open_ports: vec![(port, port)],
    };
    let own = [&spec.targets.security_group_id, &spec.prober.security_group_id];
    let own = own.into_iter().map(|id| group(id, &spec.network.vpc_id));
    let consumers = spec.network.consumers.iter();
    own.chain(consumers.flat_map(|one| one.security_group_ids.iter().map(|id| group(id, &one.vpc_id)))).collect()
}

fn home(spec: &Spec) -> HostedZoneId {
    let named = || HostedZoneId::parse("Z0NAMED").unwrap();
    spec.service.dns.zone_id().cloned().unwrap_or_else(named)
}

/// A running instance whose owner opted in.
pub(crate) fn instance(spec: &Spec, id: &str) -> SeenInstance {
    SeenInstance {
        id: TargetId::parse(id).unwrap(),
        vpc_id: Some(spec.network.vpc_id.clone()),
        is_running: true,
        state: "running".into(),
        private_ip: None,
        opted_in: true,
        launched_at: None,
        scaling: None,
    }
}

pub(crate) fn dns_entry(service: &Thing<Service>) -> DnsEntry {
    let domain_name = format!("{}-{}.7d67968.vpc-lattice-svcs.{REGION}.on.aws", service.of.name, &service.id[4..]);
    DnsEntry { domain_name, hosted_zone_id: "ZLATTICE".into() }
}

pub(crate) fn rule(rule_id: String, source: IngressSource, port: u16) -> SeenIngress {
    SeenIngress { rule_id, source: Some(source), is_tcp: true, ports: (port, port), is_ipv6_block: false }
}

fn owned(spec: &Spec, id: &str, tags: &Tags) -> Owned {
    Owned {
        id: id.to_owned(),
        arn: format!("arn:{id}"),
        ours: tag::is_ours(&spec.stack, tags),
        spec_hash: tags.get(tag::SPEC_HASH).cloned(),
    }
}

fn owners<T>(things: &[Thing<T>]) -> Vec<(String, Tags)> {
    things.iter().map(|thing| (thing.id.clone(), thing.tags.clone())).collect()
}

/// What is on its way arrives, as a failure if it was marked so.
fn settle<T>(things: &mut Vec<Thing<T>>, arrived: &impl Fn(&str) -> bool) {
    things.retain(|thing| thing.status != Status::Deleting || thing.tags.contains_key("bad") || !arrived(&thing.id));
    for thing in things.iter_mut().filter(|thing| arrived(&thing.id)) {
        let (creating, updating) = (thing.status == Status::Creating, thing.status == Status::Updating);
        if !creating && !updating && thing.status != Status::Deleting {
            continue;
        }
        let is_bad = thing.tags.remove("bad").is_some();
        thing.status = match (is_bad, creating, updating) {
            (false, ..) => Status::Active,
            (true, true, _) => Status::CreateFailed(failure("out of capacity")),
            (true, _, true) => Status::UpdateFailed(failure("out of capacity")),
            (true, ..) => Status::DeleteFailed(failure("try again")),
        };
    }
}

/// Why something failed, in VPC Lattice's words.
pub(crate) fn failure(message: &str) -> SeenFailure {
    SeenFailure { code: Some("InternalError".into()), message: Some(message.into()) }
}

/// Whether clients come through an association in this state. One whose update failed is as it was before.
pub(crate) fn takes(status: &Status) -> bool {
    matches!(status, Status::Active | Status::Updating | Status::UpdateFailed(_))
}
