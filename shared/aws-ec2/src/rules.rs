//! Ingress rules: looked at, opened, closed. A rule is ours when its description says so or its tag does.

use aws_sdk_ec2::types::{
    IpPermission, PrefixListId, ResourceType, SecurityGroupRule, Tag, TagSpecification, UserIdGroupPair,
};
use espalier_aws::error::{AwsError, during};
use espalier_domain::id::{SecurityGroupId, StackName};
use espalier_domain::network::{Action, IngressSource, SeenIngress};
use espalier_domain::tag;

use crate::estate::has;
use crate::{Ec2, PAGE, filter, present};

pub(crate) const LIST: &str = "ec2:DescribeSecurityGroupRules";
pub(crate) const AUTHORIZE: &str = "ec2:AuthorizeSecurityGroupIngress";
pub(crate) const REVOKE: &str = "ec2:RevokeSecurityGroupIngress";
/// Tagging a rule in the call that makes it needs this action too.
pub(crate) const TAG: &str = "ec2:CreateTags";

impl Ec2 {
    /// Takes the step. `None` when the action is not EC2's.
    ///
    /// # Errors
    /// When EC2 refuses (quota, missing group) or cannot be asked. Open already and closed already are done.
    pub async fn take(&self, stack: &StackName, action: &Action) -> Option<Result<(), AwsError>> {
        match action {
            Action::AuthorizeIngress { security_group_id, source, port, description } => {
                Some(self.authorize(stack, security_group_id, source, *port, description).await)
            }
            Action::RevokeIngress { security_group_id, rule_id } => Some(self.revoke(security_group_id, rule_id).await),
            Action::CreateServiceNetwork { .. }
            | Action::AssociateVpc { .. }
            | Action::UpdateVpcAssociation { .. }
            | Action::CreateTargetGroup { .. }
            | Action::UpdateHealthCheck { .. }
            | Action::RegisterTargets { .. }
            | Action::DeregisterTargets { .. }
            | Action::CreateService { .. }
            | Action::UpdateIdleTimeout { .. }
            | Action::CreateListener { .. }
            | Action::UpdateListener { .. }
            | Action::PutAuthPolicy { .. }
            | Action::SubscribeAccessLogs { .. }
            | Action::UpdateAccessLogs { .. }
            | Action::DeleteAccessLogs { .. }
            | Action::RequireAuth { .. }
            | Action::DropAuth { .. }
            | Action::AssociateService { .. }
            | Action::CreatePrivateZone { .. }
            | Action::AssociateZone { .. }
            | Action::DisassociateZone { .. }
            | Action::DeletePrivateZone { .. }
            | Action::WriteRecord { .. }
            | Action::Tag { .. }
            | Action::DeleteRecord { .. }
            | Action::DeleteServiceAssociation { .. }
            | Action::DeleteListener { .. }
            | Action::DeleteService { .. }
            | Action::DeleteTargetGroup { .. }
            | Action::DeleteVpcAssociation { .. }
            | Action::DeleteServiceNetwork { .. }
            | Action::CompleteLifecycleAction { .. } => None,
        }
    }

    /// The ingress rules of the group, sorted by id: the stack's, and the others.
    pub(crate) async fn ingress(
        &self,
        stack: &StackName,
        group: &SecurityGroupId,
    ) -> Result<(Vec<SeenIngress>, Vec<SeenIngress>), AwsError> {
        let call = self.client.describe_security_group_rules().max_results(PAGE);
        let call = call.filters(filter("group-id", &[group.as_str()]));
        let list = call.into_paginator().items().send().try_collect().await.map_err(during(LIST))?;
        let description = tag::rule_description(stack);
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for rule in list.into_iter().filter(|rule| rule.is_egress != Some(true)) {
            let described = rule.description.as_deref() == Some(&description);
            let is_ours = described || has(rule.tags.as_deref(), tag::STACK, stack.as_str());
            if is_ours { &mut ours } else { &mut others }.push(seen(rule)?);
        }
        ours.sort_by(|a: &SeenIngress, b| a.rule_id.cmp(&b.rule_id));
        others.sort_by(|a: &SeenIngress, b| a.rule_id.cmp(&b.rule_id));
        Ok((ours, others))
    }

    /// Rules of the stack in other groups, sorted by id: the spec named another group before. Known by their tag.
    ///
    /// # Errors
    /// When EC2 cannot be asked, or answers without a field it always sends.
    pub async fn former_ingress(
        &self,
        stack: &StackName,
        group: &SecurityGroupId,
    ) -> Result<Vec<(SecurityGroupId, SeenIngress)>, AwsError> {
        let tagged = filter(&format!("tag:{}", tag::STACK), &[stack.as_str()]);
        let call = self.client.describe_security_group_rules().filters(tagged).max_results(PAGE);
        let list = call.into_paginator().items().send().try_collect().await.map_err(during(LIST))?;
        let mut found = Vec::new();
        for rule in list.into_iter().filter(|rule| rule.is_egress != Some(true)) {
            // The filter is exact on AWS; look again, because what is found is closed.
            let id = rule.group_id.clone().and_then(|id| SecurityGroupId::parse(id).ok());
            let is_ours = has(rule.tags.as_deref(), tag::STACK, stack.as_str());
            if let Some(id) = id.filter(|id| is_ours && id != group) {
                found.push((id, seen(rule)?));
            }
        }
        found.sort_by(|a, b| a.1.rule_id.cmp(&b.1.rule_id));
        Ok(found)
    }

    async fn authorize(
        &self,
        stack: &StackName,
        group: &SecurityGroupId,
        source: &IngressSource,
        port: u16,
        description: &str,
    ) -> Result<(), AwsError> {
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::SecurityGroupRule)
            .tags(Tag::builder().key(tag::STACK).value(stack.as_str()).build());
        let call = self.client.authorize_security_group_ingress().group_id(group.as_str());
        let call = call.ip_permissions(permission(source, port, description)).tag_specifications(tags.build());
        match call.send().await.map_err(during(AUTHORIZE)) {
            Ok(_) => Ok(()),
            // Opened by a concurrent run, or by somebody else, since the look.
            Err(error) if error.code() == "InvalidPermission.Duplicate" => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn revoke(&self, group: &SecurityGroupId, rule_id: &str) -> Result<(), AwsError> {
        let call = self.client.revoke_security_group_ingress().group_id(group.as_str());
        match call.security_group_rule_ids(rule_id).send().await.map_err(during(REVOKE)) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn permission(source: &IngressSource, port: u16, description: &str) -> IpPermission {
    let port = i32::from(port);
    let permission = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
    match source {
        IngressSource::PrefixList(id) => {
            permission.prefix_list_ids(PrefixListId::builder().prefix_list_id(id).description(description).build())
        }
        IngressSource::Group(id) => {
            let pair = UserIdGroupPair::builder().group_id(id.as_str()).description(description);
            permission.user_id_group_pairs(pair.build())
        }
    }
    .build()
}

fn seen(rule: SecurityGroupRule) -> Result<SeenIngress, AwsError> {
    let group = rule.referenced_group_info.and_then(|group| group.group_id);
    let source = match (rule.prefix_list_id, group) {
        (Some(list), None) => Some(IngressSource::PrefixList(list)),
        (None, Some(group)) => SecurityGroupId::parse(group).ok().map(IngressSource::Group),
        (None, None) | (Some(_), Some(_)) => None,
    };
    // Every port is -1 in EC2's words; no rule of ours is that wide, and none is for anything but TCP. A rule for other
    // protocols counts in the quota like any other: ten, if it is for VPC Lattice's list.
    let port = |port: Option<i32>, every: u16| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(every);
    Ok(SeenIngress {
        rule_id: present(LIST, "a rule's id", rule.security_group_rule_id)?,
        source,
        is_tcp: rule.ip_protocol.as_deref() == Some("tcp"),
        ports: (port(rule.from_port, 0), port(rule.to_port, u16::MAX)),
        is_ipv6_block: rule.cidr_ipv6.is_some(),
    })
}
