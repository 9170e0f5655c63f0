//! Each property of what is ours, changed by somebody else: found, and repaired or only told.

use espalier_domain::id::SecurityGroupId;
use espalier_domain::network::{Action, Status, TargetStatus, drifted, plan, render};
use espalier_domain::plan::{BlockCode, Step};
use espalier_domain::spec::Spec;
use serde_json::json;

use crate::world::{World, failure};
use crate::{Keep, ONE, TWO, run, settled, spec};

type Meddle = fn(&mut World);

/// What somebody does, and the step that undoes it.
const MEDDLING: [(&str, Meddle); 12] = [
    ("~ Service api-service idle timeout 60 s", |world| world.services[0].of.idle = 300),
    ("~ Listener api-service-tls", |world| world.listeners[0].of.forwards = vec![("tg-0foreign".into(), 100)]),
    ("~ Listener api-service-tls", |world| world.listeners[0].of.forwards[0].1 = 0),
    ("+ Listener api-service-tls", |world| world.listeners.clear()),
    ("~ TargetGroup api-service-8366d1 health check", |world| {
        world.groups[0].of.check = spec(|it| it["healthCheck"] = json!({"enabled": true})).health_check.on().cloned();
    }),
    ("~ VpcAssociation vpc-0a1b2c3d4e5f60718", |world| {
        let group = SecurityGroupId::parse("sg-0fffffffffffffff1").unwrap();
        let ours = world.vpcs.iter_mut().find(|one| one.of.1.as_str() == "vpc-0a1b2c3d4e5f60718").unwrap();
        ours.of.2 = [group].into();
    }),
    ("+ VpcAssociation vpc-0a1b2c3d4e5f60718", |world| {
        world.vpcs.retain(|one| one.of.1.as_str() != "vpc-0a1b2c3d4e5f60718");
    }),
    ("+ ServiceAssociation", |world| world.associations.clear()),
    ("+ Record api-service.example.com", |world| world.record = None),
    ("+ Ingress sg-0a1b2c3d4e5f60713 tcp 443 from pl-0a1b2c3d", |world| {
        world.estate.ingress.retain(|rule| !format!("{:?}", rule.source).contains("pl-"));
    }),
    ("+ Service api-service", |world| {
        world.associations.clear();
        world.listeners.clear();
        world.services.clear();
    }),
    ("~ VpcAssociation", |world| world.vpcs[0].status = Status::UpdateFailed(failure("by hand"))),
];

/// A spec, the step that undoes what somebody does, whether that is drift, and what it is.
type Case<'a> = (&'a Spec, &'a str, bool, &'a dyn Fn(&mut World));

/// What is not in a plain spec, and what is the fleet's own coming and going: that is put right, too, and is no drift.
#[test]
fn what_others_do_to_targets_network_policy_and_zone_is_put_right() {
    let plain = spec(|_| {});
    let policy = spec(|it| {
        it["service"]["authPolicy"] = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
            "Action": "vpc-lattice-svcs:Invoke", "Resource": "*"}]});
    });
    let zone = spec(|it| it["service"]["dns"] = json!({"privateZone": {"name": "api-service.example.com"}}));
    let target = |id: &str| (id.to_owned(), 443);
    let cases: [Case<'_>; 8] = [
        (&plain, "+ Targets i-0a1b2c3d4e5f60712 in", false, &|world| {
            world.groups[0].of.targets.retain(|place, _| *place != target(TWO));
        }),
        (&plain, "- Targets i-0fffffffffffffff1 in", false, &|world| {
            world.groups[0].of.targets.insert(target("i-0fffffffffffffff1"), TargetStatus::Healthy);
        }),
        (&plain, "+ TargetGroup api-service-8366d1", true, &|world| {
            world.listeners.clear();
            world.groups.clear();
        }),
        (&plain, "+ ServiceNetwork api-service-network", true, &|world| {
            world.associations.clear();
            world.vpcs.clear();
            world.networks.clear();
        }),
        (&policy, "~ Service api-service auth policy", true, &|world| world.services[0].of.policy = Some("{}".into())),
        (&policy, "~ Service api-service auth type AWS_IAM", true, &|world| world.services[0].of.is_iam = false),
        (&zone, "+ ZoneAssociation", true, &|world| drop(world.zones[0].vpcs.pop_last())),
        (&zone, "+ HostedZone api-service.example.com", true, &|world| {
            world.zones.clear();
            world.other_records.clear();
        }),
    ];
    let mut text = String::new();
    for (spec, undone_by, is_drift, meddle) in cases {
        let mut world = settled(spec, &[ONE, TWO]);
        meddle(&mut world);
        let seen = world.look(spec);
        let first = plan(spec, &seen);
        let undoes = |step: &&Step<Action>| step.action.to_string().starts_with(undone_by);
        assert!(first.steps.iter().any(|step| undoes(&step)), "{undone_by}: {first:?}");
        assert_eq!(drifted(spec, &seen, &first).into_iter().any(|step| undoes(&step)), is_drift, "{undone_by}");
        text.push_str(&run(&mut world, spec, Keep::Nothing));
        assert!(text.ends_with("converged\n"), "{undone_by}: {text}");
        world.tick();
        assert!(world.serves(), "{undone_by}");
    }
    expectorate::assert_contents("tests/golden/network/drift-more.txt", &text);
}

fn reporting() -> Spec {
    spec(|it| it["drift"] = json!("report"))
}

#[test]
fn what_others_change_is_found_and_repaired() {
    let spec = spec(|_| {});
    let mut text = String::new();
    for (undone_by, meddle) in MEDDLING {
        let mut world = settled(&spec, &[ONE, TWO]);
        meddle(&mut world);
        let seen = world.look(&spec);
        let first = plan(&spec, &seen);
        if world.vpcs.iter().all(|one| one.status == Status::Active) {
            let found = drifted(&spec, &seen, &first);
            assert!(found.iter().any(|step| step.action.to_string().starts_with(undone_by)), "{undone_by}: {first:?}");
        }
        text.push_str(&run(&mut world, &spec, Keep::Nothing));
        assert!(text.ends_with("converged\n"), "{undone_by}: {text}");
        world.tick();
        assert!(world.serves(), "{undone_by}");
    }
    expectorate::assert_contents("tests/golden/network/drift.txt", &text);
}

#[test]
fn with_report_it_is_told_and_stays() {
    let spec = reporting();
    let mut text = String::new();
    for (undone_by, meddle) in &MEDDLING[..11] {
        let mut world = settled(&spec, &[ONE, TWO]);
        meddle(&mut world);
        let plan = plan(&spec, &world.look(&spec));
        assert!(plan.steps.is_empty(), "{undone_by}: {plan:?}");
        let told = |block: &espalier_domain::plan::Block| {
            block.code == BlockCode::Drifted && block.because.contains(&format!("done: {undone_by}"))
        };
        assert!(plan.blocks.iter().any(told), "{undone_by}: {plan:?}");
        text.push_str(&render(&plan));
    }
    expectorate::assert_contents("tests/golden/network/drift-report.txt", &text);
}

#[test]
fn with_report_the_fleet_is_followed_and_the_spec_obeyed() {
    let spec = reporting();
    let mut world = settled(&spec, &[ONE]);
    world.estate.instances.push(crate::world::instance(&spec, TWO));
    assert!(run(&mut world, &spec, Keep::Serving).ends_with("converged\n"));
    assert_eq!(world.groups[0].of.targets.len(), 2);

    let changed = crate::spec(|it| {
        it["drift"] = json!("report");
        it["service"]["idleTimeoutSeconds"] = json!(300);
    });
    assert!(drifted(&changed, &world.look(&changed), &plan(&changed, &world.look(&changed))).is_empty());
    // The change begins, and is taken back before it ends: that is no drift either.
    for _ in 0..2 {
        plan(&changed, &world.look(&changed)).steps.iter().for_each(|step| world.call(&step.action).unwrap());
    }
    assert_eq!(world.services[0].of.idle, 300);
    assert!(run(&mut world, &spec, Keep::Serving).ends_with("converged\n"));
    assert_eq!(world.services[0].of.idle, 60);
}
