//! The only crate (beside `espalier-aws-ec2`) that names the AWS SDK.
pub mod acm;
pub mod bus;
pub mod command;
pub mod error;
pub mod inventory;
pub mod lattice;
pub mod ledger;
pub mod parameters;
pub mod route53;
pub mod sdk;
pub mod secrets;
pub mod specs;
pub mod states;
