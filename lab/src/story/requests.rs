//! Every request of the run, held to the service models that botocore publishes: an unknown member, a word outside its
//! enumeration, a length or a pattern that AWS refuses fails the run, whatever emulators and stand-ins made of it.
//!
//! The judge is no part of the product and shares no code with the SDK that made the requests. Wrong requests are planted
//! among those it reads, and it has to find each.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{StoryError, Tale};
use crate::gateway::Passed;
use crate::ui::Phase;

/// Reads requests, one a line, and judges them.
const JUDGE: &str = include_str!("../requests.py");

/// Wrong requests of every protocol, one mistake each, and what has to be said of them.
const PLANTED: [(&str, &str, &str, &str, &str, &str); 17] = [
    ("vpc_lattice", "UpdateService", "PATCH", "/services/svc-0123456789abcdef0", r#"{"idleTimeout": 60}"#, "no member"),
    (
        "vpc_lattice",
        "UpdateService",
        "PATCH",
        "/services/svc-0123456789abcdef0",
        r#"{"authType": "IAM"}"#,
        "authType is not one of its enumeration",
    ),
    ("vpc_lattice", "GetService", "GET", "/services/service-1", "", "serviceIdentifier does not match"),
    (
        "vpc_lattice",
        "UpdateService",
        "PATCH",
        "/services/svc-0123456789abcdef0",
        r#"{"idleTimeoutSeconds": 59}"#,
        "has 59",
    ),
    ("ssm", "SendCommand", "POST", "/", r#"{"InstanceIds": ["i-0123456789abcdef0"]}"#, "lacks DocumentName"),
    ("dynamodb", "GetItem", "POST", "/", r#"{"TableName": 7, "Key": {}}"#, "TableName is not a string"),
    ("ec2", "DescribeVpcs", "POST", "/", "Action=DescribeVpcs&Version=2016-11-15&Vpc.1=vpc-1", "no member Vpc"),
    (
        "auto_scaling",
        "CompleteLifecycleAction",
        "POST",
        "/",
        "Action=CompleteLifecycleAction&Version=2011-01-01&AutoScalingGroupName=web&LifecycleHookName=come",
        "lacks LifecycleActionResult",
    ),
    (
        "route_53",
        "ChangeResourceRecordSets",
        "POST",
        "/2013-04-01/hostedzone/Z1/rrset/",
        "<R><ChangeBatch><Changes><Change><Action>PUT</Action></Change></Changes></ChangeBatch></R>",
        "Action is not one of its enumeration",
    ),
    ("s3", "PutObject", "PUT", "/bucket/key?colour=green", "", "no member colour"),
    ("iam", "GetRole", "POST", "/", "Action=GetRole&Version=2010-05-08&Role=x", "no member Role"),
    ("sts", "GetCallerIdentity", "POST", "/", "Action=GetCallerIdentity&Version=2011-06-15&Who=me", "no member Who"),
    (
        "cloudformation",
        "CreateStack",
        "POST",
        "/",
        "Action=CreateStack&Version=2010-05-15&TemplateBody=x",
        "lacks StackName",
    ),
    ("lambda", "Invoke", "POST", "/2015-03-31/functions/a%20b/invocations", "{}", "FunctionName does not match"),
    ("sqs", "SendMessage", "POST", "/", r#"{"MessageBody": "x"}"#, "lacks QueueUrl"),
    ("cloudwatch_logs", "FilterLogEvents", "POST", "/", r#"{"logGroupName": "a b"}"#, "logGroupName does not match"),
    ("a_new_service", "Anything", "POST", "/", "{}", "no model"),
];

#[derive(Deserialize)]
struct Judgement {
    checked: BTreeMap<String, u64>,
    problems: BTreeMap<String, u64>,
    planted: BTreeMap<String, Vec<String>>,
}

/// Checks every request that has passed until now.
pub(super) async fn check(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    phase.progress("comparing every request with botocore's models");
    let passed = tale.world.gateway.passed();
    let lines = passed.iter().map(line).chain((0..).zip(PLANTED).map(|(number, wrong)| planted(number, wrong)));
    let judgement = judge(tale, lines.collect()).await?;
    for (number, (service, operation, _, _, _, mistake)) in (0_usize..).zip(PLANTED) {
        let found = judgement.planted.get(&number.to_string());
        if !found.is_some_and(|found| found.iter().any(|problem| problem.contains(mistake))) {
            return Err(StoryError::Unmet(format!(
                "of a wrong {service}.{operation} the judge of requests does not say {mistake:?}: {found:?}"
            )));
        }
    }
    if !judgement.problems.is_empty() {
        let all: Vec<String> =
            judgement.problems.iter().map(|(problem, count)| format!("{problem} ({count} times)")).collect();
        return Err(StoryError::Unmet(format!("AWS's models refuse what was asked: {}", all.join("; "))));
    }
    let count: u64 = judgement.checked.values().sum();
    if count == 0 {
        return Err(StoryError::Unmet("no request was compared with botocore's models".into()));
    }
    let services = judgement.checked.len();
    phase.done(&format!(
        "{count} requests to {services} services are as botocore's models want them; {} planted wrong ones found",
        PLANTED.len()
    ));
    Ok(())
}

/// Standard input and no file: some requests hold keys.
async fn judge(tale: &Tale, lines: String) -> Result<Judgement, StoryError> {
    let mut python = Command::new(tale.world.tools.path("python"));
    python.args(["-c", JUDGE]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = python.spawn().map_err(StoryError::io("starting the judge of requests"))?;
    let input = child.stdin.take();
    let write = async {
        match input {
            Some(mut input) => input.write_all(lines.as_bytes()).await,
            None => Ok(()),
        }
    };
    let (written, output) = tokio::join!(write, child.wait_with_output());
    written.map_err(StoryError::io("handing requests over"))?;
    let output = output.map_err(StoryError::io("judging requests"))?;
    serde_json::from_slice(&output.stdout).map_err(StoryError::boxed("reading what was found in requests"))
}

fn line(passed: &Passed) -> String {
    let (service, operation) = passed.operation.split_once('.').unwrap_or(("", &passed.operation));
    // What S3 is given to keep is no business of its model's, and large.
    let body = if service == "s3" { "".into() } else { String::from_utf8_lossy(&passed.request) };
    let (method, path) = (&passed.method, &passed.path);
    text(&json!({"service": service, "operation": operation, "method": method, "path": path, "body": body}))
}

fn planted(number: usize, (service, operation, method, path, body, _): (&str, &str, &str, &str, &str, &str)) -> String {
    let number = number.to_string();
    let wrong = json!({"service": service, "operation": operation, "method": method, "path": path, "body": body,
        "planted": number});
    text(&wrong)
}

fn text(request: &Value) -> String {
    format!("{request}\n")
}
