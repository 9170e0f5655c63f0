//! ACM: what `DescribeCertificate` shows of a certificate that a stack serves or follows, and its export.

use aws_config::SdkConfig;
use aws_sdk_acm::Client;
use aws_sdk_acm::primitives::Blob;
use aws_sdk_acm::types::{CertificateDetail, CertificateExport, RenewalEligibility};
use espalier_domain::acm::{AcmEvidence, AcmKind, AcmRenewal, AcmStatus};
use espalier_domain::id::AcmArn;
use espalier_pki::export::{Passphrase, Sealed};
use espalier_pki::key::SecretText;
use time::OffsetDateTime;

use crate::error::{AwsError, Kind, during};

/// What the reader needs.
pub const ACTIONS: &[&str] = &["acm:DescribeCertificate"];

/// What the one who takes keys out of ACM needs.
pub const EXPORT: &[&str] = &["acm:ExportCertificate"];

/// ACM's certificates.
#[derive(Debug, Clone)]
pub struct Certificates {
    client: Client,
}

impl Certificates {
    /// The certificates of the configured account and region.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// Describes a certificate; one that does not exist is evidence, too.
    ///
    /// # Errors
    /// ACM's, except that there is none.
    pub async fn describe(&self, certificate: &AcmArn) -> Result<AcmEvidence, AwsError> {
        let answer = self.client.describe_certificate().certificate_arn(certificate.as_str()).send().await;
        match answer.map_err(during("acm:DescribeCertificate")) {
            Ok(answer) => answer
                .certificate
                .map(|detail| evidence(certificate, &detail))
                .ok_or_else(|| AwsError::unexpected("acm:DescribeCertificate", "the answer has no certificate")),
            Err(error) if error.is_not_found() => Ok(AcmEvidence::missing(certificate.clone())),
            Err(error) => Err(error),
        }
    }

    /// Exports a certificate: its key comes encrypted under the passphrase, which the SDK copies into its request and
    /// which is of no use for anything else afterwards.
    ///
    /// # Errors
    /// ACM's, without its message: a validation error may quote the passphrase.
    pub async fn export(&self, certificate: &AcmArn, passphrase: &Passphrase) -> Result<Sealed, AwsError> {
        const CALL: &str = "acm:ExportCertificate";
        let sent = self
            .client
            .export_certificate()
            .certificate_arn(certificate.as_str())
            .passphrase(Blob::new(passphrase.expose().as_bytes()))
            .send()
            .await;
        let answer = sent.map_err(|error| in_progress(during(CALL)(error).without_message()))?;
        let missing = |what: &str| AwsError::unexpected(CALL, format!("the answer has no {what}"));
        Ok(Sealed {
            certificate: answer.certificate.ok_or_else(|| missing("certificate"))?,
            chain: answer.certificate_chain.ok_or_else(|| missing("chain"))?,
            key: answer.private_key.map(SecretText::new).ok_or_else(|| missing("key"))?,
        })
    }
}

/// A certificate that is still being issued is one to come back to.
fn in_progress(error: AwsError) -> AwsError {
    let kind = if error.code() == "RequestInProgressException" { Kind::Conflict } else { error.kind };
    AwsError { kind, ..error }
}

fn evidence(certificate: &AcmArn, detail: &CertificateDetail) -> AcmEvidence {
    AcmEvidence {
        certificate: certificate.clone(),
        status: AcmStatus::parse(detail.status().map_or("", |status| status.as_str())),
        serial: detail.serial().map(str::to_owned),
        not_after: detail.not_after().and_then(|end| OffsetDateTime::from_unix_timestamp(end.secs()).ok()),
        kind: AcmKind::parse(detail.r#type().map_or("", |kind| kind.as_str())),
        names: detail.subject_alternative_names().to_vec(),
        export_enabled: detail.options().and_then(|options| options.export()) == Some(&CertificateExport::Enabled),
        eligible: detail.renewal_eligibility().map(|word| *word == RenewalEligibility::Eligible),
        renewal: detail.renewal_summary().map(|renewal| AcmRenewal {
            status: renewal.renewal_status().as_str().to_owned(),
            reason: renewal.renewal_status_reason().map(|reason| reason.as_str().to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::DateTime;

    #[test]
    fn a_description_is_read_into_evidence() {
        let arn = AcmArn::parse("arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4").unwrap();
        let detail = CertificateDetail::builder()
            .status("ISSUED".into())
            .serial("0a:0b")
            .not_after(DateTime::from_secs_f64(1_795_000_000.0))
            .build();
        let seen = evidence(&arn, &detail);
        assert_eq!((seen.status, seen.serial.as_deref()), (AcmStatus::Issued, Some("0a:0b")));
        assert_eq!(seen.not_after, OffsetDateTime::from_unix_timestamp(1_795_000_000).ok());
        let pending = evidence(&arn, &CertificateDetail::builder().status("PENDING_VALIDATION".into()).build());
        assert_eq!((pending.status, pending.serial), (AcmStatus::PendingValidation, None));
        assert_eq!((pending.export_enabled, pending.eligible, pending.renewal), (false, None, None));
        let options = aws_sdk_acm::types::CertificateOptions::builder().export(CertificateExport::Enabled).build();
        let detail = CertificateDetail::builder()
            .r#type("AMAZON_ISSUED".into())
            .subject_alternative_names("pay.example.com")
            .options(options)
            .renewal_eligibility(RenewalEligibility::Ineligible)
            .build();
        let seen = evidence(&arn, &detail);
        assert_eq!((seen.kind, seen.export_enabled, seen.eligible), (AcmKind::Public, true, Some(false)));
        assert_eq!(seen.names, ["pay.example.com"]);
    }
}
