//! What the pages name exists, and what exists is named: functions, parameters, outputs, events, codes, metrics, fields.

use std::collections::BTreeSet;

use espalier_tests::{Template, product_sources, read, texts};
use regex::Regex;
use serde_json::Value;

/// The words between back quotes in the first cell of a page's table rows, below a heading.
fn first_cells(page: &str, heading: &str) -> BTreeSet<String> {
    let text = read(page);
    let begin = text.find(heading).unwrap_or_else(|| std::panic::panic_any(format!("{page} has no {heading:?}")));
    let section = &text[begin + heading.len()..];
    let section = section.split("\n## ").next().unwrap_or(section);
    let word = Regex::new("`([^`]+)`").unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| word.captures_iter(cell).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

#[test]
fn the_map_names_the_functions_that_are_deployed() {
    let template = Template::read("template.yaml");
    let deployed: BTreeSet<String> = template.functions().map(|(id, _)| id.to_lowercase()).collect();
    let text = read("ARCHITECTURE.md");
    let table = text.split("The functions, each with a role of its own:").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let row = Regex::new(r"(?m)^\| `(\w+)` \|").unwrap();
    let named: BTreeSet<String> = row.captures_iter(table).map(|found| found[1].to_owned()).collect();
    assert_eq!(named, deployed);
}

#[test]
fn the_readme_names_the_parameters_that_there_are() {
    let parameters = keys(Template::read("template.yaml").at("/Parameters"));
    assert_eq!(first_cells("README.md", "## Install it"), parameters);
}

#[test]
fn the_rules_listen_to_the_events_that_the_page_names() {
    let template = Template::read("template.yaml");
    let mut listened: BTreeSet<(String, String)> = BTreeSet::new();
    for (id, properties) in template.functions() {
        for event in properties["Events"].as_object().into_iter().flatten().map(|(_, event)| event) {
            let pattern = &event["Properties"]["Pattern"];
            for source in texts(&pattern["source"]) {
                listened.insert((source, id.to_lowercase()));
            }
        }
    }
    let row = Regex::new(r"(?m)^\| `(aws\.\w+|espalier)` \|[^|]*\| ([^|]*) \|$").unwrap();
    let word = Regex::new("`([a-z]+)`").unwrap();
    let page = read("docs/events.md");
    let mut named: BTreeSet<(String, String)> = BTreeSet::new();
    for found in row.captures_iter(&page) {
        named.extend(word.captures_iter(&found[2]).map(|function| (found[1].to_owned(), function[1].to_owned())));
    }
    assert_eq!(named, listened);
}

#[test]
fn the_page_names_the_events_that_are_sent_and_says_which_are_not_yet() {
    let page = read("docs/events.md");
    let section = page.split("## What Espalier says").nth(1).unwrap();
    let row = Regex::new(r"(?m)^\| `([A-Z][a-z]+ [A-Z][a-z]+)` \| ([^|]+) \|").unwrap();
    let named: BTreeSet<(String, bool)> =
        row.captures_iter(section).map(|found| (found[1].to_owned(), &found[2] != "reserved")).collect();
    let workflow = read("workflows/rotation.asl.yaml");
    let functions: Vec<_> = product_sources().into_iter().filter(|file| file.path.starts_with("functions/")).collect();
    let is_sent = |detail_type: &str| {
        let made = format!("Event::{} {{", detail_type.replace(' ', ""));
        workflow.contains(&format!("DetailType: {detail_type}\n"))
            || functions.iter().any(|file| file.text.contains(&made))
    };
    let known: BTreeSet<(String, bool)> = crate::workflow::detail_types()
        .into_iter()
        .map(|detail_type| {
            let is_sent = is_sent(&detail_type);
            (detail_type, is_sent)
        })
        .collect();
    assert_eq!(named, known, "(event, whether it is sent): the page, the code");
}

#[test]
fn every_block_code_and_every_word_of_failure_is_documented() {
    let variants = |path: &str, name: &str| -> BTreeSet<String> {
        let text = read(path);
        let body = text.split(&format!("pub enum {name} {{")).nth(1).unwrap().split("\n}").next().unwrap().to_owned();
        let variant = Regex::new(r"(?m)^    ([A-Z]\w+),").unwrap();
        variant.captures_iter(&body).map(|found| found[1].to_owned()).collect()
    };
    let words = |page: &str, heading: &str| -> BTreeSet<String> {
        let text = read(page);
        let section = text.split(heading).nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
        Regex::new("`([A-Z][A-Za-z]+)`").unwrap().captures_iter(&section).map(|found| found[1].to_owned()).collect()
    };
    let codes = variants("shared/domain/src/plan.rs", "BlockCode");
    assert!(codes.len() > 15, "{codes:?}");
    assert_eq!(words("docs/spec.md", "\n## Blocks"), codes);
    assert_eq!(first_cells("docs/runbook.md", "## Blocks"), codes);
    let failures = variants("shared/domain/src/failure.rs", "Word");
    assert_eq!(failures.len(), 5);
    assert_eq!(words("docs/events.md", "\nor fails with"), failures);
}

#[test]
fn the_metrics_that_are_written_are_the_metrics_that_are_named() {
    let metric = Regex::new(r#"\("(\w+)", Unit::\w+"#).unwrap();
    let emit = Regex::new(r"metric::emit\(").unwrap();
    let mut written = BTreeSet::new();
    for file in product_sources().iter().filter(|file| !file.path.contains("/tests")) {
        for found in emit.find_iter(&file.text) {
            let call = &file.text[found.end()..];
            let call = &call[..call.find(";\n").unwrap_or(call.len())];
            written.extend(metric.captures_iter(call).map(|found| found[1].to_owned()));
        }
    }
    assert_eq!(first_cells("docs/events.md", "## Metrics"), written);
    let page = read("docs/events.md");
    assert!(page.contains(&format!("namespace `{}`", espalier_edge::metric::NAMESPACE)));
}

#[test]
fn the_page_of_the_spec_describes_no_field_that_there_is_not() {
    let schema: Value = serde_json::from_str(&read("schemas/stack.schema.json")).unwrap();
    let mut known = BTreeSet::new();
    fields(&schema, &mut known);
    for heading in ["## The stack", "## `network`", "## `service`", "## `targets`", "## `certificate`", "## `rollout`"]
    {
        let described = first_cells("docs/spec.md", heading);
        assert!(!described.is_empty(), "{heading} has no table");
        let unknown: Vec<_> = described.difference(&known).collect();
        assert!(unknown.is_empty(), "docs/spec.md, {heading}: {unknown:?} is no field");
    }
}

fn fields(schema: &Value, known: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            known.extend(keys(&schema["properties"]));
            entries.values().for_each(|inner| fields(inner, known));
        }
        Value::Array(items) => items.iter().for_each(|inner| fields(inner, known)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
