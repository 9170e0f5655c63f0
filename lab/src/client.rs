//! A verifying TLS client, like a careful consumer's: it trusts the given roots and nothing else, checks chain, name and
//! dates, makes a new connection with a full handshake each time, and reports what it was served.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::dns::{self, ResolveError};
use crate::fabric::{lock, pipe};

pub mod load;
pub mod press;

pub use load::{Load, LoadReport};

const RESPONSE_BYTES_MAX: u64 = 64 * 1024;

/// What was served on one connection.
#[derive(Debug, Clone)]
pub struct Served {
    /// The address connected to.
    pub address: SocketAddr,
    /// The leaf's serial number in lower-case hexadecimal without leading zeros.
    pub serial: String,
    /// SHA-256 of the leaf's DER encoding, in lower-case hexadecimal.
    pub fingerprint: String,
    /// When the leaf's validity ends.
    pub not_after: OffsetDateTime,
    /// The HTTP status.
    pub status: u16,
    /// The HTTP body: lab targets answer with their instance id.
    pub body: String,
    /// From the first packet to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the question to DNS to the end of the answer.
    pub total: Duration,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The roots or the name given cannot be used.
    #[error("the client cannot be set up: {0}")]
    Setup(String),
    /// The name does not resolve.
    #[error("{name} does not resolve")]
    Resolve {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: ResolveError,
    },
    /// The name has no address.
    #[error("{0} has no address")]
    NoAddress(String),
    /// Nothing was heard in time: what a client sees of a security group that does not admit it.
    #[error("timed out during {0}")]
    TimedOut(&'static str),
    /// The connection was refused or broke before the handshake.
    #[error("the connection failed")]
    Connect(#[source] std::io::Error),
    /// The handshake failed: an untrusted chain, a wrong name, an expired leaf, or a broken connection.
    #[error("the TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    /// The leaf cannot be read.
    #[error("the served certificate cannot be read: {0}")]
    Certificate(String),
    /// The answer is not HTTP/1.1 or broke off.
    #[error("the HTTP answer is broken: {0}")]
    Http(String),
}

impl ClientError {
    /// A short stable word for counters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Setup(_) => "Setup",
            Self::Resolve { .. } => "Resolve",
            Self::NoAddress(_) => "NoAddress",
            Self::TimedOut(_) => "TimedOut",
            Self::Connect(_) => "Connect",
            Self::Handshake(_) => "Handshake",
            Self::Certificate(_) => "Certificate",
            Self::Http(_) => "Http",
        }
    }
}

/// A client at one place in the network.
#[derive(Debug, Clone)]
pub struct Client {
    source: IpAddr,
    resolver: SocketAddr,
    config: Arc<ClientConfig>,
    limit: Duration,
    leaves: Leaves,
}

impl Client {
    /// Connects from `source`, resolves at `resolver`, trusts the PEM certificates `roots` only and gives up on each
    /// step after `limit`.
    pub fn new(source: IpAddr, resolver: SocketAddr, roots: &str, limit: Duration) -> Result<Self, ClientError> {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            let root = root.map_err(|error| ClientError::Setup(error.to_string()))?;
            store.add(root).map_err(|error| ClientError::Setup(error.to_string()))?;
        }
        if store.is_empty() {
            return Err(ClientError::Setup("no root certificate was given".into()));
        }
        // One group, so that no hello carries a second share that no server here takes.
        let kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| ClientError::Setup(error.to_string()))?;
        let mut config = builder.with_root_certificates(store).with_no_client_auth();
        // Only a full handshake shows the certificate that is served now.
        config.resumption = Resumption::disabled();
        Ok(Self { source, resolver, config: Arc::new(config), limit, leaves: Leaves::default() })
    }

    /// The same client with another limit for each step.
    #[must_use]
    pub fn patient(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The address the client connects from.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Resolves `host`, connects, verifies, and gets `path` once.
    pub async fn get(&self, host: &str, port: u16, path: &str) -> Result<Served, ClientError> {
        let started = Instant::now();
        let address = self.resolve(host).await?;
        let served = self.get_at(SocketAddr::new(address, port), host, path).await?;
        Ok(Served { total: started.elapsed(), ..served })
    }

    /// [`Client::get`] at a known address, still verifying for `host`.
    pub async fn get_at(&self, address: SocketAddr, host: &str, path: &str) -> Result<Served, ClientError> {
        let started = Instant::now();
        let mut stream = self.connect(address, host).await?;
        let handshake = started.elapsed();
        let leaf = self.leaves.first_of(stream.get_ref().1.peer_certificates())?;
        let asking = timeout(self.limit, ask(&mut stream, host, path)).await;
        let (status, body) = asking.map_err(|_| ClientError::TimedOut("answer"))??;
        let Leaf { serial, fingerprint, not_after } = leaf;
        Ok(Served { address, serial, fingerprint, not_after, status, body, handshake, total: started.elapsed() })
    }

    /// Connects like [`Client::get`] and asks for nothing; whether the connection is still open after `stay`.
    pub async fn hold(&self, host: &str, port: u16, stay: Duration) -> Result<bool, ClientError> {
        let address = self.resolve(host).await?;
        let mut stream = self.connect(SocketAddr::new(address, port), host).await?;
        // Whatever comes unasked is the end of the connection.
        Ok(timeout(stay, stream.read(&mut [0; 1])).await.is_err())
    }

    async fn resolve(&self, host: &str) -> Result<IpAddr, ClientError> {
        let mut asked = timeout(self.limit, dns::resolve(self.source, self.resolver, host)).await;
        if asked.is_err() {
            // Datagrams get lost: a stub resolver asks twice (resolv.conf(5), attempts).
            asked = timeout(self.limit, dns::resolve(self.source, self.resolver, host)).await;
        }
        let addresses = asked.map_err(|_| ClientError::TimedOut("resolving"))?;
        let addresses = addresses.map_err(|source| ClientError::Resolve { name: host.to_owned(), source })?;
        addresses.first().map(|address| (*address).into()).ok_or_else(|| ClientError::NoAddress(host.to_owned()))
    }

    async fn connect(&self, address: SocketAddr, host: &str) -> Result<TlsStream<TcpStream>, ClientError> {
        let dialling = timeout(self.limit, pipe::dial(self.source, address)).await;
        let stream = dialling.map_err(|_| ClientError::TimedOut("connecting"))?.map_err(ClientError::Connect)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| ClientError::Setup(error.to_string()))?;
        let shaking = TlsConnector::from(self.config.clone()).connect(name, stream);
        let shaken = timeout(self.limit, shaking).await.map_err(|_| ClientError::TimedOut("handshake"))?;
        shaken.map_err(ClientError::Handshake)
    }
}

#[derive(Debug, Clone)]
struct Leaf {
    serial: String,
    fingerprint: String,
    not_after: OffsetDateTime,
}

/// What leaves say, by their encoding: thousands of connections show the same few. Verified they are each time.
#[derive(Debug, Clone, Default)]
struct Leaves(Arc<Mutex<Vec<(CertificateDer<'static>, Leaf)>>>);

impl Leaves {
    fn first_of(&self, served: Option<&[CertificateDer<'static>]>) -> Result<Leaf, ClientError> {
        let first = served.and_then(<[_]>::first);
        let first = first.ok_or_else(|| ClientError::Certificate("none was served".into()))?;
        let mut known = lock(&self.0);
        if let Some((_, leaf)) = known.iter().find(|(der, _)| der == first) {
            return Ok(leaf.clone());
        }
        let leaf = read(first)?;
        known.push((first.clone(), leaf.clone()));
        Ok(leaf)
    }
}

fn read(der: &CertificateDer<'_>) -> Result<Leaf, ClientError> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|error| ClientError::Certificate(error.to_string()))?;
    let serial = format!("{:x}", certificate.tbs_certificate.serial);
    Ok(Leaf {
        serial,
        fingerprint: hex(&Sha256::digest(der)),
        not_after: certificate.validity().not_after.to_datetime(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn ask(stream: &mut TlsStream<TcpStream>, host: &str, path: &str) -> Result<(u16, String), ClientError> {
    stream.write_all(request(host, path).as_bytes()).await.map_err(|error| broken(&error))?;
    let mut answer = Vec::new();
    let mut rest = stream.take(RESPONSE_BYTES_MAX);
    let end = rest.read_to_end(&mut answer).await;
    whole(end, &answer)
}

fn broken(error: &std::io::Error) -> ClientError {
    ClientError::Http(error.to_string())
}

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

/// Status and body of an answer that was read until `end`.
fn whole(end: std::io::Result<usize>, answer: &[u8]) -> Result<(u16, String), ClientError> {
    match end {
        Ok(_) => {}
        // A server that closes without a TLS goodbye has still answered, when the answer is whole.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        Err(error) => return Err(broken(&error)),
    }
    parse(answer).ok_or_else(|| ClientError::Http(String::from_utf8_lossy(answer).chars().take(80).collect()))
}

/// Status and body of an HTTP/1.1 answer that was read to its end; `None` when it is not whole.
fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return dechunk(body).map(|body| (status, body));
    }
    match header("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => body.get(..length).map(|body| (status, body.to_owned())),
        Some(Err(_)) => None,
        None => Some((status, body.to_owned())),
    }
}

fn dechunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_refused() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ni-1\n";
        assert_eq!(parse(whole), Some((200, "i-1\n".into())));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        let chunked =
            b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n3\r\ni-1\r\n2;x\r\n\r\n\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), Some((404, "i-1\r\n".into())));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ni-"), None);
        assert_eq!(parse(b"SSH-2.0"), None);
    }

    #[test]
    fn a_client_without_roots_is_refused() {
        let resolver = "127.0.0.1:53".parse().unwrap();
        let refused = Client::new([127, 0, 0, 1].into(), resolver, "", Duration::from_secs(1));
        assert_eq!(refused.err().map(|error| error.code()), Some("Setup"));
    }
}
