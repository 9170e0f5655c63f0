//! The error a function answers with: one of five words and one line of text.

use espalier_domain::failure::{Failure, Word, chain};
use lambda_runtime::Diagnostic;

/// What a Lambda invocation fails with. The word becomes Lambda's `errorType`, the text its `errorMessage`.
///
/// The text is the whole chain of causes, rendered once, here. It never holds key material: errors that could are
/// redacted where they are made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word}: {text}")]
pub struct EdgeError {
    /// The stable word.
    pub word: Word,
    /// One line for a person.
    pub text: String,
}

impl EdgeError {
    /// A service is throttling, away or too slow.
    pub fn busy(text: impl Into<String>) -> Self {
        Self { word: Word::Busy, text: text.into() }
    }

    /// Somebody else changed the same thing.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self { word: Word::Conflict, text: text.into() }
    }

    /// A service, or we, will not do this.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { word: Word::Refused, text: text.into() }
    }

    /// The request, the environment or a stored document is not what it has to be. What was sent is quoted in the text,
    /// so a long one is shortened in the middle: a forged event shall not fill a log.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self { word: Word::Invalid, text: shortened(text.into()) }
    }

    /// An error of ours.
    pub fn broken(text: impl Into<String>) -> Self {
        Self { word: Word::Broken, text: text.into() }
    }
}

/// The characters kept of either end of a long text: what is named stands at its beginning, what is wanted at its end.
const END: usize = 400;

fn shortened(text: String) -> String {
    let count = text.chars().count();
    if count <= 2 * END {
        return text;
    }
    let (begin, end): (String, String) = (text.chars().take(END).collect(), text.chars().skip(count - END).collect());
    format!("{begin}[...]{end}")
}

/// Every error that knows its word can be answered with; its causes are rendered.
impl<E: Failure + 'static> From<E> for EdgeError {
    fn from(error: E) -> Self {
        Self { word: error.word(), text: chain(&error) }
    }
}

impl From<EdgeError> for Diagnostic {
    fn from(error: EdgeError) -> Self {
        Self { error_type: error.word.as_str().to_owned(), error_message: error.text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("ssm:GetParameter failed")]
    struct Call(#[source] std::fmt::Error);

    impl Failure for Call {
        fn word(&self) -> Word {
            Word::Busy
        }
    }

    #[test]
    fn the_word_is_lambdas_error_type() {
        let diagnostic = Diagnostic::from(EdgeError::from(Call(std::fmt::Error)));
        assert_eq!(diagnostic.error_type, "Busy");
        assert!(diagnostic.error_message.starts_with("ssm:GetParameter failed: an error occurred"));
        assert_eq!(Diagnostic::from(EdgeError::invalid("x")).error_type, "Invalid");
    }
}
