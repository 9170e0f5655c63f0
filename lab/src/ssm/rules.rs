//! Every refusal of the stand-in, each with the document it rests on.
//!
//! `UG` is the Systems Manager User Guide, `API` its API Reference, `model` the published service model of API version
//! 2014-11-06. `precaution` marks what no document states and prudent callers respect.

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Not a JSON object.
    NotJson,
    /// No signature for this service.
    Unsigned,
    /// An operation nobody here serves.
    Unknown,
    /// The Parameter Store behind did not answer.
    Upstream,
    /// A member has the wrong type, length or pattern.
    Shape,
    /// A parameter's name.
    ParameterName,
    /// A value longer than its tier allows.
    ParameterSize,
    /// `{{` in a value.
    ParameterReference,
    /// The document is not schema 2.2 of type `Command`, or not well-formed.
    DocumentContent,
    /// Larger than 64 KB.
    DocumentSize,
    /// The name is taken.
    DocumentExists,
    /// The content is that of the latest version.
    DocumentDuplicate,
    /// No such document.
    DocumentUnknown,
    /// No such version.
    DocumentVersion,
    /// A parameter of `SendCommand` is unknown, missing, or does not match.
    CommandParameters,
    /// An instance that is not managed.
    InstanceUnknown,
    /// An unknown filter key, or a bad filter value.
    FilterKey,
    /// A token nobody has handed out.
    NextToken,
    /// No such command.
    CommandUnknown,
    /// No such step of the command.
    PluginUnknown,
    /// The command is not visible on the instance yet, or was never sent to it.
    InvocationUnknown,
}

/// A rule's error type and source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Documented {
    /// The error type on the wire.
    pub error: &'static str,
    /// The page.
    pub source: &'static str,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 21] = [
        Self::NotJson,
        Self::Unsigned,
        Self::Unknown,
        Self::Upstream,
        Self::Shape,
        Self::ParameterName,
        Self::ParameterSize,
        Self::ParameterReference,
        Self::DocumentContent,
        Self::DocumentSize,
        Self::DocumentExists,
        Self::DocumentDuplicate,
        Self::DocumentUnknown,
        Self::DocumentVersion,
        Self::CommandParameters,
        Self::InstanceUnknown,
        Self::FilterKey,
        Self::NextToken,
        Self::CommandUnknown,
        Self::PluginUnknown,
        Self::InvocationUnknown,
    ];

    /// The error type and where it is documented.
    pub const fn documented(self) -> Documented {
        let (error, source) = match self {
            Self::NotJson => ("SerializationException", "API CommonErrors"),
            Self::Unsigned => ("MissingAuthenticationTokenException", "API CommonErrors"),
            Self::Unknown => ("UnknownOperationException", "precaution: the lab serves no other operation"),
            Self::Upstream => ("InternalServerError", "API CommonErrors"),
            Self::Shape => ("ValidationException", "model: required members, enums, patterns and limits"),
            Self::ParameterName => ("ValidationException", "API PutParameter, Name"),
            Self::ParameterSize => ("ValidationException", "UG parameter-store-advanced-parameters.html"),
            Self::ParameterReference => ("ValidationException", "API PutParameter, Value: no {{}} in values"),
            Self::DocumentContent => ("InvalidDocumentContent", "UG documents-syntax-data-elements-parameters.html"),
            Self::DocumentSize => ("MaxDocumentSizeExceeded", "API CreateDocument: 64 KB"),
            Self::DocumentExists => ("DocumentAlreadyExists", "API CreateDocument"),
            Self::DocumentDuplicate => ("DuplicateDocumentContent", "API UpdateDocument"),
            Self::DocumentUnknown => ("InvalidDocument", "API SendCommand, DescribeDocument"),
            Self::DocumentVersion => ("InvalidDocumentVersion", "API SendCommand, DescribeDocument"),
            Self::CommandParameters => ("InvalidParameters", "API SendCommand"),
            Self::InstanceUnknown => ("InvalidInstanceId", "API SendCommand: one bad id refuses the whole call"),
            Self::FilterKey => ("InvalidFilterKey", "API DescribeInstanceInformation"),
            Self::NextToken => ("InvalidNextToken", "API DescribeInstanceInformation, ListCommands"),
            Self::CommandUnknown => ("InvalidCommandId", "API ListCommandInvocations, CancelCommand"),
            Self::PluginUnknown => ("InvalidPluginName", "API GetCommandInvocation"),
            Self::InvocationUnknown => ("InvocationDoesNotExist", "API GetCommandInvocation"),
        };
        Documented { error, source }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} ({}) [{rule:?}]", .rule.documented().source)]
pub struct Fault {
    /// Which rule.
    pub rule: Rule,
    /// What in the request broke it; never a parameter's value.
    pub what: String,
}

impl Fault {
    /// A refusal by `rule` of `what`.
    pub fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }

    /// What the caller is told.
    pub fn message(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_names_its_documentation() {
        for rule in Rule::ALL {
            let source = rule.documented().source;
            let named = ["UG ", "API ", "model", "precaution"].iter().any(|prefix| source.starts_with(prefix));
            assert!(named, "{rule:?}: {source}");
        }
    }
}
