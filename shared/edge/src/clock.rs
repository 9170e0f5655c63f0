//! The functions' clock: read at the edge and handed on as an argument.

use time::OffsetDateTime;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is where a function reads the clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
