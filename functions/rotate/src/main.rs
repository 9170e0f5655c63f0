//! `rotate`: looks at a stack's certificates, says what can be done now, and keeps the ledger's facts.
//!
//! It is asked in two ways. A hint (an event, a schedule, a person) makes it look and, if there is anything to do,
//! start the state machine under a claimed epoch. The state machine then asks it pass by pass, hands out the work it
//! names and brings the results back. It uses no key and reaches no target.

mod answer;
mod concern;
mod emergency;
mod forecast;
mod heard;
mod hint;
mod pass;
mod start;
mod unused;
mod watch;

use espalier_aws::acm::{Certificates, Elsewhere, Role};
use espalier_aws::evidence::Sources;
use espalier_aws::states::StateMachine;
use espalier_domain::spec::AllowedDomains;
use espalier_edge::{EdgeError, Env, Function, Invocation, Trigger, serve};

use forecast::Answer;

struct Rotate {
    sources: Sources,
    machine: StateMachine,
}

impl Function for Rotate {
    const NAME: &'static str = "rotate";
    type Request = Trigger;
    type Answer = Answer;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let machine = env.required("ESPALIER_STATE_MACHINE_ARN")?;
        let elsewhere = Elsewhere::parse(
            env.optional("ESPALIER_CERTIFICATE_ACCOUNTS"),
            env.optional("ESPALIER_CERTIFICATE_EXTERNAL_ID"),
            env.required("ESPALIER_SESSION_NAME")?,
            Role::Reader,
        )?;
        let sdk = espalier_aws::sdk().await;
        let certificates = Certificates::new(&sdk).and_elsewhere(&sdk, elsewhere);
        let sources = Sources::new(&sdk, table, allowed, certificates);
        Ok(Self { sources, machine: StateMachine::new(&sdk, machine) })
    }

    async fn handle(&self, request: Trigger, invocation: &Invocation) -> Result<Answer, EdgeError> {
        let now = espalier_edge::now();
        match request {
            Trigger::Pass(pass) => pass::handle(&self.sources, &pass, now).await.map(Answer::from),
            Trigger::Hint(hint) => hint::handle(&self.sources, &self.machine, &hint, now).await.map(Answer::from),
            Trigger::Direct(direct) => hint::direct(&self.sources, &self.machine, direct, invocation, now).await,
            Trigger::Work(_) => Err(EdgeError::invalid("rotate hands work out and takes none")),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    serve::<Rotate>().await
}
