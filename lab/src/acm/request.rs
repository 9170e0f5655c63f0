//! Requests for certificates: what ACM refuses of one, its idempotency, its validation records, and that it issues what it
//! finds them for in the public DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration as Pause;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use super::{Acm, Certificate, Kind, LIFE, Refusal, invalid, next, rfc3339};
use crate::aws::ACCOUNT;
use crate::dns::public_cnames;

/// How long ACM knows an idempotency token (API reference, `RequestCertificate`).
const TOKEN_KNOWN: Duration = Duration::hours(1);

/// How long it takes until the validation records are made up: "several seconds" there, less here.
const RECORDS_AFTER: Duration = Duration::milliseconds(1_500);

/// Names per certificate, ACM's default quota (ACM user guide, quotas).
const NAMES: usize = 10;

/// How often ACM looks for validation records here, and how many times.
const LOOKS: (Pause, u32) = (Pause::from_millis(300), 800);

/// What was requested.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) at: OffsetDateTime,
    pub(super) tags: Vec<Value>,
    token: Option<String>,
}

impl Request {
    /// `DomainValidationOptions`: the records come a while after the request.
    pub(super) fn validation(&self, names: &[String], status: &str) -> Value {
        let is_there = OffsetDateTime::now_utc() - self.at >= RECORDS_AFTER;
        let validated = if status == "PENDING_VALIDATION" { "PENDING_VALIDATION" } else { "SUCCESS" };
        let option = |name: &String| {
            let mut option = json!({"DomainName": name, "ValidationDomain": name, "ValidationStatus": validated,
                "ValidationMethod": "DNS"});
            if is_there {
                let (name, value) = record(name);
                option["ResourceRecord"] =
                    json!({"Name": format!("{name}."), "Type": "CNAME", "Value": format!("{value}.")});
            }
            option
        };
        names.iter().map(option).collect()
    }
}

/// A domain's validation record: the same for every certificate of the account (ACM user guide, DNS validation), and for the
/// wildcard below the domain.
fn record(domain: &str) -> (String, String) {
    let domain = domain.strip_prefix("*.").unwrap_or(domain);
    let digits = |salt: &str| -> String {
        Sha256::digest(format!("{salt}{domain}")).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    };
    (format!("_{}.{domain}", digits("name")), format!("_{}.jkddzztszm.acm-validations.aws", digits("value")))
}

impl Acm {
    /// API reference, `RequestCertificate`, for public certificates.
    pub(super) fn request(&self, body: &Value, now: OffsetDateTime) -> Result<Value, Refusal> {
        let wanted = Wanted::read(body)?;
        let lost = |_| Refusal("InternalServerException", "the stand-in's state is lost".to_owned());
        let mut certificates = self.certificates.lock().map_err(lost)?;
        let is_same = |one: &Certificate| {
            one.request.as_ref().is_some_and(|made| {
                made.token.is_some() && made.token == wanted.request.token && now - made.at < TOKEN_KNOWN
            })
        };
        if let Some((arn, _)) = certificates.iter().find(|(_, one)| is_same(one)) {
            return Ok(json!({"CertificateArn": arn}));
        }
        let (number, arn) = next(&certificates, ACCOUNT);
        let certificate = Certificate {
            number,
            names: wanted.names,
            key: wanted.key,
            request: Some(Request { at: now, ..wanted.request }),
            not_before: now,
            not_after: now + LIFE,
            renewals: 0,
            kind: if wanted.is_exportable { Kind::Public } else { Kind::InUse },
            status: "PENDING_VALIDATION",
            pair: None,
            exported: false,
            failure: None,
            is_tagged: true,
        };
        certificates.insert(arn.clone(), certificate);
        drop(certificates);
        tokio::spawn(self.clone().issue_when_validated(arn.clone()));
        Ok(json!({"CertificateArn": arn}))
    }

    /// ACM tries to renew and misses a validation record; announced by `ACM Certificate Renewal Action Required`. It renews
    /// as soon as the record is there.
    pub async fn renew_when_validated(&self, arn: &str) {
        self.fail_renewal(arn, "PENDING_DOMAIN_VALIDATION").await;
        let (acm, arn) = (self.clone(), arn.to_owned());
        tokio::spawn(async move {
            if acm.is_validated(&arn).await {
                acm.renew(&arn, OffsetDateTime::now_utc()).await;
            }
        });
    }

    /// The certificates that were requested.
    pub fn requested(&self) -> Vec<String> {
        let certificates = self.certificates.lock().map(|all| all.clone()).unwrap_or_default();
        certificates.into_iter().filter(|(_, one)| one.request.is_some()).map(|(arn, _)| arn).collect()
    }

    /// The names of a certificate's validation records.
    pub fn validation_names(&self, arn: &str) -> BTreeSet<String> {
        let names = self.certificates.lock().ok().and_then(|all| all.get(arn).map(|one| one.names.clone()));
        names.unwrap_or_default().iter().map(|name| record(name).0).collect()
    }

    async fn issue_when_validated(self, arn: String) {
        if !self.is_validated(&arn).await {
            return;
        }
        let Some(wanted) = self.certificates.lock().ok().and_then(|all| all.get(&arn).cloned()) else { return };
        // What cannot be made is not issued, and the story notices.
        let Ok(pair) = self.authorities.issue(&wanted.names, wanted.kind, wanted.key).await else { return };
        let now = OffsetDateTime::now_utc();
        let issued = self.change(&arn, |certificate| {
            (certificate.not_before, certificate.not_after) = (now, now + LIFE);
            (certificate.pair, certificate.status) = (Some(pair), "ISSUED");
        });
        let Some(issued) = issued else { return };
        let detail = json!({
            "Action": "ISSUANCE",
            "CertificateType": issued.kind.text(),
            "CommonName": issued.domain(),
            "DomainValidationMethod": "DNS",
            "CertificateCreatedDate": rfc3339(issued.not_before),
            "CertificateExpirationDate": rfc3339(issued.not_after),
            "DaysToExpiry": LIFE.whole_days(),
            "InUse": false,
            "Exported": false,
        });
        self.announce("ACM Certificate Available", &arn, detail).await;
    }

    /// Waits until the public DNS has every validation record; whether it came to that.
    async fn is_validated(&self, arn: &str) -> bool {
        let Some(route53) = &self.route53 else { return false };
        for _ in 0..LOOKS.1 {
            tokio::time::sleep(LOOKS.0).await;
            let Ok(records) = public_cnames(route53).await else { continue };
            let Some(names) = self.certificates.lock().ok().and_then(|all| all.get(arn).map(|one| one.names.clone()))
            else {
                return false;
            };
            let is_there = |name: &String| {
                let (name, value) = record(name);
                records.get(&name) == Some(&value)
            };
            if names.iter().all(is_there) {
                return true;
            }
        }
        false
    }
}

/// A request that ACM takes.
struct Wanted {
    names: Vec<String>,
    key: &'static str,
    is_exportable: bool,
    request: Request,
}

impl Wanted {
    fn read(body: &Value) -> Result<Self, Refusal> {
        let names = names(body)?;
        match body["ValidationMethod"].as_str() {
            Some("DNS") => {}
            Some("EMAIL") | None => return Err(invalid("the lab's ACM validates by DNS only")),
            Some(other) => return Err(invalid(&format!("Value '{other}' at 'validationMethod' is not DNS or EMAIL"))),
        }
        // Requestable are these three (API reference, `RequestCertificate`, `KeyAlgorithm`); RSA_2048 if left out.
        let key = match body["KeyAlgorithm"].as_str() {
            None | Some("RSA_2048") => "RSA_2048",
            Some("EC_prime256v1") => "EC_prime256v1",
            Some("EC_secp384r1") => "EC_secp384r1",
            Some(other) => return Err(invalid(&format!("{other} is not supported for a requested certificate"))),
        };
        let is_exportable = match body["Options"]["Export"].as_str() {
            Some("ENABLED") => true,
            None | Some("DISABLED") => false,
            Some(other) => return Err(invalid(&format!("Value '{other}' at 'options.export' is not in the enum"))),
        };
        let request = Request { at: OffsetDateTime::UNIX_EPOCH, tags: tags(body)?, token: token(body)? };
        Ok(Self { names, key, is_exportable, request })
    }
}

/// `DomainName` has at most 64 characters, the common name's limit; the others at most 253.
fn names(body: &Value) -> Result<Vec<String>, Refusal> {
    let domain = body["DomainName"].as_str().ok_or_else(|| invalid("Value at 'domainName' is null"))?;
    let others = body["SubjectAlternativeNames"].as_array().cloned().unwrap_or_default();
    if body["SubjectAlternativeNames"].as_array().is_some_and(Vec::is_empty) {
        return Err(invalid("Value at 'subjectAlternativeNames' failed to satisfy constraint: length at least 1"));
    }
    if domain.len() > 64 {
        return Err(invalid("The first domain name can be no longer than 64 characters."));
    }
    let mut names = vec![domain.to_owned()];
    names.extend(others.iter().filter_map(Value::as_str).filter(|name| *name != domain).map(str::to_owned));
    if names.len() > NAMES {
        return Err(Refusal("LimitExceededException", format!("more than {NAMES} domain names")));
    }
    let is_name = |name: &str| {
        let plain = name.strip_prefix("*.").unwrap_or(name);
        plain.len() <= 253
            && plain.contains('.')
            && plain.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    };
    match names.iter().find(|name| !is_name(name)) {
        None => Ok(names),
        Some(bad) => Err(Refusal("InvalidDomainValidationOptionsException", format!("{bad} is no domain name"))),
    }
}

/// 1 to 32 word characters.
fn token(body: &Value) -> Result<Option<String>, Refusal> {
    let Some(token) = body["IdempotencyToken"].as_str() else { return Ok(None) };
    let is_word =
        (1..=32).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_word {
        return Ok(Some(token.to_owned()));
    }
    Err(invalid("Value at 'idempotencyToken' failed to satisfy constraint: \\w+, length between 1 and 32"))
}

/// 1 to 50 tags, no key twice, none that begins with `aws:`.
fn tags(body: &Value) -> Result<Vec<Value>, Refusal> {
    let Some(tags) = body["Tags"].as_array() else { return Ok(Vec::new()) };
    let mut keys = BTreeSet::new();
    if tags.is_empty() {
        return Err(invalid("Value at 'tags' failed to satisfy constraint: length at least 1"));
    }
    if tags.len() > 50 {
        return Err(Refusal("TooManyTagsException", "more than 50 tags".to_owned()));
    }
    for tag in tags {
        let key = tag["Key"].as_str().unwrap_or_default();
        if key.is_empty() || key.len() > 128 || key.to_ascii_lowercase().starts_with("aws:") || !keys.insert(key) {
            return Err(Refusal("InvalidTagException", format!("the tag key {key:?} is not allowed or there twice")));
        }
    }
    Ok(tags.clone())
}

/// `ListCertificates`. Unasked, certificates with RSA keys of up to 2048 bits only (API reference, `Filters`).
pub(super) fn list(certificates: &BTreeMap<String, Certificate>, body: &Value) -> Result<Value, Refusal> {
    let filter = &body["Includes"];
    let keys: Vec<&str> = match filter["keyTypes"].as_array() {
        Some(keys) => keys.iter().filter_map(Value::as_str).collect(),
        None => vec!["RSA_1024", "RSA_2048"],
    };
    let is_listed = |one: &Certificate| {
        let export = if one.kind == Kind::Public { "ENABLED" } else { "DISABLED" };
        keys.contains(&one.key) && filter["exportOption"].as_str().is_none_or(|wanted| wanted == export)
    };
    let size = body["MaxItems"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(1_000);
    if size == 0 {
        return Err(invalid("Value at 'maxItems' failed to satisfy constraint: at least 1"));
    }
    let from = body["NextToken"].as_str().unwrap_or_default();
    let is_own = |arn: &str| arn.split(':').nth(4) == Some(ACCOUNT);
    let mut all = certificates.iter().filter(|(arn, one)| arn.as_str() > from && is_own(arn) && is_listed(one));
    let page: Vec<_> = all.by_ref().take(size).collect();
    let last = page.last().map(|(arn, _)| (*arn).clone());
    let summary = |(arn, one): &(&String, &Certificate)| {
        json!({"CertificateArn": arn, "DomainName": one.domain(), "SubjectAlternativeNameSummaries": one.names,
            "Status": one.status, "Type": one.kind.text(), "KeyAlgorithm": one.key, "Exported": one.exported})
    };
    let mut answer = json!({"CertificateSummaryList": page.iter().map(summary).collect::<Vec<_>>()});
    if let (Some(last), Some(_)) = (last, all.next()) {
        answer["NextToken"] = last.into();
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use crate::events::EventRouter;

    use super::*;

    fn wish() -> Value {
        json!({"DomainName": "a.example.com", "SubjectAlternativeNames": ["b.example.com"], "ValidationMethod": "DNS",
            "KeyAlgorithm": "EC_prime256v1", "Options": {"Export": "ENABLED"}, "IdempotencyToken": "one",
            "Tags": [{"Key": "espalier:stack", "Value": "a"}]})
    }

    #[tokio::test]
    async fn a_request_is_refused_as_the_reference_says() {
        let directory = tempfile::tempdir().unwrap();
        let acm = Acm::start(EventRouter::new("http://127.0.0.1:9"), directory.path().join("acm")).await.unwrap();
        let now = OffsetDateTime::now_utc();
        let refused = |field: &str, value: Value| {
            let mut body = wish();
            body[field] = value;
            acm.request(&body, now).err().map(|Refusal(kind, _)| kind)
        };
        for (field, value, kind) in [
            ("DomainName", Value::Null, "ValidationException"),
            ("DomainName", json!(format!("{}.example.com", "a".repeat(60))), "ValidationException"),
            ("DomainName", json!("nothing"), "InvalidDomainValidationOptionsException"),
            ("DomainName", json!("-a.example.com"), "InvalidDomainValidationOptionsException"),
            ("SubjectAlternativeNames", json!([]), "ValidationException"),
            (
                "SubjectAlternativeNames",
                (0..10).map(|n| format!("n{n}.example.com")).collect(),
                "LimitExceededException",
            ),
            ("ValidationMethod", json!("HTTP"), "ValidationException"),
            ("KeyAlgorithm", json!("RSA_4096"), "ValidationException"),
            ("KeyAlgorithm", json!("Ed25519"), "ValidationException"),
            ("Options", json!({"Export": "YES"}), "ValidationException"),
            ("IdempotencyToken", json!("with-hyphen"), "ValidationException"),
            ("IdempotencyToken", json!("x".repeat(33)), "ValidationException"),
            ("Tags", json!([]), "ValidationException"),
            ("Tags", json!([{"Key": "aws:a", "Value": "b"}]), "InvalidTagException"),
            ("Tags", json!([{"Key": "a", "Value": "b"}, {"Key": "a", "Value": "c"}]), "InvalidTagException"),
        ] {
            assert_eq!(refused(field, value.clone()), Some(kind), "{field} {value}");
        }
        assert!(acm.requested().is_empty());
        assert_eq!(refused("Tags", json!([{"Key": "a", "Value": "b"}])), None);
    }

    #[tokio::test]
    async fn the_same_token_is_the_same_certificate_for_an_hour() {
        let directory = tempfile::tempdir().unwrap();
        let acm = Acm::start(EventRouter::new("http://127.0.0.1:9"), directory.path().join("acm")).await.unwrap();
        let now = OffsetDateTime::now_utc();
        let arn = |at| acm.request(&wish(), at).ok().unwrap()["CertificateArn"].clone();
        let first = arn(now - Duration::minutes(63));
        let later = arn(now - Duration::minutes(2));
        assert!(first != later && arn(now - Duration::minutes(1)) == later, "a token is forgotten after an hour");
        let shown = acm.call("DescribeCertificate", &json!({"CertificateArn": later})).ok().unwrap();
        let shown = &shown["Certificate"];
        assert_eq!(shown["Status"], "PENDING_VALIDATION");
        assert!(shown["Serial"].is_null() && shown["NotAfter"].is_null(), "nothing of it exists yet");
        let options = shown["DomainValidationOptions"].as_array().unwrap();
        assert_eq!(options.len(), 2);
        assert_eq!(options[0]["ResourceRecord"]["Type"], "CNAME");
        let fresh = acm.request(&json!({"DomainName": "c.example.com", "ValidationMethod": "DNS"}), now).ok().unwrap();
        let shown = acm.call("DescribeCertificate", &json!({"CertificateArn": fresh["CertificateArn"]})).ok().unwrap();
        assert!(shown["Certificate"]["DomainValidationOptions"][0]["ResourceRecord"].is_null(), "a while later");
        let listed = |body: Value| acm.call("ListCertificates", &body).ok().unwrap();
        let count = |body: Value| listed(body)["CertificateSummaryList"].as_array().unwrap().len();
        assert_eq!(count(json!({})), 1, "RSA only, unasked");
        assert_eq!(count(json!({"Includes": {"keyTypes": ["EC_prime256v1"], "exportOption": "ENABLED"}})), 2);
        let page = listed(json!({"Includes": {"keyTypes": ["EC_prime256v1"]}, "MaxItems": 1}));
        let rest = json!({"Includes": {"keyTypes": ["EC_prime256v1"]}, "NextToken": page["NextToken"]});
        assert_eq!((count(rest.clone()), listed(rest)["NextToken"].is_null()), (1, true));
        let tags = acm.call("ListTagsForCertificate", &json!({"CertificateArn": later})).ok().unwrap();
        assert_eq!(tags["Tags"][0]["Key"], "espalier:stack");
    }
}
