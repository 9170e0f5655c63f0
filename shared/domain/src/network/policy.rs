//! What an auth policy, whoever wrote it, makes of TLS passthrough: VPC Lattice sees no signature and no request there, so
//! that whatever tests a principal, an organisation, a method or a header finds nothing to test.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Whether connections through TLS passthrough can pass a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passthrough {
    /// Some can; which, depends on where they come from.
    Possible,
    /// None can, and why.
    Cut(String),
}

/// What about a policy cuts everybody off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing allows anybody: there is no policy, or none that can be read, or no statement that allows the call.
    NothingAllowed,
    /// A statement denies everybody.
    Denied,
    /// Whom it allows is named, and nobody has a name.
    Named,
    /// What it allows is tested by a key that has no value.
    Tested,
}

/// How a statement stands to an anonymous caller of whom only network, VPC, its owner and port are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hit {
    Never,
    Perhaps,
    Always,
}

/// Keys without a value under TLS passthrough, by how they begin.
const UNSEEN: [&str; 5] =
    ["aws:principal", "aws:user", "aws:federated", "aws:multifactorauth", "vpc-lattice-svcs:request"];

/// Judges a policy that is in force. An empty text stands for none: with auth type `AWS_IAM` everything is denied then (API
/// reference, `DeleteAuthPolicy`).
pub fn passthrough(policy: &str) -> Passthrough {
    match cut(policy) {
        None => Passthrough::Possible,
        Some((_, why)) => Passthrough::Cut(why),
    }
}

/// What cuts everybody off, if anything does, and why.
pub(super) fn cut(policy: &str) -> Option<(Cause, String)> {
    let nothing = |why: &str| Some((Cause::NothingAllowed, why.to_owned()));
    if policy.trim().is_empty() {
        return nothing("the auth type is AWS_IAM and there is no policy, which denies everything");
    }
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return nothing("the policy cannot be read") };
    let statements: Vec<&Value> = many(&policy["Statement"]);
    let of = |effect: &'static str| statements.iter().enumerate().filter(move |(_, one)| one["Effect"] == effect);
    if let Some((index, one)) = of("Deny").find(|(_, one)| hit(one) == Hit::Always) {
        return Some((Cause::Denied, format!("{} denies {}", name(one, index), tested(one, "everybody"))));
    }
    if of("Allow").any(|(_, one)| hit(one) > Hit::Never) {
        return None;
    }
    let Some((index, one)) = of("Allow").next() else { return nothing("no statement allows anything") };
    let cause = if principal(one) == Hit::Never {
        Cause::Named
    } else if conditions(one).any(|(_, key, _)| is_unseen(key)) {
        Cause::Tested
    } else {
        Cause::NothingAllowed
    };
    Some((cause, format!("{} allows {}", name(one, index), tested(one, "no anonymous caller"))))
}

/// Whether two policies say the same: lists of one and single values, the order of values and of statements, and white
/// space make no difference.
pub fn same(one: &str, other: &str) -> bool {
    match (serde_json::from_str::<Value>(one), serde_json::from_str::<Value>(other)) {
        (Ok(one), Ok(other)) => canonical(&one) == canonical(&other),
        (Ok(_) | Err(_), _) => false,
    }
}

fn hit(statement: &Value) -> Hit {
    let by_conditions = conditions(statement).map(|(operator, key, values)| condition(operator, key, values)).min();
    principal(statement).min(action(statement)).min(resource(statement)).min(by_conditions.unwrap_or(Hit::Always))
}

/// Everybody is `*` or `{"AWS": "*"}`; whoever is excepted by name is nobody we know.
fn principal(statement: &Value) -> Hit {
    let everybody = |value: &Value| many(value).contains(&&Value::from("*"));
    match &statement["Principal"] {
        Value::Null => {
            if statement["NotPrincipal"].is_null() {
                Hit::Never
            } else {
                Hit::Always
            }
        }
        Value::Object(kinds) => {
            if kinds.get("AWS").is_some_and(everybody) {
                Hit::Always
            } else {
                Hit::Never
            }
        }
        value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            if everybody(value) {
                Hit::Always
            } else {
                Hit::Never
            }
        }
    }
}

fn action(statement: &Value) -> Hit {
    let invokes = |value: &Value| {
        let name = value.as_str().unwrap_or_default().to_ascii_lowercase();
        ["*", "vpc-lattice-svcs:*", "vpc-lattice-svcs:invoke"].contains(&name.as_str())
    };
    let is_exception = statement["Action"].is_null();
    let named = &statement[if is_exception { "NotAction" } else { "Action" }];
    if many(named).into_iter().any(invokes) == is_exception { Hit::Never } else { Hit::Always }
}

fn resource(statement: &Value) -> Hit {
    if many(&statement["Resource"]).contains(&&Value::from("*")) { Hit::Always } else { Hit::Perhaps }
}

fn conditions(statement: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let operators = statement["Condition"].as_object().into_iter().flatten();
    operators.flat_map(|(operator, keys)| {
        keys.as_object().into_iter().flatten().map(move |(key, values)| (operator.as_str(), key.as_str(), values))
    })
}

/// A key that is not there fails every comparison but a negated one and `...IfExists` (IAM user guide, condition operators).
fn condition(operator: &str, key: &str, values: &Value) -> Hit {
    if !is_unseen(key) {
        return Hit::Perhaps;
    }
    let wants_absence =
        || many(values).iter().any(|value| **value == Value::Bool(true) || value.as_str() == Some("true"));
    let holds = match operator {
        "Null" => wants_absence(),
        _ if operator.starts_with("ForAnyValue:") => false,
        _ => operator.starts_with("ForAllValues:") || operator.ends_with("IfExists") || operator.contains("Not"),
    };
    if holds { Hit::Always } else { Hit::Never }
}

fn is_unseen(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    UNSEEN.iter().any(|known| key.starts_with(known))
}

fn name(statement: &Value, index: usize) -> String {
    match statement["Sid"].as_str() {
        Some(sid) => format!("its statement {sid:?}"),
        None => format!("its statement {}", index + 1),
    }
}

fn tested(statement: &Value, whom: &str) -> String {
    match conditions(statement).map(|(_, key, _)| key).find(|key| is_unseen(key)) {
        Some(key) => format!("{whom}: it tests {key}, which VPC Lattice does not see through TLS passthrough"),
        None => whom.to_owned(),
    }
}

fn many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Null => Vec::new(),
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![one],
    }
}

/// Lists become sets, single values lists, numbers and truths text.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), canonical(value))).collect::<Map<_, _>>())
        }
        Value::Array(values) => {
            let set: BTreeSet<String> = values.iter().map(|value| canonical(value).to_string()).collect();
            match (set.len(), set.first()) {
                (1, Some(only)) => serde_json::from_str(only).unwrap_or_default(),
                _ => set.into_iter().collect(),
            }
        }
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(truth) => Value::String(truth.to_string()),
        Value::String(_) | Value::Null => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(statements: &Value) -> String {
        json!({"Version": "2012-10-17", "Statement": statements}).to_string()
    }

    fn allow(condition: &Value) -> Value {
        json!({"Effect": "Allow", "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": "*",
               "Condition": condition})
    }

    fn why(statements: &Value) -> String {
        match passthrough(&policy(statements)) {
            Passthrough::Cut(why) => why,
            Passthrough::Possible => "possible".to_owned(),
        }
    }

    #[test]
    fn what_tests_a_principal_or_a_request_cuts_everybody_off_and_is_named() {
        // The guide's network policy: everybody is allowed, and who is of no organisation is denied.
        let mut deny = allow(&json!({"StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}));
        (deny["Effect"], deny["Sid"]) = (json!("Deny"), json!("DenyOutsideOrg"));
        let said = why(&json!([allow(&json!({})), deny]));
        assert!(
            said.starts_with("its statement \"DenyOutsideOrg\" denies everybody: it tests aws:PrincipalOrgID"),
            "{said}"
        );

        for condition in [
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}),
            json!({"StringLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/*"}}),
            json!({"StringEquals": {"vpc-lattice-svcs:RequestMethod": "GET", "vpc-lattice-svcs:SourceVpc": "vpc-1"}}),
            json!({"Null": {"aws:PrincipalArn": "false"}}),
            json!({"ForAnyValue:StringEquals": {"aws:PrincipalOrgPaths": "o-1/*"}}),
        ] {
            assert!(why(&json!([allow(&condition)])).contains("does not see"), "{condition}");
        }
        let mut named = allow(&json!({}));
        named["Principal"] = json!({"AWS": "arn:aws:iam::111122223333:root"});
        assert_eq!(why(&json!(named)), "its statement 1 allows no anonymous caller");
        assert!(why(&json!([])).starts_with("no statement allows"));
        assert!(matches!(passthrough(""), Passthrough::Cut(why) if why.contains("no policy")));
    }

    #[test]
    fn what_tests_the_network_lets_somebody_through() {
        let mut deny_some = allow(&json!({"StringEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-2"}}));
        deny_some["Effect"] = json!("Deny");
        let mut of_iam = allow(&json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}));
        of_iam["Effect"] = json!("Deny");
        let mut aws = allow(&json!({}));
        aws["Principal"] = json!({"AWS": ["*"]});
        aws["Action"] = json!(["vpc-lattice-svcs:*"]);
        for statements in [
            json!([allow(&json!({"StringEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-1"}})), deny_some]),
            json!([allow(&json!({"NumericEquals": {"vpc-lattice-svcs:Port": 443}}))]),
            json!([aws, of_iam]),
            json!([allow(&json!({"Null": {"aws:PrincipalArn": "true"}}))]),
            json!([allow(&json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}))]),
        ] {
            assert_eq!(why(&statements), "possible", "{statements}");
        }
    }

    #[test]
    fn the_same_policy_is_the_same_however_it_is_written() {
        let one = policy(
            &json!([allow(&json!({"NumericEquals": {"vpc-lattice-svcs:Port": [443, 8443]}})), {"Effect": "Deny"}]),
        );
        let other = json!({"Statement": [{"Effect": ["Deny"]}, {"Resource": "*", "Principal": "*", "Effect": "Allow",
            "Action": ["vpc-lattice-svcs:Invoke"],
            "Condition": {"NumericEquals": {"vpc-lattice-svcs:Port": ["8443", "443"]}}}], "Version": "2012-10-17"});
        assert!(same(&one, &serde_json::to_string_pretty(&other).unwrap()));
        assert!(!same(&one, &policy(&json!([allow(&json!({}))]))));
        assert!(!same(&one, "{"));
    }
}
