//! Bundles as `mint` makes them, by the project's own PKI crate, and broken ones made of their parts.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use espalier_domain::id::HostName;
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue;
use espalier_pki::key::PrivateKey;
use espalier_pki::profile::{LeafRequest, Serial};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

/// A bundle's text and what is announced about its leaf.
pub(crate) struct Bundle {
    /// Key, leaf, issuer: PEM.
    pub(crate) text: String,
    /// SHA-256 of the leaf.
    pub(crate) fingerprint: String,
    /// The leaf's serial number.
    pub(crate) serial: String,
}

impl Bundle {
    /// The three PEM blocks.
    pub(crate) fn parts(&self) -> [String; 3] {
        let parts: Vec<String> = self
            .text
            .split_inclusive("-----END ")
            .collect::<String>()
            .split("-----BEGIN ")
            .skip(1)
            .map(|part| format!("-----BEGIN {part}"))
            .collect();
        parts.try_into().unwrap()
    }
}

/// Lower-case hexadecimal SHA-256.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A CA for example.com, as old as its oldest test certificate.
pub(crate) fn authority() -> Authority {
    let serials = [Serial::random().unwrap(), Serial::random().unwrap()];
    let begin = OffsetDateTime::now_utc() - Duration::hours(400);
    ready(Authority::ceremony(&["example.com"], begin, serials)).unwrap()
}

/// A bundle minted `age` ago, living 168 hours.
pub(crate) fn minted(authority: &Authority, age: Duration) -> Bundle {
    let request = LeafRequest {
        dns_names: vec![HostName::parse("api-service.example.com").unwrap()],
        now: OffsetDateTime::now_utc() - age,
        validity: Duration::hours(168),
        serial: Serial::random().unwrap(),
    };
    let key = PrivateKey::generate().unwrap();
    let leaf = ready(issue::leaf(authority.signer(), authority.issuing_der(), &key.public(), &request)).unwrap();
    let text = bundle::assemble(&key, &leaf).unwrap();
    Bundle { text: text.expose().to_owned(), fingerprint: fingerprint(leaf.der()), serial: leaf.facts().serial.clone() }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a signer held in memory does not wait"),
    }
}
