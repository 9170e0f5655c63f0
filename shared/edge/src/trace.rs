//! Traces: what an invocation spent its time on, as OpenTelemetry spans under the trace that Lambda hands over, sent to
//! the X-Ray daemon that Lambda runs beside the function.
//!
//! A crate says what takes time by a `tracing` span at the level `TRACE`, and names no library for it: the log does not
//! show spans of that level, and where tracing is off nobody listens. What the log shows is [`line`]. One invocation becomes one document, sent when it is over
//! and before it is answered, so that nothing is lost when Lambda freezes the process (docs/decisions/0026-traces.md).

mod daemon;
mod document;
mod keep;

use lambda_runtime::Context;
use lambda_runtime::tracing::subscriber::filter::{EnvFilter, LevelFilter, filter_fn};
use lambda_runtime::tracing::subscriber::layer::{Layer as _, SubscriberExt as _};
use lambda_runtime::tracing::subscriber::util::SubscriberInitExt as _;
use lambda_runtime::tracing::subscriber::{Registry, fmt};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TracerProvider as _};
use opentelemetry_aws::trace::xray_propagator::span_context_from_str;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing::field::Empty;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};

use crate::request::Subject;
use crate::{EdgeError, Env};
use daemon::Daemon;
use keep::Keep;

/// Whether to trace: the template's parameter.
const SWITCH: &str = "ESPALIER_TRACING";
/// The log's own span is none of a trace's.
const LINE: &str = "log";
/// Where Lambda's X-Ray daemon listens.
const DAEMON: &str = "AWS_XRAY_DAEMON_ADDRESS";

/// Starts the log and, if it is switched on, tracing. Off means that nothing of it is made.
pub(crate) fn start(env: &Env) {
    let Some(daemon) = daemon(env) else { return lambda_runtime::tracing::init_default_subscriber() };
    let provider = provider(daemon);
    let spans = layer(provider.tracer("espalier")).with_filter(filter_fn(is_traced));
    // As Lambda's own, which cannot be had as a layer.
    let level = env.optional("AWS_LAMBDA_LOG_LEVEL").or_else(|| env.optional("RUST_LOG")).unwrap_or("INFO");
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let log = fmt::layer().with_target(false).without_time();
    if env.optional("AWS_LAMBDA_LOG_FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("json")) {
        Registry::default().with(spans).with(log.json().with_filter(filter)).init();
    } else {
        Registry::default().with(spans).with(log.with_filter(filter)).init();
    }
}

/// The daemon to send to, if tracing is on.
fn daemon(env: &Env) -> Option<Daemon> {
    if env.optional(SWITCH) != Some("true") {
        return None;
    }
    Daemon::at(env.optional(DAEMON)?.parse().ok()?)
}

/// Records what is below a sampled span of somebody else's, and never begins a trace.
fn provider(daemon: Daemon) -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
        // The segments of Lambda's own, above ours, say where this runs.
        .with_resource(Resource::builder_empty().build())
        .with_span_processor(Keep::new(daemon))
        .build()
}

/// Where, on which thread and how busily is nobody's question here.
fn layer<S>(tracer: SdkTracer) -> OpenTelemetryLayer<S, SdkTracer>
where
    S: Subscriber + for<'span> lambda_runtime::tracing::subscriber::registry::LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_tracked_inactivity(false)
        .with_threads(false)
        .with_target(false)
}

/// Our own spans, and the one that the AWS SDK opens around each call. Events stay in the log.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    metadata.is_span() && (target.starts_with("espalier_") || target.starts_with("aws_sdk_"))
}

/// The span of one invocation; none unless Lambda says that it is sampled.
pub(crate) fn invocation(function: &'static str, context: &Context) -> Span {
    let Some(parent) = context.xray_trace_id.as_deref().and_then(sampled) else { return Span::none() };
    let span = tracing::trace_span!(
        "invocation",
        otel.name = function,
        otel.status_code = Empty,
        request = context.request_id,
        kind = Empty,
        stack = Empty,
        epoch = Empty,
        wave = Empty,
        generation = Empty,
        targets = Empty,
        event = Empty,
        word = Empty,
    );
    // It fails where nobody listens.
    let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    span
}

/// What each line of the log says that it is about, traced or not.
pub(crate) fn line() -> Span {
    tracing::info_span!(
        target: LINE,
        "request",
        kind = Empty,
        stack = Empty,
        epoch = Empty,
        wave = Empty,
        generation = Empty,
        targets = Empty,
        event = Empty,
    )
}

/// What a tracing header names, if that is sampled.
fn sampled(header: &str) -> Option<SpanContext> {
    span_context_from_str(header).filter(|parent| parent.is_sampled() && parent.is_valid())
}

/// Writes down what the invocation is about.
pub(crate) fn about(span: &Span, subject: &Subject) {
    span.record("kind", subject.kind);
    if let Some(stack) = &subject.stack {
        span.record("stack", stack.as_str());
    }
    // As signed numbers: unsigned ones would become text.
    let numbers = [("epoch", subject.epoch), ("wave", subject.wave), ("generation", subject.generation)];
    for (name, number) in numbers {
        span.record(name, number.map(i64::from));
    }
    if !subject.targets.is_empty() {
        span.record("targets", subject.targets.join(" "));
    }
    span.record("event", subject.event.as_deref());
}

/// Writes down how the invocation ended. The error's text stays in the log.
pub(crate) fn ended<T>(span: &Span, answer: &Result<T, EdgeError>) {
    if let Err(error) = answer {
        span.record("word", error.word.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

#[cfg(test)]
mod tests;
