//! Requests and events: any JSON is understood or answered `Invalid` in words that name something of it.

use espalier_domain::failure::Word;
use espalier_domain::id::{Epoch, Generation, Scope, StackName, TargetId};
use espalier_domain::work::{DeliverItem, DeliveryAction, KeyRequest, MintItem, Pass, WorkItem};
use espalier_edge::{EdgeError, Request, Trigger};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cases;
use crate::mutations::{any_json, mutate, mutation};

/// What every function may be asked, well-formed.
fn examples() -> Vec<Value> {
    let envelope = |source: &str, detail_type: &str, detail: Value| {
        json!({"version": "0", "id": "9c95e8e4", "source": source, "detail-type": detail_type, "account": "123456789012",
            "time": "2026-11-21T06:51:08Z", "region": "eu-west-1", "detail": detail,
            "resources": ["arn:aws:acm:eu-west-1:123456789012:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b"]})
    };
    vec![
        json!({"stack": "payments", "mode": "plan", "spec": {"version": 1}}),
        json!({"stack": "payments", "mode": "emergency", "caller": "arn:aws:iam::123456789012:user/jane", "reason": "leaked"}),
        json!({"espalier": "sweep"}),
        json!({"stack": "payments", "epoch": 3, "wave": 1, "results": []}),
        envelope("aws.acm", "ACM Certificate Available", json!({"Action": "RENEWAL"})),
        envelope(
            "aws.ssm",
            "Parameter Store Change",
            json!({"operation": "Update", "name": "/espalier-spec/payments"}),
        ),
        envelope(
            "aws.ssm",
            "EC2 Command Status-change Notification",
            json!({"command-id": "c", "parameters": {"Stack": ["a"]}}),
        ),
        envelope("aws.ec2", "EC2 Instance State-change Notification", json!({"instance-id": "i-0abc1234def567890"})),
        envelope("aws.autoscaling", "EC2 Instance Launch Successful", json!({"EC2InstanceId": "i-0abc1234def567890"})),
        envelope("espalier", "Stack Converged", json!({"stack": "payments"})),
        json!({"kind": "mint", "stack": "payments", "scope": "shared", "generation": 1, "because": "none yet"}),
        json!({"kind": "deliver", "stack": "payments", "epoch": 1, "action": "Install", "scope": "shared", "generation": 1,
            "targets": ["i-0abc1234def567890"], "attempt": 1, "startS": 3, "windowS": 0}),
        json!({"kind": "authority", "because": "the secret is lost"}),
        json!({"kind": "membership", "stack": "payments", "targets": ["i-0a1b2c3d4e5f60711"]}),
        json!({"kind": "verify", "stack": "payments", "serverName": "a.example.com", "trust": "", "targets": [
            {"target": "i-0abc1234def567890", "address": "10.0.0.1:443", "generation": 1, "fingerprint": "00"}]}),
    ]
}

/// An error of a request: `Invalid`, with the field between back quotes, or that there are no fields at all.
fn names_a_field(error: &EdgeError) {
    assert_eq!(error.word, Word::Invalid, "{}", error.text);
    assert!(error.text.chars().count() < 1_000, "{} characters", error.text.len());
    // A field may be called nothing at all.
    let named = error.text.split('`').count() > 2;
    let nothing = error.text.ends_with("is not a JSON object");
    assert!(named || nothing, "no field is named: {}", error.text);
}

fn judge(payload: &Value) {
    for error in [
        Trigger::parse(payload.clone()).err(),
        WorkItem::parse(payload.clone()).err(),
        Pass::parse(payload.clone()).err(),
    ] {
        error.iter().for_each(names_a_field);
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn any_json_is_understood_or_invalid(payload in any_json()) {
        judge(&payload);
    }

    #[test]
    fn a_mutated_request_is_understood_or_invalid(
        which in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let all = examples();
        let mut payload = all[which.index(all.len())].clone();
        for (index, mutation) in mutations {
            mutate(&mut payload, index, mutation);
        }
        judge(&payload);
    }

    #[test]
    fn a_work_item_is_read_as_it_was_written(
        stack in "[a-z]{3,10}", generation in any::<u32>(), epoch in any::<u32>(), attempt in any::<u32>(),
        targets in prop::collection::vec("i-[0-9a-f]{17}", 1..50), because in "\\PC{0,40}",
    ) {
        let stack = StackName::parse(stack).unwrap();
        let targets = targets.into_iter().map(|target| TargetId::parse(target).unwrap()).collect();
        let generation = Generation(generation);
        let nodes = Vec::new();
        let requests = vec![KeyRequest { target: TargetId::parse("10.0.1.5").unwrap(), attempt }];
        let mint =
            MintItem { stack: stack.clone(), scope: Scope::shared(), generation, nodes, requests, follows: None, because };
        let deliver = DeliverItem {
            stack, epoch: Epoch(epoch), action: DeliveryAction::Install, scope: Scope::shared(), generation, targets,
            nodes: Vec::new(), attempt, start_s: 0, window_s: 0, confirm_s: 0, margin_hours: 0,
        };
        for item in [WorkItem::Mint(mint), WorkItem::Deliver(deliver)] {
            prop_assert_eq!(WorkItem::parse(serde_json::to_value(&item).unwrap()), Ok(item));
        }
    }
}

#[test]
fn what_is_long_is_quoted_in_short() {
    for long in ["x".repeat(200_000), "\u{1f331}".repeat(100_000)] {
        let direct = json!({"stack": long});
        let spec =
            json!({"source": "aws.ssm", "detail-type": "x", "detail": {"name": format!("/espalier-spec/{long}")}});
        for payload in [direct, spec, json!({"kind": long}), json!({"source": long, "detail-type": "x"})] {
            judge(&payload);
        }
    }
}

#[test]
fn the_examples_are_understood() {
    for example in examples() {
        assert!(Trigger::parse(example.clone()).is_ok(), "{example}");
    }
}
