//! A DNS server for the lab's names.
//!
//! It answers address queries for the records of Route 53's hosted zones, follows aliases and CNAMEs, and knows VPC
//! Lattice's generated names. A name that exists with no address of the asked family is an empty answer; a missing name
//! is NXDOMAIN, also where a public zone might know it (a private zone has no public fallback: Route 53 Developer
//! Guide, hosted-zone-private-considerations). A private zone answers those who ask from one of its VPCs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::fabric::{Fabric, Party};
use crate::lattice::Lattice;

pub mod zones;

pub use zones::{Zone, Zones, ZonesError, public_cnames};

/// Lattice's own names live for a minute; the lab wants changes seen at once.
const TTL_S: u32 = 1;
const DATAGRAM_BYTES_MAX: usize = 4096;

/// The server could not start.
#[derive(Debug, thiserror::Error)]
#[error("DNS cannot listen on {address}")]
pub struct DnsError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    queries: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Dns {
    /// Answers UDP queries on `address` (port 0 for any) from the zones of `route53` (an endpoint such as
    /// `http://127.0.0.1:5001`) and from `lattice`; `fabric` says in which VPC it is asked.
    pub async fn start(address: SocketAddr, lattice: Lattice, route53: &str, fabric: Fabric) -> Result<Self, DnsError> {
        let failed = |source| DnsError { address, source };
        let socket = Arc::new(UdpSocket::bind(address).await.map_err(failed)?);
        let address = socket.local_addr().map_err(failed)?;
        let queries = Arc::new(AtomicU64::new(0));
        let zones = Arc::new(zones::Source::new(route53));
        let world = Arc::new(Seen { zones, lattice, fabric });
        let task = tokio::spawn(serve(socket, world, queries.clone()));
        Ok(Self { address, queries, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Queries answered so far.
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What answers rest on.
#[derive(Debug)]
struct Seen {
    zones: Arc<zones::Source>,
    lattice: Lattice,
    fabric: Fabric,
}

impl Seen {
    /// The VPC of whoever asks; none for the lab's own processes.
    async fn vpc_of(&self, peer: SocketAddr) -> Option<String> {
        let network = self.fabric.recent_network().await.ok()?;
        match self.fabric.party(&network, peer.ip()) {
            Party::Interface { vpc, .. } => Some(vpc),
            Party::Lattice(_) | Party::Nowhere(_) => None,
        }
    }
}

async fn serve(socket: Arc<UdpSocket>, world: Arc<Seen>, queries: Arc<AtomicU64>) {
    let mut buffer = vec![0_u8; DATAGRAM_BYTES_MAX];
    loop {
        // An error here is an earlier answer that nobody was waiting for any more.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let query = buffer[..length].to_vec();
        let (socket, world, queries) = (socket.clone(), world.clone(), queries.clone());
        tokio::spawn(async move {
            if let Some(answer) = answer(&query, peer, &world).await {
                queries.fetch_add(1, Ordering::Relaxed);
                // The client asks again when an answer gets lost.
                drop(socket.send_to(&answer, peer).await);
            }
        });
    }
}

/// The answer to one datagram; none for what is no query.
async fn answer(query: &[u8], peer: SocketAddr, world: &Seen) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    if query.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = true;
    let question = query.queries.first().cloned()?;
    answer.add_query(question.clone());
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let vpc = world.vpc_of(peer).await;
    let found = match world.zones.zones().await {
        Ok(zones) => zones.look_up(&name, vpc.as_deref(), &|name| world.lattice.resolve(name)),
        // Route 53 cannot be read: the resolver's own failure, which clients try again.
        Err(_) => {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer.to_vec().ok();
        }
    };
    match found {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) if question.query_type() == RecordType::A => {
            for address in addresses {
                answer.add_answer(Record::from_rdata(question.name().clone(), TTL_S, RData::A(A(address))));
            }
        }
        // The name exists, with no record of the type asked for.
        Some(_) => {}
    }
    answer.to_vec().ok()
}

/// Asks `resolver` for the addresses of `name` from source address `from`. Used by the lab's clients.
pub async fn resolve(from: std::net::IpAddr, resolver: SocketAddr, name: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
    let named = hickory_proto::rr::Name::from_ascii(format!("{}.", name.trim_end_matches('.')));
    let named = named.map_err(|error| ResolveError::Name(error.to_string()))?;
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(hickory_proto::op::Query::query(named, RecordType::A));
    let bytes = query.to_vec().map_err(|error| ResolveError::Name(error.to_string()))?;
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0_u8; DATAGRAM_BYTES_MAX];
    let length = socket.recv(&mut buffer).await?;
    let answer = Message::from_vec(&buffer[..length]).map_err(|error| ResolveError::Answer(error.to_string()))?;
    if answer.metadata.id != query.metadata.id {
        return Err(ResolveError::Answer("it answers another query".into()));
    }
    if answer.metadata.response_code != ResponseCode::NoError {
        return Err(ResolveError::Refused(answer.metadata.response_code.to_string()));
    }
    Ok(answer.answers.iter().filter_map(|record| address(&record.data)).collect())
}

fn address(data: &RData) -> Option<Ipv4Addr> {
    if let RData::A(A(address)) = data { Some(*address) } else { None }
}

/// A name could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The name is no DNS name.
    #[error("not a DNS name: {0}")]
    Name(String),
    /// No answer, or no way to ask.
    #[error("the resolver did not answer")]
    Socket(#[from] std::io::Error),
    /// The answer cannot be read.
    #[error("the resolver's answer cannot be read: {0}")]
    Answer(String),
    /// The resolver says no, for example NXDOMAIN.
    #[error("the resolver answers {0}")]
    Refused(String),
}
