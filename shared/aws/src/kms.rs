//! AWS KMS: keys that sign certificates and never leave it.
//!
//! A key signs digests of what passed the lint and nothing else: [`KmsSigner`] is a [`Signer`], which takes no bytes but a
//! [`Linted`], and there is no other way to `kms:Sign` from here. What comes back is verified where certificates are made.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};
use espalier_domain::failure::{Failure, Word};
use espalier_domain::spec::KeyType;
use espalier_pki::issue::{IssueError, SignError, Signer};
use espalier_pki::key::PublicKey;
use espalier_pki::lint::{DigestAlgorithm, Linted};
use tokio::sync::Semaphore;

use crate::error::{AwsError, Kind, during};

/// What whoever signs needs, on the key that it signs with.
pub const SIGN: &[&str] = &["kms:Sign"];

/// What whoever makes an authority needs, on both keys.
pub const READ: &[&str] = &["kms:GetPublicKey"];

/// Signatures under way at once in one process. All keys on elliptic curves of an account and Region share 300 requests a
/// second, by newer pages 1,000 (KMS developer guide, request quotas), and a signature takes some 15 ms.
const AT_ONCE: usize = 4;

/// AWS KMS. Clones share their turn.
#[derive(Debug, Clone)]
pub struct Kms {
    client: Client,
    turns: Arc<Semaphore>,
}

/// Why a key did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// It will not, until a person has seen to it.
    #[error("the authority's key {key} cannot be used: {remedy}")]
    Unusable {
        /// The key, by ARN.
        key: String,
        /// What would end it.
        remedy: &'static str,
        /// What KMS said.
        #[source]
        cause: AwsError,
    },
    /// KMS could not be asked, or did not answer as it should. It may do the next time.
    #[error("the authority's key {key}")]
    Failed {
        /// The key, by ARN.
        key: String,
        /// What KMS said.
        #[source]
        cause: AwsError,
    },
    /// It is another kind of key.
    #[error(
        "the authority's key {key} is none that signs certificates: deploy the template again, whose keys are ECC_NIST_P256 or ECC_NIST_P384 for SIGN_VERIFY"
    )]
    OtherKind {
        /// The key, by ARN.
        key: String,
    },
}

impl KmsError {
    /// Whether only a person can end it.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Unusable { .. } | Self::OtherKind { .. } => true,
            Self::Failed { .. } => false,
        }
    }

    /// The one that kept a certificate from being signed, if it was one.
    pub fn of(error: &IssueError) -> Option<&Self> {
        match error {
            IssueError::Sign(SignError(cause)) => cause.downcast_ref(),
            IssueError::Profile(_)
            | IssueError::Encode(_)
            | IssueError::Refused(_)
            | IssueError::Read(_)
            | IssueError::Signature
            | IssueError::Other => None,
        }
    }
}

impl Failure for KmsError {
    fn word(&self) -> Word {
        match self {
            Self::Unusable { .. } | Self::OtherKind { .. } => Word::Refused,
            Self::Failed { cause, .. } => cause.word(),
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Unusable { .. } | Self::OtherKind { .. } => None,
            Self::Failed { cause, .. } => cause.retry_after_s(),
        }
    }
}

impl Kms {
    /// KMS of the configured account and region.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The public half of a key that signs certificates.
    ///
    /// # Errors
    /// KMS's, or it is another kind of key.
    pub async fn public_key(&self, key: &str) -> Result<PublicKey, KmsError> {
        let answer = self.client.get_public_key().key_id(key).send().await;
        let answer = answer.map_err(during("kms:GetPublicKey")).map_err(|cause| told(key, cause))?;
        let other = || KmsError::OtherKind { key: key.to_owned() };
        let spki =
            answer.public_key.filter(|_| answer.key_usage == Some(KeyUsageType::SignVerify)).ok_or_else(other)?;
        let public = PublicKey::from_spki(spki.as_ref()).map_err(|_| other())?;
        match public.key_type() {
            KeyType::EcPrime256v1 | KeyType::EcSecp384r1 => Ok(public),
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 | KeyType::Ed25519 => Err(other()),
        }
    }

    /// The key as a signer; `public` is its public half.
    pub fn signer(&self, key: &str, public: PublicKey) -> KmsSigner {
        KmsSigner { kms: self.clone(), key: key.to_owned(), public }
    }
}

/// A key in KMS that signs certificates.
#[derive(Debug, Clone)]
pub struct KmsSigner {
    kms: Kms,
    key: String,
    public: PublicKey,
}

impl KmsSigner {
    /// The key, by ARN.
    pub fn key(&self) -> &str {
        &self.key
    }

    async fn signature(&self, certificate: &Linted) -> Result<Vec<u8>, KmsError> {
        let key = &self.key;
        let digest = certificate.digest(&self.public).ok_or_else(|| KmsError::OtherKind { key: key.clone() })?;
        let algorithm = match digest.algorithm() {
            DigestAlgorithm::Sha256 => SigningAlgorithmSpec::EcdsaSha256,
            DigestAlgorithm::Sha384 => SigningAlgorithmSpec::EcdsaSha384,
        };
        let _turn = self.kms.turns.acquire().await.expect("nobody closes it");
        let asked = self.kms.client.sign().key_id(key).message_type(MessageType::Digest).signing_algorithm(algorithm);
        let answer = asked.message(Blob::new(digest.octets())).send().await;
        let answer = answer.map_err(during("kms:Sign")).map_err(|cause| told(key, cause))?;
        answer.signature.map(Blob::into_inner).ok_or_else(|| {
            let cause = AwsError::unexpected("kms:Sign", "the answer has no signature");
            KmsError::Failed { key: key.clone(), cause }
        })
    }
}

impl Signer for KmsSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, certificate: &Linted) -> Result<Vec<u8>, SignError> {
        self.signature(certificate).await.map_err(|error| SignError(error.into()))
    }
}

/// What KMS said about a key (KMS API reference, errors of `Sign` and `GetPublicKey`).
fn told(key: &str, cause: AwsError) -> KmsError {
    let key = key.to_owned();
    let remedy = match (cause.code(), cause.kind) {
        (_, Kind::Throttled | Kind::Busy | Kind::Conflict | Kind::Broken) => return KmsError::Failed { key, cause },
        ("DisabledException", _) => "it is disabled; enable it (aws kms enable-key)",
        ("KMSInvalidStateException", _) => {
            "it waits for its deletion or is not ready; cancel that (aws kms cancel-key-deletion) and enable it"
        }
        (_, Kind::Denied) => {
            "allow this function's role to use it, in the key's policy and in the role's, as the template has them"
        }
        (_, Kind::NotFound) => "there is no such key in this account and Region; deploy the template again",
        (_, Kind::Invalid | Kind::Quota) => "it does not do what was asked; deploy the template again",
    };
    KmsError::Unusable { key, remedy, cause }
}
