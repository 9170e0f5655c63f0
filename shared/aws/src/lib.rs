//! The only crate (beside `espalier-aws-ec2`, `espalier-aws-autoscaling` and `espalier-aws-s3`) that names the AWS SDK.
//!
//! One module per thing AWS keeps for us, each a thin pair of hands: it turns an SDK answer into the domain's words and
//! an action into calls, and decides nothing. Each exports the IAM actions it needs as `ACTIONS`, so that a test can
//! hold the template's policies against the code. Every failure is an [`error::AwsError`]: the call, its kind, what the
//! service said.

pub mod acm;
pub mod bus;
pub mod command;
pub mod error;
pub mod evidence;
pub mod inventory;
pub mod kms;
pub mod lattice;
pub mod ledger;
pub mod parameters;
pub mod route53;
pub mod sdk;
pub mod sealing;
pub mod secrets;
pub mod specs;
pub mod states;

pub use aws_config::SdkConfig;
pub use error::AwsError;
pub use sdk::sdk;
