//! One connection: TCP, then a full TLS handshake that captures what the server presents.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use espalier_domain::id::HostName;
use espalier_domain::verdict::{Fault, Negotiated, Presented};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, InvalidMessage, SignatureScheme, SupportedProtocolVersion};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::Instrument as _;
use tracing::field::Empty;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::Trust;

/// For connecting, and again for the handshake.
const PATIENCE: Duration = Duration::from_secs(2);

/// What clients offer as the application's protocol, in the order in which they prefer it.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The versions that a connection offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Both, as clients do.
    Both,
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl Versions {
    fn offered(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Both => vec![&TLS13, &TLS12],
            Self::Tls12 => vec![&TLS12],
            Self::Tls13 => vec![&TLS13],
        }
    }
}

/// What a completed handshake came to.
pub(crate) struct Shaken {
    pub(crate) presented: Presented,
    pub(crate) tls: Option<Negotiated>,
}

/// One connection, and how long it took.
pub(crate) struct Dialled {
    /// What was presented, or why nothing was.
    pub(crate) shaken: Result<Shaken, Fault>,
    /// TCP; nothing was connected where it is absent.
    pub(crate) connect_ms: Option<f64>,
    /// TLS, after that.
    pub(crate) handshake_ms: f64,
}

/// Connects and shakes hands; what was presented, or why nothing was. Not every server that knows none of the applications'
/// protocols that web clients offer says so (RFC 7301, section 3.2), and it is none of a certificate's business: whoever does not
/// shake hands is dialled once more without any.
pub(crate) async fn dial(
    address: SocketAddr,
    name: &HostName,
    trust: &Trust,
    now: OffsetDateTime,
    versions: Versions,
) -> Dialled {
    let dialled = once(address, name, trust, now, (versions, &ALPN)).await;
    match dialled.shaken {
        Err(Fault::HandshakeFailed) => once(address, name, trust, now, (versions, &[])).await,
        Ok(_) | Err(_) => dialled,
    }
}

async fn once(
    address: SocketAddr,
    name: &HostName,
    trust: &Trust,
    now: OffsetDateTime,
    offer: (Versions, &[&[u8]]),
) -> Dialled {
    let begun = Instant::now();
    let connecting = timeout(PATIENCE, TcpStream::connect(address)).instrument(tracing::trace_span!("connect"));
    let failed = |fault| Dialled { shaken: Err(fault), connect_ms: None, handshake_ms: 0.0 };
    let tcp = match connecting.await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return failed(Fault::Refused),
        // No route, host down: as good as no answer.
        Ok(Err(_)) | Err(_) => return failed(Fault::TimedOut),
    };
    let connect_ms = Some(elapsed_ms(begun));
    let begun = Instant::now();
    let shaken = shake(tcp, name, trust, now, offer).await;
    Dialled { shaken, connect_ms, handshake_ms: elapsed_ms(begun) }
}

fn elapsed_ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}

async fn shake(
    tcp: TcpStream,
    name: &HostName,
    trust: &Trust,
    now: OffsetDateTime,
    offer: (Versions, &[&[u8]]),
) -> Result<Shaken, Fault> {
    let broken = Fault::HandshakeFailed;
    let capture = Arc::new(Capture { provider: Arc::clone(trust.provider()), chain: Mutex::default() });
    let config = config(&capture, offer).map_err(|_| broken)?;
    let server_name = ServerName::try_from(name.as_str().to_owned()).map_err(|_| broken)?;
    let span = tracing::trace_span!("handshake", tls = Empty);
    let shaking = timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(server_name, tcp));
    let tls = match shaking.instrument(span.clone()).await {
        Ok(Ok(tls)) => {
            let session = tls.get_ref().1;
            span.record("tls", session.protocol_version().map(tracing::field::debug));
            negotiated(session)
        }
        Ok(Err(error)) => return Err(missed(&error)),
        Err(_) => return Err(Fault::TimedOut),
    };
    let chain = capture.chain.lock().map(|mut chain| std::mem::take(&mut *chain)).unwrap_or_default();
    let presented = facts(&chain, trust, now).ok_or(broken)?;
    Ok(Shaken { presented, tls })
}

/// Why a handshake failed. What cannot even be a record of TLS (its type, its version or its length is none) was sent by something
/// else.
fn missed(error: &io::Error) -> Fault {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidMessage(
        InvalidMessage::InvalidContentType
        | InvalidMessage::UnknownProtocolVersion
        | InvalidMessage::MessageTooLarge
        | InvalidMessage::InvalidEmptyPayload,
    )) = error
    {
        return Fault::NotTls;
    }
    Fault::HandshakeFailed
}

/// In the registry's names: rustls writes `TLSv1_3` and `TLS13_AES_128_GCM_SHA256`.
fn negotiated(session: &rustls::ClientConnection) -> Option<Negotiated> {
    let protocol = format!("{:?}", session.protocol_version()?).replace('_', ".");
    let suite = format!("{:?}", session.negotiated_cipher_suite()?.suite()).replacen("TLS13_", "TLS_", 1);
    let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    Some(Negotiated { protocol, suite, alpn, versions: Vec::new() })
}

fn config(capture: &Arc<Capture>, (versions, alpn): (Versions, &[&[u8]])) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&capture.provider))
        .with_protocol_versions(&versions.offered())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(capture) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn facts(chain: &[CertificateDer<'_>], trust: &Trust, now: OffsetDateTime) -> Option<Presented> {
    let (leaf, intermediates) = chain.split_first()?;
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let not_before = parsed.validity().not_before.to_datetime();
    let not_after = parsed.validity().not_after.to_datetime();
    let names = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(dns_name).collect(),
        Ok(None) | Err(_) => Vec::new(),
    };
    let serial = hex(parsed.raw_serial());
    Some(Presented {
        names,
        not_before,
        not_after,
        serial: serial.trim_start_matches('0').to_owned(),
        fingerprint: hex(&Sha256::digest(leaf)),
        chain: trust.check(leaf, intermediates, now.clamp(not_before, not_after.max(not_before))),
    })
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes any certificate for the moment, so that every fault can be reported, but no unproven one: the handshake's
/// signature is checked against the key in the leaf.
#[derive(Debug)]
struct Capture {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Capture {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Ok(mut chain) = self.chain.lock() {
            *chain = std::iter::once(end_entity)
                .chain(intermediates)
                .map(|certificate| certificate.clone().into_owned())
                .collect();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
