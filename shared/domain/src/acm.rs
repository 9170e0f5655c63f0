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
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(wrong("", detail, "an object"));
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const ARN: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";

    fn read(detail_type: &str, detail: &Value) -> Result<AcmHintKind, BadAcmEvent> {
        hint(detail_type, &[ARN.to_owned()], detail).map(|hint| hint.kind)
    }

    #[test]
    fn all_documented_events_and_any_other_are_hints() {
        let days = AcmHintKind::ApproachingExpiration { days: Some(31) };
        let detail = json!({"DaysToExpiry": 31, "CommonName": "api.example.com", "Later": [1]});
        assert_eq!(read("ACM Certificate Approaching Expiration", &detail), Ok(days.clone()));
        assert_eq!(read("ACM Certificate Approaching Expiration", &json!({"DaysToExpiry": "31"})), Ok(days));
        assert_eq!(
            read("ACM Certificate Available", &json!({"Action": "RENEWAL", "Exported": "FALSE"})),
            Ok(AcmHintKind::Available { action: Some("RENEWAL".into()), exported: Some(false) })
        );
        assert_eq!(
            read("ACM Certificate Expired", &json!({"InUse": "TRUE"})),
            Ok(AcmHintKind::Expired { in_use: Some(true) })
        );
        assert_eq!(
            read("ACM Certificate Renewal Action Required", &json!({"RenewalStatusReason": "CAA_ERROR"})),
            Ok(AcmHintKind::RenewalActionRequired { reason: Some("CAA_ERROR".into()), days: None })
        );
        assert_eq!(read("ACM Certificate Revoked", &json!({})), Ok(AcmHintKind::Revoked));
        let rotated = AcmHintKind::Other { detail_type: "ACM Certificate Rotated".into() };
        assert_eq!(read("ACM Certificate Rotated", &json!({"Action": 7})), Ok(rotated));
    }

    #[test]
    fn every_field_but_the_certificate_may_be_missing() {
        for kind in ["Approaching Expiration", "Expired", "Available", "Renewal Action Required", "Revoked", "New"] {
            for detail in [json!({}), Value::Null, json!({"DaysToExpiry": null, "Action": null, "InUse": null})] {
                assert!(read(&format!("ACM Certificate {kind}"), &detail).is_ok(), "{kind} {detail}");
            }
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let said = |result: Result<AcmHintKind, BadAcmEvent>| result.unwrap_err().to_string();
        assert_eq!(
            said(read("ACM Certificate Available", &json!({"Action": ["RENEWAL"]}))),
            "/detail/Action: a list where text was expected"
        );
        assert_eq!(
            said(read("ACM Certificate Expired", &json!({"InUse": "maybe"}))),
            "/detail/InUse: other text where true or false was expected"
        );
        assert_eq!(
            said(read("ACM Certificate Approaching Expiration", &json!({"DaysToExpiry": 1.5}))),
            "/detail/DaysToExpiry: a number where a whole number was expected"
        );
        assert_eq!(
            said(read("ACM Certificate Revoked", &json!("x"))),
            "/detail: other text where an object was expected"
        );
        assert_eq!(hint("x", &[], &Value::Null), Err(BadAcmEvent::NoCertificate));
        assert!(matches!(hint("x", &["arn:aws:s3:::b".into()], &Value::Null), Err(BadAcmEvent::NotACertificate(_))));
    }

    #[test]
    fn only_an_issued_certificate_in_its_time_has_a_mark() {
        let now = datetime!(2026-11-21 12:00 UTC);
        let good = AcmEvidence {
            certificate: AcmArn::parse(ARN).unwrap(),
            status: AcmStatus::parse("ISSUED"),
            serial: Some("0a:0b".into()),
            not_after: Some(now + Duration::days(46)),
        };
        assert_eq!(good.mark(now, 45), Ok(AcmMark { serial: "0a:0b".into(), expiring: false }));
        assert_eq!(good.mark(now + Duration::days(1), 45), Ok(AcmMark { serial: "0a:0b".into(), expiring: true }));
        let said = |evidence: &AcmEvidence, now| evidence.mark(now, 45).unwrap_err().problem;
        assert_eq!(said(&good, now + Duration::days(46)), "ended on 2027-01-06");
        assert_eq!(said(&AcmEvidence::missing(good.certificate.clone()), now), "does not exist");
        for word in ["PENDING_VALIDATION", "INACTIVE", "EXPIRED", "VALIDATION_TIMED_OUT", "REVOKED", "FAILED", "NEW"] {
            let other = AcmEvidence { status: AcmStatus::parse(word), ..good.clone() };
            assert!(other.mark(now, 45).is_err(), "{word}");
        }
        assert!(AcmEvidence { serial: None, ..good.clone() }.mark(now, 45).is_err());
        assert!(AcmEvidence { not_after: None, ..good }.mark(now, 45).is_err());
    }
}
