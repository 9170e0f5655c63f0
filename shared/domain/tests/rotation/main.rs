//! The rotation planner against a simulated fleet: golden histories and seeded faults.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the seed of a storm comes from the environment")]

mod broken;
mod confirm;
mod each;
mod emergency;
mod export;
mod forecast;
mod golden;
mod healthy;
mod mended;
mod observed;
mod others;
mod request;
mod simulation;
mod status;
mod world;
