//! `verify`: dials targets and reports what they serve. It calls no AWS API and needs nothing from its environment.

use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation, serve};

struct Verify;

impl Function for Verify {
    const NAME: &'static str = "verify";
    type Request = WorkItem;
    type Answer = WorkResult;

    async fn start(_env: &Env) -> Result<Self, EdgeError> {
        Ok(Self)
    }

    async fn handle(&self, request: WorkItem, _invocation: &Invocation) -> Result<WorkResult, EdgeError> {
        match request {
            WorkItem::Verify(item) => Ok(espalier_probe::probe(&item, espalier_edge::now).await?),
            WorkItem::Authority(_)
            | WorkItem::Mint(_)
            | WorkItem::Export(_)
            | WorkItem::Deliver(_)
            | WorkItem::Membership(_) => {
                Err(EdgeError::invalid("work item, field `kind`: this function takes only `verify`"))
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Verify>().await
}
