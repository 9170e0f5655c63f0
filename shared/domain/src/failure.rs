//! The five words every error becomes where it leaves a function: the state machine's `Retry` and `Catch` name them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure the caller is told about. Stable: the state machine and alarms match these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Word {
    /// A service is throttling, unavailable or too slow. The same call may succeed later.
    Busy,
    /// Somebody else changed the same thing, or it is in a state that does not allow the call now. Look again.
    Conflict,
    /// A service refused: permission, validation, quota. The same call will be refused again.
    Refused,
    /// The request, the environment or a stored document is not what it has to be.
    Invalid,
    /// An error of ours, or an answer that cannot be understood.
    Broken,
}

impl Word {
    /// The word as it is written in `Retry` and `Catch`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "Busy",
            Self::Conflict => "Conflict",
            Self::Refused => "Refused",
            Self::Invalid => "Invalid",
            Self::Broken => "Broken",
        }
    }

    /// Whether time alone may end the failure.
    pub const fn is_passing(self) -> bool {
        match self {
            Self::Busy | Self::Conflict => true,
            Self::Refused | Self::Invalid | Self::Broken => false,
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that knows which of the five words it is.
pub trait Failure: std::error::Error {
    /// The word.
    fn word(&self) -> Word;

    /// How long the service asked us to stay away, in seconds, if it said so.
    fn retry_after_s(&self) -> Option<u32> {
        None
    }
}

/// An error and all its causes as one line, outermost first, each cause once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the spec")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("no such parameter")]
    struct Inner;

    #[test]
    fn a_chain_is_printed_once_and_in_order() {
        assert_eq!(chain(&Outer(Inner)), "reading the spec: no such parameter");
    }

    #[test]
    fn the_words_are_the_ones_the_state_machine_matches() {
        let words = [Word::Busy, Word::Conflict, Word::Refused, Word::Invalid, Word::Broken];
        assert_eq!(words.map(Word::as_str), ["Busy", "Conflict", "Refused", "Invalid", "Broken"]);
        assert_eq!(serde_json::to_string(&words[0]).unwrap(), "\"Busy\"");
        assert_eq!(words.map(Word::is_passing), [true, true, false, false, false]);
    }
}
