//! The making of an authority: two certificates, noted once, published, and only then in the ledger where `mint` looks.
//! The first one is founded when the first leaf is due; each further one is prepared, and signs nothing before it is
//! activated.
//!
//! It may die after any step and be asked again: what was noted is taken up, and what was signed and not noted was never
//! seen by anybody. Of several that found at once, one is noted, and all publish that one.

use espalier_aws::kms::{Kms, KmsError};
use espalier_aws::ledger::Ledger;
use espalier_aws::secrets::{Created, Secrets};
use espalier_domain::authority as life;
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

use crate::published::Published;

const DESCRIPTION: &str = "Espalier: the issuing key and certificates of the private authority for service targets.";

/// The two keys of one authority, by ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyPair {
    pub(crate) root: String,
    pub(crate) issuing: String,
}

impl KeyPair {
    /// Whether the authority was made of these keys.
    fn is_of(&self, record: &AuthorityRecord) -> bool {
        record.issuing_key.as_ref() == Some(&self.issuing)
    }
}

/// Where the keys are kept.
#[derive(Debug)]
pub(crate) enum Custody {
    /// In KMS, each authority's its own.
    Kms { kms: Kms, pairs: Vec<KeyPair> },
    /// The issuing key in a secret of this name; the root's is thrown away.
    SecretsManager { secrets: Secrets, name: String },
}

impl Custody {
    /// Whether it keeps the key of this authority.
    fn keeps(&self, record: &AuthorityRecord) -> bool {
        match self {
            Self::Kms { pairs, .. } => pairs.iter().any(|pair| pair.is_of(record)),
            Self::SecretsManager { .. } => record.issuing_key.is_none(),
        }
    }

    /// The keys in KMS that no authority was made of yet.
    fn unused(&self, known: &[AuthorityRecord]) -> Option<&KeyPair> {
        let is_used = |pair: &&KeyPair| known.iter().any(|record| pair.is_of(record));
        match self {
            Self::Kms { pairs, .. } => pairs.iter().find(|pair| !is_used(pair)),
            Self::SecretsManager { .. } => None,
        }
    }
}

/// Why no authority is made now.
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

/// What a founding works with.
#[derive(Debug)]
pub(crate) struct Founder {
    pub(crate) allowed: AllowedDomains,
    pub(crate) ledger: Ledger,
    pub(crate) published: Published,
    pub(crate) custody: Custody,
}

impl Founder {
    /// Answers the authority there is, or makes it.
    pub(crate) async fn found(&self, item: &AuthorityItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        match self.founded(item, now).await {
            Ok(authority) => Ok(WorkResult::Founded { authority }),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Blocked(block)) => {
                tracing::warn!(%block, "no authority is made");
                Ok(WorkResult::Blocked { block })
            }
        }
    }

    /// Whether there are keys of which no authority was made yet. A secret holds one key: it has to be gone.
    pub(crate) async fn has_keys(&self, known: &[AuthorityRecord]) -> Result<bool, EdgeError> {
        match &self.custody {
            Custody::Kms { .. } => Ok(self.custody.unused(known).is_some()),
            Custody::SecretsManager { secrets, name } => Ok(secrets.get(name).await?.is_none()),
        }
    }

    /// Makes the next authority, beside those that are known. It signs nothing yet.
    pub(crate) async fn prepare(
        &self,
        known: &[AuthorityRecord],
        now: OffsetDateTime,
    ) -> Result<AuthorityRecord, Stop> {
        let record = match &self.custody {
            Custody::Kms { kms, .. } => match self.custody.unused(known) {
                Some(pair) => self.noted(kms, pair, now).await?,
                None => return Err(blocked("every key has its authority".to_owned())),
            },
            Custody::SecretsManager { secrets, name } => self.kept(secrets, name, now).await?,
        };
        self.publish(record, known, now).await
    }

    async fn founded(&self, item: &AuthorityItem, now: OffsetDateTime) -> Result<String, Stop> {
        let known = self.ledger.authorities().await?;
        if known.is_empty() {
            let record = self.prepare(&known, now).await?;
            tracing::info!(authority = record.authority, because = item.because, "authority founded");
            return Ok(record.authority);
        }
        match known.iter().find(|record| self.custody.keeps(record)) {
            Some(ours) => Ok(ours.authority.clone()),
            None => Err(blocked(elsewhere(&known))),
        }
    }

    /// What was noted of these keys; signed and noted now if nothing was.
    async fn noted(&self, kms: &Kms, pair: &KeyPair, now: OffsetDateTime) -> Result<AuthorityRecord, Stop> {
        if let Some(noted) = self.ledger.founded(&pair.issuing).await? {
            return Ok(noted);
        }
        let made = self.signed(kms, &pair.root, &pair.issuing, now).await?;
        Ok(self.ledger.found(&pair.issuing, &made).await?)
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
    /// record comes last, so that having it means that both are there, and since when.
    async fn publish(
        &self,
        made: AuthorityRecord,
        known: &[AuthorityRecord],
        now: OffsetDateTime,
    ) -> Result<AuthorityRecord, Stop> {
        self.published.parameters.publish_trust(&made.authority, &made.root_pem).await?;
        let record = AuthorityRecord { published_at: Some(now), ..made };
        let mut all = known.to_vec();
        all.push(record.clone());
        self.published.publish(&life::bundle(&all, &self.ledger.turns().await?)).await?;
        self.ledger.append_authority(&record).await?;
        Ok(record)
    }

    fn domains(&self) -> Vec<&str> {
        self.allowed.domains().iter().map(HostName::as_str).collect()
    }
}

/// The ones there are have keys that this deployment does not.
fn elsewhere(known: &[AuthorityRecord]) -> String {
    let names: Vec<&str> = known.iter().map(|record| record.authority.as_str()).collect();
    format!(
        "clients trust {}, whose key is kept elsewhere than this deployment says. Set the parameter CustodyOfAuthority back, \
         or have the next authority prepared and activated (docs/certificates.md, a new authority)",
        names.join(", ")
    )
}

fn blocked(because: String) -> Stop {
    Stop::Blocked(Block { code: BlockCode::AuthorityUnusable, because })
}

fn serials() -> Result<[Serial; 2], EdgeError> {
    let entropy = |error: NoEntropy| EdgeError::broken(error.to_string());
    Ok([Serial::random().map_err(entropy)?, Serial::random().map_err(entropy)?])
}

/// A key in KMS that did not do what it was asked.
fn of_key(error: KmsError) -> Stop {
    if error.needs_a_person() { blocked(chain(&error)) } else { Stop::Failed(error.into()) }
}

fn unsigned(error: &AuthorityError) -> Stop {
    let text = chain(error);
    match error {
        AuthorityError::Issue(issue) => match (issue, KmsError::of(issue)) {
            (_, Some(key)) if key.needs_a_person() => blocked(text),
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
