//! One test per pitfall: a healthy stack shows none, and each breakage shows its own.

use std::collections::BTreeSet;

use espalier_domain::network::{
    Action, Checkup, Observed, PITFALLS, PitfallAnswer, SeenPolicy, SeenZone, Status, TargetStatus, diagnose,
    diagnose_page, plan,
};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::{AllowedDomains, Spec, parse};
use espalier_domain::verdict::Fault;
use serde_json::json;

use crate::world::{World, failure};
use crate::{ONE, TWO, settled, spec};

type Break = fn(&mut Observed, &mut Checkup);

fn healthy() -> (Spec, Observed, Checkup) {
    let spec = spec(|_| {});
    let observed = settled(&spec, &[ONE, TWO]).look(&spec);
    let vpc_ids = spec.network.consumers.iter().map(|one| one.vpc_id.to_string()).collect();
    let zone = Some(SeenZone { name: "example.com".into(), is_private: true, vpc_ids });
    (spec, observed, Checkup { zone, policies: Vec::new(), is_logged: true })
}

fn policy(statement: &serde_json::Value) -> SeenPolicy {
    let text = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    SeenPolicy { resource: "service network sn-03".into(), is_in_force: true, text: Some(text) }
}

/// What breaks, by the pitfall that it is.
fn breakage(pitfall: &str) -> Break {
    match pitfall {
        "targets-security-group" => |seen, _| seen.estate.ingress.retain(|rule| rule.rule_id != "sgr-01"),
        "auth-policy-inverted" => |_, up| {
            up.policies.push(SeenPolicy { resource: "service svc-05".into(), is_in_force: true, text: None });
        },
        "no-signature" => |_, up| {
            up.policies.push(policy(&json!({"Sid": "Callers", "Effect": "Allow", "Action": "*", "Resource": "*",
                "Principal": {"AWS": "arn:aws:iam::111122223333:role/caller"}})));
        },
        "network-policy-denies" => |_, up| {
            up.policies
                .push(policy(&json!({"Sid": "DenyOutsideOrg", "Effect": "Deny", "Action": "*", "Resource": "*",
                "Principal": "*", "Condition": {"StringNotEquals": {"aws:PrincipalOrgID": "o-123"}}})));
        },
        "condition-keys" => |_, up| {
            up.policies.push(policy(&json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*",
                "Condition": {"StringLike": {"vpc-lattice-svcs:RequestPath": "/pay/*"}}})));
        },
        "zone-not-in-consumer-vpc" => |_, up| {
            up.zone.as_mut().unwrap().vpc_ids.pop();
        },
        "name-does-not-resolve" => |seen, _| seen.record = None,
        "vpc-not-associated" => |seen, _| seen.vpc_associations.truncate(1),
        "mixed-listeners" => |seen, _| {
            let mut other = seen.listeners[0].clone();
            (other.port, other.is_tls_passthrough) = (8080, false);
            seen.listeners.push(other);
        },
        "connection-times-out" => {
            |seen, _| seen.estate.groups.iter_mut().for_each(|one| one.open_ports = vec![(80, 80)])
        }
        "no-targets" => |seen, _| seen.target_groups[0].targets.clear(),
        "no-healthy-target" => |seen, _| {
            seen.target_groups[0].targets.iter_mut().for_each(|one| one.status = TargetStatus::Unused);
        },
        "health-check-fails" => |seen, _| seen.target_groups[0].targets[0].status = TargetStatus::Unhealthy,
        "deletion-blocked" => |seen, _| {
            seen.service.as_mut().unwrap().status = Status::DeleteFailed(failure("still associated"));
        },
        "no-access-logs" => |_, up| up.is_logged = false,
        other => panic!("{other} is new: break it here"),
    }
}

#[test]
fn a_healthy_stack_has_no_findings() {
    let (spec, observed, mut checkup) = healthy();
    assert_eq!(diagnose(&spec, &observed, &checkup), []);
    // Neither has one with a policy that passthrough can evaluate, nor one whose policy is not in force.
    checkup.policies.push(policy(&json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*",
        "Condition": {"StringEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-1a1b2c3d4e5f60718"}}})));
    checkup.policies.push(SeenPolicy { resource: "service svc-05".into(), is_in_force: false, text: None });
    assert_eq!(diagnose(&spec, &observed, &checkup), []);
}

/// One judge for both: what a diagnosis says of a policy, the planner says, too.
#[test]
fn a_diagnosis_and_the_planner_judge_a_policy_alike() {
    let allow = json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"});
    let deny = |condition: serde_json::Value| {
        let mut all = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"});
        if !condition.is_null() {
            all["Condition"] = condition;
        }
        all
    };
    let insiders = deny(json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}));
    let outsiders = deny(json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}));
    let elsewhere = deny(json!({"StringEquals": {"vpc-lattice-svcs:SourceVpc": "vpc-2"}}));
    for (statements, pitfall) in [
        (json!([allow, insiders]), None),
        (json!([allow, elsewhere]), None),
        (json!([allow, outsiders]), Some("network-policy-denies")),
        (json!([allow, deny(json!(null))]), Some("network-policy-denies")),
        (json!([insiders]), Some("auth-policy-inverted")),
        (
            json!([{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}]),
            Some("auth-policy-inverted"),
        ),
    ] {
        let (spec, mut observed, mut checkup) = healthy();
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        checkup.policies.push(SeenPolicy {
            resource: "service network sn-01".into(),
            is_in_force: true,
            text: Some(text.clone()),
        });
        let found: Vec<_> = diagnose(&spec, &observed, &checkup).into_iter().map(|one| one.pitfall).collect();
        assert_eq!(found, Vec::from_iter(pitfall), "{statements}");
        observed.network.as_mut().unwrap().auth_policy = Some(text);
        assert_eq!(plan(&spec, &observed).blocks.len(), found.len(), "{statements}");
    }
}

#[test]
fn each_pitfall_that_is_diagnosed_is_found_under_its_name() {
    let mut text = String::new();
    for row in PITFALLS.iter().filter(|row| row.answer == PitfallAnswer::Diagnosed) {
        let (spec, mut observed, mut checkup) = healthy();
        breakage(row.id)(&mut observed, &mut checkup);
        let findings = diagnose(&spec, &observed, &checkup);
        assert!(findings.iter().any(|finding| finding.pitfall == row.id), "{}: {findings:#?}", row.id);
        for finding in findings {
            text.push_str(&format!("{}: {}\n    {}\n", finding.pitfall, finding.problem, finding.remedy));
        }
    }
    expectorate::assert_contents("tests/golden/network/diagnose.txt", &text);
}

#[test]
fn each_pitfall_that_is_refused_is_refused() {
    for row in PITFALLS.iter().filter(|row| row.answer == PitfallAnswer::Refused) {
        match row.id {
            "tcp-health-check" => {
                let mut document: serde_json::Value =
                    serde_json::from_str(include_str!("../../../../examples/recipe.json")).unwrap();
                document["healthCheck"] = json!({"enabled": true, "protocol": "TCP"});
                let allowed = AllowedDomains::parse("example.com").unwrap();
                assert!(parse(&document.to_string(), &allowed).is_err());
            }
            "other-network" => {
                let (spec, mut observed, _) = healthy();
                observed.vpc_associations[0].network_id = "sn-0other".into();
                observed.vpc_associations[0].owned.ours = false;
                let blocks = plan(&spec, &observed).blocks;
                assert!(
                    blocks.iter().any(|block| block.code == BlockCode::Foreign && block.because.contains("sn-0other"))
                );
            }
            other => panic!("{other} is new: have it refused here"),
        }
    }
}

#[test]
fn each_pitfall_that_is_impossible_cannot_be_planned() {
    for row in PITFALLS.iter().filter(|row| row.answer == PitfallAnswer::Impossible) {
        match row.id {
            "pinned-wildcard" => clients_see_a_name_and_a_leaf_of_their_own(),
            "certificate-errors" => nobody_is_sent_to_a_certificate_that_clients_refuse(),
            other => panic!("{other} is new: show here that it cannot happen"),
        }
    }
}

/// There is no spec without a domain, none whose leaf is not for it, and no service is made without it.
fn clients_see_a_name_and_a_leaf_of_their_own() {
    let parsed = |change: fn(&mut serde_json::Value)| {
        let mut document: serde_json::Value =
            serde_json::from_str(include_str!("../../../../examples/recipe.json")).unwrap();
        change(&mut document);
        parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap())
    };
    assert!(parsed(|_| {}).is_ok());
    assert!(parsed(|it| drop(it["service"].as_object_mut().unwrap().remove("domainName"))).is_err());
    assert!(parsed(|it| it["service"]["domainName"] = json!("*.example.com")).is_err());
    assert!(parsed(|it| it["certificate"]["dnsNames"] = json!(["other.example.com"])).is_err());
    let spec = spec(|_| {});
    let steps = plan(&spec, &World::new(&spec, &[ONE]).look(&spec)).steps;
    let mut made = steps.iter().filter_map(|step| match &step.action {
        Action::CreateService { custom_domain_name, .. } => Some(custom_domain_name),
        _ => None,
    });
    assert_eq!((made.next(), made.next()), (Some(&spec.service.domain_name), None));
}

fn nobody_is_sent_to_a_certificate_that_clients_refuse() {
    let spec = spec(|_| {});
    for fault in [Fault::Untrusted, Fault::WrongName, Fault::Expired, Fault::NotYetValid] {
        let mut world = World::new(&spec, &[ONE, TWO]);
        world.faults.insert(ONE.into(), (vec![fault], world.now - 100));
        // The world ends the test should anybody unproven be registered.
        for _ in 0..8 {
            plan(&spec, &world.look(&spec)).steps.iter().for_each(|step| world.call(&step.action).unwrap());
            world.tick();
        }
        let registered: Vec<_> = world.groups[0].of.targets.keys().map(|(id, _)| id.as_str()).collect();
        assert_eq!(registered, [TWO], "{fault:?}");
        let mut world = settled(&spec, &[ONE, TWO]);
        world.faults.insert(ONE.into(), (vec![fault], world.now - 100));
        let steps = plan(&spec, &world.look(&spec)).steps;
        assert!(
            matches!(&steps[0].action, Action::DeregisterTargets { targets, .. } if targets[0].0 == ONE),
            "{fault:?}: {steps:?}"
        );
    }
}

#[test]
fn the_findings_come_in_the_order_of_the_table_whose_names_are_unique() {
    let ids: BTreeSet<&str> = PITFALLS.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), PITFALLS.len());
    let (spec, mut observed, mut checkup) = healthy();
    (observed.record, checkup.is_logged) = (None, false);
    observed.estate.ingress.clear();
    let found: Vec<&str> = diagnose(&spec, &observed, &checkup).iter().map(|finding| finding.pitfall).collect();
    assert_eq!(found.first(), Some(&"targets-security-group"));
    assert_eq!(found.last(), Some(&"no-access-logs"));
    expectorate::assert_contents("../../docs/diagnose.md", &diagnose_page());
}
