//! VPC Lattice: looking at a stack's part of it, and taking one step.
//!
//! Looking reads what carries the stack's names; whose it is, is the tag's word. Taking a step makes no choice: the
//! action holds every parameter. What AWS does asynchronously is not awaited here; the next look sees it.

mod access_logs;
mod auth;
mod checkup;
mod given;
mod look;
mod step;

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_vpclattice::Client;
use espalier_domain::network::{
    SeenAccessLog, SeenListener, SeenNetwork, SeenService, SeenServiceAssociation, SeenTargetGroup, SeenVpcAssociation,
};

use crate::error::{AwsError, during};

/// What this module calls, and what VPC Lattice calls in the caller's name: it makes its service-linked role at the
/// first use in an account, and reads the VPC, the groups and the instances it is handed.
pub const ACTIONS: &[&str] = &[
    look::NETWORKS,
    given::NETWORK,
    access_logs::CREATE,
    access_logs::UPDATE,
    access_logs::DELETE,
    auth::GET,
    auth::PUT,
    auth::DELETE,
    look::SERVICES,
    look::SERVICE,
    look::GROUPS,
    look::GROUP,
    look::TARGETS,
    look::LISTENERS,
    look::LISTENER,
    look::VPC_ASSOCIATIONS,
    look::VPC_ASSOCIATION,
    look::SERVICE_ASSOCIATIONS,
    look::SERVICE_ASSOCIATION,
    checkup::NETWORK,
    checkup::POLICY,
    checkup::LOGS,
    TAGS,
    step::CREATE_NETWORK,
    step::ASSOCIATE_VPC,
    step::UPDATE_VPC,
    step::CREATE_GROUP,
    step::UPDATE_GROUP,
    step::REGISTER,
    step::DEREGISTER,
    step::CREATE_SERVICE,
    step::UPDATE_SERVICE,
    step::CREATE_LISTENER,
    step::UPDATE_LISTENER,
    step::ASSOCIATE_SERVICE,
    step::TAG,
    step::DELETE_SERVICE_ASSOCIATION,
    step::DELETE_LISTENER,
    step::DELETE_SERVICE,
    step::DELETE_GROUP,
    step::DELETE_VPC_ASSOCIATION,
    step::DELETE_NETWORK,
    access_logs::DELIVERY[0],
    access_logs::DELIVERY[1],
    access_logs::DELIVERY[2],
    access_logs::DELIVERY[3],
    "iam:CreateServiceLinkedRole",
    "ec2:DescribeVpcs",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeInstances",
    "ec2:DescribeSubnets",
];

/// The largest page that VPC Lattice gives (API reference, `maxResults` of every list).
const PAGE: i32 = 100;

const TAGS: &str = "vpc-lattice:ListTagsForResource";

/// Everything of VPC Lattice one look saw; the rest of [`espalier_domain::network::Observed`] is EC2's and Route 53's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The service network with the stack's name, or the one that the spec names.
    pub network: Option<SeenNetwork>,
    /// All associations of that network, and whatever else the consumers' VPCs are associated with.
    pub vpc_associations: Vec<SeenVpcAssociation>,
    /// The stack's target groups, and the one with the wanted name whoever's it is; or those given by id.
    pub target_groups: Vec<SeenTargetGroup>,
    /// The service with the stack's name, or the one given by id.
    pub service: Option<SeenService>,
    /// All listeners of that service.
    pub listeners: Vec<SeenListener>,
    /// All network associations of that service, and all service associations of that network.
    pub service_associations: Vec<SeenServiceAssociation>,
    /// The subscriptions to that service's access logs, as far as the spec has to do with them.
    pub access_logs: Vec<SeenAccessLog>,
}

/// The hands.
#[derive(Debug, Clone)]
pub struct Lattice {
    client: Client,
}

impl Lattice {
    /// Builds the client.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// The resource's tags; empty when they are not ours to read (a resource another account shares with this one), `None`
    /// when it is gone since it was listed: what is being deleted must not be taken for somebody else's.
    async fn tags(&self, arn: &str) -> Result<Option<BTreeMap<String, String>>, AwsError> {
        match self.client.list_tags_for_resource().resource_arn(arn).send().await.map_err(during(TAGS)) {
            Ok(answer) => Ok(Some(answer.tags.unwrap_or_default().into_iter().collect())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.kind == crate::error::Kind::Denied => Ok(Some(BTreeMap::new())),
            Err(error) => Err(error),
        }
    }
}

fn present<T>(operation: &'static str, what: &str, value: Option<T>) -> Result<T, AwsError> {
    value.ok_or_else(|| AwsError::unexpected(operation, format!("{what} is missing")))
}
