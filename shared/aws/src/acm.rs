//! ACM: what `DescribeCertificate` shows of a certificate that a stack follows. Metadata only; nothing is exported.

use aws_config::SdkConfig;
use aws_sdk_acm::Client;
use aws_sdk_acm::types::CertificateDetail;
use espalier_domain::acm::{AcmEvidence, AcmStatus};
use espalier_domain::id::AcmArn;
use time::OffsetDateTime;

use crate::error::{AwsError, during};

/// What the reader needs.
pub const ACTIONS: &[&str] = &["acm:DescribeCertificate"];

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
}

fn evidence(certificate: &AcmArn, detail: &CertificateDetail) -> AcmEvidence {
    AcmEvidence {
        certificate: certificate.clone(),
        status: AcmStatus::parse(detail.status().map_or("", |status| status.as_str())),
        serial: detail.serial().map(str::to_owned),
        not_after: detail.not_after().and_then(|end| OffsetDateTime::from_unix_timestamp(end.secs()).ok()),
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
    }
}
