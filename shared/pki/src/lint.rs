//! Lint before signing: a certificate that is to be signed is judged as the bytes it will be, and only what passes
//! becomes a [`Linted`], which is all that a [`crate::issue::Signer`] takes.
//!
//! The rules do not look at how the bytes came to be: they have their own list of what each certificate must and must
//! not contain, and what is not on it is refused. So a mistake in a profile, in the builder or in a request is found
//! while it is still a few bytes in memory. What other judges say to the same certificates is in `docs/certificates.md`.
//!
//! Without the token nothing is signed. This compiles:
//!
//! ```
//! use espalier_pki::{issue::{SignError, Signer}, lint::Linted};
//! async fn sign(signer: &impl Signer, linted: &Linted) -> Result<Vec<u8>, SignError> {
//!     signer.sign(linted).await
//! }
//! ```
//!
//! The same without a lint does not:
//!
//! ```compile_fail,E0308
//! use espalier_pki::{issue::{SignError, Signer}, lint::Linted};
//! async fn sign(signer: &impl Signer, linted: &[u8]) -> Result<Vec<u8>, SignError> {
//!     signer.sign(linted).await
//! }
//! ```
//!
//! And nobody else makes the token:
//!
//! ```compile_fail,E0451
//! let linted = espalier_pki::lint::Linted { message: vec![0x30, 0x00] };
//! ```

mod rules;

use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use sha2::{Digest as _, Sha256, Sha384};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::TbsCertificate;
use x509_parser::prelude::FromDer as _;

use crate::inspect::{self, Facts};
use crate::key::PublicKey;
use crate::profile::{LeafRequest, Serial};

/// A certificate that passed and may be signed: the bytes to sign, and what stands in them.
#[derive(Debug)]
pub struct Linted {
    message: Vec<u8>,
    facts: Facts,
}

impl Linted {
    /// The bytes to sign.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Their digest, as a signer elsewhere wants it that holds this key; nothing for a key that signs no certificates.
    pub fn digest(&self, signer: &PublicKey) -> Option<Digest> {
        let (algorithm, octets) = match signer.key_type() {
            KeyType::EcPrime256v1 => (DigestAlgorithm::Sha256, Sha256::digest(&self.message).to_vec()),
            KeyType::EcSecp384r1 => (DigestAlgorithm::Sha384, Sha384::digest(&self.message).to_vec()),
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 | KeyType::Ed25519 => return None,
        };
        Some(Digest { algorithm, octets })
    }

    /// What stands in them; there is no fingerprint yet.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// The digest of something that passed. There is no other way to one, so what signs digests signs nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    algorithm: DigestAlgorithm,
    octets: Vec<u8>,
}

impl Digest {
    /// With which function it was made.
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The digest itself.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// With which function a digest is made, which the signing key decides (RFC 5758 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// For a key on P-256.
    Sha256,
    /// For a key on P-384.
    Sha384,
}

/// What a stack may have, whoever asks: nothing that is not listed here.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What the control plane certifies at all.
    pub domains: AllowedDomains,
    /// The stack's names.
    pub names: Vec<HostName>,
    /// The kinds of keys.
    pub key_types: Vec<KeyType>,
    /// The longest life.
    pub longest: Duration,
}

/// What was ordered.
#[derive(Debug)]
pub enum Order<'a> {
    /// A root, signed by itself.
    Root,
    /// The certificate that signs leaves for these domains, below this root.
    Issuing {
        /// The domains.
        domains: &'a [&'a str],
        /// The root.
        above: &'a Facts,
    },
    /// A leaf.
    Leaf {
        /// As asked for.
        request: &'a LeafRequest,
        /// What its stack may have.
        policy: &'a Policy,
        /// The certificate above it.
        above: &'a Facts,
    },
}

/// For whom and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// Whose key is certified.
    pub subject: &'a PublicKey,
    /// Whose key signs.
    pub signer: &'a PublicKey,
    /// The serial number it was given.
    pub serial: Serial,
    /// The moment.
    pub now: OffsetDateTime,
}

/// One rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

/// Why a certificate is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is refused before signing: {}", list(.0))]
pub struct Refused(pub Vec<Finding>);

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|one| format!("{} ({})", one.rule, one.source)).collect::<Vec<_>>().join("; ")
}

/// Judges the certificate that is to be signed, all rules at once.
pub fn lint(message: Vec<u8>, order: &Order<'_>, parties: &Parties<'_>) -> Result<Linted, Refused> {
    let unreadable = || Refused(vec![Finding { rule: "it cannot be read", source: "RFC 5280 section 4.1" }]);
    let facts = {
        let (rest, certificate) = TbsCertificate::from_der(&message).map_err(|_| unreadable())?;
        if !rest.is_empty() {
            return Err(unreadable());
        }
        let facts = inspect::of(&certificate, &[]).map_err(|_| unreadable())?;
        let findings = rules::broken(&certificate, &facts, order, parties);
        if !findings.is_empty() {
            return Err(Refused(findings));
        }
        facts
    };
    Ok(Linted { message, facts })
}
