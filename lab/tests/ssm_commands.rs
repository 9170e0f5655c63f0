//! Run Command over HTTP: it really runs, and it refuses what Systems Manager refuses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use espalier_lab::ssm::rules::Rule;
use espalier_lab::ssm::{EventSink, ManagedInstance, Options, RegisterError, Ssm};
use serde_json::{Value, json};

const ONE: &str = "i-0000000000000000a";
const TWO: &str = "i-0000000000000000b";

#[derive(Default)]
struct Heard(Mutex<Vec<(String, Value)>>);

impl EventSink for Heard {
    fn emit(&self, source: &str, kind: &str, _: Vec<String>, detail: Value) {
        assert_eq!(source, "aws.ssm");
        self.0.lock().unwrap().push((kind.to_owned(), detail));
    }
}

struct World {
    ssm: Ssm,
    heard: Arc<Heard>,
    directory: tempfile::TempDir,
}

fn instance(id: &str, directory: &std::path::Path) -> ManagedInstance {
    ManagedInstance {
        id: id.into(),
        ip: "127.0.1.10".parse().unwrap(),
        tags: BTreeMap::from([("espalier:stack".into(), "api".into())]),
        online: true,
        agent_version: "3.3.3572.0".into(),
        environment: BTreeMap::from([("GUEST".into(), id.into())]),
        directory: directory.into(),
    }
}

async fn world() -> World {
    let (directory, heard) = (tempfile::tempdir().unwrap(), Arc::new(Heard::default()));
    let mut options = Options::new("http://127.0.0.1:9", directory.path().join("run"));
    options.delivery_second = Duration::from_millis(5);
    let ssm = Ssm::start(options, heard.clone()).await.unwrap();
    for id in [ONE, TWO] {
        ssm.register(instance(id, directory.path())).unwrap();
    }
    World { ssm, heard, directory }
}

impl World {
    async fn call(&self, operation: &str, request: &Value) -> Result<Value, String> {
        let sent = reqwest::Client::new()
            .post(self.ssm.url())
            .header("x-amz-target", format!("AmazonSSM.{operation}"))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/ssm/aws4_request")
            .json(request);
        let answer = sent.send().await.unwrap();
        let ok = answer.status().is_success();
        let body: Value = answer.json().await.unwrap();
        if ok { Ok(body) } else { Err(format!("{}: {}", body["__type"].as_str().unwrap(), body["message"])) }
    }

    async fn refused(&self, operation: &str, request: Value, rule: Rule) {
        let error = self.call(operation, &request).await.expect_err(operation);
        let documented = rule.documented();
        assert!(error.starts_with(documented.error) && error.contains(documented.source), "{rule:?}: {error}");
        assert!(error.contains(&format!("[{rule:?}]")), "{rule:?}: {error}");
    }

    async fn document(&self, script: &str, timeout: &str) {
        let content = json!({"schemaVersion": "2.2", "parameters": {
            "Word": {"type": "String", "interpolationType": "ENV_VAR", "allowedPattern": "[a-z]{1,5}", "default": "hi"}},
            "mainSteps": [{"action": "aws:runShellScript", "name": "do",
                "inputs": {"timeoutSeconds": timeout, "runCommand": [script]}}]});
        let request = json!({"Name": "doc", "DocumentType": "Command", "Content": content.to_string()});
        self.call("CreateDocument", &request).await.unwrap();
    }

    async fn send(&self, request: Value) -> String {
        let sent = self.call("SendCommand", &request).await.unwrap();
        sent["Command"]["CommandId"].as_str().unwrap().to_owned()
    }

    async fn ended(&self, id: &str) -> Vec<Value> {
        for _ in 0..500 {
            let request = json!({"CommandId": id, "Details": true});
            let listed = self.call("ListCommandInvocations", &request).await.unwrap();
            let list = listed["CommandInvocations"].as_array().unwrap().clone();
            if list.iter().all(|one| !matches!(one["Status"].as_str(), Some("Pending" | "InProgress"))) {
                return list;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} does not end");
    }
}

#[tokio::test]
async fn a_command_runs_its_document() {
    let world = world().await;
    world.document("echo \"$SSM_Word $GUEST\"; echo oops >&2; env | grep -c CARGO; exit 3", "60").await;
    let id = world.send(json!({"DocumentName": "doc", "InstanceIds": [ONE], "Parameters": {"Word": ["abc"]}})).await;
    let early = json!({"CommandId": id, "InstanceId": ONE});
    world.refused("GetCommandInvocation", early.clone(), Rule::InvocationUnknown).await;
    let ended = world.ended(&id).await;
    assert_eq!((&ended[0]["Status"], &ended[0]["StatusDetails"]), (&json!("Failed"), &json!("Failed")));
    let output = ended[0]["CommandPlugins"][0]["Output"].as_str().unwrap();
    let expected = format!("abc {ONE}\n0\n\n----------ERROR-------\noops\nfailed to run commands: exit status 3");
    assert_eq!(output, expected);
    tokio::time::sleep(Duration::from_millis(120)).await;
    let seen = world.call("GetCommandInvocation", &early).await.unwrap();
    assert_eq!((&seen["ResponseCode"], &seen["PluginName"]), (&json!(3), &json!("do")));
    let heard = world.heard.0.lock().unwrap();
    let said: Vec<_> = heard.iter().map(|(kind, detail)| (kind.as_str(), detail["status"].as_str().unwrap())).collect();
    let (one, whole) = ("EC2 Command Invocation Status-change Notification", "EC2 Command Status-change Notification");
    assert_eq!(said, [(one, "InProgress"), (whole, "InProgress"), (one, "Failed"), (whole, "Failed")]);
    assert_eq!(heard[0].1["instance-id"], ONE);
    assert_eq!(heard[1].1["parameters"]["Word"], json!(["abc"]));
    assert!(world.ssm.command_outputs()[0].stdout.starts_with("abc "));
}

#[tokio::test]
async fn what_runs_too_long_is_killed_with_all_its_children() {
    let world = world().await;
    world.document("sleep 2 && touch survived & wait", "1").await;
    let id = world.send(json!({"DocumentName": "doc", "InstanceIds": [ONE]})).await;
    assert_eq!(world.ended(&id).await[0]["StatusDetails"], "Execution Timed Out");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!world.directory.path().join("survived").exists());
}

#[tokio::test]
async fn the_error_budget_stops_the_rest() {
    let world = world().await;
    world.document("exit 1", "60").await;
    let both = json!({"DocumentName": "doc", "InstanceIds": [ONE, TWO], "MaxConcurrency": "1", "MaxErrors": "0"});
    let id = world.send(both).await;
    let mut details: Vec<String> =
        world.ended(&id).await.iter().map(|one| one["StatusDetails"].as_str().unwrap().to_owned()).collect();
    details.sort();
    assert_eq!(details, ["Failed", "Terminated"]);
    let every =
        json!({"DocumentName": "doc", "InstanceIds": [ONE, TWO], "MaxConcurrency": "100%", "MaxErrors": "100%"});
    let id = world.send(every).await;
    assert!(world.ended(&id).await.iter().all(|one| one["Status"] == "Failed"));
}

#[tokio::test]
async fn an_agent_that_is_not_heard_gets_nothing_until_it_is() {
    let world = world().await;
    world.document("true", "60").await;
    world.ssm.set_online(ONE, false);
    let id = world.send(json!({"DocumentName": "doc", "InstanceIds": [ONE], "TimeoutSeconds": 30})).await;
    let ended = world.ended(&id).await;
    let status = (&ended[0]["Status"], &ended[0]["StatusDetails"]);
    assert_eq!(status, (&json!("TimedOut"), &json!("Delivery Timed Out")));
    let id = world.send(json!({"DocumentName": "doc", "InstanceIds": [ONE], "TimeoutSeconds": 3600})).await;
    world.ssm.set_online(ONE, true);
    assert_eq!(world.ended(&id).await[0]["Status"], "Success");
    world.ssm.set_online(ONE, false);
    let id = world.send(json!({"DocumentName": "doc", "InstanceIds": [ONE], "TimeoutSeconds": 3600})).await;
    world.ssm.deregister(ONE);
    assert_eq!(world.ended(&id).await[0]["StatusDetails"], "Undeliverable");
}

#[tokio::test]
async fn a_cancelled_command_ends() {
    let world = world().await;
    world.document("sleep 60", "60").await;
    let id = world.send(json!({"DocumentName": "doc", "InstanceIds": [ONE]})).await;
    world.call("CancelCommand", &json!({"CommandId": id})).await.unwrap();
    assert_eq!(world.ended(&id).await[0]["Status"], "Cancelled");
}

#[tokio::test]
async fn bad_commands_are_refused() {
    let world = world().await;
    world.document("true", "60").await;
    let with = |key: &str, value: Value| {
        let mut request = json!({"DocumentName": "doc", "InstanceIds": [ONE]});
        request[key] = value;
        request
    };
    for (request, rule) in [
        (with("DocumentName", json!("other")), Rule::DocumentUnknown),
        (with("DocumentVersion", json!("2")), Rule::DocumentVersion),
        (with("Parameters", json!({"Other": ["x"]})), Rule::CommandParameters),
        (with("Parameters", json!({"Word": ["abc; reboot"]})), Rule::CommandParameters),
        (with("InstanceIds", json!([ONE, "i-00000000000000009"])), Rule::InstanceUnknown),
        (with("InstanceIds", json!(vec![ONE; 51])), Rule::Shape),
        (with("MaxConcurrency", json!("0")), Rule::Shape),
        (with("MaxErrors", json!("-1")), Rule::Shape),
        (with("TimeoutSeconds", json!(29)), Rule::Shape),
        (with("Comment", json!("x".repeat(101))), Rule::Shape),
        (with("ClientToken", json!("x")), Rule::Shape),
    ] {
        world.refused("SendCommand", request, rule).await;
    }
    world.refused("ListCommandInvocations", json!({"CommandId": "x"}), Rule::CommandUnknown).await;
    world.refused("NoSuchThing", json!({}), Rule::Unknown).await;
}

#[tokio::test]
async fn bad_documents_are_refused() {
    let world = world().await;
    world.document("true", "60").await;
    let create = |content: &str| json!({"Name": "other", "Content": content});
    let step = r#"{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"a","inputs":{"runCommand":["{{ X }}"]}}]}"#;
    for content in ["{", r#"{"schemaVersion":"1.2"}"#, r#"{"schemaVersion":"2.2","mainSteps":[]}"#, step] {
        world.refused("CreateDocument", create(content), Rule::DocumentContent).await;
    }
    world.refused("CreateDocument", create(&" ".repeat(65_537)), Rule::DocumentSize).await;
    let same = world.call("GetDocument", &json!({"Name": "doc"})).await.unwrap()["Content"].clone();
    world.refused("CreateDocument", json!({"Name": "doc", "Content": same}), Rule::DocumentExists).await;
    world.refused("UpdateDocument", json!({"Name": "doc", "Content": same}), Rule::DocumentDuplicate).await;
}

#[tokio::test]
async fn the_inventory_is_filtered_and_paged() {
    let world = world().await;
    for number in 0..8 {
        world.ssm.register(instance(&format!("i-1000000000000000{number}"), world.directory.path())).unwrap();
    }
    world.ssm.set_online(TWO, false);
    let page = world.call("DescribeInstanceInformation", &json!({"MaxResults": 5})).await.unwrap();
    assert_eq!(page["InstanceInformationList"].as_array().unwrap().len(), 5);
    let next = json!({"MaxResults": 5, "NextToken": page["NextToken"]});
    let page = world.call("DescribeInstanceInformation", &next).await.unwrap();
    assert_eq!((page["InstanceInformationList"].as_array().unwrap().len(), &page["NextToken"]), (5, &Value::Null));
    let lost = json!({"Filters": [{"Key": "tag:espalier:stack", "Values": ["api"]},
        {"Key": "PingStatus", "Values": ["ConnectionLost"]}]});
    let found = world.call("DescribeInstanceInformation", &lost).await.unwrap();
    assert_eq!(found["InstanceInformationList"][0]["InstanceId"], TWO);
    let filter = |key: &str| json!({"Filters": [{"Key": key, "Values": ["i-00000000000000009"]}]});
    world.refused("DescribeInstanceInformation", filter("InstanceIds"), Rule::InstanceUnknown).await;
    world.refused("DescribeInstanceInformation", filter("Color"), Rule::FilterKey).await;
    world.refused("DescribeInstanceInformation", json!({"MaxResults": 4}), Rule::Shape).await;
}

#[tokio::test]
async fn a_guest_that_could_reach_aws_is_not_registered() {
    let world = world().await;
    let mut guest = instance(ONE, world.directory.path());
    guest.environment.insert("AWS_ENDPOINT_URL_SSM".into(), "https://ssm.eu-west-1.amazonaws.com".into());
    assert!(matches!(world.ssm.register(guest), Err(RegisterError::Endpoint { .. })));
}
