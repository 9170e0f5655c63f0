//! ACM: what `DescribeCertificate` shows of a certificate that a stack serves or follows, its export, and its request.

mod elsewhere;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_acm::Client;
use aws_sdk_acm::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_acm::config::{IdentityCache, Region};
use aws_sdk_acm::primitives::Blob;
use aws_sdk_acm::types::{
    CertificateDetail, CertificateExport, CertificateOptions, Filters, KeyAlgorithm, RenewalEligibility, Tag,
    ValidationMethod,
};
use aws_smithy_types::DateTime;
use aws_smithy_types::error::operation::BuildError;
use espalier_domain::acm::request::Wish;
use espalier_domain::acm::{AcmEvidence, AcmKind, AcmRenewal, AcmStatus, AcmValidation, ValidationRecord};
use espalier_domain::id::AcmArn;
use espalier_pki::export::{Passphrase, Sealed};
use espalier_pki::key::SecretText;
use time::OffsetDateTime;

use crate::error::{AwsError, Kind, during};
use elsewhere::Sessions;

pub use elsewhere::{Elsewhere, NoAccount, Role};

/// What the reader needs.
pub const ACTIONS: &[&str] = &["acm:DescribeCertificate"];

/// What the one who requests certificates needs; tags at a request are authorised as such.
pub const REQUEST: &[&str] = &[
    "acm:DescribeCertificate",
    "acm:ListCertificates",
    "acm:ListTagsForCertificate",
    "acm:RequestCertificate",
    "acm:AddTagsToCertificate",
];

/// What the one who takes keys out of ACM needs.
pub const EXPORT: &[&str] = &["acm:ExportCertificate"];

/// What either of them needs for certificates of other accounts.
pub const ELSEWHERE: &[&str] = &["sts:AssumeRole"];

/// ACM's quotas are small, ten calls a second of a kind and fewer for others (ACM user guide, quotas), and certificates that
/// were requested together are renewed together. So many attempts, so far apart at most, are some twenty seconds of
/// patience: two hundred calls at once come through.
const ATTEMPTS: u32 = 12;
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// ACM's certificates.
#[derive(Debug, Clone)]
pub struct Certificates {
    client: Client,
    sessions: Option<Sessions>,
}

impl Certificates {
    /// The certificates of the configured account and region.
    pub fn new(sdk: &SdkConfig) -> Self {
        let mut config = aws_sdk_acm::config::Builder::from(sdk);
        // Whoever wants no repetition at all gets none.
        if let Some(retry) = sdk.retry_config().filter(|retry| retry.max_attempts() > 1) {
            let patient = retry.clone().with_max_attempts(ATTEMPTS).with_max_backoff(LONGEST_PAUSE);
            config.set_retry_config(Some(patient));
            // The SDK's own budget of repetitions, shared by a process, is spent by a few that wait long. What bounds ours
            // is their number.
            let tokens = RetryPartition::custom("patient").token_bucket(TokenBucket::unlimited()).build();
            config.set_retry_partition(Some(tokens));
        }
        Self { client: Client::from_conf(config.build()), sessions: None }
    }

    /// The same, and those of other accounts by their roles.
    #[must_use]
    pub fn and_elsewhere(self, sdk: &SdkConfig, elsewhere: Option<Elsewhere>) -> Self {
        Self { sessions: elsewhere.map(|accounts| Sessions::new(sdk, accounts)), ..self }
    }

    /// A certificate is asked for in its own Region, and in its own account's name.
    async fn client_of(&self, certificate: &AcmArn) -> Result<Client, AwsError> {
        let here = self.client.config();
        let is_here = here.region().is_none_or(|region| region.as_ref() == certificate.region());
        let there = Region::new(certificate.region().to_owned());
        let config = match self.sessions_of(certificate) {
            None if is_here => return Ok(self.client.clone()),
            None => here.to_builder().region(there),
            Some(sessions) => {
                let session = sessions.credentials(certificate).await?;
                // Kept where it is renewed; the cache that all clients share would keep each one, too.
                let config = here.to_builder().region(there).identity_cache(IdentityCache::no_cache());
                config.credentials_provider(session)
            }
        };
        Ok(Client::from_conf(config.build()))
    }

    fn sessions_of(&self, certificate: &AcmArn) -> Option<&Sessions> {
        self.sessions.as_ref().filter(|sessions| sessions.concern(certificate))
    }

    /// What a person can do who is refused: IAM says who may not do what, and not what opens the door here.
    fn explained(&self, error: AwsError, certificate: &AcmArn) -> AwsError {
        match (error.kind, self.sessions_of(certificate)) {
            (Kind::Denied, None) => error.with_remedy(
                "a certificate of another account or Region needs the template's CertificateAccountIds or CertificateRegion",
            ),
            (Kind::Denied, Some(_)) => error.with_remedy(
                "the role there reaches certificates with the tag espalier:stack (examples/certificate-account.yaml)",
            ),
            (
                Kind::Throttled
                | Kind::Busy
                | Kind::Conflict
                | Kind::NotFound
                | Kind::Invalid
                | Kind::Quota
                | Kind::Broken,
                _,
            ) => error,
        }
    }

    /// Describes a certificate; one that does not exist is evidence, too.
    ///
    /// # Errors
    /// ACM's, except that there is none.
    pub async fn describe(&self, certificate: &AcmArn) -> Result<AcmEvidence, AwsError> {
        let client = self.client_of(certificate).await?;
        let answer = client.describe_certificate().certificate_arn(certificate.as_str()).send().await;
        match answer.map_err(during("acm:DescribeCertificate")) {
            Ok(answer) => answer
                .certificate
                .map(|detail| evidence(certificate, &detail))
                .ok_or_else(|| AwsError::unexpected("acm:DescribeCertificate", "the answer has no certificate")),
            Err(error) if error.is_not_found() => Ok(AcmEvidence::missing(certificate.clone())),
            Err(error) => Err(self.explained(error, certificate)),
        }
    }

    /// Requests a public certificate that may be exported and is validated by DNS; repeated within an hour, the same one.
    ///
    /// # Errors
    /// ACM's.
    pub async fn request(&self, wish: &Wish) -> Result<AcmArn, AwsError> {
        const CALL: &str = "acm:RequestCertificate";
        let not_built = |error: BuildError| AwsError::unexpected(CALL, error.to_string());
        let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build().map_err(not_built);
        let tags = wish.tags.iter().map(tag).collect::<Result<Vec<_>, _>>()?;
        let others: Vec<String> = wish.other_names.iter().map(ToString::to_string).collect();
        let sent = self
            .client
            .request_certificate()
            .domain_name(wish.domain_name.as_str())
            .set_subject_alternative_names((!others.is_empty()).then_some(others))
            .validation_method(ValidationMethod::Dns)
            .key_algorithm(KeyAlgorithm::from(wish.key_type.name()))
            .options(CertificateOptions::builder().export(CertificateExport::Enabled).build())
            .idempotency_token(&wish.token)
            .set_tags(Some(tags))
            .send()
            .await;
        let answer = sent.map_err(during(CALL))?;
        arn(CALL, answer.certificate_arn)
    }

    /// The certificates of this common name and kind of key that carry these tags. A list is not read at once by
    /// whoever was just made.
    ///
    /// # Errors
    /// ACM's.
    pub async fn tagged(&self, wish: &Wish) -> Result<Vec<AcmEvidence>, AwsError> {
        const LIST: &str = "acm:ListCertificates";
        let mut found = Vec::new();
        let mut next = None;
        loop {
            // Without it only RSA_1024 and RSA_2048 are listed (API reference, `Filters`).
            let filter = Filters::builder()
                .key_types(KeyAlgorithm::from(wish.key_type.name()))
                .export_option(CertificateExport::Enabled)
                .build();
            let page = self.client.list_certificates().includes(filter).set_next_token(next).send().await;
            let page = page.map_err(during(LIST))?;
            for one in page.certificate_summary_list.unwrap_or_default() {
                if one.domain_name.as_deref() == Some(wish.domain_name.as_str()) {
                    let certificate = arn(LIST, one.certificate_arn)?;
                    if self.is_tagged(&certificate, wish).await? {
                        found.push(self.describe(&certificate).await?);
                    }
                }
            }
            next = page.next_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    async fn is_tagged(&self, certificate: &AcmArn, wish: &Wish) -> Result<bool, AwsError> {
        let answer = self.client.list_tags_for_certificate().certificate_arn(certificate.as_str()).send().await;
        let tags = match answer.map_err(during("acm:ListTagsForCertificate")) {
            Ok(answer) => answer.tags.unwrap_or_default(),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let has = |key: &String, value: &String| tags.iter().any(|tag| tag.key == *key && tag.value() == Some(value));
        Ok(wish.tags.iter().all(|(key, value)| has(key, value)))
    }

    /// Exports a certificate: its key comes encrypted under the passphrase, which the SDK copies into its request and
    /// which is of no use for anything else afterwards.
    ///
    /// # Errors
    /// ACM's, without its message: a validation error may quote the passphrase.
    pub async fn export(&self, certificate: &AcmArn, passphrase: &Passphrase) -> Result<Sealed, AwsError> {
        const CALL: &str = "acm:ExportCertificate";
        let client = self.client_of(certificate).await?;
        let sent = client
            .export_certificate()
            .certificate_arn(certificate.as_str())
            .passphrase(Blob::new(passphrase.expose().as_bytes()))
            .send()
            .await;
        let refused = |error| self.explained(in_progress(during(CALL)(error).without_message()), certificate);
        let answer = sent.map_err(refused)?;
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

fn arn(call: &'static str, given: Option<String>) -> Result<AcmArn, AwsError> {
    let given = given.ok_or_else(|| AwsError::unexpected(call, "a certificate without an ARN"))?;
    AcmArn::parse(given).map_err(|error| AwsError::unexpected(call, error.to_string()))
}

/// The validation records, each once: a domain and the wildcard below it share one.
fn validation(detail: &CertificateDetail) -> Vec<ValidationRecord> {
    let bare = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    let records = detail.domain_validation_options().iter().filter_map(|option| option.resource_record());
    let all: BTreeSet<ValidationRecord> =
        records.map(|record| ValidationRecord { name: bare(record.name()), value: bare(record.value()) }).collect();
    all.into_iter().collect()
}

/// How the domains are validated. Where one waits for a mail, nobody but a person can help.
fn validated_by(detail: &CertificateDetail) -> Option<AcmValidation> {
    let methods = || detail.domain_validation_options().iter().filter_map(|option| option.validation_method());
    let by_email = methods().find(|method| **method == ValidationMethod::Email);
    by_email.or_else(|| methods().next()).map(|method| AcmValidation::parse(method.as_str()))
}

fn moment(at: &DateTime) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.secs()).ok()
}

fn evidence(certificate: &AcmArn, detail: &CertificateDetail) -> AcmEvidence {
    AcmEvidence {
        certificate: certificate.clone(),
        status: AcmStatus::parse(detail.status().map_or("", |status| status.as_str())),
        serial: detail.serial().map(str::to_owned),
        not_after: detail.not_after().and_then(moment),
        kind: AcmKind::parse(detail.r#type().map_or("", |kind| kind.as_str())),
        names: detail.subject_alternative_names().to_vec(),
        export_enabled: detail.options().and_then(|options| options.export()) == Some(&CertificateExport::Enabled),
        eligible: detail.renewal_eligibility().map(|word| *word == RenewalEligibility::Eligible),
        renewal: detail.renewal_summary().map(|renewal| AcmRenewal {
            status: renewal.renewal_status().as_str().to_owned(),
            reason: renewal.renewal_status_reason().map(|reason| reason.as_str().to_owned()),
        }),
        failure: detail.failure_reason().map(|reason| reason.as_str().to_owned()),
        validation: validation(detail),
        validated_by: validated_by(detail),
        requested_at: detail.created_at().and_then(moment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
