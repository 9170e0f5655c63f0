//! What the daemon and X-Ray take, each refusal by the page it rests on.
//!
//! `S` is the X-Ray developer guide's "Sending trace data to AWS X-Ray", `D` its "AWS X-Ray segment documents".
//! `precaution` marks what no page states.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Bytes of a document (D: "A segment document can be up to 64 kB").
const LARGEST: usize = 64_000;
/// Characters of a name (D: "name").
const NAME: usize = 200;
/// Characters of an annotation (D: "annotations").
const ANNOTATION: usize = 1_000;

/// Fields of any segment (D: "Segment fields", "Subsegments").
const FIELDS: [&str; 14] = [
    "id",
    "name",
    "start_time",
    "end_time",
    "in_progress",
    "http",
    "aws",
    "error",
    "throttle",
    "fault",
    "cause",
    "annotations",
    "metadata",
    "subsegments",
];
const OF_SEGMENTS: [&str; 5] = ["trace_id", "parent_id", "service", "user", "origin"];
const OF_SUBSEGMENTS: [&str; 3] = ["namespace", "precursor_ids", "sql"];
const SENT_ALONE: [&str; 3] = ["trace_id", "parent_id", "type"];

/// Reads a datagram, or says what is wrong with it.
pub(super) fn read(datagram: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(datagram).map_err(|error| format!("S: the datagram is no text: {error}"))?;
    let (header, document) = text.split_once('\n').ok_or("S: no line break after the daemon's header")?;
    let header: Value = serde_json::from_str(header).map_err(|error| format!("S: the daemon's header: {error}"))?;
    if header != serde_json::json!({"format": "json", "version": 1}) {
        return Err(format!("S: the daemon's header is {header}"));
    }
    if document.len() > LARGEST {
        return Err(format!("D: a document of {} bytes", document.len()));
    }
    let document: Value = serde_json::from_str(document).map_err(|error| format!("D: the document: {error}"))?;
    let fields = document.as_object().ok_or("D: the document is not a JSON object")?;
    let told = check(fields).map_err(|problem| format!("D: {problem}: {document}"));
    told.map(|()| document)
}

fn check(fields: &Map<String, Value>) -> Result<(), String> {
    trace_id(text(fields, "trace_id")?)?;
    let mut seen = BTreeSet::new();
    match fields.get("type").map(Value::as_str) {
        None => {
            if let Some(parent) = fields.get("parent_id") {
                id(parent.as_str().unwrap_or_default(), "parent_id")?;
            }
            segment(fields, &[&FIELDS, &OF_SEGMENTS], &mut seen)
        }
        Some(Some("subsegment")) => {
            id(text(fields, "parent_id")?, "parent_id")?;
            segment(fields, &[&FIELDS, &OF_SUBSEGMENTS, &SENT_ALONE], &mut seen)
        }
        Some(_) => Err("`type` is not \"subsegment\"".to_owned()),
    }
}

fn segment(fields: &Map<String, Value>, known: &[&[&str]], seen: &mut BTreeSet<String>) -> Result<(), String> {
    if let Some(unknown) = fields.keys().find(|field| !known.iter().any(|list| list.contains(&field.as_str()))) {
        return Err(format!("there is no field `{unknown}`"));
    }
    let own = text(fields, "id")?;
    id(own, "id")?;
    if !seen.insert(own.to_owned()) {
        return Err(format!("two with the id {own}"));
    }
    name(text(fields, "name")?)?;
    times(fields)?;
    for flag in ["error", "throttle", "fault"] {
        if fields.get(flag).is_some_and(|value| !value.is_boolean()) {
            return Err(format!("`{flag}` is no boolean"));
        }
    }
    if fields.get("namespace").is_some_and(|value| value != "aws" && value != "remote") {
        return Err("`namespace` is neither aws nor remote".to_owned());
    }
    for field in ["http", "aws", "metadata", "service"] {
        if fields.get(field).is_some_and(|value| !value.is_object()) {
            return Err(format!("`{field}` is no object"));
        }
    }
    annotations(fields.get("annotations"))?;
    let Some(inner) = fields.get("subsegments") else { return Ok(()) };
    for one in inner.as_array().ok_or("`subsegments` is no list")? {
        let one = one.as_object().ok_or("a subsegment is no object")?;
        segment(one, &[&FIELDS, &OF_SUBSEGMENTS], seen)?;
    }
    Ok(())
}

fn text<'a>(fields: &'a Map<String, Value>, field: &str) -> Result<&'a str, String> {
    fields.get(field).and_then(Value::as_str).ok_or_else(|| format!("no text in `{field}`"))
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn id(text: &str, field: &str) -> Result<(), String> {
    // No page says whether all zeros is an id; OpenTelemetry's is none (precaution).
    if is_hexadecimal(text, 16) && text.bytes().any(|byte| byte != b'0') {
        return Ok(());
    }
    Err(format!("`{field}` is {text:?} and not 16 hexadecimal digits"))
}

fn trace_id(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        ["1", time, rest] if is_hexadecimal(time, 8) && is_hexadecimal(rest, 24) => Ok(()),
        _ => Err(format!("`trace_id` is {text:?}")),
    }
}

fn name(text: &str) -> Result<(), String> {
    let is_taken = |one: char| one.is_alphanumeric() || one.is_whitespace() || "_.:/%&#=+\\-@".contains(one);
    if !text.is_empty() && text.chars().count() <= NAME && text.chars().all(is_taken) {
        return Ok(());
    }
    Err(format!("`name` is {text:?}"))
}

/// Seconds since 1970, as a number.
fn times(fields: &Map<String, Value>) -> Result<(), String> {
    let time = |field: &str| fields.get(field).map(|value| value.as_f64().ok_or(format!("`{field}` is no number")));
    let begun = time("start_time").ok_or("no `start_time`")??;
    if fields.get("in_progress") == Some(&Value::Bool(true)) {
        return if fields.contains_key("end_time") { Err("both in progress and over".to_owned()) } else { Ok(()) };
    }
    let ended = time("end_time").ok_or("no `end_time`")??;
    // Milliseconds would be a time far away, and an end before the beginning is nobody's (precaution).
    if !(1e9..1e10).contains(&begun) || ended < begun {
        return Err(format!("it takes from {begun} to {ended}"));
    }
    Ok(())
}

fn annotations(value: Option<&Value>) -> Result<(), String> {
    let Some(value) = value else { return Ok(()) };
    for (key, value) in value.as_object().ok_or("`annotations` is no object")? {
        if !key.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
            return Err(format!("the annotation `{key}` cannot be searched for"));
        }
        let is_short = value.as_str().is_some_and(|text| text.chars().count() <= ANNOTATION);
        if !(is_short || value.is_number() || value.is_boolean()) {
            return Err(format!("the annotation `{key}` is neither a short text, a number nor a boolean"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HEADER: &str = "{\"format\": \"json\", \"version\": 1}\n";

    fn segment() -> Value {
        json!({"trace_id": "1-581cf771-a006649127e371903a2de979", "id": "70de5b6f19ff9a0a", "name": "example.com",
            "start_time": 1.478293361271E9, "end_time": 1.478293361449E9})
    }

    fn subsegment() -> Value {
        json!({"trace_id": "1-581cf771-a006649127e371903a2de979", "id": "53995c3f42cd8ad8", "name": "api.example.com",
            "start_time": 1478293361.271, "end_time": 1478293361.449, "type": "subsegment",
            "parent_id": "70de5b6f19ff9a0a", "namespace": "remote"})
    }

    fn judged(document: &Value) -> Result<Value, String> {
        read(format!("{HEADER}{document}").as_bytes())
    }

    #[test]
    fn the_guides_own_examples_are_taken() {
        assert_eq!(judged(&segment()), Ok(segment()));
        assert_eq!(judged(&subsegment()), Ok(subsegment()));
        let mut progress = segment();
        progress.as_object_mut().unwrap().remove("end_time");
        progress["in_progress"] = true.into();
        assert!(judged(&progress).is_ok());
    }

    #[test]
    fn what_x_ray_would_throw_away_is_refused_by_name() {
        let wrong: [(&str, Value, &str); 14] = [
            ("trace_id", json!("581cf771a006649127e371903a2de979"), "`trace_id`"),
            ("id", json!("70DE5B6F19FF9A0A"), "`id`"),
            ("id", json!("0000000000000000"), "`id`"),
            ("name", json!("a<b"), "`name`"),
            ("name", json!(null), "no text in `name`"),
            ("start_time", json!("now"), "`start_time` is no number"),
            ("start_time", json!(1478293361271_i64), "takes from"),
            ("end_time", json!(1478293300.0), "takes from"),
            ("parent_id", json!("7"), "`parent_id`"),
            ("namespace", json!("local"), "`namespace`"),
            ("fault", json!("yes"), "`fault`"),
            ("annotations", json!({"a.b": 1}), "cannot be searched for"),
            ("annotations", json!({"a": [1]}), "neither a short text"),
            ("colour", json!("green"), "no field `colour`"),
        ];
        for (field, value, problem) in wrong {
            let mut document = subsegment();
            document[field] = value;
            let refused = judged(&document).unwrap_err();
            assert!(refused.contains(problem), "{field}: {refused}");
        }
        let mut twice = subsegment();
        let mut inner = segment();
        inner.as_object_mut().unwrap().remove("trace_id");
        twice["subsegments"] = json!([inner, inner]);
        assert!(judged(&twice).unwrap_err().contains("two with the id"));
        let mut large = segment();
        large["metadata"] = json!({"default": {"text": "x".repeat(LARGEST)}});
        assert!(judged(&large).unwrap_err().contains("bytes"));
        for (datagram, problem) in [
            (segment().to_string(), "no line break"),
            (format!("{{\"format\": \"json\"}}\n{}", segment()), "header is"),
            (format!("{HEADER}[]"), "not a JSON object"),
        ] {
            assert!(read(datagram.as_bytes()).unwrap_err().contains(problem), "{datagram}");
        }
    }
}
