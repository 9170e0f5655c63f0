//! The state machine: what it is told by the template, what it may call, and that it decides nothing.

use std::collections::BTreeSet;

use espalier_tests::{Template, product_sources, read, resolve_tags, statements};
use regex::Regex;
use serde_json::Value;

const DEFINITION: &str = "workflows/rotation.asl.yaml";

fn definition() -> Value {
    resolve_tags(serde_norway::from_str(&read(DEFINITION)).unwrap())
}

/// All the values under `key`, at any depth.
fn everywhere(value: &Value, key: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(entries) => {
            found.extend(entries.get(key).cloned());
            entries.values().for_each(|inner| everywhere(inner, key, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| everywhere(inner, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The detail types of every event of ours: those the functions send and those the state machine sends.
pub(crate) fn detail_types() -> BTreeSet<String> {
    let mut found = Vec::new();
    everywhere(&definition(), "DetailType", &mut found);
    let mut types: BTreeSet<String> = found.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let sent = Regex::new(r#"Self::\w+ \{ \.\. \} => "([A-Z][a-z]+ [A-Z][a-z]+)""#).unwrap();
    let sources = product_sources();
    let bus = sources.iter().find(|file| file.path == "shared/aws/src/bus.rs").unwrap();
    types.extend(sent.captures_iter(&bus.text).map(|found| found[1].to_owned()));
    types
}

#[test]
fn the_template_substitutes_what_the_workflow_asks_for() {
    let template = Template::read("template.yaml");
    let set: BTreeSet<String> = template
        .at("/Resources/Rotation/Properties/DefinitionSubstitutions")
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let asked: BTreeSet<String> =
        Regex::new(r"\$\{(\w+)\}").unwrap().captures_iter(&read(DEFINITION)).map(|found| found[1].to_owned()).collect();
    assert_eq!(set, asked);
    assert_eq!(template.at("/Resources/Rotation/Properties/DefinitionUri"), DEFINITION);
}

#[test]
fn the_workflow_may_call_what_it_calls() {
    let mut called = Vec::new();
    everywhere(&definition(), "Resource", &mut called);
    let called: BTreeSet<&str> = called.iter().filter_map(Value::as_str).collect();
    assert_eq!(called, BTreeSet::from(["arn:aws:states:::events:putEvents", "arn:aws:states:::lambda:invoke"]));

    let template = Template::read("template.yaml");
    let role = statements(&template, "RotationRole");
    let allowed: BTreeSet<&str> =
        role.iter().flat_map(|one| &one.actions).map(String::as_str).filter(|action| !is_service_own(action)).collect();
    assert_eq!(allowed, BTreeSet::from(["events:PutEvents", "lambda:InvokeFunction"]));
    let callable: BTreeSet<&str> = role
        .iter()
        .filter(|one| one.actions.iter().any(|action| action == "lambda:InvokeFunction"))
        .flat_map(|one| &one.resources)
        .filter_map(|resource| resource["Fn::GetAtt"][0].as_str())
        .collect();
    assert_eq!(
        callable,
        BTreeSet::from(["Rotate", "Authority", "Mint", "Export", "Distribute", "Verify", "Provision"])
    );
}

/// Step Functions' own log delivery and traces.
fn is_service_own(action: &str) -> bool {
    action.starts_with("logs:") || action.starts_with("xray:")
}

#[test]
fn every_task_survives_a_crash_and_an_unknown_error() {
    let mut states = Vec::new();
    everywhere(&definition(), "States", &mut states);
    let mut tasks = 0;
    for (name, state) in states.iter().flat_map(|states| states.as_object().unwrap()) {
        if state["Type"] != "Task" {
            continue;
        }
        tasks += 1;
        let last = state["Catch"].as_array().and_then(|caught| caught.last()).cloned().unwrap_or_default();
        assert_eq!(last["ErrorEquals"], serde_json::json!(["States.ALL"]), "{name}");
        if state["Resource"] == "arn:aws:states:::lambda:invoke" {
            let mut retried = Vec::new();
            everywhere(&state["Retry"], "ErrorEquals", &mut retried);
            let retried: BTreeSet<&str> =
                retried.iter().flat_map(|list| list.as_array().unwrap()).filter_map(Value::as_str).collect();
            for error in ["Busy", "Conflict", "Runtime.ExitError", "Sandbox.Timedout", "Lambda.ServiceException"] {
                assert!(retried.contains(error), "{name} does not retry {error}");
            }
        }
    }
    assert!(tasks >= 4, "only {tasks} tasks were looked at");
}

#[test]
fn the_workflow_ends_before_its_history_is_full() {
    let text = read(DEFINITION);
    let last = espalier_domain::work::Pass::LAST;
    let limit = format!("NumericGreaterThanEquals: {last}");
    assert!(text.lines().any(|line| line.trim() == limit), "the limit of passes is {last} in the code");
}
