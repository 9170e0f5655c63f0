//! Many small cases in one golden file each: every field changed once, every partial state torn down, a half-deleted
//! stack taken up again, every kind of thing that is somebody else's.

use espalier_domain::id::VpcId;
use espalier_domain::network::{plan, render};
use espalier_domain::spec::{Spec, TargetKind};
use serde_json::{Value, json};

use crate::strangers::stranger;
use crate::world::{Group, Listener, Service, World};
use crate::{Keep, ONE, TWO, run, settled, spec};

fn golden(name: &str, text: &str) {
    expectorate::assert_contents(format!("tests/golden/network/{name}.txt"), text);
}

fn absent() -> Spec {
    spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)))
}

/// A run as one line for each wave, without reasons.
fn in_short(text: &str) -> String {
    let mut short = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("...")) {
        let words = line.split(" (").next().unwrap_or(line).trim();
        match line.strip_prefix("wave ") {
            Some(_) => short.push_str("\n  "),
            None if words == "converged" => short.push_str("\n  converged"),
            None => short.push_str(&format!("{words}; ")),
        }
    }
    short.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

/// A wave's calls are made one by one until there are so many; `false` when there were not so many to make.
pub(crate) fn cut_after(world: &mut World, spec: &Spec, mut calls: usize) -> bool {
    for _ in 0..60 {
        let plan = plan(spec, &world.look(spec));
        let wait_s = if plan.steps.is_empty() { plan.retry_after_s().unwrap_or(1) } else { 1 };
        if plan.is_converged() {
            return false;
        }
        for step in plan.steps {
            if calls == 0 {
                return true;
            }
            world.call(&step.action).unwrap();
            calls -= 1;
        }
        world.pass(wait_s);
    }
    panic!("no end in sight");
}

type Change = fn(&mut Value);

/// Fields that the network is made of, and another value for each. (This world has one zone and one security group for
/// targets; what becomes of a change of those is in `changes.rs`.)
const FIELDS: [(&str, Change); 16] = [
    ("stack", |it| it["stack"] = json!("other-service")),
    ("network.vpcId", |it| it["network"]["vpcId"] = json!("vpc-1a1b2c3d4e5f60718")),
    ("network.subnetIds", |it| it["network"]["subnetIds"] = json!(["subnet-0a1b2c3d4e5f60718"])),
    ("network.consumers: one less", |it| drop(it["network"]["consumers"].as_array_mut().unwrap().pop())),
    ("network.consumers: securityGroupIds", |it| {
        it["network"]["consumers"][0]["securityGroupIds"] = json!(["sg-0a1b2c3d4e5f6071f"]);
    }),
    ("service.domainName", |it| {
        it["service"]["domainName"] = json!("other.example.com");
        it["certificate"]["dnsNames"] = json!(["other.example.com"]);
    }),
    ("service.port", |it| it["service"]["port"] = json!(8443)),
    ("service.idleTimeoutSeconds", |it| it["service"]["idleTimeoutSeconds"] = json!(300)),
    ("targets.port", |it| it["targets"]["port"] = json!(8443)),
    ("healthCheck.enabled", |it| it["healthCheck"] = json!({"enabled": true})),
    ("healthCheck.port", |it| it["healthCheck"] = json!({"enabled": true, "port": 8080})),
    ("healthCheck.path", |it| it["healthCheck"] = json!({"enabled": true, "path": "/healthz"})),
    ("prober.securityGroupId", |it| it["prober"]["securityGroupId"] = json!("sg-0a1b2c3d4e5f6071f")),
    ("prober.samples", |it| it["prober"]["samples"] = json!(1)),
    ("certificate.validityHours", |it| it["certificate"]["validityHours"] = json!(120)),
    ("rollout.canary", |it| it["rollout"]["canary"] = json!(2)),
];

#[test]
fn each_field_changed_once() {
    let mut text = String::new();
    for (field, change) in FIELDS {
        let changed = spec(change);
        let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
        // First what was remembered of the former spec is forgotten; what follows is the change.
        while plan(&changed, &world.look(&changed)).steps.iter().any(|step| step.because == "the spec has changed") {
            plan(&changed, &world.look(&changed)).steps.iter().for_each(|step| world.call(&step.action).unwrap());
            world.tick();
        }
        text.push_str(&format!("{field}\n"));
        render(&plan(&changed, &world.look(&changed))).lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    golden("fields", &text);
}

#[test]
fn every_partial_state_is_torn_down() {
    let mut text = String::new();
    for calls in 0.. {
        let mut world = World::new(&spec(|_| {}), &[ONE, TWO]);
        let is_partial = cut_after(&mut world, &spec(|_| {}), calls);
        let told = run(&mut world, &absent(), Keep::Nothing);
        assert!(told.ends_with("converged\n"), "{told}");
        assert_eq!(world.leftovers(&absent()), Vec::<String>::new());
        text.push_str(&format!("after {calls} calls of its creation\n{}", in_short(&told)));
        if !is_partial {
            break;
        }
    }
    golden("teardown-partial", &text);
}

/// The same for every state on the way from one spec to another, the replacement of a target group and of a listener.
#[test]
fn every_half_done_replacement_is_torn_down() {
    let changes: [(&str, Change); 3] = [
        ("targets.port", |it| it["targets"]["port"] = json!(8443)),
        ("service.port", |it| it["service"]["port"] = json!(8443)),
        ("service.dns.privateZone", |it| {
            it["service"]["dns"] = json!({"privateZone": {"name": "api-service.example.com"}});
        }),
    ];
    let mut text = String::new();
    for (what, change) in changes {
        let absent = spec(|it| {
            change(it);
            (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false));
        });
        let mut last = String::new();
        for calls in 0.. {
            let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
            let is_partial = cut_after(&mut world, &spec(change), calls);
            let told = run(&mut world, &absent, Keep::Nothing);
            assert!(told.ends_with("converged\n"), "{what}, after {calls} calls: {told}");
            assert_eq!(world.leftovers(&absent), Vec::<String>::new(), "{what}, after {calls} calls");
            let short = in_short(&told);
            let same = if short == last { "  as before\n" } else { short.as_str() };
            text.push_str(&format!("{what} after {calls} calls\n{same}"));
            last = short;
            if !is_partial {
                break;
            }
        }
    }
    golden("teardown-replacing", &text);
}

/// The record is under the service's name: whoever tears down under another one would leave it.
#[test]
fn a_stack_of_another_name_is_torn_down_under_its_own() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    let renamed = spec(|it| {
        it["service"]["domainName"] = json!("other.example.com");
        it["certificate"]["dnsNames"] = json!(["other.example.com"]);
        (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false));
    });
    let next = plan(&renamed, &world.look(&renamed));
    golden("teardown-renamed", &render(&next));
    assert!(next.steps.is_empty() && next.blocks.len() == 1, "{}", render(&next));
    assert!(run(&mut world, &absent(), Keep::Nothing).ends_with("converged\n"));
    assert_eq!((world.record, world.services.len()), (None, 0));
}

#[test]
fn a_half_deleted_stack_is_made_whole() {
    let mut text = String::new();
    for calls in 0.. {
        let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
        let is_partial = cut_after(&mut world, &absent(), calls);
        let told = run(&mut world, &spec(|_| {}), Keep::Nothing);
        assert!(told.ends_with("converged\n") && world.serves(), "{told}");
        text.push_str(&format!("after {calls} calls of its deletion\n{}", in_short(&told)));
        if !is_partial {
            break;
        }
    }
    golden("half-deleted", &text);
}

#[test]
fn whatever_is_somebody_elses_blocks_by_name() {
    type Meddle = fn(&mut World);
    let theirs: [(&str, Meddle); 5] = [
        ("service network", |world| world.networks.push(stranger("sn-0theirs", "api-service-network".to_owned()))),
        ("target group", |world| {
            let (name, vpc) = ("api-service-8366d1".to_owned(), vpc());
            let of =
                Group { name, vpc, kind: TargetKind::Instance, port: 443, check: None, targets: Default::default() };
            world.groups.push(stranger("tg-0theirs", of));
        }),
        ("service", |world| {
            let of = Service::new("api-service", "api-service.example.com");
            world.services.push(stranger("svc-0theirs", of));
        }),
        ("VPC association", |world| {
            let of = ("sn-0other".into(), vpc(), Default::default());
            world.vpcs.push(stranger("snva-0theirs", of));
        }),
        ("listener", |world| {
            *world = settled(&spec(|_| {}), &[ONE]);
            let (service, changed_at) = (world.services[0].id.clone(), world.now);
            let of = Listener { service, port: 443, forwards: Vec::new(), changed_at };
            world.listeners = vec![stranger("listener-0theirs", of)];
        }),
    ];
    let mut text = String::new();
    for (what, push) in theirs {
        let mut world = World::new(&spec(|_| {}), &[ONE]);
        push(&mut world);
        let told = run(&mut world, &spec(|_| {}), Keep::Nothing);
        text.push_str(&format!("{what}\n"));
        let blocks: Vec<&str> = told.lines().filter(|line| line.starts_with('!')).collect();
        assert!(!blocks.is_empty(), "{told}");
        blocks.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    golden("foreign", &text);
}

fn vpc() -> VpcId {
    VpcId::parse("vpc-0a1b2c3d4e5f60718").unwrap()
}
