//! The specs and the event bus on the wire.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod wire;

use espalier_aws::acm::Certificates;
use espalier_aws::bus::{About, Bus, Event};
use espalier_aws::error::Kind;
use espalier_aws::evidence::{Hands, Look, Sources};
use espalier_aws::specs::Specs;
use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::id::{Epoch, StackName};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::AllowedDomains;
use serde_json::json;
use wire::Wire;

fn stack() -> StackName {
    StackName::parse("payments").unwrap()
}

#[tokio::test]
async fn a_spec_is_read_by_its_name() {
    let answer = json!({ "Parameter": { "Name": "/espalier-spec/payments", "Value": "{\"version\":1}" } });
    let wire = Wire::table(vec![("GetParameter", 200, answer)]).await;
    let text = Specs::new(&wire.sdk()).get(&stack()).await.unwrap();
    assert_eq!(text.as_deref(), Some("{\"version\":1}"));
    assert_eq!(wire.seen()[0].json(), json!({ "Name": "/espalier-spec/payments" }));
}

#[tokio::test]
async fn a_missing_spec_is_nothing_and_a_forbidden_one_is_an_error() {
    let wire = Wire::table(vec![("GetParameter", 400, json!({ "__type": "ParameterNotFound" }))]).await;
    assert_eq!(Specs::new(&wire.sdk()).get(&stack()).await.unwrap(), None);

    let denied = json!({ "__type": "AccessDeniedException", "message": "not authorized" });
    let wire = Wire::table(vec![("GetParameter", 400, denied)]).await;
    let error = Specs::new(&wire.sdk()).get(&stack()).await.unwrap_err();
    assert_eq!((error.kind, error.word()), (Kind::Denied, Word::Refused));
    assert_eq!(chain(&error), "ssm:GetParameter failed: AccessDeniedException: not authorized");
}

/// A spec that is handed over is judged before anything is asked: with a mistake in it not one call is made; a good one
/// is looked at with the ledger first.
#[tokio::test]
async fn a_mistake_in_a_spec_that_is_handed_over_costs_no_call() {
    let wire = Wire::table(Vec::new()).await;
    let allowed = AllowedDomains::parse("example.com").unwrap();
    let sources = Sources::new(&wire.sdk(), "ledger", allowed, Certificates::new(&wire.sdk()));
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let recipe = include_str!("../../../examples/recipe.json");
    let good: serde_json::Value = serde_json::from_str(recipe).unwrap();
    let mut mistaken = good.clone();
    mistaken["service"]["port"] = json!(70_000);
    let named = StackName::parse(good["stack"].as_str().unwrap()).unwrap();
    for (stack, spec) in [(&named, &mistaken), (&stack(), &good), (&named, &json!(7))] {
        match sources.look(stack, Some(spec), Hands::Tied, now).await.unwrap() {
            Look::Blocked(block) => assert_eq!(block.code, BlockCode::SpecInvalid, "{}", block.because),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(wire.asked(), [] as [&str; 0]);
    sources.look(&named, Some(&good), Hands::Tied, now).await.unwrap_err();
    assert_eq!(wire.asked(), ["GetItem"], "the epoch before anything else");
}

#[tokio::test]
async fn all_specs_are_read_page_by_page() {
    let wire = Wire::answering(|seen| {
        let parameter = |stack: &str| json!({ "Name": format!("/espalier-spec/{stack}"), "Value": stack });
        let body = match seen.json()["NextToken"].as_str() {
            None => json!({ "Parameters": [parameter("zebra"), parameter("Bad Name")], "NextToken": "2" }),
            Some(_) => json!({ "Parameters": [parameter("ant")] }),
        };
        (200, body.to_string())
    })
    .await;
    let all = Specs::new(&wire.sdk()).all().await.unwrap();
    let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["Bad Name", "ant", "zebra"]);
    assert_eq!(wire.asked(), ["GetParametersByPath", "GetParametersByPath"]);
}

#[tokio::test]
async fn an_unreachable_or_failing_service_is_busy() {
    let wire = Wire::table(vec![("GetParameter", 500, json!({ "__type": "InternalServerError" }))]).await;
    let error = Specs::new(&wire.sdk()).get(&stack()).await.unwrap_err();
    assert_eq!((error.kind, error.word()), (Kind::Busy, Word::Busy));

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sdk = wire.sdk().into_builder().endpoint_url(format!("http://{closed}")).build();
    let error = Specs::new(&sdk).get(&stack()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Busy);
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
}

#[tokio::test]
async fn an_answer_nobody_understands_is_broken() {
    let wire = Wire::table(vec![("GetParameter", 200, json!("<html>"))]).await;
    let error = Specs::new(&wire.sdk()).get(&stack()).await.unwrap_err();
    assert_eq!((error.kind, error.code()), (Kind::Broken, "NotUnderstood"));
}

#[tokio::test]
async fn events_go_out_with_our_source_ten_at_a_time() {
    let wire = Wire::table(vec![("PutEvents", 200, json!({ "FailedEntryCount": 0, "Entries": [] }))]).await;
    let about = About { stack: stack(), owner: Some("o@example.com".into()), notify: vec![] };
    let events = vec![Event::RotationCompleted { epoch: Epoch(3) }; 11];
    Bus::new(&wire.sdk()).put(&about, &events).await.unwrap();
    let sent: Vec<usize> = wire.seen().iter().map(|seen| seen.json()["Entries"].as_array().unwrap().len()).collect();
    assert_eq!(sent, [10, 1]);
    let entry = wire.seen()[0].json()["Entries"][0].clone();
    assert_eq!((&entry["Source"], &entry["DetailType"]), (&json!("espalier"), &json!("Rotation Completed")));
    let detail: serde_json::Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail, json!({ "stack": "payments", "owner": "o@example.com", "epoch": 3 }));
}

#[tokio::test]
async fn a_refused_entry_is_an_error_although_the_answer_is_200() {
    let entries = json!([{ "EventId": "1" }, { "ErrorCode": "ThrottlingException", "ErrorMessage": "slow down" }]);
    let wire = Wire::table(vec![("PutEvents", 200, json!({ "FailedEntryCount": 1, "Entries": entries }))]).await;
    let about = About { stack: stack(), owner: None, notify: vec![] };
    let events = [Event::RotationCompleted { epoch: Epoch(1) }, Event::RotationCompleted { epoch: Epoch(2) }];
    let error = Bus::new(&wire.sdk()).put(&about, &events).await.unwrap_err();
    assert_eq!((error.operation, error.kind), ("events:PutEvents", Kind::Throttled));
}
