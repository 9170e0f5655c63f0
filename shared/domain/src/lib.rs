//! Words and decisions of Espalier.
//!
//! Everything here is pure: no runtime, no SDK, no environment, no clock, no log. Time comes in as an argument,
//! reasons go out as data. The domains are the [`network`] (the VPC Lattice estate), the [`rotation`] (certificates on
//! targets) and the [`authority`] that signs them; all answer the same question, "what can be done *now*?", with a
//! [`plan::Plan`].

pub mod acm;
pub mod authority;
pub mod failure;
pub mod id;
pub mod inventory;
pub mod network;
pub mod plan;
pub mod record;
pub mod rotation;
pub mod spec;
pub mod spoken;
pub mod tag;
pub mod token;
pub mod told;
pub mod verdict;
pub mod work;
