//! What ends ACM's inability to issue or to renew a certificate, by the reason it gives.

use super::{AcmEvidence, AcmRenewal, AcmValidation};

/// `RenewalStatus` says that ACM cannot go on by itself.
pub(super) fn is_failing(status: &str) -> bool {
    ["PENDING_VALIDATION", "FAILED"].contains(&status)
}

/// What has to be mended before another request can succeed (ACM user guide, troubleshooting certificate requests; API
/// reference, `FailureReason`).
pub(super) fn mend(reason: Option<&str>) -> &'static str {
    match reason {
        Some("CAA_ERROR") => "let the domain's CAA record admit amazon.com",
        Some("ADDITIONAL_VERIFICATION_REQUIRED") => "AWS wants to know more about the domain: open a support case",
        Some("DOMAIN_NOT_ALLOWED" | "DOMAIN_VALIDATION_DENIED") => {
            "ACM may not certify the domain: ask AWS, or use another"
        }
        Some("INVALID_PUBLIC_DOMAIN") => "the domain's end is no public one: use another, or a private authority",
        Some("NO_AVAILABLE_CONTACTS") => "the domain's contacts could not be asked: validate by DNS",
        Some("PCA_LIMIT_EXCEEDED") => "the private authority has issued all it may: raise its quota",
        Some("PCA_ACCESS_DENIED") => "let the private authority's policy admit ACM",
        Some(reason) if reason.starts_with("PCA_") => "look at the private authority's state, names and end",
        Some("SLR_NOT_FOUND") => "let ACM make its service-linked role again",
        None | Some(_) => "see FailureReason of DescribeCertificate",
    }
}

/// What ends ACM's inability (ACM user guide, troubleshooting managed renewal; API reference, `RenewalSummary`).
pub(super) fn remedy(seen: &AcmEvidence, renewal: &AcmRenewal) -> &'static str {
    let reason = renewal.reason.as_deref();
    match reason {
        Some("CAA_ERROR") => "the domain's CAA record does not admit Amazon: add amazon.com to it",
        Some("PCA_ACCESS_DENIED") => "its private authority's policy does not admit ACM: share it again",
        Some("SLR_NOT_FOUND") => "ACM's service-linked role is gone: let ACM make it again",
        Some(reason) if reason.starts_with("PCA_") => {
            "its private authority cannot issue: look at the authority's state, quota and end"
        }
        Some("DOMAIN_VALIDATION_DENIED" | "DOMAIN_NOT_ALLOWED" | "NO_AVAILABLE_CONTACTS") => {
            "ACM may not certify the domain: ask AWS, or use another"
        }
        None | Some(_) if renewal.status == "PENDING_VALIDATION" || reason == Some("PENDING_DOMAIN_VALIDATION") => {
            validate(seen.validated_by.as_ref())
        }
        None | Some(_) => "see RenewalSummary of DescribeCertificate",
    }
}

/// How its domains are validated, at the request and at each renewal (ACM user guide, DNS, email and HTTP validation).
pub(super) fn validate(method: Option<&AcmValidation>) -> &'static str {
    match method {
        None | Some(AcmValidation::Dns) => {
            "write the CNAME records that DescribeCertificate names into the domain's public zone"
        }
        Some(AcmValidation::Email) => {
            "it is validated by email: one of the domain's contacts (admin@, administrator@, hostmaster@, postmaster@, \
             webmaster@) has to follow the link in ACM's mail, which `aws acm resend-validation-email` sends again; a \
             certificate that is validated by DNS needs nobody"
        }
        Some(AcmValidation::Http) => {
            "it is validated over HTTP: serve the redirect that DescribeCertificate names for each of its domains"
        }
        Some(AcmValidation::Other(_)) => "see DomainValidationOptions of DescribeCertificate",
    }
}
