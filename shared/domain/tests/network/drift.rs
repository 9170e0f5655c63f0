//! Each property of what is ours, changed by somebody else: found, and repaired or only told.

use espalier_domain::id::{SecurityGroupId, VpcId};
use espalier_domain::network::{Action, IngressSource, Status, TargetStatus, drifted, plan, render};
use espalier_domain::plan::{BlockCode, Step};
use espalier_domain::spec::Spec;
use serde_json::{Value, json};

use crate::shape::shape;
use crate::world::{World, failure};
use crate::{Keep, ONE, TWO, run, settled, spec};

const CONSUMER: &str = "vpc-0a1b2c3d4e5f60718";

/// Whose doing it is that something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// Somebody else's.
    Drift,
    /// The fleet's own coming and going: it is followed, whatever the spec says of drift.
    Fleet,
}

/// What somebody does under a spec, and the step that undoes it.
struct Case {
    what: &'static str,
    under: fn(&mut Value),
    undone_by: &'static str,
    is: Is,
    meddle: fn(&mut World),
}

const fn drift(what: &'static str, undone_by: &'static str, meddle: fn(&mut World)) -> Case {
    Case { what, under: recipe, undone_by, is: Is::Drift, meddle }
}

impl Case {
    const fn under(self, under: fn(&mut Value)) -> Self {
        Self { under, ..self }
    }

    const fn of_the_fleet(self) -> Self {
        Self { is: Is::Fleet, ..self }
    }
}

fn recipe(_: &mut Value) {}

fn guarded(it: &mut Value) {
    it["service"]["authPolicy"] = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "vpc-lattice-svcs:Invoke", "Resource": "*"}]});
}

fn in_own_zone(it: &mut Value) {
    it["service"]["dns"] = json!({"privateZone": {"name": "api-service.example.com"}});
}

fn checked(it: &mut Value) {
    it["healthCheck"] = json!({"enabled": true, "path": "/healthz"});
}

fn logged(it: &mut Value) {
    it["service"]["accessLogs"] = json!({"destinationArn": "arn:aws:s3:::access-logs"});
}

const CASES: [Case; 29] = [
    drift("the idle timeout", "~ Service api-service idle timeout 60 s", |world| world.services[0].of.idle = 300),
    drift("the listener leads to a stranger's group", "~ Listener api-service-tls", |world| {
        world.listeners[0].of.forwards = vec![("tg-0foreign".into(), 100)];
    }),
    drift("the listener leads to a stranger's group, too", "~ Listener api-service-tls", |world| {
        world.listeners[0].of.forwards.push(("tg-0foreign".into(), 1));
    }),
    drift("the weight of the target group", "~ Listener api-service-tls", |world| {
        world.listeners[0].of.forwards[0].1 = 0;
    }),
    drift("the listener goes", "+ Listener api-service-tls", |world| world.listeners.clear()),
    drift("a health check comes", "~ TargetGroup api-service-8366d1 health check", |world| {
        world.groups[0].of.check = spec(|it| it["healthCheck"] = json!({"enabled": true})).health_check.on().cloned();
    }),
    drift("the health check's path", "~ TargetGroup api-service-8366d1 health check", |world| {
        world.groups[0].of.check.as_mut().unwrap().path = "/".into();
    })
    .under(checked),
    drift("the health check goes", "~ TargetGroup api-service-8366d1 health check", |world| {
        world.groups[0].of.check = None;
    })
    .under(checked),
    drift("the security groups of a VPC association", "~ VpcAssociation vpc-0a1b2c3d4e5f60718", |world| {
        let group = SecurityGroupId::parse("sg-0fffffffffffffff1").unwrap();
        let ours = world.vpcs.iter_mut().find(|one| one.of.1.as_str() == CONSUMER).unwrap();
        ours.of.2 = [group].into();
    }),
    drift("a VPC association goes", "+ VpcAssociation vpc-0a1b2c3d4e5f60718", |world| {
        world.vpcs.retain(|one| one.of.1.as_str() != CONSUMER);
    }),
    drift("an update of a VPC association that failed", "~ VpcAssociation", |world| {
        world.vpcs[0].status = Status::UpdateFailed(failure("by hand"));
    }),
    drift("the service association goes", "+ ServiceAssociation", |world| world.associations.clear()),
    drift("the record goes", "+ Record api-service.example.com", |world| world.record = None),
    drift("the record leads to a former service of ours", "+ Record api-service.example.com", |world| {
        let alias = world.record.as_mut().unwrap().alias.as_mut().unwrap();
        alias.domain_name = alias.domain_name.replace("api-service-", "api-service-0former");
    }),
    drift("VPC Lattice is not admitted", "+ Ingress sg-0a1b2c3d4e5f60713 tcp 443 from pl-0a1b2c3d", |world| {
        world.estate.ingress.retain(|rule| !matches!(rule.source, Some(IngressSource::PrefixList(_))));
    }),
    drift("the prober is not admitted", "+ Ingress sg-0a1b2c3d4e5f60713 tcp 443 from sg-", |world| {
        world.estate.ingress.retain(|rule| !matches!(rule.source, Some(IngressSource::Group(_))));
    }),
    drift("the service goes", "+ Service api-service", |world| {
        world.associations.clear();
        world.listeners.clear();
        world.services.clear();
    }),
    drift("the target group goes", "+ TargetGroup api-service-8366d1", |world| {
        world.listeners.clear();
        world.groups.clear();
    }),
    drift("the service network goes", "+ ServiceNetwork api-service-network", |world| {
        world.associations.clear();
        world.vpcs.clear();
        world.networks.clear();
    }),
    drift("the auth policy", "~ Service api-service auth policy", |world| {
        world.services[0].of.policy = Some("{}".into());
    })
    .under(guarded),
    drift("no authorization is asked for", "~ Service api-service auth type AWS_IAM", |world| {
        world.services[0].of.is_iam = false;
    })
    .under(guarded),
    drift("an authorization is asked for", "~ Service api-service auth type NONE", |world| {
        world.services[0].of.is_iam = true;
    }),
    drift("access logs go elsewhere", "~ AccessLogs api-service -> arn:aws:s3:::access-logs", |world| {
        "arn:aws:s3:::other-logs".clone_into(&mut world.logs[0].of.1);
    })
    .under(logged),
    drift("access logs go nowhere", "+ AccessLogs api-service -> arn:aws:s3:::access-logs", |world| world.logs.clear())
        .under(logged),
    drift("a VPC leaves the zone", "+ ZoneAssociation", |world| drop(world.zones[0].vpcs.pop_last()))
        .under(in_own_zone),
    drift("a VPC joins the zone", "- ZoneAssociation", |world| {
        world.zones[0].vpcs.insert(VpcId::parse("vpc-0aaaaaaaaaaaaaaa1").unwrap());
    })
    .under(in_own_zone),
    drift("the zone goes", "+ HostedZone api-service.example.com", |world| {
        world.zones.clear();
        world.other_records.clear();
    })
    .under(in_own_zone),
    drift("a target goes", "+ Targets i-0a1b2c3d4e5f60712 in", |world| {
        world.groups[0].of.targets.retain(|(id, _), _| id != TWO);
    })
    .of_the_fleet(),
    drift("a stranger is a target", "- Targets i-0fffffffffffffff1 in", |world| {
        world.groups[0].of.targets.insert(("i-0fffffffffffffff1".to_owned(), 443), TargetStatus::Healthy);
    })
    .of_the_fleet(),
];

/// What becomes of each, as text.
fn told(one_by_one: impl Fn(&Case) -> String) -> String {
    let mut text = String::new();
    for case in &CASES {
        text.push_str(&format!("{}\n", case.what));
        one_by_one(case).lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

fn undoes(case: &Case, step: &Step<Action>) -> bool {
    step.action.to_string().starts_with(case.undone_by)
}

#[test]
fn what_others_change_is_found_and_repaired() {
    let text = told(|case| {
        let spec = spec(case.under);
        let mut world = settled(&spec, &[ONE, TWO]);
        let before = shape(&world);
        (case.meddle)(&mut world);
        let seen = world.look(&spec);
        let first = plan(&spec, &seen);
        assert!(first.steps.iter().any(|step| undoes(case, step)), "{}: {first:?}", case.what);
        let found = drifted(&spec, &seen, &first);
        let is_drift = found.into_iter().any(|step| undoes(case, step));
        assert_eq!(is_drift, case.is == Is::Drift, "{}: {first:?}", case.what);
        let text = run(&mut world, &spec, Keep::Nothing);
        assert!(text.ends_with("converged\n"), "{}: {text}", case.what);
        world.tick();
        assert!(world.serves(), "{}", case.what);
        assert_eq!(shape(&world), before, "{}: it is as it was", case.what);
        text
    });
    expectorate::assert_contents("tests/golden/network/drift.txt", &text);
}

#[test]
fn with_report_it_is_told_and_stays() {
    let text = told(|case| {
        let spec = spec(|it| {
            (case.under)(it);
            it["drift"] = json!("report");
        });
        let mut world = settled(&spec, &[ONE, TWO]);
        (case.meddle)(&mut world);
        match case.is {
            Is::Drift => only_told(case, &mut world, &spec),
            Is::Fleet => run(&mut world, &spec, Keep::Serving),
        }
    });
    expectorate::assert_contents("tests/golden/network/drift-report.txt", &text);
}

/// Nothing is done, neither now nor tomorrow, and the reason is given under its code each time.
fn only_told(case: &Case, world: &mut World, spec: &Spec) -> String {
    let mut text = String::new();
    for _ in 0..2 {
        let seen = world.look(spec);
        let plan = plan(spec, &seen);
        assert!(plan.steps.is_empty() && plan.waits.is_empty(), "{}: {plan:?}", case.what);
        assert!(drifted(spec, &seen, &plan).is_empty(), "nobody repairs: {plan:?}");
        let undone = format!("would be done: {}", case.undone_by);
        let is_told = |code: BlockCode, because: &str| code == BlockCode::Drifted && because.starts_with(&undone);
        assert!(plan.blocks.iter().any(|one| is_told(one.code, &one.because)), "{}: {plan:?}", case.what);
        assert!(plan.blocks.iter().all(|one| one.code == BlockCode::Drifted), "{}: {plan:?}", case.what);
        text = render(&plan);
        world.pass(86_400);
    }
    text
}

#[test]
fn with_report_the_fleet_is_followed_and_the_spec_obeyed() {
    let spec = spec(|it| it["drift"] = json!("report"));
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
