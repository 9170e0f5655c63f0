//! The published constraints of the API (`model.json`) and the check of a request or an answer against them.
//!
//! AWS publishes for each operation which members it has, which are required, and their lengths, ranges, patterns and
//! enumerations. Checking from that data leaves no constraint to be forgotten or mistyped.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

const TEXT: &str = include_str!("model.json");

/// The model could not be read: `model.json` is broken.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not the JSON this module expects.
    #[error("model.json cannot be read")]
    Json(#[from] serde_json::Error),
    /// A pattern that the regex engine does not know.
    #[error("model.json holds a pattern that cannot be compiled")]
    Pattern(#[from] regex::Error),
}

/// The operations the stand-in serves and every shape they use.
#[derive(Debug)]
pub(super) struct Model {
    operations: BTreeMap<String, Operation>,
    shapes: BTreeMap<String, Shape>,
    patterns: BTreeMap<String, Pattern>,
}

/// One operation.
#[derive(Debug, Deserialize)]
pub(super) struct Operation {
    /// HTTP method.
    pub(super) method: String,
    /// Path template such as `/services/{serviceIdentifier}`.
    pub(super) uri: String,
    /// HTTP status of success.
    pub(super) status: u16,
    /// Shape of the request.
    pub(super) input: String,
    /// Shape of the answer.
    pub(super) output: String,
}

#[derive(Debug, Deserialize)]
struct Shape {
    #[serde(rename = "type")]
    kind: ShapeKind,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    members: BTreeMap<String, Member>,
    min: Option<i64>,
    max: Option<i64>,
    pattern: Option<String>,
    #[serde(rename = "enum", default)]
    values: Vec<String>,
    #[serde(default)]
    union: bool,
    member: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ShapeKind {
    Structure,
    List,
    Map,
    String,
    Integer,
    Long,
    Boolean,
    Timestamp,
}

#[derive(Debug, Deserialize)]
struct Member {
    shape: String,
    location: Option<Location>,
    name: Option<String>,
}

/// Where a member travels when it is not in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Location {
    /// Part of the path.
    Uri,
    /// In the query string.
    QueryString,
    /// In a header.
    Header,
}

/// One broken constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// The member, as `config.healthCheck.protocol`.
    pub(super) path: String,
    /// What is wrong with it.
    pub(super) problem: String,
    /// The member does not exist in the API at all.
    pub(super) unknown: bool,
}

/// A pattern of the model: look-aheads that must not match at the start, and what the whole text must match. The regex
/// engine has no look-around; the model uses it in this one form only.
#[derive(Debug)]
struct Pattern {
    never: Vec<Regex>,
    whole: Regex,
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, regex::Error> {
        let (mut never, mut rest) = (Vec::new(), text);
        while let Some((inner, after)) = rest.strip_prefix("(?!").and_then(|tail| tail.split_once(')')) {
            never.push(Regex::new(&format!("^(?:{inner})"))?);
            rest = after;
        }
        Ok(Self { never, whole: Regex::new(&format!("^(?:{rest})$"))? })
    }

    fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text) && !self.never.iter().any(|never| never.is_match(text))
    }
}

impl Model {
    /// Reads the checked-in model.
    pub(super) fn load() -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct File {
            operations: BTreeMap<String, Operation>,
            shapes: BTreeMap<String, Shape>,
        }
        let File { operations, shapes } = serde_json::from_str(TEXT)?;
        let mut patterns = BTreeMap::new();
        for (name, shape) in &shapes {
            if let Some(pattern) = &shape.pattern {
                patterns.insert(name.clone(), Pattern::compile(pattern)?);
            }
        }
        Ok(Self { operations, shapes, patterns })
    }

    /// The operation that a method and the (still encoded) segments of a path mean, with its path parameters.
    pub(super) fn route(&self, method: &str, path: &str) -> Option<(&str, &Operation, Map<String, Value>)> {
        self.operations.iter().filter(|(_, operation)| operation.method == method).find_map(|(name, operation)| {
            let parameters = match_path(&operation.uri, path)?;
            Some((name.as_str(), operation, parameters))
        })
    }

    /// The members of an operation's request that travel in the query string, and whether each is a list.
    pub(super) fn query_members(&self, operation: &Operation) -> Vec<(&str, bool)> {
        let Some(shape) = self.shapes.get(&operation.input) else { return Vec::new() };
        let in_query = shape.members.iter().filter(|(_, member)| member.location == Some(Location::QueryString));
        let is_list = |member: &Member| self.shapes.get(&member.shape).is_some_and(|s| s.kind == ShapeKind::List);
        in_query.map(|(name, member)| (member.name.as_deref().unwrap_or(name), is_list(member))).collect()
    }

    /// Is this member a number? Query strings carry text.
    pub(super) fn is_number(&self, operation: &Operation, member: &str) -> bool {
        let shape = self.shapes.get(&operation.input).and_then(|shape| shape.members.get(member));
        let shape = shape.and_then(|member| self.shapes.get(&member.shape));
        shape.is_some_and(|shape| matches!(shape.kind, ShapeKind::Integer | ShapeKind::Long))
    }

    /// Every constraint that a request breaks.
    pub(super) fn check_input(&self, operation: &Operation, input: &Value) -> Vec<Broken> {
        self.check(&operation.input, input)
    }

    /// Every constraint that an answer breaks: a mistake of ours.
    pub(super) fn check_output(&self, operation: &Operation, output: &Value) -> Vec<Broken> {
        self.check(&operation.output, output)
    }

    fn check(&self, shape: &str, value: &Value) -> Vec<Broken> {
        let mut broken = Vec::new();
        self.walk(shape, value, "", &mut broken);
        broken
    }

    fn walk(&self, name: &str, value: &Value, path: &str, broken: &mut Vec<Broken>) {
        let Some(shape) = self.shapes.get(name) else { return };
        let mut report = |problem: String| broken.push(Broken { path: path.to_owned(), problem, unknown: false });
        match (shape.kind, value) {
            (ShapeKind::Structure, Value::Object(fields)) => self.walk_structure(shape, fields, path, broken),
            (ShapeKind::List, Value::Array(items)) => {
                within(shape, items.len(), "members").map(&mut report);
                for (index, item) in items.iter().enumerate() {
                    self.walk(shape.member.as_deref().unwrap_or_default(), item, &format!("{path}[{index}]"), broken);
                }
            }
            (ShapeKind::Map, Value::Object(fields)) => {
                within(shape, fields.len(), "entries").map(&mut report);
                for (key, item) in fields {
                    let path = format!("{path}.{key}");
                    self.walk(shape.key.as_deref().unwrap_or_default(), &Value::from(key.as_str()), &path, broken);
                    self.walk(shape.value.as_deref().unwrap_or_default(), item, &path, broken);
                }
            }
            (ShapeKind::String, Value::String(text)) => {
                within(shape, text.chars().count(), "characters").map(&mut report);
                if self.patterns.get(name).is_some_and(|pattern| !pattern.matches(text)) {
                    report(format!("{text:?} does not match {}", shape.pattern.as_deref().unwrap_or_default()));
                }
                if !shape.values.is_empty() && !shape.values.contains(text) {
                    report(format!("{text:?} is not one of {}", shape.values.join(", ")));
                }
            }
            (ShapeKind::Integer | ShapeKind::Long, Value::Number(number)) => match number.as_i64() {
                Some(number) => {
                    bounds(shape, number).map(&mut report);
                }
                None => report(format!("{number} is not a whole number")),
            },
            (ShapeKind::Boolean, Value::Bool(_)) | (ShapeKind::Timestamp, Value::String(_)) => {}
            (kind, _) => report(format!("{value} is not of type {kind:?}")),
        }
    }

    fn walk_structure(&self, shape: &Shape, fields: &Map<String, Value>, path: &str, broken: &mut Vec<Broken>) {
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for name in shape.required.iter().filter(|name| !fields.contains_key(*name)) {
            broken.push(Broken { path: join(name), problem: "is required".into(), unknown: false });
        }
        if shape.union && fields.len() != 1 {
            let problem = format!("exactly one of {:?} must be set", shape.members.keys().collect::<Vec<_>>());
            broken.push(Broken { path: path.to_owned(), problem, unknown: false });
        }
        for (name, value) in fields {
            match shape.members.get(name) {
                Some(member) => self.walk(&member.shape, value, &join(name), broken),
                None => {
                    broken.push(Broken { path: join(name), problem: "is not a member".into(), unknown: true });
                }
            }
        }
    }
}

fn within(shape: &Shape, length: usize, of: &str) -> Option<String> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    bounds(shape, length).map(|problem| format!("has {problem} {of}"))
}

fn bounds(shape: &Shape, value: i64) -> Option<String> {
    let low = shape.min.is_some_and(|min| value < min);
    let high = shape.max.is_some_and(|max| value > max);
    let bound = |bound: Option<i64>| bound.map_or_else(String::new, |bound| bound.to_string());
    (low || high).then(|| format!("{value}, not {}..{}", bound(shape.min), bound(shape.max)))
}

fn match_path(template: &str, path: &str) -> Option<Map<String, Value>> {
    let mut parameters = Map::new();
    let (mut wanted, mut given) = (template[1..].split('/'), path.strip_prefix('/')?.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(part), Some(segment)) => {
                match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                    // An ARN's slashes arrive encoded, except where something on the way has decoded them.
                    Some("resourceArn") => {
                        let rest = std::iter::once(segment).chain(given.by_ref()).collect::<Vec<_>>().join("/");
                        parameters.insert("resourceArn".into(), decode(&rest).into());
                    }
                    Some(name) if !segment.is_empty() => {
                        parameters.insert(name.into(), decode(segment).into());
                    }
                    None if part == segment => {}
                    Some(_) | None => return None,
                }
            }
            (None, Some(_)) | (Some(_), None) => return None,
        }
    }
}

/// Percent-decodes; what is not valid stays as it is.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn broken(operation: &str, input: &Value) -> Vec<String> {
        let model = Model::load().unwrap();
        let found = model.check_input(&model.operations[operation], input);
        found.into_iter().map(|broken| broken.path).collect()
    }

    #[test]
    fn every_pattern_of_the_model_compiles_and_names_are_judged_by_it() {
        for good in ["abc", "api-service-network", &"a".repeat(40)] {
            assert_eq!(broken("CreateService", &json!({"name": good})), Vec::<String>::new(), "{good}");
        }
        for bad in ["ab", "svc-abc", "-abc", "abc-", "a--bc", "Abc", &"a".repeat(41)] {
            let names = broken("CreateService", &json!({"name": bad}));
            assert!(names.iter().all(|n| n == "name") && !names.is_empty(), "{bad}");
        }
        assert_eq!(broken("CreateServiceNetwork", &json!({"name": "svc-abc"})), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_unknown_or_of_the_wrong_type_is_all_reported_at_once() {
        let input = json!({"type": "INSTANCE", "port": 443, "config": {"port": 0, "healthCheck": {"protocol": "UDP"}}});
        let paths = broken("CreateTargetGroup", &input);
        assert_eq!(paths, ["name", "config.healthCheck.protocol", "config.port", "port"]);
        assert_eq!(broken("CreateService", &json!({"name": 7})), ["name"]);
    }

    #[test]
    fn a_union_takes_exactly_one_member() {
        let action = json!({"forward": {"targetGroups": []}, "fixedResponse": {"statusCode": 404}});
        let input = json!({"serviceIdentifier": format!("svc-{}", "0".repeat(17)), "name": "abc", "protocol": "HTTP",
            "defaultAction": action});
        assert!(broken("CreateListener", &input).contains(&"defaultAction".to_owned()));
    }

    #[test]
    fn paths_with_encoded_and_plain_arns_are_routed() {
        let model = Model::load().unwrap();
        let (name, _, parameters) = model.route("GET", "/services/arn%3Aaws%3Ax%2Fy/listeners").unwrap();
        assert_eq!((name, &parameters["serviceIdentifier"]), ("ListListeners", &json!("arn:aws:x/y")));
        for path in ["/tags/arn:aws:service/svc-1", "/tags/arn%3Aaws%3Aservice%2Fsvc-1"] {
            let (name, _, parameters) = model.route("POST", path).unwrap();
            assert_eq!((name, &parameters["resourceArn"]), ("TagResource", &json!("arn:aws:service/svc-1")));
        }
        assert!(model.route("GET", "/services/").is_none());
        assert!(model.route("PUT", "/services").is_none());
    }
}
