//! What holds for any document and any event, not only for those somebody thought of: parsing never panics, every mistake
//! has a place and a remedy, and the published schema and the parser are of one mind.

mod documents;
mod mutations;
mod requests;
mod schema;
mod specs;

use proptest::test_runner::Config;

/// So many cases, and no file of failures beside the sources: a failure prints its input.
fn cases(count: u32) -> Config {
    Config { cases: count, failure_persistence: None, ..Config::default() }
}
