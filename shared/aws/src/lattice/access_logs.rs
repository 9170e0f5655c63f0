//! Subscriptions to a service's access logs.

use std::collections::BTreeMap;

use espalier_domain::id::LogDestination;
use espalier_domain::network::{SeenAccessLog, SeenService, is_settled};
use espalier_domain::spec::Spec;

use super::step::{gone, map};
use super::{Lattice, PAGE, checkup};
use crate::error::{AwsError, during};

pub(super) const CREATE: &str = "vpc-lattice:CreateAccessLogSubscription";
pub(super) const UPDATE: &str = "vpc-lattice:UpdateAccessLogSubscription";
pub(super) const DELETE: &str = "vpc-lattice:DeleteAccessLogSubscription";

/// What VPC Lattice calls in the caller's name to have logs delivered (Service Authorization Reference, VPC Lattice:
/// dependent actions).
pub(super) const DELIVERY: [&str; 4] =
    ["logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery"];

impl Lattice {
    /// The subscriptions of a service of ours. Under a spec that wants none and was settled, there is none of ours, and
    /// whatever others have is their affair.
    pub(super) async fn access_logs(
        &self,
        spec: &Spec,
        service: Option<&SeenService>,
    ) -> Result<Vec<SeenAccessLog>, AwsError> {
        let Some(service) = service.filter(|service| service.owned.ours) else { return Ok(Vec::new()) };
        if spec.service.access_logs.is_none() && is_settled(spec, Some(service)) {
            return Ok(Vec::new());
        }
        let list = self.client.list_access_log_subscriptions().max_results(PAGE);
        let list = list.resource_identifier(&service.owned.id);
        let list = match list.into_paginator().items().send().try_collect().await.map_err(during(checkup::LOGS)) {
            Ok(list) => list,
            Err(gone) if gone.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut seen = Vec::with_capacity(list.len());
        for one in list {
            let Some(owned) = self.owned(&spec.stack, one.id, one.arn).await? else { continue };
            seen.push(SeenAccessLog { owned, destination: one.destination_arn });
        }
        Ok(seen)
    }

    pub(super) async fn subscribe(
        &self,
        service: &str,
        destination: &LogDestination,
        tags: &BTreeMap<String, String>,
        token: &str,
    ) -> Result<(), AwsError> {
        let call = self.client.create_access_log_subscription().resource_identifier(service);
        let call = call.destination_arn(destination.as_str()).set_tags(map(tags)).client_token(token);
        call.send().await.map_err(during(CREATE)).map(drop)
    }

    pub(super) async fn update_subscription(&self, id: &str, destination: &LogDestination) -> Result<(), AwsError> {
        let call = self.client.update_access_log_subscription().access_log_subscription_identifier(id);
        call.destination_arn(destination.as_str()).send().await.map_err(during(UPDATE)).map(drop)
    }

    pub(super) async fn unsubscribe(&self, id: &str) -> Result<(), AwsError> {
        let call = self.client.delete_access_log_subscription().access_log_subscription_identifier(id);
        gone(call.send().await.map_err(during(DELETE)).map(drop))
    }
}
