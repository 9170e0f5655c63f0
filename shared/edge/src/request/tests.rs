//! A corpus of what arrives: AWS's own events as documented, ours, and what a broken sender may send.

use espalier_domain::failure::Word;
use espalier_domain::id::{StackName, TargetId};
use serde_json::{Value, json};

use super::{Direct, Emergency, Hint, HintKind, Mode, Request, Subject, Trigger};
use crate::EdgeError;

const CALLER: &str = "arn:aws:sts::123456789012:assumed-role/ops/jane";
const ACM: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";

fn parse(payload: Value) -> Result<Trigger, EdgeError> {
    Trigger::parse(payload)
}

fn named(hint: &Hint) -> Vec<&str> {
    hint.certificates.iter().map(|arn| arn.as_str()).collect()
}

fn hint(payload: Value) -> Hint {
    match parse(payload) {
        Ok(Trigger::Hint(hint)) => hint,
        other => panic!("not a hint: {other:?}"),
    }
}

fn refused(payload: Value) -> String {
    let error = parse(payload).expect_err("it should be refused");
    assert_eq!(error.word, Word::Invalid);
    error.text
}

/// An envelope with everything EventBridge sends.
fn envelope(source: &str, detail_type: &str, resources: &[&str], detail: &Value) -> Value {
    json!({
        "version": "0", "id": "9c95e8e4-96a4-ef3f-b739-b6aa5b193afb", "detail-type": detail_type, "source": source,
        "account": "123456789012", "time": "2026-11-21T06:51:08Z", "region": "eu-west-1",
        "resources": resources, "detail": detail,
    })
}

#[test]
fn every_acm_event_names_its_certificate_whatever_its_detail_holds() {
    let details = [
        ("ACM Certificate Approaching Expiration", json!({ "DaysToExpiry": 31, "CommonName": "api.example.com" })),
        (
            "ACM Certificate Available",
            json!({ "Action": "RENEWAL", "CertificateType": "AMAZON_ISSUED", "InUse": "TRUE" }),
        ),
        ("ACM Certificate Expired", json!({ "CertificateType": "PRIVATE", "InUse": true, "Exported": false })),
        ("ACM Certificate Renewal Action Required", json!({ "RenewalStatusReason": "CAA_ERROR" })),
        ("ACM Certificate Revoked", json!({ "Exportable": true })),
        ("ACM Certificate Rotated", Value::Null),
        ("ACM Certificate Of Tomorrow", json!([1, 2])),
    ];
    for (detail_type, detail) in details {
        let hint = hint(envelope("aws.acm", detail_type, &[ACM], &detail));
        assert_eq!(hint.kind, HintKind::Certificate);
        assert_eq!(named(&hint), [ACM], "{detail_type}");
        assert_eq!(hint.detail_type, detail_type);
    }
    assert!(hint(envelope("aws.acm", "ACM Certificate Expired", &[], &Value::Null)).certificates.is_empty());
    assert!(hint(envelope("aws.acm", "ACM Certificate Expired", &["nonsense"], &Value::Null)).certificates.is_empty());
}

#[test]
fn a_parameter_change_names_its_stack() {
    let change = |name: Value| {
        envelope(
            "aws.ssm",
            "Parameter Store Change",
            &["arn:aws:ssm:eu-west-1:123456789012:parameter/espalier-spec/payments"],
            &json!({ "operation": "Update", "name": name, "type": "String", "description": "" }),
        )
    };
    let spec = hint(change(json!("/espalier-spec/payments")));
    assert_eq!((spec.kind, spec.stack.unwrap().as_str()), (HintKind::Spec, "payments"));

    let other = hint(change(json!("/espalier-leaf/payments/shared/3")));
    assert_eq!((other.kind, other.stack), (HintKind::Parameter, None));

    let text = refused(change(json!("/espalier-spec/No_Stack")));
    assert!(text.contains("`detail.name`") && text.contains("No_Stack"), "{text}");
    let text = refused(change(json!(7)));
    assert!(text.contains("`detail.name`"), "{text}");
}

#[test]
fn a_parameter_change_without_a_name_is_a_sweep() {
    for detail in [json!({ "operation": "Update" }), Value::Null] {
        assert_eq!(hint(envelope("aws.ssm", "Parameter Store Change", &[], &detail)).kind, HintKind::Sweep);
    }
    let mut bare = envelope("aws.ssm", "Parameter Store Change", &[], &Value::Null);
    for field in ["detail", "resources", "time", "id", "version", "account", "region"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(hint(bare).kind, HintKind::Sweep);
}

#[test]
fn a_command_status_names_its_command_its_instances_and_its_stack() {
    let whole = hint(envelope(
        "aws.ssm",
        "EC2 Command Status-change Notification",
        &["arn:aws:ec2:eu-west-1:123456789012:instance/i-0abc1234def567890"],
        &json!({ "command-id": "c-1", "document-name": "Espalier-Install", "status": "Success",
                 "parameters": { "Stack": ["payments"], "Generation": ["3"] } }),
    ));
    assert_eq!(whole.kind, HintKind::Command);
    assert_eq!(whole.command_id.as_deref(), Some("c-1"));
    assert_eq!(whole.stack.unwrap().as_str(), "payments");
    assert_eq!(whole.instances[0].as_str(), "i-0abc1234def567890");

    let one = hint(envelope(
        "aws.ssm",
        "EC2 Command Invocation Status-change Notification",
        &["arn:aws:ec2:eu-west-1:123456789012:instance/i-0abc1234def567890"],
        &json!({ "command-id": "c-1", "instance-id": "i-0abc1234def567890", "status": "Failed" }),
    ));
    assert_eq!((one.instances.len(), one.stack), (1, None));
}

#[test]
fn instances_come_from_ec2_and_from_auto_scaling() {
    let ec2 = json!({ "instance-id": "i-0abc1234def567890", "state": "running" });
    let asg =
        json!({ "LifecycleActionToken": "t", "AutoScalingGroupName": "g", "EC2InstanceId": "i-0abc1234def567890" });
    for event in [
        envelope("aws.ec2", "EC2 Instance State-change Notification", &[], &ec2),
        envelope("aws.autoscaling", "EC2 Instance-launch Lifecycle Action", &[], &asg),
    ] {
        let hint = hint(event);
        assert_eq!((hint.kind, hint.instances[0].as_str()), (HintKind::Instance, "i-0abc1234def567890"));
    }
    let odd = envelope("aws.ec2", "EC2 Instance State-change Notification", &[], &json!({ "instance-id": "mi-01" }));
    assert!(hint(odd).instances.is_empty());
    let text =
        refused(envelope("aws.ec2", "EC2 Instance State-change Notification", &[], &json!({ "instance-id": [] })));
    assert!(text.contains("`detail.instance-id`"), "{text}");
}

#[test]
fn schedules_and_the_constant_are_sweeps() {
    for event in [
        envelope("aws.events", "Scheduled Event", &["arn:aws:events:eu-west-1:123456789012:rule/sweep"], &json!({})),
        envelope("aws.scheduler", "Scheduled Event", &[], &json!("{}")),
        json!({ "espalier": "sweep" }),
    ] {
        assert_eq!(hint(event).kind, HintKind::Sweep);
    }
    assert!(refused(json!({ "espalier": "destroy" })).contains("`espalier`"));
    assert!(refused(json!({ "espalier": "sweep", "stack": "payments" })).contains("stack"));
}

#[test]
fn health_and_our_own_events_are_hints() {
    let health = envelope("aws.health", "AWS Health Event", &[], &json!({ "service": "ACM" }));
    assert!(hint(health.clone()).kind == HintKind::Health && hint(health).certificates.is_empty());
    let entities =
        json!({ "service": "ACM", "affectedEntities": [{ "entityValue": "x" }, {}, { "entityValue": ACM }] });
    let other = format!("{ACM}0");
    let several = hint(envelope("aws.health", "AWS Health Event", &[&other, ACM], &entities));
    assert_eq!(named(&several), [ACM, other.as_str()], "all of them, each once");
    let alarm =
        envelope("aws.cloudwatch", "CloudWatch Alarm State Change", &[], &json!({ "state": { "value": "ALARM" } }));
    assert_eq!(hint(alarm).kind, HintKind::Sweep);
    let wish = hint(envelope("espalier", "Rotate Requested", &[], &json!({ "stack": "payments" })));
    assert_eq!((wish.kind, wish.stack.unwrap().as_str()), (HintKind::Own, "payments"));
    for target in ["i-0abc1234def567890", "10.0.0.7"] {
        let wish = hint(envelope("espalier", "Rotate Requested", &[], &json!({ "target": target })));
        let instances: Vec<&str> = wish.instances.iter().map(TargetId::as_str).collect();
        assert_eq!((wish.kind, wish.stack, instances), (HintKind::Own, None, vec![target]));
    }
    let own = hint(envelope("espalier", "Stack Converged", &[], &json!({ "stack": "payments", "steps": [] })));
    assert_eq!((own.kind, own.stack.unwrap().as_str()), (HintKind::Own, "payments"));
}

#[test]
fn what_nobody_should_send_is_refused_and_the_field_is_named() {
    let cases = [
        (json!(null), "not a JSON object"),
        (json!([{ "source": "aws.acm" }]), "not a JSON object"),
        (json!("sweep"), "not a JSON object"),
        (json!({}), "stack"),
        (envelope("aws.s3", "Object Created", &[], &json!({})), "`source`"),
        (envelope("", "", &[], &json!({})), "`source`"),
        (envelope("espalier", "Rotate Requested", &[], &json!({ "target": "i-0" })), "`detail.target`"),
        (json!({ "source": "aws.acm" }), "detail-type"),
        (json!({ "detail-type": "Scheduled Event" }), "source"),
        (json!({ "source": 1, "detail-type": "x" }), "`source`"),
        (json!({ "source": "aws.acm", "detail-type": "x", "resources": "arn" }), "`resources`"),
        (json!({ "source": "aws.acm", "detail-type": "x", "resources": [1] }), "`resources[0]`"),
        (json!({ "source": "aws.acm", "detail-type": "x", "time": "yesterday" }), "`time`"),
        (envelope("aws.ssm", "Parameter Store Change", &[], &json!("text")), "`detail`"),
        (envelope("aws.ssm", "Parameter Store Change", &[], &json!(["/espalier-spec/payments"])), "`detail`"),
        (json!({ "kind": "explode" }), "explode"),
        (json!({ "kind": "deliver", "stack": "Payments" }), "`stack`"),
        (json!({ "kind": 1 }), "`kind`"),
        (json!({ "kind": "mint", "stack": "payments", "colour": 1 }), "`colour`"),
        (json!({ "stack": "payments", "epoch": "1", "wave": 1 }), "`epoch`"),
        (json!({ "stack": "payments", "epoch": 1, "wave": 1, "colour": 1 }), "colour"),
    ];
    for (payload, named) in cases {
        let shown = payload.to_string();
        let text = refused(payload);
        assert!(text.contains(named), "{shown}: {text}");
    }
}

#[test]
fn a_direct_request_is_strict() {
    let direct = |payload: Value| match parse(payload) {
        Ok(Trigger::Direct(direct)) => direct,
        other => panic!("not direct: {other:?}"),
    };
    let Direct { stack, mode, spec } = direct(json!({ "stack": "payments" }));
    assert_eq!((stack.as_str(), mode, spec), ("payments", Mode::Apply, None));
    assert_eq!(direct(json!({ "stack": "payments", "mode": "verify" })).mode, Mode::Verify);
    assert_eq!(direct(json!({ "stack": "payments", "mode": "status" })).mode, Mode::Status);
    let planned = direct(json!({ "stack": "payments", "mode": "plan", "spec": { "version": 1 } }));
    assert_eq!((planned.mode, planned.spec), (Mode::Plan, Some(json!({ "version": 1 }))));

    let checked = direct(json!({ "stack": "payments", "mode": "check", "min_slack_days": 3 }));
    assert_eq!(checked.mode, Mode::Check { min_slack_days: 3 });

    for (payload, named) in [
        (json!({ "stack": "payments", "mode": "check" }), "`min_slack_days`"),
        (json!({ "stack": "payments", "mode": "check", "min_slack_days": -1 }), "`min_slack_days`"),
        (json!({ "stack": "payments", "min_slack_days": 1 }), "`min_slack_days`"),
        (json!({ "stack": "payments", "mode": "destroy" }), "`mode`"),
        (json!({ "stack": "payments", "spec": { "version": 1 } }), "`spec`"),
        (json!({ "stack": "payments", "mode": "apply", "spec": {} }), "`spec`"),
        (json!({ "stack": "payments", "mode": "verify", "spec": {} }), "`spec`"),
        (json!({ "stack": "../payments" }), "`stack`"),
        (json!({ "stack": "payments", "force": true }), "force"),
        (json!({ "stack": "payments", "reason": "leaked" }), "`reason`"),
        (json!({ "stack": "payments", "mode": "verify", "caller": CALLER }), "`caller`"),
        (json!({ "stack": "payments", "mode": "plan", "generation": 1 }), "`generation`"),
        (json!({ "stack": "payments", "mode": "emergency" }), "`caller`"),
        (json!({ "stack": "payments", "mode": "emergency", "caller": CALLER }), "`reason`"),
        (json!({ "stack": "payments", "mode": "emergency", "caller": CALLER, "reason": " " }), "`reason`"),
        (json!({ "stack": "payments", "mode": "emergency", "caller": CALLER, "reason": "a\nb" }), "`reason`"),
        (json!({ "stack": "payments", "mode": "emergency", "caller": CALLER, "reason": "x".repeat(201) }), "`reason`"),
        (json!({ "stack": "payments", "mode": "emergency", "caller": "jane", "reason": "leaked" }), "`caller`"),
        (
            json!({ "stack": "payments", "mode": "emergency", "caller": CALLER, "reason": "leaked", "spec": {} }),
            "`spec`",
        ),
        (
            json!({ "stack": "payments", "mode": "emergency", "caller": CALLER, "reason": "leaked", "generation": -1 }),
            "`generation`",
        ),
    ] {
        let text = refused(payload);
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn an_emergency_is_a_persons_word_and_never_an_events() {
    let asked =
        json!({ "stack": "payments", "mode": "emergency", "caller": CALLER, "reason": "leaked", "generation": 3 });
    let Ok(Trigger::Direct(Direct { mode: Mode::Emergency(emergency), .. })) = parse(asked.clone()) else {
        panic!("not an emergency")
    };
    let Emergency { generation, caller, reason } = emergency;
    assert_eq!((generation.map(|one| one.0), caller.as_str(), reason.as_str()), (Some(3), CALLER, "leaked"));
    let mut beside = envelope("espalier", "Rotate Requested", &[], &json!({ "stack": "payments" }));
    beside["mode"] = json!("emergency");
    for event in [
        envelope("espalier", "Rotate Requested", &[], &asked),
        envelope("aws.acm", "ACM Certificate Revoked", &[ACM], &json!({ "mode": "emergency" })),
        beside,
        json!({ "espalier": "sweep", "mode": "emergency" }),
    ] {
        let text = refused(event);
        assert!(text.contains("mode`"), "{text}");
    }
}

#[test]
fn the_state_machines_requests_are_told_apart() {
    let pass = json!({ "stack": "payments", "epoch": 3, "wave": 1, "results": [] });
    assert!(matches!(parse(pass), Ok(Trigger::Pass(_))));
    let mint =
        json!({ "kind": "mint", "stack": "payments", "scope": "shared", "generation": 1, "because": "none yet" });
    assert!(matches!(parse(mint), Ok(Trigger::Work(_))));
}

#[test]
fn what_a_request_is_about_is_told_in_identifiers_alone() {
    let told = |payload: Value| parse(payload).unwrap().subject();
    let item = |kind: &str, more: Value| {
        let mut item = json!({"kind": kind, "stack": "pay"});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        item
    };
    let on = |kind: &'static str| Subject { stack: StackName::parse("pay").ok(), ..Subject::of(kind) };
    let targets = || vec!["i-0123456789abcdef0".to_owned()];
    assert_eq!(told(json!({"stack": "pay", "mode": "status"})), on("status"));
    assert_eq!(
        told(json!({"stack": "pay", "epoch": 7, "wave": 2, "results": []})),
        Subject { epoch: Some(7), wave: Some(2), ..on("pass") }
    );
    let minted = item("mint", json!({"scope": "shared", "generation": 3, "because": "-----BEGIN PRIVATE KEY-----"}));
    assert_eq!(told(minted), Subject { generation: Some(3), ..on("mint") });
    let delivered = item(
        "deliver",
        json!({"epoch": 7, "action": "Install", "scope": "shared", "generation": 3, "targets": targets(), "attempt": 1,
            "windowS": 0}),
    );
    assert_eq!(told(delivered), Subject { epoch: Some(7), generation: Some(3), targets: targets(), ..on("deliver") });
    assert_eq!(
        told(item("membership", json!({"targets": targets()}))),
        Subject { targets: targets(), ..on("membership") }
    );
}

#[test]
fn an_events_id_is_told_unless_it_is_none() {
    let event = |id: &str| {
        let mut event = envelope("aws.acm", "ACM Certificate Available", &[ACM], &Value::Null);
        event["id"] = id.into();
        parse(event).unwrap().subject().event
    };
    let id = "9c95e8e4-96a4-ef3f-b739-b6aa5b193afb";
    assert_eq!(event(id).as_deref(), Some(id));
    for forged in ["", "a secret that somebody sends", "-----BEGIN-PRIVATE-KEY----- MHcCAQEEI"] {
        assert_eq!(event(forged), None, "{forged}");
    }
}
