//! Auto Scaling on the wire: the query protocol out, XML in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "../../aws/tests/wire/mod.rs"]
mod wire;

use espalier_aws_autoscaling::AutoScaling;
use espalier_domain::id::{StackName, TargetId};
use espalier_domain::network::{Action, Life};
use wire::{Seen, Wire};

const ONE: &str = "i-0123456789abcdef0";
const TWO: &str = "i-0123456789abcdef1";

fn stack() -> StackName {
    StackName::parse("payments").unwrap()
}

fn asked(seen: &Seen) -> String {
    seen.body.split('&').find_map(|field| field.strip_prefix("Action=")).unwrap_or_default().to_owned()
}

fn answer(operation: &str, inside: &str) -> (u16, String) {
    let space = "http://autoscaling.amazonaws.com/doc/2011-01-01/";
    let result = format!("<{operation}Result>{inside}</{operation}Result>");
    (200, format!("<{operation}Response xmlns=\"{space}\">{result}</{operation}Response>"))
}

fn groups(states: [&str; 2]) -> String {
    let member = |(id, state): (&str, &str)| {
        format!("<member><InstanceId>{id}</InstanceId><LifecycleState>{state}</LifecycleState></member>")
    };
    let members: String = [ONE, TWO].into_iter().zip(states).map(member).collect();
    format!(
        "<AutoScalingGroups><member><AutoScalingGroupName>web</AutoScalingGroupName><Instances>{members}</Instances>\
         </member></AutoScalingGroups>"
    )
}

const HOOKS: &str = "<LifecycleHooks><member><LifecycleHookName>come</LifecycleHookName><LifecycleTransition>\
    autoscaling:EC2_INSTANCE_LAUNCHING</LifecycleTransition><NotificationMetadata>espalier:stack=payments\
    </NotificationMetadata></member><member><LifecycleHookName>theirs</LifecycleHookName><LifecycleTransition>\
    autoscaling:EC2_INSTANCE_TERMINATING</LifecycleTransition><NotificationMetadata>espalier:stack=payments-2\
    </NotificationMetadata></member></LifecycleHooks>";

async fn world(states: [&'static str; 2]) -> Wire {
    Wire::answering(move |seen: &Seen| match asked(seen).as_str() {
        "DescribeAutoScalingGroups" => answer("DescribeAutoScalingGroups", &groups(states)),
        "DescribeLifecycleHooks" => answer("DescribeLifecycleHooks", HOOKS),
        other => panic!("{other} was not expected"),
    })
    .await
}

#[tokio::test]
async fn members_are_told_with_their_place_and_hooks_only_while_somebody_waits() {
    let wire = world(["InService", "Pending:Wait"]).await;
    let seen = AutoScaling::new(&wire.sdk()).groups(&stack(), &["web".into(), "gone".into()]).await.unwrap();
    assert_eq!(seen.names, ["web".to_owned()].into());
    let lives: Vec<Life> = seen.members.values().map(|member| member.life).collect();
    assert_eq!(lives, [Life::InService, Life::ComingWaits]);
    let hooks: Vec<_> = seen.hooks.iter().map(|hook| (hook.name.as_str(), hook.is_for_launch, hook.ours)).collect();
    assert_eq!(hooks, [("come", true, true), ("theirs", false, false)]);

    let quiet = world(["InService", "Standby"]).await;
    let seen = AutoScaling::new(&quiet.sdk()).groups(&stack(), &["web".into()]).await.unwrap();
    assert!(seen.hooks.is_empty() && seen.members.values().any(|member| member.life == Life::Aside));
    assert_eq!(quiet.seen().iter().map(asked).collect::<Vec<_>>(), ["DescribeAutoScalingGroups"]);
}

#[tokio::test]
async fn without_a_name_nobody_is_asked() {
    let wire = world(["InService", "InService"]).await;
    assert!(AutoScaling::new(&wire.sdk()).groups(&stack(), &[]).await.unwrap().members.is_empty());
    assert!(wire.seen().is_empty());
}

#[tokio::test]
async fn a_hook_is_answered_with_continue_and_one_that_nobody_waits_for_is_done() {
    let failure = |message: &'static str| {
        Wire::answering(move |_: &Seen| {
            let error =
                format!("<Error><Type>Sender</Type><Code>ValidationError</Code><Message>{message}</Message></Error>");
            (
                400,
                format!(
                    "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">{error}</ErrorResponse>"
                ),
            )
        })
    };
    let instance = TargetId::parse(ONE).unwrap();
    let action = Action::CompleteLifecycleAction { group: "web".into(), hook: "come".into(), instance };
    let late = failure("No active Lifecycle Action found with instance ID i-0123456789abcdef0").await;
    AutoScaling::new(&late.sdk()).take(&action).await.unwrap().unwrap();
    let body = late.seen()[0].body.clone();
    for part in ["LifecycleActionResult=CONTINUE", "LifecycleHookName=come", "AutoScalingGroupName=web", ONE] {
        assert!(body.contains(part), "{body}");
    }
    let wrong = failure("no such hook").await;
    assert!(AutoScaling::new(&wrong.sdk()).take(&action).await.unwrap().is_err());
    let service = Action::DeleteService { service_id: "svc-1".into(), name: "payments".into() };
    assert!(AutoScaling::new(&wrong.sdk()).take(&service).await.is_none());
}
