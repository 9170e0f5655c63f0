//! The Run Command document inside `template.yaml` against its source, `documents/installer.sh`.
//!
//! `EXPECTORATE=overwrite` (or `just generate`) copies the script into the template.

use std::collections::{BTreeMap, BTreeSet};

use espalier_tests::{Template, product_sources, read, root};
use regex::Regex;
use serde_json::Value;

const SCRIPT: &str = "documents/installer.sh";
const CONTENT: &str = "/Resources/InstallerDocument/Properties/Content";

/// Where the script begins and ends in the template.
const BEGIN: &str = "              runCommand:\n                - |\n";
const END: &str = "  # end installer\n";

fn content() -> Value {
    Template::read("template.yaml").at(CONTENT).clone()
}

/// The template with the script as it stands in `documents/`.
fn regenerated(template: &str, script: &str) -> String {
    let (before, rest) = template.split_once(BEGIN).expect("the document has a runCommand");
    let (_, after) = rest.split_once(END).expect("the document has an end");
    let mut text = format!("{before}{BEGIN}");
    for line in script.lines() {
        let indent = if line.is_empty() { "" } else { "                  " };
        text.push_str(&format!("{indent}{line}\n"));
    }
    text + END + after
}

#[test]
fn the_template_holds_the_installer_line_for_line() {
    let expected = regenerated(&read("template.yaml"), &read(SCRIPT));
    expectorate::assert_contents(root().join("template.yaml"), &expected);
    // And not only as text: YAML must have read back the same script.
    let embedded = &content()["mainSteps"][0]["inputs"]["runCommand"][0];
    assert_eq!(embedded.as_str().unwrap(), read(SCRIPT));
}

#[test]
fn every_parameter_is_an_identifier_that_never_becomes_text_of_the_script() {
    let content = content();
    let parameters = content["parameters"].as_object().unwrap();
    for (name, parameter) in parameters {
        assert_eq!(parameter["type"], "String", "{name}");
        assert_eq!(parameter["interpolationType"], "ENV_VAR", "{name}");
        let pattern = parameter["allowedPattern"].as_str().unwrap();
        assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{name}: {pattern}");
        let pattern = Regex::new(pattern).unwrap();
        assert_eq!(
            pattern.is_match(""),
            parameter["default"] == "",
            "{name}: nothing is one only where nothing is the default"
        );
        for bad in ["a b", "$(id)", "`id`", "x;id", "x\nid", "../x", "{{ x }}", "'", "\"", "*", "é"] {
            assert!(!pattern.is_match(bad), "{name} admits {bad:?}");
        }
    }
    assert!(!read(SCRIPT).contains("{{"), "Run Command would take {{{{ for a parameter of its own");
}

/// What the API and the agent let through, the script lets through, and nothing else: it is checked twice by one rule.
#[test]
fn the_patterns_are_the_scripts_own() {
    let script = read(SCRIPT);
    let checks: BTreeMap<String, String> =
        Regex::new(r#"matches "\$(?:\{SSM_)?(\w+)(?::-\})?" (?:'([^']+)'|"([^"]+)")"#)
            .unwrap()
            .captures_iter(script.split("\nis_ours()").next().unwrap())
            .map(|found| (found[1].to_lowercase(), found.get(2).or(found.get(3)).unwrap().as_str().to_owned()))
            .collect();
    let content = content();
    for (name, parameter) in content["parameters"].as_object().unwrap() {
        let declared = parameter["allowedPattern"].as_str().unwrap().trim_matches(['^', '$']);
        if name == "Action" {
            let words: Vec<_> = declared.trim_matches(['(', ')']).split('|').collect();
            assert_eq!(parameter["allowedValues"], serde_json::json!(words));
            assert!(words.iter().all(|word| script.contains(*word)), "{words:?}");
            continue;
        }
        // The script also knows which stack and generation a name must be of.
        let mut own = checks[&name.to_lowercase()].clone();
        for of in ["stack", "generation"] {
            own = own.replace(&format!("${of}"), &checks[of]);
        }
        // What not every action needs may be nothing; which of them need it is the script's to say.
        let may_lack = parameter["default"] == "";
        // `grep -x` holds all of an alternative to its line; in a pattern, parentheses do.
        if !own.starts_with('(') && (may_lack || own.contains('|')) {
            own = format!("({own})");
        }
        assert_eq!(declared, if may_lack { own + "?" } else { own }, "{name}");
    }
}

#[test]
fn the_document_is_for_linux_and_runs_one_script() {
    let content = content();
    let steps = content["mainSteps"].as_array().unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0]["action"], "aws:runShellScript");
    assert_eq!(steps[0]["precondition"]["StringEquals"], serde_json::json!(["platformType", "Linux"]));
    assert_eq!(steps[0]["inputs"]["runCommand"].as_array().unwrap().len(), 1);
}

#[test]
fn the_document_the_script_and_the_sender_name_the_same_parameters() {
    let content = content();
    let declared: BTreeSet<String> = content["parameters"].as_object().unwrap().keys().cloned().collect();
    let read_by_script: BTreeSet<String> = Regex::new(r"\bSSM_([A-Z]\w+)")
        .unwrap()
        .captures_iter(&read(SCRIPT))
        .map(|found| found[1].to_owned())
        .collect();
    assert_eq!(declared, read_by_script);

    let sender = product_sources().into_iter().find(|file| file.path == "functions/distribute/src/deliver.rs").unwrap();
    let sent: BTreeSet<String> = Regex::new(r#"\(\s*"([A-Z]\w+)",\s*[^)]"#)
        .unwrap()
        .captures_iter(sender.text.split("#[cfg(test)]").next().unwrap())
        .map(|found| found[1].to_owned())
        .collect();
    assert_eq!(declared, sent);
}

#[test]
fn a_document_fits_systems_manager() {
    let content = content();
    assert_eq!(content["schemaVersion"], "2.2");
    let size = serde_json::to_string(&content).unwrap().len();
    assert!(size < 64 * 1024, "{size} bytes; Systems Manager takes 64 KB");
}

/// The domain gives a command up only after the document itself must have ended.
#[test]
fn the_document_ends_before_a_command_is_given_up() {
    let timeout: i64 = content()["mainSteps"][0]["inputs"]["timeoutSeconds"].as_str().unwrap().parse().unwrap();
    assert!(timeout < espalier_domain::rotation::policy::COMMAND_DEADLINE.whole_seconds());
}
