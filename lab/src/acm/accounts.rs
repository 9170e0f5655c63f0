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

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;
    use crate::acm::Kind;
    use crate::aws::OTHER_ACCOUNT;
    use crate::events::EventRouter;
    use crate::sts::Sts;

    const EXAMPLE: &str = include_str!("../../../examples/certificate-account.yaml");

    fn signed(key: &str, token: &str) -> HeaderMap {
        let line = format!("AWS4-HMAC-SHA256 Credential={key}/20261121/eu-west-1/acm/aws4_request, Signature=0");
        let entries = [("authorization", line), ("x-amz-security-token", token.to_owned())];
        entries.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// A session of one of the example's roles.
    async fn session(sts: &Sts, role: &str) -> HeaderMap {
        let arn = format!("arn:aws:iam::{OTHER_ACCOUNT}:role/espalier-certificate-{role}");
        let form = [
            ("Action", "AssumeRole"),
            ("RoleArn", arn.as_str()),
            ("RoleSessionName", "espalier-rotate"),
            ("ExternalId", "orchard"),
        ];
        let sent = reqwest::Client::new().post(format!("http://{}", sts.address())).form(&form).send().await.unwrap();
        let answer = sent.text().await.unwrap();
        let named = |name: &str| {
            let rest = answer.split(&format!("<{name}>")).nth(1).unwrap();
            rest.split('<').next().unwrap().to_owned()
        };
        signed(&named("AccessKeyId"), &named("SessionToken"))
    }

    #[tokio::test]
    async fn another_accounts_certificate_needs_a_session_there_the_action_and_the_tag() {
        let directory = tempfile::tempdir().unwrap();
        let sts = Sts::start("http://127.0.0.1:9").await.unwrap();
        let parameters = [("ExternalId", "orchard"), ("RotateRoleArn", "r"), ("ExportRoleArn", "e")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        sts.deploy(EXAMPLE, OTHER_ACCOUNT, &parameters).unwrap();
        let router = EventRouter::new("http://127.0.0.1:9");
        let acm = Acm::start_validating(router, directory.path().join("acm"), None, Some(sts.clone())).await.unwrap();
        let now = OffsetDateTime::now_utc();
        let own = acm.issue("a.example.com", now);
        let there = acm.issue_exportable_in(OTHER_ACCOUNT, "a.example.com", Kind::Private, now).await.unwrap();
        let said = |headers: &HeaderMap, operation: &str, arn: &str| {
            acm.admit(operation, headers, &json!({"CertificateArn": arn})).err().map(|Refusal(code, _)| code)
        };
        let (denied, unknown) = (Some("AccessDeniedException"), Some("UnrecognizedClientException"));
        let (reader, exporter) = (session(&sts, "reader").await, session(&sts, "exporter").await);
        assert_eq!(said(&HeaderMap::new(), "DescribeCertificate", &own), None);
        assert_eq!(said(&HeaderMap::new(), "DescribeCertificate", &there), denied, "without a session");
        assert_eq!(said(&signed("ASIAUNKNOWN", "x"), "DescribeCertificate", &there), unknown);
        assert_eq!(said(&reader, "DescribeCertificate", &there), denied, "without the tag");
        acm.tag(&there);
        assert_eq!(said(&reader, "DescribeCertificate", &there), None);
        assert_eq!(said(&reader, "ExportCertificate", &there), denied, "reading is not exporting");
        assert_eq!(said(&exporter, "ExportCertificate", &there), None);
        assert_eq!(said(&exporter, "DescribeCertificate", &there), denied);
        assert_eq!(said(&reader, "DescribeCertificate", &own), denied, "a session leads nowhere else");
    }
}
