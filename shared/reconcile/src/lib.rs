//! The loop: observe, plan, apply, look again, until nothing is left to do or the budget is spent.
//!
//! Generic over what is reconciled ([`World`]) and over time ([`Clock`]), so that a test runs hours of waiting in no
//! time. The loop itself decides nothing about a domain: the plan says what can be done now, the world's hands do it,
//! and every decision rests on what was just observed. Stopping anywhere is safe: the next run looks again.

mod clock;
mod run;

pub use clock::{Clock, SystemClock, jitter};
pub use run::{FailedStep, Limits, Report, World, reconcile};

#[cfg(test)]
mod tests;
