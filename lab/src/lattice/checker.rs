//! Health checks: HTTP or HTTPS requests to targets, from VPC Lattice's address and through the targets' interfaces.
//!
//! An HTTPS check does not look at the certificate (UG target-group-health-checks): a target with an expired leaf is
//! HEALTHY. That is why Espalier has a prober.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::Lattice;
use super::data_plane::SOURCE;
use super::health::{HealthCheck, matches};
use crate::fabric::pipe;

/// One check that is due.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) group: String,
    pub(super) target: (String, u16),
    pub(super) to: SocketAddr,
    pub(super) check: HealthCheck,
}

/// Remembers when each target was last checked.
#[derive(Debug, Default)]
pub(super) struct Checker(BTreeMap<(String, String, u16), Instant>);

impl Checker {
    /// Starts the checks whose interval has passed. Their results arrive at [`Lattice::record_check`].
    pub(super) fn tick(&mut self, lattice: &Lattice, all: Vec<Due>) {
        let second = lattice.options().second;
        let now = Instant::now();
        let key = |due: &Due| (due.group.clone(), due.target.0.clone(), due.target.1);
        self.0.retain(|known, _| all.iter().any(|due| key(due) == *known));
        for due in all {
            let interval = second * due.check.health_check_interval_seconds.unwrap_or(30);
            let last = self.0.entry(key(&due)).or_insert_with(|| now - interval);
            if now.duration_since(*last) < interval {
                continue;
            }
            *last = now;
            let lattice = lattice.clone();
            let limit = second * due.check.health_check_timeout_seconds.unwrap_or(5);
            tokio::spawn(async move {
                let status = timeout(limit.max(Duration::from_millis(200)), check(&due)).await.ok().flatten();
                let codes = due.check.matcher.as_ref().map_or("200", |matcher| matcher.http_code.as_str());
                let passed = status.is_some_and(|status| matches(codes, status));
                lattice.record_check(&due, passed);
            });
        }
    }
}

/// The HTTP status a target answers with; `None` when it does not answer properly.
async fn check(due: &Due) -> Option<u16> {
    let stream = pipe::dial(SOURCE.into(), due.to).await.ok()?;
    if due.check.protocol.as_deref() == Some("HTTPS") {
        let name = ServerName::IpAddress(due.to.ip().into());
        let stream = TlsConnector::from(unverifying()?).connect(name, stream).await.ok()?;
        ask(stream, due).await
    } else {
        ask(stream, due).await
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, due: &Due) -> Option<u16> {
    let path = due.check.path.as_deref().unwrap_or("/");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", due.to);
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await.ok()?;
    // "HTTP/1.1 200"
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

fn unverifying() -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// Accepts every certificate, as VPC Lattice's health checks do.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
