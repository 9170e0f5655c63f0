//! The trace of a rotation: one, from the event that was its cause to the handshakes that prove it.

use std::time::Duration;

use super::watch::until;
use super::{STACK, StoryError, Tale};
use crate::report::Report;
use crate::ui::Phase;
use crate::xray::trace::{Trace, traces};

/// What has to be in it, by the names of its spans.
const FUNCTIONS: [&str; 4] = ["rotate", "mint", "distribute", "verify"];

/// Waits until the newest rotation's trace is whole, and keeps it for the report.
pub(super) async fn told(tale: &Tale, report: &mut Report, phase: Phase) -> Result<(), StoryError> {
    taken(tale)?;
    let targets: Vec<String> = tale.world.hosts.iter().map(|host| host.id.clone()).collect();
    // Step Functions' own segment comes when the execution has ended, after the event that says so.
    let mut problems = Vec::new();
    let look = async || {
        let found = newest(&traces(&tale.world.xray.documents()));
        problems = found.as_ref().map_or_else(|why| vec![why.clone()], |trace| lacks(trace, &targets));
        Ok::<_, StoryError>(found.ok().filter(|_| problems.is_empty()))
    };
    let Some(trace) = until(Duration::from_secs(10), Duration::from_millis(200), look).await? else {
        return Err(StoryError::Unmet(format!("the rotation's trace: {problems:?}")));
    };
    let (spans, kb, handshakes) = (trace.spans.len(), trace.bytes.div_ceil(1_000), trace.named("handshake").count());
    report.trace = Some(trace);
    phase.done(&format!(
        "one trace from the event to the proof: {spans} spans ({kb} kB), {handshakes} handshakes, each under its parent"
    ));
    Ok(())
}

/// X-Ray threw nothing away.
pub(super) fn taken(tale: &Tale) -> Result<(), StoryError> {
    match tale.world.xray.refused().first() {
        None => Ok(()),
        Some(problem) => Err(StoryError::Unmet(format!("X-Ray refuses a document: {problem}"))),
    }
}

/// The one trace of the stack's newest rotation.
fn newest(traces: &[Trace]) -> Result<Trace, String> {
    let epoch = |trace: &Trace| passes(trace).max();
    let newest = traces.iter().filter_map(epoch).max().ok_or("no pass of any rotation was traced")?;
    let mut its = traces.iter().filter(|trace| passes(trace).any(|epoch| epoch == newest));
    match (its.next(), its.next()) {
        (Some(trace), None) => Ok(trace.clone()),
        (Some(one), Some(other)) => Err(format!("rotation {newest} is in the traces {} and {}", one.id, other.id)),
        (None, _) => Err(format!("rotation {newest} is in no trace")),
    }
}

/// The rotations of the stack that a trace has passes of.
fn passes(trace: &Trace) -> impl Iterator<Item = u64> {
    let passes = trace.named("rotate").filter(|span| span.says("stack").as_deref() == Some(STACK));
    passes.filter(|span| span.says("kind").as_deref() == Some("pass")).filter_map(|span| span.said["epoch"].as_u64())
}

/// What a rotation's trace lacks of what it has to have.
fn lacks(trace: &Trace, targets: &[String]) -> Vec<String> {
    let mut problems = trace.problems();
    for name in FUNCTIONS {
        if trace.named(name).next().is_none() {
            problems.push(format!("no span of {name}"));
        }
    }
    let is_caused = |name: &str| trace.named("rotate").any(|span| span.says(name).is_some());
    if !is_caused("event") {
        problems.push("nothing names the event that was its cause".to_owned());
    }
    for target in targets {
        let dials = trace.named("dial").filter(|dial| dial.says("target").as_ref() == Some(target));
        let mut shaken = dials.filter(|dial| trace.named("handshake").any(|one| one.parent.as_ref() == Some(&dial.id)));
        if shaken.next().is_none() {
            problems.push(format!("no handshake with {target}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xray::trace::Span;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn span(id: &str, parent: Option<&str>, name: &str, said: &[(&str, Value)]) -> Span {
        let said: BTreeMap<String, Value> =
            said.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let (id, parent, name) = (id.to_owned(), parent.map(str::to_owned), name.to_owned());
        Span { id, parent, name, origin: None, begun: 1.0, ended: 2.0, failed: false, is_call: false, said }
    }

    fn whole() -> Trace {
        let pass = [("kind", json!("pass")), ("stack", json!(STACK)), ("epoch", json!(2))];
        let spans = vec![
            span("1", None, "rotate", &[("kind", json!("hint")), ("event", json!("e"))]),
            span("2", Some("1"), "rotate", &pass),
            span("3", Some("2"), "mint", &[]),
            span("4", Some("2"), "distribute", &[]),
            span("5", Some("2"), "verify", &[]),
            span("6", Some("5"), "dial", &[("target", json!("i-1"))]),
            span("7", Some("6"), "handshake", &[]),
        ];
        Trace { id: "1-a".to_owned(), spans, ..Trace::default() }
    }

    #[test]
    fn whatever_is_left_out_of_a_rotation_is_missed() {
        let targets = ["i-1".to_owned()];
        assert_eq!(lacks(&whole(), &targets), [] as [&str; 0]);
        for left_out in 0..whole().spans.len() {
            let mut trace = whole();
            let span = trace.spans.remove(left_out);
            // Another pass would do; then somebody's parent is not there.
            assert!(!lacks(&trace, &targets).is_empty(), "{span:?}");
        }
        assert_eq!(lacks(&whole(), &["i-2".to_owned()]), ["no handshake with i-2"]);
    }

    #[test]
    fn a_rotation_in_two_traces_is_in_none() {
        let mut other = whole();
        other.id = "1-b".to_owned();
        assert_eq!(newest(&[whole()]).map(|trace| trace.id), Ok("1-a".to_owned()));
        assert_eq!(newest(&[whole(), other.clone()]), Err("rotation 2 is in the traces 1-a and 1-b".to_owned()));
        other.spans[1].said.insert("epoch".to_owned(), json!(3));
        assert_eq!(newest(&[whole(), other]).map(|trace| trace.id), Ok("1-b".to_owned()));
        assert!(newest(&[]).is_err());
    }
}
