//! One error for every AWS call: which call, which of a few kinds, and what the service said.
//!
//! Nothing of the *request* is kept, so an error cannot carry what was sent. A service may still quote the request in
//! its message (a validation error does), so a call that sends a secret uses [`AwsError::without_message`].

use std::fmt;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use espalier_domain::failure::{Failure, Word};

/// What kind of failure an AWS call ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The service asks for fewer calls (429, `ThrottlingException`, ...).
    Throttled,
    /// The service is unavailable, did not answer in time or could not be reached.
    Busy,
    /// The resource exists already, is in use, or its state does not allow the call now (409).
    Conflict,
    /// The resource does not exist (404).
    NotFound,
    /// The caller may not do this (401, 403).
    Denied,
    /// The service does not accept the request as it is (400).
    Invalid,
    /// A quota would be exceeded (402).
    Quota,
    /// The answer could not be understood, or the request could not be built.
    Broken,
}

/// A failed AWS call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed")]
pub struct AwsError {
    /// The call, as IAM writes it: `vpc-lattice:CreateService`.
    pub operation: &'static str,
    /// What kind of failure it was.
    pub kind: Kind,
    /// How long the service asked us to stay away.
    pub retry_after: Option<Duration>,
    /// What the service said.
    #[source]
    pub answer: Answer,
}

/// What an AWS service (or the way to it) said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The service's error code, or our word for a failure on the way.
    pub code: String,
    /// The service's message; may be empty.
    pub message: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { f.write_str(&self.code) } else { write!(f, "{}: {}", self.code, self.message) }
    }
}

impl std::error::Error for Answer {}

impl AwsError {
    /// Builds the error of a call that answered something we cannot work with.
    pub fn unexpected(operation: &'static str, message: impl Into<String>) -> Self {
        let answer = Answer { code: "UnexpectedAnswer".into(), message: message.into() };
        Self { operation, kind: Kind::Broken, retry_after: None, answer }
    }

    /// Builds an error out of a code and a message that came inside a successful answer (a partial failure).
    pub fn coded(operation: &'static str, code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        let kind = kind_of(&code, None);
        Self { operation, kind, retry_after: None, answer: Answer { code, message: message.into() } }
    }

    /// The same error without the service's message: for calls whose request holds a secret.
    #[must_use]
    pub fn without_message(mut self) -> Self {
        self.answer.message.clear();
        self
    }

    /// The same error, with what ends it behind what the service said.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &str) -> Self {
        let said = &mut self.answer.message;
        *said = if said.is_empty() { remedy.to_owned() } else { format!("{said}; {remedy}") };
        self
    }

    /// The service's error code.
    pub fn code(&self) -> &str {
        &self.answer.code
    }

    /// What the service said.
    pub fn message(&self) -> &str {
        &self.answer.message
    }

    /// Whether the resource does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether the resource exists already, is in use or is changing.
    pub fn is_conflict(&self) -> bool {
        self.kind == Kind::Conflict
    }
}

impl Failure for AwsError {
    fn word(&self) -> Word {
        match self.kind {
            Kind::Throttled | Kind::Busy => Word::Busy,
            // A resource that was seen a moment ago and is gone has been changed by somebody else: look again.
            Kind::Conflict | Kind::NotFound => Word::Conflict,
            Kind::Denied | Kind::Invalid | Kind::Quota => Word::Refused,
            Kind::Broken => Word::Broken,
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        self.retry_after.map(|wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX))
    }
}

/// Turns the SDK's error of the named call into ours: `.map_err(during("ssm:GetParameter"))`.
pub fn during<E>(operation: &'static str) -> impl FnOnce(SdkError<E, HttpResponse>) -> AwsError
where
    E: ProvideErrorMetadata,
{
    move |error| classify(operation, &error)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the SDK's enum is non-exhaustive")]
fn classify<E: ProvideErrorMetadata>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> AwsError {
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let retry_after = error
        .raw_response()
        .and_then(|raw| raw.headers().get("retry-after"))
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let (kind, code, message) = match error {
        SdkError::TimeoutError(_) => (Kind::Busy, "TimedOut", String::new()),
        SdkError::DispatchFailure(failure) if failure.is_user() => (Kind::Broken, "NotSent", detail(error)),
        SdkError::DispatchFailure(_) => (Kind::Busy, "NotReached", detail(error)),
        SdkError::ConstructionFailure(_) => (Kind::Broken, "NotBuilt", detail(error)),
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            let code = meta.code().unwrap_or("Unknown");
            (kind_of(code, status), code, meta.message().unwrap_or_default().to_owned())
        }
        // The SDK's error enum is non-exhaustive; the known rest is an answer that could not be parsed.
        _ => (if status.is_some_and(|s| s >= 500) { Kind::Busy } else { Kind::Broken }, "NotUnderstood", String::new()),
    };
    AwsError { operation, kind, retry_after, answer: Answer { code: code.to_owned(), message } }
}

/// The innermost cause of a failure on the way: "connection refused" helps, the layers above it do not.
#[expect(clippy::wildcard_enum_match_arm, reason = "the SDK's enum is non-exhaustive")]
fn detail<E>(error: &SdkError<E, HttpResponse>) -> String {
    let first: Option<&(dyn std::error::Error + 'static)> = match error {
        SdkError::DispatchFailure(failure) => failure.as_connector_error().map(|e| e as _),
        _ => None,
    };
    let mut innermost = first;
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    innermost.map(ToString::to_string).unwrap_or_default()
}

/// Whether a service refuses with this code what comes too often: it has done nothing.
pub(crate) fn is_throttle(code: &str) -> bool {
    kind_of(code, None) == Kind::Throttled
}

/// Sorts a service's error code; the HTTP status decides where the code is not known.
fn kind_of(code: &str, status: Option<u16>) -> Kind {
    match code {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "PriorRequestNotComplete"
        | "TooManyUpdates"
        | "ProvisionedThroughputExceededException"
        | "BandwidthLimitExceeded"
        | "SlowDown" => Kind::Throttled,
        "InternalServerException"
        | "InternalServerError"
        | "InternalServiceError"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "Unavailable"
        | "RequestTimeout"
        | "RequestTimeoutException" => Kind::Busy,
        "ConflictException"
        | "ResourceInUseException"
        | "ConditionalCheckFailedException"
        | "TransactionCanceledException"
        | "TransactionConflictException"
        | "ParameterAlreadyExists"
        | "ExecutionAlreadyExists"
        | "ResourceExistsException"
        | "InvalidPermission.Duplicate"
        | "IncorrectState"
        | "DependencyViolation" => Kind::Conflict,
        "ServiceQuotaExceededException"
        | "LimitExceededException"
        | "ParameterLimitExceeded"
        | "RulesPerSecurityGroupLimitExceeded"
        | "ExecutionLimitExceeded" => Kind::Quota,
        "AccessDeniedException"
        | "AccessDenied"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "AuthFailure"
        | "NotAuthorized"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "KMSAccessDeniedException" => Kind::Denied,
        "ParameterNotFound"
        | "ParameterVersionNotFound"
        | "ExecutionDoesNotExist"
        | "StateMachineDoesNotExist"
        | "InvocationDoesNotExist" => Kind::NotFound,
        _ if code.ends_with("NotFoundException") || code.ends_with(".NotFound") || code.starts_with("NoSuch") => {
            Kind::NotFound
        }
        _ => match status {
            Some(401 | 403) => Kind::Denied,
            Some(402) => Kind::Quota,
            Some(404) => Kind::NotFound,
            Some(409) => Kind::Conflict,
            Some(429) => Kind::Throttled,
            Some(500..) => Kind::Busy,
            Some(400..) | None => Kind::Invalid,
            Some(_) => Kind::Broken,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::failure::chain;

    #[test]
    fn codes_decide_before_statuses() {
        assert_eq!(kind_of("ThrottlingException", Some(400)), Kind::Throttled);
        assert_eq!(kind_of("ConflictException", Some(409)), Kind::Conflict);
        assert_eq!(kind_of("InvalidGroup.NotFound", Some(400)), Kind::NotFound);
        assert_eq!(kind_of("NoSuchHostedZone", Some(404)), Kind::NotFound);
        assert_eq!(kind_of("ResourceNotFoundException", Some(400)), Kind::NotFound);
        assert_eq!(kind_of("InvalidPermission.Duplicate", Some(400)), Kind::Conflict);
        assert_eq!(kind_of("ValidationException", Some(400)), Kind::Invalid);
        assert_eq!(kind_of("SomethingNew", Some(503)), Kind::Busy);
        assert_eq!(kind_of("SomethingNew", Some(403)), Kind::Denied);
    }

    #[test]
    fn every_kind_has_a_word() {
        for (code, word) in [
            ("ThrottlingException", Word::Busy),
            ("ServiceUnavailable", Word::Busy),
            ("ConflictException", Word::Conflict),
            ("ParameterNotFound", Word::Conflict),
            ("AccessDeniedException", Word::Refused),
            ("ValidationException", Word::Refused),
            ("ServiceQuotaExceededException", Word::Refused),
        ] {
            assert_eq!(AwsError::coded("x:Y", code, "").word(), word, "{code}");
        }
        assert_eq!(AwsError::unexpected("x:Y", "no id").word(), Word::Broken);
    }

    #[test]
    fn the_chain_names_the_call_and_what_was_said() {
        let error = AwsError::coded("ssm:PutParameter", "ValidationException", "Value 'secret' at 'value'");
        assert_eq!(chain(&error), "ssm:PutParameter failed: ValidationException: Value 'secret' at 'value'");
        assert_eq!(chain(&error.without_message()), "ssm:PutParameter failed: ValidationException");
    }
}
