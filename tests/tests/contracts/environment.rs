//! Every variable a function reads is one the template sets, and the other way round.

use std::collections::BTreeSet;

use espalier_tests::{Template, product_sources};
use regex::Regex;

/// `(all, required)`: the variables that the function's crate asks its environment for.
fn asked(function: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let call = Regex::new(r#"\.\s*(required|optional|parsed)\(\s*"([A-Z_]+)""#).unwrap();
    let folder = format!("functions/{function}/src/");
    let (mut all, mut required) = (BTreeSet::new(), BTreeSet::new());
    for file in product_sources().iter().filter(|file| file.path.starts_with(&folder)) {
        for found in call.captures_iter(&file.text) {
            all.insert(found[2].to_owned());
            if &found[1] != "optional" {
                required.insert(found[2].to_owned());
            }
        }
    }
    (all, required)
}

#[test]
fn the_template_sets_what_the_functions_read() {
    let template = Template::read("template.yaml");
    let mut seen = 0;
    for (id, properties) in template.functions() {
        let function = id.to_lowercase();
        let set: BTreeSet<String> = properties["Environment"]["Variables"]
            .as_object()
            .map(|variables| variables.keys().cloned().collect())
            .unwrap_or_default();
        let (all, required) = asked(&function);
        let missing: Vec<_> = required.difference(&set).collect();
        let unread: Vec<_> = set.difference(&all).collect();
        assert!(missing.is_empty(), "{function} requires {missing:?}, which template.yaml does not set");
        assert!(unread.is_empty(), "template.yaml sets {unread:?} for {function}, which does not read it");
        seen += set.len();
    }
    assert!(seen >= 8, "only {seen} variables were compared");
}

/// The variables that `shared/edge` reads for every function.
fn asked_for_all() -> BTreeSet<String> {
    let name = Regex::new(r#""(ESPALIER_[A-Z_]+)""#).unwrap();
    let sources = product_sources();
    let edge =
        sources.iter().filter(|file| file.path.starts_with("shared/edge/src/") && !file.path.ends_with("tests.rs"));
    let code = edge.map(|file| file.text.split("#[cfg(test)]").next().unwrap_or_default());
    code.flat_map(|code| name.captures_iter(code).map(|found| found[1].to_owned()).collect::<Vec<_>>()).collect()
}

#[test]
fn one_parameter_switches_tracing_for_lambda_step_functions_and_the_functions_themselves() {
    let template = Template::read("template.yaml");
    let all = template.at("/Globals/Function/Environment/Variables").as_object().unwrap();
    assert_eq!(all.keys().cloned().collect::<BTreeSet<_>>(), asked_for_all());
    let switch = serde_json::json!({"Ref": "Tracing"});
    assert_eq!(all["ESPALIER_TRACING"], switch);
    assert_eq!(template.at("/Resources/Rotation/Properties/Tracing/Enabled"), &switch);
    let is_on = serde_json::json!({"Fn::Equals": [switch, "true"]});
    assert_eq!(template.at("/Conditions/IsTraced"), &is_on);
    let lambda = serde_json::json!({"Fn::If": ["IsTraced", "Active", "PassThrough"]});
    assert_eq!(template.at("/Globals/Function/Tracing"), &lambda);
    for (id, properties) in template.functions() {
        assert!(properties["Tracing"].is_null(), "{id} is traced by a switch of its own");
    }
}

#[test]
fn every_function_is_a_crate_a_binary_and_a_function_of_the_template() {
    let template = Template::read("template.yaml");
    let declared: BTreeSet<String> = template.functions().map(|(id, _)| id.to_lowercase()).collect();
    let crates: BTreeSet<String> = std::fs::read_dir(espalier_tests::root().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(declared, crates);
    for (id, resource) in template.at("/Resources").as_object().unwrap() {
        if resource["Type"] == "AWS::Serverless::Function" {
            let name = id.to_lowercase();
            assert_eq!(resource["Metadata"]["BuildProperties"]["Binary"], name.as_str());
            assert_eq!(resource["Properties"]["FunctionName"]["Fn::Sub"], format!("${{AWS::StackName}}-{name}"));
            assert_eq!(resource["Properties"]["Role"]["Fn::GetAtt"][0], format!("{id}Role"));
        }
    }
}

/// A start without what it requires is a start without its clients: it would be measured as a fast one.
#[test]
fn the_benchmarks_start_every_function_with_what_it_requires() {
    let script = std::fs::read_to_string(espalier_tests::root().join("benches/processes.py")).unwrap();
    let template = Template::read("template.yaml");
    for (id, _) in template.functions() {
        let function = id.to_lowercase();
        assert!(
            script.contains(&format!("    \"{function}\": [")),
            "benches/processes.py lists no clients of {function}"
        );
        let (_, required) = asked(&function);
        let missing: Vec<_> = required.iter().filter(|name| !script.contains(&format!("    \"{name}\": \""))).collect();
        assert!(missing.is_empty(), "{function} requires {missing:?}, which benches/processes.py does not set");
    }
}
