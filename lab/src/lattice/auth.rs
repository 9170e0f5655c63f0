//! Auth policies (UG auth-policies): kept by the control plane, evaluated by the data plane for callers of whom TLS
//! passthrough shows only where they come from (UG tls-listeners: anonymous principals only).
//!
//! It shares no code with the product, whose opinion about policies is what is put to the test.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::rules::{Fault, Rule};
use super::state::{State, missing, tail};
use super::{Answer, input};

/// UG quotas: the size of an auth policy.
const BYTES: usize = 10 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyInput {
    resource_identifier: String,
    #[serde(default)]
    policy: String,
}

impl State {
    pub(super) fn put_auth_policy(&mut self, request: &Value) -> Answer {
        let wanted: PolicyInput = input(request)?;
        let id = self.with_policy(&wanted.resource_identifier)?;
        let refuse = |rule: Rule, detail: &str| Err(Fault::field(rule, "policy", detail));
        if wanted.policy.contains(['\n', '\r']) {
            return refuse(Rule::PolicyLines, "the policy has several lines");
        }
        if wanted.policy.len() > BYTES {
            return refuse(Rule::PolicySize, &format!("{} bytes", wanted.policy.len()));
        }
        let statements = serde_json::from_str::<Value>(&wanted.policy).map(|policy| policy["Statement"].clone());
        let is_whole = |one: &Value| {
            let has = |name: &str| one.get(name).is_some();
            has("Effect")
                && (has("Principal") || has("NotPrincipal"))
                && (has("Action") || has("NotAction"))
                && has("Resource")
        };
        match statements {
            Ok(statements) if !many(&statements).is_empty() && many(&statements).into_iter().all(is_whole) => {}
            Ok(_) | Err(_) => return refuse(Rule::PolicyMalformed, "not a resource policy"),
        }
        self.policies.insert(id.clone(), wanted.policy.clone());
        Ok(json!({"policy": wanted.policy, "state": self.policy_state(&id)}))
    }

    pub(super) fn get_auth_policy(&self, request: &Value) -> Answer {
        let wanted: PolicyInput = input(request)?;
        let id = self.with_policy(&wanted.resource_identifier)?;
        let policy = self.policies.get(&id).ok_or_else(|| missing("AUTH_POLICY", &id))?;
        Ok(json!({"policy": policy, "state": self.policy_state(&id)}))
    }

    pub(super) fn delete_auth_policy(&mut self, request: &Value) -> Answer {
        let wanted: PolicyInput = input(request)?;
        let id = self.with_policy(&wanted.resource_identifier)?;
        self.policies.remove(&id).map(|_| json!({})).ok_or_else(|| missing("AUTH_POLICY", &id))
    }

    /// The id of a service or service network.
    fn with_policy(&self, identifier: &str) -> Result<String, Fault> {
        let id = tail(identifier);
        let exists = self.services.contains_key(id) || self.networks.contains_key(id);
        if exists { Ok(id.to_owned()) } else { Err(missing("RESOURCE", identifier)) }
    }

    fn policy_state(&self, id: &str) -> &'static str {
        let of_service = self.services.get(id).map(|service| &service.auth_type);
        let auth_type = of_service.or_else(|| self.networks.get(id).map(|network| &network.auth_type));
        if auth_type.is_some_and(|auth_type| auth_type == "AWS_IAM") { "Active" } else { "Inactive" }
    }

    /// The policy in force on a service or service network: `None` without authorization, an empty text when there is
    /// none to allow anything.
    pub(super) fn policy_in_force(&self, id: &str) -> Option<String> {
        (self.policy_state(id) == "Active").then(|| self.policies.get(id).cloned().unwrap_or_default())
    }
}

/// What is known of a caller, by the key's name in lower case.
pub(super) type Facts = BTreeMap<&'static str, String>;

/// Whether a policy admits an anonymous caller: somebody must allow it and nobody deny it.
pub(super) fn admits(policy: &str, facts: &Facts) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    let matching =
        |effect: &str| many(&policy["Statement"]).into_iter().any(|one| one["Effect"] == effect && matches(one, facts));
    matching("Allow") && !matching("Deny")
}

fn matches(statement: &Value, facts: &Facts) -> bool {
    let everybody = match &statement["Principal"] {
        Value::Null => true,
        Value::Object(kinds) => kinds.get("AWS").is_some_and(|who| many(who).contains(&&json!("*"))),
        who @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => *who == "*",
    };
    let actions = many(&statement["Action"]);
    let invokes = actions
        .iter()
        .any(|action| ["*", "vpc-lattice-svcs:*", "vpc-lattice-svcs:Invoke"].iter().any(|a| *action == a));
    let conditions = statement["Condition"].as_object();
    let mut tests = conditions.into_iter().flatten().flat_map(|(operator, keys)| {
        keys.as_object().into_iter().flatten().map(move |(key, values)| (operator, key, values))
    });
    everybody
        && invokes
        && tests.all(|(operator, key, values)| holds(operator, facts.get(key.to_ascii_lowercase().as_str()), values))
}

/// IAM user guide, condition operators: an absent key fails all but negated operators, `IfExists` and `Null`.
fn holds(operator: &str, fact: Option<&String>, values: &Value) -> bool {
    let (operator, if_exists) = match operator.strip_suffix("IfExists") {
        Some(operator) => (operator, true),
        None => (operator, false),
    };
    let listed: Vec<String> =
        many(values).into_iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    if operator == "Null" {
        return listed.iter().any(|wanted| *wanted == fact.is_none().to_string());
    }
    let Some(fact) = fact else { return if_exists || operator.contains("Not") };
    match operator {
        "StringEquals" | "NumericEquals" | "ArnEquals" => listed.contains(fact),
        "StringNotEquals" | "NumericNotEquals" | "ArnNotEquals" => !listed.contains(fact),
        // Nothing in the lab writes another operator; what is not understood admits nobody.
        _ => false,
    }
}

fn many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Null => Vec::new(),
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![one],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(statements: &Value) -> bool {
        let facts = Facts::from([
            ("vpc-lattice-svcs:sourcevpc", "vpc-1".to_owned()),
            ("vpc-lattice-svcs:port", "443".to_owned()),
        ]);
        admits(&json!({"Statement": statements}).to_string(), &facts)
    }

    fn statement(effect: &str, condition: &Value) -> Value {
        json!({"Effect": effect, "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": "*", "Condition": condition})
    }

    #[test]
    fn somebody_must_allow_and_nobody_deny() {
        let of_vpc = |vpc: &str| json!({"StringEquals": {"vpc-lattice-svcs:SourceVpc": [vpc]}});
        assert!(admitted(&json!([statement("Allow", &of_vpc("vpc-1"))])));
        assert!(!admitted(&json!([statement("Allow", &of_vpc("vpc-2"))])));
        assert!(!admitted(&json!([statement("Allow", &json!({})), statement("Deny", &of_vpc("vpc-1"))])));
        assert!(admitted(&json!([statement("Allow", &json!({"NumericEquals": {"vpc-lattice-svcs:Port": [443]}}))])));
        assert!(!admitted(&json!([])) && !admits("", &Facts::new()));
    }

    #[test]
    fn who_is_anonymous_is_of_no_organisation() {
        let org = |operator: &str| json!({operator: {"aws:PrincipalOrgID": "o-1"}});
        assert!(!admitted(&json!([statement("Allow", &org("StringEquals"))])));
        assert!(!admitted(&json!([statement("Allow", &json!({})), statement("Deny", &org("StringNotEquals"))])));
        assert!(admitted(&json!([statement("Allow", &json!({})), statement("Deny", &org("StringEquals"))])));
    }
}
