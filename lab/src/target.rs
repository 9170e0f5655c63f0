//! The lab's targets: what runs on a host, as far as the installer and a client can tell.

mod guest;
mod server;

pub use guest::{Guest, Kind};
pub use server::{Config, TargetError, serve_file};
