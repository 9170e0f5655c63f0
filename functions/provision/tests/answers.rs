//! What `provision` answers when there is nothing to bring anywhere: a spec that is missing, wrong or not for it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "../../../shared/aws/tests/wire/mod.rs"]
mod wire;

use espalier_domain::failure::Word;
use espalier_domain::plan::{BlockCode, OutcomeKind};
use espalier_domain::spec::AllowedDomains;
use espalier_edge::{EdgeError, Env, Function, Request, Trigger};
use espalier_reconcile::{Limits, SystemClock};
use provision::{Answer, Provision};
use serde_json::{Value, json};
use time::OffsetDateTime;
use wire::{Seen, Wire};

fn document(stack: &str) -> Value {
    json!({
        "version": 1, "stack": stack, "owner": "o@example.com", "notify": ["n@example.com"],
        "network": { "vpcId": "vpc-0123456789abcdef0", "subnetIds": ["subnet-0123456789abcdef0"],
                     "consumers": [{ "vpcId": "vpc-0123456789abcdef1", "securityGroupIds": ["sg-0123456789abcdef0"] }] },
        "service": { "domainName": "pay.example.com", "port": 443, "dns": { "hostedZoneId": "Z0123456789" } },
        "targets": { "port": 8443, "securityGroupId": "sg-0123456789abcdef0", "select": { "tag": { "key": "a", "value": "b" } } },
        "certificate": { "dnsNames": ["pay.example.com"], "validityHours": 168, "renewBeforeHours": 56 },
        "prober": { "securityGroupId": "sg-0123456789abcdef1" },
    })
}

/// An account that holds these specs, takes events, and lets nobody look at anything else.
async fn account(specs: Vec<(&'static str, Value)>) -> Wire {
    Wire::answering(move |seen: &Seen| of_an_account(&specs, seen)).await
}

fn of_an_account(specs: &[(&str, Value)], seen: &Seen) -> (u16, String) {
    let named =
        |(name, value): &(&str, Value)| json!({ "Name": format!("/espalier-spec/{name}"), "Value": value.to_string() });
    match seen.what().as_str() {
        "GetParameter" => {
            let wanted = seen.json()["Name"].as_str().unwrap().to_owned();
            match specs.iter().map(named).find(|parameter| parameter["Name"] == wanted) {
                Some(parameter) => (200, json!({ "Parameter": parameter }).to_string()),
                None => (400, json!({ "__type": "ParameterNotFound" }).to_string()),
            }
        }
        "GetParametersByPath" => {
            let all: Vec<Value> = specs.iter().map(named).collect();
            (200, json!({ "Parameters": all }).to_string())
        }
        "PutEvents" => (200, json!({ "FailedEntryCount": 0, "Entries": [] }).to_string()),
        _ => (403, json!({ "__type": "AccessDeniedException", "message": "not allowed" }).to_string()),
    }
}

async fn ask(wire: &Wire, payload: Value) -> Result<Answer, EdgeError> {
    let allowed = AllowedDomains::parse("example.com").unwrap();
    let provision = Provision::new(&wire.sdk(), allowed, "ledger", SystemClock);
    let limits = Limits::until(OffsetDateTime::now_utc() + time::Duration::minutes(1));
    provision.answer(Trigger::parse(payload)?, limits).await
}

fn events(wire: &Wire) -> Vec<(String, Value)> {
    let sent = wire.seen().into_iter().filter(|seen| seen.what() == "PutEvents");
    let entries = sent.flat_map(|seen| seen.json()["Entries"].as_array().unwrap().clone());
    let read = |entry: Value| {
        let detail = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
        (entry["DetailType"].as_str().unwrap().to_owned(), detail)
    };
    entries.map(read).collect()
}

#[tokio::test]
async fn a_missing_spec_blocks_and_is_never_a_teardown() {
    let wire = account(vec![]).await;
    let answer = ask(&wire, json!({ "stack": "payments" })).await.unwrap();
    assert_eq!(answer.outcome.outcome, OutcomeKind::Blocked);
    assert_eq!(answer.outcome.blocks[0].code, BlockCode::SpecMissing);
    assert_eq!(wire.asked(), ["GetParameter", "GetItem", "PutEvents"], "nothing else was touched");
    let (detail_type, detail) = events(&wire).remove(0);
    assert_eq!((detail_type.as_str(), &detail["stack"]), ("Stack Blocked", &json!("payments")));
    assert_eq!(detail["blocks"][0]["code"], "SpecMissing");
}

#[tokio::test]
async fn an_invalid_spec_blocks_with_every_mistake() {
    let mut wrong = document("payments");
    wrong["service"]["domainName"] = json!("pay.example.net");
    wrong["targets"]["port"] = json!(70_000);
    let wire = account(vec![("payments", wrong)]).await;
    let answer = ask(&wire, json!({ "stack": "payments" })).await.unwrap();
    let block = &answer.outcome.blocks[0];
    assert_eq!(block.code, BlockCode::SpecInvalid);
    assert!(block.because.contains("/targets/port"), "{}", block.because);
    assert_eq!(wire.asked(), ["GetParameter", "GetItem", "PutEvents"]);
}

/// The same with a ledger that keeps what is written.
async fn account_with_a_ledger(specs: Vec<(&'static str, Value)>) -> Wire {
    let kept = std::sync::Mutex::new(None);
    Wire::answering(move |seen: &Seen| match seen.what().as_str() {
        "GetItem" => match kept.lock().unwrap().clone() {
            Some(item) => (200, json!({ "Item": item }).to_string()),
            None => (200, "{}".to_owned()),
        },
        "PutItem" => {
            *kept.lock().unwrap() = Some(seen.json()["Item"].clone());
            (200, "{}".to_owned())
        }
        _ => of_an_account(&specs, seen),
    })
    .await
}

#[tokio::test]
async fn sweeps_that_find_the_same_tell_it_once_and_whoever_asks_is_told() {
    let wire = account_with_a_ledger(vec![("bee", json!({}))]).await;
    let spec_changed = json!({ "source": "aws.ssm", "detail-type": "Parameter Store Change",
        "detail": { "name": "/espalier-spec/bee", "operation": "Update" } });
    let mut told = Vec::new();
    for payload in
        [json!({ "espalier": "sweep" }), json!({ "espalier": "sweep" }), spec_changed, json!({ "stack": "bee" })]
    {
        let answer = ask(&wire, payload).await.unwrap();
        assert_eq!(answer.outcome.outcome, OutcomeKind::Blocked, "the answer is the same each time");
        told.push(events(&wire).len());
    }
    assert_eq!(told, [1, 1, 2, 3]);
    let noted = wire.seen().into_iter().find(|seen| seen.what() == "PutItem").unwrap().json()["Item"].clone();
    assert_eq!((&noted["pk"]["S"], &noted["sk"]["S"]), (&json!("MEMBERS#bee"), &json!("TOLD")));
}

#[tokio::test]
async fn what_the_bus_did_not_take_is_told_again() {
    let wire = Wire::answering(|seen: &Seen| match seen.what().as_str() {
        "GetItem" | "PutItem" => (200, "{}".to_owned()),
        "PutEvents" => (403, json!({ "__type": "AccessDeniedException", "message": "not allowed" }).to_string()),
        _ => of_an_account(&[("bee", json!({}))], seen),
    })
    .await;
    ask(&wire, json!({ "espalier": "sweep" })).await.unwrap();
    assert_eq!(wire.asked(), ["GetParametersByPath", "GetItem", "PutEvents"], "it is not noted as told");
}

#[tokio::test]
async fn a_spec_under_another_stacks_name_blocks() {
    let wire = account(vec![("payments", document("payroll"))]).await;
    let answer = ask(&wire, json!({ "stack": "payments" })).await.unwrap();
    let block = &answer.outcome.blocks[0];
    assert_eq!(block.code, BlockCode::SpecInvalid);
    assert!(block.because.contains("payroll"), "{}", block.because);
}

#[tokio::test]
async fn a_plan_never_sends_an_event_nor_changes_anything() {
    let wire = account(vec![("payments", document("payments"))]).await;
    let missing = ask(&wire, json!({ "stack": "missing", "mode": "plan" })).await.unwrap();
    assert_eq!(missing.outcome.blocks[0].code, BlockCode::SpecMissing);
    let inline = json!({ "stack": "payments", "mode": "plan", "spec": { "version": 2 } });
    assert_eq!(ask(&wire, inline).await.unwrap().outcome.blocks[0].code, BlockCode::SpecInvalid);
    let error = ask(&wire, json!({ "stack": "payments", "mode": "plan" })).await.unwrap_err();
    assert_eq!(error.word, Word::Refused);
    let changed =
        |what: &String| what.starts_with("PutEvents") || what.starts_with("PATCH") || what.starts_with("DELETE");
    assert!(!wire.asked().iter().any(changed), "{:?}", wire.asked());
}

#[tokio::test]
async fn a_diagnosis_sends_no_event_and_changes_nothing() {
    let wire = account(vec![("payments", document("payments"))]).await;
    let error = ask(&wire, json!({ "stack": "payments", "mode": "diagnose" })).await.unwrap_err();
    assert_eq!(error.word, Word::Refused);
    let asked = wire.asked();
    assert!(!asked.iter().any(|what| what.starts_with("PutEvents") || what.starts_with("PATCH")), "{asked:?}");
}

#[tokio::test]
async fn a_sweep_looks_at_every_stack_whatever_becomes_of_one() {
    let wire = account(vec![
        ("Bad_Name", json!({})),
        ("ant", document("ant")),
        ("bee", json!({ "version": 1 })),
        ("cat", document("cat")),
    ])
    .await;
    // The account lets nobody look, so the two good stacks fail lastingly; each is named.
    let error = ask(&wire, json!({ "espalier": "sweep" })).await.unwrap_err();
    assert_eq!(error.word, Word::Refused);
    for part in ["ant: look: ", "cat: look: ", " failed"] {
        assert!(error.text.contains(part), "{part} in {}", error.text);
    }
    let blocked: Vec<Value> = events(&wire).into_iter().map(|(_, detail)| detail["stack"].clone()).collect();
    assert_eq!(blocked, [json!("bee")]);
}

#[tokio::test]
async fn hints_that_concern_no_network_touch_nothing() {
    let wire = account(vec![("payments", document("payments"))]).await;
    let event = json!({ "source": "aws.health", "detail-type": "AWS Health Event", "detail": { "service": "ACM" } });
    assert_eq!(ask(&wire, event).await.unwrap().outcome.outcome, OutcomeKind::Converged);
    assert!(wire.asked().is_empty());
}

/// A validation record may be gone: whoever had a certificate requested is looked at, and nobody else.
#[tokio::test]
async fn a_renewal_that_is_stuck_is_looked_at_where_a_certificate_was_requested() {
    let mut asking = document("payroll");
    asking["certificate"] = json!({ "issuer": { "kind": "acm", "request": { "hostedZoneId": "Z0PUBLIC" } },
        "dnsNames": ["pay.example.com"], "renewBeforeHours": 336 });
    let event = json!({ "source": "aws.acm", "detail-type": "ACM Certificate Renewal Action Required", "detail": {} });
    let wire = account(vec![("payments", document("payments"))]).await;
    assert_eq!(ask(&wire, event.clone()).await.unwrap().outcome.outcome, OutcomeKind::Converged);
    assert_eq!(wire.asked(), ["GetParametersByPath"]);
    let wire = account(vec![("payments", document("payments")), ("payroll", asking)]).await;
    // The account lets nobody look.
    let error = ask(&wire, event).await.unwrap_err();
    assert!(error.text.contains("payroll: look: ") && !error.text.contains("payments"), "{}", error.text);
}

#[tokio::test]
async fn work_and_passes_are_not_for_it() {
    let wire = account(vec![]).await;
    let mint = json!({ "kind": "mint", "stack": "payments", "scope": "shared", "generation": 1, "because": "b" });
    for payload in [mint, json!({ "stack": "payments", "epoch": 1, "wave": 1 })] {
        assert_eq!(ask(&wire, payload).await.unwrap_err().word, Word::Invalid);
    }
}

#[tokio::test]
async fn a_fresh_look_at_targets_is_not_for_it() {
    let wire = account(vec![("payments", document("payments"))]).await;
    let error = ask(&wire, json!({ "stack": "payments", "mode": "verify" })).await.unwrap_err();
    assert!(error.word == Word::Invalid && error.text.contains("`mode`"), "{error:?}");
    assert!(wire.asked().is_empty());
}

/// Auto Scaling's and EC2's query protocol: one group with one running member.
fn of_a_group(seen: &Seen) -> (u16, String) {
    const ONE: &str = "i-0123456789abcdef0";
    let asked = seen.body.split('&').find_map(|field| field.strip_prefix("Action=")).unwrap_or_default();
    let told = match asked {
        "DescribeAutoScalingGroups" => format!(
            "<DescribeAutoScalingGroupsResult><AutoScalingGroups><member><AutoScalingGroupName>web</AutoScalingGroupName>\
             <Instances><member><InstanceId>{ONE}</InstanceId><LifecycleState>InService</LifecycleState></member>\
             </Instances></member></AutoScalingGroups></DescribeAutoScalingGroupsResult>"
        ),
        "DescribeInstances" => format!(
            "<reservationSet><item><instancesSet><item><instanceId>{ONE}</instanceId><instanceState><name>running</name>\
             </instanceState></item></instancesSet></item></reservationSet>"
        ),
        _ => return (403, json!({ "__type": "AccessDeniedException", "message": seen.what() }).to_string()),
    };
    (200, format!("<{asked}Response>{told}</{asked}Response>"))
}

#[tokio::test]
async fn with_manage_nothing_the_members_of_auto_scaling_groups_are_noted_and_nothing_else() {
    let mut spec = document("payments");
    spec["manage"] = json!("nothing");
    spec["targets"]["select"] = json!({ "autoScalingGroups": ["web"] });
    let wire = Wire::answering(move |seen: &Seen| match seen.what().as_str() {
        "GetParameter" => (200, json!({ "Parameter": { "Value": spec.to_string() } }).to_string()),
        "Query" => (200, json!({ "Items": [], "Count": 0 }).to_string()),
        "GetItem" | "PutItem" => (200, "{}".to_owned()),
        _ => of_a_group(seen),
    })
    .await;
    let answer = ask(&wire, json!({ "stack": "payments" })).await.unwrap();
    assert_eq!(answer.outcome.outcome, OutcomeKind::Converged);
    let written: Vec<Value> =
        wire.seen().iter().filter(|seen| seen.what() == "PutItem").map(|seen| seen.json()["Item"].clone()).collect();
    let [item] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!(item["pk"]["S"], "MEMBERS#payments");
    let record: Value = serde_json::from_str(item["record"]["S"].as_str().unwrap()).unwrap();
    assert_eq!(record["members"]["i-0123456789abcdef0"]["registered"], true, "{record}");
    let known = ["GetParameter", "Query", "GetItem", "PutItem", "POST /"];
    assert!(wire.asked().iter().all(|what| known.contains(&what.as_str())), "{:?}", wire.asked());
}

/// Of a stack whose record cannot be read it is not known; the look says what is wrong.
#[tokio::test]
async fn when_an_instance_leaves_the_stacks_that_sent_clients_to_it_are_looked_at() {
    const GONE: &str = "i-0123456789abcdef0";
    let specs = ["ant", "bee", "cat", "dog"].map(|stack| (stack, json!({}))).to_vec();
    let wire = Wire::answering(move |seen: &Seen| match seen.what().as_str() {
        "GetItem" => {
            let key = seen.json()["Key"].clone();
            let member = |registered: bool| json!({ "members": { GONE: { "registered": registered } } }).to_string();
            let record = match (key["pk"]["S"].as_str().unwrap(), key["sk"]["S"].as_str().unwrap()) {
                (_, "TOLD") | ("MEMBERS#ant", _) => return (200, "{}".to_owned()),
                ("MEMBERS#bee", _) => member(true),
                ("MEMBERS#cat", _) => member(false),
                _ => "garbled".to_owned(),
            };
            let text = |value: &Value| json!({ "S": value });
            let item = json!({ "pk": key["pk"], "sk": key["sk"], "record": text(&json!(record)) });
            (200, json!({ "Item": item }).to_string())
        }
        "PutItem" => (200, "{}".to_owned()),
        _ => of_an_account(&specs, seen),
    })
    .await;
    let event = json!({ "source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification",
        "detail": { "instance-id": GONE, "state": "terminated" } });
    assert_eq!(ask(&wire, event).await.unwrap().outcome.outcome, OutcomeKind::Blocked);
    let looked: Vec<Value> = events(&wire).into_iter().map(|(_, detail)| detail["stack"].clone()).collect();
    assert_eq!(looked, [json!("bee"), json!("dog")]);
}

#[tokio::test]
async fn it_does_not_start_without_knowing_which_domains_are_allowed() {
    let error = Provision::start(&Env::default()).await.unwrap_err();
    assert_eq!(error, EdgeError::invalid("the environment variable ESPALIER_ALLOWED_DOMAINS is not set"));
}
