//! Templates: short tags to long form, and the resources that go elsewhere out of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use serde_norway::Value as Yaml;

/// A Systems Manager document.
pub const DOCUMENT: &str = "AWS::SSM::Document";

/// A statement of an event bus's policy.
pub const BUS_POLICY: &str = "AWS::Events::EventBusPolicy";

/// An alarm over other alarms, whose names only the emulator knows.
pub const COMPOSITE_ALARM: &str = "AWS::CloudWatch::CompositeAlarm";

/// The resource types that the emulator (MiniStack 1.5.33) refuses by `Unrecognized resource types`.
pub const REFUSED: [&str; 3] = [DOCUMENT, BUS_POLICY, COMPOSITE_ALARM];

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Neither JSON nor YAML.
    #[error("it is neither JSON nor YAML: {0}")]
    Syntax(#[from] serde_norway::Error),
    /// Something where CloudFormation has something else.
    #[error("{0}")]
    Shape(String),
    /// A value that only the emulator knows.
    #[error("{0} cannot be resolved here: it does not follow from parameters and pseudo parameters")]
    Unresolved(String),
}

/// What values are resolved with.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// `AWS::StackName`.
    pub stack: &'a str,
    /// `AWS::Region`.
    pub region: &'a str,
    /// `AWS::AccountId`.
    pub account: &'a str,
    /// The stack's parameters.
    pub parameters: &'a BTreeMap<String, String>,
}

/// A resource taken out.
#[derive(Debug, Clone, PartialEq)]
pub struct Handed {
    /// The name in the template.
    pub logical_id: String,
    /// The resource type.
    pub kind: String,
    /// The resource's own name.
    pub physical_id: String,
    /// Its properties, resolved; a composite alarm's as they are written.
    pub properties: Value,
}

/// Reads a template, JSON or YAML, into its long form.
///
/// # Errors
/// It is neither.
pub fn parse(text: &str) -> Result<Value, TemplateError> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    long_form(serde_norway::from_str(text)?)
}

fn long_form(yaml: Yaml) -> Result<Value, TemplateError> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(given) => given.into(),
        Yaml::Number(given) => match (given.as_i64(), given.as_u64(), given.as_f64()) {
            (Some(number), _, _) => number.into(),
            (None, Some(number), _) => number.into(),
            (None, None, number) => json!(number),
        },
        Yaml::String(given) => given.into(),
        Yaml::Sequence(given) => Value::Array(given.into_iter().map(long_form).collect::<Result<_, _>>()?),
        Yaml::Mapping(given) => {
            let mut object = Map::new();
            for (key, value) in given {
                let key = match long_form(key)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(key, long_form(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let name = tag.trim_start_matches('!');
            let value = long_form(tagged.value)?;
            match name {
                "Ref" | "Condition" => json!({ name: value }),
                "GetAtt" => json!({"Fn::GetAtt": attribute(&value)?}),
                _ => json!({ format!("Fn::{name}"): value }),
            }
        }
    })
}

fn attribute(value: &Value) -> Result<Value, TemplateError> {
    match value {
        Value::String(text) => {
            let (resource, attribute) =
                text.split_once('.').ok_or_else(|| TemplateError::Shape(format!("GetAtt {text}")))?;
            Ok(json!([resource, attribute]))
        }
        other => Ok(other.clone()),
    }
}

/// Takes the refused resources out of a template and puts their names where they were referred to.
///
/// # Errors
/// A name or a property cannot be resolved.
pub fn take_out(template: &mut Value, scope: &Scope<'_>) -> Result<Vec<Handed>, TemplateError> {
    let conditions = template.get("Conditions").cloned().unwrap_or_default();
    let Some(resources) = template.get_mut("Resources").and_then(Value::as_object_mut) else { return Ok(Vec::new()) };
    let refused = |resource: &Value| resource["Type"].as_str().is_some_and(|kind| REFUSED.contains(&kind));
    let ids: Vec<String> = resources.iter().filter(|(_, given)| refused(given)).map(|(id, _)| id.clone()).collect();
    let mut handed = Vec::new();
    for id in ids {
        let Some(resource) = resources.remove(&id) else { continue };
        let condition = resource["Condition"].as_str().map(|name| &conditions[name]);
        if let Some(condition) = condition
            && !is_met(condition, scope)?
        {
            continue;
        }
        let mut properties = Map::new();
        for (name, value) in resource["Properties"].as_object().into_iter().flatten() {
            let is_told = resource["Type"] != COMPOSITE_ALARM;
            properties.insert(name.clone(), if is_told { resolve(value, scope)? } else { value.clone() });
        }
        let name = properties.get("Name").and_then(Value::as_str).map(str::to_owned);
        handed.push(Handed {
            physical_id: name.unwrap_or_else(|| format!("{}-{id}", scope.stack)),
            kind: resource["Type"].as_str().unwrap_or_default().to_owned(),
            properties: Value::Object(properties),
            logical_id: id,
        });
    }
    if !handed.is_empty() {
        let names = handed.iter().map(|resource| (resource.logical_id.clone(), resource.physical_id.clone())).collect();
        replace(template, &names);
    }
    Ok(handed)
}

/// `Fn::Not` and `Fn::Equals`: what the template's conditions are made of.
fn is_met(condition: &Value, scope: &Scope<'_>) -> Result<bool, TemplateError> {
    match (&condition["Fn::Not"][0], &condition["Fn::Equals"]) {
        (Value::Null, Value::Array(pair)) if pair.len() == 2 => {
            Ok(resolve(&pair[0], scope)? == resolve(&pair[1], scope)?)
        }
        (Value::Null, _) => Err(TemplateError::Shape(format!("condition {condition}"))),
        (inner, _) => Ok(!is_met(inner, scope)?),
    }
}

fn replace(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| replace(value, names)),
        Value::Object(object) => {
            if let Some(name) = points_to(object, names) {
                *value = Value::String(name);
                return;
            }
            forget_dependencies(object, names);
            match object.get_mut("Fn::Sub") {
                Some(Value::String(text)) => *text = put_names(text, names),
                Some(Value::Array(list)) => {
                    if let Some(Value::String(text)) = list.first_mut() {
                        *text = put_names(text, names);
                    }
                }
                _ => {}
            }
            object.values_mut().for_each(|value| replace(value, names));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The name that `{"Ref": ...}` or `{"Fn::GetAtt": [...]}` stands for, if it is of a resource taken out.
fn points_to(object: &Map<String, Value>, names: &BTreeMap<String, String>) -> Option<String> {
    if object.len() != 1 {
        return None;
    }
    let referred = match (object.get("Ref"), object.get("Fn::GetAtt")) {
        (Some(Value::String(id)), _) => id.as_str(),
        (_, Some(Value::Array(parts))) => parts.first()?.as_str()?,
        (_, Some(Value::String(text))) => text.split('.').next()?,
        _ => return None,
    };
    names.get(referred).cloned()
}

fn forget_dependencies(object: &mut Map<String, Value>, names: &BTreeMap<String, String>) {
    let empty = match object.get_mut("DependsOn") {
        Some(Value::String(id)) => names.contains_key(id.as_str()),
        Some(Value::Array(ids)) => {
            ids.retain(|id| !id.as_str().is_some_and(|id| names.contains_key(id)));
            ids.is_empty()
        }
        _ => false,
    };
    if empty {
        object.remove("DependsOn");
    }
}

/// Puts names in place of `${Id}` and `${Id.Attribute}`; `${!Literal}` stays.
fn put_names(text: &str, names: &BTreeMap<String, String>) -> String {
    variables(text, |variable| Ok(names.get(variable.split('.').next().unwrap_or(variable)).cloned()))
        .unwrap_or_else(|_| text.to_owned())
}

/// Puts values in place of `${...}`; where `value` knows none, the variable stays.
fn variables(
    text: &str,
    value: impl Fn(&str) -> Result<Option<String>, TemplateError>,
) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((variable, after)) = after.split_once('}') else { break };
        out.push_str(before);
        match value(variable.trim())? {
            Some(known) => out.push_str(&known),
            None => out.push_str(&format!("${{{variable}}}")),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// A part of a template with its functions carried out.
///
/// # Errors
/// It does not follow from parameters and pseudo parameters.
pub fn resolve(value: &Value, scope: &Scope<'_>) -> Result<Value, TemplateError> {
    match value {
        Value::Array(list) => {
            list.iter().map(|value| resolve(value, scope)).collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(object) => {
            if let (1, Some((name, argument))) = (object.len(), object.iter().next())
                && (name == "Ref" || name.starts_with("Fn::"))
            {
                if let ("Fn::Split", [Value::String(by), text]) =
                    (name.as_str(), argument.as_array().map_or(&[][..], Vec::as_slice))
                {
                    let text = resolve(text, scope)?;
                    return Ok(text.as_str().unwrap_or_default().split(by.as_str()).map(Value::from).collect());
                }
                return intrinsic(name, argument, scope).map(Value::String);
            }
            let mut resolved = Map::new();
            for (name, value) in object {
                resolved.insert(name.clone(), resolve(value, scope)?);
            }
            Ok(Value::Object(resolved))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
    }
}

fn intrinsic(name: &str, argument: &Value, scope: &Scope<'_>) -> Result<String, TemplateError> {
    let unresolved = || TemplateError::Unresolved(format!("{name} {argument}"));
    match (name, argument) {
        ("Ref", Value::String(variable)) => known(variable, scope).ok_or_else(unresolved),
        ("Fn::Sub", Value::String(text)) => substitute(text, scope),
        ("Fn::Join", Value::Array(parts)) => {
            let [Value::String(separator), Value::Array(parts)] = parts.as_slice() else { return Err(unresolved()) };
            let parts: Result<Vec<String>, TemplateError> = parts
                .iter()
                .map(|part| resolve(part, scope)?.as_str().map(str::to_owned).ok_or_else(unresolved))
                .collect();
            Ok(parts?.join(separator))
        }
        _ => Err(unresolved()),
    }
}

fn substitute(text: &str, scope: &Scope<'_>) -> Result<String, TemplateError> {
    variables(text, |variable| match variable.strip_prefix('!') {
        Some(literal) => Ok(Some(format!("${{{literal}}}"))),
        None => known(variable, scope).map(Some).ok_or_else(|| TemplateError::Unresolved(format!("${{{variable}}}"))),
    })
}

fn known(variable: &str, scope: &Scope<'_>) -> Option<String> {
    Some(match variable {
        "AWS::StackName" => scope.stack.to_owned(),
        "AWS::Region" => scope.region.to_owned(),
        "AWS::AccountId" => scope.account.to_owned(),
        "AWS::Partition" => "aws".to_owned(),
        "AWS::URLSuffix" => "amazonaws.com".to_owned(),
        parameter => scope.parameters.get(parameter)?.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"
Parameters: { Suffix: { Type: String, Default: installer } }
Resources:
  Doc:
    Type: AWS::SSM::Document
    Properties:
      Name: !Sub "${AWS::StackName}-${Suffix}"
      Content: { schemaVersion: "2.2", arn: !Join [":", [arn, !Ref AWS::Region]], shell: !Sub "${!HOME}" }
  Topic:
    Type: AWS::SNS::Topic
    DependsOn: [Doc]
    Properties:
      TopicName: !Ref Doc
      DisplayName: !Sub "${Doc} ${AWS::Region} ${!Doc}"
      Other: [!GetAtt Doc.Arn, !GetAtt Topic.Arn, !If [A, !Ref Topic, 2012-10-17]]
"#;

    #[test]
    fn a_document_goes_and_its_name_stays() {
        let mut template = parse(TEMPLATE).unwrap();
        let parameters = BTreeMap::from([("Suffix".to_owned(), "x".to_owned())]);
        let scope = Scope { stack: "s", region: "eu-west-1", account: "000000000000", parameters: &parameters };
        let handed = take_out(&mut template, &scope).unwrap();
        assert_eq!(handed.len(), 1);
        assert_eq!(handed[0].physical_id, "s-x");
        let content = json!({"schemaVersion": "2.2", "arn": "arn:eu-west-1", "shell": "${HOME}"});
        assert_eq!(handed[0].properties["Content"], content);
        let expected = json!({"Topic": {"Type": "AWS::SNS::Topic", "Properties": {
            "TopicName": "s-x",
            "DisplayName": {"Fn::Sub": "s-x ${AWS::Region} ${!Doc}"},
            "Other": ["s-x", {"Fn::GetAtt": ["Topic", "Arn"]}, {"Fn::If": ["A", {"Ref": "Topic"}, "2012-10-17"]}],
        }}});
        assert_eq!(template["Resources"], expected);
    }

    #[test]
    fn a_bus_policy_goes_where_its_condition_is_met() {
        let text = "Conditions: {Some: !Not [!Equals [!Ref Ids, '']]}\nResources:\n  P:\n    Type: AWS::Events::EventBusPolicy\n    \
                    Condition: Some\n    Properties: {Statement: {Principal: {AWS: !Split [',', !Ref Ids]}}}\n";
        for (ids, handed) in [("", None), ("1,2", Some(json!(["1", "2"])))] {
            let parameters = BTreeMap::from([("Ids".to_owned(), ids.to_owned())]);
            let scope = Scope { stack: "s", region: "r", account: "a", parameters: &parameters };
            let mut template = parse(text).unwrap();
            let given = take_out(&mut template, &scope).unwrap();
            let principals = given.first().map(|one| one.properties["Statement"]["Principal"]["AWS"].clone());
            assert_eq!((principals, template["Resources"].as_object().unwrap().len()), (handed, 0), "{ids}");
        }
    }

    #[test]
    fn a_composite_alarm_goes_as_it_is_written() {
        let text = "Resources:\n  A:\n    Type: AWS::CloudWatch::Alarm\n  C:\n    Type: AWS::CloudWatch::CompositeAlarm\n    \
                    Properties: {AlarmRule: !Sub 'ALARM(\"${A}\")'}\n";
        let mut template = parse(text).unwrap();
        let scope = Scope { stack: "s", region: "r", account: "a", parameters: &BTreeMap::new() };
        let handed = take_out(&mut template, &scope).unwrap();
        assert_eq!(handed[0].properties, json!({"AlarmRule": {"Fn::Sub": "ALARM(\"${A}\")"}}));
        assert_eq!(template["Resources"], json!({"A": {"Type": "AWS::CloudWatch::Alarm"}}));
    }

    #[test]
    fn a_name_that_only_the_emulator_knows_is_refused() {
        let mut template = parse("Resources: {D: {Type: AWS::SSM::Document, Properties: {Name: !Ref Topic}}}").unwrap();
        let scope = Scope { stack: "s", region: "r", account: "a", parameters: &BTreeMap::new() };
        assert!(matches!(take_out(&mut template, &scope), Err(TemplateError::Unresolved(_))));
    }
}
