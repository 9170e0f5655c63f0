//! Certificates and real TLS servers on loopback to probe.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// The name every test asks for.
pub(crate) const NAME: &str = "api.example.com";

/// A root and the intermediate below it that signs leaves.
pub(crate) struct Authority {
    pub(crate) root_pem: String,
    issuing: Issuer<'static, KeyPair>,
    issuing_der: CertificateDer<'static>,
}

/// A leaf, its chain and its key.
pub(crate) struct Pair {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Pair {
    pub(crate) fn fingerprint(&self) -> String {
        Sha256::digest(&self.chain[0]).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut root_params = authority_params();
        root_params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} root"));
        let root_key = KeyPair::generate().unwrap();
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let mut params = authority_params();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} issuing"));
        let key = KeyPair::generate().unwrap();
        let issuing_der = params.signed_by(&key, &root_issuer).unwrap().der().clone();
        Self { root_pem: root.pem(), issuing: Issuer::new(params, key), issuing_der }
    }

    /// A leaf valid from `from` to `until`, relative to now.
    pub(crate) fn leaf(&self, name: &str, from: Duration, until: Duration) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = OffsetDateTime::now_utc() + from;
        params.not_after = OffsetDateTime::now_utc() + until;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuing).unwrap();
        Pair { chain: vec![leaf.der().clone(), self.issuing_der.clone()], key }
    }

    /// A leaf for [`NAME`] that is valid now.
    pub(crate) fn good_leaf(&self) -> Pair {
        self.leaf(NAME, Duration::hours(-1), Duration::hours(1))
    }
}

/// Shows whatever it is told to, key or no key.
#[derive(Debug)]
struct Show(Arc<CertifiedKey>);

impl ResolvesServerCert for Show {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Serves a chain with a key, which need not belong to it; only this protocol version.
pub(crate) async fn serve(
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
    version: &'static rustls::SupportedProtocolVersion,
) -> SocketAddr {
    let shown = Arc::new(Show(certified(chain, key)));
    workers(vec![config(shown, &[version], &[])]).await
}

fn certified(chain: &[CertificateDer<'static>], key: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Arc::new(CertifiedKey::new(chain.to_vec(), any_supported_type(&key).unwrap()))
}

fn config(
    shown: Arc<dyn ResolvesServerCert>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Shows the first pair to those who offer TLS 1.3, and the second to those who offer TLS 1.2 alone.
pub(crate) async fn serve_apart(modern: &Pair, former: &Pair) -> SocketAddr {
    let of = |pair: &Pair, version| config(Arc::new(Show(certified(&pair.chain, &pair.key))), &[version], &[]);
    let (modern, former) = (workers(vec![of(modern, &TLS13)]).await, workers(vec![of(former, &TLS12)]).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut hello = [0; 4096];
                let length = tcp.peek(&mut hello).await.unwrap();
                let to = if offers_tls13(&hello[..length]) { modern } else { former };
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tcp, &mut server).await;
            });
        }
    });
    address
}

/// By the extension `supported_versions`: its number, two lengths, and versions of two bytes each.
fn offers_tls13(hello: &[u8]) -> bool {
    hello.windows(9).any(|part| {
        part[..3] == [0, 43, 0] && part[3] == part[4] + 1 && part[5..].chunks(2).any(|version| version == [3, 4])
    })
}

/// Speaks both versions and these applications' protocols, with a worker for each pair, which take turns.
pub(crate) async fn serve_all(pairs: &[&Pair], alpn: &[&str]) -> SocketAddr {
    let worker = |pair: &&Pair| config(Arc::new(Show(certified(&pair.chain, &pair.key))), &[&TLS12, &TLS13], alpn);
    workers(pairs.iter().map(worker).collect()).await
}

/// Serves the pair over TLS 1.3, on a port of any address or on this one.
pub(crate) async fn serve_at(address: SocketAddr, pair: &Pair) -> SocketAddr {
    workers_at(address, vec![config(Arc::new(Show(certified(&pair.chain, &pair.key))), &[&TLS13], &[])]).await
}

async fn workers(configs: Vec<ServerConfig>) -> SocketAddr {
    workers_at(([127, 0, 0, 1], 0).into(), configs).await
}

async fn workers_at(address: SocketAddr, configs: Vec<ServerConfig>) -> SocketAddr {
    let acceptors: Vec<_> = configs.into_iter().map(|config| TlsAcceptor::from(Arc::new(config))).collect();
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for acceptor in acceptors.iter().cycle() {
            let Ok((tcp, _)) = listener.accept().await else { return };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let _ = tls.shutdown().await;
                }
            });
        }
    });
    address
}

/// Accepts and says `greeting`, then nothing more.
pub(crate) async fn chatter(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            tcp.write_all(greeting).await.unwrap();
            held.push(tcp);
        }
    });
    address
}

/// Nothing listens there.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A DNS server that answers every address query with these addresses, or with NXDOMAIN when there are none.
pub(crate) async fn zone(addresses: &'static [[u8; 4]]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let question = query.queries[0].clone();
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            answer.metadata.authoritative = true;
            answer.add_query(question.clone());
            if addresses.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            } else if question.query_type() == RecordType::A {
                for address in addresses {
                    let data = RData::A(A(Ipv4Addr::from(*address)));
                    answer.add_answer(Record::from_rdata(question.name().clone(), 1, data));
                }
            }
            socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    address
}
