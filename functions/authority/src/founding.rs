//! The founding: two certificates, noted once, published, and only then in the ledger where `mint` looks.
//!
//! It may die after any step and be asked again: what was noted is taken up, and what was signed and not noted was never
//! seen by anybody. Of several that found at once, one is noted, and all publish that one.

use espalier_aws::kms::{Kms, KmsError};
use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::secrets::{Created, Secrets};
use espalier_domain::failure::{Failure as _, chain};
use espalier_domain::id::HostName;
use espalier_domain::plan::{Block, BlockCode};
use espalier_domain::record::AuthorityRecord;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_domain::work::{AuthorityItem, WorkResult};
use espalier_edge::EdgeError;
use espalier_pki::authority::{self, Authority, AuthorityError};
use espalier_pki::issue::IssueError;
use espalier_pki::profile::{NoEntropy, Serial};
use time::OffsetDateTime;

const DESCRIPTION: &str = "Espalier: the issuing key and certificates of the private authority for service targets.";

/// Where the keys are kept.
#[derive(Debug)]
pub(crate) enum Custody {
    /// Both in KMS, by ARN.
    Kms { kms: Kms, root: String, issuing: String },
    /// The issuing key in a secret of this name; the root's is thrown away.
    SecretsManager { secrets: Secrets, name: String },
}

impl Custody {
    /// Whether it keeps the key of this authority.
    fn keeps(&self, record: &AuthorityRecord) -> bool {
        match self {
            Self::Kms { issuing, .. } => record.issuing_key.as_ref() == Some(issuing),
            Self::SecretsManager { .. } => record.issuing_key.is_none(),
        }
    }
}

/// Why there is no authority now.
enum Stop {
    /// A person has to see to it.
    Blocked(String),
    /// Something failed.
    Failed(EdgeError),
}

impl<E: Into<EdgeError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a founding works with.
#[derive(Debug)]
pub(crate) struct Founder {
    pub(crate) allowed: AllowedDomains,
    pub(crate) ledger: Ledger,
    pub(crate) parameters: Parameters,
    pub(crate) custody: Custody,
}

impl Founder {
    /// Answers the authority there is, or makes it.
    pub(crate) async fn found(&self, item: &AuthorityItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        match self.founded(item, now).await {
            Ok(authority) => Ok(WorkResult::Founded { authority }),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Blocked(because)) => {
                let block = Block { code: BlockCode::AuthorityUnusable, because };
                tracing::warn!(%block, "no authority is made");
                Ok(WorkResult::Blocked { block })
            }
        }
    }

    async fn founded(&self, item: &AuthorityItem, now: OffsetDateTime) -> Result<String, Stop> {
        let known = self.ledger.authorities().await?;
        if let Some(there) = wanted(&known, item, &self.custody)? {
            return Ok(there);
        }
        let record = match &self.custody {
            Custody::Kms { kms, root, issuing } => match self.ledger.founded(issuing).await? {
                Some(noted) => noted,
                None => {
                    let made = self.signed(kms, root, issuing, now).await?;
                    self.ledger.found(issuing, &made).await?
                }
            },
            Custody::SecretsManager { secrets, name } => self.kept(secrets, name, now).await?,
        };
        self.publish(&record).await?;
        tracing::info!(authority = record.authority, because = item.because, "authority founded");
        Ok(record.authority)
    }

    /// Two certificates, both signed by the root's key in KMS.
    async fn signed(&self, kms: &Kms, root: &str, issuing: &str, now: OffsetDateTime) -> Result<AuthorityRecord, Stop> {
        let top = kms.signer(root, kms.public_key(root).await.map_err(of_key)?);
        let signer = kms.signer(issuing, kms.public_key(issuing).await.map_err(of_key)?);
        let made = authority::certificates(&top, signer, &self.domains(), now, serials()?).await;
        Ok(made.map_err(|error| unsigned(&error))?.record(Some(issuing.to_owned())))
    }

    /// The authority in the secret, made now if there is none.
    async fn kept(&self, secrets: &Secrets, name: &str, now: OffsetDateTime) -> Result<AuthorityRecord, Stop> {
        let read = async || -> Result<Option<AuthorityRecord>, Stop> {
            let Some(secret) = secrets.get(name).await? else { return Ok(None) };
            let authority = Authority::from_secret(&secret).map_err(|error| EdgeError::broken(chain(&error)))?;
            Ok(Some(authority.record(None)))
        };
        if let Some(there) = read().await? {
            return Ok(there);
        }
        let made = Authority::ceremony(KeyType::EcPrime256v1, &self.domains(), now, serials()?).await;
        let made = made.map_err(|error| unsigned(&error))?;
        match secrets.create(name, &made.to_secret(), DESCRIPTION).await? {
            Created::Ours => Ok(made.record(None)),
            // Another one was faster: ours was never used and is dropped here.
            Created::Taken => {
                let conflict = || EdgeError::conflict(format!("the secret {name} is taken but cannot be read yet"));
                Ok(read().await?.ok_or_else(conflict)?)
            }
        }
    }

    /// Trust before leaf: the root is where clients and probers find it before anything below it exists. The ledger's
    /// record comes last, so that having it means that both are there.
    async fn publish(&self, record: &AuthorityRecord) -> Result<(), EdgeError> {
        self.parameters.publish_trust(&record.authority, &record.root_pem).await?;
        Ok(self.ledger.append_authority(record).await?)
    }

    fn domains(&self) -> Vec<&str> {
        self.allowed.domains().iter().map(HostName::as_str).collect()
    }
}

/// The authority that is there already; nothing when one is to be made.
fn wanted(known: &[AuthorityRecord], item: &AuthorityItem, custody: &Custody) -> Result<Option<String>, Stop> {
    let names = || known.iter().map(|record| record.authority.as_str()).collect::<Vec<_>>().join(", ");
    let ours = known.iter().find(|record| custody.keeps(record));
    match (&item.beside, ours, custody) {
        (None, Some(ours), _) => Ok(Some(ours.authority.clone())),
        (None, None, _) if known.is_empty() => Ok(None),
        (None, None, _) => Err(Stop::Blocked(format!(
            "clients trust {}, whose key is kept elsewhere than this deployment says. Set the parameter CustodyOfAuthority \
             back, or have another authority made beside it on purpose (docs/certificates.md, custody)",
            names()
        ))),
        (Some(other), _, _) if !known.iter().any(|record| record.authority == *other) => Err(Stop::Failed(
            EdgeError::invalid(format!("field `beside`: there is no authority {other:?}; there are: {}", names())),
        )),
        // One key has one authority, but a secret that was lost may be made anew.
        (Some(_), Some(ours), Custody::Kms { .. }) => Ok(Some(ours.authority.clone())),
        (Some(_), Some(_), Custody::SecretsManager { .. }) | (Some(_), None, _) => Ok(None),
    }
}

fn serials() -> Result<[Serial; 2], EdgeError> {
    let entropy = |error: NoEntropy| EdgeError::broken(error.to_string());
    Ok([Serial::random().map_err(entropy)?, Serial::random().map_err(entropy)?])
}

/// A key in KMS that did not do what it was asked.
fn of_key(error: KmsError) -> Stop {
    if error.needs_a_person() { Stop::Blocked(chain(&error)) } else { Stop::Failed(error.into()) }
}

fn unsigned(error: &AuthorityError) -> Stop {
    let text = chain(error);
    match error {
        AuthorityError::Issue(issue) => match (issue, KmsError::of(issue)) {
            (_, Some(key)) if key.needs_a_person() => Stop::Blocked(text),
            (_, Some(key)) => Stop::Failed(EdgeError { word: key.word(), text }),
            (IssueError::Profile(_) | IssueError::Refused(_), None) => EdgeError::refused(text).into(),
            (
                IssueError::Encode(_)
                | IssueError::Sign(_)
                | IssueError::Read(_)
                | IssueError::Signature
                | IssueError::Other,
                None,
            ) => EdgeError::broken(text).into(),
        },
        AuthorityError::Key(_)
        | AuthorityError::Pem(_)
        | AuthorityError::Certificate(_)
        | AuthorityError::Mismatch(_) => EdgeError::broken(text).into(),
    }
}
