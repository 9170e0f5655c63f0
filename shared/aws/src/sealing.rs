//! The sealing key in AWS KMS: signs the headers of segments, and nothing else.
//!
//! It is no authority's key: whoever may seal evidence may not issue a certificate, and whoever issues them may not seal.

use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use aws_smithy_types::base64;
use espalier_domain::inventory::{Draft, Seal, Segment};
use espalier_domain::token::sha256_octets;

use crate::error::{AwsError, during};

/// What whoever seals needs, on the sealing key.
pub const ACTIONS: &[&str] = &[SIGN, VERIFY];

const SIGN: &str = "kms:Sign";
const VERIFY: &str = "kms:Verify";

/// ECDSA on P-256 over a SHA-256.
const ALGORITHM: SigningAlgorithmSpec = SigningAlgorithmSpec::EcdsaSha256;

/// The key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SealingKey {
    client: Client,
    arn: String,
}

impl SealingKey {
    /// The key with this ARN.
    pub fn new(sdk: &SdkConfig, arn: impl Into<String>) -> Self {
        Self { client: Client::new(sdk), arn: arn.into() }
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Seals a segment.
    ///
    /// # Errors
    /// KMS's.
    pub async fn seal(&self, draft: &Draft) -> Result<Seal, AwsError> {
        let asked = self.client.sign().key_id(&self.arn).message_type(MessageType::Digest).signing_algorithm(ALGORITHM);
        let answer = asked.message(Blob::new(sha256_octets(draft.signed()))).send().await.map_err(during(SIGN))?;
        let none = || AwsError::unexpected(SIGN, "the answer has no signature");
        let signature = base64::encode(answer.signature.ok_or_else(none)?);
        Ok(Seal { algorithm: ALGORITHM.as_str().to_owned(), key: self.arn.clone(), signature })
    }

    /// Whether a segment's seal is this key's.
    ///
    /// # Errors
    /// KMS's, but for a signature that is none.
    pub async fn has_sealed(&self, segment: &Segment) -> Result<bool, AwsError> {
        let Ok(signature) = base64::decode(&segment.seal.signature) else { return Ok(false) };
        let asked =
            self.client.verify().key_id(&self.arn).message_type(MessageType::Digest).signing_algorithm(ALGORITHM);
        let asked = asked.message(Blob::new(sha256_octets(&segment.signed))).signature(Blob::new(signature));
        match asked.send().await.map_err(during(VERIFY)) {
            Ok(answer) => Ok(answer.signature_valid),
            Err(error) if error.code() == "KMSInvalidSignatureException" => Ok(false),
            Err(error) => Err(error),
        }
    }
}
