//! Private hosted zones of the stack's own.
//!
//! Whose a zone is, its comment says: it is written in the call that makes the zone, which takes no tags.

use aws_sdk_route53::types::{HostedZoneConfig, HostedZoneType, RrType, Vpc, VpcRegion};
use espalier_domain::id::{HostName, HostedZoneId, VpcId};
use espalier_domain::network::Action;

use super::{Alias, Route53, bare, record};
use crate::error::{AwsError, Kind, during};

pub(super) const LIST: &str = "route53:ListHostedZones";
pub(super) const CREATE: &str = "route53:CreateHostedZone";
pub(super) const ASSOCIATE: &str = "route53:AssociateVPCWithHostedZone";
pub(super) const DISASSOCIATE: &str = "route53:DisassociateVPCFromHostedZone";
pub(super) const DELETE: &str = "route53:DeleteHostedZone";

type Done = Result<(), AwsError>;

impl Route53 {
    /// Takes the step. `None` when the action is not Route 53's.
    ///
    /// # Errors
    /// When Route 53 refuses or cannot be asked. `Conflict` is what another look explains.
    pub async fn take(&self, action: &Action) -> Option<Done> {
        let alias = |target: &espalier_domain::network::DnsEntry| Alias {
            domain_name: target.domain_name.clone(),
            hosted_zone_id: target.hosted_zone_id.clone(),
        };
        match action {
            Action::WriteRecord { hosted_zone_id, name, former, target } => {
                let former = former.as_ref().map(alias);
                Some(self.write_alias(hosted_zone_id, name, former.as_ref(), &alias(target)).await)
            }
            Action::DeleteRecord { hosted_zone_id, name, target } => {
                Some(self.delete_alias(hosted_zone_id, name, &alias(target)).await)
            }
            Action::CreatePrivateZone { name, vpc_id, comment, token } => {
                Some(self.create_zone(name, vpc_id, comment, token).await)
            }
            Action::AssociateZone { hosted_zone_id, vpc_id } => Some(self.associate(hosted_zone_id, vpc_id).await),
            Action::DisassociateZone { hosted_zone_id, vpc_id } => {
                Some(self.disassociate(hosted_zone_id, vpc_id).await)
            }
            Action::DeletePrivateZone { hosted_zone_id, .. } => Some(self.delete_zone(hosted_zone_id).await),
            Action::CreateServiceNetwork { .. }
            | Action::AssociateVpc { .. }
            | Action::UpdateVpcAssociation { .. }
            | Action::CreateTargetGroup { .. }
            | Action::UpdateHealthCheck { .. }
            | Action::RegisterTargets { .. }
            | Action::DeregisterTargets { .. }
            | Action::CreateService { .. }
            | Action::UpdateIdleTimeout { .. }
            | Action::PutAuthPolicy { .. }
            | Action::SubscribeAccessLogs { .. }
            | Action::UpdateAccessLogs { .. }
            | Action::DeleteAccessLogs { .. }
            | Action::RequireAuth { .. }
            | Action::DropAuth { .. }
            | Action::CreateListener { .. }
            | Action::UpdateListener { .. }
            | Action::AssociateService { .. }
            | Action::AuthorizeIngress { .. }
            | Action::Tag { .. }
            | Action::DeleteServiceAssociation { .. }
            | Action::DeleteListener { .. }
            | Action::DeleteService { .. }
            | Action::DeleteTargetGroup { .. }
            | Action::DeleteVpcAssociation { .. }
            | Action::DeleteServiceNetwork { .. }
            | Action::RevokeIngress { .. }
            | Action::CompleteLifecycleAction { .. } => None,
        }
    }

    /// The private zones with this comment, in the order of their ids.
    ///
    /// # Errors
    /// When Route 53 cannot be asked.
    pub async fn zones_with(&self, comment: &str) -> Result<Vec<HostedZoneId>, AwsError> {
        let list = self.client.list_hosted_zones().hosted_zone_type(HostedZoneType::PrivateHostedZone);
        let list = list.into_paginator().items().send().try_collect().await.map_err(during(LIST))?;
        let mut found = Vec::new();
        for zone in list {
            let config = zone.config.filter(|config| config.private_zone);
            if config.and_then(|config| config.comment).as_deref() == Some(comment) {
                // Written as `/hostedzone/Z...`.
                let id = HostedZoneId::parse(zone.id.rsplit('/').next().unwrap_or_default());
                found.push(id.map_err(|error| AwsError::unexpected(LIST, error.to_string()))?);
            }
        }
        found.sort();
        Ok(found)
    }

    /// A record set in the zone, in words, beside those that Route 53 makes and what answers at this name; what keeps the
    /// zone from being deleted.
    ///
    /// # Errors
    /// When Route 53 cannot be asked.
    pub async fn stranger(&self, zone: &HostedZoneId, apex: &str, name: &HostName) -> Result<Option<String>, AwsError> {
        let mut call = self.client.list_resource_record_sets().hosted_zone_id(zone.as_str());
        loop {
            let page = call.clone().send().await.map_err(during(super::LIST))?;
            let found = page.resource_record_sets.iter().find(|set| {
                let is_made = bare(&set.name) == apex && matches!(set.r#type, RrType::Ns | RrType::Soa);
                let is_the_name = bare(&set.name) == name.as_str() && matches!(set.r#type, RrType::A | RrType::Cname);
                !is_made && !is_the_name
            });
            if let Some(set) = found {
                return Ok(Some(format!("a record {} ({})", bare(&set.name), record(set).shown)));
            }
            if !page.is_truncated {
                return Ok(None);
            }
            call = call
                .set_start_record_name(page.next_record_name)
                .set_start_record_type(page.next_record_type)
                .set_start_record_identifier(page.next_record_identifier);
        }
    }

    async fn create_zone(&self, name: &HostName, vpc: &VpcId, comment: &str, token: &str) -> Done {
        let config = HostedZoneConfig::builder().comment(comment).private_zone(true).build();
        let call = self.client.create_hosted_zone().name(name.as_str()).hosted_zone_config(config);
        match call.vpc(self.vpc(vpc)).caller_reference(token).send().await.map_err(during(CREATE)) {
            Ok(_) => Ok(()),
            // "A hosted zone has already been created with the specified CallerReference": this very call, before.
            Err(error) if error.code() == "HostedZoneAlreadyExists" => Ok(()),
            Err(error) => Err(told(error)),
        }
    }

    async fn associate(&self, zone: &HostedZoneId, vpc: &VpcId) -> Done {
        let call = self.client.associate_vpc_with_hosted_zone().hosted_zone_id(zone.as_str()).vpc(self.vpc(vpc));
        call.send().await.map_err(during(ASSOCIATE)).map_err(told).map(drop)
    }

    async fn disassociate(&self, zone: &HostedZoneId, vpc: &VpcId) -> Done {
        let call = self.client.disassociate_vpc_from_hosted_zone().hosted_zone_id(zone.as_str()).vpc(self.vpc(vpc));
        match call.send().await.map_err(during(DISASSOCIATE)) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == "VPCAssociationNotFound" || error.is_not_found() => Ok(()),
            Err(error) => Err(told(error)),
        }
    }

    async fn delete_zone(&self, zone: &HostedZoneId) -> Done {
        match self.client.delete_hosted_zone().id(zone.as_str()).send().await.map_err(during(DELETE)) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(told(error)),
        }
    }

    fn vpc(&self, id: &VpcId) -> Vpc {
        Vpc::builder().vpc_id(id.as_str()).vpc_region(VpcRegion::from(self.region.as_str())).build()
    }
}

/// What has changed since the look is a conflict, and what is too many a quota; Route 53 answers both with 400.
fn told(mut error: AwsError) -> AwsError {
    match error.code() {
        "ConflictingDomainExists" | "HostedZoneNotEmpty" | "LastVPCAssociation" => error.kind = Kind::Conflict,
        "TooManyHostedZones" | "LimitsExceeded" => error.kind = Kind::Quota,
        _ => {}
    }
    error
}
