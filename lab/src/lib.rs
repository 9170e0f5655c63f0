//! Espalier's local world: what `cargo lab` needs and no emulator offers, and the story it tells with it.
//!
//! The product knows nothing of this crate: the same binaries and the same template run here and on AWS, pointed here
//! by the SDK's own endpoint variables. Our stand-ins refuse what AWS refuses; every refusal names its documentation.

pub mod acm;
pub mod alarms;
pub mod autoscaling;
pub mod aws;
pub mod caller;
pub mod chaos;
pub mod client;
pub mod cloudformation;
pub mod dns;
pub mod eni;
pub mod events;
pub mod fabric;
pub mod gateway;
pub mod lattice;
pub mod leak;
pub mod logs;
pub mod port;
pub mod process;
pub mod report;
pub mod setup;
pub mod simulate;
pub mod ssm;
pub mod story;
pub mod sts;
pub mod target;
pub mod ui;
pub mod xray;
