//! The only crate that opens a socket to a target: resolve, connect, handshake, and hand the facts to the judge.
//!
//! It proves what clients would see, by several new connections to each target: full handshakes, no resumption, the
//! handshake's signature verified (a server that shows a certificate must hold its key). It never decides what a sighting means; that is
//! [`espalier_domain::verdict::judge`]'s.

mod dial;
mod resolve;
mod trust;

use std::net::{IpAddr, SocketAddr};

use espalier_domain::failure::{Failure, Word};
use espalier_domain::id::HostName;
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::verdict::{Expected, Fault, Leaf, Verdict, judge, worst};
use espalier_domain::work::{
    Endpoint, OthersItem, SeenTarget, SeenThrough, Through, VerifyItem, VerifyTarget, WorkResult,
};
use futures::StreamExt as _;
use time::OffsetDateTime;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use dial::{Dialled, Shaken, Versions};
pub use resolve::Resolver;
pub use trust::Trust;

/// Targets that are dialled at once. Dead hosts cost a timeout each, so they are dialled side by side.
const AT_ONCE: usize = 32;

/// New connections to each target that answers the first one, which is among them. A server has several workers, and one that was
/// not reloaded serves the former certificate still; which of them answers is not ours to choose. One of two is overlooked by four
/// connections once in sixteen times (one of four: once in three), and the next look dials again; more of them would cost a
/// function that has a fraction of a processor more than they tell. Each version alone is among them, too.
pub const CONNECTIONS: usize = 4;

/// What those after the first offer.
const AGAIN: [Versions; CONNECTIONS - 1] = [Versions::Tls12, Versions::Tls13, Versions::Both];

/// Why nothing could be probed at all. What is wrong with a target is a [`Fault`], not an error.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The trust bundle holds no certificate that can be trusted.
    #[error("field `trust`: {problem}; give the roots as concatenated PEM certificates")]
    Trust {
        /// What is wrong with it.
        problem: String,
    },
    /// The platform's own store holds no authority that could be trusted.
    #[error("the platform's store of public authorities holds none that can be used: {0}")]
    Platform(String),
    /// The TLS configuration was refused.
    #[error("configuring TLS")]
    Tls(#[source] rustls::Error),
}

impl Failure for ProbeError {
    fn word(&self) -> Word {
        match self {
            Self::Trust { .. } => Word::Invalid,
            Self::Platform(_) | Self::Tls(_) => Word::Broken,
        }
    }
}

/// Dials everything an item asks for. Roots that the spec gives and nobody can use are a block: trying again would not help.
///
/// # Errors
/// When the item's trust bundle cannot be used.
pub async fn probe(item: &VerifyItem, now: impl Fn() -> OffsetDateTime + Sync) -> Result<WorkResult, ProbeError> {
    let trust = match &item.others {
        None => Trust::from_pem(&item.trust)?,
        Some(OthersItem { public: true, .. }) => Trust::public_and(&item.trust)?,
        Some(OthersItem { public: false, .. }) => match Trust::from_pem(&item.trust) {
            Err(ProbeError::Trust { problem }) => return Ok(WorkResult::Blocked { block: unusable(&problem) }),
            read => read?,
        },
    };
    let (resolver, others) = (Resolver::new(item.resolver), item.others.as_ref());
    let prober = Prober { trust: &trust, server_name: &item.server_name, others, resolver, now: &now };
    // Collected first: a stream over closures that borrow would not be `Send`.
    let dials: Vec<_> = item.targets.iter().map(|target| prober.target(target)).collect();
    let sightings = futures::stream::iter(dials).buffered(AT_ONCE).collect().await;
    let through = match &item.through {
        Some(through) => prober.through(through).await,
        None => Vec::new(),
    };
    Ok(WorkResult::Seen { stack: item.stack.clone(), sightings, through })
}

fn unusable(problem: &str) -> Block {
    let because =
        format!("certificate.issuer.trust holds something that is no root ({problem}): give each root as PEM");
    Block { code: BlockCode::SpecInvalid, because }
}

struct Prober<'a, N> {
    trust: &'a Trust,
    server_name: &'a HostName,
    /// Others install, and this is what counts in place of fingerprints.
    others: Option<&'a OthersItem>,
    resolver: Resolver,
    now: &'a N,
}

/// What the connections to one target came to.
struct Looked {
    verdict: Verdict,
    connect_ms: Option<f64>,
    handshake_ms: f64,
}

impl<N: Fn() -> OffsetDateTime + Sync> Prober<'_, N> {
    async fn target(&self, target: &VerifyTarget) -> SeenTarget {
        let span = tracing::trace_span!(
            "dial",
            target = target.target.as_str(),
            generation = i64::from(target.generation.0),
            address = %target.address,
            faults = Empty,
            otel.status_code = Empty,
        );
        let seen = self.seen(target).instrument(span.clone()).await;
        note(&span, &seen.verdict);
        seen
    }

    async fn seen(&self, target: &VerifyTarget) -> SeenTarget {
        let leaf = match self.others {
            None => Leaf::OneOf(std::slice::from_ref(&target.fingerprint)),
            Some(others) => others.serial.as_deref().map_or(Leaf::Any, Leaf::Serial),
        };
        let Looked { verdict, connect_ms, handshake_ms } = match &target.address {
            Endpoint::Address(address) => self.look(*address, leaf).await,
            Endpoint::Host { name, port } => self.look_everywhere(name, *port, leaf).await,
        };
        let (target, generation, port) = (target.target.clone(), target.generation, Some(target.address.port()));
        SeenTarget { target, generation, at: (self.now)(), port, verdict, connect_ms, handshake_ms }
    }

    /// Every address of a name, side by side: clients come to any of them, so that the worst counts. The times are the first one's.
    async fn look_everywhere(&self, name: &HostName, port: u16, leaf: Leaf<'_>) -> Looked {
        let addresses = match self.addresses(name).await {
            Ok(addresses) => addresses,
            Err(fault) => return self.looked(unseen(fault), leaf),
        };
        let looks = addresses.into_iter().map(|ip| self.look_at_one(SocketAddr::new(ip, port), leaf));
        let mut looks = futures::future::join_all(looks).await.into_iter();
        let first = looks.next().unwrap_or_else(|| self.looked(unseen(Fault::Unresolved), leaf));
        Looked { verdict: worst(first.verdict, looks.map(|look| look.verdict)), ..first }
    }

    /// One address of many, which the trace tells apart.
    async fn look_at_one(&self, address: SocketAddr, leaf: Leaf<'_>) -> Looked {
        let span = tracing::trace_span!("address", %address, faults = Empty, otel.status_code = Empty);
        let looked = match misled(address.ip()) {
            Some(fault) => self.looked(unseen(fault), leaf),
            None => self.look(address, leaf).instrument(span.clone()).await,
        };
        note(&span, &looked.verdict);
        looked
    }

    async fn look(&self, address: SocketAddr, leaf: Leaf<'_>) -> Looked {
        // The one whose times are told: those that follow are made side by side, and slow each other down.
        let dialled = self.dial(address, Versions::Both).await;
        let has_answered = dialled.shaken.is_ok();
        let first = self.looked(dialled, leaf);
        if !has_answered {
            return first;
        }
        Looked { verdict: self.again(address, leaf, first.verdict).await, ..first }
    }

    /// The connections after the first, to a target that has answered that one: what they see counts, and that one of them sees
    /// nothing does not. A server may speak one version only, want a client's certificate sooner in one than in the other, or
    /// keep how many connections it takes from one address; clients reach it, as the first has shown.
    async fn again(&self, address: SocketAddr, leaf: Leaf<'_>, first: Verdict) -> Verdict {
        let dials: Vec<_> = AGAIN.into_iter().map(|versions| self.dial(address, versions)).collect();
        let dialled = futures::future::join_all(dials).await.into_iter();
        let seen = dialled.filter_map(|dialled| dialled.shaken.ok());
        worst(first, seen.map(|shaken| self.judge(Ok(shaken), leaf)))
    }

    async fn dial(&self, address: SocketAddr, versions: Versions) -> Dialled {
        dial::dial(address, self.server_name, self.trust, (self.now)(), versions).await
    }

    async fn through(&self, through: &Through) -> Vec<SeenThrough> {
        let dials: Vec<_> = (0..through.samples).map(|_| self.sample(through)).collect();
        futures::stream::iter(dials).buffered(AT_ONCE).collect().await
    }

    /// One client's way: ask for the name, dial what comes back.
    async fn sample(&self, through: &Through) -> SeenThrough {
        let span = tracing::trace_span!("sample", address = Empty, faults = Empty, otel.status_code = Empty);
        let sample = self.sampled(through).instrument(span.clone()).await;
        span.record("address", sample.address.map(tracing::field::display));
        note(&span, &sample.verdict);
        sample
    }

    async fn sampled(&self, through: &Through) -> SeenThrough {
        let found = self.addresses(self.server_name).await;
        let (address, dialled) = match found.and_then(|all| all.first().copied().ok_or(Fault::Unresolved)) {
            Err(fault) => (None, unseen(fault)),
            Ok(ip) => match misled(ip) {
                Some(fault) => (Some(ip), unseen(fault)),
                None => (Some(ip), self.dial(SocketAddr::new(ip, through.port), Versions::Both).await),
            },
        };
        // Clients accept a former certificate, too, of a fleet that is half-way through a renewal.
        let is_any = self.others.is_some() || through.fingerprints.is_empty();
        let leaf = if is_any { Leaf::Any } else { Leaf::OneOf(&through.fingerprints) };
        let Looked { verdict, connect_ms, handshake_ms } = self.looked(dialled, leaf);
        SeenThrough { address, at: (self.now)(), verdict, connect_ms, handshake_ms }
    }

    async fn addresses(&self, name: &HostName) -> Result<Vec<IpAddr>, Fault> {
        self.resolver.addresses(name).instrument(tracing::trace_span!("resolve")).await
    }

    fn looked(&self, dialled: Dialled, leaf: Leaf<'_>) -> Looked {
        let Dialled { shaken, connect_ms, handshake_ms } = dialled;
        Looked { verdict: self.judge(shaken, leaf), connect_ms, handshake_ms }
    }

    fn judge(&self, shaken: Result<Shaken, Fault>, leaf: Leaf<'_>) -> Verdict {
        let expected = Expected { server_name: self.server_name, leaf };
        match shaken {
            Ok(Shaken { presented, tls }) => Verdict { tls, ..judge(&presented, &expected, (self.now)()) },
            Err(fault) => Verdict::unseen(fault),
        }
    }
}

/// What is wrong with an address that a name leads to, before it is dialled.
fn misled(ip: IpAddr) -> Option<Fault> {
    (ip.is_unspecified() || ip.is_multicast()).then_some(Fault::WrongAddress)
}

/// What was not dialled.
fn unseen(fault: Fault) -> Dialled {
    Dialled { shaken: Err(fault), connect_ms: None, handshake_ms: 0.0 }
}

/// Tells the trace what is wrong with what was seen. A former certificate is news in a rotation, and no failure.
fn note(span: &Span, verdict: &Verdict) {
    if !verdict.faults.is_empty() {
        span.record("faults", tracing::field::debug(&verdict.faults));
    }
    if verdict.faults.iter().any(|fault| fault.fails_clients()) {
        span.record("otel.status_code", "ERROR");
    }
}
