//! Systems Manager's inventory: which nodes are managed, reachable, and opted in by their owners' tag.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_config::SdkConfig;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::operation::describe_instance_information::DescribeInstanceInformationError;
use aws_sdk_ssm::types::{InstanceInformation, InstanceInformationStringFilter, PingStatus};
use espalier_domain::id::{NodeId, StackName};
use espalier_domain::rotation::agent::AgentVersion;

use crate::error::{AwsError, during};

/// What the reader needs (it takes no resource: every node's *description* may be read, no node may be touched).
pub const ACTIONS: &[&str] = &["ssm:DescribeInstanceInformation"];

/// The instance tag by which an owner opts in.
pub const OPT_IN_TAG: &str = "espalier:stack";

/// Filter values in one call.
const BATCH: usize = 50;

/// The inventory.
#[derive(Debug, Clone)]
pub struct Inventory {
    client: Client,
}

/// A managed node, as its agent last reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Whether the agent has been heard lately: a command sent to it will be delivered.
    pub online: bool,
    /// Its private address; absent when the agent never reported one.
    pub address: Option<IpAddr>,
    /// Its agent's version; absent when it reports none, or something that is none.
    pub agent: Option<AgentVersion>,
}

/// Managed nodes by id.
pub type Nodes = BTreeMap<NodeId, Node>;

impl Inventory {
    /// An inventory of the configured account and region.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// The managed nodes whose owners opted in to this stack (tag [`OPT_IN_TAG`]).
    ///
    /// # Errors
    /// Systems Manager's.
    pub async fn opted_in(&self, stack: &StackName) -> Result<Nodes, AwsError> {
        self.tagged(OPT_IN_TAG, stack.as_str()).await
    }

    /// The managed nodes with this tag.
    ///
    /// # Errors
    /// Systems Manager's.
    pub async fn tagged(&self, key: &str, value: &str) -> Result<Nodes, AwsError> {
        self.nodes(&format!("tag:{key}"), vec![value.to_owned()]).await
    }

    /// The managed ones among these nodes.
    ///
    /// # Errors
    /// Systems Manager's, except that an id is not managed.
    pub async fn managed(&self, ids: &[NodeId]) -> Result<Nodes, AwsError> {
        let mut found = Nodes::new();
        for batch in ids.chunks(BATCH) {
            let values: Vec<String> = batch.iter().map(ToString::to_string).collect();
            match self.nodes("InstanceIds", values).await {
                Ok(nodes) => found.extend(nodes),
                // One id that is not managed fails the whole call: ask for each alone.
                Err(error) if is_unmanaged(&error) => {
                    for id in batch {
                        match self.nodes("InstanceIds", vec![id.to_string()]).await {
                            Ok(nodes) => found.extend(nodes),
                            Err(error) if is_unmanaged(&error) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn nodes(&self, key: &str, values: Vec<String>) -> Result<Nodes, AwsError> {
        let unexpected = |what: String| AwsError::unexpected("ssm:DescribeInstanceInformation", what);
        let filter = InstanceInformationStringFilter::builder()
            .key(key)
            .set_values(Some(values))
            .build()
            .map_err(|error| unexpected(error.to_string()))?;
        let mut nodes = Nodes::new();
        let mut pages =
            self.client.describe_instance_information().filters(filter).max_results(50).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(during::<DescribeInstanceInformationError>("ssm:DescribeInstanceInformation"))?;
            nodes.extend(page.instance_information_list().iter().filter_map(node));
        }
        Ok(nodes)
    }
}

fn is_unmanaged(error: &AwsError) -> bool {
    error.code() == "InvalidInstanceId"
}

/// Reads one entry.
fn node(entry: &InstanceInformation) -> Option<(NodeId, Node)> {
    let id = NodeId::parse(entry.instance_id()?).ok()?;
    let online = entry.ping_status() == Some(&PingStatus::Online);
    let address = entry.ip_address().and_then(|text| text.parse().ok());
    let agent = entry.agent_version().and_then(AgentVersion::parse);
    Some((id, Node { online, address, agent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_online_nodes_are_online_instances_and_others_alike() {
        let entry = |id: &str, ping: &str, address: &str| {
            let entry = InstanceInformation::builder().instance_id(id).ping_status(ping.into()).ip_address(address);
            node(&entry.agent_version("3.2.923.0").build())
        };
        let (id, seen) = entry("i-0abc1234def567890", "Online", "10.0.0.7").unwrap();
        assert_eq!(id.as_str(), "i-0abc1234def567890");
        assert_eq!(
            seen,
            Node { online: true, address: Some("10.0.0.7".parse().unwrap()), agent: AgentVersion::parse("3.2.923.0") }
        );
        assert!(!entry("i-0abc1234def567890", "ConnectionLost", "10.0.0.7").unwrap().1.online);
        assert_eq!(entry("i-0abc1234def567890", "Online", "").unwrap().1.address, None);
        assert!(entry("mi-0abc1234def567890", "Online", "10.0.0.7").unwrap().1.online);
        assert_eq!(entry("10.0.0.7", "Online", "10.0.0.7"), None);
    }
}
