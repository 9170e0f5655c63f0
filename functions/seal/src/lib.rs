//! `seal`: seals what the ledger remembers into chains of segments, in a bucket that lets nothing go; the only function that
//! uses the sealing key.
//!
//! It reads the ledger and writes nowhere but to the bucket, where nothing is overwritten. What a segment holds, and which
//! follows which, is `espalier_domain::inventory`'s to say.

mod asked;
mod chains;

use espalier_aws::SdkConfig;
use espalier_aws::ledger::Ledger;
use espalier_aws::sealing::SealingKey;
use espalier_aws::specs::Specs;
use espalier_aws_s3::Bucket;
use espalier_edge::{EdgeError, Env, Function, Invocation};
use time::OffsetDateTime;

pub use asked::Asked;
use chains::Chains;
pub use chains::Told;

/// The function with its clients.
#[derive(Debug)]
pub struct Seal(Chains);

impl Function for Seal {
    const NAME: &'static str = "seal";
    type Request = Asked;
    type Answer = Told;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let bucket = env.required("ESPALIER_EVIDENCE_BUCKET")?;
        let key = env.required("ESPALIER_SEALING_KEY_ARN")?;
        Ok(Self::new(&espalier_aws::sdk().await, table, bucket, key))
    }

    async fn handle(&self, request: Asked, _: &Invocation) -> Result<Told, EdgeError> {
        self.answer(request, espalier_edge::now()).await
    }
}

impl Seal {
    /// Builds the clients; `table` is the ledger's.
    pub fn new(sdk: &SdkConfig, table: &str, bucket: &str, key: &str) -> Self {
        let (ledger, specs) = (Ledger::new(sdk, table), Specs::new(sdk));
        Self(Chains { ledger, specs, bucket: Bucket::new(sdk, bucket), key: SealingKey::new(sdk, key) })
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The word of what failed, after everything else was sealed.
    pub async fn answer(&self, request: Asked, now: OffsetDateTime) -> Result<Told, EdgeError> {
        Box::pin(self.0.answer(request, now)).await
    }
}
