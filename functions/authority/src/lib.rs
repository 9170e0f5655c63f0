//! `authority`: makes the authorities that leaves are minted from and carries each through its life; the only function that
//! uses a root's key.
//!
//! It signs two certificates for each and no leaf, reaches no target, and reads no spec.

mod asked;
mod founding;
mod life;
mod published;

use espalier_aws::SdkConfig;
use espalier_aws::kms::Kms;
use espalier_aws::ledger::Ledger;
use espalier_aws::parameters::Parameters;
use espalier_aws::secrets::Secrets;
use espalier_aws_s3::object::{Object, ObjectName};
use espalier_domain::authority::Rules;
use espalier_domain::id::{NotAnId, VerifierName};
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{WorkItem, WorkResult};
use espalier_edge::{EdgeError, Env, Function, Invocation};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

pub use asked::Asked;
use founding::{Custody, Founder, KeyPair};
use life::Life;
pub use life::Told;
use published::Published;

/// The function with its clients.
#[derive(Debug)]
pub struct Authority(Life);

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To the state machine.
    Work(WorkResult),
    /// To the schedule and to a person.
    Told(Box<Told>),
}

impl Function for Authority {
    const NAME: &'static str = "authority";
    type Request = Asked;
    type Answer = Answer;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let hours: u32 = env.parsed("ESPALIER_TRUST_WAIT_HOURS", str::parse)?;
        let verifiers = verifiers(env.optional("ESPALIER_TRUST_VERIFIERS"));
        let verifiers = verifiers.map_err(|error| wrong("ESPALIER_TRUST_VERIFIERS", &error))?;
        let rules = Rules { verifiers, wait: Duration::hours(i64::from(hours)) };
        let pairs = [
            (env.optional("ESPALIER_ROOT_KEY_ARN"), env.optional("ESPALIER_ISSUING_KEY_ARN")),
            (env.optional("ESPALIER_SECOND_ROOT_KEY_ARN"), env.optional("ESPALIER_SECOND_ISSUING_KEY_ARN")),
        ];
        let is_half = pairs.iter().any(|(root, issuing)| root.is_some() != issuing.is_some());
        let pairs: Vec<(&str, &str)> = pairs.into_iter().filter_map(|(root, issuing)| root.zip(issuing)).collect();
        let keeps = match (pairs.is_empty(), env.optional("ESPALIER_AUTHORITY_SECRET")) {
            (false, None) if !is_half => Keeps::Keys(&pairs),
            (true, Some(secret)) if !is_half => Keeps::Secret(secret),
            (true | false, Some(_) | None) => {
                let text = "either ESPALIER_ROOT_KEY_ARN with ESPALIER_ISSUING_KEY_ARN, the same of the second keys, or both, \
                            or ESPALIER_AUTHORITY_SECRET say where the keys are kept, and not both";
                return Err(EdgeError::invalid(text));
            }
        };
        let copy = env.optional("ESPALIER_TRUST_OBJECT").map(ObjectName::parse).transpose();
        let copy = copy.map_err(|error| wrong("ESPALIER_TRUST_OBJECT", &error))?;
        Ok(Self::new(&espalier_aws::sdk().await, allowed, table, keeps, rules, copy))
    }

    async fn handle(&self, request: Asked, invocation: &Invocation) -> Result<Answer, EdgeError> {
        self.answer(request, invocation, espalier_edge::now()).await
    }
}

fn wrong(variable: &str, error: &dyn std::error::Error) -> EdgeError {
    EdgeError::invalid(format!("the environment variable {variable} is wrong: {error}"))
}

/// The names, separated by commas.
fn verifiers(names: Option<&str>) -> Result<Vec<VerifierName>, NotAnId> {
    names.into_iter().flat_map(|names| names.split(',')).map(VerifierName::parse).collect()
}

/// Where the keys are kept.
#[derive(Debug, Clone, Copy)]
pub enum Keeps<'a> {
    /// In AWS KMS, under these ARNs: the root's and the one that signs leaves, one pair for each authority.
    Keys(&'a [(&'a str, &'a str)]),
    /// The issuing key in Secrets Manager, in the secret of this name; the root's is thrown away.
    Secret(&'a str),
}

impl Authority {
    /// Builds the clients; `table` is the ledger's, `copy` where the bundle is put beside its parameter.
    pub fn new(
        sdk: &SdkConfig,
        allowed: AllowedDomains,
        table: &str,
        keeps: Keeps<'_>,
        rules: Rules,
        copy: Option<ObjectName>,
    ) -> Self {
        let pair =
            |(root, issuing): &(&str, &str)| KeyPair { root: (*root).to_owned(), issuing: (*issuing).to_owned() };
        let custody = match keeps {
            Keeps::Keys(pairs) => Custody::Kms { kms: Kms::new(sdk), pairs: pairs.iter().map(pair).collect() },
            Keeps::Secret(name) => Custody::SecretsManager { secrets: Secrets::new(sdk), name: name.to_owned() },
        };
        let copy = copy.map(|name| Object::new(sdk, name));
        let (ledger, published) = (Ledger::new(sdk, table), Published { parameters: Parameters::new(sdk), copy });
        Self(Life { founder: Founder { allowed, ledger, published, custody }, rules })
    }

    /// Answers a request.
    ///
    /// # Errors
    /// `Invalid` for a work item that is not for this function; else the word of what failed.
    pub async fn answer(
        &self,
        request: Asked,
        invocation: &Invocation,
        now: OffsetDateTime,
    ) -> Result<Answer, EdgeError> {
        // Boxed: the compiler lays futures out to a depth of its own.
        let told = match request {
            Asked::Look => Box::pin(self.0.apply(now)).await?,
            Asked::Status => Box::pin(self.0.status(now)).await?,
            Asked::Said { word, caller } => Box::pin(self.0.said(&word, &caller, invocation, now)).await?,
            Asked::Work(WorkItem::Authority(item)) => {
                return Box::pin(self.0.founder.found(&item, now)).await.map(Answer::Work);
            }
            Asked::Work(
                WorkItem::Mint(_)
                | WorkItem::Export(_)
                | WorkItem::Deliver(_)
                | WorkItem::Verify(_)
                | WorkItem::Membership(_),
            ) => return Err(EdgeError::invalid("authority takes `authority` items only")),
        };
        Ok(Answer::Told(Box::new(told)))
    }
}
