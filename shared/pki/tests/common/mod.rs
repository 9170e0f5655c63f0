//! An authority and a leaf with fixed serial numbers, made for each test.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_pki::authority::Authority;
use espalier_pki::issue::{self, IssueError, Leaf};
use espalier_pki::key::{PrivateKey, PublicKey};
use espalier_pki::lint::Policy;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-21 12:00:00.5 UTC);

/// Signers held in memory are always ready.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a signer held in memory does not wait"),
    }
}

pub(crate) fn serial(n: u8) -> Serial {
    Serial::from_entropy([n; 16])
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcPrime256v1).unwrap()
}

pub(crate) fn authority(domains: &[&str], now: OffsetDateTime) -> Authority {
    ready(Authority::ceremony(KeyType::EcPrime256v1, domains, now, [serial(1), serial(2)])).unwrap()
}

pub(crate) fn request(names: &[&str]) -> LeafRequest {
    LeafRequest {
        purpose: Purpose::Server,
        dns_names: names.iter().map(|name| HostName::parse(*name).unwrap()).collect(),
        now: NOW,
        validity: Duration::hours(168),
        serial: serial(0xab),
    }
}

/// A policy that allows everything that was asked for.
pub(crate) fn policy(request: &LeafRequest) -> Policy {
    let names: Vec<&str> = request.dns_names.iter().map(HostName::as_str).collect();
    Policy {
        domains: AllowedDomains::parse(&names.join(",")).unwrap(),
        names: request.dns_names.clone(),
        key_types: KeyType::ALL.to_vec(),
        longest: request.validity,
    }
}

pub(crate) fn try_leaf(authority: &Authority, key: &PublicKey, request: &LeafRequest) -> Result<Leaf, IssueError> {
    ready(issue::leaf(authority.signer(), authority.issuing_der(), key, request, &policy(request)))
}

pub(crate) fn leaf(authority: &Authority, key: &PrivateKey, request: &LeafRequest) -> Leaf {
    try_leaf(authority, key.public(), request).unwrap()
}

/// The rules that an issue was refused by.
pub(crate) fn rules(outcome: Result<Leaf, IssueError>) -> Vec<&'static str> {
    match outcome {
        Err(IssueError::Refused(refused)) => refused.0.into_iter().map(|finding| finding.rule).collect(),
        other => panic!("{other:?}"),
    }
}
