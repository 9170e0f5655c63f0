//! The rotation: which leaf each target has to serve, what is known about it, and what can be done now.
//!
//! [`evidence`] is everything a decision may look at; [`phase`] says for one target where it stands; [`plan`] says for
//! the stack what to do. Nothing here is stored: evidence and time decide anew each time, so a retry, a duplicate, a
//! half-finished run and a person repairing a host by hand all lead to the right next step.
//!
//! [`agent`] says which agents can install at all.
//!
//! [`discard`] says which bundles nobody will fetch any more.
//!
//! [`emergency`] says what becomes of a person's word that a generation is unsafe.
//!
//! [`proof`] says what all this means for the clients of a target, which is `provision`'s question.
//!
//! [`pace`] keeps the hosts of a Region within what Parameter Store answers in a second.
//!
//! [`prober`] says what becomes of a spec's prober that cannot be called.
//!
//! [`shown`] says whose certificate was seen where another one was wanted.
//!
//! [`settle`] and [`sighting`] turn what the hands report into the records that are evidence next time.

pub mod agent;
pub mod calendar;
pub mod discard;
pub mod due;
pub mod emergency;
pub mod evidence;
pub mod execution;
mod hold;
mod membership;
mod others;
pub mod pace;
pub mod phase;
pub mod plan;
pub mod policy;
pub mod prober;
pub mod proof;
pub mod render;
pub mod rollout;
pub mod settle;
pub mod shown;
pub mod sighting;
pub mod slack;
pub mod status;
