//! The only crate that opens a socket to a target: resolve, connect, handshake, and hand the facts to the judge.
//!
//! It proves what clients would see, by several new connections to each target: full handshakes, no resumption, the
//! handshake's signature verified (a server that shows a certificate must hold its key). It never decides what a sighting means; that is
//! [`espalier_domain::verdict::judge`]'s.

mod dial;
mod resolve;
mod trust;

use std::net::SocketAddr;

use espalier_domain::failure::{Failure, Word};
use espalier_domain::id::HostName;
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::verdict::{Expected, Fault, Leaf, Verdict, judge, worst};
use espalier_domain::work::{OthersItem, SeenTarget, SeenThrough, Through, VerifyItem, VerifyTarget, WorkResult};
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
    let prober = Prober { trust: &trust, server_name: &item.server_name, others: item.others.as_ref(), now: &now };
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
    now: &'a N,
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
        // The one whose times are told: those that follow are made side by side, and slow each other down.
        let Dialled { shaken, connect_ms, handshake_ms } = self.dial(target.address, Versions::Both).await;
        let has_answered = shaken.is_ok();
        let first = self.judge(shaken, leaf);
        let verdict = if has_answered { self.again(target, leaf, first).await } else { first };
        let (target, generation, port) = (target.target.clone(), target.generation, Some(target.address.port()));
        SeenTarget { target, generation, at: (self.now)(), port, verdict, connect_ms, handshake_ms }
    }

    /// The connections after the first, to a target that has answered that one: what they see counts, and that one of them sees
    /// nothing does not. A server may speak one version only, want a client's certificate sooner in one than in the other, or
    /// keep how many connections it takes from one address; clients reach it, as the first has shown.
    async fn again(&self, target: &VerifyTarget, leaf: Leaf<'_>, first: Verdict) -> Verdict {
        let dials: Vec<_> = AGAIN.into_iter().map(|versions| self.dial(target.address, versions)).collect();
        let dialled = futures::future::join_all(dials).await.into_iter();
        let seen = dialled.filter_map(|dialled| dialled.shaken.ok());
        worst(first, seen.map(|shaken| self.judge(Ok(shaken), leaf)))
    }

    async fn dial(&self, address: SocketAddr, versions: Versions) -> Dialled {
        dial::dial(address, self.server_name, self.trust, (self.now)(), versions).await
    }

    async fn through(&self, through: &Through) -> Vec<SeenThrough> {
        let resolver = Resolver::new(through.resolver);
        let dials: Vec<_> = (0..through.samples).map(|_| self.sample(&resolver, through)).collect();
        futures::stream::iter(dials).buffered(AT_ONCE).collect().await
    }

    /// One client's way: ask for the name, dial what comes back.
    async fn sample(&self, resolver: &Resolver, through: &Through) -> SeenThrough {
        let span = tracing::trace_span!("sample", address = Empty, faults = Empty, otel.status_code = Empty);
        let sample = self.sampled(resolver, through).instrument(span.clone()).await;
        span.record("address", sample.address.map(tracing::field::display));
        note(&span, &sample.verdict);
        sample
    }

    async fn sampled(&self, resolver: &Resolver, through: &Through) -> SeenThrough {
        let looked_up = resolver.lookup(self.server_name).instrument(tracing::trace_span!("resolve")).await;
        let unseen = |fault| Dialled { shaken: Err(fault), connect_ms: None, handshake_ms: 0.0 };
        let (address, dialled) = match looked_up {
            Err(fault) => (None, unseen(fault)),
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => (Some(ip), unseen(Fault::WrongAddress)),
            Ok(ip) => (Some(ip), self.dial(SocketAddr::new(ip, through.port), Versions::Both).await),
        };
        let Dialled { shaken, connect_ms, handshake_ms } = dialled;
        // Clients accept a former certificate, too, of a fleet that is half-way through a renewal.
        let is_any = self.others.is_some() || through.fingerprints.is_empty();
        let leaf = if is_any { Leaf::Any } else { Leaf::OneOf(&through.fingerprints) };
        let verdict = self.judge(shaken, leaf);
        SeenThrough { address, at: (self.now)(), verdict, connect_ms, handshake_ms }
    }

    fn judge(&self, shaken: Result<Shaken, Fault>, leaf: Leaf<'_>) -> Verdict {
        let expected = Expected { server_name: self.server_name, leaf };
        match shaken {
            Ok(Shaken { presented, tls }) => Verdict { tls, ..judge(&presented, &expected, (self.now)()) },
            Err(fault) => Verdict::unseen(fault),
        }
    }
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
