//! EC2, as far as provisioning needs it: what the spec refers to, and the ingress rules we own.
//!
//! A crate of its own because the EC2 SDK alone is almost half of a build, and only `provision` pays for it. Nothing
//! here creates, tags or deletes anything but security-group *rules*.
//!
//! Everything is asked for by filter, never by id parameter: asked by id, EC2 fails the whole call when one thing is
//! missing; asked by filter it just leaves it out, and what is missing is the plan's business.

mod estate;
mod rules;

use aws_config::SdkConfig;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Filter;
use espalier_aws::error::AwsError;

/// What this crate calls.
pub const ACTIONS: &[&str] = &[
    estate::VPCS,
    estate::VPC_ATTRIBUTE,
    estate::SUBNETS,
    estate::GROUPS,
    estate::PREFIX_LISTS,
    estate::INSTANCES,
    rules::LIST,
    rules::AUTHORIZE,
    rules::REVOKE,
    rules::TAG,
];

/// EC2 takes at most 200 values in one filter.
const FILTER_VALUES: usize = 200;

/// The largest page that the `Describe` calls used here give (EC2 API reference, `MaxResults`).
const PAGE: i32 = 1000;

/// The hands.
#[derive(Debug, Clone)]
pub struct Ec2 {
    client: Client,
    region: String,
}

impl Ec2 {
    /// Builds the client.
    pub fn new(sdk: &SdkConfig) -> Self {
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        Self { client: Client::new(sdk), region }
    }
}

fn filter(name: &str, values: &[&str]) -> Filter {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}

fn present<T>(operation: &'static str, what: &str, value: Option<T>) -> Result<T, AwsError> {
    value.ok_or_else(|| AwsError::unexpected(operation, format!("{what} is missing")))
}
