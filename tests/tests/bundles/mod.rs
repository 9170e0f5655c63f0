//! Bundles as `mint` makes them, by the project's own PKI crate, and broken ones made of their parts.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue::{self, Leaf};
use espalier_pki::key::{PrivateKey, PublicKey};
use espalier_pki::lint::Policy;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
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
    ready(Authority::ceremony(KeyType::EcPrime256v1, &["example.com"], begin, serials)).unwrap()
}

/// A bundle minted `age` ago, living 168 hours.
pub(crate) fn minted(authority: &Authority, age: Duration) -> Bundle {
    minted_with(authority, KeyType::EcPrime256v1, age)
}

/// The same with a key of this kind.
pub(crate) fn minted_with(authority: &Authority, key_type: KeyType, age: Duration) -> Bundle {
    let key = PrivateKey::generate(key_type).unwrap();
    let leaf = certified(authority, key.public(), age);
    let text = bundle::assemble(&key, &leaf).unwrap();
    Bundle { text: text.expose().to_owned(), fingerprint: fingerprint(leaf.der()), serial: leaf.facts().serial.clone() }
}

/// A leaf for this key.
pub(crate) fn certified(authority: &Authority, key: &PublicKey, age: Duration) -> Leaf {
    let request = LeafRequest {
        purpose: Purpose::Server,
        dns_names: vec![HostName::parse("api-service.example.com").unwrap()],
        now: OffsetDateTime::now_utc() - age,
        validity: Duration::hours(168),
        serial: Serial::random().unwrap(),
    };
    let policy = Policy {
        domains: AllowedDomains::parse("example.com").unwrap(),
        names: request.dns_names.clone(),
        key_types: vec![key.key_type()],
        longest: request.validity,
    };
    ready(issue::leaf(authority.signer(), authority.issuing_der(), key, &request, &policy)).unwrap()
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a signer held in memory does not wait"),
    }
}
