//! Auth policies: reading those that are in force, and writing the service's own.

use aws_sdk_vpclattice::types::AuthType;

use super::Lattice;
use crate::error::{AwsError, Kind, during};

pub(super) const GET: &str = "vpc-lattice:GetAuthPolicy";
pub(super) const PUT: &str = "vpc-lattice:PutAuthPolicy";
pub(super) const DELETE: &str = "vpc-lattice:DeleteAuthPolicy";

impl Lattice {
    /// The policy of a service or service network, if it has one.
    pub(super) async fn auth_policy(&self, identifier: &str) -> Result<Option<String>, AwsError> {
        let call = self.client.get_auth_policy().resource_identifier(identifier).send().await;
        match call.map_err(during(GET)) {
            Ok(answer) => Ok(answer.policy.filter(|policy| !policy.is_empty())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is in force on a network: nothing, or a policy, or (as an empty text) the denial of everything. Another
    /// account's policy may not be ours to read; then nobody can say anything about it.
    pub(super) async fn network_policy(
        &self,
        identifier: &str,
        auth_type: Option<&AuthType>,
    ) -> Result<Option<String>, AwsError> {
        if auth_type != Some(&AuthType::AwsIam) {
            return Ok(None);
        }
        match self.auth_policy(identifier).await {
            Ok(policy) => Ok(Some(policy.unwrap_or_default())),
            Err(error) if error.kind == Kind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn put_auth_policy(&self, identifier: &str, policy: &str) -> Result<(), AwsError> {
        let call = self.client.put_auth_policy().resource_identifier(identifier).policy(policy);
        call.send().await.map_err(during(PUT)).map(drop)
    }

    pub(super) async fn require_auth(&self, service: &str) -> Result<(), AwsError> {
        let call = self.client.update_service().service_identifier(service).auth_type(AuthType::AwsIam);
        call.send().await.map_err(during(super::step::UPDATE_SERVICE)).map(drop)
    }

    /// "If you are trying to remove the auth policy completely, you must set the auth type to NONE" (API reference,
    /// `DeleteAuthPolicy`): first that, since without a policy everything would be denied.
    pub(super) async fn drop_auth(&self, service: &str) -> Result<(), AwsError> {
        let call = self.client.update_service().service_identifier(service).auth_type(AuthType::None);
        call.send().await.map_err(during(super::step::UPDATE_SERVICE))?;
        match self.client.delete_auth_policy().resource_identifier(service).send().await.map_err(during(DELETE)) {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
