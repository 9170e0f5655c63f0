//! What comes out of ACM: a certificate, the chain above it and its key under a passphrase; opened and checked in memory.
//!
//! The passphrase is made here for one export and wiped with it. What does not fit together, is not for the names that
//! are wanted, or is not valid now is never stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use espalier_domain::id::HostName;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::verdict::covers;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::bundle::{self, BundleError};
use crate::inspect::{self, BadCertificate, Facts};
use crate::key::{KeyError, PrivateKey, SecretText, hex};
use crate::pem::{self, BadPem};
use crate::sealed::{self, BadSealed};

/// The most certificates that are taken for a chain.
const CHAIN: usize = 8;

/// The label of an encrypted key (RFC 7468, section 11).
const ENCRYPTED_KEY: &str = "ENCRYPTED PRIVATE KEY";

/// A passphrase for one export: 43 characters that ACM takes (4 to 128 of ASCII, none of `#$%`; API reference,
/// `ExportCertificate`), 256 bits that nobody has seen.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// A new one.
    pub fn random() -> Result<Self, ExportError> {
        let mut octets = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(octets.as_mut()).map_err(|_| ExportError::Entropy)?;
        Ok(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(octets.as_ref()))))
    }

    /// A given one.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The passphrase itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What ACM answers to an export.
pub struct Sealed {
    /// The certificate, PEM.
    pub certificate: String,
    /// The certificates above it, its issuer first, PEM.
    pub chain: String,
    /// Its key, encrypted, PEM.
    pub key: SecretText,
}

/// What the export has to be good for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The names that clients ask for.
    pub names: &'a [HostName],
    /// The only domains that may be in it at all.
    pub allowed: &'a AllowedDomains,
    /// Now.
    pub now: OffsetDateTime,
}

/// Why an export is not used. Never quotes key material.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The random number generator failed.
    #[error("the random number generator failed")]
    Entropy,
    /// A part is not the PEM it should be.
    #[error("its {0} is not PEM as expected")]
    Pem(&'static str, #[source] BadPem),
    /// The key was not decrypted.
    #[error("its key cannot be decrypted")]
    Sealed(#[from] BadSealed),
    /// The key is none that is served.
    #[error("its key cannot be used")]
    Key(#[from] KeyError),
    /// A certificate cannot be read.
    #[error("a certificate cannot be read")]
    Certificate(#[from] BadCertificate),
    /// The key is another certificate's.
    #[error("its key is not the certificate's")]
    OtherKey,
    /// The chain does not lead from the certificate upwards.
    #[error("its chain does not build: certificate {0} above the leaf {1}")]
    Chain(usize, &'static str),
    /// It is no server's certificate.
    #[error("it is not for TLS servers")]
    Purpose,
    /// It is not for a name that is wanted.
    #[error("it is not for {0}, only for {1}")]
    Names(String, String),
    /// It is for a name that this control plane may not certify.
    #[error("it is for {0}, which is outside the control plane's AllowedDomains")]
    NotAllowed(String),
    /// It is not valid now.
    #[error("it is valid from {0} to {1}, and not now")]
    Dates(OffsetDateTime, OffsetDateTime),
}

/// A certificate out of ACM with its key, opened and checked.
pub struct Exported {
    key: PrivateKey,
    leaf: Vec<u8>,
    chain: Vec<Vec<u8>>,
    facts: Facts,
}

/// What a verifier trusts, in place of a root: the certificate above those that are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The first 16 hexadecimal digits of its SHA-256.
    pub id: String,
    /// The certificate, PEM.
    pub pem: String,
}

/// Opens an export and checks everything that can be checked without asking anybody.
pub fn open(sealed: &Sealed, passphrase: &Passphrase, wanted: &Wanted<'_>) -> Result<Exported, ExportError> {
    let mut leaf = pem::certificates(&sealed.certificate).map_err(|error| ExportError::Pem("certificate", error))?;
    let chain = pem::certificates(&sealed.chain).map_err(|error| ExportError::Pem("chain", error))?;
    let one = |expected| ExportError::Pem("certificate", BadPem::Labels { expected });
    let leaf = leaf.pop().filter(|_| leaf.is_empty()).ok_or_else(|| one("one certificate"))?;
    let key = key(&sealed.key, passphrase)?;
    let facts = inspect::facts(&leaf)?;
    if facts.key_fingerprint != key.public().fingerprint() {
        return Err(ExportError::OtherKey);
    }
    builds(&leaf, &chain, wanted.now)?;
    suits(&facts, wanted)?;
    Ok(Exported { key, leaf, chain, facts })
}

fn key(text: &SecretText, passphrase: &Passphrase) -> Result<PrivateKey, ExportError> {
    let blocks = pem::decode(text.expose()).map_err(|error| ExportError::Pem("key", error))?;
    match blocks.as_slice() {
        [block] if block.label == ENCRYPTED_KEY => {
            let plain = sealed::open(&block.der, passphrase.expose().as_bytes())?;
            Ok(PrivateKey::from_pkcs8(&plain)?)
        }
        _ => Err(ExportError::Pem("key", BadPem::Labels { expected: "one encrypted private key" })),
    }
}

/// Each certificate is signed by the next one, which is an authority and valid now.
fn builds(leaf: &[u8], chain: &[Vec<u8>], now: OffsetDateTime) -> Result<(), ExportError> {
    if chain.len() > CHAIN {
        return Err(ExportError::Chain(chain.len(), "is one too many"));
    }
    let mut below = leaf;
    for (index, above) in chain.iter().enumerate() {
        let wrong = |problem| Err(ExportError::Chain(index + 1, problem));
        let facts = inspect::facts(above)?;
        if !facts.is_ca {
            return wrong("is not an authority's");
        }
        if now < facts.not_before || now > facts.not_after {
            return wrong("is not valid now");
        }
        let parsed = inspect::parse(above)?;
        if inspect::parse(below)?.verify_signature(Some(parsed.public_key())).is_err() {
            return wrong("did not sign the one below");
        }
        below = above;
    }
    Ok(())
}

fn suits(facts: &Facts, wanted: &Wanted<'_>) -> Result<(), ExportError> {
    if facts.is_ca || !facts.extended_key_usage.iter().any(|usage| usage == "serverAuth") {
        return Err(ExportError::Purpose);
    }
    let is_covered = |name: &&HostName| facts.dns_names.iter().any(|own| covers(own, name.as_str()));
    if let Some(missing) = wanted.names.iter().find(|name| !is_covered(name)) {
        return Err(ExportError::Names(missing.to_string(), facts.dns_names.join(", ")));
    }
    let mut names = facts.dns_names.iter().chain(&facts.other_names);
    if let Some(foreign) = names.find(|name| !wanted.allowed.certifies(name)) {
        return Err(ExportError::NotAllowed(foreign.clone()));
    }
    if wanted.now < facts.not_before || wanted.now >= facts.not_after {
        return Err(ExportError::Dates(facts.not_before, facts.not_after));
    }
    Ok(())
}

impl Exported {
    /// What stands in the certificate.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The bundle, and what a verifier trusts.
    ///
    /// The top of the chain is not served but trusted, as with our own authority; and so is the next one below it
    /// where an RSA key and a long chain would not fit a parameter. The issuing certificate is always served.
    pub fn assemble(&self) -> Result<(SecretText, Anchor), BundleError> {
        let last = self.chain.len().saturating_sub(1);
        let mut served = last.max(1);
        loop {
            match bundle::join(Some(&self.key), &self.leaf, &self.chain[..served]) {
                Err(BundleError::TooLong { .. }) if served > 1 => served -= 1,
                Err(error) => return Err(error),
                Ok(bundle) => {
                    let anchor = &self.chain[served.min(last)];
                    let id = hex(&Sha256::digest(anchor)[..8]);
                    return Ok((bundle, Anchor { id, pem: pem::encode(pem::CERTIFICATE, anchor).to_string() }));
                }
            }
        }
    }
}
