//! Looking: lists first, and details only of what carries the stack's names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use aws_sdk_vpclattice::operation::get_service::GetServiceOutput;
use aws_sdk_vpclattice::operation::list_service_network_vpc_associations::builders::ListServiceNetworkVpcAssociationsFluentBuilder;
use aws_sdk_vpclattice::types::{
    AuthType, HealthCheckConfig, HealthCheckProtocolVersion, Matcher, RuleAction,
    ServiceNetworkServiceAssociationSummary, ServiceNetworkVpcAssociationSummary, TargetGroupProtocol,
    TargetGroupSummary,
};
use aws_smithy_types::DateTime;
use espalier_domain::id::{SecurityGroupId, StackName, VpcId};
use espalier_domain::network::{
    DnsEntry, Owned, SeenFailure, SeenListener, SeenNetwork, SeenService, SeenServiceAssociation, SeenTarget,
    SeenTargetGroup, SeenVpcAssociation, Status, TargetStatus, network_name, service_name, target_group_names,
};
use espalier_domain::spec::{HealthCheckOn, HealthCheckProtocol, HealthCheckVersion, Spec, State};
use espalier_domain::tag;
use futures::future::try_join_all;
use futures::try_join;
use time::OffsetDateTime;

use super::given::may_matter;
use super::{Lattice, Look, PAGE, present};
use crate::error::{AwsError, during};

pub(super) const NETWORKS: &str = "vpc-lattice:ListServiceNetworks";
pub(super) const SERVICES: &str = "vpc-lattice:ListServices";
pub(in crate::lattice) const SERVICE: &str = "vpc-lattice:GetService";
pub(super) const GROUPS: &str = "vpc-lattice:ListTargetGroups";
pub(super) const GROUP: &str = "vpc-lattice:GetTargetGroup";
pub(super) const TARGETS: &str = "vpc-lattice:ListTargets";
pub(super) const LISTENERS: &str = "vpc-lattice:ListListeners";
pub(super) const LISTENER: &str = "vpc-lattice:GetListener";
pub(super) const VPC_ASSOCIATIONS: &str = "vpc-lattice:ListServiceNetworkVpcAssociations";
pub(super) const VPC_ASSOCIATION: &str = "vpc-lattice:GetServiceNetworkVpcAssociation";
pub(super) const SERVICE_ASSOCIATIONS: &str = "vpc-lattice:ListServiceNetworkServiceAssociations";
pub(super) const SERVICE_ASSOCIATION: &str = "vpc-lattice:GetServiceNetworkServiceAssociation";

impl Lattice {
    /// Looks at everything the stack may own or trip over.
    ///
    /// # Errors
    /// When VPC Lattice cannot be asked, or answers without a field it always sends.
    pub async fn look(&self, spec: &Spec) -> Result<Look, AwsError> {
        let (network, service, target_groups) =
            try_join!(self.wanted_network(spec), self.wanted_service(spec), self.wanted_groups(spec))?;
        let network_id = network.as_ref().map(|network| network.owned.id.as_str());
        let service_id = service.as_ref().map(|service| service.owned.id.as_str());
        let (vpc_associations, service_associations, listeners, access_logs) = try_join!(
            self.vpc_associations(spec, network_id, service.as_ref()),
            // What others have in the network matters when it is to be deleted; it may hold hundreds.
            self.service_associations(&spec.stack, network_id.filter(|_| is_to_go(spec)), service_id),
            self.listeners(&spec.stack, service_id),
            self.access_logs(spec, service.as_ref()),
        )?;
        Ok(Look { network, vpc_associations, target_groups, service, listeners, service_associations, access_logs })
    }

    /// `None` if it is gone.
    pub(super) async fn owned(&self, stack: &StackName, id: String, arn: String) -> Result<Option<Owned>, AwsError> {
        let tags = self.tags(&arn).await?;
        Ok(tags.map(|tags| owned_by(stack, id, arn, tags)))
    }

    pub(super) async fn network(&self, stack: &StackName) -> Result<Option<SeenNetwork>, AwsError> {
        let name = network_name(stack);
        let list = self.client.list_service_networks().max_results(PAGE).into_paginator().items().send();
        let list = list.try_collect().await.map_err(during(NETWORKS))?;
        let mut found: Option<SeenNetwork> = None;
        // Another account may share a network of the same name: one of ours goes before it.
        for network in list.into_iter().filter(|network| network.name.as_deref() == Some(&name)) {
            let id = present(NETWORKS, "a service network's id", network.id)?;
            let arn = present(NETWORKS, "a service network's ARN", network.arn)?;
            let Some(owned) = self.owned(stack, id, arn).await? else { continue };
            if owned.ours || found.is_none() {
                found = Some(SeenNetwork { owned, auth_policy: None });
            }
        }
        Ok(found)
    }

    pub(super) async fn service(&self, stack: &StackName) -> Result<Option<SeenService>, AwsError> {
        let name = service_name(stack);
        let list = self.client.list_services().max_results(PAGE).into_paginator().items().send();
        let list = list.try_collect().await.map_err(during(SERVICES))?;
        let mut found: Option<SeenService> = None;
        for summary in list.into_iter().filter(|service| service.name.as_deref() == Some(&name)) {
            let id = present(SERVICES, "a service's id", summary.id)?;
            let arn = present(SERVICES, "a service's ARN", summary.arn)?;
            let Some(tags) = self.tags(&arn).await? else { continue };
            let record_zones = tag::zones(&tags);
            let owned = owned_by(stack, id, arn, tags);
            if !owned.ours && found.is_some() {
                continue;
            }
            let detail = match self.client.get_service().service_identifier(&owned.id).send().await {
                Ok(detail) => detail,
                Err(error) => match during(SERVICE)(error) {
                    gone if gone.is_not_found() => continue,
                    error => return Err(error),
                },
            };
            found = Some(SeenService { record_zones, ..seen_service(owned, detail) });
        }
        Ok(found)
    }

    pub(super) async fn target_groups(&self, spec: &Spec) -> Result<Vec<SeenTargetGroup>, AwsError> {
        let wanted = target_group_names(spec);
        // Every group we ever made for the stack has this prefix; only then are its tags worth a call.
        let prefix = format!("{}-", spec.stack);
        let list = self.client.list_target_groups().max_results(PAGE).into_paginator().items().send();
        let list = list.try_collect().await.map_err(during(GROUPS))?;
        let named =
            list.into_iter().filter(|group| group.name.as_deref().is_some_and(|name| name.starts_with(&prefix)));
        let seen = try_join_all(named.map(|summary| self.target_group(&spec.stack, &wanted, summary))).await?;
        Ok(seen.into_iter().flatten().collect())
    }

    async fn target_group(
        &self,
        stack: &StackName,
        wanted: &[String],
        summary: TargetGroupSummary,
    ) -> Result<Option<SeenTargetGroup>, AwsError> {
        let id = present(GROUPS, "a target group's id", summary.id)?;
        let arn = present(GROUPS, "a target group's ARN", summary.arn)?;
        let name = present(GROUPS, "a target group's name", summary.name)?;
        let Some(owned) = self.owned(stack, id, arn).await? else { return Ok(None) };
        if owned.ours || wanted.contains(&name) { self.group_detail(owned).await } else { Ok(None) }
    }

    /// A target group with its targets; `None` if it is gone.
    pub(super) async fn group_detail(&self, mut owned: Owned) -> Result<Option<SeenTargetGroup>, AwsError> {
        let get = self.client.get_target_group().target_group_identifier(&owned.id).send();
        let list = self
            .client
            .list_targets()
            .max_results(PAGE)
            .target_group_identifier(&owned.id)
            .into_paginator()
            .items()
            .send();
        let both = try_join!(async { get.await.map_err(during(GROUP)) }, async {
            list.try_collect().await.map_err(during(TARGETS))
        });
        let (detail, list) = match both {
            Ok(both) => both,
            Err(gone) if gone.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        owned.arn = present(GROUP, "a target group's ARN", detail.arn)?;
        let mut targets = Vec::with_capacity(list.len());
        for target in list {
            let port = target.port.and_then(|port| u16::try_from(port).ok());
            targets.push(SeenTarget {
                id: usual(present(TARGETS, "a target's id", target.id)?),
                port: present(TARGETS, "a target's port", port)?,
                status: target_status(target.status.as_ref().map(|s| s.as_str()).unwrap_or_default()),
            });
        }
        Ok(Some(SeenTargetGroup {
            owned,
            name: present(GROUP, "a target group's name", detail.name)?,
            status: status(detail.status.as_ref().map(|s| s.as_str()), detail.failure_code, detail.failure_message),
            is_tcp: detail.config.as_ref().is_some_and(|config| config.protocol == Some(TargetGroupProtocol::Tcp)),
            health_check: detail.config.and_then(|config| config.health_check).and_then(health_check),
            service_arns: detail.service_arns.unwrap_or_default(),
            targets,
        }))
    }

    async fn listeners(&self, stack: &StackName, service_id: Option<&str>) -> Result<Vec<SeenListener>, AwsError> {
        let Some(service_id) = service_id else { return Ok(Vec::new()) };
        let list = self
            .client
            .list_listeners()
            .max_results(PAGE)
            .service_identifier(service_id)
            .into_paginator()
            .items()
            .send();
        let list = match list.try_collect().await.map_err(during(LISTENERS)) {
            Ok(list) => list,
            Err(gone) if gone.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut seen = Vec::with_capacity(list.len());
        for summary in list {
            let id = present(LISTENERS, "a listener's id", summary.id)?;
            let arn = present(LISTENERS, "a listener's ARN", summary.arn)?;
            let port = summary.port.and_then(|port| u16::try_from(port).ok());
            let get = self.client.get_listener().service_identifier(service_id).listener_identifier(&id).send();
            let detail = match get.await.map_err(during(LISTENER)) {
                Ok(detail) => detail,
                Err(gone) if gone.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let Some(owned) = self.owned(stack, id, arn).await? else { continue };
            seen.push(SeenListener {
                owned,
                port: present(LISTENERS, "a listener's port", port)?,
                is_tls_passthrough: summary.protocol.is_some_and(|protocol| protocol.as_str() == "TLS_PASSTHROUGH"),
                forwards: forwards(detail.default_action),
                changed_at: present(LISTENER, "when a listener was changed", moment(detail.last_updated_at))?,
            });
        }
        Ok(seen)
    }

    async fn vpc_associations(
        &self,
        spec: &Spec,
        network_id: Option<&str>,
        service: Option<&SeenService>,
    ) -> Result<Vec<SeenVpcAssociation>, AwsError> {
        let list = || self.client.list_service_network_vpc_associations().max_results(PAGE);
        let of_network = match network_id {
            Some(id) => collected(list().service_network_identifier(id)).await?,
            None => Vec::new(),
        };
        // Who is not in the network may be in another one.
        let is_in = |vpc: &VpcId| of_network.iter().any(|one| one.vpc_id.as_deref() == Some(vpc.as_str()));
        let others = spec.network.consumers.iter().filter(|consumer| !is_in(&consumer.vpc_id));
        let of_vpcs = others.map(|consumer| collected(list().vpc_identifier(consumer.vpc_id.as_str())));
        let of_vpcs: Vec<_> = try_join_all(of_vpcs).await?.into_iter().flatten().collect();
        let mut unique: BTreeMap<String, ServiceNetworkVpcAssociationSummary> = BTreeMap::new();
        for summary in of_network.into_iter().chain(of_vpcs).filter(|one| may_matter(spec, service, one)) {
            unique.insert(present(VPC_ASSOCIATIONS, "an association's id", summary.id.clone())?, summary);
        }
        let seen = unique.into_iter().map(|(id, summary)| self.vpc_association(&spec.stack, network_id, id, summary));
        Ok(try_join_all(seen).await?.into_iter().flatten().collect())
    }

    async fn vpc_association(
        &self,
        stack: &StackName,
        network_id: Option<&str>,
        id: String,
        summary: ServiceNetworkVpcAssociationSummary,
    ) -> Result<Option<SeenVpcAssociation>, AwsError> {
        let its_network = present(VPC_ASSOCIATIONS, "an association's network", summary.service_network_id)?;
        let vpc_id = present(VPC_ASSOCIATIONS, "an association's VPC", summary.vpc_id)?;
        let vpc_id = VpcId::parse(vpc_id).map_err(|error| AwsError::unexpected(VPC_ASSOCIATIONS, error.to_string()))?;
        let mut seen = SeenVpcAssociation {
            owned: Owned { id, arn: summary.arn.unwrap_or_default(), ours: false, spec_hash: None },
            network_id: its_network,
            vpc_id,
            status: status(summary.status.as_ref().map(|s| s.as_str()), None, None),
            security_group_ids: BTreeSet::new(),
        };
        // Of another network's association all that matters is that it is there.
        if network_id != Some(seen.network_id.as_str()) {
            return Ok(Some(seen));
        }
        let call = self.client.get_service_network_vpc_association();
        let detail = call.service_network_vpc_association_identifier(&seen.owned.id).send().await;
        let detail = match detail.map_err(during(VPC_ASSOCIATION)) {
            Ok(detail) => detail,
            Err(gone) if gone.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        seen.status = status(detail.status.as_ref().map(|s| s.as_str()), detail.failure_code, detail.failure_message);
        seen.security_group_ids = detail
            .security_group_ids
            .unwrap_or_default()
            .into_iter()
            .filter_map(|id| SecurityGroupId::parse(id).ok())
            .collect();
        let Some(owned) = self.owned(stack, seen.owned.id, seen.owned.arn).await? else { return Ok(None) };
        Ok(Some(SeenVpcAssociation { owned, ..seen }))
    }

    async fn service_associations(
        &self,
        stack: &StackName,
        network_id: Option<&str>,
        service_id: Option<&str>,
    ) -> Result<Vec<SeenServiceAssociation>, AwsError> {
        let list = || self.client.list_service_network_service_associations().max_results(PAGE);
        let calls = [
            network_id.map(|id| list().service_network_identifier(id)),
            service_id.map(|id| list().service_identifier(id)),
        ];
        let lists = calls.into_iter().flatten().map(|call| async move {
            let list = call.into_paginator().items().send().try_collect().await;
            list.map_err(during(SERVICE_ASSOCIATIONS))
        });
        let mut unique: BTreeMap<String, ServiceNetworkServiceAssociationSummary> = BTreeMap::new();
        for summary in try_join_all(lists).await?.into_iter().flatten() {
            unique.insert(present(SERVICE_ASSOCIATIONS, "an association's id", summary.id.clone())?, summary);
        }
        let seen = unique.into_iter().map(|(id, summary)| self.service_association(stack, id, summary));
        Ok(try_join_all(seen).await?.into_iter().flatten().collect())
    }

    async fn service_association(
        &self,
        stack: &StackName,
        id: String,
        summary: ServiceNetworkServiceAssociationSummary,
    ) -> Result<Option<SeenServiceAssociation>, AwsError> {
        let arn = present(SERVICE_ASSOCIATIONS, "an association's ARN", summary.arn)?;
        let mut state = status(summary.status.as_ref().map(|s| s.as_str()), None, None);
        // Only a failed one has something to add to its summary.
        if matches!(state, Status::CreateFailed(_) | Status::DeleteFailed(_)) {
            let call = self.client.get_service_network_service_association();
            let detail = call.service_network_service_association_identifier(&id).send().await;
            let detail = match detail.map_err(during(SERVICE_ASSOCIATION)) {
                Ok(detail) => detail,
                Err(gone) if gone.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            };
            state = status(detail.status.as_ref().map(|s| s.as_str()), detail.failure_code, detail.failure_message);
        }
        let Some(owned) = self.owned(stack, id, arn).await? else { return Ok(None) };
        Ok(Some(SeenServiceAssociation {
            owned,
            network_id: present(SERVICE_ASSOCIATIONS, "an association's network", summary.service_network_id)?,
            service_id: present(SERVICE_ASSOCIATIONS, "an association's service", summary.service_id)?,
            status: state,
        }))
    }
}

/// Whether a network of the stack's own is to be deleted.
fn is_to_go(spec: &Spec) -> bool {
    spec.state == State::Absent && spec.network.service_network_id.is_none()
}

async fn collected(
    list: ListServiceNetworkVpcAssociationsFluentBuilder,
) -> Result<Vec<ServiceNetworkVpcAssociationSummary>, AwsError> {
    list.into_paginator().items().send().try_collect().await.map_err(during(VPC_ASSOCIATIONS))
}

fn owned_by(stack: &StackName, id: String, arn: String, mut tags: BTreeMap<String, String>) -> Owned {
    Owned { id, arn, ours: tag::is_ours(stack, &tags), spec_hash: tags.remove(tag::SPEC_HASH) }
}

pub(super) fn seen_service(owned: Owned, detail: GetServiceOutput) -> SeenService {
    let dns_entry = detail.dns_entry.and_then(|entry| {
        Some(DnsEntry {
            domain_name: entry.domain_name?.trim_end_matches('.').to_ascii_lowercase(),
            hosted_zone_id: entry.hosted_zone_id?,
        })
    });
    SeenService {
        owned,
        status: status(detail.status.as_ref().map(|s| s.as_str()), detail.failure_code, detail.failure_message),
        custom_domain_name: detail.custom_domain_name,
        is_iam: detail.auth_type == Some(AuthType::AwsIam),
        auth_policy: None,
        idle_timeout_seconds: detail.idle_timeout_seconds.and_then(|s| u16::try_from(s).ok()),
        dns_entry,
        record_zones: BTreeSet::new(),
    }
}

/// The one state model of all of Lattice's asynchronous resources.
fn status(text: Option<&str>, code: Option<String>, message: Option<String>) -> Status {
    let told = |text: Option<String>| text.filter(|text| !text.is_empty());
    let failure = SeenFailure { code: told(code), message: told(message) };
    match text.unwrap_or_default() {
        "CREATE_IN_PROGRESS" => Status::Creating,
        "ACTIVE" => Status::Active,
        "UPDATE_IN_PROGRESS" => Status::Updating,
        "DELETE_IN_PROGRESS" => Status::Deleting,
        "CREATE_FAILED" => Status::CreateFailed(failure),
        "UPDATE_FAILED" => Status::UpdateFailed(failure),
        "DELETE_FAILED" => Status::DeleteFailed(failure),
        other => {
            // Something newer than this code: neither done nor failed, so waiting is right whatever it means.
            tracing::warn!(status = other, "an unknown status is taken for one in progress");
            Status::Updating
        }
    }
}

/// An address as it is usually written, whichever way VPC Lattice writes it; anything else as it is.
fn usual(id: String) -> String {
    id.parse::<IpAddr>().map(|address| address.to_string()).unwrap_or(id)
}

fn target_status(text: &str) -> TargetStatus {
    match text {
        "INITIAL" => TargetStatus::Initial,
        "HEALTHY" => TargetStatus::Healthy,
        "UNHEALTHY" => TargetStatus::Unhealthy,
        "UNUSED" => TargetStatus::Unused,
        "DRAINING" => TargetStatus::Draining,
        "UNAVAILABLE" => TargetStatus::Unavailable,
        other => {
            tracing::warn!(status = other, "an unknown target status is taken for one in progress");
            TargetStatus::Initial
        }
    }
}

fn forwards(action: Option<RuleAction>) -> Vec<(String, u32)> {
    let Some(RuleAction::Forward(forward)) = action else { return Vec::new() };
    let weight = |weight: Option<i32>| weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(100);
    forward.target_groups.into_iter().map(|group| (group.target_group_identifier, weight(group.weight))).collect()
}

fn moment(at: Option<DateTime>) -> Option<OffsetDateTime> {
    at.and_then(|at| OffsetDateTime::from_unix_timestamp_nanos(at.as_nanos()).ok())
}

/// A health check as the spec would write it; `None` when it is off.
fn health_check(config: HealthCheckConfig) -> Option<HealthCheckOn> {
    if config.enabled != Some(true) {
        return None;
    }
    let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
    Some(HealthCheckOn {
        protocol: match config.protocol {
            Some(TargetGroupProtocol::Http) => HealthCheckProtocol::Http,
            _ => HealthCheckProtocol::Https,
        },
        protocol_version: match config.protocol_version {
            Some(HealthCheckProtocolVersion::Http2) => HealthCheckVersion::Http2,
            _ => HealthCheckVersion::Http1,
        },
        port: config.port.and_then(|port| u16::try_from(port).ok()),
        path: config.path.unwrap_or_else(|| "/".into()),
        interval_seconds: number(config.health_check_interval_seconds),
        timeout_seconds: number(config.health_check_timeout_seconds),
        healthy_threshold: number(config.healthy_threshold_count),
        unhealthy_threshold: number(config.unhealthy_threshold_count),
        codes: match config.matcher {
            Some(Matcher::HttpCode(codes)) => codes,
            _ => "200".into(),
        },
    })
}
