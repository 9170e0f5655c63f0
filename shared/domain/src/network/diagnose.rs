//! A running stack against the pitfalls that people report of VPC Lattice: what is wrong, where, and what to do. Pure
//! checks over what is seen; `docs/diagnose.md` is printed from the same table.

mod policy;
mod table;

use std::collections::BTreeSet;

use super::estate::wanted_ingress;
use super::observed::{Observed, SeenIngress, SeenTargetGroup, Status, TargetStatus};
use super::target_group_names;
use crate::id::VpcId;
use crate::spec::{Dns, Manage, Spec};
pub use table::{Answer, PITFALLS, Pitfall, page};

/// What only a diagnosis looks at, beside [`Observed`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkup {
    /// The hosted zone.
    pub zone: Option<SeenZone>,
    /// Who may use the service network and the service.
    pub policies: Vec<SeenPolicy>,
    /// Whether the service or its network has an access-log subscription.
    pub is_logged: bool,
}

/// A hosted zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenZone {
    /// Its name without the trailing dot.
    pub name: String,
    /// Whether it answers only inside its VPCs.
    pub is_private: bool,
    /// The VPCs in which it answers, if it is private.
    pub vpc_ids: Vec<String>,
}

/// A resource's auth policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPolicy {
    /// Whose: `service network sn-...` or `service svc-...`.
    pub resource: String,
    /// Whether its authorization type is `AWS_IAM`; with `NONE` a policy is not evaluated.
    pub is_in_force: bool,
    /// The policy, if there is one.
    pub text: Option<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The row of the table.
    pub pitfall: &'static str,
    /// What was seen, naming the resource.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// Everything that is wrong, in the order of the table.
pub fn diagnose(spec: &Spec, observed: &Observed, checkup: &Checkup) -> Vec<Finding> {
    let look = Look { spec, observed, checkup };
    let mut all = Vec::new();
    look.ingress(&mut all);
    policy::check(&checkup.policies, &mut all);
    look.zone(&mut all);
    look.record(&mut all);
    look.associations(&mut all);
    look.listeners(&mut all);
    look.client_ports(&mut all);
    look.targets(&mut all);
    look.failures(&mut all);
    if !checkup.is_logged && observed.service.is_some() {
        let problem = "neither the service nor its network has an access-log subscription".to_owned();
        let remedy = "name a bucket, log group or stream in service.accessLogs, or have the network's owner subscribe";
        all.push(Finding { pitfall: "no-access-logs", problem, remedy: remedy.to_owned() });
    }
    let place = |finding: &Finding| PITFALLS.iter().position(|row| row.id == finding.pitfall);
    all.sort_by_key(place);
    all
}

struct Look<'a> {
    spec: &'a Spec,
    observed: &'a Observed,
    checkup: &'a Checkup,
}

fn found(all: &mut Vec<Finding>, pitfall: &'static str, problem: String, remedy: impl Into<String>) {
    all.push(Finding { pitfall, problem, remedy: remedy.into() });
}

impl Look<'_> {
    fn ingress(&self, all: &mut Vec<Finding>) {
        let (estate, group) = (&self.observed.estate, &self.spec.targets.security_group_id);
        for (source, port) in wanted_ingress(self.spec, estate) {
            let mut rules = estate.ingress.iter().chain(&estate.other_ingress);
            // Rules of ours are exact; whoever manages a group otherwise may have one for many ports.
            let is_there = |rule: &SeenIngress| match self.is_ours() {
                true => rule.admits(&source, port),
                false => rule.lets_in(&source, port),
            };
            if !rules.any(is_there) {
                let problem = format!("{group} has no inbound rule for {source} on port {port}");
                let remedy = self.remedy("it adds the rule", "add the rule where the group is managed");
                found(all, "targets-security-group", problem, remedy);
            }
        }
    }

    /// The name has to resolve where the clients are.
    fn zone(&self, all: &mut Vec<Finding>) {
        let (Some(zone), Some(id)) = (&self.checkup.zone, &self.observed.estate.hosted_zone) else {
            let theirs = "create it or correct service.dns";
            let (problem, remedy) = match &self.spec.service.dns {
                Dns::HostedZoneId(id) => (format!("hosted zone {id} does not exist"), theirs),
                Dns::HostedZoneName(name) => {
                    (format!("the consumers' VPCs have not one private hosted zone {name}"), theirs)
                }
                Dns::PrivateZone { name } => (
                    format!("the stack's own private hosted zone {name} does not exist"),
                    "have provision look (mode apply); it makes the zone, or says what is in its way",
                ),
            };
            return found(all, "name-does-not-resolve", problem, remedy);
        };
        let name = self.spec.service.domain_name.as_str();
        if name != zone.name && !name.ends_with(&format!(".{}", zone.name)) {
            let problem = format!("{name} is not in hosted zone {id} ({})", zone.name);
            found(all, "name-does-not-resolve", problem, "name the zone of the domain in service.dns");
        }
        if !zone.is_private {
            return;
        }
        for vpc in self.consumers().filter(|vpc| !zone.vpc_ids.iter().any(|one| one == vpc.as_str())) {
            let problem =
                format!("private zone {id} is not associated with consumer {vpc}: names do not resolve there");
            let remedy = match &self.spec.service.dns {
                Dns::PrivateZone { .. } => "have provision look (mode apply); it associates the zone".to_owned(),
                Dns::HostedZoneId(_) | Dns::HostedZoneName(_) => format!(
                    "aws route53 associate-vpc-with-hosted-zone --hosted-zone-id {id} --vpc VPCRegion=REGION,VPCId={vpc}; \
                     for a VPC of another account, run create-vpc-association-authorization in the zone's account before"
                ),
            };
            found(all, "zone-not-in-consumer-vpc", problem, remedy);
        }
    }

    fn record(&self, all: &mut Vec<Finding>) {
        let entry = self.observed.service.as_ref().and_then(|service| service.dns_entry.as_ref());
        let alias = self.observed.record.as_ref().and_then(|record| record.alias.as_ref());
        let name = &self.spec.service.domain_name;
        // Whoever manages the estate may have written a CNAME: where that leads to, the probe through the service says.
        let is_theirs = !self.is_ours() && self.observed.record.is_some() && alias.is_none();
        if entry.is_some() && alias != entry && !is_theirs {
            let problem = format!("no record {name} points to this stack's service");
            let remedy = self.remedy(
                "a record of somebody else is named there and has to go first",
                "publish it as an alias of the service's generated name",
            );
            found(all, "name-does-not-resolve", problem, remedy);
        }
    }

    fn associations(&self, all: &mut Vec<Finding>) {
        let networks = self.networks();
        for vpc in self.consumers() {
            let mut of_vpc = self.observed.vpc_associations.iter().filter(|seen| seen.vpc_id == *vpc);
            if !of_vpc.any(|seen| networks.contains(seen.network_id.as_str()) && seen.status == Status::Active) {
                let problem = format!("{vpc} has no active association with the service network");
                let remedy = self.remedy(
                    "a share that was accepted associates no VPC, and a VPC that is associated with another network has to \
                     leave it first",
                    "associate it with the service's network; a VPC that is associated with another one has to leave it first",
                );
                found(all, "vpc-not-associated", problem, remedy);
            }
        }
        let service = self.observed.service.as_ref().map(|service| &service.owned.id);
        let mut of_service = self.observed.service_associations.iter();
        let is_there = of_service.any(|seen| Some(&seen.service_id) == service && seen.status == Status::Active);
        if service.is_some() && !is_there {
            let problem = "the service has no active association with the service network".to_owned();
            let remedy = self.remedy("it associates the service", "associate the service with the clients' network");
            found(all, "vpc-not-associated", problem, remedy);
        }
    }

    fn listeners(&self, all: &mut Vec<Finding>) {
        for other in self.observed.listeners.iter().filter(|listener| !listener.is_tls_passthrough) {
            let problem = format!("listener {} on port {} is not TLS_PASSTHROUGH", other.owned.id, other.port);
            found(
                all,
                "mixed-listeners",
                problem,
                "give HTTP and HTTPS a service of their own, and delete this listener",
            );
        }
        let port = self.spec.service.port;
        if self.observed.service.is_some() && !self.observed.listeners.iter().any(|listener| listener.port == port) {
            let problem = format!("the service has no listener on port {port}");
            let remedy =
                self.remedy("it makes the listener", "make a TLS_PASSTHROUGH listener on it, or correct service.port");
            found(all, "connection-times-out", problem, remedy);
        }
    }

    /// A VPC association's groups decide who may connect; without a rule for the listener's port, nobody.
    fn client_ports(&self, all: &mut Vec<Finding>) {
        let port = self.spec.service.port;
        for consumer in &self.spec.network.consumers {
            let mut groups = self.observed.estate.groups.iter();
            let opens = |ports: &(u16, u16)| (ports.0..=ports.1).contains(&port);
            let is_open = groups
                .any(|group| consumer.security_group_ids.contains(&group.id) && group.open_ports.iter().any(opens));
            if !is_open {
                let problem =
                    format!("no security group of the association of {} lets anybody in on {port}", consumer.vpc_id);
                let remedy = format!(
                    "add an inbound rule for the clients on port {port} to one of them, and an outbound rule to VPC Lattice's \
                     prefix list on the same port to the clients' own groups"
                );
                found(all, "connection-times-out", problem, remedy);
            }
        }
    }

    fn targets(&self, all: &mut Vec<Finding>) {
        let groups: Vec<&SeenTargetGroup> = self.groups().collect();
        let Some(first) = groups.first() else { return };
        let targets = || groups.iter().flat_map(|group| &group.targets);
        let is_there = |status: TargetStatus| targets().any(|target| target.status == status);
        if targets().next().is_none() {
            let problem = format!("target group {} has no targets", first.name);
            let remedy = match self.is_ours() {
                true => {
                    "start or tag an instance that targets.select selects; its owner opts in with the tag espalier:stack"
                }
                false => "register in it what targets.select selects",
            };
            found(all, "no-targets", problem, remedy);
        } else if !is_there(TargetStatus::Healthy) && !is_there(TargetStatus::Unavailable) {
            let problem = format!("no target of {} takes clients", first.name);
            found(
                all,
                "no-healthy-target",
                problem,
                "see each target's status below, and whether a listener forwards to it",
            );
        }
        for target in targets().filter(|target| target.status == TargetStatus::Unhealthy) {
            let problem = format!("{} port {} fails its health check", target.id, target.port);
            let remedy = "have it answer as healthCheck says, on a port that the targets' group opens to VPC Lattice; with all \
                          targets unhealthy VPC Lattice sends to all of them";
            found(all, "health-check-fails", problem, remedy);
        }
    }

    /// Whatever VPC Lattice itself says went wrong.
    fn failures(&self, all: &mut Vec<Finding>) {
        let service = self.observed.service.iter().map(|one| (&one.owned.id, &one.status));
        let groups = self.observed.target_groups.iter().map(|one| (&one.owned.id, &one.status));
        let vpcs = self.observed.vpc_associations.iter().map(|one| (&one.owned.id, &one.status));
        let services = self.observed.service_associations.iter().map(|one| (&one.owned.id, &one.status));
        for (id, status) in service.chain(groups).chain(vpcs).chain(services) {
            let (what, failure) = match status {
                Status::CreateFailed(failure) => ("creation", failure),
                Status::UpdateFailed(failure) => ("last update", failure),
                Status::DeleteFailed(failure) => ("deletion", failure),
                Status::Creating | Status::Active | Status::Updating | Status::Deleting => continue,
            };
            let problem = format!("the {what} of {id} failed: {failure}");
            let remedy = self.remedy(
                "what failed is made, changed or deleted again; what is associated with something of others has to be freed first",
                "make, change or delete it again; what is associated with something of others has to be freed first",
            );
            found(all, "deletion-blocked", problem, remedy);
        }
    }

    /// The groups of the fleet: those of our names, or those that the spec gives by id, which alone were looked at.
    fn groups(&self) -> impl Iterator<Item = &SeenTargetGroup> {
        let names = target_group_names(self.spec);
        let is_given = !self.is_ours();
        self.observed.target_groups.iter().filter(move |group| is_given || names.contains(&group.name))
    }

    /// The networks through which clients may come: the stack's, or those that the service of somebody else is in.
    fn networks(&self) -> BTreeSet<&str> {
        let network = self.observed.network.iter().map(|network| network.owned.id.as_str());
        let service = self.observed.service.as_ref().map(|service| &service.owned.id);
        let of_service = self.observed.service_associations.iter();
        let of_service = of_service.filter(|one| !self.is_ours() && Some(&one.service_id) == service);
        network.chain(of_service.map(|one| one.network_id.as_str())).collect()
    }

    /// Whether the estate is ours to mend.
    fn is_ours(&self) -> bool {
        self.spec.manage == Manage::Stack
    }

    /// What `provision` does about it, or its owner.
    fn remedy(&self, ours: &str, theirs: &str) -> String {
        match self.is_ours() {
            true => format!("have provision look (mode apply): {ours}"),
            false => theirs.to_owned(),
        }
    }

    fn consumers(&self) -> impl Iterator<Item = &VpcId> {
        self.spec.network.consumers.iter().map(|consumer| &consumer.vpc_id)
    }
}
