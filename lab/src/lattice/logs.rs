//! Access-log subscriptions (UG monitoring-access-logs): kept, and nothing is delivered.

use serde::Deserialize;
use serde_json::{Value, json};

use super::page::{Page, page};
use super::rules::{Fault, Rule};
use super::state::{Moment, State, look_up, look_up_mut, missing, stamp, tail};
use super::{Answer, input};

/// A subscription of a service or service network.
#[derive(Debug)]
pub(super) struct LogSubscription {
    pub(super) resource: String,
    destination: String,
    created: Moment,
    updated: Moment,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogsInput {
    #[serde(default)]
    resource_identifier: String,
    #[serde(default)]
    access_log_subscription_identifier: String,
    #[serde(default)]
    destination_arn: String,
}

impl State {
    pub(super) fn create_log_subscription(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: LogsInput = input(request)?;
        let resource = self.logged(&wanted.resource_identifier)?;
        let destination = supported(wanted.destination_arn)?;
        let id = self.issue("als-");
        let subscription = LogSubscription { resource, destination, created: now, updated: now };
        self.log_subscriptions.insert(id.clone(), subscription);
        self.log_members(&id)
    }

    pub(super) fn update_log_subscription(&mut self, request: &Value, now: Moment) -> Answer {
        let wanted: LogsInput = input(request)?;
        let destination = supported(wanted.destination_arn)?;
        let (id, _) = self.log_subscription(&wanted.access_log_subscription_identifier)?;
        let subscription = look_up_mut(&mut self.log_subscriptions, "ACCESS_LOG_SUBSCRIPTION", &id)?;
        (subscription.destination, subscription.updated) = (destination, now);
        self.log_members(&id)
    }

    pub(super) fn delete_log_subscription(&mut self, request: &Value) -> Answer {
        let wanted: LogsInput = input(request)?;
        let (id, _) = self.log_subscription(&wanted.access_log_subscription_identifier)?;
        self.log_subscriptions.remove(&id);
        Ok(json!({}))
    }

    pub(super) fn list_log_subscriptions(&self, request: &Value) -> Answer {
        let wanted: LogsInput = input(request)?;
        // The model lists no ResourceNotFoundException for it: of what does not exist there are none.
        let id = tail(&wanted.resource_identifier);
        let of_it = self.log_subscriptions.iter().filter(|(_, one)| one.resource == id);
        let items = of_it.map(|(id, one)| {
            let mut members = self.members(id, one);
            members["createdAt"] = json!(stamp(one.created));
            members["lastUpdatedAt"] = json!(stamp(one.updated));
            members
        });
        page(&self.options, request, items).map(Page::answer)
    }

    fn log_subscription(&self, identifier: &str) -> Result<(String, &LogSubscription), Fault> {
        look_up(&self.log_subscriptions, "ACCESS_LOG_SUBSCRIPTION", identifier)
    }

    fn log_members(&self, id: &str) -> Answer {
        let (id, subscription) = self.log_subscription(id)?;
        Ok(self.members(&id, subscription))
    }

    fn members(&self, id: &str, one: &LogSubscription) -> Value {
        let is_service = self.services.contains_key(&one.resource);
        let resource = if is_service { self.service_arn(&one.resource) } else { self.network_arn(&one.resource) };
        json!({
            "id": id, "arn": self.arn(&format!("accesslogsubscription/{id}")), "resourceId": one.resource,
            "resourceArn": resource, "destinationArn": one.destination,
        })
    }

    fn logged(&self, identifier: &str) -> Result<String, Fault> {
        let id = tail(identifier);
        let exists = self.services.contains_key(id) || self.networks.contains_key(id);
        if exists { Ok(id.to_owned()) } else { Err(missing("RESOURCE", identifier)) }
    }
}

fn supported(destination: String) -> Result<String, Fault> {
    let parts: Vec<&str> = destination.splitn(6, ':').collect();
    let is_supported = match parts.as_slice() {
        [_, _, "s3", _, _, bucket] => !bucket.is_empty(),
        [_, _, "logs", _, _, group] => group.starts_with("log-group:"),
        [_, _, "firehose", _, _, stream] => stream.starts_with("deliverystream/"),
        _ => false,
    };
    if is_supported { Ok(destination) } else { Err(Fault::field(Rule::LogDestination, "destinationArn", &destination)) }
}
