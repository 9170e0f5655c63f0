//! What ACM says: an event is a hint about one certificate, a description is evidence about it.
//!
//! An event never decides anything. It is read only for *which* certificate to look at, so every field but that one
//! may be missing, and what ACM adds later is ignored (`ACM Certificate Rotated` is documented without a schema).

use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

use crate::id::{AcmArn, NotAnId};
use crate::record::AcmMark;

/// The event source of every ACM event.
pub const SOURCE: &str = "aws.acm";

/// A certificate that is worth a look, and what the event said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmHint {
    /// The certificate.
    pub certificate: AcmArn,
    /// What happened, as far as the event tells.
    pub kind: AcmHintKind,
}

/// The events ACM documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcmHintKind {
    /// `ACM Certificate Approaching Expiration`, sent daily from a threshold on.
    ApproachingExpiration {
        /// `DaysToExpiry`.
        days: Option<i64>,
    },
    /// `ACM Certificate Expired`.
    Expired {
        /// `InUse`.
        in_use: Option<bool>,
    },
    /// `ACM Certificate Available`.
    Available {
        /// `Action`: `ISSUANCE`, `RENEWAL`, `IMPORT` or `REIMPORT`.
        action: Option<String>,
        /// `Exported`.
        exported: Option<bool>,
    },
    /// `ACM Certificate Renewal Action Required`.
    RenewalActionRequired {
        /// `RenewalStatusReason`.
        reason: Option<String>,
        /// `DaysToExpiry`.
        days: Option<i64>,
    },
    /// `ACM Certificate Revoked`.
    Revoked,
    /// Any other detail type: still a reason to look.
    Other {
        /// The detail type.
        detail_type: String,
    },
}

/// An ACM event that cannot be understood. Names the field by its JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAcmEvent {
    /// The certificate is not named.
    #[error("/resources/0: missing; it has to be the certificate's ARN")]
    NoCertificate,
    /// What stands where the certificate's ARN should is something else.
    #[error("/resources/0: not a certificate")]
    NotACertificate(#[source] NotAnId),
    /// A field is there, but with a value of another kind.
    #[error("/detail{field}: {found} where {wanted} was expected")]
    Field {
        /// The field's pointer below `/detail`.
        field: String,
        /// What stands there.
        found: &'static str,
        /// What should.
        wanted: &'static str,
    },
}

/// Reads an event of source [`SOURCE`]. `detail` may be missing (`null`).
pub fn hint(detail_type: &str, resources: &[String], detail: &Value) -> Result<AcmHint, BadAcmEvent> {
    let arn = resources.first().ok_or(BadAcmEvent::NoCertificate)?;
    let certificate = AcmArn::parse(arn.as_str()).map_err(BadAcmEvent::NotACertificate)?;
    let empty = Map::new();
    let detail = match detail {
        Value::Null => Detail(&empty),
        Value::Object(fields) => Detail(fields),
        other => return Err(wrong("", other, "an object")),
    };
    let kind = match detail_type {
        "ACM Certificate Approaching Expiration" => {
            AcmHintKind::ApproachingExpiration { days: detail.number("DaysToExpiry")? }
        }
        "ACM Certificate Expired" => AcmHintKind::Expired { in_use: detail.boolean("InUse")? },
        "ACM Certificate Available" => {
            AcmHintKind::Available { action: detail.text("Action")?, exported: detail.boolean("Exported")? }
        }
        "ACM Certificate Renewal Action Required" => AcmHintKind::RenewalActionRequired {
            reason: detail.text("RenewalStatusReason")?,
            days: detail.number("DaysToExpiry")?,
        },
        "ACM Certificate Revoked" => AcmHintKind::Revoked,
        other => AcmHintKind::Other { detail_type: other.to_owned() },
    };
    Ok(AcmHint { certificate, kind })
}

/// The fields of an event, each of which may be missing or null.
struct Detail<'a>(&'a Map<String, Value>);

impl Detail<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Result<Option<String>, BadAcmEvent> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(wrong(field, other, "text")),
        }
    }

    fn number(&self, field: &str) -> Result<Option<i64>, BadAcmEvent> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong(field, value, "a whole number"))
    }

    /// ACM's documents print booleans as `TRUE` and `FALSE` in some examples.
    fn boolean(&self, field: &str) -> Result<Option<bool>, BadAcmEvent> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let boolean = match value {
            Value::Bool(boolean) => Some(*boolean),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            Value::String(_) | Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        };
        boolean.map(Some).ok_or_else(|| wrong(field, value, "true or false"))
    }
}

fn wrong(field: &str, found: &Value, wanted: &'static str) -> BadAcmEvent {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "other text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let field = if field.is_empty() { String::new() } else { format!("/{field}") };
    BadAcmEvent::Field { field, found, wanted }
}

/// `CertificateStatus` of `DescribeCertificate`, and that there is no such certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcmStatus {
    /// `ISSUED`.
    Issued,
    /// `PENDING_VALIDATION`.
    PendingValidation,
    /// `INACTIVE`.
    Inactive,
    /// `EXPIRED`.
    Expired,
    /// `VALIDATION_TIMED_OUT`.
    ValidationTimedOut,
    /// `REVOKED`.
    Revoked,
    /// `FAILED`.
    Failed,
    /// `ResourceNotFoundException`.
    Missing,
    /// A word ACM added later.
    Other(String),
}

impl AcmStatus {
    /// Reads ACM's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "ISSUED" => Self::Issued,
            "PENDING_VALIDATION" => Self::PendingValidation,
            "INACTIVE" => Self::Inactive,
            "EXPIRED" => Self::Expired,
            "VALIDATION_TIMED_OUT" => Self::ValidationTimedOut,
            "REVOKED" => Self::Revoked,
            "FAILED" => Self::Failed,
            other => Self::Other(other.to_owned()),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Issued => "is issued".into(),
            Self::PendingValidation => "awaits its validation".into(),
            Self::Inactive => "is inactive".into(),
            Self::Expired => "has expired".into(),
            Self::ValidationTimedOut => "was not validated in time".into(),
            Self::Revoked => "was revoked".into(),
            Self::Failed => "could not be issued".into(),
            Self::Missing => "does not exist".into(),
            Self::Other(word) => format!("has the status {word}"),
        }
    }
}

/// The followed certificate as `DescribeCertificate` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmEvidence {
    /// The certificate.
    pub certificate: AcmArn,
    /// Its status.
    pub status: AcmStatus,
    /// Its serial number as ACM prints it; absent before issuance.
    pub serial: Option<String>,
    /// End of validity; absent before issuance.
    pub not_after: Option<OffsetDateTime>,
}

/// Why a certificate cannot be followed, as a phrase that follows its ARN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{certificate} {problem}")]
pub struct AcmUnusable {
    /// The certificate.
    pub certificate: AcmArn,
    /// What is wrong with it.
    pub problem: String,
}

impl AcmEvidence {
    /// A certificate that `DescribeCertificate` does not find.
    pub fn missing(certificate: AcmArn) -> Self {
        Self { certificate, status: AcmStatus::Missing, serial: None, not_after: None }
    }

    /// What a leaf minted now would answer. `expiring_days` before its end the certificate counts as expiring.
    pub fn mark(&self, now: OffsetDateTime, expiring_days: u32) -> Result<AcmMark, AcmUnusable> {
        let unusable = |problem: String| AcmUnusable { certificate: self.certificate.clone(), problem };
        if self.status != AcmStatus::Issued {
            return Err(unusable(self.status.describe()));
        }
        let serial = self.serial.clone().ok_or_else(|| unusable("has no serial number".into()))?;
        let not_after = self.not_after.ok_or_else(|| unusable("has no end of validity".into()))?;
        if not_after <= now {
            return Err(unusable(format!("ended on {}", not_after.date())));
        }
        Ok(AcmMark { serial, expiring: not_after - now <= Duration::days(i64::from(expiring_days)) })
    }
}
