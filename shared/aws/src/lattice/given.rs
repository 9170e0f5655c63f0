//! Looking at what the spec gives by id: somebody else's service network, or a whole estate of somebody else's.
//!
//! None of it is ever ours, whatever its tags say: whoever writes an id into a spec says whose it is.

use aws_sdk_vpclattice::types::ServiceNetworkVpcAssociationSummary;
use espalier_domain::id::TargetGroupId;
use espalier_domain::network::{Owned, SeenNetwork, SeenService, SeenTargetGroup};
use espalier_domain::spec::{Given, Spec};
use futures::future::try_join_all;

use super::look::{SERVICE, seen_service};
use super::{Lattice, present};
use crate::error::{AwsError, Kind, during};

pub(super) const NETWORK: &str = "vpc-lattice:GetServiceNetwork";

impl Lattice {
    pub(super) async fn wanted_network(&self, spec: &Spec) -> Result<Option<SeenNetwork>, AwsError> {
        match &spec.network.service_network_id {
            Some(given) => self.given_network(given.as_str()).await,
            // In somebody else's estate the service's own association says which network it is.
            None if spec.lattice.is_some() => Ok(None),
            None => {
                let Some(mut network) = self.network(&spec.stack).await? else { return Ok(None) };
                let call = self.client.get_service_network().service_network_identifier(&network.owned.id).send().await;
                let Some(detail) = if_there(call.map_err(during(NETWORK)))? else { return Ok(Some(network)) };
                network.auth_policy = self.network_policy(&network.owned.id, detail.auth_type.as_ref()).await?;
                Ok(Some(network))
            }
        }
    }

    pub(super) async fn wanted_service(&self, spec: &Spec) -> Result<Option<SeenService>, AwsError> {
        match &spec.lattice {
            Some(given) => self.given_service(given).await,
            None => {
                let Some(mut service) = self.service(&spec.stack).await? else { return Ok(None) };
                if spec.service.auth_policy.is_some() {
                    service.auth_policy = self.auth_policy(&service.owned.id).await?;
                }
                Ok(Some(service))
            }
        }
    }

    pub(super) async fn wanted_groups(&self, spec: &Spec) -> Result<Vec<SeenTargetGroup>, AwsError> {
        match &spec.lattice {
            Some(given) => {
                let groups = try_join_all(given.target_group_ids.iter().map(|id| self.given_group(id))).await?;
                Ok(groups.into_iter().flatten().collect())
            }
            None => self.target_groups(spec).await,
        }
    }

    async fn given_network(&self, identifier: &str) -> Result<Option<SeenNetwork>, AwsError> {
        let call = self.client.get_service_network().service_network_identifier(identifier).send().await;
        let Some(detail) = if_there(call.map_err(during(NETWORK)))? else { return Ok(None) };
        let id = present(NETWORK, "a service network's id", detail.id)?;
        let arn = present(NETWORK, "a service network's ARN", detail.arn)?;
        let auth_policy = self.network_policy(identifier, detail.auth_type.as_ref()).await?;
        Ok(Some(SeenNetwork { owned: foreign(id, arn), auth_policy }))
    }

    async fn given_service(&self, given: &Given) -> Result<Option<SeenService>, AwsError> {
        let id = given.service_id.as_str();
        let call = self.client.get_service().service_identifier(id).send().await;
        let Some(detail) = if_there(call.map_err(during(SERVICE)))? else { return Ok(None) };
        let arn = present(SERVICE, "a service's ARN", detail.arn.clone())?;
        let mut service = seen_service(foreign(id.to_owned(), arn), detail);
        if service.is_iam {
            service.auth_policy = self.auth_policy(id).await?;
        }
        Ok(Some(service))
    }

    async fn given_group(&self, id: &TargetGroupId) -> Result<Option<SeenTargetGroup>, AwsError> {
        if_there(self.group_detail(foreign(id.to_string(), String::new())).await).map(Option::flatten)
    }
}

/// Of the VPCs in somebody else's network only the consumers matter, and those that this account put there: the others,
/// of which there may be hundreds, are not worth two calls each.
pub(super) fn may_matter(
    spec: &Spec,
    service: Option<&SeenService>,
    association: &ServiceNetworkVpcAssociationSummary,
) -> bool {
    let account = service.and_then(|service| service.owned.arn.split(':').nth(4));
    let is_consumer =
        || spec.network.consumers.iter().any(|one| Some(one.vpc_id.as_str()) == association.vpc_id.as_deref());
    spec.network.service_network_id.is_none()
        || is_consumer()
        || account.is_none()
        || association.created_by.is_none()
        || account == association.created_by.as_deref()
}

/// What does not exist, and what another account has not shared, are answered alike.
fn if_there<T>(answer: Result<T, AwsError>) -> Result<Option<T>, AwsError> {
    match answer {
        Ok(detail) => Ok(Some(detail)),
        Err(error) if error.is_not_found() || error.kind == Kind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

fn foreign(id: String, arn: String) -> Owned {
    Owned { id, arn, ours: false, spec_hash: None }
}
