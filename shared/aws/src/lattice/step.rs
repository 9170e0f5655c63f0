//! Taking one step. Every call may be repeated: creating carries a client token, deleting what is gone is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_vpclattice::types::{
    ForwardAction, HealthCheckConfig, HealthCheckProtocolVersion, IpAddressType, ListenerProtocol, Matcher, RuleAction,
    Target, TargetFailure, TargetGroupConfig, TargetGroupProtocol, TargetGroupType, WeightedTargetGroup,
};
use espalier_domain::id::{HostName, SecurityGroupId, VpcId};
use espalier_domain::network::{Action, SeenFailure, TargetGroupWant};
use espalier_domain::spec::{HealthCheckOn, HealthCheckProtocol, HealthCheckVersion, TargetKind};

use super::Lattice;
use crate::error::{AwsError, during};

pub(super) const CREATE_NETWORK: &str = "vpc-lattice:CreateServiceNetwork";
pub(super) const ASSOCIATE_VPC: &str = "vpc-lattice:CreateServiceNetworkVpcAssociation";
pub(super) const UPDATE_VPC: &str = "vpc-lattice:UpdateServiceNetworkVpcAssociation";
pub(super) const CREATE_GROUP: &str = "vpc-lattice:CreateTargetGroup";
pub(super) const UPDATE_GROUP: &str = "vpc-lattice:UpdateTargetGroup";
pub(super) const REGISTER: &str = "vpc-lattice:RegisterTargets";
pub(super) const DEREGISTER: &str = "vpc-lattice:DeregisterTargets";
pub(super) const CREATE_SERVICE: &str = "vpc-lattice:CreateService";
pub(super) const UPDATE_SERVICE: &str = "vpc-lattice:UpdateService";
pub(super) const CREATE_LISTENER: &str = "vpc-lattice:CreateListener";
pub(super) const UPDATE_LISTENER: &str = "vpc-lattice:UpdateListener";
pub(super) const ASSOCIATE_SERVICE: &str = "vpc-lattice:CreateServiceNetworkServiceAssociation";
pub(super) const TAG: &str = "vpc-lattice:TagResource";
pub(super) const DELETE_SERVICE_ASSOCIATION: &str = "vpc-lattice:DeleteServiceNetworkServiceAssociation";
pub(super) const DELETE_LISTENER: &str = "vpc-lattice:DeleteListener";
pub(super) const DELETE_SERVICE: &str = "vpc-lattice:DeleteService";
pub(super) const DELETE_GROUP: &str = "vpc-lattice:DeleteTargetGroup";
pub(super) const DELETE_VPC_ASSOCIATION: &str = "vpc-lattice:DeleteServiceNetworkVpcAssociation";
pub(super) const DELETE_NETWORK: &str = "vpc-lattice:DeleteServiceNetwork";

/// `RegisterTargets` and `DeregisterTargets` take at most this many.
const TARGETS: usize = 100;

/// The one target group a listener of ours forwards to gets all connections, whatever the number.
const WEIGHT: u32 = 100;

type Tags = BTreeMap<String, String>;
type Done = Result<(), AwsError>;

impl Lattice {
    /// Takes the step. `None` when the action is not VPC Lattice's (EC2's or Route 53's).
    ///
    /// # Errors
    /// When VPC Lattice refuses or cannot be asked; `Conflict` is its word for "not in this state", so look again.
    pub async fn take(&self, action: &Action) -> Option<Result<(), AwsError>> {
        Some(match action {
            Action::CreateServiceNetwork { name, tags, token } => self.create_network(name, tags, token).await,
            Action::AssociateVpc { network_id, vpc_id, security_group_ids, tags, token } => {
                self.associate_vpc(network_id, vpc_id, security_group_ids, tags, token).await
            }
            Action::UpdateVpcAssociation { association_id, security_group_ids, .. } => {
                self.update_vpc(association_id, security_group_ids).await
            }
            Action::CreateTargetGroup { want, tags, token } => self.create_group(want, tags, token).await,
            Action::UpdateHealthCheck { target_group_id, health_check, .. } => {
                self.update_group(target_group_id, health_check.as_ref()).await
            }
            Action::RegisterTargets { target_group_id, targets, port, .. } => {
                let targets: Vec<_> = targets.iter().map(|id| (id.as_str(), *port)).collect();
                self.register(target_group_id, &targets).await
            }
            Action::DeregisterTargets { target_group_id, targets, .. } => {
                let targets: Vec<_> = targets.iter().map(|(id, port)| (id.as_str(), *port)).collect();
                self.deregister(target_group_id, &targets).await
            }
            Action::CreateService { name, custom_domain_name, idle_timeout_seconds, tags, token } => {
                self.create_service(name, custom_domain_name, *idle_timeout_seconds, tags, token).await
            }
            Action::UpdateIdleTimeout { service_id, idle_timeout_seconds, .. } => {
                self.update_service(service_id, *idle_timeout_seconds).await
            }
            Action::PutAuthPolicy { service_id, policy, .. } => self.put_auth_policy(service_id, policy).await,
            Action::SubscribeAccessLogs { service_id, destination, tags, token, .. } => {
                self.subscribe(service_id, destination, tags, token).await
            }
            Action::UpdateAccessLogs { subscription_id, destination, .. } => {
                self.update_subscription(subscription_id, destination).await
            }
            Action::DeleteAccessLogs { subscription_id, .. } => self.unsubscribe(subscription_id).await,
            Action::RequireAuth { service_id, .. } => self.require_auth(service_id).await,
            Action::DropAuth { service_id, .. } => self.drop_auth(service_id).await,
            Action::CreateListener { service_id, name, port, target_group_id, tags, token } => {
                self.create_listener(service_id, (name, *port), target_group_id, tags, token).await
            }
            Action::UpdateListener { service_id, listener_id, forwards, .. } => {
                self.update_listener(service_id, listener_id, forwards).await
            }
            Action::AssociateService { network_id, service_id, tags, token } => {
                self.associate_service(network_id, service_id, tags, token).await
            }
            Action::Tag { arn, tags, .. } => self.tag(arn, tags).await,
            Action::DeleteServiceAssociation { association_id } => {
                gone(self.delete_service_association(association_id).await)
            }
            Action::DeleteListener { service_id, listener_id } => {
                gone(self.delete_listener(service_id, listener_id).await)
            }
            Action::DeleteService { service_id, .. } => gone(self.delete_service(service_id).await),
            Action::DeleteTargetGroup { target_group_id, .. } => gone(self.delete_group(target_group_id).await),
            Action::DeleteVpcAssociation { association_id, .. } => {
                gone(self.delete_vpc_association(association_id).await)
            }
            Action::DeleteServiceNetwork { network_id, .. } => gone(self.delete_network(network_id).await),
            Action::CreatePrivateZone { .. }
            | Action::AssociateZone { .. }
            | Action::DisassociateZone { .. }
            | Action::DeletePrivateZone { .. }
            | Action::WriteRecord { .. }
            | Action::AuthorizeIngress { .. }
            | Action::DeleteRecord { .. }
            | Action::RevokeIngress { .. }
            | Action::CompleteLifecycleAction { .. } => return None,
        })
    }

    async fn create_network(&self, name: &str, tags: &Tags, token: &str) -> Done {
        let call = self.client.create_service_network().name(name).set_tags(map(tags)).client_token(token);
        call.send().await.map_err(during(CREATE_NETWORK)).map(drop)
    }

    async fn associate_vpc(
        &self,
        network_id: &str,
        vpc_id: &VpcId,
        groups: &BTreeSet<SecurityGroupId>,
        tags: &Tags,
        token: &str,
    ) -> Done {
        let call = self.client.create_service_network_vpc_association().service_network_identifier(network_id);
        let call = call.vpc_identifier(vpc_id.as_str()).set_security_group_ids(ids(groups));
        let call = call.set_tags(map(tags)).client_token(token);
        call.send().await.map_err(during(ASSOCIATE_VPC)).map(drop)
    }

    async fn update_vpc(&self, association_id: &str, groups: &BTreeSet<SecurityGroupId>) -> Done {
        let call = self.client.update_service_network_vpc_association().set_security_group_ids(ids(groups));
        let call = call.service_network_vpc_association_identifier(association_id);
        call.send().await.map_err(during(UPDATE_VPC)).map(drop)
    }

    async fn create_group(&self, want: &TargetGroupWant, tags: &Tags, token: &str) -> Done {
        let kind = match want.kind {
            TargetKind::Instance => TargetGroupType::Instance,
            TargetKind::Ipv4 | TargetKind::Ipv6 => TargetGroupType::Ip,
        };
        let call = self.client.create_target_group().name(&want.name).r#type(kind);
        let call = call.config(group_config(want)).set_tags(map(tags)).client_token(token);
        call.send().await.map_err(during(CREATE_GROUP)).map(drop)
    }

    async fn update_group(&self, id: &str, check: Option<&HealthCheckOn>) -> Done {
        let call = self.client.update_target_group().target_group_identifier(id);
        let call = call.health_check(changed_health_check(check));
        call.send().await.map_err(during(UPDATE_GROUP)).map(drop)
    }

    async fn register(&self, group: &str, targets: &[(&str, u16)]) -> Done {
        for page in targets.chunks(TARGETS) {
            let call = self.client.register_targets().target_group_identifier(group);
            let answer = call.set_targets(Some(listed(REGISTER, page)?)).send().await.map_err(during(REGISTER))?;
            all_successful(REGISTER, &answer.unsuccessful.unwrap_or_default())?;
        }
        Ok(())
    }

    async fn deregister(&self, group: &str, targets: &[(&str, u16)]) -> Done {
        for page in targets.chunks(TARGETS) {
            let call = self.client.deregister_targets().target_group_identifier(group);
            let answer = call.set_targets(Some(listed(DEREGISTER, page)?)).send().await.map_err(during(DEREGISTER))?;
            all_successful(DEREGISTER, &answer.unsuccessful.unwrap_or_default())?;
        }
        Ok(())
    }

    async fn create_service(
        &self,
        name: &str,
        domain: &HostName,
        idle_timeout_s: Option<u16>,
        tags: &Tags,
        token: &str,
    ) -> Done {
        let call = self.client.create_service().name(name).custom_domain_name(domain.as_str());
        let call = call.set_idle_timeout_seconds(idle_timeout_s.map(i32::from));
        let call = call.set_tags(map(tags)).client_token(token);
        call.send().await.map_err(during(CREATE_SERVICE)).map(drop)
    }

    async fn update_service(&self, id: &str, idle_timeout_s: u16) -> Done {
        let call = self.client.update_service().service_identifier(id);
        let call = call.idle_timeout_seconds(i32::from(idle_timeout_s));
        call.send().await.map_err(during(UPDATE_SERVICE)).map(drop)
    }

    async fn create_listener(
        &self,
        service: &str,
        (name, port): (&str, u16),
        group: &str,
        tags: &Tags,
        token: &str,
    ) -> Done {
        let alone = [(group.to_owned(), WEIGHT)];
        let call = self.client.create_listener().service_identifier(service).name(name).port(i32::from(port));
        let call = call.protocol(ListenerProtocol::TlsPassthrough).default_action(forward(CREATE_LISTENER, &alone)?);
        let call = call.set_tags(map(tags)).client_token(token);
        call.send().await.map_err(during(CREATE_LISTENER)).map(drop)
    }

    async fn update_listener(&self, service: &str, listener: &str, forwards: &[(String, u32)]) -> Done {
        let call = self.client.update_listener().service_identifier(service).listener_identifier(listener);
        let call = call.default_action(forward(UPDATE_LISTENER, forwards)?);
        call.send().await.map_err(during(UPDATE_LISTENER)).map(drop)
    }

    async fn associate_service(&self, network: &str, service: &str, tags: &Tags, token: &str) -> Done {
        let call = self.client.create_service_network_service_association().service_network_identifier(network);
        let call = call.service_identifier(service).set_tags(map(tags)).client_token(token);
        call.send().await.map_err(during(ASSOCIATE_SERVICE)).map(drop)
    }

    async fn tag(&self, arn: &str, tags: &Tags) -> Done {
        let call = self.client.tag_resource().resource_arn(arn).set_tags(map(tags));
        call.send().await.map_err(during(TAG)).map(drop)
    }

    async fn delete_service_association(&self, id: &str) -> Done {
        let call = self.client.delete_service_network_service_association();
        let call = call.service_network_service_association_identifier(id);
        call.send().await.map_err(during(DELETE_SERVICE_ASSOCIATION)).map(drop)
    }

    async fn delete_listener(&self, service: &str, id: &str) -> Done {
        let call = self.client.delete_listener().service_identifier(service).listener_identifier(id);
        call.send().await.map_err(during(DELETE_LISTENER)).map(drop)
    }

    async fn delete_service(&self, id: &str) -> Done {
        let call = self.client.delete_service().service_identifier(id);
        call.send().await.map_err(during(DELETE_SERVICE)).map(drop)
    }

    async fn delete_group(&self, id: &str) -> Done {
        let call = self.client.delete_target_group().target_group_identifier(id);
        call.send().await.map_err(during(DELETE_GROUP)).map(drop)
    }

    async fn delete_vpc_association(&self, id: &str) -> Done {
        let call = self.client.delete_service_network_vpc_association();
        let call = call.service_network_vpc_association_identifier(id);
        call.send().await.map_err(during(DELETE_VPC_ASSOCIATION)).map(drop)
    }

    async fn delete_network(&self, id: &str) -> Done {
        let call = self.client.delete_service_network().service_network_identifier(id);
        call.send().await.map_err(during(DELETE_NETWORK)).map(drop)
    }
}

/// Deleting what is gone is done.
pub(super) fn gone(result: Done) -> Done {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn ids(groups: &BTreeSet<SecurityGroupId>) -> Option<Vec<String>> {
    Some(groups.iter().map(ToString::to_string).collect())
}

fn listed(operation: &'static str, targets: &[(&str, u16)]) -> Result<Vec<Target>, AwsError> {
    let target = |(id, port): &(&str, u16)| Target::builder().id(*id).port(i32::from(*port)).build();
    let targets: Result<Vec<Target>, _> = targets.iter().map(target).collect();
    targets.map_err(|error| AwsError::unexpected(operation, error.to_string()))
}

/// Both calls answer 200 although targets were refused; the first failure's code stands for all, each is named.
fn all_successful(operation: &'static str, failures: &[TargetFailure]) -> Result<(), AwsError> {
    let Some(first) = failures.first() else { return Ok(()) };
    let named = failures.iter().map(|failure| {
        let reason = SeenFailure { code: failure.failure_code.clone(), message: failure.failure_message.clone() };
        format!("{} ({reason})", failure.id.as_deref().unwrap_or("?"))
    });
    let message = named.collect::<Vec<_>>().join(", ");
    Err(AwsError::coded(operation, first.failure_code.as_deref().unwrap_or("Unsuccessful"), message))
}

pub(super) fn map(tags: &Tags) -> Option<HashMap<String, String>> {
    Some(tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn forward(operation: &'static str, forwards: &[(String, u32)]) -> Result<RuleAction, AwsError> {
    let not_built =
        |error: aws_smithy_types::error::operation::BuildError| AwsError::unexpected(operation, error.to_string());
    let mut action = ForwardAction::builder();
    for (id, weight) in forwards {
        let weight = i32::try_from(*weight).map_err(|error| AwsError::unexpected(operation, error.to_string()))?;
        let group = WeightedTargetGroup::builder().target_group_identifier(id).weight(weight);
        action = action.target_groups(group.build().map_err(not_built)?);
    }
    Ok(RuleAction::Forward(action.build().map_err(not_built)?))
}

/// `protocolVersion` stays out: VPC Lattice refuses one on a TCP group.
fn group_config(want: &TargetGroupWant) -> TargetGroupConfig {
    TargetGroupConfig::builder()
        .protocol(TargetGroupProtocol::Tcp)
        .port(i32::from(want.port))
        .vpc_identifier(want.vpc_id.as_str())
        .set_ip_address_type(match want.kind {
            // VPC Lattice takes it of addresses only.
            TargetKind::Instance => None,
            TargetKind::Ipv4 => Some(IpAddressType::Ipv4),
            TargetKind::Ipv6 => Some(IpAddressType::Ipv6),
        })
        .health_check(want.health_check.as_ref().map_or_else(off, |check| on(check, None)))
        .build()
}

/// In an update an absent number keeps its old value and 0 resets it to its default.
fn changed_health_check(check: Option<&HealthCheckOn>) -> HealthCheckConfig {
    check.map_or_else(off, |check| on(check, Some(0)))
}

fn off() -> HealthCheckConfig {
    HealthCheckConfig::builder().enabled(false).build()
}

fn on(check: &HealthCheckOn, absent: Option<i32>) -> HealthCheckConfig {
    let number = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok()).or(absent);
    HealthCheckConfig::builder()
        .enabled(true)
        .protocol(match check.protocol {
            HealthCheckProtocol::Http => TargetGroupProtocol::Http,
            HealthCheckProtocol::Https => TargetGroupProtocol::Https,
        })
        .protocol_version(match check.protocol_version {
            HealthCheckVersion::Http1 => HealthCheckProtocolVersion::Http1,
            HealthCheckVersion::Http2 => HealthCheckProtocolVersion::Http2,
        })
        .set_port(check.port.map(i32::from).or(absent))
        .path(&check.path)
        .set_health_check_interval_seconds(number(check.interval_seconds))
        .set_health_check_timeout_seconds(number(check.timeout_seconds))
        .set_healthy_threshold_count(number(check.healthy_threshold))
        .set_unhealthy_threshold_count(number(check.unhealthy_threshold))
        .matcher(Matcher::HttpCode(check.codes.clone()))
        .build()
}
