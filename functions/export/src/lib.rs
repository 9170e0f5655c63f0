//! `export`: takes one generation out of ACM and stores it sealed; the only function that may call `ExportCertificate`.
//!
//! It reaches no target, signs nothing, and can write leaves but not read them back.

mod leaf;

use espalier_aws::SdkConfig;
use espalier_aws::acm::{Certificates, Elsewhere, Role};
use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::parameters::leaves::Leaves;
use espalier_aws::specs::Specs;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation};

use leaf::Exporter;
use time::OffsetDateTime;

/// The function with its clients.
#[derive(Debug)]
pub struct Export(Exporter);

impl Function for Export {
    const NAME: &'static str = "export";
    type Request = WorkItem;
    type Answer = WorkResult;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let key_id = env.required("ESPALIER_LEAF_KEY_ID")?;
        let elsewhere = Elsewhere::parse(
            env.optional("ESPALIER_CERTIFICATE_ACCOUNTS"),
            env.optional("ESPALIER_CERTIFICATE_EXTERNAL_ID"),
            env.required("ESPALIER_SESSION_NAME")?,
            Role::Exporter,
        )?;
        Ok(Self::new(&espalier_aws::sdk().await, allowed, table, key_id, elsewhere))
    }

    async fn handle(&self, request: WorkItem, _: &Invocation) -> Result<WorkResult, EdgeError> {
        self.answer(request, espalier_edge::now()).await
    }
}

impl Export {
    /// Builds the clients; `table` is the ledger's, `key_id` seals leaves, `elsewhere` are the other accounts.
    pub fn new(
        sdk: &SdkConfig,
        allowed: AllowedDomains,
        table: &str,
        key_id: &str,
        elsewhere: Option<Elsewhere>,
    ) -> Self {
        let leaves =
            Leaves { ledger: Ledger::new(sdk, table), parameters: Parameters::new(sdk), key_id: key_id.to_owned() };
        let certificates = Certificates::new(sdk).and_elsewhere(sdk, elsewhere);
        Self(Exporter { specs: Specs::new(sdk), allowed, certificates, leaves })
    }

    /// Answers a work item.
    ///
    /// # Errors
    /// `Invalid` for an item that is not for this function; else the word of what failed.
    pub async fn answer(&self, request: WorkItem, now: OffsetDateTime) -> Result<WorkResult, EdgeError> {
        match request {
            // Boxed: the compiler lays futures out to a depth of its own.
            WorkItem::Export(item) => Box::pin(self.0.export(&item, now)).await,
            WorkItem::Authority(_)
            | WorkItem::Mint(_)
            | WorkItem::Deliver(_)
            | WorkItem::Verify(_)
            | WorkItem::Membership(_) => Err(EdgeError::invalid("export takes `export` items only")),
        }
    }
}
