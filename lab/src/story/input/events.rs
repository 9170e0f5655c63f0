//! A corpus of what nobody should send. `provision` and `rotate`, which events and people reach, answer each request with
//! `Invalid`, naming the field, or take it for the hint it is; `authority`, `mint`, `export`, `distribute` and `verify`, which
//! only the state machine hands work to, answer what is no work item of theirs with `Invalid`; `fleet`, which only a dashboard
//! calls, answers a question that is none with `Invalid`, and any event as the question after the whole fleet. None changes
//! anything.

use serde_json::{Value, json};

use super::super::{STACK, StoryError, Tale};
use super::{Since, ask};
use crate::ui::Phase;

/// Sends the corpus.
pub(super) async fn corpus(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let since = Since::now(tale);
    let mut sent = 0;
    for (payload, named) in malformed() {
        for function in ["provision", "rotate"] {
            sent += 1;
            phase.progress(&format!("{sent} requests"));
            invalid(&ask(tale, function, &payload).await?, function, &payload, named)?;
        }
    }
    for (function, payload, named) in work_items().into_iter().chain(no_items()).chain(questions()) {
        sent += 1;
        invalid(&ask(tale, function, &payload).await?, function, &payload, named)?;
    }
    too_deep(tale).await?;
    let (refused, mut taken) = (sent, 0);
    for payload in forged(&tale.certificate) {
        taken += 1;
        // Only a page comes of it.
        let page = ask(tale, "fleet", &payload).await?;
        if !page.as_str().is_some_and(|html| html.contains(STACK)) {
            return Err(StoryError::Unmet(format!("fleet answers {payload} with {page}")));
        }
        for function in ["provision", "rotate"] {
            taken += 1;
            let answer = ask(tale, function, &payload).await?;
            if answer["errorType"].is_string() || !answer["outcome"].is_string() {
                return Err(StoryError::Unmet(format!("{function} answers {payload} with {answer}")));
            }
        }
    }
    since.nothing_changed(tale, "nonsense")?;
    phase.done(&format!("{refused} requests answered Invalid, naming the field; {taken} forged hints changed nothing"));
    Ok(())
}

/// What cannot be read as JSON at all is an error, too, and not the end of the function: its next answer is as before.
async fn too_deep(tale: &Tale) -> Result<(), StoryError> {
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let deep = json!({"stack": deep});
    for function in ["provision", "rotate"] {
        let answer = ask(tale, function, &deep).await?;
        if !answer["errorType"].is_string() {
            return Err(StoryError::Unmet(format!("{function} answers what is too deep with {answer}")));
        }
        let next = json!({"stack": 7});
        invalid(&ask(tale, function, &next).await?, function, &next, "`stack`")?;
    }
    Ok(())
}

fn invalid(answer: &Value, function: &str, payload: &Value, named: &str) -> Result<(), StoryError> {
    let message = answer["errorMessage"].as_str().unwrap_or_default();
    if answer["errorType"] == "Invalid" && message.contains(named) {
        return Ok(());
    }
    let shown: String = payload.to_string().chars().take(300).collect();
    let answer: String = answer.to_string().chars().take(600).collect();
    Err(StoryError::Unmet(format!("{function} should answer {shown} with Invalid, naming {named}, not with {answer}")))
}

fn envelope(source: &str, detail_type: &str, detail: &Value) -> Value {
    json!({"version": "0", "id": "9c95e8e4", "source": source, "detail-type": detail_type, "account": "000000000000",
        "time": "2026-11-21T06:51:08Z", "region": "eu-west-1", "resources": [], "detail": detail})
}

fn with(mut value: Value, field: &str, other: Value) -> Value {
    value[field] = other;
    value
}

/// Requests of the wrong shape, and what the answer names.
fn malformed() -> Vec<(Value, &'static str)> {
    let change = |detail: Value| envelope("aws.ssm", "Parameter Store Change", &detail);
    let deep = (0..90).fold(json!(1), |inner, _| json!([inner]));
    vec![
        (json!(null), "not a JSON object"),
        (json!("sweep"), "not a JSON object"),
        (json!(7), "not a JSON object"),
        (json!([{"espalier": "sweep"}]), "not a JSON object"),
        (json!({}), "`stack`"),
        (json!({"stack": 7}), "`stack`"),
        (json!({"stack": "No_Stack"}), "`stack`"),
        (json!({"stack": "../api-service"}), "`stack`"),
        (json!({"stack": "p\u{105}yments \u{1f331}\u{0}"}), "`stack`"),
        (json!({"stack": "a".repeat(100_000)}), "`stack`"),
        (json!({"stack": deep}), "`stack`"),
        (json!({"stack": STACK, "mode": "destroy"}), "`mode`"),
        (json!({"stack": STACK, "force": true}), "`force`"),
        (json!({"stack": STACK, "spec": {"version": 1}}), "`spec`"),
        (json!({"espalier": "destroy"}), "`espalier`"),
        (json!({"espalier": "sweep", "stack": STACK}), "`stack`"),
        (json!({"stack": STACK, "epoch": "1", "wave": 1}), "`epoch`"),
        (json!({"stack": STACK, "epoch": 1, "wave": 1, "colour": 1}), "`colour`"),
        (json!({"kind": "explode"}), "`kind`"),
        (json!({"kind": 1}), "`kind`"),
        (json!({"source": 1, "detail-type": "x"}), "`source`"),
        (json!({"source": "aws.acm"}), "`detail-type`"),
        (json!({"detail-type": "Scheduled Event"}), "`source`"),
        (envelope("evil", "Stack Converged", &json!({"stack": STACK})), "`source`"),
        (envelope("aws.s3", "Object Created", &json!({})), "`source`"),
        (with(envelope("aws.acm", "x", &json!({})), "resources", json!("arn")), "`resources`"),
        (with(envelope("aws.acm", "x", &json!({})), "resources", json!([1])), "`resources[0]`"),
        (with(envelope("aws.acm", "x", &json!({})), "time", json!("yesterday")), "`time`"),
        (change(json!({"name": 7})), "`detail.name`"),
        (change(json!({"name": "/espalier-spec/No_Stack"})), "`detail.name`"),
        (change(json!({"name": "/espalier-spec/"})), "`detail.name`"),
        (change(json!("text")), "`detail`"),
        (
            envelope("aws.ssm", "EC2 Command Status-change Notification", &json!({"command-id": {}})),
            "`detail.command-id`",
        ),
        (
            envelope("aws.ec2", "EC2 Instance State-change Notification", &json!({"instance-id": []})),
            "`detail.instance-id`",
        ),
        (envelope("espalier", "Stack Converged", &json!({"stack": "No_Stack"})), "`detail.stack`"),
        (envelope("espalier", "Rotate Requested", &json!({"stack": STACK, "mode": "emergency"})), "`detail.mode`"),
        (json!({"stack": STACK, "mode": "emergency"}), "`"),
        (json!({"stack": STACK, "reason": "none"}), "`reason`"),
    ]
}

/// Work items of the wrong shape, or for somebody else.
fn work_items() -> Vec<(&'static str, Value, &'static str)> {
    let mint = json!({"kind": "mint", "stack": STACK, "scope": "shared", "generation": 9, "because": "the lab"});
    let export = json!({"kind": "export", "stack": STACK, "scope": "shared", "generation": 9, "serial": "5a01",
        "because": "the lab"});
    let deliver = json!({"kind": "deliver", "stack": STACK, "epoch": 1, "action": "Install", "scope": "shared",
        "generation": 1, "targets": ["i-0abc1234def567890"], "attempt": 1, "windowS": 0});
    let verify = json!({"kind": "verify", "stack": STACK, "serverName": "api-service.example.com", "trust": "",
        "targets": []});
    vec![
        ("authority", json!({"kind": "authority"}), "`because`"),
        ("authority", json!({"kind": "authority", "because": "the lab", "beside": "0123456789abcdef"}), "`beside`"),
        ("export", with(export.clone(), "stack", json!("No_Stack")), "`stack`"),
        ("export", with(export.clone(), "generation", json!("2")), "`generation`"),
        ("export", with(export.clone(), "serial", json!(7)), "`serial`"),
        ("export", with(export.clone(), "passphrase", json!("mine")), "`passphrase`"),
        ("mint", json!({}), "`kind`"),
        ("mint", json!([]), "not a JSON object"),
        ("mint", with(mint.clone(), "stack", json!("No_Stack")), "`stack`"),
        ("mint", with(mint.clone(), "generation", json!(-1)), "`generation`"),
        ("mint", with(mint.clone(), "scope", json!("everybody")), "`scope`"),
        ("mint", with(mint.clone(), "key", json!("mine")), "`key`"),
        ("distribute", with(deliver.clone(), "targets", json!(["i-xyz"])), "`targets[0]`"),
        ("distribute", with(deliver.clone(), "action", json!("Reboot")), "`action`"),
        ("distribute", with(deliver, "attempt", json!("1")), "`attempt`"),
        ("verify", with(verify.clone(), "serverName", json!("*.example.com")), "`serverName`"),
        (
            "verify",
            with(verify, "targets", json!([{"target": "i-0abc1234def567890", "address": "nowhere"}])),
            "address",
        ),
        // Well-formed, and for somebody else.
        ("verify", mint.clone(), "`kind`"),
        ("authority", mint.clone(), "`authority` items only"),
        ("export", mint, "`export` items only"),
        ("mint", export, "`mint` items only"),
    ]
}

/// What is no work item, for each function that takes nothing else: events among it.
fn no_items() -> Vec<(&'static str, Value, &'static str)> {
    let nonsense = [
        (json!(null), "not a JSON object"),
        (json!([]), "not a JSON object"),
        (json!({}), "`kind`"),
        (json!({"kind": "explode"}), "`kind`"),
        (envelope("aws.acm", "ACM Certificate Available", &json!({"DaysToExpiry": 0})), "`kind`"),
    ];
    let takers = ["authority", "mint", "export", "distribute", "verify"];
    let all = takers.into_iter().flat_map(|taker| nonsense.clone().map(|(payload, named)| (taker, payload, named)));
    // `authority` is swept, too.
    let swept = takers[1..].iter().map(|taker| (*taker, json!({"espalier": "sweep"}), "`kind`"));
    all.chain(swept).chain(words()).collect()
}

/// What nobody may say about an authority, or to `seal`.
fn words() -> [(&'static str, Value, &'static str); 7] {
    let caller = "arn:aws:iam::000000000000:user/operator";
    [
        ("authority", json!({"espalier": "sweep", "mode": "activate"}), "`mode`"),
        ("authority", json!({"mode": "explode"}), "`mode`"),
        ("seal", json!({"mode": "explode"}), "`mode`"),
        ("seal", json!({"mode": "seal", "stack": STACK}), "`stack`"),
        ("authority", json!({"mode": "activate", "authority": "a", "reason": "it was stolen"}), "`caller`"),
        ("authority", json!({"mode": "retire", "authority": "a", "caller": caller}), "`reason`"),
        (
            "authority",
            json!({"mode": "acknowledge", "authority": "a", "verifier": "batch", "bundle": "b", "days": 0, "caller": caller}),
            "`days`",
        ),
    ]
}

/// What no dashboard asks.
fn questions() -> Vec<(&'static str, Value, &'static str)> {
    let cases = [
        (json!(null), "not a JSON object"),
        (json!([]), "not a JSON object"),
        (json!({"stack": 7}), "`stack`"),
        (json!({"stack": "../api-service"}), "`stack`"),
        (json!({"describe": "yes"}), "`describe`"),
        (json!({"widgetContext": {"theme": []}}), "`widgetContext.theme`"),
    ];
    cases.map(|(payload, named)| ("fleet", payload, named)).into()
}

/// Well-formed, and not true: hints to look, which is all that comes of them.
fn forged(certificate: &str) -> Vec<Value> {
    let acm = |detail_type: &str| {
        with(envelope("aws.acm", detail_type, &json!({"DaysToExpiry": 0})), "resources", json!([certificate]))
    };
    let elsewhere = with(acm("ACM Certificate Available"), "account", json!("999999999999"));
    let spec = |operation: &str| json!({"operation": operation, "name": format!("/espalier-spec/{STACK}")});
    vec![
        acm("ACM Certificate Expired"),
        acm("ACM Certificate Revoked"),
        acm("ACM Certificate Of Tomorrow"),
        with(elsewhere, "region", json!("us-east-1")),
        envelope("aws.ssm", "Parameter Store Change", &spec("Delete")),
        envelope("aws.ssm", "Parameter Store Change", &spec("Explode")),
        envelope("espalier", "Rotation Completed", &json!({"stack": STACK, "epoch": 4_000_000_000_u32})),
        envelope("aws.ec2", "EC2 Instance State-change Notification", &json!({"instance-id": "i-0abc1234def567890"})),
        envelope(
            "aws.ssm",
            "EC2 Command Status-change Notification",
            &json!({"command-id": "none", "status": "Success", "parameters": {"Stack": [STACK], "Generation": ["99"]}}),
        ),
        envelope("espalier", "Stack Converged", &json!({"stack": "ghost"})),
        json!({"espalier": "sweep"}),
    ]
}
