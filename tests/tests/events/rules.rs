//! The patterns in the template, judged by moto's matcher, which shares no code with anything here.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use espalier_tests::{Template, root};
use serde_json::{Value, json};

use crate::corpus;

const ACCOUNT: &str = "123456789012";

/// The patterns of `rotate`'s rules, by name, with the template's references resolved.
fn patterns() -> BTreeMap<String, Value> {
    let template = Template::read("template.yaml");
    let events = template.at("/Resources/Rotate/Properties/Events").as_object().unwrap();
    let rules = events.iter().filter(|(_, event)| event["Type"] == "EventBridgeRule");
    rules.map(|(name, event)| (name.clone(), resolved(&event["Properties"]["Pattern"]))).collect()
}

fn resolved(value: &Value) -> Value {
    match value {
        Value::Object(entries) if value["Ref"] == "AWS::AccountId" && entries.len() == 1 => json!(ACCOUNT),
        Value::Object(entries) if entries.contains_key("Fn::Sub") => value["Fn::Sub"].clone(),
        Value::Object(entries) => entries.iter().map(|(key, inner)| (key.clone(), resolved(inner))).collect(),
        Value::Array(items) => items.iter().map(resolved).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// For each event, the rules whose patterns match it.
fn judged(patterns: &BTreeMap<String, Value>, events: &[&Value]) -> Vec<Vec<String>> {
    let python = root().join("target/judges/bin/python");
    let mut judge = Command::new(&python)
        .arg(root().join("tests/judges/match.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|_| panic!("{} is missing: bash tests/run --tools", python.display()));
    let question = json!({"patterns": patterns, "events": events}).to_string();
    judge.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success(), "bash tests/run --tools installs moto");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_rules_match_exactly_the_events_that_are_meant() {
    let corpus = corpus();
    let events: Vec<&Value> = corpus.iter().map(|case| &case.event).collect();
    for (case, rules) in corpus.iter().zip(judged(&patterns(), &events)) {
        let rule = if case.event["source"] == "aws.health" { "CertificateNotice" } else { "CertificateChanged" };
        let meant: Vec<&str> = case.is_matched().then_some(rule).into_iter().collect();
        assert_eq!(rules, meant, "{}", case.name);
    }
}
