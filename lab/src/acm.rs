//! A stand-in for AWS Certificate Manager, as far as Espalier looks at it: certificates' metadata, their renewal and
//! expiry, and the events ACM sends about them.
//!
//! It holds no certificate bodies: nothing in the product exports one yet, and what it does not have it refuses.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;

use crate::aws::{ACCOUNT, REGION};
use crate::events::{Event, EventRouter};

/// ACM's public certificates live 198 days (ACM user guide, certificate characteristics).
const LIFE: Duration = Duration::days(198);

/// The stand-in.
#[derive(Debug, Clone)]
pub struct Acm {
    certificates: Arc<Mutex<BTreeMap<String, Certificate>>>,
    router: EventRouter,
    address: SocketAddr,
}

#[derive(Debug, Clone)]
struct Certificate {
    number: u32,
    domain: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    renewals: u32,
}

/// A refusal: ACM's error type and its text.
struct Refusal(&'static str, String);

impl Acm {
    /// Serves ACM's API on a loopback port.
    pub async fn start(router: EventRouter) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let acm = Self { certificates: Arc::default(), router, address: listener.local_addr()? };
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
        let Ok(mut certificates) = self.certificates.lock() else { return String::new() };
        let number = u32::try_from(certificates.len()).unwrap_or(u32::MAX).saturating_add(1);
        let arn = format!("arn:aws:acm:{REGION}:{ACCOUNT}:certificate/00000000-0000-4000-8000-{number:012x}");
        let (domain, not_after) = (domain.to_owned(), now + LIFE);
        let certificate = Certificate { number, domain, not_before: now, not_after, renewals: 0 };
        certificates.insert(arn.clone(), certificate);
        arn
    }

    /// Managed renewal: a new certificate under the same ARN, announced by `ACM Certificate Available` (`RENEWAL`).
    pub async fn renew(&self, arn: &str, now: OffsetDateTime) {
        let changed = self.change(arn, |certificate| {
            certificate.renewals += 1;
            certificate.not_before = now;
            certificate.not_after = now + LIFE;
        });
        let Some(certificate) = changed else { return };
        let detail = json!({
            "Action": "RENEWAL",
            "CertificateType": "AMAZON_ISSUED",
            "CommonName": certificate.domain,
            "DomainValidationMethod": "DNS",
            "CertificateCreatedDate": rfc3339(certificate.not_before),
            "CertificateExpirationDate": rfc3339(certificate.not_after),
            "DaysToExpiry": LIFE.whole_days(),
            "InUse": true,
            "Exported": false,
        });
        self.announce("ACM Certificate Available", arn, detail).await;
    }

    /// Time passes until `days` are left; announced by `ACM Certificate Approaching Expiration`.
    pub async fn expire_soon(&self, arn: &str, days: i64, now: OffsetDateTime) {
        let changed = self.change(arn, |certificate| certificate.not_after = now + Duration::days(days));
        if let Some(certificate) = changed {
            let detail = json!({"DaysToExpiry": days, "CommonName": certificate.domain});
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
        self.router.put(Event { source, detail_type: detail_type.to_owned(), resources, detail }).await;
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
            "ListCertificates" => {
                let summary = |(arn, one): (&String, &Certificate)| json!({"CertificateArn": arn, "DomainName": one.domain, "Status": "ISSUED"});
                Ok(json!({"CertificateSummaryList": certificates.iter().map(summary).collect::<Vec<_>>()}))
            }
            // ACM user guide, exporting: only private certificates, and public ones requested with Export=ENABLED.
            "ExportCertificate" => {
                Err(Refusal("ValidationException", "The certificate was not requested with Export ENABLED.".into()))
            }
            other => Err(Refusal("UnknownOperationException", format!("the lab's ACM does not serve {other}"))),
        }
    }
}

impl Certificate {
    fn describe(&self, arn: &str) -> Value {
        let mut description = json!({
            "CertificateArn": arn,
            "DomainName": self.domain,
            "SubjectAlternativeNames": [self.domain],
            "Serial": self.serial(),
            "Status": "ISSUED",
            "Type": "AMAZON_ISSUED",
            "KeyAlgorithm": "EC-prime256v1",
            "NotBefore": self.not_before.unix_timestamp(),
            "NotAfter": self.not_after.unix_timestamp(),
            "IssuedAt": self.not_before.unix_timestamp(),
            "InUseBy": [format!("arn:aws:cloudfront::{ACCOUNT}:distribution/LAB")],
            "RenewalEligibility": "ELIGIBLE",
        });
        if self.renewals > 0 {
            description["RenewalSummary"] = json!({
                "RenewalStatus": "SUCCESS",
                "UpdatedAt": self.not_before.unix_timestamp(),
                "DomainValidationOptions": [{"DomainName": self.domain, "ValidationStatus": "SUCCESS"}],
            });
        }
        description
    }

    /// 16 bytes as ACM prints them: pairs of hexadecimal digits with colons.
    fn serial(&self) -> String {
        let value = (u128::from(self.number) << 96) | (u128::from(self.renewals) << 8) | 1;
        let pairs: Vec<String> = value.to_be_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(":")
    }
}

async fn answer(State(acm): State<Acm>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix("CertificateManager.").unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, answer) = match acm.call(operation, &body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(Refusal(kind, message)) => (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": message})),
    };
    (status, [("content-type", "application/x-amz-json-1.1")], answer.to_string()).into_response()
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
