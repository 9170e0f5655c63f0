//! Service networks, services and the associations between them and with VPCs.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::page::{Page, page};
use super::rules::{Fault, Rule};
use super::state::{
    Life, Moment, Phase, Service, ServiceAssociation, ServiceNetwork, State, VpcAssociation, look_up, look_up_mut,
    stamp, tail,
};
use super::{Answer, input};
use crate::fabric::Network;

const IDLE_TIMEOUT_S: u64 = 60;
const NETWORKS: usize = 50;
const SERVICES: usize = 2_000;
const ASSOCIATIONS: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateServiceNetwork {
    name: String,
    auth_type: Option<String>,
    sharing_config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateService {
    name: String,
    custom_domain_name: Option<String>,
    certificate_arn: Option<String>,
    auth_type: Option<String>,
    idle_timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateService {
    service_identifier: String,
    certificate_arn: Option<String>,
    auth_type: Option<String>,
    idle_timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkInput {
    service_network_identifier: String,
    auth_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceInput {
    service_identifier: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateVpcAssociation {
    service_network_identifier: String,
    vpc_identifier: String,
    #[serde(default)]
    security_group_ids: Vec<String>,
    private_dns_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VpcAssociationInput {
    service_network_vpc_association_identifier: String,
    security_group_ids: Option<Vec<String>>,
    private_dns_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateServiceAssociation {
    service_network_identifier: String,
    service_identifier: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceAssociationInput {
    service_network_service_association_identifier: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssociationFilter {
    service_network_identifier: Option<String>,
    service_identifier: Option<String>,
    vpc_identifier: Option<String>,
}

/// Service networks.
impl State {
    pub(super) fn create_service_network(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: CreateServiceNetwork = input(request)?;
        if let Some((id, _)) = self.networks.iter().find(|(_, network)| network.name == wanted.name) {
            return Err(Fault::about(Rule::NameTaken, "SERVICE_NETWORK", id));
        }
        if self.networks.len() >= NETWORKS {
            return Err(Fault::about(Rule::NetworkQuota, "SERVICE_NETWORK", ""));
        }
        let id = self.issue("sn-");
        let auth_type = wanted.auth_type.unwrap_or_else(|| "NONE".into());
        let network =
            ServiceNetwork { name: wanted.name, auth_type, sharing: wanted.sharing_config, created: now, updated: now };
        let mut answer = json!({
            "id": id, "arn": self.network_arn(&id), "name": network.name, "authType": network.auth_type,
        });
        put(&mut answer, "sharingConfig", network.sharing.clone());
        self.networks.insert(id, network);
        Ok(answer)
    }

    pub(super) fn get_service_network(&self, request: &Value) -> Answer {
        let wanted: NetworkInput = input(request)?;
        let (id, network) = self.network(&wanted.service_network_identifier)?;
        let mut answer = self.network_summary(&id, network);
        put(&mut answer, "authType", Some(network.auth_type.clone().into()));
        put(&mut answer, "sharingConfig", network.sharing.clone());
        Ok(answer)
    }

    pub(super) fn list_service_networks(&self, request: &Value) -> Answer {
        page(&self.options, request, self.networks.iter().map(|(id, network)| self.network_summary(id, network)))
            .map(Page::answer)
    }

    fn network_summary(&self, id: &str, network: &ServiceNetwork) -> Value {
        json!({
            "id": id, "arn": self.network_arn(id), "name": network.name,
            "createdAt": stamp(network.created), "lastUpdatedAt": stamp(network.updated),
            "numberOfAssociatedVPCs": self.vpc_associations.values().filter(|a| a.network == id).count(),
            "numberOfAssociatedServices": self.service_associations.values().filter(|a| a.network == id).count(),
        })
    }

    pub(super) fn update_service_network(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: NetworkInput = input(request)?;
        let network = look_up_mut(&mut self.networks, "SERVICE_NETWORK", &wanted.service_network_identifier)?;
        network.auth_type = wanted.auth_type.unwrap_or_else(|| network.auth_type.clone());
        network.updated = now;
        let (id, network) = self.network(&wanted.service_network_identifier)?;
        let arn = self.network_arn(&id);
        Ok(json!({"id": id, "arn": arn, "name": network.name, "authType": network.auth_type}))
    }

    pub(super) fn delete_service_network(&mut self, request: &Value) -> Answer {
        let wanted: NetworkInput = input(request)?;
        let (id, _) = self.network(&wanted.service_network_identifier)?;
        let vpcs = self.vpc_associations.values().any(|association| association.network == id);
        if vpcs || self.service_associations.values().any(|association| association.network == id) {
            return Err(Fault::about(Rule::NetworkInUse, "SERVICE_NETWORK", &id));
        }
        self.networks.remove(&id);
        Ok(json!({}))
    }
}

/// Services.
impl State {
    pub(super) fn create_service(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: CreateService = input(request)?;
        if let Some((id, _)) = self.services.iter().find(|(_, service)| service.name == wanted.name) {
            return Err(Fault::about(Rule::NameTaken, "SERVICE", id));
        }
        let full = || Fault::about(Rule::ServiceQuota, "SERVICE", "");
        if self.services.len() >= SERVICES {
            return Err(full());
        }
        // The lab plays one /24 of addresses, fewer than AWS's quota.
        let address = self.free_address().ok_or_else(full)?;
        let service = Service {
            name: wanted.name,
            custom_domain: wanted.custom_domain_name,
            certificate: wanted.certificate_arn,
            auth_type: wanted.auth_type.unwrap_or_else(|| "NONE".into()),
            idle_timeout_s: wanted.idle_timeout_seconds.unwrap_or(IDLE_TIMEOUT_S),
            address,
            life: Life::begin(now, self.options.create_delay),
        };
        let id = self.issue("svc-");
        let mut answer = self.service_members(&id, &service);
        put(&mut answer, "status", Some(service.life.phase.status().into()));
        self.services.insert(id, service);
        Ok(answer)
    }

    pub(super) fn get_service(&self, request: &Value) -> Answer {
        let wanted: ServiceInput = input(request)?;
        let (id, service) = self.service(&wanted.service_identifier)?;
        let mut answer = self.service_summary(&id, service);
        if let (Value::Object(answer), Value::Object(more)) = (&mut answer, self.service_members(&id, service)) {
            answer.extend(more);
        }
        Ok(answer)
    }

    pub(super) fn list_services(&self, request: &Value) -> Answer {
        page(&self.options, request, self.services.iter().map(|(id, service)| self.service_summary(id, service)))
            .map(Page::answer)
    }

    /// What the answers to creating, reading and updating a service have in common.
    fn service_members(&self, id: &str, service: &Service) -> Value {
        let mut answer = json!({
            "id": id, "arn": self.service_arn(id), "name": service.name, "authType": service.auth_type,
            "idleTimeoutSeconds": service.idle_timeout_s,
        });
        put(&mut answer, "customDomainName", service.custom_domain.clone().map(Value::from));
        put(&mut answer, "certificateArn", service.certificate.clone().map(Value::from));
        answer
    }

    fn service_summary(&self, id: &str, service: &Service) -> Value {
        let mut summary = json!({
            "id": id, "arn": self.service_arn(id), "name": service.name, "status": service.life.phase.status(),
            "createdAt": stamp(service.life.created), "lastUpdatedAt": stamp(service.life.updated),
        });
        put(&mut summary, "customDomainName", service.custom_domain.clone().map(Value::from));
        put(&mut summary, "dnsEntry", self.dns_entry(id, service));
        summary
    }

    /// The generated name, once the service is active: a caller must cope with its absence, the member is optional.
    fn dns_entry(&self, id: &str, service: &Service) -> Option<Value> {
        let entry = json!({"domainName": self.dns_name(id, service), "hostedZoneId": self.options.hosted_zone_id});
        (service.life.phase != Phase::Creating).then_some(entry)
    }

    pub(super) fn update_service(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: UpdateService = input(request)?;
        let (id, service) = self.service(&wanted.service_identifier)?;
        if !service.life.is_active() {
            return Err(Fault::about(Rule::ServiceNotActive, "SERVICE", &id));
        }
        let service = look_up_mut(&mut self.services, "SERVICE", &id)?;
        service.certificate = wanted.certificate_arn.or_else(|| service.certificate.take());
        service.auth_type = wanted.auth_type.unwrap_or_else(|| service.auth_type.clone());
        service.idle_timeout_s = wanted.idle_timeout_seconds.unwrap_or(service.idle_timeout_s);
        service.life.updated = now;
        let (id, service) = self.service(&id)?;
        Ok(self.service_members(&id, service))
    }

    pub(super) fn delete_service(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: ServiceInput = input(request)?;
        let (id, service) = self.service(&wanted.service_identifier)?;
        if self.service_associations.values().any(|association| association.service == id) {
            return Err(Fault::about(Rule::ServiceAssociated, "SERVICE", &id));
        }
        match service.life.phase {
            Phase::Creating | Phase::Updating => return Err(Fault::about(Rule::ServiceNotActive, "SERVICE", &id)),
            Phase::Active => {
                let delay = self.options.delete_delay;
                look_up_mut(&mut self.services, "SERVICE", &id)?.life.enter(Phase::Deleting, now, delay);
            }
            // A repeated deletion changes nothing.
            Phase::Deleting => {}
        }
        let (id, service) = self.service(&id)?;
        let (arn, status) = (self.service_arn(&id), service.life.phase.status());
        Ok(json!({"id": id, "arn": arn, "name": service.name, "status": status}))
    }
}

/// Associations of services with service networks.
impl State {
    pub(super) fn create_service_association(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: CreateServiceAssociation = input(request)?;
        let (network, _) = self.network(&wanted.service_network_identifier)?;
        let (service_id, service) = self.service(&wanted.service_identifier)?;
        if !service.life.is_active() {
            return Err(Fault::about(Rule::ServiceNotActive, "SERVICE", &service_id));
        }
        let in_network = || self.service_associations.iter().filter(|(_, a)| a.network == network);
        if let Some((id, _)) = in_network().find(|(_, association)| association.service == service_id) {
            return Err(Fault::about(Rule::AlreadyAssociated, "SERVICE_NETWORK_SERVICE_ASSOCIATION", id));
        }
        let same_domain = |association: &ServiceAssociation| {
            let other = self.services.get(&association.service).and_then(|other| other.custom_domain.as_deref());
            other.is_some_and(|other| service.custom_domain.as_deref() == Some(other))
        };
        if let Some((_, association)) = in_network().find(|(_, association)| same_domain(association)) {
            return Err(Fault::about(Rule::DomainTaken, "SERVICE", &association.service));
        }
        if in_network().count() >= ASSOCIATIONS {
            return Err(Fault::about(Rule::ServiceAssociationQuota, "SERVICE_NETWORK", &network));
        }
        let life = Life::begin(now, self.options.create_delay);
        let id = self.issue("snsa-");
        let association = ServiceAssociation { network, service: service_id, life };
        self.service_associations.insert(id.clone(), association);
        let mut answer = self.service_association(&id)?;
        if let Value::Object(members) = &mut answer {
            members.retain(|name, _| {
                ["id", "arn", "status", "createdBy", "customDomainName", "dnsEntry"].contains(&name.as_str())
            });
        }
        Ok(answer)
    }

    fn service_association(&self, id: &str) -> Answer {
        let (id, association) = look_up(&self.service_associations, "SERVICE_NETWORK_SERVICE_ASSOCIATION", id)?;
        let (network_id, network) = self.network(&association.network)?;
        let (service_id, service) = self.service(&association.service)?;
        let mut members = json!({
            "id": id, "arn": self.service_association_arn(&id), "status": association.life.phase.status(),
            "createdBy": self.options.account, "createdAt": stamp(association.life.created),
            "serviceId": service_id, "serviceArn": self.service_arn(&service_id), "serviceName": service.name,
            "serviceNetworkId": network_id, "serviceNetworkArn": self.network_arn(&network_id),
            "serviceNetworkName": network.name,
        });
        put(&mut members, "customDomainName", service.custom_domain.clone().map(Value::from));
        put(&mut members, "dnsEntry", self.dns_entry(&service_id, service));
        Ok(members)
    }

    pub(super) fn get_service_association(&self, request: &Value) -> Answer {
        let wanted: ServiceAssociationInput = input(request)?;
        self.service_association(&wanted.service_network_service_association_identifier)
    }

    pub(super) fn list_service_associations(&self, request: &Value) -> Answer {
        let filter: AssociationFilter = input(request)?;
        if filter.service_network_identifier.is_none() && filter.service_identifier.is_none() {
            return Err(Fault::new(Rule::ListNeedsFilter, "serviceNetworkIdentifier or serviceIdentifier"));
        }
        let network = filter.service_network_identifier.as_deref().map(tail);
        let service = filter.service_identifier.as_deref().map(tail);
        let wanted = self.service_associations.iter().filter(|(_, association)| {
            network.is_none_or(|id| id == association.network) && service.is_none_or(|id| id == association.service)
        });
        let items = wanted.map(|(id, _)| self.service_association(id)).collect::<Result<Vec<_>, _>>()?;
        page(&self.options, request, items.into_iter()).map(Page::answer)
    }

    pub(super) fn delete_service_association(&mut self, request: &Value, now: Moment) -> Answer {
        const KIND: &str = "SERVICE_NETWORK_SERVICE_ASSOCIATION";
        let wanted: ServiceAssociationInput = input(request)?;
        let delay = self.options.delete_delay;
        let id = wanted.service_network_service_association_identifier;
        let association = look_up_mut(&mut self.service_associations, KIND, &id)?;
        delete(&mut association.life, KIND, &id, now, delay)?;
        let status = association.life.phase.status();
        Ok(json!({"id": tail(&id), "arn": self.service_association_arn(tail(&id)), "status": status}))
    }
}

/// Associations of VPCs with service networks.
impl State {
    pub(super) fn create_vpc_association(&mut self, request: &Value, ec2: &Network, now: Moment) -> Answer {
        let wanted: CreateVpcAssociation = input(request)?;
        let (network, _) = self.network(&wanted.service_network_identifier)?;
        if !ec2.vpcs.contains_key(&wanted.vpc_identifier) {
            return Err(Fault::field(Rule::UnknownVpc, "vpcIdentifier", &wanted.vpc_identifier));
        }
        known_groups(ec2, &wanted.vpc_identifier, &wanted.security_group_ids)?;
        if let Some((id, _)) = self.vpc_associations.iter().find(|(_, a)| a.vpc == wanted.vpc_identifier) {
            return Err(Fault::about(Rule::VpcAlreadyAssociated, "SERVICE_NETWORK_VPC_ASSOCIATION", id));
        }
        if self.vpc_associations.values().filter(|a| a.network == network).count() >= ASSOCIATIONS {
            return Err(Fault::about(Rule::VpcAssociationQuota, "SERVICE_NETWORK", &network));
        }
        let association = VpcAssociation {
            network,
            vpc: wanted.vpc_identifier,
            security_groups: wanted.security_group_ids,
            private_dns: wanted.private_dns_enabled.unwrap_or(false),
            life: Life::begin(now, self.options.create_delay),
        };
        let id = self.issue("snva-");
        self.vpc_associations.insert(id.clone(), association);
        self.changed_vpc_association(&id)
    }

    /// The answer to creating or updating.
    fn changed_vpc_association(&self, id: &str) -> Answer {
        let (id, association) = look_up(&self.vpc_associations, "SERVICE_NETWORK_VPC_ASSOCIATION", id)?;
        Ok(json!({
            "id": id, "arn": self.vpc_association_arn(&id), "status": association.life.phase.status(),
            "createdBy": self.options.account, "securityGroupIds": association.security_groups,
            "privateDnsEnabled": association.private_dns,
        }))
    }

    fn vpc_association_summary(&self, id: &str) -> Answer {
        let (id, association) = look_up(&self.vpc_associations, "SERVICE_NETWORK_VPC_ASSOCIATION", id)?;
        let (network_id, network) = self.network(&association.network)?;
        Ok(json!({
            "id": id, "arn": self.vpc_association_arn(&id), "status": association.life.phase.status(),
            "createdBy": self.options.account, "createdAt": stamp(association.life.created),
            "lastUpdatedAt": stamp(association.life.updated), "vpcId": association.vpc,
            "serviceNetworkId": network_id, "serviceNetworkArn": self.network_arn(&network_id),
            "serviceNetworkName": network.name, "privateDnsEnabled": association.private_dns,
        }))
    }

    pub(super) fn get_vpc_association(&self, request: &Value) -> Answer {
        let wanted: VpcAssociationInput = input(request)?;
        let id = &wanted.service_network_vpc_association_identifier;
        let mut answer = self.vpc_association_summary(id)?;
        let (_, association) = look_up(&self.vpc_associations, "SERVICE_NETWORK_VPC_ASSOCIATION", id)?;
        // Absent, not empty, where none was ever set.
        let groups = (!association.security_groups.is_empty()).then(|| json!(association.security_groups));
        put(&mut answer, "securityGroupIds", groups);
        Ok(answer)
    }

    pub(super) fn list_vpc_associations(&self, request: &Value) -> Answer {
        let filter: AssociationFilter = input(request)?;
        if filter.service_network_identifier.is_none() && filter.vpc_identifier.is_none() {
            return Err(Fault::new(Rule::ListNeedsFilter, "serviceNetworkIdentifier or vpcIdentifier"));
        }
        let network = filter.service_network_identifier.as_deref().map(tail);
        let wanted = self.vpc_associations.iter().filter(|(_, association)| {
            network.is_none_or(|id| id == association.network)
                && filter.vpc_identifier.as_deref().is_none_or(|vpc| vpc == association.vpc)
        });
        let items = wanted.map(|(id, _)| self.vpc_association_summary(id)).collect::<Result<Vec<_>, _>>()?;
        page(&self.options, request, items.into_iter()).map(Page::answer)
    }

    pub(super) fn update_vpc_association(&mut self, request: &Value, ec2: &Network, now: Moment) -> Answer {
        const KIND: &str = "SERVICE_NETWORK_VPC_ASSOCIATION";
        let wanted: VpcAssociationInput = input(request)?;
        let delay = self.options.update_delay;
        let id = wanted.service_network_vpc_association_identifier;
        let association = look_up_mut(&mut self.vpc_associations, KIND, &id)?;
        if !association.life.is_active() {
            return Err(Fault::about(Rule::AssociationBusy, KIND, tail(&id)));
        }
        if let Some(groups) = wanted.security_group_ids {
            known_groups(ec2, &association.vpc, &groups)?;
            association.security_groups = groups;
        }
        association.private_dns = wanted.private_dns_enabled.unwrap_or(association.private_dns);
        association.life.enter(Phase::Updating, now, delay);
        self.changed_vpc_association(&id)
    }

    pub(super) fn delete_vpc_association(&mut self, request: &Value, now: Moment) -> Answer {
        const KIND: &str = "SERVICE_NETWORK_VPC_ASSOCIATION";
        let wanted: VpcAssociationInput = input(request)?;
        let delay = self.options.delete_delay;
        let id = wanted.service_network_vpc_association_identifier;
        let association = look_up_mut(&mut self.vpc_associations, KIND, &id)?;
        delete(&mut association.life, KIND, &id, now, delay)?;
        let status = association.life.phase.status();
        Ok(json!({"id": tail(&id), "arn": self.vpc_association_arn(tail(&id)), "status": status}))
    }
}

fn delete(life: &mut Life, kind: &'static str, id: &str, now: Moment, delay: std::time::Duration) -> Result<(), Fault> {
    match life.phase {
        Phase::Creating | Phase::Updating => return Err(Fault::about(Rule::AssociationBusy, kind, tail(id))),
        Phase::Active => life.enter(Phase::Deleting, now, delay),
        Phase::Deleting => {}
    }
    Ok(())
}

fn known_groups(ec2: &Network, vpc: &str, groups: &[String]) -> Result<(), Fault> {
    let foreign = groups.iter().find(|id| ec2.groups.get(*id).is_none_or(|group| group.vpc != vpc));
    foreign.map_or(Ok(()), |id| {
        Err(Fault::field(Rule::UnknownSecurityGroup, "securityGroupIds", format!("{id} in {vpc}")))
    })
}

/// Sets an optional member of an answer: absent rather than null.
pub(super) fn put(answer: &mut Value, name: &str, value: Option<Value>) {
    if let (Value::Object(members), Some(value)) = (answer, value) {
        let members: &mut Map<String, Value> = members;
        members.insert(name.to_owned(), value);
    }
}
