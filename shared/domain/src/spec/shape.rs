//! A table that says what a document may look like; checking reports everything, and the JSON Schema is printed from it.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::SpecError;

/// What a value may be.
pub(super) enum Shape {
    /// An object with these fields and no others.
    Object(&'static [Field]),
    /// An object with these fields; for others that somebody might expect there is a reason why they are not.
    Keys { fields: &'static [Field], refused: fn(&str) -> Option<&'static str> },
    /// What is changed as a whole, whatever it is made of.
    Whole(&'static Shape),
    /// An object with exactly one of these fields; for others that somebody might expect there is a reason.
    OneOf { fields: &'static [Field], refused: fn(&str) -> Option<&'static str> },
    /// A text that `accepts` takes; `expected` finishes the sentence "is not ...".
    Text { accepts: fn(&str) -> bool, expected: &'static str, pattern: &'static str },
    /// One of these words; a later word parses nowhere yet and says so.
    Word { now: &'static [&'static str], later: &'static [&'static str] },
    /// A word that is refused for a reason worth telling.
    Refusing { now: &'static [&'static str], refused: &'static [(&'static str, &'static str)] },
    /// A whole number.
    Number(RangeInclusive<u64>),
    /// true or false.
    Truth,
    /// A list of so many.
    List { of: &'static Shape, count: RangeInclusive<usize> },
}

/// A field of an object.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) needed: bool,
    pub(super) shape: Shape,
    pub(super) about: &'static str,
}

/// A field that has to be there.
pub(super) const fn needed(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, needed: true, shape, about }
}

/// A field that may be left out.
pub(super) const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, needed: false, shape, about }
}

/// Checks `value` and everything below it.
pub(super) fn check(shape: &Shape, value: &Value, path: &str, errors: &mut Vec<SpecError>) {
    let mut report = |problem: String, remedy: String| {
        errors.push(SpecError { path: path.to_owned(), problem, remedy });
    };
    match shape {
        Shape::Object(fields) => match value.as_object() {
            Some(object) => check_object(fields, object, path, &|_| None, errors),
            None => report(format!("{} is not an object", kind(value)), "write an object".into()),
        },
        Shape::Keys { fields, refused } => match value.as_object() {
            Some(object) => check_object(fields, object, path, refused, errors),
            None => report(format!("{} is not an object", kind(value)), "write an object".into()),
        },
        Shape::Whole(shape) => check(shape, value, path, errors),
        Shape::OneOf { fields, refused } => match value.as_object() {
            Some(object) if object.len() == 1 => check_object(fields, object, path, refused, errors),
            Some(_) | None => report("is not exactly one choice".into(), format!("write one of {}", names(fields))),
        },
        Shape::Text { accepts, expected, .. } => match value.as_str() {
            Some(text) if accepts(text) => {}
            Some(text) => report(format!("{text:?} is not {expected}"), format!("write {expected}")),
            None => report(format!("{} is not a text", kind(value)), format!("write {expected}")),
        },
        Shape::Word { now, later } => match value.as_str() {
            Some(word) if now.contains(&word) => {}
            Some(word) if later.contains(&word) => {
                report(format!("{word:?} is not supported by this version"), format!("write one of {now:?}"));
            }
            Some(word) => report(format!("{word:?} is not one of {now:?}"), "write one of them".into()),
            None => report(format!("{} is not a word", kind(value)), format!("write one of {now:?}")),
        },
        Shape::Refusing { now, refused } => match value.as_str() {
            Some(word) if now.contains(&word) => {}
            Some(word) => {
                let why = refused.iter().find(|(name, _)| *name == word).map(|(_, why)| *why);
                let problem = why.map_or_else(|| format!("{word:?} is unknown"), |why| format!("{word:?} {why}"));
                report(problem, format!("write one of {now:?}"));
            }
            None => report(format!("{} is not a word", kind(value)), format!("write one of {now:?}")),
        },
        Shape::Number(range) => {
            let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
            match value.as_u64() {
                Some(number) if range.contains(&number) => {}
                Some(number) => report(format!("{number} is out of range"), remedy),
                None => report(format!("{} is not such a number", kind(value)), remedy),
            }
        }
        Shape::Truth => {
            if !value.is_boolean() {
                report(format!("{} is not a truth value", kind(value)), "write true or false".into());
            }
        }
        Shape::List { of, count } => match value.as_array() {
            Some(list) => {
                if !count.contains(&list.len()) {
                    let remedy = format!("list {} to {}", count.start(), count.end());
                    report(format!("has {} entries", list.len()), remedy);
                }
                for (index, entry) in list.iter().enumerate() {
                    check(of, entry, &format!("{path}/{index}"), errors);
                }
            }
            None => report(format!("{} is not a list", kind(value)), "write a list".into()),
        },
    }
}

fn check_object(
    fields: &[Field],
    object: &Map<String, Value>,
    path: &str,
    refused: &dyn Fn(&str) -> Option<&'static str>,
    errors: &mut Vec<SpecError>,
) {
    for (name, value) in object {
        let inner = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        match fields.iter().find(|field| field.name == name) {
            Some(field) => check(&field.shape, value, &inner, errors),
            None => errors.push(SpecError {
                path: inner,
                problem: refused(name).unwrap_or("is unknown").into(),
                remedy: format!("remove it, or write one of {}", names(fields)),
            }),
        }
    }
    for field in fields.iter().filter(|field| field.needed && !object.contains_key(field.name)) {
        errors.push(SpecError {
            path: format!("{path}/{}", field.name),
            problem: "is missing".into(),
            remedy: format!("add it: {}", field.about),
        });
    }
}

/// The JSON Schema of a shape.
pub(super) fn schema(shape: &Shape) -> Value {
    match shape {
        Shape::Whole(shape) => schema(shape),
        Shape::Object(fields) | Shape::Keys { fields, .. } => {
            let required: Vec<&str> = fields.iter().filter(|field| field.needed).map(|field| field.name).collect();
            json!({"type": "object", "additionalProperties": false,
                   "required": required, "properties": properties(fields)})
        }
        Shape::OneOf { fields, .. } => json!({"type": "object", "additionalProperties": false, "minProperties": 1,
                                       "maxProperties": 1, "properties": properties(fields)}),
        Shape::Text { pattern, .. } => json!({"type": "string", "pattern": pattern}),
        Shape::Word { now, .. } | Shape::Refusing { now, .. } => json!({"enum": now}),
        Shape::Number(range) => json!({"type": "integer", "minimum": range.start(), "maximum": range.end()}),
        Shape::Truth => json!({"type": "boolean"}),
        Shape::List { of, count } => {
            json!({"type": "array", "items": schema(of), "minItems": count.start(), "maxItems": count.end()})
        }
    }
}

/// The paths of everything that holds a value, in the table's order.
pub(super) fn leaves(shape: &Shape) -> Vec<String> {
    match shape {
        Shape::Object(fields) | Shape::OneOf { fields, .. } => fields
            .iter()
            .flat_map(|field| leaves(&field.shape).into_iter().map(|below| format!("/{}{below}", field.name)))
            .collect(),
        Shape::List { of: Shape::Object(fields), .. } => {
            leaves(&Shape::Object(fields)).into_iter().map(|below| format!("/*{below}")).collect()
        }
        Shape::Text { .. }
        | Shape::Word { .. }
        | Shape::Refusing { .. }
        | Shape::Number(_)
        | Shape::Truth
        | Shape::Keys { .. }
        | Shape::Whole(_)
        | Shape::List { .. } => vec![String::new()],
    }
}

fn properties(fields: &[Field]) -> Map<String, Value> {
    fields
        .iter()
        .map(|field| {
            let mut value = schema(&field.shape);
            value["description"] = Value::from(field.about);
            (field.name.to_owned(), value)
        })
        .collect()
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
