//! What ACM's state means: a description is evidence about one certificate, and an event is only a hint to read it.
//!
//! No event decides anything. It is read (by the edge) for *which* certificate to look at; what it says happened is
//! not kept, because it may be lost, late, repeated or forged. [`meaning()`] is the whole table of what Espalier does.

pub mod heard;
mod meaning;
mod remedy;
pub mod request;

use time::{Duration, OffsetDateTime};

use crate::id::AcmArn;
use crate::record::AcmMark;

pub use heard::{HeardRecord, Missed, Said};
pub(crate) use meaning::plain_serial;
pub use meaning::{Act, Meaning, Use, meaning};

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
    /// ACM could not be asked, or did not say, for this reason.
    Unread(String),
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
            Self::Unread(why) => format!("could not be read from ACM: {why}"),
        }
    }
}

/// `Type` of `DescribeCertificate`: where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcmKind {
    /// `AMAZON_ISSUED`: a public one.
    Public,
    /// `PRIVATE`: issued by AWS Private CA through ACM.
    Private,
    /// `IMPORTED`: brought by somebody, and renewed by nobody else.
    Imported,
    /// Nothing, or a word ACM added later.
    Other(String),
}

impl AcmKind {
    /// Reads ACM's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "AMAZON_ISSUED" => Self::Public,
            "PRIVATE" => Self::Private,
            "IMPORTED" => Self::Imported,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// `RenewalSummary` of `DescribeCertificate`: how ACM's latest attempt to renew it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmRenewal {
    /// `RenewalStatus`: `PENDING_AUTO_RENEWAL`, `PENDING_VALIDATION`, `SUCCESS` or `FAILED`.
    pub status: String,
    /// `RenewalStatusReason`, such as `CAA_ERROR` or `PCA_ACCESS_DENIED`.
    pub reason: Option<String>,
}

/// `ValidationMethod` of `DomainValidation`: how ACM sees that a domain is its owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcmValidation {
    /// `DNS`: by CNAME records, which it looks up at each renewal, too.
    Dns,
    /// `EMAIL`: by a link in a mail to the domain's contacts, at each renewal again.
    Email,
    /// `HTTP`: by a redirect.
    Http,
    /// A word ACM added later.
    Other(String),
}

impl AcmValidation {
    /// Reads ACM's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "DNS" => Self::Dns,
            "EMAIL" => Self::Email,
            "HTTP" => Self::Http,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A certificate as `DescribeCertificate` shows it.
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
    /// Where it comes from.
    pub kind: AcmKind,
    /// Its DNS names, as ACM lists them.
    pub names: Vec<String>,
    /// `Options.Export` is `ENABLED`: a public certificate that may be exported. Fixed when it was requested.
    pub export_enabled: bool,
    /// `RenewalEligibility`: whether ACM will renew it by itself; absent where ACM does not say.
    pub eligible: Option<bool>,
    /// How the latest renewal stands; absent when there was none.
    pub renewal: Option<AcmRenewal>,
    /// `FailureReason`: why ACM could not issue it.
    pub failure: Option<String>,
    /// The records by which ACM validates its domains, each once; empty before ACM has made them up.
    pub validation: Vec<ValidationRecord>,
    /// How its domains are validated, by email if any is; absent for private and imported ones.
    pub validated_by: Option<AcmValidation>,
    /// `CreatedAt`: when it was requested; absent for imported ones.
    pub requested_at: Option<OffsetDateTime>,
}

/// A CNAME record by which ACM sees that a domain is its owner's (`ResourceRecord` of `DomainValidation`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValidationRecord {
    /// Its name: lower case, without the trailing dot.
    pub name: String,
    /// What it points at, likewise.
    pub value: String,
}

/// Why a certificate cannot be used, as a phrase that follows its ARN.
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
        Self {
            certificate,
            status: AcmStatus::Missing,
            serial: None,
            not_after: None,
            kind: AcmKind::Other(String::new()),
            names: Vec::new(),
            export_enabled: false,
            eligible: None,
            renewal: None,
            failure: None,
            validation: Vec::new(),
            validated_by: None,
            requested_at: None,
        }
    }

    /// A certificate that could not be read, and why.
    pub fn unread(certificate: AcmArn, why: impl Into<String>) -> Self {
        Self { status: AcmStatus::Unread(why.into()), ..Self::missing(certificate) }
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
    use time::macros::datetime;

    use super::*;

    const ARN: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";

    #[test]
    fn only_an_issued_certificate_in_its_time_has_a_mark() {
        let now = datetime!(2026-11-21 12:00 UTC);
        let good = AcmEvidence {
            status: AcmStatus::parse("ISSUED"),
            serial: Some("0a:0b".into()),
            not_after: Some(now + Duration::days(46)),
            ..AcmEvidence::missing(AcmArn::parse(ARN).unwrap())
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
