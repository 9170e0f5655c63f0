//! Parameter Store: leaf bundles, written once under a name of their own, and the public trust beside them.
//!
//! Parameter Store has no condition but one: creation with `Overwrite=false` succeeds where there is nothing. That is the
//! compare-and-set on which minting rests, and the rest of the protocol makes the ledger agree with it:
//!
//! 1. The mint *proposes* in the ledger: the public record under the leaf's own fingerprint. Proposals never collide.
//! 2. It creates the parameter. The description carries the fingerprint, so that the public half of what was stored
//!    can be found again without decrypting it; `mint` therefore needs no right to decrypt a leaf, ever.
//! 3. It appends the generation, on the condition that there is none.
//!
//! A mint that finds the name taken reads the fingerprint from the description, takes the proposal with that
//! fingerprint, and appends *that* record: it finishes the other's work instead of waiting for it. So:
//!
//! * two concurrent mints: one creates the parameter, both append the creator's record, both answer the same leaf;
//! * killed after 1: a proposal nobody refers to, which expires;
//! * killed after 2: the next mint finds the name taken and finishes step 3 with the right record;
//! * an answer of 2 that got lost: the SDK's repetition finds the name taken by its own leaf, the same path.
//!
//! A bundle is deleted when two newer generations are in the ledger ([`leaves::Leaves::tidy`]); its name is free then, and nobody asks for
//! that generation any more.
//!
//! `export` does the same with what it took out of ACM. Whoever appends, the fingerprint in the ledger is the stored bundle's: only the creator's description is there to be
//! read, and its proposal was written before. Appending first instead (a reservation) would leave, after a crash, a
//! generation whose bundle never existed, and targets told to fetch it.

pub mod leaves;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::operation::put_parameter::PutParameterError;
use aws_sdk_ssm::types::{ParameterTier, ParameterType};
use espalier_pki::key::SecretText;

use crate::error::{AwsError, during};

/// What the writer of leaves needs on `/espalier-leaf/*`. The history is read without decryption, for its description.
pub const LEAF_WRITE: &[&str] = &["ssm:PutParameter", "ssm:GetParameterHistory", DELETE];

const DELETE: &str = "ssm:DeleteParameters";

/// What the writer of leaves needs on the leaf key: a standard-tier `SecureString` is encrypted by KMS directly, an
/// advanced one under a data key (Systems Manager user guide, `secure-string-parameter-kms-encryption`).
pub const LEAF_KEY: &[&str] = &["kms:Encrypt", "kms:GenerateDataKey"];

/// Between one write and the next where there are many: Parameter Store takes three a second, of all of an account and Region.
pub const BETWEEN_WRITES: Duration = Duration::from_millis(340);

/// The names that one call deletes at most (Systems Manager API reference, `DeleteParameters`).
const DELETED_AT_ONCE: usize = 10;

/// The most that a standard parameter holds, in bytes.
const STANDARD_BYTES_MAX: usize = 4096;

/// What the publisher of trust needs on `/espalier-trust/*`.
pub const TRUST_WRITE: &[&str] = &["ssm:PutParameter"];

/// What whoever compares the bundle with what it should be needs on it.
pub const TRUST_READ: &[&str] = &["ssm:GetParameter"];

/// The roots of all authorities that are not retired, concatenated PEM: what clients are to trust.
pub const BUNDLE: &str = "/espalier-trust/bundle";

/// Ends a leaf parameter's description; the fingerprint follows.
const MARK: &str = "SHA-256 ";

/// Parameter Store.
#[derive(Debug, Clone)]
pub struct Parameters {
    client: Client,
}

/// Whose bundle is under a leaf's name now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafStored {
    /// Ours.
    Ours,
    /// The one with this fingerprint, created before.
    Taken(String),
    /// Something whose description carries no fingerprint: we have not made it.
    Foreign,
}

impl Parameters {
    /// Parameter Store of the configured account and region.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { client: Client::new(sdk) }
    }

    /// Stores a leaf bundle (PEM: key, leaf, chain) as `SecureString` under `key_id`, unless the name is taken. A name
    /// is never written over.
    ///
    /// # Errors
    /// Systems Manager's, without its message: a validation error may quote the value.
    pub async fn store_leaf(
        &self,
        name: &str,
        bundle: &SecretText,
        fingerprint: &str,
        key_id: &str,
    ) -> Result<LeafStored, AwsError> {
        let created = self
            .client
            .put_parameter()
            .name(name)
            .value(bundle.expose())
            .description(format!("Espalier leaf bundle. {MARK}{fingerprint}"))
            .r#type(ParameterType::SecureString)
            .key_id(key_id)
            .tier(tier(bundle.expose().len()))
            .overwrite(false)
            .send()
            .await;
        match created {
            Ok(_) => Ok(LeafStored::Ours),
            Err(error) if error.as_service_error().is_some_and(PutParameterError::is_parameter_already_exists) => {
                self.stored(name).await
            }
            Err(error) => Err(during("ssm:PutParameter")(error).without_message()),
        }
    }

    /// Reads whose leaf is under a name that is taken.
    async fn stored(&self, name: &str) -> Result<LeafStored, AwsError> {
        let history = self
            .client
            .get_parameter_history()
            .name(name)
            .with_decryption(false)
            .max_results(1)
            .send()
            .await
            .map_err(during("ssm:GetParameterHistory"))?;
        // A leaf is never written over, so its first version is its only one.
        let first = history.parameters().first().and_then(|version| version.description());
        Ok(first.and_then(fingerprint_in).map_or(LeafStored::Foreign, LeafStored::Taken))
    }

    /// Deletes leaf bundles; one that is not there is no error.
    ///
    /// # Errors
    /// Systems Manager's.
    pub async fn delete_leaves(&self, names: &[String]) -> Result<(), AwsError> {
        for (at, some) in names.chunks(DELETED_AT_ONCE).enumerate() {
            if at > 0 {
                tokio::time::sleep(BETWEEN_WRITES).await;
            }
            self.client.delete_parameters().set_names(Some(some.to_vec())).send().await.map_err(during(DELETE))?;
        }
        Ok(())
    }

    /// Publishes an authority's root for clients, unless it is there: the name is a digest of the root, so what is
    /// there is the same.
    ///
    /// # Errors
    /// Systems Manager's.
    pub async fn publish_trust(&self, authority: &str, root_pem: &str) -> Result<(), AwsError> {
        let created = self
            .client
            .put_parameter()
            .name(trust_parameter(authority))
            .value(root_pem)
            .description("Espalier root certificate: what clients of the stacks trust.")
            .r#type(ParameterType::String)
            .tier(ParameterTier::Standard)
            .overwrite(false)
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(PutParameterError::is_parameter_already_exists) => {
                Ok(())
            }
            Err(error) => Err(during("ssm:PutParameter")(error)),
        }
    }

    /// Publishes the bundle in place of the one that is there. Parameter Store has no condition for that: whoever published
    /// an older one at the same moment is found out by the next look.
    ///
    /// # Errors
    /// Systems Manager's.
    pub async fn publish_bundle(&self, bundle: &str) -> Result<(), AwsError> {
        let put = self.client.put_parameter().name(BUNDLE).value(bundle).r#type(ParameterType::String);
        let described = put.description("Espalier: the roots that clients of the stacks are to trust, PEM.");
        let tier = tier(bundle.len());
        described.tier(tier).overwrite(true).send().await.map_err(during("ssm:PutParameter"))?;
        Ok(())
    }

    /// The bundle that is published; absent while there is none.
    ///
    /// # Errors
    /// Systems Manager's.
    pub async fn bundle(&self) -> Result<Option<String>, AwsError> {
        match self.client.get_parameter().name(BUNDLE).send().await.map_err(during("ssm:GetParameter")) {
            Ok(answer) => Ok(answer.parameter.and_then(|parameter| parameter.value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The Parameter Store name of an authority's root: `/espalier-trust/<authority>`.
pub fn trust_parameter(authority: &str) -> String {
    format!("/espalier-trust/{authority}")
}

/// The cheapest tier that holds it. Chosen here and not by `Intelligent-Tiering`: an advanced parameter
/// costs money every month, and which one it is shows in the request.
fn tier(bytes: usize) -> ParameterTier {
    if bytes <= STANDARD_BYTES_MAX { ParameterTier::Standard } else { ParameterTier::Advanced }
}

fn fingerprint_in(description: &str) -> Option<String> {
    let (_, digits) = description.rsplit_once(MARK)?;
    let is_digest = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_digest.then(|| digits.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_found_in_our_descriptions_only() {
        let digest = "ab".repeat(32);
        let ours = format!("Espalier leaf bundle. {MARK}{digest}");
        assert_eq!(fingerprint_in(&ours), Some(digest.clone()));
        assert_eq!(fingerprint_in(&digest), None);
        assert_eq!(fingerprint_in(&format!("{MARK}{}", "AB".repeat(32))), None);
        assert_eq!(fingerprint_in(&format!("{ours}0")), None);
    }
}
