//! `distribute`: sends our own document to the listed targets, once per attempt.
//!
//! It sees names and fingerprints, never a private key. The attempt is in the ledger *before* the command is sent,
//! for `SendCommand` is not idempotent.

mod deliver;

use espalier_aws::command::Commands;
use espalier_aws::ledger::Ledger;
use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation, serve};

use deliver::{Delivery, Document};

struct Distribute(Delivery);

impl Function for Distribute {
    const NAME: &'static str = "distribute";
    type Request = WorkItem;
    type Answer = WorkResult;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let document = Document {
            name: env.required("ESPALIER_INSTALLER_DOCUMENT")?.to_owned(),
            version: env.optional("ESPALIER_INSTALLER_VERSION").map(str::to_owned),
        };
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let sdk = espalier_aws::sdk().await;
        Ok(Self(Delivery { ledger: Ledger::new(&sdk, table), commands: Commands::new(&sdk), document }))
    }

    async fn handle(&self, request: WorkItem, _: &Invocation) -> Result<WorkResult, EdgeError> {
        match request {
            WorkItem::Deliver(item) => self.0.deliver(&item, espalier_edge::now()).await,
            WorkItem::Authority(_)
            | WorkItem::Mint(_)
            | WorkItem::Export(_)
            | WorkItem::Verify(_)
            | WorkItem::Membership(_) => Err(EdgeError::invalid("distribute takes `deliver` items only")),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Distribute>().await
}
