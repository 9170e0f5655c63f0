//! The first and last ten lines every Lambda shares.
//!
//! A function is a [`Function`]: it says what it needs from the environment, takes one typed request and gives one
//! answer; [`serve()`] does the rest: logs as JSON, the request parsed strictly, every error as one of five words
//! ([`espalier_domain::failure::Word`]), a metric line. Nothing here decides anything about a domain, and no AWS API
//! is called from here.

pub mod actions;
mod clock;
pub mod env;
pub mod error;
pub mod metric;
pub mod request;
mod serve;
mod trace;

pub use clock::now;
pub use env::Env;
pub use error::EdgeError;
pub use request::{Direct, Emergency, Hint, HintKind, Mode, Request, Subject, Trigger, strict};
pub use serve::{Function, Invocation, serve};
