//! Whose certificates a caller may ask for: IAM's decision, before ACM looks.

use axum::http::HeaderMap;
use serde_json::Value;

use super::{Acm, Refusal};
use crate::aws::ACCOUNT;
use crate::sts::Caller;

impl Acm {
    /// A certificate has no policy of its own, so another account's is reached by a role there alone (IAM user guide,
    /// cross-account policy evaluation); the roles of `examples/certificate-account.yaml` reach those with the tag.
    pub(super) fn admit(&self, operation: &str, headers: &HeaderMap, body: &Value) -> Result<(), Refusal> {
        let Some(sts) = &self.sts else { return Ok(()) };
        let arn = body["CertificateArn"].as_str().unwrap_or_default();
        let owner = arn.split(':').nth(4).unwrap_or(ACCOUNT);
        let denied = || {
            let message = format!("User is not authorized to perform: acm:{operation} on resource: {arn}");
            Err(Refusal("AccessDeniedException", message))
        };
        match sts.caller(headers) {
            Caller::Own if owner == ACCOUNT => Ok(()),
            Caller::Session { account, actions } => {
                let may = actions.iter().any(|action| action.strip_prefix("acm:") == Some(operation));
                if account == owner && may && self.is_tagged(arn) { Ok(()) } else { denied() }
            }
            Caller::Own => denied(),
            Caller::Nobody => {
                let message = "The security token included in the request is invalid.".to_owned();
                Err(Refusal("UnrecognizedClientException", message))
            }
        }
    }

    fn is_tagged(&self, arn: &str) -> bool {
        self.certificates.lock().is_ok_and(|all| all.get(arn).is_some_and(|one| one.is_tagged))
    }

    /// Its owner gives a certificate the tag `espalier:stack`.
    pub fn tag(&self, arn: &str) {
        self.change(arn, |certificate| certificate.is_tagged = true);
    }
}
