//! What a role of the template allows and denies.

use serde_json::Value;

use crate::Template;

/// One statement of a role's policies.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its name.
    pub sid: String,
    /// Whether it allows; otherwise it denies.
    pub allows: bool,
    /// The actions it names.
    pub actions: Vec<String>,
    /// The resources it names, as the template has them.
    pub resources: Vec<Value>,
    /// Whether it has a condition.
    pub conditional: bool,
    /// The condition, as the template has it.
    pub condition: Value,
}

/// The statements of a role's policies, by the role's logical id: the inline ones first, then those that stand apart.
pub fn statements(template: &Template, role: &str) -> Vec<Statement> {
    let inline = template.at(&format!("/Resources/{role}/Properties/Policies")).as_array();
    let apart = template.resources("AWS::IAM::Policy").map(|(_, policy)| policy);
    let apart = apart
        .filter(|policy| policy["Roles"].as_array().is_some_and(|roles| roles.iter().any(|one| one["Ref"] == role)));
    let documents = inline.into_iter().flatten().chain(apart).map(|policy| &policy["PolicyDocument"]["Statement"]);
    // A managed policy is for roles of others.
    let documents = documents.chain([template.at(&format!("/Resources/{role}/Properties/PolicyDocument/Statement"))]);
    documents
        .flat_map(|list| list.as_array().into_iter().flatten())
        // One that a parameter brings in.
        .map(|statement| statement.get("Fn::If").map_or(statement, |choice| &choice[1]))
        .map(|statement| Statement {
            sid: statement["Sid"].as_str().unwrap_or_default().to_owned(),
            allows: statement["Effect"] == "Allow",
            actions: texts(&statement["Action"]),
            resources: match &statement["Resource"] {
                Value::Array(items) => items.clone(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    vec![statement["Resource"].clone()]
                }
            },
            conditional: statement.get("Condition").is_some(),
            condition: statement.get("Condition").cloned().unwrap_or_default(),
        })
        .collect()
}

/// One text or a list of texts as a list.
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}
