//! `export`: takes one generation out of ACM and stores it sealed; the only function that may call `ExportCertificate`.
//!
//! It reaches no target, signs nothing, and can write leaves but not read them back.

mod leaf;

use espalier_aws::acm::Certificates;
use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::parameters::leaves::Leaves;
use espalier_aws::specs::Specs;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation, serve};

use leaf::Exporter;

struct Export(Exporter);

impl Function for Export {
    const NAME: &'static str = "export";
    type Request = WorkItem;
    type Answer = WorkResult;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let key_id = env.required("ESPALIER_LEAF_KEY_ID")?.to_owned();
        let sdk = espalier_aws::sdk().await;
        let leaves = Leaves { ledger: Ledger::new(&sdk, table), parameters: Parameters::new(&sdk), key_id };
        Ok(Self(Exporter { specs: Specs::new(&sdk), allowed, certificates: Certificates::new(&sdk), leaves }))
    }

    async fn handle(&self, request: WorkItem, _: &Invocation) -> Result<WorkResult, EdgeError> {
        match request {
            WorkItem::Export(item) => self.0.export(&item, espalier_edge::now()).await,
            WorkItem::Mint(_) | WorkItem::Deliver(_) | WorkItem::Verify(_) | WorkItem::Membership(_) => {
                Err(EdgeError::invalid("export takes `export` items only"))
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Export>().await
}
