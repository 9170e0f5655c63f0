//! What only a diagnosis looks at: auth policies and access logs.

use espalier_domain::network::SeenPolicy;

use super::Lattice;
use super::look::SERVICE;
use crate::error::{AwsError, during};

pub(super) const NETWORK: &str = "vpc-lattice:GetServiceNetwork";
pub(super) const POLICY: &str = "vpc-lattice:GetAuthPolicy";
pub(super) const LOGS: &str = "vpc-lattice:ListAccessLogSubscriptions";

impl Lattice {
    /// The auth policies of the network and the service, and whether one of the two is logged.
    ///
    /// # Errors
    /// When VPC Lattice cannot be asked.
    pub async fn policies_and_logs(
        &self,
        network: Option<&str>,
        service: Option<&str>,
    ) -> Result<(Vec<SeenPolicy>, bool), AwsError> {
        let (mut policies, mut is_logged) = (Vec::new(), false);
        if let Some(id) = network {
            let call = self.client.get_service_network().service_network_identifier(id);
            let detail = call.send().await.map_err(during(NETWORK))?;
            let is_in_force = detail.auth_type.is_some_and(|kind| kind.as_str() == "AWS_IAM");
            policies.push(self.policy(id, format!("service network {id}"), is_in_force).await?);
            is_logged |= self.is_logged(id).await?;
        }
        if let Some(id) = service {
            let detail = self.client.get_service().service_identifier(id).send().await.map_err(during(SERVICE))?;
            let is_in_force = detail.auth_type.is_some_and(|kind| kind.as_str() == "AWS_IAM");
            policies.push(self.policy(id, format!("service {id}"), is_in_force).await?);
            is_logged |= self.is_logged(id).await?;
        }
        Ok((policies, is_logged))
    }

    async fn policy(&self, id: &str, resource: String, is_in_force: bool) -> Result<SeenPolicy, AwsError> {
        let text = match self.client.get_auth_policy().resource_identifier(id).send().await.map_err(during(POLICY)) {
            Ok(answer) => answer.policy.filter(|text| !text.is_empty()),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(SeenPolicy { resource, is_in_force, text })
    }

    async fn is_logged(&self, id: &str) -> Result<bool, AwsError> {
        let answer = self.client.list_access_log_subscriptions().resource_identifier(id).send().await;
        Ok(!answer.map_err(during(LOGS))?.items.is_empty())
    }
}
