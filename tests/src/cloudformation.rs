//! CloudFormation's YAML as JSON: the short forms of its functions (`!Ref`, `!Sub`, ...) become the long ones.

use serde_json::{Map, Value, json};
use serde_norway::Value as Yaml;

use crate::read;

/// The SAM template.
#[derive(Debug, Clone)]
pub struct Template(Value);

impl Template {
    /// Reads a template of the project.
    pub fn read(path: &str) -> Self {
        Self(resolve_tags(serde_norway::from_str(&read(path)).expect("a template is YAML")))
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

    /// The functions: logical id and resource. The crate, the binary and the role go by the id in lower case.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.resources("AWS::Serverless::Function")
    }
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
