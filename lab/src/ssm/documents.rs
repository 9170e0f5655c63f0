//! Command documents of schema 2.2.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::parameters::text;
use super::rules::{Fault, Rule};
use super::{Answer, Ssm};

/// Bytes of a document (API CreateDocument).
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// A document with all its versions.
#[derive(Debug, Clone)]
pub(super) struct Document {
    versions: Vec<Version>,
    default: usize,
}

/// One version: what was given, and what it means.
#[derive(Debug, Clone)]
struct Version {
    content: String,
    format: String,
    created: i64,
    parsed: Parsed,
}

/// What of a document is executed.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) parameters: BTreeMap<String, Parameter>,
    pub(super) steps: Vec<Step>,
    description: String,
}

/// A parameter of a document.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    list: bool,
    pub(super) env_var: bool,
    default: Option<Value>,
    pattern: Option<Regex>,
    allowed: Vec<String>,
    description: String,
}

/// A step of action `aws:runShellScript`.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) lines: Vec<String>,
    /// Seconds, as text: it may be `{{ Parameter }}`.
    pub(super) timeout: String,
}

impl Document {
    /// A version's number and meaning: `None` and `$DEFAULT` are the default one.
    pub(super) fn version(&self, wanted: Option<&str>) -> Result<(usize, &Parsed), Fault> {
        let number = self.number(wanted)?;
        let version = self.versions.get(number - 1);
        version.map(|version| (number, &version.parsed)).ok_or_else(|| unknown_version(wanted))
    }

    fn number(&self, wanted: Option<&str>) -> Result<usize, Fault> {
        match wanted {
            None | Some("" | "$DEFAULT") => Ok(self.default),
            Some("$LATEST") => Ok(self.versions.len()),
            Some(text) => match text.parse() {
                Ok(number) if (1..=self.versions.len()).contains(&number) => Ok(number),
                _ => Err(unknown_version(wanted)),
            },
        }
    }

    fn describe(&self, name: &str, number: usize) -> Value {
        let Some(version) = self.versions.get(number - 1) else { return Value::Null };
        let parameters: Vec<Value> = version.parsed.parameters.iter().map(|(name, parameter)| {
            json!({"Name": name, "Type": if parameter.list { "StringList" } else { "String" },
                "Description": parameter.description, "DefaultValue": parameter.default.as_ref().map(ToString::to_string)})
        }).collect();
        json!({
            "Name": name, "DocumentVersion": number.to_string(), "DefaultVersion": self.default.to_string(),
            "LatestVersion": self.versions.len().to_string(), "Status": "Active", "DocumentType": "Command",
            "DocumentFormat": version.format, "SchemaVersion": "2.2", "PlatformTypes": ["Linux"],
            "Hash": hash(&version.content), "HashType": "Sha256", "CreatedDate": version.created,
            "Description": version.parsed.description, "Parameters": parameters,
        })
    }
}

fn unknown_version(wanted: Option<&str>) -> Fault {
    Fault::new(Rule::DocumentVersion, wanted.unwrap_or("$DEFAULT"))
}

/// SHA-256, as `DocumentHash` is given.
pub(super) fn hash(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Ssm {
    pub(super) fn create_document(&self, request: &Value) -> Answer {
        let name = text(request, "Name")?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !(3..=128).contains(&name.len()) || !name.chars().all(legal) {
            return Err(Fault::new(Rule::Shape, format!("Name {name:?} is not 3 to 128 of a-zA-Z0-9_.-")));
        }
        if request["DocumentType"].as_str().unwrap_or("Command") != "Command" {
            return Err(Fault::new(Rule::DocumentContent, "only documents of type Command are served"));
        }
        let version = version(request)?;
        let mut state = self.state();
        if state.documents.contains_key(name) {
            return Err(Fault::new(Rule::DocumentExists, name));
        }
        let document = Document { versions: vec![version], default: 1 };
        let described = document.describe(name, 1);
        state.documents.insert(name.to_owned(), document);
        Ok(json!({ "DocumentDescription": described }))
    }

    pub(super) fn update_document(&self, request: &Value) -> Answer {
        let name = text(request, "Name")?;
        let mut state = self.state();
        let document = state.documents.get_mut(name).ok_or_else(|| Fault::new(Rule::DocumentUnknown, name))?;
        document.number(Some(request["DocumentVersion"].as_str().unwrap_or("$LATEST")))?;
        let version = version(request)?;
        if document.versions.last().is_some_and(|latest| latest.content == version.content) {
            return Err(Fault::new(Rule::DocumentDuplicate, name));
        }
        document.versions.push(version);
        Ok(json!({"DocumentDescription": document.describe(name, document.versions.len())}))
    }

    pub(super) fn update_default_version(&self, request: &Value) -> Answer {
        let (name, wanted) = (text(request, "Name")?, text(request, "DocumentVersion")?);
        let mut state = self.state();
        let document = state.documents.get_mut(name).ok_or_else(|| Fault::new(Rule::DocumentUnknown, name))?;
        document.default = document.number(Some(wanted))?;
        Ok(json!({"Description": {"Name": name, "DefaultVersion": document.default.to_string()}}))
    }

    pub(super) fn describe_document(&self, request: &Value) -> Answer {
        let name = text(request, "Name")?;
        let state = self.state();
        let document = state.documents.get(name).ok_or_else(|| Fault::new(Rule::DocumentUnknown, name))?;
        let number = document.number(request["DocumentVersion"].as_str())?;
        Ok(json!({"Document": document.describe(name, number)}))
    }

    pub(super) fn get_document(&self, request: &Value) -> Answer {
        let name = text(request, "Name")?;
        let state = self.state();
        let document = state.documents.get(name).ok_or_else(|| Fault::new(Rule::DocumentUnknown, name))?;
        let wanted = request["DocumentVersion"].as_str();
        let number = document.number(wanted)?;
        let version = document.versions.get(number - 1).ok_or_else(|| unknown_version(wanted))?;
        Ok(json!({"Name": name, "DocumentVersion": number.to_string(), "Status": "Active", "Content": version.content,
            "DocumentType": "Command", "DocumentFormat": version.format}))
    }

    pub(super) fn delete_document(&self, request: &Value) -> Answer {
        let name = text(request, "Name")?;
        let removed = self.state().documents.remove(name);
        removed.map(|_| json!({})).ok_or_else(|| Fault::new(Rule::DocumentUnknown, name))
    }
}

fn version(request: &Value) -> Result<Version, Fault> {
    let content = text(request, "Content")?.to_owned();
    let format = request["DocumentFormat"].as_str().unwrap_or("JSON").to_owned();
    if content.len() > DOCUMENT_BYTES_MAX {
        return Err(Fault::new(Rule::DocumentSize, format!("{} bytes", content.len())));
    }
    let bad = |problem: String| Fault::new(Rule::DocumentContent, problem);
    let value: Value = match format.as_str() {
        "JSON" => serde_json::from_str(&content).map_err(|error| bad(error.to_string()))?,
        "YAML" => serde_norway::from_str(&content).map_err(|error| bad(error.to_string()))?,
        other => return Err(Fault::new(Rule::Shape, format!("DocumentFormat {other}"))),
    };
    let parsed = parse(&value).map_err(bad)?;
    Ok(Version { content, format, created: OffsetDateTime::now_utc().unix_timestamp(), parsed })
}

fn parse(value: &Value) -> Result<Parsed, String> {
    let object = value.as_object().ok_or("the document is not an object")?;
    let known = ["schemaVersion", "description", "parameters", "mainSteps"];
    if let Some(unknown) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("{unknown} is no element of schema 2.2"));
    }
    if value["schemaVersion"].as_str() != Some("2.2") {
        return Err("schemaVersion is not \"2.2\"".into());
    }
    let mut parameters = BTreeMap::new();
    for (name, given) in value["parameters"].as_object().into_iter().flatten() {
        parameters.insert(name.clone(), parameter(name, given)?);
    }
    let steps = value["mainSteps"].as_array().filter(|steps| !steps.is_empty()).ok_or("mainSteps is empty")?;
    let steps = steps.iter().map(|given| step(given, &parameters)).collect::<Result<Vec<_>, _>>()?;
    let description = value["description"].as_str().unwrap_or_default().to_owned();
    Ok(Parsed { parameters, steps, description })
}

fn parameter(name: &str, given: &Value) -> Result<Parameter, String> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("{name} is no name of a parameter"));
    }
    let known = [
        "type",
        "description",
        "default",
        "allowedPattern",
        "allowedValues",
        "interpolationType",
        "minChars",
        "maxChars",
        "minItems",
        "maxItems",
        "displayType",
    ];
    let members = given.as_object().ok_or(format!("{name} is not an object"))?;
    if let Some(unknown) = members.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("{name}.{unknown} is unknown"));
    }
    let list = match given["type"].as_str() {
        Some("String") => false,
        Some("StringList") => true,
        _ => return Err(format!("{name}.type: command documents take String and StringList")),
    };
    let env_var = match given["interpolationType"].as_str() {
        None => false,
        Some("ENV_VAR") if !list => true,
        Some(_) => return Err(format!("{name}.interpolationType is ENV_VAR, for a String")),
    };
    // The service matches whole values.
    let pattern = given["allowedPattern"].as_str().map(|pattern| Regex::new(&format!("^(?:{pattern})$")));
    let pattern = pattern.transpose().map_err(|error| format!("{name}.allowedPattern: {error}"))?;
    let allowed = super::parameters::strings(&given["allowedValues"]);
    let default = Some(given["default"].clone()).filter(|default| !default.is_null());
    let description = given["description"].as_str().unwrap_or_default().to_owned();
    Ok(Parameter { list, env_var, default, pattern, allowed, description })
}

fn step(given: &Value, parameters: &BTreeMap<String, Parameter>) -> Result<Step, String> {
    let name = given["name"].as_str().filter(|name| !name.is_empty()).ok_or("a step has no name")?.to_owned();
    if given["action"].as_str() != Some("aws:runShellScript") {
        return Err(format!("{name}: only aws:runShellScript is served"));
    }
    let lines = super::parameters::strings(&given["inputs"]["runCommand"]);
    if lines.is_empty() {
        return Err(format!("{name}: runCommand is empty"));
    }
    let timeout = match &given["inputs"]["timeoutSeconds"] {
        Value::Null => "3600".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rest = lines.join("\n") + &timeout;
    while let Some((_, after)) = rest.split_once("{{") {
        let (reference, after) = after.split_once("}}").ok_or(format!("{name}: {{{{ without }}}}"))?;
        if !parameters.contains_key(reference.trim()) {
            return Err(format!("{name}: {{{{{reference}}}}} is no parameter"));
        }
        rest = after.to_owned();
    }
    Ok(Step { name, lines, timeout })
}

impl Parsed {
    /// The values a command runs with: those given, checked, and defaults for the rest.
    pub(super) fn values(&self, given: &Value) -> Result<BTreeMap<String, Vec<String>>, Fault> {
        let bad = |problem: String| Fault::new(Rule::CommandParameters, problem);
        let given = match given {
            Value::Null => &serde_json::Map::new(),
            Value::Object(given) => given,
            _ => return Err(bad("Parameters is not an object".into())),
        };
        if let Some(unknown) = given.keys().find(|name| !self.parameters.contains_key(*name)) {
            return Err(bad(format!("the document has no parameter {unknown}")));
        }
        let mut values = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            let given = given.get(name).or(parameter.default.as_ref());
            let value = match given.ok_or_else(|| bad(format!("{name} is required")))? {
                Value::String(text) => vec![text.clone()],
                list => super::parameters::strings(list),
            };
            if !parameter.list && value.len() != 1 {
                return Err(bad(format!("{name} takes one value")));
            }
            let fits = |text: &String| {
                parameter.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
                    && (parameter.allowed.is_empty() || parameter.allowed.contains(text))
            };
            if !value.iter().all(fits) {
                return Err(bad(format!("{name} does not match its allowedPattern or allowedValues")));
            }
            values.insert(name.clone(), value);
        }
        Ok(values)
    }
}
