//! Certificates of other accounts: the roles there by which they are asked for, and the sessions that are under way.
//!
//! Reading and exporting are two roles, as they are two functions here: whoever may read must not become able to take a
//! key. An account opts in by making the roles (`examples/certificate-account.yaml`); which accounts are asked at all is the
//! template's, never a spec's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_acm::config::Credentials;
use espalier_domain::failure::{Failure, Word};
use espalier_domain::id::AcmArn;
use tokio::sync::Mutex;

use crate::error::{AwsError, Kind, during};

const CALL: &str = "sts:AssumeRole";

/// The shortest session that STS grants (API reference, `AssumeRole`).
const SESSION: Duration = Duration::from_secs(900);

/// A session with less than this left is not begun to work with.
const SPARE: Duration = Duration::from_secs(120);

/// What a role in another account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `DescribeCertificate`.
    Reader,
    /// `ExportCertificate`.
    Exporter,
}

impl Role {
    /// Its name, the same in every account.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reader => "espalier-certificate-reader",
            Self::Exporter => "espalier-certificate-exporter",
        }
    }
}

/// The accounts whose certificates may be asked for, and in which way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    accounts: BTreeSet<String>,
    /// What their roles demand to be told (IAM user guide, the confused deputy problem).
    external_id: Option<String>,
    /// What CloudTrail there calls the caller.
    session: String,
    role: Role,
}

/// What is no list of accounts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the environment variable ESPALIER_CERTIFICATE_ACCOUNTS: {0:?} is no account id: it takes 12-digit numbers, separated by commas"
)]
pub struct NoAccount(String);

impl Failure for NoAccount {
    fn word(&self) -> Word {
        Word::Invalid
    }
}

impl Elsewhere {
    /// Reads the template's list of accounts; nothing where there is none.
    ///
    /// # Errors
    /// An entry is not an account's number.
    pub fn parse(
        accounts: Option<&str>,
        external_id: Option<&str>,
        session: &str,
        role: Role,
    ) -> Result<Option<Self>, NoAccount> {
        let Some(accounts) = accounts else { return Ok(None) };
        let account = |text: &str| {
            let is_one = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_one { Ok(text.to_owned()) } else { Err(NoAccount(text.to_owned())) }
        };
        let accounts = accounts.split(',').map(account).collect::<Result<_, _>>()?;
        let external_id = external_id.map(str::to_owned);
        Ok(Some(Self { accounts, external_id, session: session.to_owned(), role }))
    }

    fn role_for(&self, certificate: &AcmArn) -> String {
        format!("arn:{}:iam::{}:role/{}", certificate.partition(), certificate.account(), self.role.name())
    }
}

/// Sessions in the accounts, begun when they are first needed.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    sts: aws_sdk_sts::Client,
    sdk: SdkConfig,
    elsewhere: Elsewhere,
    open: Arc<Mutex<BTreeMap<String, Credentials>>>,
}

impl Sessions {
    pub(super) fn new(sdk: &SdkConfig, elsewhere: Elsewhere) -> Self {
        Self { sts: aws_sdk_sts::Client::new(sdk), sdk: sdk.clone(), elsewhere, open: Arc::default() }
    }

    /// Whether a certificate is asked for by a role of its account.
    pub(super) fn concern(&self, certificate: &AcmArn) -> bool {
        self.elsewhere.accounts.contains(certificate.account())
    }

    /// The credentials of a session that lasts a while. Several who need one at the same time begin one.
    pub(super) async fn credentials(&self, certificate: &AcmArn) -> Result<Credentials, AwsError> {
        let mut open = self.open.lock().await;
        if let Some(known) = open.get(certificate.account()).filter(|known| self.lasts(known)) {
            return Ok(known.clone());
        }
        let begun = self.begin(certificate).await?;
        open.insert(certificate.account().to_owned(), begun.clone());
        Ok(begun)
    }

    fn lasts(&self, session: &Credentials) -> bool {
        let now = self.sdk.time_source().map(|clock| clock.now());
        now.zip(session.expiry()).is_some_and(|(now, end)| end > now + SPARE)
    }

    async fn begin(&self, certificate: &AcmArn) -> Result<Credentials, AwsError> {
        let (role, account) = (self.elsewhere.role_for(certificate), certificate.account());
        let Some(external_id) = &self.elsewhere.external_id else {
            let message =
                format!("{role} is assumed under an external id only: set the template's CertificateExternalId");
            return Err(AwsError::coded(CALL, "AccessDenied", message));
        };
        let seconds = i32::try_from(SESSION.as_secs()).unwrap_or(i32::MAX);
        let sent = self
            .sts
            .assume_role()
            .role_arn(&role)
            .role_session_name(&self.elsewhere.session)
            .external_id(external_id)
            .duration_seconds(seconds)
            .send()
            .await;
        let answer = sent.map_err(during(CALL)).map_err(|error| refused(error, &role, account))?;
        let given = answer.credentials.ok_or_else(|| AwsError::unexpected(CALL, "the answer has no credentials"))?;
        let end = SystemTime::try_from(given.expiration)
            .map_err(|_| AwsError::unexpected(CALL, "the session's end is no time"))?;
        let token = Some(given.session_token);
        Ok(Credentials::new(given.access_key_id, given.secret_access_key, token, Some(end), "another account's role"))
    }
}

/// STS tells neither whether the role exists nor what of its trust policy was not met.
fn refused(error: AwsError, role: &str, account: &str) -> AwsError {
    if error.kind != Kind::Denied {
        return error;
    }
    error.with_remedy(&format!(
        "let account {account} have {role} (examples/certificate-account.yaml), trusting this function's role and the \
         external id in the template's CertificateExternalId"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_numbers_and_a_role_is_the_certificates_accounts() {
        let parse = |accounts| Elsewhere::parse(accounts, Some("orchard"), "espalier-rotate", Role::Reader);
        assert_eq!(parse(None), Ok(None));
        let two = parse(Some("210987654321,000000000001")).unwrap().unwrap();
        let arn = AcmArn::parse("arn:aws-cn:acm:cn-north-1:210987654321:certificate/61f50cd4").unwrap();
        assert_eq!(two.role_for(&arn), "arn:aws-cn:iam::210987654321:role/espalier-certificate-reader");
        for bad in ["", "21098765432", "210987654321,", "210987654321, 000000000001", "2109876543210", "21098765432a"] {
            let error = parse(Some(bad)).unwrap_err().to_string();
            assert!(error.contains("12-digit numbers, separated by commas"), "{error}");
        }
    }
}
