//! The authority: made by the first mint, read by every other, published before it signs anything.

use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::secrets::{Created, Secrets};
use espalier_domain::failure::chain;
use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_edge::EdgeError;
use espalier_pki::authority::{Authority, AuthorityError};
use espalier_pki::profile::Serial;
use time::OffsetDateTime;

const DESCRIPTION: &str = "Espalier: the issuing key and certificates of the private authority for service targets.";

/// Where the authority is kept and made known.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) secrets: Secrets,
    /// The secret's name.
    pub(crate) secret: String,
    pub(crate) ledger: Ledger,
    pub(crate) parameters: Parameters,
}

impl Authorities {
    /// The authority that signs now. When there is none it is made, once, however many ask at the same time.
    pub(crate) async fn issuing(&self, allowed: &AllowedDomains, now: OffsetDateTime) -> Result<Authority, EdgeError> {
        let authority = match self.stored().await? {
            Some(authority) => authority,
            None => self.create(allowed, now).await?,
        };
        self.publish(&authority).await?;
        Ok(authority)
    }

    async fn stored(&self) -> Result<Option<Authority>, EdgeError> {
        let Some(secret) = self.secrets.get(&self.secret).await? else { return Ok(None) };
        Authority::from_secret(&secret).map(Some).map_err(|error| broken(&error))
    }

    async fn create(&self, allowed: &AllowedDomains, now: OffsetDateTime) -> Result<Authority, EdgeError> {
        let domains: Vec<&str> = allowed.domains().iter().map(HostName::as_str).collect();
        let entropy = |_| EdgeError::broken("the random number generator failed");
        let serials = [Serial::random().map_err(entropy)?, Serial::random().map_err(entropy)?];
        let authority =
            Authority::ceremony(KeyType::EcPrime256v1, &domains, now, serials).await.map_err(|error| broken(&error))?;
        match self.secrets.create(&self.secret, &authority.to_secret(), DESCRIPTION).await? {
            Created::Ours => {
                tracing::info!(authority = authority.id(), "authority created");
                Ok(authority)
            }
            // Another mint was faster: ours was never used and is dropped here.
            Created::Taken => self
                .stored()
                .await?
                .ok_or_else(|| EdgeError::conflict("the authority's secret is taken but cannot be read yet")),
        }
    }

    /// Trust before leaf: the root is where clients and probers find it before anything below it exists. The ledger's
    /// record comes last, so that having it means that both are there.
    async fn publish(&self, authority: &Authority) -> Result<(), EdgeError> {
        let known = self.ledger.authorities().await?;
        if known.iter().any(|record| record.authority == authority.id()) {
            return Ok(());
        }
        self.parameters.publish_trust(authority.id(), &authority.root_pem()).await?;
        self.ledger.append_authority(&authority.record()).await?;
        Ok(())
    }
}

fn broken(error: &AuthorityError) -> EdgeError {
    EdgeError::broken(chain(error))
}
