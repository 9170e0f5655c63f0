//! An invocation's spans as X-Ray reads them: one subsegment of Lambda's segment, with all others inside it
//! (X-Ray developer guide, "AWS X-Ray segment documents").
//!
//! What a span may say is a closed list; whatever else a library records on one of its own goes nowhere.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, Status, TraceId};
use opentelemetry::{KeyValue, Value as Attribute};
use opentelemetry_sdk::trace::SpanData;
use serde_json::{Map, Value, json};

/// What can be searched for: X-Ray indexes 50 annotations of a trace.
const SOUGHT: [&str; 4] = ["stack", "epoch", "generation", "event"];

/// What else is told.
const TOLD: [&str; 9] = ["request", "kind", "wave", "targets", "word", "target", "address", "tls", "faults"];

/// Bytes of a document; X-Ray takes 64 kB, and a trace grows by every document.
const LARGEST: usize = 48_000;

/// Characters of a value; X-Ray takes 250 of most strings.
const LONGEST: usize = 250;

/// The document of an invocation and of what ended within it.
pub(super) fn of(invocation: &SpanData, inner: Vec<SpanData>) -> Value {
    let mut document = told(invocation);
    document.insert("type".into(), json!("subsegment"));
    document.insert("trace_id".into(), json!(trace_id(invocation.span_context.trace_id())));
    document.insert("parent_id".into(), json!(invocation.parent_span_id.to_string()));
    let (mut inside, dropped) = by_parent(invocation, inner);
    if dropped > 0 {
        document.insert("annotations".into(), with(document.get("annotations"), "spans_left_out", json!(dropped)));
    }
    nest(&mut document, invocation.span_context.span_id(), &mut inside);
    Value::Object(document)
}

/// What is inside whom, in the order of their beginnings, as many as a document takes; and how many it does not take.
/// Who is left out began last, so that nobody is left in whose parent is not.
fn by_parent(invocation: &SpanData, mut inner: Vec<SpanData>) -> (BTreeMap<u64, Vec<SpanData>>, usize) {
    let trace = invocation.span_context.trace_id();
    // What was left behind by an invocation that was killed is no part of this one.
    inner.retain(|span| span.span_context.trace_id() == trace && span.start_time >= invocation.start_time);
    // Who began at the same moment and ended later is outside.
    inner.sort_by(|a, b| a.start_time.cmp(&b.start_time).then(b.end_time.cmp(&a.end_time)));
    let mut size = 0;
    let fits = |span: &&SpanData| {
        size += Value::Object(told(span)).to_string().len() + ",\"subsegments\":[]".len();
        size <= LARGEST
    };
    let fitting = inner.iter().take_while(fits).count();
    let dropped = inner.len() - fitting;
    let mut inside: BTreeMap<u64, Vec<SpanData>> = BTreeMap::new();
    for span in inner.into_iter().take(fitting) {
        inside.entry(key(span.parent_span_id)).or_default().push(span);
    }
    (inside, dropped)
}

fn nest(node: &mut Map<String, Value>, id: SpanId, inside: &mut BTreeMap<u64, Vec<SpanData>>) {
    let Some(spans) = inside.remove(&key(id)) else { return };
    let nodes = spans.into_iter().map(|span| {
        let mut node = told(&span);
        nest(&mut node, span.span_context.span_id(), inside);
        Value::Object(node)
    });
    let nodes = nodes.collect();
    node.insert("subsegments".into(), Value::Array(nodes));
}

/// A span by itself.
fn told(span: &SpanData) -> Map<String, Value> {
    let mut node = Map::new();
    node.insert("id".into(), json!(span.span_context.span_id().to_string()));
    node.insert("name".into(), json!(span.name));
    node.insert("start_time".into(), json!(seconds(span.start_time)));
    node.insert("end_time".into(), json!(seconds(span.end_time)));
    if let (Some(service), Some(operation)) = (text(span, "rpc.service"), text(span, "rpc.method")) {
        node.insert("name".into(), json!(service));
        node.insert("namespace".into(), json!("aws"));
        node.insert("aws".into(), json!({ "operation": operation }));
    }
    if matches!(span.status, Status::Error { .. }) {
        node.insert("fault".into(), json!(true));
    }
    let listed = |names: &[&str]| -> Map<String, Value> {
        let named = span.attributes.iter().filter(|one| names.contains(&one.key.as_str()));
        named.filter_map(|one| Some((one.key.to_string(), value(one)?))).collect()
    };
    let (sought, told) = (listed(&SOUGHT), listed(&TOLD));
    if !sought.is_empty() {
        node.insert("annotations".into(), Value::Object(sought));
    }
    if !told.is_empty() {
        node.insert("metadata".into(), json!({ "espalier": told }));
    }
    node
}

fn with(object: Option<&Value>, name: &str, value: Value) -> Value {
    let mut object = object.and_then(Value::as_object).cloned().unwrap_or_default();
    object.insert(name.to_owned(), value);
    Value::Object(object)
}

fn text<'a>(span: &'a SpanData, name: &str) -> Option<&'a str> {
    let attribute = span.attributes.iter().find(|one| one.key.as_str() == name)?;
    if let Attribute::String(text) = &attribute.value { Some(text.as_str()) } else { None }
}

fn value(attribute: &KeyValue) -> Option<Value> {
    match &attribute.value {
        Attribute::Bool(value) => Some(json!(value)),
        Attribute::I64(value) => Some(json!(value)),
        Attribute::F64(value) => Some(json!(value)),
        Attribute::String(value) => Some(json!(value.as_str().chars().take(LONGEST).collect::<String>())),
        Attribute::Array(_) => None,
        // The enumeration is open.
        _ => None,
    }
}

/// `1-`, the time in eight hexadecimal digits, `-` and the rest.
fn trace_id(id: TraceId) -> String {
    let digits = id.to_string();
    let (time, rest) = digits.split_at(8);
    format!("1-{time}-{rest}")
}

fn key(id: SpanId) -> u64 {
    u64::from_be_bytes(id.to_bytes())
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
