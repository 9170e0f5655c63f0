//! `mint`: makes one generation of a leaf and stores it sealed; the only function that uses the authority's key.
//!
//! It reaches no target, and it can write leaves but not read them back.

mod authority;
mod leaf;

use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::parameters::leaves::Leaves;
use espalier_aws::secrets::Secrets;
use espalier_aws::specs::Specs;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation, serve};

use authority::Authorities;
use leaf::Minter;

struct Mint(Minter);

impl Function for Mint {
    const NAME: &'static str = "mint";
    type Request = WorkItem;
    type Answer = WorkResult;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let leaf_key = env.required("ESPALIER_LEAF_KEY_ID")?.to_owned();
        let secret = env.required("ESPALIER_AUTHORITY_SECRET")?.to_owned();
        let sdk = espalier_aws::sdk().await;
        let ledger = Ledger::new(&sdk, table);
        let parameters = Parameters::new(&sdk);
        let authorities =
            Authorities { secrets: Secrets::new(&sdk), secret, ledger: ledger.clone(), parameters: parameters.clone() };
        let leaves = Leaves { ledger, parameters, key_id: leaf_key };
        Ok(Self(Minter { specs: Specs::new(&sdk), allowed, authorities, leaves }))
    }

    async fn handle(&self, request: WorkItem, _: &Invocation) -> Result<WorkResult, EdgeError> {
        match request {
            WorkItem::Mint(item) => self.0.mint(&item, espalier_edge::now()).await,
            WorkItem::Export(_) | WorkItem::Deliver(_) | WorkItem::Verify(_) | WorkItem::Membership(_) => {
                Err(EdgeError::invalid("mint takes `mint` items only"))
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Mint>().await
}
