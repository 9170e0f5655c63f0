//! Access logs: one subscription of ours goes where the spec says, and what others subscribed stays theirs.

use espalier_domain::network::{plan, render};
use serde_json::json;

use crate::strangers::stranger;
use crate::world::World;
use crate::{Keep, ONE, TWO, run, settled, spec};

const BUCKET: &str = "arn:aws:s3:::access-logs";
const OTHER_BUCKET: &str = "arn:aws:s3:::other-logs";
const GROUP: &str = "arn:aws:logs:eu-west-1:111122223333:log-group:access";

fn to(destination: &str) -> espalier_domain::spec::Spec {
    spec(|it| it["service"]["accessLogs"] = json!({"destinationArn": destination}))
}

fn destinations(world: &World) -> Vec<&str> {
    world.logs.iter().map(|one| one.of.1.as_str()).collect()
}

#[test]
fn they_are_subscribed_moved_repaired_and_dropped() {
    let mut text = String::new();
    let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
    let mut goes = |what: &str, world: &mut World, spec: &espalier_domain::spec::Spec| {
        text.push_str(&format!("{what}\n{}", run(world, spec, Keep::Serving)));
    };
    goes("wanted", &mut world, &to(BUCKET));
    let first = world.logs[0].id.clone();
    goes("another bucket", &mut world, &to(OTHER_BUCKET));
    assert_eq!((destinations(&world), &world.logs[0].id), (vec![OTHER_BUCKET], &first));
    goes("a log group", &mut world, &to(GROUP));
    assert_eq!(destinations(&world), [GROUP]);
    GROUP.clone_into(&mut world.logs[0].of.1);
    world.logs[0].of.1.push_str(":*");
    goes("as CloudWatch writes it", &mut world, &to(GROUP));
    BUCKET.clone_into(&mut world.logs[0].of.1);
    goes("moved by somebody", &mut world, &to(GROUP));
    world.logs.clear();
    goes("deleted by somebody", &mut world, &to(GROUP));
    goes("no longer wanted", &mut world, &spec(|_| {}));
    assert!(world.logs.is_empty());
    expectorate::assert_contents("tests/golden/network/access-logs.txt", &text);
}

#[test]
fn what_others_subscribed_stays_and_serves_as_well() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    let service = world.services[0].id.clone();
    world.logs.push(stranger("als-0theirs", (service, BUCKET.to_owned())));
    assert_eq!(run(&mut world, &to(BUCKET), Keep::Serving).matches("AccessLogs").count(), 0);
    let text = run(&mut world, &to(OTHER_BUCKET), Keep::Serving);
    assert!(text.contains(&format!("+ AccessLogs api-service -> {OTHER_BUCKET} (missing)")), "{text}");
    run(&mut world, &spec(|_| {}), Keep::Serving);
    assert_eq!(destinations(&world), [BUCKET]);
}

#[test]
fn of_two_that_were_made_by_accident_one_stays() {
    let mut world = settled(&to(BUCKET), &[ONE]);
    let mut twin = world.logs[0].clone();
    twin.id = "als-0twin".into();
    world.logs.push(twin);
    assert!(render(&plan(&to(BUCKET), &world.look(&to(BUCKET)))).starts_with("- AccessLogs"));
    run(&mut world, &to(BUCKET), Keep::Serving);
    assert_eq!(destinations(&world), [BUCKET]);
}

#[test]
fn with_report_they_are_told_and_stay() {
    let reporting = spec(|it| {
        it["service"]["accessLogs"] = json!({"destinationArn": BUCKET});
        it["drift"] = json!("report");
    });
    let mut world = settled(&reporting, &[ONE]);
    OTHER_BUCKET.clone_into(&mut world.logs[0].of.1);
    let text = run(&mut world, &reporting, Keep::Serving);
    assert!(text.starts_with("! Drifted: would be done: ~ AccessLogs api-service"), "{text}");
    assert_eq!(destinations(&world), [OTHER_BUCKET]);
}
