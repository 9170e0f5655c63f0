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
    let span = trace::invocation(F::NAME, &event.context);
    // Boxed: the compiler lays futures out to a depth of its own.
    let answer = Box::pin(answer(function, event, &span)).instrument(span.clone()).await;
    trace::ended(&span, &answer);
    if let Err(error) = &answer {
        tracing::error!(function = F::NAME, word = error.word.as_str(), error = error.text, "invocation failed");
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
    span: &Span,
) -> Result<F::Answer, EdgeError> {
    let function = function.as_ref().map_err(EdgeError::clone)?;
    let request = F::Request::parse(event.payload)?;
    if !span.is_none() {
        trace::about(span, &request.subject());
    }
    function.handle(request, &Invocation::of(&event.context)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use espalier_domain::failure::Word;
    use espalier_domain::work::Pass;

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
            Ok(request.wave)
        }
    }

    fn event(payload: Value) -> LambdaEvent<Value> {
        let mut context = Context::default();
        context.request_id = "r-1".into();
        LambdaEvent { payload, context }
    }

    #[tokio::test]
    async fn a_request_is_parsed_handled_and_answered() {
        let pass = serde_json::json!({ "stack": "pay", "epoch": 1, "wave": 7 });
        assert_eq!(invoke::<Echo>(&Ok(Echo), event(pass)).await, Ok(7));
        let error = invoke::<Echo>(&Ok(Echo), event(serde_json::json!({ "stack": "pay" }))).await.unwrap_err();
        assert_eq!(error.word, Word::Invalid);
    }

    #[tokio::test]
    async fn a_failed_start_is_an_answer_not_a_crash() {
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
