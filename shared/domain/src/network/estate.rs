//! Checking the user's own infrastructure, and the ingress rules that are ours in it.

use std::collections::BTreeSet;

use super::action::{Action, IngressSource};
use super::observed::{Estate, Life, SeenIngress, SeenInstance};
use super::{GROUPS, TARGETS};
use crate::id::{HostedZoneId, SecurityGroupId, TargetId, VpcId};
use crate::plan::{BlockCode, Plan};
use crate::spec::{Dns, HealthCheck, Manage, Select, Spec};
use crate::tag;

/// Zones in which VPC Lattice does not run (VPC Lattice user guide, quotas).
pub const UNSUPPORTED_ZONES: [&str; 6] = ["use1-az3", "usw1-az2", "apne1-az3", "euw1-az4", "cac1-az3", "ilc1-az2"];

/// What of all that the spec refers to may be built upon.
pub(super) struct Fit<'a> {
    /// All of it.
    pub(super) is_all: bool,
    /// The targets' VPC and its subnets.
    pub(super) place: bool,
    /// The targets' security group with its owner's consent, and whoever is admitted to it.
    pub(super) rules: bool,
    /// VPCs of consumers of which something is missing.
    pub(super) unfit: BTreeSet<&'a VpcId>,
}

/// Blocks for everything the spec refers to that is missing or unfit.
pub(super) fn check<'a>(spec: &'a Spec, estate: &Estate, plan: &mut Plan<Action>) -> Fit<'a> {
    let before = plan.blocks.len();
    let there = |id: &VpcId| estate.vpcs.iter().any(|vpc| vpc.id == *id);
    vpcs(spec, estate, plan);
    let place = is_clean(plan, |plan| subnets(spec, estate, plan)) && there(&spec.network.vpc_id);
    let own_groups = is_clean(plan, |plan| own_groups(spec, estate, plan));
    let mut unfit = BTreeSet::new();
    for consumer in &spec.network.consumers {
        let groups = consumer.security_group_ids.iter();
        let missing =
            groups.filter(|id| !group("network.consumers: security group", id, &consumer.vpc_id, estate, plan));
        if missing.count() > 0 || !there(&consumer.vpc_id) {
            unfit.insert(&consumer.vpc_id);
        }
    }
    let consent = is_clean(plan, |plan| consent(spec, estate, plan));
    zone(spec, estate, plan);
    if estate.prefix_list_id.is_none() {
        let because =
            "the managed prefix list of VPC Lattice in this Region does not exist; create it or correct the spec";
        plan.block(BlockCode::NotFound, because);
    }
    let rules = own_groups && consent && estate.prefix_list_id.is_some();
    Fit { is_all: plan.blocks.len() == before, place, rules, unfit }
}

/// Whether nothing is blocked by this.
fn is_clean(plan: &mut Plan<Action>, check: impl FnOnce(&mut Plan<Action>)) -> bool {
    let before = plan.blocks.len();
    check(plan);
    plan.blocks.len() == before
}

fn zone(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) {
    if estate.hosted_zone.is_some() {
        return;
    }
    let because = match &spec.service.dns {
        // It is made when its record can be written.
        Dns::PrivateZone { .. } => return,
        Dns::HostedZoneId(id) => format!("service.dns.hostedZoneId {id} does not exist; create it or correct the spec"),
        Dns::HostedZoneName(name) if estate.other_zones.is_empty() => format!(
            "service.dns.hostedZoneName {name}: no private hosted zone of that name is associated with a consumer's VPC; \
             associate one, or write its hostedZoneId"
        ),
        Dns::HostedZoneName(name) => {
            let zones: Vec<&str> = estate.other_zones.iter().map(HostedZoneId::as_str).collect();
            let zones = zones.join(", ");
            format!(
                "service.dns.hostedZoneName {name}: the consumers' VPCs have several private hosted zones of that name \
                 ({zones}); write the hostedZoneId of one"
            )
        }
    };
    plan.block(BlockCode::NotFound, because);
}

fn vpcs(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) {
    let mut wanted = vec![&spec.network.vpc_id];
    wanted.extend(spec.network.consumers.iter().map(|consumer| &consumer.vpc_id));
    wanted.sort();
    wanted.dedup();
    for id in wanted {
        match estate.vpcs.iter().find(|vpc| vpc.id == *id) {
            None => {
                plan.block(BlockCode::NotFound, format!("VPC {id} does not exist; create it or correct the spec"));
            }
            Some(vpc) if !vpc.resolves_private_zones => plan.block(
                BlockCode::Unsupported,
                format!("VPC {id} needs enableDnsSupport and enableDnsHostnames for a private hosted zone to resolve"),
            ),
            Some(_) => {}
        }
    }
}

fn own_groups(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) {
    let vpc = &spec.network.vpc_id;
    group("targets.securityGroupId", &spec.targets.security_group_id, vpc, estate, plan);
    group("prober.securityGroupId", &spec.prober.security_group_id, vpc, estate, plan);
}

/// Whether a security group that the spec names exists, in the VPC in which it is used; blocks if not.
fn group(field: &str, id: &SecurityGroupId, vpc_id: &VpcId, estate: &Estate, plan: &mut Plan<Action>) -> bool {
    let because = match estate.groups.iter().find(|group| group.id == *id) {
        None => format!("{field} {id} does not exist; create it or correct the spec"),
        Some(group) => match group.vpc_id.as_ref().filter(|vpc| *vpc != vpc_id) {
            None => return true,
            Some(other) => format!("{field} {id} is in {other}, not in {vpc_id}; name a group of {vpc_id}"),
        },
    };
    plan.block(BlockCode::NotFound, because);
    false
}

/// The owner of the targets' group lets this stack write rules there, and no other: two stacks would count each other's
/// rules as their own, which go with the stack that made them.
fn consent(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) {
    let id = &spec.targets.security_group_id;
    let group = estate.groups.iter().find(|group| group.id == *id).filter(|_| spec.manage == Manage::Stack);
    let Some(group) = group.filter(|group| group.stack.as_deref() != Some(spec.stack.as_str())) else { return };
    let (tag, stack) = (tag::STACK, &spec.stack);
    let because = match &group.stack {
        None => format!("targets.securityGroupId {id}: its owner has not opted in; tag it {tag}={stack}"),
        Some(other) => format!(
            "targets.securityGroupId {id} is tagged {tag}={other}, and its rules are that stack's to add and remove: give {stack} \
             a security group of its own, tagged {tag}={stack}"
        ),
    };
    plan.block(BlockCode::NotOptedIn, because);
}

fn subnets(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) {
    for id in &spec.network.subnet_ids {
        match estate.subnets.iter().find(|subnet| subnet.id == *id) {
            None => {
                plan.block(BlockCode::NotFound, format!("subnet {id} does not exist; create it or correct the spec"));
            }
            Some(subnet) if subnet.vpc_id != spec.network.vpc_id => plan.block(
                BlockCode::NotFound,
                format!("subnet {id} is in {}, not in the targets' VPC {}", subnet.vpc_id, spec.network.vpc_id),
            ),
            Some(subnet) if UNSUPPORTED_ZONES.contains(&subnet.zone_id.as_str()) => plan.block(
                BlockCode::Unsupported,
                format!("subnet {id} is in zone {}, where VPC Lattice does not run", subnet.zone_id),
            ),
            Some(_) => {}
        }
    }
}

/// The instances that shall be registered; blocks for those that are selected and cannot be.
pub(super) fn eligible(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) -> BTreeSet<TargetId> {
    if let Select::InstanceIds(ids) = &spec.targets.select {
        let seen: BTreeSet<&TargetId> = estate.instances.iter().map(|instance| &instance.id).collect();
        for id in ids.iter().filter(|id| !seen.contains(id)) {
            let because = format!(
                "instance {id} does not exist in this account and Region; remove it from the spec, or name it in one of its own \
                 account (docs/accounts.md)"
            );
            plan.block(BlockCode::NotFound, because);
        }
    }
    if let Select::AutoScalingGroups(names) = &spec.targets.select {
        for name in names.iter().filter(|name| !estate.scaling_groups.contains(*name)) {
            plan.block(BlockCode::NotFound, format!("Auto Scaling group {name} does not exist; correct the spec"));
        }
    }
    let mut eligible = BTreeSet::new();
    for instance in estate.instances.iter().filter(|instance| !is_out_of_service(instance)) {
        match unfit(spec, estate, instance) {
            None => {
                eligible.insert(instance.id.clone());
            }
            // A tag or a group selects whatever is there: what is stopped is simply not part of the fleet now.
            Some((BlockCode::NoTargets, _)) if !matches!(spec.targets.select, Select::InstanceIds(_)) => {}
            Some((code, because)) => plan.block(code, because),
        }
    }
    let per_group = spec.targets.targets_per_group;
    let most = usize::try_from(per_group).unwrap_or(usize::MAX).saturating_mul(GROUPS).min(TARGETS);
    if eligible.len() > most {
        let because = format!(
            "targets.select: {} instances are selected; a stack takes {most}: {GROUPS} target groups of {per_group}, half of \
             the ten that a service may have, since a replacement needs as many again, and never more than {TARGETS}: select \
             fewer",
            eligible.len()
        );
        plan.block(BlockCode::Quota, because);
        eligible = eligible.into_iter().take(most).collect();
    }
    if eligible.is_empty() && plan.blocks.is_empty() {
        plan.block(BlockCode::NoTargets, "targets.select: no running instance is selected; start or tag one");
    }
    eligible
}

/// Whether its Auto Scaling group takes the instance away, or its owner put it aside.
pub(super) fn is_out_of_service(instance: &SeenInstance) -> bool {
    instance.scaling.as_ref().is_some_and(|scaling| match scaling.life {
        Life::Going | Life::GoingWaits | Life::Aside => true,
        Life::Coming | Life::ComingWaits | Life::InService => false,
    })
}

fn unfit(spec: &Spec, estate: &Estate, instance: &SeenInstance) -> Option<(BlockCode, String)> {
    let id = &instance.id;
    if let Some(address) = id.address() {
        // "Targets must be in the subnets of the target group's VPC" (VPC Lattice user guide, register-targets).
        let is_in_subnet = estate.subnets.iter().flat_map(|subnet| &subnet.blocks).any(|block| block.contains(address));
        let because = || {
            format!(
                "address {id} is in none of network.subnetIds, and VPC Lattice reaches no other: list its subnet, or correct \
                 the address"
            )
        };
        return (!is_in_subnet).then(|| (BlockCode::NotFound, because()));
    }
    if !instance.is_running {
        return Some((BlockCode::NoTargets, format!("instance {id} is {}; start it or remove it", instance.state)));
    }
    if instance.vpc_id.as_ref() != Some(&spec.network.vpc_id) {
        let because = format!("instance {id} is not in the targets' VPC {}", spec.network.vpc_id);
        return Some((BlockCode::NotFound, because));
    }
    let consent = format!("tag it {}={}", tag::STACK, spec.stack);
    let because = || format!("instance {id}: its owner has not opted in; {consent}");
    (!instance.opted_in).then(|| (BlockCode::NotOptedIn, because()))
}

/// Adds the ingress rules that are missing, if the security group has room for them. Whether none is.
pub(super) fn admit(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) -> bool {
    let group = &spec.targets.security_group_id;
    // Somebody else's rule for the same is as good, and EC2 takes no second one beside it.
    let rules = || estate.ingress.iter().chain(&estate.other_ingress);
    let is_there = |(source, port): &(IngressSource, u16)| rules().any(|rule| rule.admits(source, *port));
    let missing: Vec<_> = wanted_ingress(spec, estate).into_iter().filter(|wanted| !is_there(wanted)).collect();
    for family in [Family::V4, Family::V6] {
        let used: u32 = rules().map(|rule| family.weight(rule.source.as_ref(), rule.is_ipv6_block, estate)).sum();
        let more: u32 = missing.iter().map(|(source, _)| family.weight(Some(source), false, estate)).sum();
        let quota = spec.targets.rules_per_group;
        if used + more > quota && more > 0 {
            let family = family.name();
            plan.block(
                BlockCode::Quota,
                format!(
                    "{group} has {used} of {quota} inbound {family} rules in use and needs {more} more (a prefix list of VPC \
                     Lattice counts {LIST_WEIGHT}): remove rules, use another group, or have the quota \"Inbound or outbound \
                     rules per security group\" raised and write it into targets.rulesPerGroup"
                ),
            );
            return false;
        }
    }
    let is_admitted = missing.is_empty();
    for (source, port) in missing {
        let because = format!("{group} does not admit {source} to port {port}");
        let description = tag::rule_description(&spec.stack);
        plan.step(Action::AuthorizeIngress { security_group_id: group.clone(), source, port, description }, because);
    }
    is_admitted
}

/// What VPC Lattice's managed prefix lists count in the quota of rules (VPC user guide, AWS-managed prefix lists).
const LIST_WEIGHT: u32 = 10;

/// The quota of rules counts IPv4 and IPv6 apart; a rule for a security group counts in both (VPC user guide, quotas).
#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// What a rule counts.
    fn weight(self, source: Option<&IngressSource>, is_ipv6_block: bool, estate: &Estate) -> u32 {
        let is_v4_list = |id: &String| estate.prefix_list_id.as_ref() == Some(id);
        let is_v6_list = |id: &String| estate.ipv6_prefix_list_id.as_ref() == Some(id);
        match (self, source) {
            (Self::V4, Some(IngressSource::PrefixList(id))) if is_v4_list(id) => LIST_WEIGHT,
            (Self::V6, Some(IngressSource::PrefixList(id))) if is_v6_list(id) => LIST_WEIGHT,
            // Of somebody else's list neither family nor length is known: it counts at least one.
            (Self::V4, Some(IngressSource::PrefixList(id))) => u32::from(!is_v6_list(id)),
            (Self::V6, Some(IngressSource::PrefixList(_))) => 0,
            (Self::V4 | Self::V6, Some(IngressSource::Group(_))) => 1,
            (Self::V4, None) => u32::from(!is_ipv6_block),
            (Self::V6, None) => u32::from(is_ipv6_block),
        }
    }
}

/// Removes the rules of ours that are not wanted (any more). For the end of a change: until then, what serves may
/// still be reached through them.
pub(super) fn revoke(spec: &Spec, estate: &Estate, plan: &mut Plan<Action>) {
    let wanted = wanted_ingress(spec, estate);
    let is_wanted = |rule: &SeenIngress| wanted.iter().any(|(source, port)| rule.admits(source, *port));
    let unwanted = estate.ingress.iter().filter(|rule| !is_wanted(rule));
    let unwanted = unwanted.map(|rule| (&spec.targets.security_group_id, rule));
    for (group, rule) in unwanted.chain(former(estate)) {
        let action = Action::RevokeIngress { security_group_id: group.clone(), rule_id: rule.rule_id.clone() };
        plan.step(action, format!("rule {} is ours and not wanted by the spec", rule.rule_id));
    }
}

/// Rules of ours in groups that the spec does not name any more.
pub(super) fn former(estate: &Estate) -> impl Iterator<Item = (&SecurityGroupId, &SeenIngress)> {
    estate.former_ingress.iter().map(|(group, rule)| (group, rule))
}

/// VPC Lattice reaches targets from its prefix list, never from the clients' VPC; the prober dials them directly.
pub(super) fn wanted_ingress(spec: &Spec, estate: &Estate) -> BTreeSet<(IngressSource, u16)> {
    let port = spec.targets.port;
    let mut wanted = BTreeSet::from([(IngressSource::Group(spec.prober.security_group_id.clone()), port)]);
    for list in [&estate.prefix_list_id, &estate.ipv6_prefix_list_id].into_iter().flatten() {
        wanted.insert((IngressSource::PrefixList(list.clone()), port));
        if let HealthCheck::On(check) = &spec.health_check
            && let Some(port) = check.port
        {
            wanted.insert((IngressSource::PrefixList(list.clone()), port));
        }
    }
    wanted
}
