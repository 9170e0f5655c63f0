//! The asynchronous edges: which events are listened to, and that none of them can be lost without a trace.

use std::collections::{BTreeMap, BTreeSet};

use espalier_tests::{Template, texts};

#[test]
fn every_asynchronous_edge_has_a_dead_letter_queue() {
    let template = Template::read("template.yaml");
    let mut edges = 0;
    for (id, properties) in template.functions() {
        let Some(events) = properties["Events"].as_object() else { continue };
        for (name, event) in events {
            edges += 1;
            let queue = &event["Properties"]["DeadLetterConfig"]["Arn"]["Fn::GetAtt"];
            assert_eq!(queue[0], "DeadLetters", "{id}, {name}");
            assert!(event["Properties"]["RetryPolicy"]["MaximumEventAgeInSeconds"].is_number(), "{id}, {name}");
        }
        let failed = &properties["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"];
        assert_eq!(failed["Fn::GetAtt"][0], "DeadLetters", "{id} is called asynchronously");
    }
    for (id, rule) in template.resources("AWS::Events::Rule") {
        for target in rule["Targets"].as_array().unwrap() {
            edges += 1;
            assert_eq!(target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0], "DeadLetters", "{id}");
        }
    }
    assert!(edges >= 11, "{edges}");
}

#[test]
fn every_rule_admits_only_this_accounts_events() {
    let template = Template::read("template.yaml");
    let of_functions = template
        .functions()
        .flat_map(|(_, properties)| properties["Events"].as_object().into_iter().flatten())
        .filter(|(_, event)| event["Type"] == "EventBridgeRule")
        .map(|(name, event)| (name.as_str(), &event["Properties"]["Pattern"]));
    let rules = template.resources("AWS::Events::Rule").map(|(name, rule)| (name, &rule["EventPattern"]));
    let mut patterns = 0;
    for (name, pattern) in of_functions.chain(rules) {
        patterns += 1;
        // As it is deployed by default.
        let account = template.deployed(&pattern["account"], &BTreeMap::from([("AWS::AccountId", "123456789012")]));
        assert_eq!(account, serde_json::json!(["123456789012"]), "{name}");
        assert!(pattern["account"].is_array() || name == "CertificateChanged", "{name} may hear other accounts");
        assert_eq!(pattern["source"].as_array().map(Vec::len), Some(1), "{name}");
    }
    assert!(patterns >= 9, "{patterns}");
}

#[test]
fn rotate_hears_what_acm_and_systems_manager_say() {
    let template = Template::read("template.yaml");
    let heard = |name: &str| -> BTreeSet<String> {
        let pointer = format!("/Resources/Rotate/Properties/Events/{name}/Properties/Pattern/detail-type");
        texts(template.at(&pointer)).into_iter().collect()
    };
    let acm = [
        "ACM Certificate Available",
        "ACM Certificate Approaching Expiration",
        "ACM Certificate Expired",
        "ACM Certificate Renewal Action Required",
        "ACM Certificate Revoked",
        "ACM Certificate Rotated",
    ];
    assert_eq!(heard("CertificateChanged"), acm.map(str::to_owned).into());
    let command = ["EC2 Command Status-change Notification", "EC2 Command Invocation Status-change Notification"];
    assert_eq!(heard("CommandChanged"), command.map(str::to_owned).into());
    for (name, detail_type) in [
        ("SpecChanged", "Parameter Store Change"),
        ("CertificateNotice", "AWS Health Event"),
        ("AlarmRaised", "CloudWatch Alarm State Change"),
        ("RotateRequested", "Rotate Requested"),
    ] {
        assert_eq!(heard(name), [detail_type.to_owned()].into());
    }
}

#[test]
fn the_sweep_says_the_word_that_the_functions_know() {
    let template = Template::read("template.yaml");
    for function in ["Provision", "Rotate"] {
        let input = template.at(&format!("/Resources/{function}/Properties/Events/Sweep/Properties/Input"));
        let input: serde_json::Value = serde_json::from_str(input.as_str().unwrap()).unwrap();
        assert_eq!(input, serde_json::json!({ "espalier": "sweep" }), "{function}");
    }
}

#[test]
fn what_needs_a_person_is_an_event_that_we_send() {
    let template = Template::read("template.yaml");
    let announced = crate::workflow::detail_types();
    for detail_type in texts(template.at("/Resources/NeedsAPerson/Properties/EventPattern/detail-type")) {
        assert!(announced.contains(&detail_type), "nobody sends {detail_type:?}");
    }
}

#[test]
fn every_function_logs_to_a_group_that_forgets() {
    let template = Template::read("template.yaml");
    for (id, properties) in template.functions() {
        let group = properties["LoggingConfig"]["LogGroup"]["Ref"].as_str().unwrap();
        let group = template.at(&format!("/Resources/{group}/Properties"));
        assert_eq!(group["RetentionInDays"]["Ref"], "LogRetentionDays", "{id}");
        let function = id.to_lowercase();
        assert_eq!(group["LogGroupName"]["Fn::Sub"], format!("/aws/lambda/${{AWS::StackName}}-{function}"), "{id}");
    }
}
