//! The runtime loop of a function.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::{Instrument as _, Span};

use crate::metric::{self, Unit};
use crate::request::Request;
use crate::{EdgeError, Env, trace};

/// A Lambda function.
pub trait Function: Sized + Send + Sync + 'static {
    /// The function's name in logs and metrics: one lower-case word.
    const NAME: &'static str;
    /// What it is asked.
    type Request: Request + Send;
    /// What it answers.
    type Answer: Serialize + Send;

    /// Reads the environment and builds the clients; once per process. An error here is the answer to every
    /// invocation, so that it reaches the caller with its word instead of as a crash.
    fn start(env: &Env) -> impl Future<Output = Result<Self, EdgeError>> + Send;

    /// Answers one request.
    fn handle(
        &self,
        request: Self::Request,
        invocation: &Invocation,
    ) -> impl Future<Output = Result<Self::Answer, EdgeError>> + Send;
}

/// What is known about the invocation beside its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Lambda's request id.
    pub request_id: String,
    /// The ARN by which the function was called.
    pub function_arn: String,
    /// When Lambda ends the invocation.
    pub deadline: OffsetDateTime,
}

impl Invocation {
    /// Reads Lambda's context.
    pub fn of(context: &Context) -> Self {
        let nanos = i128::from(context.deadline) * 1_000_000;
        let deadline = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (request_id, function_arn) = (context.request_id.clone(), context.invoked_function_arn.clone());
        Self { request_id, function_arn, deadline }
    }

    /// How long is left at `now`; nothing when the deadline has passed.
    pub fn remaining(&self, now: OffsetDateTime) -> std::time::Duration {
        (self.deadline - now).try_into().unwrap_or_default()
    }
}

/// Runs the function until Lambda stops asking.
///
/// # Errors
/// When the Lambda runtime API cannot be reached.
pub async fn serve<F: Function>() -> Result<(), lambda_runtime::Error> {
    let env = Env::of_process();
    trace::start(&env);
    let function = Arc::new(F::start(&env).await);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let function = Arc::clone(&function);
        async move { invoke(&function, event).await }
    }))
    .await
}

/// One invocation: answer, log, measure, and tell the trace.
async fn invoke<F: Function>(
    function: &Result<F, EdgeError>,
    event: LambdaEvent<Value>,
) -> Result<F::Answer, EdgeError> {
    let begun = Instant::now();
    let (span, line) = (trace::invocation(F::NAME, &event.context), trace::line());
    // Boxed: the compiler lays futures out to a depth of its own.
    let answer =
        Box::pin(answer(function, event, [&span, &line])).instrument(line.clone()).instrument(span.clone()).await;
    trace::ended(&span, &answer);
    if let Err(error) = &answer {
        let (word, error) = (error.word.as_str(), &error.text);
        line.in_scope(|| tracing::error!(function = F::NAME, word, error, "invocation failed"));
    }
    let failed = if answer.is_err() { 1.0 } else { 0.0 };
    let took_ms = begun.elapsed().as_secs_f64() * 1_000.0;
    metric::emit(
        crate::now(),
        &[("Function", F::NAME)],
        &[("Failed", Unit::Count, failed), ("Duration", Unit::Milliseconds, took_ms)],
    );
    // Its end sends it: whatever that takes, nobody's log waits for it.
    drop(span);
    answer
}

/// Parse, and handle.
async fn answer<F: Function>(
    function: &Result<F, EdgeError>,
    event: LambdaEvent<Value>,
    spans: [&Span; 2],
) -> Result<F::Answer, EdgeError> {
    let function = function.as_ref().map_err(EdgeError::clone)?;
    let request = F::Request::parse(event.payload)?;
    let subject = request.subject();
    spans.into_iter().for_each(|span| trace::about(span, &subject));
    function.handle(request, &Invocation::of(&event.context)).await
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use espalier_domain::failure::Word;
    use espalier_domain::work::Pass;
    use lambda_runtime::tracing::subscriber::layer::SubscriberExt as _;
    use lambda_runtime::tracing::subscriber::util::SubscriberInitExt as _;
    use lambda_runtime::tracing::subscriber::{Registry, fmt};

    struct Echo;

    impl Function for Echo {
        const NAME: &'static str = "echo";
        type Request = Pass;
        type Answer = u32;

        async fn start(env: &Env) -> Result<Self, EdgeError> {
            env.required("ECHO").map(|_| Self)
        }

        async fn handle(&self, request: Pass, invocation: &Invocation) -> Result<u32, EdgeError> {
            assert_eq!(invocation.request_id, "r-1");
            tracing::info!("echo");
            if request.wave < 99 { Ok(request.wave) } else { Err(EdgeError::busy("too late")) }
        }
    }

    fn event(payload: Value) -> LambdaEvent<Value> {
        let mut context = Context::default();
        context.request_id = "r-1".into();
        LambdaEvent { payload, context }
    }

    #[tokio::test]
    async fn a_request_is_parsed_handled_and_answered() {
        let _alone = LOGGING.lock().await;
        let pass = serde_json::json!({ "stack": "pay", "epoch": 1, "wave": 7 });
        assert_eq!(invoke::<Echo>(&Ok(Echo), event(pass)).await, Ok(7));
        let error = invoke::<Echo>(&Ok(Echo), event(serde_json::json!({ "stack": "pay" }))).await.unwrap_err();
        assert_eq!(error.word, Word::Invalid);
    }

    /// What was written, line by line.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What logs does so alone: whether anybody listens to a line is settled, for all threads, when it is first written, and a thread
    /// to whom nobody listens may settle it while another has just begun to.
    static LOGGING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    #[tokio::test]
    async fn every_line_of_the_log_says_what_it_is_about() {
        let _alone = LOGGING.lock().await;
        let written = Written::default();
        let (log, into) = (fmt::layer().json(), written.clone());
        let _guard = Registry::default().with(log.with_writer(move || into.clone())).set_default();
        let pass = serde_json::json!({ "stack": "pay", "epoch": 4, "wave": 7 });
        assert_eq!(invoke::<Echo>(&Ok(Echo), event(pass)).await, Ok(7));
        let pass = serde_json::json!({ "stack": "pay", "epoch": 4, "wave": 99 });
        invoke::<Echo>(&Ok(Echo), event(pass)).await.unwrap_err();
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = lines.iter().map(|line| (&line["fields"]["message"], &line["span"])).collect();
        let about = |wave: u32| serde_json::json!({"name": "request", "kind": "pass", "stack": "pay", "epoch": 4, "wave": wave});
        let (echo, failed) = (Value::from("echo"), Value::from("invocation failed"));
        assert_eq!(told, [(&echo, &about(7)), (&echo, &about(99)), (&failed, &about(99))]);
    }

    #[tokio::test]
    async fn a_failed_start_is_an_answer_not_a_crash() {
        let _alone = LOGGING.lock().await;
        let function = Echo::start(&Env::default()).await;
        let error = invoke(&function, event(Value::Null)).await.unwrap_err();
        assert_eq!(error, EdgeError::invalid("the environment variable ECHO is not set"));
    }

    #[test]
    fn the_deadline_is_lambdas() {
        let mut context = Context::default();
        context.deadline = 1_795_000_000_250;
        let invocation = Invocation::of(&context);
        let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap();
        assert_eq!(invocation.remaining(now).as_millis(), 250);
        assert_eq!(invocation.remaining(now + time::Duration::seconds(1)).as_millis(), 0);
    }
}
