//! Signing, with the key wherever it is: the only place where a certificate comes to be.
//!
//! `rcgen` signs synchronously and a key in KMS answers asynchronously. So the certificate is built twice: first with
//! a recorder in place of the key, which keeps the bytes to be signed; then, after the signer was awaited, with a
//! player that gives its signature back for exactly those bytes. `signed_by` is used here and nowhere else.
//!
//! What comes out of here was parsed again, its signature verified and its profile compared with what was asked for:
//! a [`Leaf`] cannot be made in any other way.

use std::cell::RefCell;
use std::future::Future;

use rcgen::{CertificateParams, Issuer, PublicKeyData, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo};

use crate::inspect::{self, BadCertificate, Facts};
use crate::key::{PrivateKey, PublicKey};
use crate::profile::{self, LeafRequest, ProfileError};

/// A key that signs, wherever it is.
pub trait Signer {
    /// Its public half.
    fn public_key(&self) -> &PublicKey;

    /// An ECDSA signature over the SHA-256 of `message`, in ASN.1 (`ECDSA_SHA_256` in KMS).
    fn sign(&self, message: &[u8]) -> impl Future<Output = Result<Vec<u8>, SignError>> + Send;
}

/// The signer did not sign.
#[derive(Debug, thiserror::Error)]
#[error("the authority's key did not sign")]
pub struct SignError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A key held in memory as a signer.
pub struct MemorySigner {
    key: PrivateKey,
    public: PublicKey,
}

impl MemorySigner {
    /// Takes the key over.
    pub fn new(key: PrivateKey) -> Self {
        let public = key.public();
        Self { key, public }
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }
}

impl Signer for MemorySigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(message).map_err(|error| SignError(error.into()))
    }
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It must not be.
    #[error("the certificate is not allowed by its profile")]
    Profile(#[from] ProfileError),
    /// It could not be written down.
    #[error("encoding the certificate")]
    Encode(#[source] rcgen::Error),
    /// The signer failed.
    #[error("signing the certificate")]
    Sign(#[from] SignError),
    /// What was built cannot be read.
    #[error("reading the certificate that was just built")]
    Read(#[from] BadCertificate),
    /// The signer's signature does not fit its public key.
    #[error("the signature does not verify with the authority's public key")]
    Signature,
    /// What was built is not what was asked for.
    #[error("the certificate that was just built is not what was asked for: {0}")]
    Mismatch(&'static str),
}

/// A leaf that was signed and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    der: Vec<u8>,
    issuing: Vec<u8>,
    facts: Facts,
}

impl Leaf {
    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate above it, DER: the one whose key signed it.
    pub fn issuing(&self) -> &[u8] {
        &self.issuing
    }

    /// What stands in it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Issues a leaf for `subject` below the certificate `issuing` (DER), whose key `signer` holds.
pub async fn leaf(
    signer: &impl Signer,
    issuing: &[u8],
    subject: &PublicKey,
    request: &LeafRequest,
) -> Result<Leaf, IssueError> {
    let issuer = inspect::facts(issuing)?;
    if issuer.key_fingerprint != signer.public_key().fingerprint() {
        return Err(IssueError::Mismatch("the signer's key is not the issuing certificate's"));
    }
    let params = profile::leaf(request, issuer.not_before, issuer.not_after)?;
    let der = sign(&params, subject, Above::Certificate(issuing), signer).await?;
    let facts = inspect::facts(&der)?;
    check(&facts, &issuer, subject, request)?;
    Ok(Leaf { der, issuing: issuing.to_vec(), facts })
}

/// Compares a finished leaf with what was asked for, without trusting the code that built it.
fn check(facts: &Facts, issuer: &Facts, subject: &PublicKey, request: &LeafRequest) -> Result<(), IssueError> {
    let mut names: Vec<&str> = request.dns_names.iter().map(espalier_domain::id::HostName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let permitted = issuer.permitted_dns.as_deref().unwrap_or_default();
    let below = |name: &str, domain: &str| {
        name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.') || domain.starts_with('.'))
    };
    let rules = [
        (facts.dns_names == names, "its names"),
        (facts.other_names.is_empty(), "it has names that are not DNS names"),
        (facts.subject.is_empty(), "its subject is not empty"),
        (
            names.iter().all(|name| permitted.iter().any(|domain| below(name, domain))),
            "a name its issuer may not certify",
        ),
        (facts.key_fingerprint == subject.fingerprint(), "its key"),
        (facts.key_fingerprint != issuer.key_fingerprint, "its key is its issuer's"),
        (facts.serial == request.serial.text(), "its serial number"),
        (!facts.is_ca, "it is an authority"),
        (facts.key_usage == ["digitalSignature"], "its key usage"),
        (facts.extended_key_usage == ["serverAuth"], "its extended key usage"),
        (facts.issuer == issuer.subject, "its issuer"),
        (facts.subject_key_id.is_some(), "it has no subject key identifier"),
        (
            facts.authority_key_id.is_some() && facts.authority_key_id == issuer.subject_key_id,
            "its authority key identifier",
        ),
        (facts.not_before >= issuer.not_before && facts.not_after <= issuer.not_after, "it outlives its issuer"),
        (facts.not_before <= request.now && request.now < facts.not_after, "it is not valid now"),
        (facts.not_after <= request.now + request.validity, "it lives longer than asked for"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, what)) => Err(IssueError::Mismatch(what)),
    }
}

/// What stands above a certificate that is being signed.
pub(crate) enum Above<'a> {
    /// An authority's certificate, DER.
    Certificate(&'a [u8]),
    /// Itself: a root.
    Itself,
}

/// Builds, signs and verifies one certificate.
pub(crate) async fn sign(
    params: &CertificateParams,
    subject: &PublicKey,
    above: Above<'_>,
    signer: &impl Signer,
) -> Result<Vec<u8>, IssueError> {
    let public = signer.public_key();
    let message = to_be_signed(params, subject, &above, public)?;
    let signature = signer.sign(&message).await?;
    let player = Player { key: public.info(), message: &message, signature: &signature };
    let der = build(params, subject, &above, player)?;
    let signed_by = public.spki();
    let (_, key) =
        <x509_parser::x509::SubjectPublicKeyInfo<'_> as x509_parser::prelude::FromDer<_>>::from_der(&signed_by)
            .map_err(|_| IssueError::Signature)?;
    inspect::parse(&der)?.verify_signature(Some(&key)).map_err(|_| IssueError::Signature)?;
    Ok(der)
}

/// The bytes a signature is asked for.
fn to_be_signed(
    params: &CertificateParams,
    subject: &PublicKey,
    above: &Above<'_>,
    signer: &PublicKey,
) -> Result<Vec<u8>, IssueError> {
    let heard = RefCell::new(Vec::new());
    build(params, subject, above, Recorder { key: signer.info(), heard: &heard })?;
    Ok(heard.into_inner())
}

fn build(
    params: &CertificateParams,
    subject: &PublicKey,
    above: &Above<'_>,
    key: impl SigningKey,
) -> Result<Vec<u8>, IssueError> {
    let issuer = match above {
        Above::Itself => Issuer::from_params(params, key),
        Above::Certificate(der) => Issuer::from_ca_cert_der(&(*der).into(), key).map_err(IssueError::Encode)?,
    };
    // The one allowed use: everything else goes through `sign`, which verifies what comes out.
    #[allow(clippy::disallowed_methods)]
    let certificate = params.signed_by(subject.info(), &issuer).map_err(IssueError::Encode)?;
    Ok(certificate.der().to_vec())
}

/// Stands in for the key and keeps what it was asked to sign.
struct Recorder<'a> {
    key: &'a SubjectPublicKeyInfo,
    heard: &'a RefCell<Vec<u8>>,
}

impl PublicKeyData for Recorder<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl SigningKey for Recorder<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.heard.replace(message.to_vec());
        Ok(Vec::new())
    }
}

/// Stands in for the key and gives the signature it made elsewhere, for that message only.
struct Player<'a> {
    key: &'a SubjectPublicKeyInfo,
    message: &'a [u8],
    signature: &'a [u8],
}

impl PublicKeyData for Player<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl SigningKey for Player<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        if message == self.message { Ok(self.signature.to_vec()) } else { Err(rcgen::Error::RemoteKeyError) }
    }
}
