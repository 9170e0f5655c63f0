//! `fleet`: the fleet as a CloudWatch custom dashboard widget, for people who look at dashboards already.
//!
//! It looks at each stack as `rotate` does, with its hands tied, and tells in HTML what it found. Its role can only read:
//! whoever may call it may look, and no more.

mod page;
mod question;
#[cfg(test)]
mod tests;

use espalier_aws::acm::Certificates;
use espalier_aws::evidence::{Hands, Look, Sources};
use espalier_domain::failure::chain;
use espalier_domain::id::StackName;
use espalier_domain::rotation::plan::plan;
use espalier_domain::rotation::slack::Assumed;
use espalier_domain::rotation::status::status;
use espalier_domain::spec::AllowedDomains;
use espalier_edge::{EdgeError, Env, Function, Invocation, serve};
use futures::StreamExt as _;
use time::OffsetDateTime;

use page::{Known, Stack, View};
use question::{Question, Subject};

/// Stacks that are looked at together: rotations have the first claim to what AWS answers in a second.
const AT_ONCE: usize = 4;

struct Fleet(Sources);

impl Function for Fleet {
    const NAME: &'static str = "fleet";
    type Request = Question;
    /// HTML; Markdown when asked what this is.
    type Answer = String;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        // Its role reaches into no other account.
        let asks_acm = env.optional("ESPALIER_CERTIFICATE_ACCOUNTS").is_none();
        let sdk = espalier_aws::sdk().await;
        Ok(Self(Sources { asks_acm, ..Sources::new(&sdk, table, allowed, Certificates::new(&sdk)) }))
    }

    async fn handle(&self, question: Question, invocation: &Invocation) -> Result<String, EdgeError> {
        let now = espalier_edge::now();
        let view = View { now, theme: question.theme, endpoint: &invocation.function_arn };
        match question.about {
            Subject::Itself => Ok(page::DESCRIPTION.to_owned()),
            Subject::Stack(name) => Ok(page::stack(&self.look(name.to_string(), now).await, &view)),
            Subject::Fleet => {
                let names = self.0.specs.all().await?.into_iter().map(|found| found.name);
                let looks = futures::stream::iter(names).map(|name| self.look(name, now));
                let stacks: Vec<Stack> = looks.buffered(AT_ONCE).collect().await;
                Ok(page::fleet(&stacks, &view))
            }
        }
    }
}

impl Fleet {
    /// Where a stack stands. One that cannot be told about hides none of the others.
    async fn look(&self, name: String, now: OffsetDateTime) -> Stack {
        let found = match StackName::parse(&name) {
            Ok(stack) => self.known(&stack, now).await,
            Err(error) => Err(format!("this is no stack's name: {error}")),
        };
        Stack { name, found }
    }

    async fn known(&self, stack: &StackName, now: OffsetDateTime) -> Result<Known, String> {
        let look = self.0.look(stack, None, Hands::Tied, now).await.map_err(|error| {
            tracing::warn!(%stack, error = chain(&error), "the stack was not looked at");
            chain(&error)
        })?;
        Ok(match look {
            Look::Evidence(evidence, _) => {
                Known { blocks: plan(&evidence).blocks, status: Some(status(&evidence, &Assumed::default())) }
            }
            Look::Nothing => Known { blocks: Vec::new(), status: None },
            Look::Blocked(block) => Known { blocks: vec![block], status: None },
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Fleet>().await
}
