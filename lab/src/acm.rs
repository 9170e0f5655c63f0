//! A stand-in for AWS Certificate Manager, as far as Espalier uses it: certificates, their renewal, revocation and expiry,
//! the events ACM sends about them, and their export.
//!
//! A certificate that may be exported is a real one: OpenSSL makes its key, the authorities above it and the encryption
//! under the passphrase, so that nothing of the product judges itself. Others are metadata only.

mod accounts;
mod issued;
mod request;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;

use crate::aws::{ACCOUNT, REGION};
use crate::events::{Event, EventRouter};
use crate::sts::Sts;
use issued::{Authorities, Pair};

/// ACM's public certificates live 198 days (ACM user guide, certificate characteristics).
const LIFE: Duration = Duration::days(198);

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Public, requested without `Options.Export`; in use by something.
    InUse,
    /// Public, requested with `Options.Export` `ENABLED`.
    Public,
    /// From AWS Private CA.
    Private,
}

/// The stand-in.
#[derive(Debug, Clone)]
pub struct Acm {
    certificates: Arc<Mutex<BTreeMap<String, Certificate>>>,
    authorities: Authorities,
    passphrases: Arc<Mutex<Vec<String>>>,
    router: EventRouter,
    /// Where Route 53 answers, whose public zones are the public DNS.
    route53: Option<String>,
    /// Who knows which session is whose.
    sts: Option<Sts>,
    address: SocketAddr,
}

#[derive(Debug, Clone)]
struct Certificate {
    number: u32,
    /// The common name first.
    names: Vec<String>,
    /// `KeyAlgorithm`.
    key: &'static str,
    /// What it was requested with.
    request: Option<request::Request>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    renewals: u32,
    kind: Kind,
    /// `CertificateStatus`.
    status: &'static str,
    /// The real thing, where it may be exported.
    pair: Option<Pair>,
    /// It was exported since it was issued or last renewed.
    exported: bool,
    /// Why ACM could not renew it.
    failure: Option<&'static str>,
    /// It carries the tag `espalier:stack`.
    is_tagged: bool,
}

/// A refusal: ACM's error type and its text.
struct Refusal(&'static str, String);

impl Acm {
    /// Serves ACM's API on a loopback port; its authorities and keys are kept in a directory of their own.
    pub async fn start(router: EventRouter, directory: PathBuf) -> io::Result<Self> {
        Self::start_validating(router, directory, None, None).await
    }

    /// The same, with the public zones of `route53` (an endpoint) to look for validation records in, and with the sessions
    /// of `sts` in other accounts.
    pub async fn start_validating(
        router: EventRouter,
        directory: PathBuf,
        route53: Option<&str>,
        sts: Option<Sts>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let authorities = Authorities::at(directory);
        let (certificates, passphrases) = Default::default();
        let acm = Self {
            certificates,
            authorities,
            passphrases,
            router,
            route53: route53.map(str::to_owned),
            sts,
            address: listener.local_addr()?,
        };
        let app = Router::new().fallback(answer).with_state(acm.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(acm)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A certificate that ACM issued for a domain, in use by something; its ARN.
    pub fn issue(&self, domain: &str, now: OffsetDateTime) -> String {
        self.add(ACCOUNT, domain, Kind::InUse, None, now)
    }

    /// A certificate that may be exported; its ARN.
    pub async fn issue_exportable(&self, domain: &str, kind: Kind, now: OffsetDateTime) -> io::Result<String> {
        self.issue_exportable_in(ACCOUNT, domain, kind, now).await
    }

    /// The same in an account, the lab's or another.
    pub async fn issue_exportable_in(
        &self,
        account: &str,
        domain: &str,
        kind: Kind,
        now: OffsetDateTime,
    ) -> io::Result<String> {
        let pair = self.authorities.issue(&[domain.to_owned()], kind, kind.key()).await?;
        Ok(self.add(account, domain, kind, Some(pair), now))
    }

    fn add(&self, account: &str, domain: &str, kind: Kind, pair: Option<Pair>, now: OffsetDateTime) -> String {
        let Ok(mut certificates) = self.certificates.lock() else { return String::new() };
        let (number, arn) = next(&certificates, account);
        let certificate = Certificate {
            number,
            names: vec![domain.to_owned()],
            key: kind.key(),
            request: None,
            not_before: now,
            not_after: now + LIFE,
            renewals: 0,
            kind,
            status: "ISSUED",
            pair,
            exported: false,
            failure: None,
            is_tagged: false,
        };
        certificates.insert(arn.clone(), certificate);
        arn
    }

    /// Managed renewal: a new certificate under the same ARN, announced by `ACM Certificate Available` (`RENEWAL`).
    pub async fn renew(&self, arn: &str, now: OffsetDateTime) {
        let Some(certificate) = self.renew_unheard(arn, now).await else { return };
        let detail = json!({
            "Action": "RENEWAL",
            "CertificateType": certificate.kind.text(),
            "CommonName": certificate.domain(),
            "DomainValidationMethod": "DNS",
            "CertificateCreatedDate": rfc3339(certificate.not_before),
            "CertificateExpirationDate": rfc3339(certificate.not_after),
            "DaysToExpiry": LIFE.whole_days(),
            "InUse": certificate.kind == Kind::InUse,
            "Exported": false,
        });
        self.announce("ACM Certificate Available", arn, detail).await;
    }

    /// The same, and the event gets lost: they are best effort. Whether it was renewed.
    pub async fn renew_quietly(&self, arn: &str, now: OffsetDateTime) -> bool {
        self.renew_unheard(arn, now).await.is_some()
    }

    async fn renew_unheard(&self, arn: &str, now: OffsetDateTime) -> Option<Certificate> {
        let former = self.certificates.lock().ok()?.get(arn)?.clone();
        let pair = match former.pair {
            None => None,
            // What cannot be made is not renewed, and the story notices.
            Some(_) => Some(self.authorities.issue(&former.names, former.kind, former.key).await.ok()?),
        };
        self.change(arn, |certificate| {
            certificate.renewals += 1;
            (certificate.not_before, certificate.not_after) = (now, now + LIFE);
            (certificate.pair, certificate.exported, certificate.failure) = (pair, false, None);
        })
    }

    /// ACM tries to renew and cannot, for this `RenewalStatusReason`; announced by `ACM Certificate Renewal Action
    /// Required`.
    pub async fn fail_renewal(&self, arn: &str, reason: &'static str) {
        if let Some(certificate) = self.change(arn, |certificate| certificate.failure = Some(reason)) {
            let detail = json!({
                "CertificateType": certificate.kind.text(),
                "CommonName": certificate.domain(),
                "DomainValidationMethod": "DNS",
                "RenewalStatusReason": reason,
                "DaysToExpiry": 30,
                "InUse": "FALSE",
                "Exportable": "TRUE",
            });
            self.announce("ACM Certificate Renewal Action Required", arn, detail).await;
        }
    }

    /// Somebody revoked it; announced by `ACM Certificate Revoked`.
    pub async fn revoke(&self, arn: &str) {
        if let Some(certificate) = self.change(arn, |certificate| certificate.status = "REVOKED") {
            let detail = json!({"CertificateType": certificate.kind.text(), "CommonName": certificate.domain()});
            self.announce("ACM Certificate Revoked", arn, detail).await;
        }
    }

    /// ACM says that it has expired; announced by `ACM Certificate Expired`. Its bytes live on: only the word changes.
    pub async fn expire(&self, arn: &str) {
        if let Some(certificate) = self.change(arn, |certificate| certificate.status = "EXPIRED") {
            let detail = json!({"CertificateType": certificate.kind.text(), "CommonName": certificate.domain(), "InUse": "FALSE"});
            self.announce("ACM Certificate Expired", arn, detail).await;
        }
    }

    /// Whatever was wrong is put right, and nobody says so.
    pub fn mend(&self, arn: &str) {
        self.change(arn, |certificate| (certificate.status, certificate.failure) = ("ISSUED", None));
    }

    /// The serial number it has now, as ACM prints it.
    pub fn serial(&self, arn: &str) -> Option<String> {
        self.certificates.lock().ok()?.get(arn).map(Certificate::serial)
    }

    /// When it ends.
    pub fn not_after(&self, arn: &str) -> Option<OffsetDateTime> {
        self.certificates.lock().ok()?.get(arn).map(|certificate| certificate.not_after)
    }

    /// Where it comes from.
    pub fn kind(&self, arn: &str) -> Option<Kind> {
        self.certificates.lock().ok()?.get(arn).map(|certificate| certificate.kind)
    }

    /// Every passphrase that came with an export.
    pub fn passphrases(&self) -> Vec<String> {
        self.passphrases.lock().map(|all| all.clone()).unwrap_or_default()
    }

    /// Time passes until `days` are left; announced by `ACM Certificate Approaching Expiration`.
    pub async fn expire_soon(&self, arn: &str, days: i64, now: OffsetDateTime) {
        let changed = self.change(arn, |certificate| certificate.not_after = now + Duration::days(days));
        if let Some(certificate) = changed {
            let detail = json!({"DaysToExpiry": days, "CommonName": certificate.domain()});
            self.announce("ACM Certificate Approaching Expiration", arn, detail).await;
        }
    }

    fn change(&self, arn: &str, change: impl FnOnce(&mut Certificate)) -> Option<Certificate> {
        let mut certificates = self.certificates.lock().ok()?;
        let certificate = certificates.get_mut(arn)?;
        change(certificate);
        Some(certificate.clone())
    }

    async fn announce(&self, detail_type: &str, arn: &str, detail: Value) {
        let (source, resources) = ("aws.acm".to_owned(), vec![arn.to_owned()]);
        let event = Event { source, detail_type: detail_type.to_owned(), resources, detail };
        match arn.split(':').nth(4).unwrap_or(ACCOUNT) {
            ACCOUNT => self.router.put(event).await,
            other => self.router.forward(other, event).await,
        }
    }

    fn call(&self, operation: &str, body: &Value) -> Result<Value, Refusal> {
        let broken = |_| Refusal("InternalServerException", "the stand-in's state is lost".to_owned());
        let certificates = self.certificates.lock().map_err(broken)?;
        match operation {
            "DescribeCertificate" => {
                let arn = body["CertificateArn"].as_str().unwrap_or_default();
                let missing = || Refusal("ResourceNotFoundException", format!("Could not find certificate {arn}."));
                let certificate = certificates.get(arn).ok_or_else(missing)?;
                Ok(json!({"Certificate": certificate.describe(arn)}))
            }
            "ListCertificates" => request::list(&certificates, body),
            "ListTagsForCertificate" => {
                let arn = body["CertificateArn"].as_str().unwrap_or_default();
                let missing = || Refusal("ResourceNotFoundException", format!("Could not find certificate {arn}."));
                let one = certificates.get(arn).ok_or_else(missing)?;
                Ok(json!({"Tags": one.request.as_ref().map(|request| request.tags.clone()).unwrap_or_default()}))
            }
            other => Err(Refusal("UnknownOperationException", format!("the lab's ACM does not serve {other}"))),
        }
    }
}

impl Acm {
    /// ACM user guide, exporting a private and a public certificate; API reference, `ExportCertificate`.
    async fn export(&self, body: &Value) -> Result<Value, Refusal> {
        let arn = body["CertificateArn"].as_str().unwrap_or_default();
        let passphrase = passphrase(&body["Passphrase"])?;
        let found = self.certificates.lock().ok().and_then(|all| all.get(arn).cloned());
        let certificate =
            found.ok_or_else(|| Refusal("ResourceNotFoundException", format!("Could not find certificate {arn}.")))?;
        if certificate.status == "PENDING_VALIDATION" {
            return Err(Refusal("RequestInProgressException", format!("Certificate {arn} is not issued yet.")));
        }
        let Some(pair) = certificate.pair else {
            return Err(invalid("The certificate was not requested with Export ENABLED."));
        };
        let key = self.authorities.sealed(&pair, &passphrase).await;
        let key = key.map_err(|error| Refusal("InternalServerException", error.to_string()))?;
        if let Ok(mut all) = self.passphrases.lock() {
            all.push(passphrase);
        }
        self.change(arn, |certificate| certificate.exported = true);
        Ok(json!({"Certificate": pair.certificate, "CertificateChain": pair.chain, "PrivateKey": key}))
    }
}

/// The number and the ARN of the next certificate.
fn next(certificates: &BTreeMap<String, Certificate>, account: &str) -> (u32, String) {
    let number = u32::try_from(certificates.len()).unwrap_or(u32::MAX).saturating_add(1);
    (number, format!("arn:aws:acm:{REGION}:{account}:certificate/00000000-0000-4000-8000-{number:012x}"))
}

/// 4 to 128 characters of ASCII, none of `#`, `$` and `%` (API reference, `ExportCertificate`); in JSON as base64.
fn passphrase(sent: &Value) -> Result<String, Refusal> {
    let sent = sent.as_str().ok_or_else(|| invalid("1 validation error detected: Value at 'passphrase' is null"))?;
    let octets = STANDARD.decode(sent).map_err(|_| Refusal("SerializationException", "not base64".to_owned()))?;
    let text = String::from_utf8(octets).map_err(|_| invalid("The passphrase is not ASCII."))?;
    if !(4..=128).contains(&text.len()) {
        return Err(invalid("Value at 'passphrase' failed to satisfy constraint: length between 4 and 128"));
    }
    if !text.is_ascii() || text.contains(['#', '$', '%']) {
        return Err(invalid("The passphrase can contain any ASCII character except #, $, or %."));
    }
    Ok(text)
}

fn invalid(message: &str) -> Refusal {
    Refusal("ValidationException", message.to_owned())
}

impl Kind {
    /// The kind of key that it has here.
    fn key(self) -> &'static str {
        match self {
            Self::InUse | Self::Public => "RSA_2048",
            Self::Private => "EC_prime256v1",
        }
    }

    /// `CertificateType`.
    fn text(self) -> &'static str {
        match self {
            Self::InUse | Self::Public => "AMAZON_ISSUED",
            Self::Private => "PRIVATE",
        }
    }
}

impl Certificate {
    fn describe(&self, arn: &str) -> Value {
        let in_use = match self.kind {
            Kind::InUse => vec![format!("arn:aws:cloudfront::{ACCOUNT}:distribution/LAB")],
            Kind::Public | Kind::Private => Vec::new(),
        };
        // ACM user guide, managed renewal: what is in use, or was exported since it was issued or last renewed.
        let is_eligible = self.kind == Kind::InUse || self.exported;
        let mut description = json!({
            "CertificateArn": arn,
            "DomainName": self.domain(),
            "SubjectAlternativeNames": self.names,
            "Status": self.status,
            "Type": self.kind.text(),
            // As ACM describes it, with a hyphen for the first underscore.
            "KeyAlgorithm": self.key.replacen('_', "-", 1),
            "InUseBy": in_use,
            "RenewalEligibility": if is_eligible { "ELIGIBLE" } else { "INELIGIBLE" },
        });
        // Nothing of it exists before it is issued.
        if self.status != "PENDING_VALIDATION" {
            description["Serial"] = self.serial().into();
            description["NotBefore"] = self.not_before.unix_timestamp().into();
            description["NotAfter"] = self.not_after.unix_timestamp().into();
            description["IssuedAt"] = self.not_before.unix_timestamp().into();
        }
        if let Some(request) = &self.request {
            description["CreatedAt"] = request.at.unix_timestamp().into();
            description["DomainValidationOptions"] = request.validation(&self.names, self.status);
        }
        if self.kind != Kind::Private {
            let export = if self.kind == Kind::Public { "ENABLED" } else { "DISABLED" };
            description["Options"] = json!({"CertificateTransparencyLoggingPreference": "ENABLED", "Export": export});
        }
        if self.renewals > 0 || self.failure.is_some() {
            let status = match self.failure {
                None => "SUCCESS",
                Some("PENDING_DOMAIN_VALIDATION") => "PENDING_VALIDATION",
                Some(_) => "FAILED",
            };
            description["RenewalSummary"] = json!({
                "RenewalStatus": status,
                "UpdatedAt": self.not_before.unix_timestamp(),
                "DomainValidationOptions": [{"DomainName": self.domain(), "ValidationStatus": status}],
            });
        }
        if let Some(reason) = self.failure {
            description["RenewalSummary"]["RenewalStatusReason"] = reason.into();
        }
        description
    }

    fn domain(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// As ACM prints it: pairs of hexadecimal digits with colons.
    fn serial(&self) -> String {
        let made_up = (u128::from(self.number) << 96) | (u128::from(self.renewals) << 8) | 1;
        let octets = self.pair.as_ref().map_or_else(|| made_up.to_be_bytes().to_vec(), |pair| pair.serial.clone());
        let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        pairs.join(":")
    }
}

async fn answer(State(acm): State<Acm>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix("CertificateManager.").unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let answered = match (acm.admit(operation, &headers, &body), operation) {
        (Err(refusal), _) => Err(refusal),
        (Ok(()), "ExportCertificate") => acm.export(&body).await,
        (Ok(()), "RequestCertificate") => acm.request(&body, OffsetDateTime::now_utc()),
        (Ok(()), other) => acm.call(other, &body),
    };
    let (status, answer) = match answered {
        Ok(answer) => (StatusCode::OK, answer),
        Err(Refusal(kind, message)) => (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": message})),
    };
    (status, [("content-type", "application/x-amz-json-1.1")], answer.to_string()).into_response()
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_as_the_reference_says() {
        let said = |text: &str| passphrase(&json!(STANDARD.encode(text))).map_err(|Refusal(kind, _)| kind);
        assert_eq!(said("four"), Ok("four".to_owned()));
        assert_eq!(said(&"x".repeat(128)).map(|text| text.len()), Ok(128));
        let long = "x".repeat(129);
        for bad in ["abc", "", long.as_str(), "with#hash", "with$dollar", "with%percent", "with\u{e4}umlaut"] {
            assert_eq!(said(bad), Err("ValidationException"), "{bad}");
        }
        assert_eq!(passphrase(&Value::Null).map_err(|Refusal(kind, _)| kind), Err("ValidationException"));
        assert_eq!(passphrase(&json!("****")).map_err(|Refusal(kind, _)| kind), Err("SerializationException"));
    }

    #[tokio::test]
    async fn only_what_was_requested_for_export_is_exported_and_then_it_is_renewed() {
        let directory = tempfile::tempdir().unwrap();
        // Nobody listens: there are no rules to read.
        let router = EventRouter::new("http://127.0.0.1:9");
        let acm = Acm::start(router, directory.path().join("acm")).await.unwrap();
        let now = OffsetDateTime::now_utc();
        let ask = |arn: &str| json!({"CertificateArn": arn, "Passphrase": STANDARD.encode("correct horse")});
        let refused = async |arn: &str| acm.export(&ask(arn)).await.map_err(|Refusal(kind, _)| kind).err();
        assert_eq!(refused(&acm.issue("a.example.com", now)).await, Some("ValidationException"));
        assert_eq!(
            refused("arn:aws:acm:eu-west-1:000000000000:certificate/none").await,
            Some("ResourceNotFoundException")
        );
        for kind in [Kind::Public, Kind::Private] {
            let arn = acm.issue_exportable("a.example.com", kind, now).await.unwrap();
            let shown = |acm: &Acm| {
                acm.call("DescribeCertificate", &json!({"CertificateArn": arn})).map(|all| all["Certificate"].clone())
            };
            assert_eq!(shown(&acm).ok().unwrap()["RenewalEligibility"], "INELIGIBLE");
            let answer = acm.export(&ask(&arn)).await.ok().unwrap();
            assert!(answer["PrivateKey"].as_str().unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
            assert_eq!(answer["CertificateChain"].as_str().unwrap().matches("BEGIN").count(), 2);
            assert_eq!(shown(&acm).ok().unwrap()["RenewalEligibility"], "ELIGIBLE");
            let before = acm.serial(&arn);
            assert!(acm.renew_quietly(&arn, now).await && acm.serial(&arn) != before);
            assert_eq!(shown(&acm).ok().unwrap()["RenewalEligibility"], "INELIGIBLE", "until it is exported again");
        }
        assert_eq!(acm.passphrases().len(), 2);
    }
}
