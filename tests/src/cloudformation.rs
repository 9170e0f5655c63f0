//! CloudFormation's YAML as JSON: the short forms of its functions (`!Ref`, `!Sub`, ...) become the long ones.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use serde_norway::Value as Yaml;

use crate::read;

/// The SAM template.
#[derive(Debug, Clone)]
pub struct Template(Value);

impl Template {
    /// Reads a template of the project.
    pub fn read(path: &str) -> Self {
        Self::parse(&read(path))
    }

    /// Reads a template that was made just now.
    pub fn parse(text: &str) -> Self {
        Self(resolve_tags(serde_norway::from_str(text).expect("a template is YAML")))
    }

    /// A part of it by JSON pointer; `null` when there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The resources of a type: logical id and properties.
    pub fn resources<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let all = self.at("/Resources").as_object().into_iter().flatten();
        all.filter(move |(_, resource)| resource["Type"] == kind)
            .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
    }

    /// A part of it as it is deployed with these values of parameters and pseudo parameters, the defaults of others: conditions
    /// decided, lists split, joined and put in. What only a deployment knows, such as another resource's name, stays.
    pub fn deployed(&self, part: &Value, values: &BTreeMap<&str, &str>) -> Value {
        let again = |part: &Value| self.deployed(part, values);
        let Value::Object(entries) = part else {
            return match part {
                Value::Array(items) => items.iter().map(again).filter(|one| *one != no_value()).collect(),
                Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => part.clone(),
            };
        };
        match entries.iter().next().filter(|_| entries.len() == 1).map(|(name, inner)| (name.as_str(), inner)) {
            Some(("Ref", Value::String(name))) => self.value(name, values).map_or_else(|| part.clone(), Value::from),
            Some(("Fn::Split", inner)) => {
                let (by, text) = (inner[0].as_str().unwrap_or_default(), again(&inner[1]));
                text.as_str().unwrap_or_default().split(by).map(Value::from).collect()
            }
            Some(("Fn::Join", inner)) => {
                let list = again(&inner[1]);
                let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
                texts.collect::<Vec<_>>().join(inner[0].as_str().unwrap_or_default()).into()
            }
            Some(("Fn::Sub", Value::Array(inner))) => {
                let own = again(&inner[1]);
                self.substituted(inner[0].as_str().unwrap_or_default(), &own, values).into()
            }
            Some(("Fn::Sub", Value::String(text))) => self.substituted(text, &Value::Null, values).into(),
            Some(("Fn::If", inner)) => {
                let met =
                    self.is_met(self.at(&format!("/Conditions/{}", inner[0].as_str().unwrap_or_default())), values);
                again(&inner[if met { 1 } else { 2 }])
            }
            _ => entries.iter().map(|(key, inner)| (key.clone(), again(inner))).collect::<Map<_, _>>().into(),
        }
    }

    fn value(&self, name: &str, values: &BTreeMap<&str, &str>) -> Option<String> {
        let default = || self.at(&format!("/Parameters/{name}/Default")).as_str().map(str::to_owned);
        values.get(name).map(|value| (*value).to_owned()).or_else(default)
    }

    fn substituted(&self, text: &str, own: &Value, values: &BTreeMap<&str, &str>) -> String {
        let mut out = text.to_owned();
        for variable in text.split("${").skip(1).filter_map(|rest| rest.split('}').next()) {
            let value = own[variable].as_str().map(str::to_owned).or_else(|| self.value(variable, values));
            if let Some(value) = value {
                out = out.replace(&format!("${{{variable}}}"), &value);
            }
        }
        out
    }

    fn is_met(&self, condition: &Value, values: &BTreeMap<&str, &str>) -> bool {
        match (&condition["Fn::Not"][0], &condition["Fn::Equals"]) {
            (Value::Null, pair) => self.deployed(&pair[0], values) == self.deployed(&pair[1], values),
            (inner, _) => !self.is_met(inner, values),
        }
    }

    /// The functions: logical id and resource. The crate, the binary and the role go by the id in lower case.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.resources("AWS::Serverless::Function")
    }
}

fn no_value() -> Value {
    json!({ "Ref": "AWS::NoValue" })
}

/// Writes CloudFormation's short forms out.
pub fn resolve_tags(yaml: Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => Value::Bool(flag),
        Yaml::Number(number) => serde_json::to_value(number).expect("a number is a number in JSON, too"),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => items.into_iter().map(resolve_tags).collect(),
        Yaml::Mapping(entries) => entries
            .into_iter()
            .map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), resolve_tags(value)))
            .collect::<Map<_, _>>()
            .into(),
        Yaml::Tagged(tagged) => long_form(&tagged.tag.to_string(), resolve_tags(tagged.value)),
    }
}

fn long_form(tag: &str, value: Value) -> Value {
    match (tag.trim_start_matches('!'), value) {
        (name @ ("Ref" | "Condition"), value) => json!({ name: value }),
        ("GetAtt", Value::String(path)) => {
            let (resource, attribute) = path.split_once('.').unwrap_or((&path, ""));
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        (name, value) => json!({ format!("Fn::{name}"): value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_decide_what_is_deployed() {
        let yaml = "Parameters: { Ids: { Type: String, Default: '' } }\nConditions: { Some: !Not [!Equals [!Ref Ids, '']] }\n\
                    R: [!If [Some, !Split [',', !Sub ['x:${All}:y', { All: !Join [':y,x:', !Split [',', !Ref Ids]] }]], \
                    !Ref AWS::NoValue], !Sub '${AWS::Region}-${Other}']\n";
        let template = Template(resolve_tags(serde_norway::from_str(yaml).unwrap()));
        let part = template.at("/R");
        let with = BTreeMap::from([("Ids", "1,2"), ("AWS::Region", "here")]);
        assert_eq!(template.deployed(part, &with), json!([["x:1:y", "x:2:y"], "here-${Other}"]));
        assert_eq!(template.deployed(part, &BTreeMap::new()), json!(["${AWS::Region}-${Other}"]));
    }

    #[test]
    fn short_forms_become_long_ones_and_aliases_are_followed() {
        let yaml = "a: &x !Ref One\nb: *x\nc: !GetAtt Two.Arn\nd: [!Sub '${One}', 3, true]\n";
        assert_eq!(
            resolve_tags(serde_norway::from_str(yaml).unwrap()),
            json!({
                "a": { "Ref": "One" }, "b": { "Ref": "One" }, "c": { "Fn::GetAtt": ["Two", "Arn"] },
                "d": [{ "Fn::Sub": "${One}" }, 3, true],
            })
        );
    }
}
