//! From the name of an operation to the function that does it, with what all creations share: client tokens and tags.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::rules::{Fault, Rule};
use super::state::{Moment, Remembered, State, missing};
use super::{Answer, input};
use crate::fabric::Network;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagsInput {
    #[serde(default)]
    resource_arn: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

impl State {
    /// Does one operation on a request that the model has no objection to.
    pub(super) fn perform(&mut self, operation: &str, request: &Value, ec2: &Network, now: Moment) -> Answer {
        self.settle(now);
        match operation {
            "CreateAccessLogSubscription"
            | "CreateListener"
            | "CreateService"
            | "CreateServiceNetwork"
            | "CreateServiceNetworkServiceAssociation"
            | "CreateServiceNetworkVpcAssociation"
            | "CreateTargetGroup" => self.create(operation, request, ec2, now),
            "CreateRule" => self.create_rule(request),
            "DeleteAccessLogSubscription" => self.delete_log_subscription(request),
            "DeleteAuthPolicy" => self.delete_auth_policy(request),
            "DeleteListener" => self.delete_listener(request),
            "DeleteService" => self.delete_service(request, now),
            "DeleteServiceNetwork" => self.delete_service_network(request),
            "DeleteServiceNetworkServiceAssociation" => self.delete_service_association(request, now),
            "DeleteServiceNetworkVpcAssociation" => self.delete_vpc_association(request, now),
            "DeleteTargetGroup" => self.delete_target_group(request, now),
            "DeregisterTargets" => self.deregister_targets(request, now),
            "GetAuthPolicy" => self.get_auth_policy(request),
            "GetListener" => self.get_listener(request, now),
            "GetService" => self.get_service(request),
            "GetServiceNetwork" => self.get_service_network(request),
            "GetServiceNetworkServiceAssociation" => self.get_service_association(request),
            "GetServiceNetworkVpcAssociation" => self.get_vpc_association(request),
            "GetTargetGroup" => self.get_target_group(request),
            "ListAccessLogSubscriptions" => self.list_log_subscriptions(request),
            "ListListeners" => self.list_listeners(request, now),
            "ListRules" => self.list_rules(request),
            "ListServiceNetworkServiceAssociations" => self.list_service_associations(request),
            "ListServiceNetworkVpcAssociations" => self.list_vpc_associations(request),
            "ListServiceNetworks" => self.list_service_networks(request),
            "ListServices" => self.list_services(request),
            "ListTagsForResource" => self.list_tags(request),
            "ListTargetGroups" => self.list_target_groups(request),
            "ListTargets" => self.list_targets(request, now),
            "PutAuthPolicy" => self.put_auth_policy(request),
            "RegisterTargets" => self.register_targets(request, ec2, now),
            "TagResource" => self.tag_resource(request),
            "UntagResource" => self.untag_resource(request),
            "UpdateAccessLogSubscription" => self.update_log_subscription(request, now),
            "UpdateListener" => self.update_listener(request, now),
            "UpdateService" => self.update_service(request, now),
            "UpdateServiceNetwork" => self.update_service_network(request, now),
            "UpdateServiceNetworkVpcAssociation" => self.update_vpc_association(request, ec2, now),
            "UpdateTargetGroup" => self.update_target_group(request, now),
            _ => Err(Fault::new(Rule::UnknownOperation, operation)),
        }
    }

    /// A creation: at most once for a client token, with tags.
    ///
    /// How long AWS remembers a token is not documented; here it is forgotten with the resource it created, so that a
    /// stack can be built again.
    fn create(&mut self, operation: &str, request: &Value, ec2: &Network, now: Moment) -> Answer {
        let mut parameters = request.clone();
        let token = parameters.as_object_mut().and_then(|members| members.remove("clientToken"));
        let key = token.and_then(|token| token.as_str().map(|token| (operation.to_owned(), token.to_owned())));
        if let Some(known) = key.as_ref().and_then(|key| self.tokens.get(key)) {
            let arn = known.answer["arn"].as_str().unwrap_or_default();
            if self.exists(arn) {
                let same = known.input == parameters;
                let reused = || Fault::about(Rule::TokenReused, "CLIENT_TOKEN", arn);
                return if same { Ok(known.answer.clone()) } else { Err(reused()) };
            }
        }
        let TagsInput { tags, .. } = input(request)?;
        unreserved(tags.keys())?;
        let answer = match operation {
            "CreateAccessLogSubscription" => self.create_log_subscription(request, now),
            "CreateListener" => self.create_listener(request, now),
            "CreateService" => self.create_service(request, now),
            "CreateServiceNetwork" => self.create_service_network(request, now),
            "CreateServiceNetworkServiceAssociation" => self.create_service_association(request, now),
            "CreateServiceNetworkVpcAssociation" => self.create_vpc_association(request, ec2, now),
            _ => self.create_target_group(request, ec2, now),
        }?;
        if let Some(arn) = answer["arn"].as_str().filter(|_| !tags.is_empty()) {
            self.tags.insert(arn.to_owned(), tags);
        }
        if let Some(key) = key {
            self.tokens.insert(key, Remembered { input: parameters, answer: answer.clone() });
        }
        Ok(answer)
    }

    fn list_tags(&self, request: &Value) -> Answer {
        let TagsInput { resource_arn, .. } = input(request)?;
        self.taggable(&resource_arn)?;
        Ok(json!({"tags": self.tags.get(&resource_arn).cloned().unwrap_or_default()}))
    }

    fn tag_resource(&mut self, request: &Value) -> Answer {
        let TagsInput { resource_arn, tags, .. } = input(request)?;
        self.taggable(&resource_arn)?;
        unreserved(tags.keys())?;
        self.tags.entry(resource_arn).or_default().extend(tags);
        Ok(json!({}))
    }

    fn untag_resource(&mut self, request: &Value) -> Answer {
        let TagsInput { resource_arn, tag_keys, .. } = input(request)?;
        self.taggable(&resource_arn)?;
        self.tags.entry(resource_arn).or_default().retain(|key, _| !tag_keys.contains(key));
        Ok(json!({}))
    }

    fn taggable(&self, arn: &str) -> Result<(), Fault> {
        if self.exists(arn) { Ok(()) } else { Err(missing("RESOURCE", arn)) }
    }
}

fn unreserved<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<(), Fault> {
    let reserved = keys.find(|key| key.starts_with("aws:"));
    reserved.map_or(Ok(()), |key| Err(Fault::field(Rule::ReservedTag, "tags", key)))
}
