//! Specs: any text is read or refused with places and remedies; a mutated recipe is refused by parser and schema alike.

use std::sync::LazyLock;

use espalier_domain::spec::{AllowedDomains, Spec, SpecError, SpecErrors, parse, schema};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::Value;

use crate::cases;
use crate::mutations::{any_json, escaped, mutate, mutation, recipe};

/// What only [`espalier_domain::spec`] can say, because it compares fields or knows the control plane: the schema is
/// silent there. Each is the beginning of what follows the quoted value, or of the whole problem.
const BEYOND_THE_SCHEMA: [&str; 6] = [
    "lets no connection through",
    "bytes long",
    "is outside the control plane's AllowedDomains",
    "is listed twice",
    "is not less than",
    "does not contain",
];

fn read(text: &str) -> Result<Spec, SpecErrors> {
    parse(text, &AllowedDomains::parse("example.com").unwrap())
}

/// The published schema, and what validates with it.
static SCHEMA: LazyLock<(Value, Validator)> = LazyLock::new(|| {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    (schema, validator)
});

/// Every mistake says where, what and what to do; where is in the document, or a field that the schema knows.
fn well_said(document: Option<&Value>, errors: &[SpecError]) {
    assert!(!errors.is_empty(), "refused without a mistake");
    for error in errors {
        assert!(!error.problem.trim().is_empty() && !error.remedy.trim().is_empty(), "{error:?}");
        let Some(document) = document else {
            assert_eq!(error.path, "", "a text that is no JSON has no places");
            continue;
        };
        if document.pointer(&error.path).is_none() {
            let (parent, name) = error.path.rsplit_once('/').unwrap();
            assert!(document.pointer(parent).is_some_and(Value::is_object), "{error:?} is nowhere");
            assert!(error.problem == "is missing" && known(name), "{error:?} is in neither document nor schema");
        }
    }
}

/// Whether some object of the schema has this field.
fn known(field: &str) -> bool {
    fn search(schema: &Value, field: &str) -> bool {
        match schema {
            Value::Object(fields) => {
                fields.get("properties").is_some_and(|all| all.get(field).is_some())
                    || fields.values().any(|inner| search(inner, field))
            }
            Value::Array(items) => items.iter().any(|inner| search(inner, field)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    search(&SCHEMA.0, field)
}

/// Parser and schema agree on a document, but for what only the parser can know.
fn of_one_mind(document: &Value) {
    let validator = &SCHEMA.1;
    match read(&document.to_string()) {
        Ok(_) => {
            let mistakes: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
            assert!(mistakes.is_empty(), "the parser takes what the schema refuses: {mistakes:?}\n{document}");
        }
        Err(SpecErrors(errors)) => {
            well_said(Some(document), &errors);
            let beyond = |error: &SpecError| BEYOND_THE_SCHEMA.iter().any(|known| error.problem.contains(known));
            let justified = errors.iter().all(|error| beyond(error) || is_beyond_patterns(document, error));
            assert!(
                justified || !validator.is_valid(document),
                "the schema takes what the parser refuses: {errors:?}\n{document}"
            );
        }
    }
}

/// What a pattern or a bound cannot say, field by field (see `schema.rs`, which holds every pattern by itself).
fn is_beyond_patterns(document: &Value, error: &SpecError) -> bool {
    let value = document.pointer(&error.path);
    // JSON Schema calls 443.0 a whole number; the parser wants it written as one.
    value.is_some_and(|value| value.as_f64().is_some_and(|number| number.fract() == 0.0 && !value.is_u64()))
        || error.path == "/healthCheck/codes"
        || error.path == "/prober/resolver" && value.and_then(Value::as_str).is_some_and(|text| text.starts_with('['))
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        if let Err(SpecErrors(errors)) = read(&text) {
            well_said(serde_json::from_str(&text).ok().as_ref(), &errors);
        }
    }

    #[test]
    fn any_json_is_refused_where_it_is_wrong(document in any_json()) {
        // Through text, as it comes: a number may come back as another.
        let document: Value = serde_json::from_str(&document.to_string()).unwrap();
        let SpecErrors(errors) = read(&document.to_string()).unwrap_err();
        well_said(Some(&document), &errors);
    }

    #[test]
    fn a_mutated_recipe_is_a_spec_for_both_or_for_neither(
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let mut document = recipe();
        for (index, mutation) in mutations {
            mutate(&mut document, index, mutation);
        }
        let document: Value = serde_json::from_str(&document.to_string()).unwrap();
        of_one_mind(&document);
    }

    #[test]
    fn what_a_spec_means_does_not_depend_on_how_it_is_written(
        mutations in prop::collection::vec(mutation(), 0..3),
    ) {
        let mut document = recipe();
        for (index, mutation) in mutations {
            mutate(&mut document, index, mutation);
        }
        let (close, wide) = (document.to_string(), serde_json::to_string_pretty(&document).unwrap());
        prop_assert_eq!(read(&close), read(&wide));
        if let Ok(spec) = read(&close) {
            let other = read(&wide).unwrap();
            prop_assert_eq!(other.hash(), spec.hash());
        }
    }

    #[test]
    fn a_field_nobody_knows_is_named(name in "[a-z/~]{1,12}") {
        let mut document = recipe();
        prop_assume!(!known(&name));
        document["service"][name.as_str()] = Value::Null;
        let SpecErrors(errors) = read(&document.to_string()).unwrap_err();
        prop_assert_eq!(errors.len(), 1);
        prop_assert_eq!(&errors[0].path, &format!("/service/{}", escaped(&name)));
    }
}
