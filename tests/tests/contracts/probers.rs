//! The further probers: `prober.yaml` is `template.yaml`'s own `verify` in another place, under a name that the state machine
//! may call and that a spec can say. What holds of the one in `template.yaml` holds of it, so the other contracts look at that.

use espalier_domain::id::ProberName;
use espalier_tests::{Template, read, statements};
use serde_json::{Value, json};

/// The function's name, in `prober.yaml` and as the state machine makes it of a spec.
const NAME: &str = "${ControlPlane}-prober-${ProberName}";

#[test]
fn a_further_prober_differs_from_the_control_planes_own_in_its_name_and_in_whom_its_alarm_calls() {
    let (own, further) = (Template::read("template.yaml"), Template::read("prober.yaml"));
    let renamed = further.at("/Resources").to_string().replace(NAME, "${AWS::StackName}-verify");
    let mut renamed: Value = serde_json::from_str(&renamed).unwrap();
    let alarm = renamed["VerifyErrors"]["Properties"].as_object_mut().unwrap();
    for actions in ["AlarmActions", "OKActions"] {
        assert_eq!(alarm.remove(actions), Some(json!([{ "Ref": "NotificationTopicArn" }])), "{actions}");
    }
    let resources = renamed.as_object().unwrap();
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["Verify", "VerifyErrors", "VerifyLogs", "VerifyRole"]);
    for (id, resource) in resources {
        for part in ["Type", "Properties"] {
            assert_eq!(resource[part], *own.at(&format!("/Resources/{id}/{part}")), "{id}: {part}");
        }
    }
    assert_eq!(resources["Verify"]["Metadata"]["BuildProperties"], json!({ "Binary": "verify" }));
    assert_eq!(further.at("/Globals"), own.at("/Globals"));
    for (name, condition) in further.at("/Conditions").as_object().unwrap() {
        assert_eq!(condition, own.at(&format!("/Conditions/{name}")), "{name}");
    }
}

#[test]
fn what_both_templates_ask_for_is_asked_in_the_same_words() {
    let (own, further) = (Template::read("template.yaml"), Template::read("prober.yaml"));
    let page = read("docs/install.md");
    let mut shared = 0;
    for (name, parameter) in further.at("/Parameters").as_object().unwrap() {
        assert!(parameter["Description"].is_string(), "{name} has no description");
        assert!(page.contains(&format!("`{name}`")), "docs/install.md does not mention the parameter {name}");
        let there = own.at(&format!("/Parameters/{name}"));
        if there.is_null() {
            continue;
        }
        shared += 1;
        for part in ["Type", "Default", "AllowedValues", "AllowedPattern"] {
            assert_eq!(parameter[part], there[part], "{name}: {part}");
        }
    }
    assert_eq!(shared, 6, "subnets, security groups, retention, traces, boundary, processor");
}

#[test]
fn the_state_machine_calls_further_probers_by_their_names_and_may_call_nothing_else_by_a_pattern() {
    let template = Template::read("template.yaml");
    let prefix = template.at("/Resources/Rotation/Properties/DefinitionSubstitutions/ProberPrefix/Fn::Sub");
    let prefix = prefix.as_str().unwrap();
    assert_eq!(prefix.replace("AWS::StackName", "ControlPlane") + "${ProberName}", NAME);
    let role = statements(&template, "RotationRole");
    let patterns: Vec<&Value> = role
        .iter()
        .filter(|one| one.actions.iter().any(|action| action == "lambda:InvokeFunction"))
        .flat_map(|one| &one.resources)
        .filter(|resource| resource.get("Fn::GetAtt").is_none())
        .collect();
    let arn = format!("arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:{prefix}*");
    assert_eq!(patterns, [&json!({ "Fn::Sub": arn })]);

    let workflow = read("workflows/rotation.asl.yaml");
    let by_name = "States.Format('${ProberPrefix}{}', $.prober)";
    assert!(workflow.contains(&format!("FunctionName.$: {by_name}\n")));
    assert!(workflow.contains(&format!("function.$: {by_name}\n")), "who was called is told when it failed");
}

#[test]
fn a_spec_can_say_each_name_that_a_prober_can_have_and_the_functions_name_is_short_enough() {
    let further = Template::read("prober.yaml");
    let schema: Value = serde_json::from_str(&read("schemas/stack.schema.json")).unwrap();
    let pattern = further.at("/Parameters/ProberName/AllowedPattern");
    assert_eq!(schema["properties"]["prober"]["properties"]["name"]["pattern"], *pattern);
    let longest = "a".repeat(24);
    assert!(ProberName::parse(&longest).is_ok() && ProberName::parse(format!("{longest}a")).is_err());
    let plane = further.at("/Parameters/ControlPlane/AllowedPattern").as_str().unwrap();
    let plane = plane.split("{0,").nth(1).unwrap().split('}').next().unwrap().parse::<usize>().unwrap() + 1;
    // Lambda's limit (API reference, CreateFunction).
    assert!(plane + "-prober-".len() + longest.len() <= 64, "a control plane's name of {plane} characters");
}
