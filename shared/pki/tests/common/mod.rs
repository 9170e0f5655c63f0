//! An authority and a leaf with fixed serial numbers, made for each test.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use espalier_domain::id::HostName;
use espalier_pki::authority::Authority;
use espalier_pki::issue::{self, Leaf};
use espalier_pki::key::PrivateKey;
use espalier_pki::profile::{LeafRequest, Serial};
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

pub(crate) fn authority(domains: &[&str], now: OffsetDateTime) -> Authority {
    ready(Authority::ceremony(domains, now, [serial(1), serial(2)])).unwrap()
}

pub(crate) fn request(names: &[&str]) -> LeafRequest {
    LeafRequest {
        dns_names: names.iter().map(|name| HostName::parse(*name).unwrap()).collect(),
        now: NOW,
        validity: Duration::hours(168),
        serial: serial(0xab),
    }
}

pub(crate) fn leaf(authority: &Authority, key: &PrivateKey, request: &LeafRequest) -> Leaf {
    ready(issue::leaf(authority.signer(), authority.issuing_der(), &key.public(), request)).unwrap()
}
