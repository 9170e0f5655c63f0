//! Specs with mistakes, specs that are not there, and the wish to tear down what is protected.

use serde_json::{Value, json};

use super::super::{STACK, StoryError, Tale};
use super::{Since, ask, blocked, write_spec};
use crate::ui::Phase;

/// Ten mistakes are ten errors with path, problem and remedy, and no call is made to find them.
pub(super) async fn ten(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let (bad, paths) = with_ten_mistakes(&tale.spec);
    for function in ["provision", "rotate"] {
        let since = Since::now(tale);
        let answer = ask(tale, function, &json!({"stack": STACK, "mode": "plan", "spec": bad})).await?;
        let because = blocked(&answer, "SpecInvalid")?;
        let errors: Vec<&str> = because.split_once("mistake(s): ").map_or("", |(_, all)| all).split(" | ").collect();
        let mut found: Vec<&str> =
            errors.iter().filter_map(|error| error.split_once(": ")).map(|(path, _)| path).collect();
        found.sort_unstable();
        if found != paths {
            return Err(StoryError::Unmet(format!("{function} finds {found:?} and not {paths:?}")));
        }
        if let Some(error) =
            errors.iter().find(|error| error.split_once("; ").is_none_or(|(_, remedy)| remedy.is_empty()))
        {
            return Err(StoryError::Unmet(format!("{function} gives no remedy: {error}")));
        }
        since.nothing_called(tale, "a spec with mistakes")?;
    }
    phase.done("ten errors, each with path, problem and remedy, and not one call to find them");
    Ok(())
}

fn with_ten_mistakes(spec: &Value) -> (Value, [&'static str; 10]) {
    let mut bad = spec.clone();
    bad["version"] = json!(2);
    bad["stack"] = json!("Api_Service");
    bad["colour"] = json!("green");
    bad["network"]["vpcId"] = json!("vpc-xyz");
    bad["network"]["consumers"][0]["securityGroupIds"] = json!([]);
    bad["service"]["port"] = json!(70_000);
    bad["service"]["idleTimeoutSeconds"] = json!("60");
    bad["certificate"]["renewBeforeHours"] = bad["certificate"]["validityHours"].clone();
    bad["healthCheck"] = json!({"enabled": true, "protocol": "TCP"});
    if let Some(fields) = bad.as_object_mut() {
        fields.remove("prober");
    }
    let paths = [
        "/certificate/renewBeforeHours",
        "/colour",
        "/healthCheck/protocol",
        "/network/consumers/0/securityGroupIds",
        "/network/vpcId",
        "/prober",
        "/service/idleTimeoutSeconds",
        "/service/port",
        "/stack",
        "/version",
    ];
    (bad, paths)
}

/// A spec that is gone or cannot be read blocks, however it is asked about, and tears nothing down.
pub(super) async fn unreadable(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let other = tale.spec.to_string().replace(&format!("\"stack\":\"{STACK}\""), "\"stack\":\"somebody-else\"");
    let cases = [
        (Some("{"), "SpecInvalid"),
        (Some("[]"), "SpecInvalid"),
        (Some("null"), "SpecInvalid"),
        (Some("{\"state\": \"absent\", \"deletionProtection\": false}"), "SpecInvalid"),
        (Some(other.as_str()), "SpecInvalid"),
        (None, "SpecMissing"),
    ];
    let name = format!("/espalier-spec/{STACK}");
    let gone = json!({"source": "aws.ssm", "detail-type": "Parameter Store Change", "resources": [],
        "detail": {"operation": "Delete", "name": name, "type": "String"}});
    let since = Since::now(tale);
    for (text, code) in cases {
        phase.progress(&format!("the spec is {}", text.unwrap_or("gone")));
        write_spec(tale, STACK, text).await?;
        for function in ["provision", "rotate"] {
            for payload in [json!({"stack": STACK}), json!({"stack": STACK, "mode": "plan"}), gone.clone()] {
                blocked(&ask(tale, function, &payload).await?, code)?;
            }
        }
    }
    write_spec(tale, STACK, Some(&tale.spec.to_string())).await?;
    since.nothing_changed(tale, "a spec that is gone or cannot be read")?;
    phase.done(&format!("{} specs that are none block, asked three ways, and tear nothing down", cases.len()));
    Ok(())
}

/// `state: absent` alone does nothing.
pub(super) async fn protected(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let mut absent = tale.spec.clone();
    absent["state"] = json!("absent");
    let since = Since::now(tale);
    for protection in [Some(json!(true)), None] {
        match (&protection, absent.as_object_mut()) {
            (Some(protection), _) => absent["deletionProtection"] = protection.clone(),
            (None, Some(fields)) => drop(fields.remove("deletionProtection")),
            (None, None) => {}
        }
        write_spec(tale, STACK, Some(&absent.to_string())).await?;
        for mode in ["plan", "apply"] {
            let answer = ask(tale, "provision", &json!({"stack": STACK, "mode": mode})).await?;
            blocked(&answer, "DeletionProtected")?;
            ask(tale, "rotate", &json!({"stack": STACK, "mode": mode})).await?;
        }
    }
    write_spec(tale, STACK, Some(&tale.spec.to_string())).await?;
    since.nothing_changed(tale, "state absent without deletionProtection false")?;
    phase.done("teardown is refused unless deletionProtection is false in so many words");
    Ok(())
}
