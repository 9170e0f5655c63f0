//! Looking at the user's own infrastructure: whatever the spec refers to, as far as it exists.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    Filter, Instance, SecurityGroup, SubnetCidrBlockStateCode, SubnetIpv6CidrBlockAssociation, Tag, VpcAttributeName,
};
use espalier_aws::error::{AwsError, during};
use espalier_domain::id::{SecurityGroupId, StackName, SubnetId, TargetId, VpcId};
use espalier_domain::network::{Estate, IpBlock, SeenGroup, SeenInstance, SeenSubnet, SeenVpc};
use espalier_domain::spec::{Select, Spec};
use espalier_domain::tag;
use futures::future::try_join_all;
use futures::try_join;
use time::OffsetDateTime;

use crate::{Ec2, FILTER_VALUES, PAGE, filter, present};

pub(crate) const VPCS: &str = "ec2:DescribeVpcs";
pub(crate) const VPC_ATTRIBUTE: &str = "ec2:DescribeVpcAttribute";
pub(crate) const SUBNETS: &str = "ec2:DescribeSubnets";
pub(crate) const GROUPS: &str = "ec2:DescribeSecurityGroups";
pub(crate) const PREFIX_LISTS: &str = "ec2:DescribeManagedPrefixLists";
pub(crate) const INSTANCES: &str = "ec2:DescribeInstances";

impl Ec2 {
    /// Looks at everything EC2 keeps that the spec refers to; `scaled` are the instances of the Auto Scaling groups it
    /// selects. The hosted zones are Route 53's, the groups Auto Scaling's, and [`Self::former_ingress`] is asked apart: all
    /// stay empty.
    ///
    /// # Errors
    /// When EC2 cannot be asked, or answers without a field it always sends. What is missing is not an error.
    pub async fn estate(&self, spec: &Spec, scaled: &[TargetId]) -> Result<Estate, AwsError> {
        let group = &spec.targets.security_group_id;
        let (vpcs, subnets, groups, lists, (ingress, other_ingress), instances) = try_join!(
            self.vpcs(spec),
            self.subnets(&spec.network.subnet_ids),
            self.groups(spec),
            self.prefix_lists_of_lattice(),
            self.ingress(&spec.stack, group),
            self.instances(spec, scaled),
        )?;
        let (prefix_list_id, ipv6_prefix_list_id) = lists;
        Ok(Estate {
            region: self.region.clone(),
            vpcs,
            subnets,
            groups,
            prefix_list_id,
            ipv6_prefix_list_id,
            ingress,
            other_ingress,
            former_ingress: Vec::new(),
            instances,
            hooks: Vec::new(),
            scaling_groups: BTreeSet::new(),
            hosted_zone: None,
            other_zones: Vec::new(),
            private_zones: Vec::new(),
            zones_in_the_way: Vec::new(),
        })
    }

    /// Which of these VPCs belong to the account that owns this one.
    ///
    /// # Errors
    /// When EC2 cannot be asked.
    pub async fn of_the_owner_of(&self, one: &VpcId, vpcs: &[VpcId]) -> Result<Vec<VpcId>, AwsError> {
        let ids: Vec<&str> = vpcs.iter().chain([one]).map(VpcId::as_str).collect();
        let mut seen = Vec::new();
        for page in ids.chunks(FILTER_VALUES) {
            let call = self.client.describe_vpcs().filters(filter("vpc-id", page)).max_results(PAGE);
            seen.extend(call.into_paginator().items().send().try_collect().await.map_err(during(VPCS))?);
        }
        let mine = seen.iter().find(|vpc| vpc.vpc_id.as_deref() == Some(one.as_str()));
        let Some(owner) = mine.and_then(|vpc| vpc.owner_id.clone()) else { return Ok(Vec::new()) };
        let of_owner = seen.into_iter().filter(|vpc| vpc.owner_id.as_ref() == Some(&owner));
        Ok(of_owner.filter_map(|vpc| VpcId::parse(vpc.vpc_id?).ok()).filter(|id| vpcs.contains(id)).collect())
    }

    async fn vpcs(&self, spec: &Spec) -> Result<Vec<SeenVpc>, AwsError> {
        let consumers = spec.network.consumers.iter().map(|consumer| consumer.vpc_id.as_str());
        let ids: BTreeSet<&str> = consumers.chain([spec.network.vpc_id.as_str()]).collect();
        let mut found = Vec::new();
        for page in Vec::from_iter(ids).chunks(FILTER_VALUES) {
            let call = self.client.describe_vpcs().filters(filter("vpc-id", page)).max_results(PAGE);
            let list = call.into_paginator().items().send().try_collect().await.map_err(during(VPCS))?;
            for vpc in list {
                let id = present(VPCS, "a VPC's id", vpc.vpc_id)?;
                found.push(VpcId::parse(id).map_err(|error| AwsError::unexpected(VPCS, error.to_string()))?);
            }
        }
        let seen = found.into_iter().map(|id| async move {
            let (support, host_names) = try_join!(self.resolves(&id), self.names_hosts(&id))?;
            Ok(SeenVpc { id, resolves_private_zones: support && host_names })
        });
        try_join_all(seen).await
    }

    async fn resolves(&self, vpc: &VpcId) -> Result<bool, AwsError> {
        let call = self.client.describe_vpc_attribute().vpc_id(vpc.as_str());
        let answer = call.attribute(VpcAttributeName::EnableDnsSupport).send().await.map_err(during(VPC_ATTRIBUTE))?;
        Ok(answer.enable_dns_support.and_then(|on| on.value) == Some(true))
    }

    async fn names_hosts(&self, vpc: &VpcId) -> Result<bool, AwsError> {
        let call = self.client.describe_vpc_attribute().vpc_id(vpc.as_str());
        let answer =
            call.attribute(VpcAttributeName::EnableDnsHostnames).send().await.map_err(during(VPC_ATTRIBUTE))?;
        Ok(answer.enable_dns_hostnames.and_then(|on| on.value) == Some(true))
    }

    async fn subnets(&self, ids: &[SubnetId]) -> Result<Vec<SeenSubnet>, AwsError> {
        let ids: Vec<&str> = ids.iter().map(SubnetId::as_str).collect();
        let not_an_id = |error: espalier_domain::id::NotAnId| AwsError::unexpected(SUBNETS, error.to_string());
        let mut found = Vec::new();
        for page in ids.chunks(FILTER_VALUES) {
            let call = self.client.describe_subnets().filters(filter("subnet-id", page)).max_results(PAGE);
            for subnet in call.into_paginator().items().send().try_collect().await.map_err(during(SUBNETS))? {
                let id = present(SUBNETS, "a subnet's id", subnet.subnet_id)?;
                let vpc_id = present(SUBNETS, "a subnet's VPC", subnet.vpc_id)?;
                found.push(SeenSubnet {
                    id: SubnetId::parse(id).map_err(not_an_id)?,
                    vpc_id: VpcId::parse(vpc_id).map_err(not_an_id)?,
                    zone_id: subnet.availability_zone_id.unwrap_or_default(),
                    blocks: blocks(subnet.cidr_block, subnet.ipv6_cidr_block_association_set.unwrap_or_default()),
                });
            }
        }
        Ok(found)
    }

    /// Every security group the spec names, as far as it exists.
    async fn groups(&self, spec: &Spec) -> Result<Vec<SeenGroup>, AwsError> {
        let consumers = spec.network.consumers.iter().flat_map(|consumer| &consumer.security_group_ids);
        let own = [&spec.targets.security_group_id, &spec.prober.security_group_id];
        let ids: BTreeSet<&str> = consumers.chain(own).map(SecurityGroupId::as_str).collect();
        let mut found = Vec::new();
        for page in Vec::from_iter(ids).chunks(FILTER_VALUES) {
            let call = self.client.describe_security_groups().filters(filter("group-id", page)).max_results(PAGE);
            let list = call.into_paginator().items().send().try_collect().await.map_err(during(GROUPS))?;
            for group in list {
                found.push(seen_group(group)?);
            }
        }
        Ok(found)
    }

    /// The Region's managed prefix lists of VPC Lattice (IPv4 and IPv6), from whose addresses traffic reaches targets.
    async fn prefix_lists_of_lattice(&self) -> Result<(Option<String>, Option<String>), AwsError> {
        let names = ["", ".ipv6"].map(|family| format!("com.amazonaws.{}{family}.vpc-lattice", self.region));
        let values: Vec<&str> = names.iter().map(String::as_str).collect();
        let call = self.client.describe_managed_prefix_lists().filters(filter("prefix-list-name", &values));
        let answer = call.send().await.map_err(during(PREFIX_LISTS))?;
        // The filter is exact on AWS; look again, because a wrong list would open the wrong door.
        let lists = answer.prefix_lists.unwrap_or_default();
        let [ipv4, ipv6] = names.map(|name| {
            let list = lists.iter().find(|list| list.prefix_list_name.as_deref() == Some(name.as_str()));
            list.and_then(|list| list.prefix_list_id.clone())
        });
        Ok((ipv4, ipv6))
    }

    /// The instances that a spec selects, as far as they exist.
    ///
    /// # Errors
    /// When EC2 cannot be asked, or answers without a field it always sends.
    pub async fn instances(&self, spec: &Spec, scaled: &[TargetId]) -> Result<Vec<SeenInstance>, AwsError> {
        let (stack, mut found) = (&spec.stack, Vec::new());
        match &spec.targets.select {
            Select::InstanceIds(ids) => found = self.by_id(stack, ids).await?,
            Select::AutoScalingGroups(_) => found = self.by_id(stack, scaled).await?,
            Select::Tag { key, value } => {
                found = self.described(stack, filter(&format!("tag:{key}"), &[value])).await?;
            }
            // What answers at an address or to a name need not be an instance of this account, or one at all: EC2 is not asked.
            Select::Addresses(all) => {
                found.extend(all.iter().map(|one| SeenInstance::at(one.target(), spec.network.vpc_id.clone())));
            }
            Select::Hosts(all) => {
                let targets = all.iter().map(TargetId::named);
                found.extend(targets.map(|target| SeenInstance::at(target, spec.network.vpc_id.clone())));
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    async fn by_id(&self, stack: &StackName, ids: &[TargetId]) -> Result<Vec<SeenInstance>, AwsError> {
        let ids: Vec<&str> = ids.iter().map(TargetId::as_str).collect();
        let mut found = Vec::new();
        for page in ids.chunks(FILTER_VALUES) {
            found.extend(self.described(stack, filter("instance-id", page)).await?);
        }
        Ok(found)
    }

    async fn described(&self, stack: &StackName, filter: Filter) -> Result<Vec<SeenInstance>, AwsError> {
        let call = self.client.describe_instances().filters(filter).max_results(PAGE);
        let list = call.into_paginator().items().send().try_collect().await.map_err(during(INSTANCES))?;
        let instances = list.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default());
        instances.map(|instance| seen(stack, instance)).collect()
    }
}

/// A subnet's addresses of both families, without blocks that are being taken away.
fn blocks(ipv4: Option<String>, ipv6: Vec<SubnetIpv6CidrBlockAssociation>) -> Vec<IpBlock> {
    let is_there = |one: &SubnetIpv6CidrBlockAssociation| {
        let state = one.ipv6_cidr_block_state.as_ref().and_then(|state| state.state.as_ref());
        state.is_none_or(|state| *state == SubnetCidrBlockStateCode::Associated)
    };
    let ipv6 = ipv6.into_iter().filter(is_there).filter_map(|one| one.ipv6_cidr_block);
    ipv4.into_iter().chain(ipv6).filter_map(|block| IpBlock::parse(&block)).collect()
}

fn seen_group(group: SecurityGroup) -> Result<SeenGroup, AwsError> {
    let id = present(GROUPS, "a security group's id", group.group_id)?;
    let stack = group.tags.unwrap_or_default().into_iter().find(|tag| tag.key.as_deref() == Some(tag::STACK));
    let open = group.ip_permissions.unwrap_or_default().into_iter().filter_map(|permission| {
        let port = |port: Option<i32>, every: u16| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(every);
        match permission.ip_protocol.as_deref() {
            Some("tcp") => Some((port(permission.from_port, 0), port(permission.to_port, u16::MAX))),
            Some("-1") => Some((0, u16::MAX)),
            Some(_) | None => None,
        }
    });
    Ok(SeenGroup {
        id: SecurityGroupId::parse(id).map_err(|error| AwsError::unexpected(GROUPS, error.to_string()))?,
        vpc_id: group.vpc_id.and_then(|id| VpcId::parse(id).ok()),
        stack: stack.and_then(|tag| tag.value),
        open_ports: open.collect(),
    })
}

fn seen(stack: &StackName, instance: Instance) -> Result<SeenInstance, AwsError> {
    let id = present(INSTANCES, "an instance's id", instance.instance_id)?;
    let state = instance.state.and_then(|state| state.name).map(|name| name.as_str().to_owned()).unwrap_or_default();
    // "The time that the instance was last launched" (EC2 API reference, `Instance`): a start counts, a reboot does not.
    let launched_at = instance.launch_time;
    Ok(SeenInstance {
        id: TargetId::parse(id).map_err(|error| AwsError::unexpected(INSTANCES, error.to_string()))?,
        vpc_id: instance.vpc_id.and_then(|id| VpcId::parse(id).ok()),
        is_running: state == "running",
        state,
        private_ip: instance.private_ip_address.and_then(|address| address.parse().ok()),
        opted_in: has(instance.tags.as_deref(), tag::STACK, stack.as_str()),
        launched_at: launched_at.and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok()),
        scaling: None,
    })
}

/// Whether the tag is there with exactly this value.
pub(crate) fn has(tags: Option<&[Tag]>, key: &str, value: &str) -> bool {
    let is_it = |tag: &Tag| tag.key.as_deref() == Some(key) && tag.value.as_deref() == Some(value);
    tags.unwrap_or_default().iter().any(is_it)
}
