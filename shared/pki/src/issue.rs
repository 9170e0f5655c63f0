//! Signing, with the key wherever it is: the only place where a certificate comes to be.
//!
//! `rcgen` signs synchronously and a key in KMS answers asynchronously. So the certificate is built twice: first with
//! a recorder in place of the key, which keeps the bytes to be signed; then, after the signer was awaited, with a
//! player that gives its signature back for exactly those bytes. `signed_by` is used here and nowhere else.
//!
//! Nothing is signed that did not pass [`lint`], which reads those very bytes with another library: a
//! [`Signer`] takes nothing else. What comes out of here was parsed again and its signature verified, so that a
//! [`Leaf`] cannot be made in any other way.

use std::cell::RefCell;
use std::future::Future;

use rcgen::{CertificateParams, Issuer, PublicKeyData, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo};

use espalier_domain::spec::KeyType;
use sha2::{Digest as _, Sha256};
use time::Duration;

use crate::inspect::{self, BadCertificate, Facts};
use crate::key::{KeyError, PrivateKey, PublicKey, hex};
use crate::lint::{self, Linted, Order, Parties, Policy};
use crate::profile::{self, LeafRequest, ProfileError};

/// A key that signs, wherever it is.
pub trait Signer {
    /// Its public half.
    fn public_key(&self) -> &PublicKey;

    /// An ECDSA signature over what passed, in ASN.1: with SHA-256 for a key on P-256 (`ECDSA_SHA_256` in KMS), with
    /// SHA-384 for one on P-384 (`ECDSA_SHA_384`).
    fn sign(&self, certificate: &Linted) -> impl Future<Output = Result<Vec<u8>, SignError>> + Send;
}

/// The signer did not sign.
#[derive(Debug, thiserror::Error)]
#[error("the authority's key did not sign")]
pub struct SignError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A key held in memory as a signer.
pub struct MemorySigner(PrivateKey);

impl MemorySigner {
    /// Takes the key over, if it is of a kind that signs certificates.
    pub fn new(key: PrivateKey) -> Result<Self, KeyError> {
        match key.public().key_type() {
            KeyType::EcPrime256v1 | KeyType::EcSecp384r1 => Ok(Self(key)),
            other @ (KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 | KeyType::Ed25519) => {
                Err(KeyError::NotAnAuthoritys(other))
            }
        }
    }

    pub(crate) fn key(&self) -> &PrivateKey {
        &self.0
    }
}

impl Signer for MemorySigner {
    fn public_key(&self) -> &PublicKey {
        self.0.public()
    }

    async fn sign(&self, certificate: &Linted) -> Result<Vec<u8>, SignError> {
        self.0.sign(certificate.message()).map_err(|error| SignError(error.into()))
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
    /// The lint refuses it: nothing was signed.
    #[error(transparent)]
    Refused(#[from] lint::Refused),
    /// The signer failed.
    #[error("signing the certificate")]
    Sign(#[from] SignError),
    /// What was built cannot be read.
    #[error("reading the certificate that was just built")]
    Read(#[from] BadCertificate),
    /// The signer's signature does not fit its public key.
    #[error("the signature does not verify with the authority's public key")]
    Signature,
    /// What was built is not what passed the lint.
    #[error("the certificate that was just built is not the one that was linted")]
    Other,
}

/// A leaf that was signed and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    der: Vec<u8>,
    issuing: Vec<u8>,
    facts: Facts,
    shortened: Option<Duration>,
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

    /// By how much its life was cut, because its issuer ends before it would have. It is time for a new authority.
    pub fn shortened(&self) -> Option<Duration> {
        self.shortened
    }
}

/// Issues a leaf for `subject` below the certificate `issuing` (DER), whose key `signer` holds, if `policy` lets it.
pub async fn leaf(
    signer: &impl Signer,
    issuing: &[u8],
    subject: &PublicKey,
    request: &LeafRequest,
    policy: &Policy,
) -> Result<Leaf, IssueError> {
    let above = inspect::facts(issuing)?;
    let params = profile::leaf(request, above.not_before, above.not_after)?;
    let order = Order::Leaf { request, policy, above: &above };
    let parties = Parties { subject, signer: signer.public_key(), serial: request.serial, now: request.now };
    let (der, facts) = sign(&params, &order, &parties, Above::Certificate(issuing), signer).await?;
    let asked = profile::leaf_end(request);
    let shortened = (facts.not_after < asked).then(|| asked - facts.not_after);
    Ok(Leaf { der, issuing: issuing.to_vec(), facts, shortened })
}

/// What stands above a certificate that is being signed.
pub(crate) enum Above<'a> {
    /// An authority's certificate, DER.
    Certificate(&'a [u8]),
    /// Itself: a root.
    Itself,
}

/// Builds, lints, signs and verifies one certificate.
pub(crate) async fn sign(
    params: &CertificateParams,
    order: &Order<'_>,
    parties: &Parties<'_>,
    above: Above<'_>,
    signer: &impl Signer,
) -> Result<(Vec<u8>, Facts), IssueError> {
    let message = to_be_signed(params, parties, &above)?;
    let linted = lint::lint(message, order, parties)?;
    let signature = signer.sign(&linted).await?;
    let player = Player { key: parties.signer.info(), message: linted.message(), signature: &signature };
    let der = build(params, parties.subject, &above, player)?;
    verify(&der, &linted, parties.signer)?;
    let facts = Facts { fingerprint: hex(&Sha256::digest(&der)), ..linted.facts().clone() };
    Ok((der, facts))
}

/// Believes nothing of what came back: the certificate holds the bytes that passed, and its signature verifies.
fn verify(der: &[u8], linted: &Linted, signer: &PublicKey) -> Result<(), IssueError> {
    let certificate = inspect::parse(der)?;
    if certificate.tbs_certificate.as_ref() != linted.message() {
        return Err(IssueError::Other);
    }
    let signed_by = signer.spki();
    let (_, key) =
        <x509_parser::x509::SubjectPublicKeyInfo<'_> as x509_parser::prelude::FromDer<_>>::from_der(&signed_by)
            .map_err(|_| IssueError::Signature)?;
    certificate.verify_signature(Some(&key)).map_err(|_| IssueError::Signature)
}

/// The bytes a signature is asked for.
fn to_be_signed(params: &CertificateParams, parties: &Parties<'_>, above: &Above<'_>) -> Result<Vec<u8>, IssueError> {
    let heard = RefCell::new(Vec::new());
    build(params, parties.subject, above, Recorder { key: parties.signer.info(), heard: &heard })?;
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
