//! `authority`: makes the authority that leaves are minted from, once; the only function that uses the root's key.
//!
//! It signs two certificates in its life and no leaf, reaches no target, and reads no spec.

mod founding;

use espalier_aws::SdkConfig;
use espalier_aws::kms::Kms;
use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::secrets::Secrets;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation};
use time::OffsetDateTime;

use founding::{Custody, Founder};

/// The function with its clients.
#[derive(Debug)]
pub struct Authority(Founder);

impl Function for Authority {
    const NAME: &'static str = "authority";
    type Request = WorkItem;
    type Answer = WorkResult;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let (root, issuing) = (env.optional("ESPALIER_ROOT_KEY_ARN"), env.optional("ESPALIER_ISSUING_KEY_ARN"));
        let keeps = match (root, issuing, env.optional("ESPALIER_AUTHORITY_SECRET")) {
            (Some(root), Some(issuing), None) => Keeps::Keys { root, issuing },
            (None, None, Some(secret)) => Keeps::Secret(secret),
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                let text = "either ESPALIER_ROOT_KEY_ARN and ESPALIER_ISSUING_KEY_ARN or ESPALIER_AUTHORITY_SECRET say \
                            where the keys are kept, and not both";
                return Err(EdgeError::invalid(text));
            }
        };
        Ok(Self::new(&espalier_aws::sdk().await, allowed, table, keeps))
    }

    async fn handle(&self, request: WorkItem, _: &Invocation) -> Result<WorkResult, EdgeError> {
        self.answer(request, espalier_edge::now()).await
    }
}

/// Where the keys are kept.
#[derive(Debug, Clone, Copy)]
pub enum Keeps<'a> {
    /// In AWS KMS, under these ARNs.
    Keys {
        /// The root's.
        root: &'a str,
        /// The one that signs leaves.
        issuing: &'a str,
    },
    /// The issuing key in Secrets Manager, in the secret of this name; the root's is thrown away.
    Secret(&'a str),
}

impl Authority {
    /// Builds the clients; `table` is the ledger's.
    pub fn new(sdk: &SdkConfig, allowed: AllowedDomains, table: &str, keeps: Keeps<'_>) -> Self {
        let custody = match keeps {
            Keeps::Keys { root, issuing } => {
                Custody::Kms { kms: Kms::new(sdk), root: root.to_owned(), issuing: issuing.to_owned() }
            }
            Keeps::Secret(name) => Custody::SecretsManager { secrets: Secrets::new(sdk), name: name.to_owned() },
        };
        Self(Founder { allowed, ledger: Ledger::new(sdk, table), parameters: Parameters::new(sdk), custody })
    }

    /// Answers a work item.
    ///
    /// # Errors
    /// `Invalid` for an item that is not for this function; else the word of what failed.
    pub async fn answer(&self, request: WorkItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        match request {
            // Boxed: the compiler lays futures out to a depth of its own.
            WorkItem::Authority(item) => Box::pin(self.0.found(&item, now)).await,
            WorkItem::Mint(_)
            | WorkItem::Export(_)
            | WorkItem::Deliver(_)
            | WorkItem::Verify(_)
            | WorkItem::Membership(_) => Err(EdgeError::invalid("authority takes `authority` items only")),
        }
    }
}
