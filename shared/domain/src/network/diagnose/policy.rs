//! Auth policies under TLS passthrough. VPC Lattice sees no request and no signature: every caller is anonymous, and only
//! the keys of layer 4 have a value (user guide, TLS listeners and auth policies). The policies of network and service
//! both have to allow.

use serde_json::Value;

use super::{Finding, SeenPolicy, found};

/// What a policy can test of a passthrough connection.
const KEYS: [&str; 5] = [
    "vpc-lattice-svcs:port",
    "vpc-lattice-svcs:servicenetworkarn",
    "vpc-lattice-svcs:servicearn",
    "vpc-lattice-svcs:sourcevpc",
    "vpc-lattice-svcs:sourcevpcowneraccount",
];

const REMEDY: &str = "test vpc-lattice-svcs:SourceVpc, :SourceVpcOwnerAccount, :Port, :ServiceArn or :ServiceNetworkArn \
                      instead, or move passthrough services to a network of their own";

pub(super) fn check(policies: &[SeenPolicy], all: &mut Vec<Finding>) {
    for policy in policies.iter().filter(|policy| policy.is_in_force) {
        let resource = &policy.resource;
        let Some(text) = &policy.text else {
            let problem = format!("{resource} has authorization type AWS_IAM and no policy: everybody is denied");
            found(all, "auth-policy-inverted", problem, "set its authorization type to NONE, or put a policy");
            continue;
        };
        let document: Value = serde_json::from_str(text).unwrap_or_default();
        let one = &document["Statement"];
        let statements = one.as_array().cloned().unwrap_or_else(|| vec![one.clone()]);
        let mut allows_anonymous = false;
        for statement in &statements {
            let name = statement["Sid"].as_str().unwrap_or("a statement without Sid");
            let principals = names_principals(statement);
            let unseen = unseen_keys(statement);
            if statement["Effect"] == "Deny" {
                // A negated operator matches where the key has no value; what denies outsiders denies everybody.
                if !unseen.is_empty() {
                    let keys = unseen.join(", ");
                    let problem = format!(
                        "{resource}: {name} denies by {keys}, which no passthrough connection carries: all are cut"
                    );
                    found(all, "network-policy-denies", problem, REMEDY);
                }
            } else if principals {
                let problem = format!("{resource}: {name} allows named principals; passthrough clients are anonymous");
                found(all, "no-signature", problem, REMEDY);
            } else if unseen.is_empty() {
                allows_anonymous = true;
            } else {
                let problem =
                    format!("{resource}: {name} tests {}, which has no value under passthrough", unseen.join(", "));
                found(all, "condition-keys", problem, REMEDY);
            }
        }
        if !allows_anonymous {
            let problem = format!("{resource}: no statement allows anonymous clients by what passthrough can test");
            found(all, "auth-policy-inverted", problem, REMEDY);
        }
    }
}

fn names_principals(statement: &Value) -> bool {
    let is_everybody = |principal: &Value| match principal {
        Value::String(text) => text == "*",
        Value::Object(map) => map.get("AWS").is_some_and(|aws| aws == "*" || *aws == serde_json::json!(["*"])),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    };
    !is_everybody(&statement["Principal"])
}

/// The condition keys of a statement that have no value for a passthrough connection.
fn unseen_keys(statement: &Value) -> Vec<String> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    let keys = operators.flat_map(|(_, tests)| tests.as_object().into_iter().flatten().map(|(key, _)| key.clone()));
    keys.filter(|key| !KEYS.contains(&key.to_ascii_lowercase().as_str())).collect()
}
