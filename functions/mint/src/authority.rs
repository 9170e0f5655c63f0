//! The authority that signs leaves, with its key where the deployment keeps it.

use espalier_aws::kms::{Kms, KmsSigner};
use espalier_aws::ledger::Ledger;
use espalier_aws::secrets::Secrets;
use espalier_domain::authority;
use espalier_domain::failure::chain;
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::record::AuthorityRecord;
use espalier_edge::EdgeError;
use espalier_pki::authority::{Authority, AuthorityError};
use espalier_pki::issue::{MemorySigner, SignError, Signer};
use espalier_pki::key::PublicKey;
use espalier_pki::lint::Linted;

/// Why no leaf is minted now.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A person has to see to it.
    Blocked(Block),
    /// Something failed.
    Failed(EdgeError),
}

impl<E: Into<EdgeError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// That the authority cannot be used as it is.
pub(crate) fn unusable(because: impl Into<String>) -> Stop {
    Stop::Blocked(Block { code: BlockCode::AuthorityUnusable, because: because.into() })
}

/// Where the issuing key is kept.
#[derive(Debug)]
pub(crate) enum Custody {
    /// In KMS, each authority's its own: it signs there.
    Kms {
        kms: Kms,
        /// By ARN.
        keys: Vec<String>,
    },
    /// In a secret: it is read, signs here, and is wiped.
    SecretsManager { secrets: Secrets, name: String },
}

/// The issuing key.
pub(crate) enum IssuingKey {
    Kms(KmsSigner),
    Memory(MemorySigner),
}

impl Signer for IssuingKey {
    fn public_key(&self) -> &PublicKey {
        match self {
            Self::Kms(signer) => signer.public_key(),
            Self::Memory(signer) => signer.public_key(),
        }
    }

    async fn sign(&self, certificate: &Linted) -> Result<Vec<u8>, SignError> {
        match self {
            Self::Kms(signer) => signer.sign(certificate).await,
            Self::Memory(signer) => signer.sign(certificate).await,
        }
    }
}

/// Finds the authority.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) ledger: Ledger,
    pub(crate) custody: Custody,
}

impl Authorities {
    /// The authority that is active. Only one that is in the ledger signs: its root was published before.
    pub(crate) async fn issuing(&self) -> Result<Authority<IssuingKey>, Stop> {
        let known = self.ledger.authorities().await?;
        if known.is_empty() {
            return Err(EdgeError::conflict("there is no authority yet; `authority` makes it").into());
        }
        let turns = self.ledger.turns().await?;
        let Some(active) = authority::active(&known, &turns) else {
            return Err(unusable("the authority that was activated is not in the ledger: restore it"));
        };
        match &self.custody {
            Custody::Kms { kms, keys } => {
                let Some(key) = active.issuing_key.as_ref().filter(|key| keys.contains(key)) else {
                    return Err(unusable(elsewhere(active, &format!("keys {}", keys.join(", ")))));
                };
                let authority = Authority::of(active, |public| IssuingKey::Kms(kms.signer(key, public)));
                authority.map_err(|error| broken(&error))
            }
            Custody::SecretsManager { secrets, name } => {
                let Some(secret) = secrets.get(name).await? else { return Err(unusable(elsewhere(active, &of(name)))) };
                let authority = Authority::from_secret(&secret).map_err(|error| broken(&error))?;
                if active.authority != authority.id() {
                    return Err(unusable(elsewhere(active, &of(name))));
                }
                Ok(authority.signing_with(IssuingKey::Memory))
            }
        }
    }
}

fn of(secret: &str) -> String {
    format!("secret {secret}")
}

/// The authority that clients are served by is of no key that this deployment signs with.
fn elsewhere(active: &AuthorityRecord, ours: &str) -> String {
    let id = &active.authority;
    let held = match &active.issuing_key {
        Some(key) => format!("its key is {key}"),
        None => "its key is in Secrets Manager".to_owned(),
    };
    format!(
        "authority {id} is active, {held}, and this deployment signs with the {ours}. Set the parameters CustodyOfAuthority, \
         KeysOfAuthority and AuthoritySecretName back, restore the secret, or have the next authority prepared and activated \
         (docs/certificates.md, a new authority)"
    )
}

fn broken(error: &AuthorityError) -> Stop {
    Stop::Failed(EdgeError::broken(chain(error)))
}
