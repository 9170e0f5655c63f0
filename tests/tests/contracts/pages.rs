//! The pages against the code: commands, words and names that a reader will try.

use espalier_tests::{Template, documents, read, root};
use regex::Regex;

/// The two commands that a fresh machine needs.
const RUN: &str = "cargo lab";
const TEST: &str = "bash tests/run";

#[test]
fn the_readmes_two_commands_are_the_ones_that_ci_runs() {
    let readme = read("README.md");
    for command in [RUN, TEST] {
        assert!(readme.lines().any(|line| line.trim() == command), "README.md does not show `{command}`");
    }
    let ci = read(".ci/run");
    for command in ["bash tests/run;", "cargo lab --json"] {
        assert!(ci.contains(command), ".ci/run does not call `{command}`");
    }
}

#[test]
fn every_event_of_ours_is_documented() {
    let page = read("docs/events.md");
    for detail_type in crate::workflow::detail_types() {
        assert!(page.contains(&format!("`{detail_type}`")), "docs/events.md does not describe {detail_type:?}");
    }
}

#[test]
fn every_span_and_what_it_may_say_is_documented() {
    let page = read("docs/tracing.md");
    let span = Regex::new(r#"trace_span!\(\s*"([a-z]+)""#).unwrap();
    let sources = espalier_tests::product_sources();
    let sources = sources.iter().filter(|file| !file.path.ends_with("/tests.rs"));
    let mut said: Vec<String> = sources
        .flat_map(|file| span.captures_iter(&file.text).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        // Named for its function.
        .filter(|name| name != "invocation")
        .collect();
    assert!(said.len() >= 5, "only {said:?} were found");
    let document = read("shared/edge/src/trace/document.rs");
    let list = Regex::new(r"const (?:SOUGHT|TOLD): \[&str; (\d+)\] = \[([^\]]+)\]").unwrap();
    for found in list.captures_iter(&document) {
        let words: Vec<String> = found[2].split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect();
        assert_eq!(words.len().to_string(), found[1], "{words:?}");
        said.extend(words);
    }
    said.push("spans_left_out".to_owned());
    for word in said {
        let is_named = page.contains(&format!("`{word}`")) || page.contains(&format!(".{word}`"));
        assert!(is_named, "docs/tracing.md does not name {word}");
    }
}

#[test]
fn every_parameter_of_the_template_is_documented() {
    let readme = read("README.md");
    for (name, parameter) in Template::read("template.yaml").at("/Parameters").as_object().unwrap() {
        assert!(parameter["Description"].is_string(), "{name} has no description");
        assert!(readme.contains(&format!("`{name}`")), "README.md does not mention the parameter {name}");
    }
}

#[test]
fn every_field_of_the_spec_is_documented() {
    let page = read("docs/spec.md");
    let schema: serde_json::Value = serde_json::from_str(&read("schemas/stack.schema.json")).unwrap();
    let mut fields = Vec::new();
    collect_fields(&schema, &mut fields);
    assert!(fields.len() > 30, "only {} fields were found", fields.len());
    for field in fields.iter().filter(|field| *field != "$schema") {
        assert!(page.contains(&format!("`{field}`")), "docs/spec.md does not describe {field}");
    }
}

fn collect_fields(schema: &serde_json::Value, fields: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(entries) => {
            if let Some(properties) = entries.get("properties").and_then(serde_json::Value::as_object) {
                fields.extend(properties.keys().cloned());
            }
            entries.values().for_each(|inner| collect_fields(inner, fields));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|inner| collect_fields(inner, fields)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => {}
    }
}

#[test]
fn every_link_inside_the_project_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)#:\s]+)(#[^)]*)?\)").unwrap();
    let mut links = 0;
    for page in documents() {
        let folder = root().join(&page.path).parent().unwrap().to_path_buf();
        for found in link.captures_iter(&page.text) {
            links += 1;
            assert!(folder.join(&found[1]).exists(), "{} links to {}", page.path, &found[1]);
        }
    }
    assert!(links > 10, "only {links} links were found");
}

#[test]
fn decisions_are_numbered_without_a_gap() {
    let mut numbers: Vec<u32> = std::fs::read_dir(root().join("docs/decisions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.split('-').next()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let last = u32::try_from(numbers.len()).unwrap();
    assert!(last >= 5);
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
}

#[test]
fn the_page_of_costs_follows_from_what_is_counted() {
    let script = root().join("docs/cost.py");
    let told = std::process::Command::new("python3").arg(script).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn what_outlives_the_stack_can_be_handed_to_the_next_one() {
    let page = read("docs/disasters.md");
    let block = page.split("```yaml\n").nth(1).unwrap().split("   ```").next().unwrap();
    let kept = Template::parse(block);
    let template = Template::read("template.yaml");
    let mut retained = 0;
    for (id, resource) in template.at("/Resources").as_object().unwrap() {
        if resource["DeletionPolicy"] != "Retain" {
            continue;
        }
        retained += 1;
        let there = kept.at(&format!("/Resources/{id}"));
        assert_eq!(there["Type"], resource["Type"], "{id} is retained, and docs/disasters.md does not import it");
        assert_eq!(there["DeletionPolicy"], "Retain", "{id}: CloudFormation imports nothing without a deletion policy");
        // A parameter stands for what it is by default.
        let wanted = |name: &str| match &resource["Properties"][name] {
            given if given["Ref"].is_string() => {
                template.at(&format!("/Parameters/{}/Default", given["Ref"].as_str().unwrap()))
            }
            given => given,
        };
        for (name, value) in there["Properties"].as_object().unwrap() {
            assert_eq!(value, wanted(name), "{id}: {name}");
        }
        // Another value of these would make the deployment that follows replace what was imported, or fail.
        for name in ["KeySpec", "KeyUsage", "KeySchema"] {
            assert_eq!(&there["Properties"][name], wanted(name), "{id}: {name}");
        }
        assert!(
            page.contains(&format!("\"LogicalResourceId\": \"{id}\"")),
            "{id} is not among the resources to import"
        );
    }
    assert_eq!(kept.at("/Resources").as_object().unwrap().len(), retained);
}
