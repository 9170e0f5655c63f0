//! Who may connect: the service's auth policy comes into force and out of it without ever denying everybody, and what
//! others do to it is undone.

use espalier_domain::network::plan;
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::Spec;
use serde_json::{Value, json};

use crate::world::World;
use crate::{Keep, ONE, run, settled, spec};

fn policy(vpc: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "vpc-lattice-svcs:Invoke", "Resource": "*",
        "Condition": {"StringEquals": {"vpc-lattice-svcs:SourceVpc": [vpc]}}}]})
}

fn guarded() -> Spec {
    spec(|it| it["service"]["authPolicy"] = policy("vpc-1a1b2c3d4e5f60718"))
}

#[test]
fn a_service_joins_its_network_when_its_policy_is_in_force() {
    let spec = guarded();
    let mut world = World::new(&spec, &[ONE]);
    let text = run(&mut world, &spec, Keep::Nothing);
    expectorate::assert_contents("tests/golden/network/auth.txt", &text);
    assert!(text.ends_with("converged\n") && world.services[0].of.is_iam);
}

#[test]
fn a_policy_comes_and_goes_without_denying_everybody() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    assert!(run(&mut world, &guarded(), Keep::Serving).ends_with("converged\n"));
    assert!(world.services[0].of.is_iam && world.services[0].of.policy.is_some());
    assert!(run(&mut world, &spec(|_| {}), Keep::Serving).ends_with("converged\n"));
    assert!(!world.services[0].of.is_iam && world.services[0].of.policy.is_none());
}

#[test]
fn what_others_do_to_it_is_undone_and_another_spelling_is_no_difference() {
    let mut world = settled(&guarded(), &[ONE]);
    let spelt = serde_json::to_string_pretty(&policy("vpc-1a1b2c3d4e5f60718")).unwrap();
    world.services[0].of.policy = Some(spelt.clone());
    assert!(plan(&guarded(), &world.look(&guarded())).is_converged());
    world.services[0].of.policy = Some(spelt.replace("vpc-1a", "vpc-2a"));
    assert!(run(&mut world, &guarded(), Keep::Nothing).contains("~ Service api-service auth policy (it differs"));
    world.services[0].of.is_iam = false;
    assert!(run(&mut world, &guarded(), Keep::Nothing).contains("auth type AWS_IAM"));
    world.services[0].of.policy = None;
    assert!(run(&mut world, &guarded(), Keep::Nothing).contains("auth policy (missing)"));
}

#[test]
fn a_network_policy_that_nobody_anonymous_passes_is_named() {
    let spec = spec(|_| {});
    let mut seen = settled(&spec, &[ONE]).look(&spec);
    let deny = json!({"Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"},
        {"Sid": "DenyOutsideOrg", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*",
         "Condition": {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}}]});
    seen.network.as_mut().unwrap().auth_policy = Some(deny.to_string());
    let found = plan(&spec, &seen);
    assert!(found.steps.is_empty() && found.blocks.len() == 1, "{found:?}");
    assert_eq!(found.blocks[0].code, BlockCode::CutOff);
    assert!(found.blocks[0].because.contains("\"DenyOutsideOrg\" denies everybody: it tests aws:PrincipalOrgID"));
    seen.network.as_mut().unwrap().auth_policy = Some(policy("vpc-1a1b2c3d4e5f60718").to_string());
    assert!(plan(&spec, &seen).is_converged());
}
