//! Each pattern and each bound of the schema against the parser: what one takes, the other takes.

use espalier_domain::spec::{AllowedDomains, SpecErrors, parse, schema};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use regex::Regex;
use serde_json::{Value, json};

use crate::mutations::recipe;

/// Strings per pattern: as many that match, that nearly match, and that are anything.
const STRINGS: usize = 120;

/// A field of the recipe with what the schema says of it.
struct Field {
    pointer: String,
    schema: Value,
}

/// Every field with a pattern or bounds, and the recipe with every optional field filled in.
fn fields() -> (Vec<Field>, Value) {
    let mut document = recipe();
    document["service"]["idleTimeoutSeconds"] = json!(60);
    document["prober"]["resolver"] = json!("10.0.0.2:53");
    document["healthCheck"] = json!({"enabled": true, "port": 80, "path": "/", "intervalSeconds": 30,
        "timeoutSeconds": 5, "healthyThreshold": 5, "unhealthyThreshold": 2, "codes": "200"});
    let mut fields = Vec::new();
    collect(&schema(), String::new(), &document, &mut fields);
    // The two ways to select targets exclude each other.
    let mut listed = document.clone();
    listed["targets"]["select"] = json!({"instanceIds": ["i-0abc1234"]});
    let ids = schema()["properties"]["targets"]["properties"]["select"]["properties"]["instanceIds"]["items"].clone();
    fields.push(Field { pointer: "/targets/select/instanceIds/0".into(), schema: ids });
    (fields, document)
}

fn collect(schema: &Value, at: String, document: &Value, fields: &mut Vec<Field>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        collect(inner, format!("{at}/{name}"), document, fields);
    }
    if schema["items"].is_object() {
        collect(&schema["items"], format!("{at}/0"), document, fields);
    }
    let says = schema["pattern"].is_string() || schema["maximum"].is_u64();
    if says && document.pointer(&at).is_some() {
        fields.push(Field { pointer: at, schema: schema.clone() });
    }
}

/// The recipe with a value at a place.
fn with(document: &Value, pointer: &str, value: &Value) -> Value {
    let mut document = document.clone();
    if pointer.starts_with("/targets/select/instanceIds") {
        document["targets"]["select"] = json!({"instanceIds": ["i-0abc1234"]});
    }
    *document.pointer_mut(pointer).unwrap() = value.clone();
    document
}

/// Whether the parser takes the value by itself, whatever it says of its neighbours.
fn parser_takes(document: &Value, pointer: &str, value: &Value) -> bool {
    let errors =
        match parse(&with(document, pointer, value).to_string(), &AllowedDomains::parse("example.com").unwrap()) {
            Ok(_) => return true,
            Err(SpecErrors(errors)) => errors,
        };
    let of_shape = |problem: &str| match value {
        Value::String(text) => problem.starts_with(&format!("{text:?} is not ")),
        _ => problem.ends_with("is out of range") || problem.ends_with("is not such a number"),
    };
    !errors.iter().any(|error| error.path == pointer && of_shape(&error.problem))
}

fn schema_takes(field: &Field, value: &Value) -> bool {
    jsonschema::validator_for(&field.schema).unwrap().is_valid(value)
}

/// What a pattern cannot say and the parser does: the value is refused all the same, with a reason.
fn is_beyond(pointer: &str, text: &str) -> bool {
    match pointer {
        // That a range of codes goes upwards.
        "/healthCheck/codes" => text.split(',').any(|part| part.split_once('-').is_some_and(|(from, to)| from > to)),
        // Which of the strings in brackets are IPv6 addresses.
        "/prober/resolver" => text.starts_with('['),
        _ => false,
    }
}

/// Strings around a pattern: some that match it, some of those with one character changed, some of anything.
fn around(pattern: &str, runner: &mut TestRunner) -> Vec<String> {
    // The generator knows no look-around; what it makes without is sorted out by the pattern itself.
    let plain = Regex::new(r"\(\?[!=][^()]*\)").unwrap().replace_all(pattern, "").into_owned();
    let plain = plain.trim_start_matches('^').trim_end_matches('$').to_owned();
    let matching = proptest::string::string_regex(&plain).unwrap();
    let odd = "[-.:/,A-Za-z0-9_\u{0}\u{e9}\n ]".to_owned();
    let odd = proptest::string::string_regex(&odd).unwrap();
    let anything = proptest::string::string_regex("\\PC{0,12}|[a-z0-9-]{0,30}|[0-9.:-]{0,24}").unwrap();
    let mut all = vec![String::new()];
    for _ in 0..STRINGS {
        let good = matching.new_tree(runner).unwrap().current();
        let place = any::<prop::sample::Index>().new_tree(runner).unwrap().current();
        let other = odd.new_tree(runner).unwrap().current();
        let mut near: Vec<String> = good.chars().map(String::from).collect();
        let at = place.index(near.len().max(1));
        if let Some(one) = near.get_mut(at) {
            *one = if at.is_multiple_of(3) { String::new() } else { other };
        }
        all.extend([good.clone(), near.concat(), format!("{good}\n"), format!("{good}{good}")]);
        all.push(anything.new_tree(runner).unwrap().current());
    }
    all
}

fn runner() -> TestRunner {
    TestRunner::new_with_rng(crate::cases(1), TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn each_pattern_and_its_parser_take_the_same_strings() {
    let (fields, document) = fields();
    let mut runner = runner();
    let (mut patterns, mut taken, mut refused) = (0, 0, 0);
    for field in fields.iter().filter(|field| field.schema["pattern"].is_string()) {
        patterns += 1;
        let validator = jsonschema::validator_for(&field.schema).unwrap();
        for text in around(field.schema["pattern"].as_str().unwrap(), &mut runner) {
            let value = Value::from(text.as_str());
            let (by_schema, by_parser) = (validator.is_valid(&value), parser_takes(&document, &field.pointer, &value));
            if by_schema {
                taken += 1;
            } else {
                refused += 1;
            }
            let excused = by_schema && !by_parser && is_beyond(&field.pointer, &text);
            assert!(
                by_schema == by_parser || excused,
                "{}: {text:?}: schema {by_schema}, parser {by_parser}",
                field.pointer
            );
        }
    }
    assert!(patterns >= 18, "only {patterns} patterns were held");
    assert!(taken > 2_000 && refused > 2_000, "{taken} taken, {refused} refused: one side is hardly tried");
}

#[test]
fn each_bound_and_its_parser_take_the_same_numbers() {
    let (fields, document) = fields();
    let mut bounds = 0;
    for field in fields.iter().filter(|field| field.schema["maximum"].is_u64()) {
        bounds += 1;
        let (least, most) = (field.schema["minimum"].as_i64().unwrap(), field.schema["maximum"].as_i64().unwrap());
        for number in
            [least - 2, least - 1, least, least + 1, i64::midpoint(least, most), most - 1, most, most + 1, i64::MAX, -1]
        {
            let value = json!(number);
            let agree = schema_takes(field, &value) == parser_takes(&document, &field.pointer, &value);
            assert!(agree, "{}: {number}", field.pointer);
        }
        for other in [json!(1.5), json!("1"), json!(null), json!([1]), json!(true)] {
            assert!(!schema_takes(field, &other), "{}: {other}", field.pointer);
            assert!(
                parse(
                    &with(&document, &field.pointer, &other).to_string(),
                    &AllowedDomains::parse("example.com").unwrap()
                )
                .is_err()
            );
        }
    }
    assert!(bounds >= 15, "only {bounds} bounds were held");
}
