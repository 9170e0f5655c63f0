//! A trace put together from its documents: who is inside whom, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// A segment or subsegment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// Its id.
    pub id: String,
    /// Whom it is inside of; nobody is the root's.
    pub parent: Option<String>,
    /// Its name; of a call, its operation, too.
    pub name: String,
    /// What kind of resource sent it, if it says so.
    pub origin: Option<String>,
    /// Seconds since 1970.
    pub begun: f64,
    /// The same.
    pub ended: f64,
    /// Whether it failed.
    pub failed: bool,
    /// Whether it is a call of an AWS service's.
    pub is_call: bool,
    /// Annotations and metadata of Espalier's.
    pub said: BTreeMap<String, Value>,
}

impl Span {
    /// What it says under a name, as text.
    pub fn says(&self, name: &str) -> Option<String> {
        self.said.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

/// All that share one trace id.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Trace {
    /// The trace id.
    pub id: String,
    /// How many documents brought it.
    pub documents: usize,
    /// Their bytes: X-Ray keeps a trace up to a size.
    pub bytes: usize,
    /// In the order of their beginnings.
    pub spans: Vec<Span>,
}

/// The traces in these documents.
pub fn traces(documents: &[Value]) -> Vec<Trace> {
    let mut traces: BTreeMap<&str, Trace> = BTreeMap::new();
    for document in documents {
        let id = document["trace_id"].as_str().unwrap_or_default();
        let trace = traces.entry(id).or_insert_with(|| Trace { id: id.to_owned(), ..Trace::default() });
        trace.documents += 1;
        trace.bytes += document.to_string().len();
        flatten(document, document["parent_id"].as_str(), &mut trace.spans);
    }
    for trace in traces.values_mut() {
        trace.spans.sort_by(|a, b| a.begun.total_cmp(&b.begun).then(b.ended.total_cmp(&a.ended)));
    }
    traces.into_values().collect()
}

fn flatten(document: &Value, parent: Option<&str>, spans: &mut Vec<Span>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (id, name) = (text(&document["id"]).unwrap_or_default(), text(&document["name"]).unwrap_or_default());
    let name = document["aws"]["operation"].as_str().map_or(name.clone(), |operation| format!("{name} {operation}"));
    let said = [&document["annotations"], &document["metadata"]["espalier"]];
    let said = said.into_iter().filter_map(Value::as_object).flatten();
    spans.push(Span {
        id: id.clone(),
        parent: parent.map(str::to_owned),
        name,
        origin: text(&document["origin"]),
        begun: document["start_time"].as_f64().unwrap_or_default(),
        ended: document["end_time"].as_f64().unwrap_or_default(),
        failed: document["fault"] == true,
        is_call: document["namespace"] == "aws",
        said: said.map(|(name, value)| (name.clone(), value.clone())).collect(),
    });
    for inner in document["subsegments"].as_array().into_iter().flatten() {
        flatten(inner, Some(&id), spans);
    }
}

impl Trace {
    /// What is wrong with it as one trace: exactly one root, and everybody's parent is there.
    pub fn problems(&self) -> Vec<String> {
        let ids: BTreeSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        let mut problems = Vec::new();
        if ids.len() != self.spans.len() {
            problems.push(format!("{} spans have {} ids", self.spans.len(), ids.len()));
        }
        let roots: Vec<&str> =
            self.spans.iter().filter(|span| span.parent.is_none()).map(|span| span.name.as_str()).collect();
        if roots.len() != 1 {
            problems.push(format!("its roots are {roots:?}"));
        }
        for span in &self.spans {
            if let Some(parent) = span.parent.as_deref().filter(|parent| !ids.contains(parent)) {
                problems.push(format!("the parent of {}, {parent}, is not there", span.name));
            }
        }
        problems
    }

    /// The spans of this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.name == name)
    }

    /// As a tree with times: when each began after the first, how long it took, and what it says. Calls of the
    /// same span are one line.
    pub fn told(&self) -> String {
        let mut inside: BTreeMap<Option<&str>, Vec<&Span>> = BTreeMap::new();
        for span in &self.spans {
            inside.entry(span.parent.as_deref()).or_default().push(span);
        }
        let zero = self.spans.first().map(|span| span.begun).unwrap_or_default();
        let (spans, documents, kb) = (self.spans.len(), self.documents, self.bytes.div_ceil(1_000));
        let mut text = format!("trace {}: {spans} spans in {documents} documents, {kb} kB\n", self.id);
        let _ = writeln!(text, "{:>9} {:>10}", "after s", "took ms");
        tell(&mut text, &inside, None, 0, zero);
        text
    }
}

fn tell(text: &mut String, inside: &BTreeMap<Option<&str>, Vec<&Span>>, of: Option<&str>, depth: usize, zero: f64) {
    let (calls, others): (Vec<&Span>, Vec<&Span>) =
        inside.get(&of).into_iter().flatten().partition(|span| span.is_call);
    if let Some(first) = calls.first() {
        let ended = calls.iter().map(|call| call.ended).fold(first.ended, f64::max);
        line(text, first.begun - zero, ended - first.begun, depth, &told_calls(&calls));
    }
    for span in others {
        // Lambda's segment of the service says nothing that its segment of the function does not.
        if span.origin.as_deref() == Some("AWS::Lambda") {
            tell(text, inside, Some(&span.id), depth, zero);
            continue;
        }
        let origin = span.origin.as_deref().map(|origin| format!(" [{origin}]")).unwrap_or_default();
        let failed = if span.failed { " FAILED" } else { "" };
        // A request id is for the log.
        let names = span.said.keys().filter(|name| *name != "request");
        let said: String = names.filter_map(|name| Some(format!(" {name}={}", span.says(name)?))).collect();
        line(text, span.begun - zero, span.ended - span.begun, depth, &format!("{}{origin}{failed}{said}", span.name));
        tell(text, inside, Some(&span.id), depth + 1, zero);
    }
}

fn line(text: &mut String, after: f64, took: f64, depth: usize, said: &str) {
    let _ = writeln!(text, "{after:>9.3} {:>10.1}  {:indent$}{said}", took * 1_000.0, "", indent = depth * 2);
}

/// Calls side by side, on one line: how many of each service, in the order of their first.
fn told_calls(calls: &[&Span]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for call in calls {
        let service = call.name.split(' ').next().unwrap_or_default();
        match counted.iter_mut().find(|(name, _)| *name == service) {
            Some((_, count)) => *count += 1,
            None => counted.push((service, 1)),
        }
    }
    let one = |(name, count): (&str, usize)| if count == 1 { name.to_owned() } else { format!("{name} x{count}") };
    let told: Vec<String> = counted.into_iter().map(one).collect();
    format!("{} calls: {}", calls.len(), told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn documents() -> Vec<Value> {
        let at = |seconds: f64| 1_790_000_000.0 + seconds;
        vec![
            json!({"trace_id": "1-a", "id": "b", "parent_id": "a", "type": "subsegment", "name": "rotate",
                "start_time": at(0.5), "end_time": at(0.75), "annotations": {"stack": "pay", "epoch": 7},
                "subsegments": [{"id": "c", "name": "SSM", "namespace": "aws", "aws": {"operation": "GetParameter"},
                    "start_time": at(0.5), "end_time": at(0.5625)},
                    {"id": "d", "name": "SSM", "namespace": "aws", "aws": {"operation": "GetParameter"},
                    "start_time": at(0.625), "end_time": at(0.6875)},
                    {"id": "e", "name": "dial", "start_time": at(0.6875), "end_time": at(0.75), "fault": true}]}),
            json!({"trace_id": "1-b", "id": "z", "name": "other", "start_time": at(0.0), "end_time": at(1.0)}),
            json!({"trace_id": "1-a", "id": "a", "name": "espalier-rotate", "origin": "AWS::Lambda::Function",
                "start_time": at(0.0), "end_time": at(1.0)}),
        ]
    }

    #[test]
    fn documents_of_one_trace_make_one_tree() {
        let traces = traces(&documents());
        assert_eq!(traces.len(), 2);
        assert_eq!(traces[0].problems(), [] as [&str; 0]);
        assert_eq!(
            traces[0].told(),
            "trace 1-a: 5 spans in 2 documents, 1 kB\n  after s    took ms\n    0.000     1000.0  espalier-rotate [AWS::Lambda::Function]\n    \
             0.500      250.0    rotate epoch=7 stack=pay\n    0.500      187.5      2 calls: SSM x2\n    \
             0.688       62.5      dial FAILED\n"
        );
    }

    #[test]
    fn a_trace_with_a_gap_or_two_roots_is_none() {
        let mut documents = documents();
        let lost = documents.pop().unwrap();
        let broken = traces(&documents)[0].problems();
        assert_eq!(broken, ["its roots are []", "the parent of rotate, a, is not there"]);
        let mut other = lost.clone();
        other["id"] = "f".into();
        documents.extend([lost, other]);
        assert_eq!(traces(&documents)[0].problems(), ["its roots are [\"espalier-rotate\", \"espalier-rotate\"]"]);
    }
}
