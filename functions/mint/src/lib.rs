//! `mint`: makes one generation of a leaf, or leaves of targets' own, and stores them sealed; the only function that uses the
//! authority's issuing key.
//!
//! It makes no authority (that is `authority`'s), reaches no target, and can write leaves but not read them back. Where keys are made
//! on the targets it certifies those, and none other, that hosts asked for in answer to a command which the ledger knows.

mod authority;
mod leaf;
mod request;
mod signing;

use espalier_aws::SdkConfig;
use espalier_aws::command::Commands;
use espalier_aws::inventory::Inventory;
use espalier_aws::kms::Kms;
use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::parameters::leaves::Leaves;
use espalier_aws::secrets::Secrets;
use espalier_aws::specs::Specs;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation};
use time::OffsetDateTime;

use authority::{Authorities, Custody};
use leaf::Minter;
use request::Requests;

/// The function with its clients.
#[derive(Debug)]
pub struct Mint(Minter);

impl Function for Mint {
    const NAME: &'static str = "mint";
    type Request = WorkItem;
    type Answer = WorkResult;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let leaf_key = env.required("ESPALIER_LEAF_KEY_ID")?;
        let (first, second) =
            (env.optional("ESPALIER_ISSUING_KEY_ARN"), env.optional("ESPALIER_SECOND_ISSUING_KEY_ARN"));
        let keys: Vec<&str> = first.into_iter().chain(second).collect();
        let keeps = match (keys.is_empty(), env.optional("ESPALIER_AUTHORITY_SECRET")) {
            (false, None) => Keeps::Keys(&keys),
            (true, Some(secret)) => Keeps::Secret(secret),
            (false, Some(_)) | (true, None) => {
                let text = "either ESPALIER_ISSUING_KEY_ARN, ESPALIER_SECOND_ISSUING_KEY_ARN or both, or \
                            ESPALIER_AUTHORITY_SECRET say where the issuing keys are kept, and not both";
                return Err(EdgeError::invalid(text));
            }
        };
        Ok(Self::new(&espalier_aws::sdk().await, allowed, table, leaf_key, keeps))
    }

    async fn handle(&self, request: WorkItem, _: &Invocation) -> Result<WorkResult, EdgeError> {
        self.answer(request, espalier_edge::now()).await
    }
}

/// Where the issuing key is kept.
#[derive(Debug, Clone, Copy)]
pub enum Keeps<'a> {
    /// In AWS KMS, under these ARNs: each authority has one of its own.
    Keys(&'a [&'a str]),
    /// In Secrets Manager, in the secret of this name.
    Secret(&'a str),
}

impl Mint {
    /// Builds the clients; `table` is the ledger's, `leaf_key` seals leaves.
    pub fn new(sdk: &SdkConfig, allowed: AllowedDomains, table: &str, leaf_key: &str, keeps: Keeps<'_>) -> Self {
        let ledger = Ledger::new(sdk, table);
        let custody = match keeps {
            Keeps::Keys(keys) => {
                Custody::Kms { kms: Kms::new(sdk), keys: keys.iter().map(|key| (*key).to_owned()).collect() }
            }
            Keeps::Secret(name) => Custody::SecretsManager { secrets: Secrets::new(sdk), name: name.to_owned() },
        };
        let authorities = Authorities { ledger: ledger.clone(), custody };
        let requests =
            Requests { ledger: ledger.clone(), commands: Commands::new(sdk), inventory: Inventory::new(sdk) };
        let leaves = Leaves { ledger, parameters: Parameters::new(sdk), key_id: leaf_key.to_owned() };
        Self(Minter { specs: Specs::new(sdk), allowed, authorities, leaves, requests })
    }

    /// Answers a work item.
    ///
    /// # Errors
    /// `Invalid` for an item that is not for this function; else the word of what failed.
    pub async fn answer(&self, request: WorkItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        match request {
            // Boxed: the compiler lays futures out to a depth of its own.
            WorkItem::Mint(item) => Box::pin(self.0.mint(&item, now)).await,
            WorkItem::Authority(_)
            | WorkItem::Export(_)
            | WorkItem::Deliver(_)
            | WorkItem::Verify(_)
            | WorkItem::Membership(_) => Err(EdgeError::invalid("mint takes `mint` items only")),
        }
    }
}
