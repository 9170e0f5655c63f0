//! What the tests of the whole project share: where its files are, and the template and the workflow as plain data.
//!
//! It is a library of the tests and of nothing else; no crate that is shipped depends on it.

mod cloudformation;
mod files;
mod roles;

pub use cloudformation::{Template, resolve_tags};
pub use files::{SourceFile, documents, product_sources, read, root, sources};
pub use roles::{Statement, statements, texts};
