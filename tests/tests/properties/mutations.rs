//! JSON of any shape, and the recipe with something done to it.

use std::fmt::Write as _;

use espalier_tests::read;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The recipe's spec.
pub(crate) fn recipe() -> Value {
    serde_json::from_str(&read("examples/recipe.json")).unwrap()
}

/// Any JSON, a few levels deep.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any_text(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Text from nothing to nonsense, with what parsers stumble over.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    let odd: [&'static str; 13] =
        ["", "/", "~", "~1", "a/b", "stack", "kind", "source", "\u{0}", "\u{202e}x", "i-0abc1234", "1e999", "null"];
    prop_oneof![
        prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        prop::collection::vec(any::<char>(), 0..12).prop_map(|all| all.into_iter().collect()),
        "[ -~]{0,20}",
    ]
}

/// Every place in a document, as JSON pointers, the whole one (`""`) first.
pub(crate) fn places(document: &Value) -> Vec<String> {
    let mut all = Vec::new();
    collect(document, String::new(), &mut all);
    all
}

fn collect(value: &Value, at: String, all: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (escaped(name), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let below: Vec<(String, &Value)> = inner
        .into_iter()
        .map(|(name, value)| {
            let mut path = at.clone();
            write!(path, "/{name}").unwrap();
            (path, value)
        })
        .collect();
    all.push(at);
    below.into_iter().for_each(|(path, value)| collect(value, path, all));
}

/// A field's name as it stands in a pointer.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What can happen to a document at one place.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    Replace(Value),
    Remove,
    Add(String, Value),
    Twice,
}

/// One mutation: a place, by its share of all places, and what happens there.
pub(crate) fn mutation() -> impl Strategy<Value = (prop::sample::Index, Mutation)> {
    let near = prop::sample::select(vec![
        json!(0),
        json!(1),
        json!(2),
        json!(60),
        json!(168),
        json!(720),
        json!(65_535),
        json!(65_536),
        json!(443.0),
        json!(true),
        json!("absent"),
        json!("rotation"),
        json!("HTTP"),
        json!("a.example.com"),
        json!("i-0abc1234"),
        json!([]),
        json!({}),
        json!({"kind": "kms"}),
        json!("vpc-0a1b2c3d"),
        json!("200-299,404"),
        json!("10.0.0.2:53"),
    ]);
    let what = prop_oneof![
        3 => near.prop_map(Mutation::Replace),
        2 => any_json().prop_map(Mutation::Replace),
        2 => Just(Mutation::Remove),
        1 => (any_text(), any_json()).prop_map(|(name, value)| Mutation::Add(name, value)),
        1 => Just(Mutation::Twice),
    ];
    (any::<prop::sample::Index>(), what)
}

/// Does it.
pub(crate) fn mutate(document: &mut Value, index: prop::sample::Index, mutation: Mutation) {
    let all = places(document);
    let place = &all[index.index(all.len())];
    match mutation {
        Mutation::Replace(value) => *document.pointer_mut(place).unwrap() = value,
        Mutation::Remove => remove(document, place),
        Mutation::Add(name, value) => {
            if let Some(fields) = document.pointer_mut(place).and_then(Value::as_object_mut) {
                fields.insert(name, value);
            }
        }
        Mutation::Twice => {
            if let Some(items) = document.pointer_mut(place).and_then(Value::as_array_mut) {
                items.extend(items.clone());
            }
        }
    }
}

fn remove(document: &mut Value, place: &str) {
    let Some((parent, name)) = place.rsplit_once('/') else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => drop(fields.remove(&name)),
        Some(Value::Array(items)) => drop(items.remove(name.parse().unwrap())),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {}
    }
}
