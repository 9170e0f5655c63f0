//! Parameters, inventory, commands, secrets, executions and certificates on the wire.

mod wire;

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_ssm::config::{AsyncSleep, SharedAsyncSleep, Sleep};
use espalier_aws::acm::Certificates;
use espalier_aws::command::{Commands, Order};
use espalier_aws::error::Kind;
use espalier_aws::inventory::{Inventory, Node};
use espalier_aws::parameters::{LeafStored, Parameters};
use espalier_aws::secrets::{Created, Secrets};
use espalier_aws::states::{Execution, StateMachine};
use espalier_domain::acm::AcmStatus;
use espalier_domain::failure::{Failure as _, Word, chain};
use espalier_domain::id::{AcmArn, NodeId, StackName};
use espalier_domain::rotation::agent::AgentVersion;
use espalier_pki::key::SecretText;
use serde_json::{Value, json};
use wire::Wire;

const NAME: &str = "/espalier-leaf/payments/shared/1";

fn id(last: char) -> NodeId {
    NodeId::parse(format!("i-0000000000000000{last}")).unwrap()
}

async fn store(wire: &Wire, fingerprint: &str) -> Result<LeafStored, espalier_aws::AwsError> {
    let bundle = SecretText::new("PRIVATE".to_owned());
    Parameters::new(&wire.sdk()).store_leaf(NAME, &bundle, fingerprint, "alias/leaf").await
}

#[tokio::test]
async fn a_leaf_is_stored_sealed_and_never_over_another() {
    let wire = Wire::table(vec![("PutParameter", 200, json!({ "Version": 1 }))]).await;
    assert_eq!(store(&wire, &"ab".repeat(32)).await.unwrap(), LeafStored::Ours);
    let sent = wire.seen()[0].json();
    assert_eq!(
        (&sent["Type"], &sent["KeyId"], &sent["Tier"]),
        (&json!("SecureString"), &json!("alias/leaf"), &json!("Standard"))
    );
    assert_eq!((&sent["Overwrite"], &sent["Value"]), (&json!(false), &json!("PRIVATE")));
    assert!(sent["Description"].as_str().unwrap().ends_with(&"ab".repeat(32)));
}

/// An RSA key does not fit a standard parameter.
#[tokio::test]
async fn a_long_bundle_goes_to_the_advanced_tier() {
    for (bytes, tier) in [(4_096, "Standard"), (4_097, "Advanced")] {
        let wire = Wire::table(vec![("PutParameter", 200, json!({ "Version": 1 }))]).await;
        let bundle = SecretText::new("x".repeat(bytes));
        Parameters::new(&wire.sdk()).store_leaf(NAME, &bundle, "ab", "alias/leaf").await.unwrap();
        assert_eq!(wire.seen()[0].json()["Tier"], json!(tier), "{bytes}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_answered_with_whose_leaf_it_holds_and_nothing_is_decrypted() {
    let taken = |description: Option<String>| {
        let history = json!({ "Parameters": [{ "Name": NAME, "Version": 1, "Description": description }] });
        Wire::table(vec![
            ("PutParameter", 400, json!({ "__type": "ParameterAlreadyExists" })),
            ("GetParameterHistory", 200, history),
        ])
    };
    let wire = taken(Some(format!("Espalier leaf bundle. SHA-256 {}", "cd".repeat(32)))).await;
    assert_eq!(store(&wire, &"ab".repeat(32)).await.unwrap(), LeafStored::Taken("cd".repeat(32)));
    assert_eq!(wire.seen()[1].json()["WithDecryption"], json!(false));
    assert_eq!(store(&taken(None).await, "ab").await.unwrap(), LeafStored::Foreign);
}

#[tokio::test]
async fn a_refusal_that_quotes_the_key_loses_its_message() {
    let quoted = json!({ "__type": "ValidationException", "message": "Value 'PRIVATE' at 'value' is too long" });
    let wire = Wire::table(vec![("PutParameter", 400, quoted.clone()), ("CreateSecret", 400, quoted)]).await;
    let error = store(&wire, "ab").await.unwrap_err();
    assert_eq!(chain(&error), "ssm:PutParameter failed: ValidationException");
    let secret = SecretText::new("PRIVATE".to_owned());
    let error = Secrets::new(&wire.sdk()).create("espalier/authority", &secret, "").await.unwrap_err();
    assert!(!format!("{error:?} {}", chain(&error)).contains("PRIVATE"), "{error:?}");
}

#[tokio::test]
async fn trust_is_public_and_published_once() {
    let wire = Wire::table(vec![("PutParameter", 400, json!({ "__type": "ParameterAlreadyExists" }))]).await;
    Parameters::new(&wire.sdk()).publish_trust("0123456789abcdef", "PEM").await.unwrap();
    let sent = wire.seen()[0].json();
    assert_eq!((&sent["Name"], &sent["Type"]), (&json!("/espalier-trust/0123456789abcdef"), &json!("String")));
    assert_eq!(sent["Overwrite"], json!(false));
}

#[tokio::test]
async fn a_secret_is_created_once() {
    let missing = json!({ "__type": "ResourceNotFoundException" });
    let wire = Wire::table(vec![
        ("GetSecretValue", 400, missing),
        ("CreateSecret", 400, json!({ "__type": "ResourceExistsException" })),
    ])
    .await;
    let secrets = Secrets::new(&wire.sdk());
    assert!(secrets.get("espalier/authority").await.unwrap().is_none());
    let secret = SecretText::new("PRIVATE".to_owned());
    assert_eq!(secrets.create("espalier/authority", &secret, "").await.unwrap(), Created::Taken);
    let wire = Wire::table(vec![("GetSecretValue", 200, json!({ "SecretString": "text" }))]).await;
    let text = Secrets::new(&wire.sdk()).get("espalier/authority").await.unwrap().unwrap();
    assert_eq!(text.expose(), "text");
}

#[tokio::test]
async fn the_opted_in_are_found_by_tag_page_by_page() {
    let wire = Wire::answering(|seen| {
        let node = |last: char, ping: &str| {
            json!({ "InstanceId": id(last), "PingStatus": ping, "IPAddress": format!("10.0.0.{last}"), "AgentVersion": "3.3.3572.0" })
        };
        let body = match seen.json()["NextToken"].as_str() {
            None => json!({ "InstanceInformationList": [node('1', "Online")], "NextToken": "2" }),
            Some(_) => json!({ "InstanceInformationList": [node('2', "ConnectionLost")] }),
        };
        (200, body.to_string())
    })
    .await;
    let found = Inventory::new(&wire.sdk()).opted_in(&StackName::parse("payments").unwrap()).await.unwrap();
    let node = |online, address: &str| Node {
        online,
        address: Some(address.parse().unwrap()),
        agent: AgentVersion::parse("3.3.3572.0"),
    };
    assert_eq!(found, [(id('1'), node(true, "10.0.0.1")), (id('2'), node(false, "10.0.0.2"))].into());
    let filters = json!([{ "Key": "tag:espalier:stack", "Values": ["payments"] }]);
    assert!(wire.seen().iter().all(|seen| seen.json()["Filters"] == filters));
}

#[tokio::test]
async fn one_instance_that_is_not_managed_does_not_hide_the_others() {
    let wire = Wire::answering(|seen| {
        let asked = seen.json()["Filters"][0]["Values"].clone();
        if asked.as_array().unwrap().contains(&json!(id('1'))) {
            return (400, json!({ "__type": "InvalidInstanceId" }).to_string());
        }
        (200, json!({ "InstanceInformationList": [{ "InstanceId": asked[0], "PingStatus": "Online" }] }).to_string())
    })
    .await;
    let found = Inventory::new(&wire.sdk()).managed(&[id('1'), id('2')]).await.unwrap();
    assert_eq!(found, [(id('2'), Node { online: true, address: None, agent: None })].into());
    assert!(Inventory::new(&wire.sdk()).managed(&[]).await.unwrap().is_empty());
}

fn order() -> Order {
    Order {
        document: "installer".into(),
        version: Some("3".into()),
        nodes: vec![id('1'), id('2')],
        parameters: vec![("Stack", "payments".into())],
        comment: "espalier payments#1".into(),
        delivery_timeout_s: 7,
    }
}

/// As in production: what fails is tried again, where that is sound, and what hangs ends.
fn persistent(wire: &Wire) -> SdkConfig {
    #[derive(Debug)]
    struct Tokio;
    impl AsyncSleep for Tokio {
        fn sleep(&self, duration: Duration) -> Sleep {
            Sleep::new(Box::pin(tokio::time::sleep(duration)))
        }
    }
    let retries = RetryConfig::standard().with_max_attempts(4).with_initial_backoff(Duration::from_millis(1));
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(300)).build();
    let sdk = wire.sdk().into_builder().retry_config(retries).timeout_config(timeouts);
    sdk.sleep_impl(SharedAsyncSleep::new(Tokio)).build()
}

#[tokio::test]
async fn a_command_that_is_refused_for_its_rate_is_sent_again_and_only_once_taken() {
    let mut refusals = 2;
    let wire = Wire::answering(move |_| {
        if refusals == 0 {
            return (200, json!({ "Command": { "CommandId": "c-1" } }).to_string());
        }
        refusals -= 1;
        (400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" }).to_string())
    })
    .await;
    assert_eq!(Commands::new(&persistent(&wire)).send(order()).await.unwrap(), "c-1");
    assert_eq!(wire.asked(), ["SendCommand"; 3]);

    let wire = Wire::table(vec![("SendCommand", 400, json!({ "__type": "ThrottlingException" }))]).await;
    let refused = Commands::new(&persistent(&wire)).send(order()).await.unwrap_err();
    assert_eq!((refused.kind, refused.word()), (Kind::Throttled, Word::Busy), "handed back, as one that was not sent");
}

/// What was answered with a server's error, or not in time, may be on its way to the hosts.
#[tokio::test]
async fn a_command_that_may_have_been_taken_is_never_sent_again() {
    for (status, code) in [(500, "InternalServerError"), (503, "ServiceUnavailable"), (502, "")] {
        let wire = Wire::table(vec![("SendCommand", status, json!({ "__type": code }))]).await;
        let unclear = Commands::new(&persistent(&wire)).send(order()).await.unwrap_err();
        assert_eq!((unclear.kind, wire.asked()), (Kind::Busy, vec!["SendCommand".to_owned()]), "{code}");
    }
    // What only asks is asked again, by the same client.
    let wire = Wire::table(vec![("ListCommandInvocations", 500, json!({ "__type": "InternalServerError" }))]).await;
    assert!(Commands::new(&persistent(&wire)).invocations("c-1").await.is_err());
    assert_eq!(wire.asked().len(), 4);

    // While the first one is held, any further one would be held beside it.
    let (wire, held) = Wire::holding(Duration::from_secs(3), (200, String::new())).await;
    let late = Commands::new(&persistent(&wire)).send(order()).await.unwrap_err();
    assert_eq!((late.kind, late.code()), (Kind::Busy, "TimedOut"));
    assert_eq!(held.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_command_names_its_targets_and_carries_identifiers() {
    let wire = Wire::table(vec![("SendCommand", 200, json!({ "Command": { "CommandId": "c-1" } }))]).await;
    assert_eq!(Commands::new(&wire.sdk()).send(order()).await.unwrap(), "c-1");
    let sent = wire.seen()[0].json();
    assert_eq!(sent["InstanceIds"], json!([id('1'), id('2')]));
    assert_eq!(sent["Parameters"], json!({ "Stack": ["payments"] }));
    assert_eq!((&sent["DocumentVersion"], &sent["TimeoutSeconds"]), (&json!("3"), &json!(30)), "30 s is AWS's least");
    assert_eq!(sent["Targets"], Value::Null);
}

#[tokio::test]
async fn what_became_of_a_command_is_read_page_by_page_and_not_yet_is_nothing() {
    let wire = Wire::answering(|seen| {
        let entry = |last: char, status: &str| {
            let plugins = json!([{ "Name": "install", "Output": "{\"espalier\":1}\n----------ERROR-------\nwarning" }]);
            json!({ "InstanceId": id(last), "Status": status, "StatusDetails": status, "CommandPlugins": plugins })
        };
        let body = match seen.json()["NextToken"].as_str() {
            None => json!({ "CommandInvocations": [entry('1', "Success")], "NextToken": "2" }),
            Some(_) => json!({ "CommandInvocations": [entry('2', "InProgress")] }),
        };
        (200, body.to_string())
    })
    .await;
    let seen = Commands::new(&wire.sdk()).invocations("c-1").await.unwrap();
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), [id('1'), id('2')]);
    assert_eq!((seen[&id('2')].status.as_str(), seen[&id('1')].output.as_str()), ("InProgress", "{\"espalier\":1}\n"));
    assert_eq!(wire.seen()[0].json()["Details"], json!(true));
    for code in ["InvocationDoesNotExist", "InvalidCommandId"] {
        let wire = Wire::table(vec![("ListCommandInvocations", 400, json!({ "__type": code }))]).await;
        assert!(Commands::new(&wire.sdk()).invocations("c-1").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_execution_that_exists_runs_only_if_it_is_seen_to_run() {
    const ARN: &str = "arn:aws:states:eu-west-1:000000000000:stateMachine:rotation";
    let exists = || ("StartExecution", 400, json!({ "__type": "ExecutionAlreadyExists" }));
    let described = |status: &str| {
        let arn = "arn:aws:states:eu-west-1:000000000000:execution:rotation:payments-1-1";
        let body = json!({ "executionArn": arn, "stateMachineArn": ARN, "status": status, "startDate": 1_795_000_000 });
        ("DescribeExecution", 200, body)
    };
    for (status, expected) in [("RUNNING", Execution::Running), ("FAILED", Execution::Ended)] {
        let wire = Wire::table(vec![exists(), described(status)]).await;
        let machine = StateMachine::new(&wire.sdk(), ARN);
        assert_eq!(machine.start("payments-1-1", "{}").await.unwrap(), expected);
        let described = wire.seen()[1].json();
        assert_eq!(described["executionArn"], "arn:aws:states:eu-west-1:000000000000:execution:rotation:payments-1-1");
    }
    let wire = Wire::table(vec![("DescribeExecution", 400, json!({ "__type": "ExecutionDoesNotExist" }))]).await;
    assert_eq!(StateMachine::new(&wire.sdk(), ARN).look("payments-1-1").await.unwrap(), Execution::Missing);
}

#[tokio::test]
async fn a_certificate_that_is_gone_is_evidence() {
    let arn = AcmArn::parse("arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4").unwrap();
    let missing = json!({ "__type": "ResourceNotFoundException" });
    let wire = Wire::table(vec![("DescribeCertificate", 400, missing)]).await;
    let evidence = Certificates::new(&wire.sdk()).describe(&arn).await.unwrap();
    assert_eq!(evidence.status, AcmStatus::Missing);
}
