//! Whole lives, kept as text. Regenerate with `EXPECTORATE=overwrite` and read the difference.

use espalier_domain::id::HostedZoneId;
use espalier_domain::network::{Action, IngressSource, SeenRecord, plan};
use espalier_domain::spec::Spec;
use serde_json::json;

use crate::world::{World, instance, rule};
use crate::{Keep, ONE, THREE, TWO, run, settled, spec};

fn golden(name: &str, text: &str) {
    expectorate::assert_contents(format!("tests/golden/network/{name}.txt"), text);
}

/// Runs, compares with the golden file, and asserts that planning again plans nothing.
fn goes(name: &str, world: &mut World, spec: &Spec, keep: Keep) {
    let text = run(world, spec, keep);
    golden(name, &text);
    assert!(text.ends_with("converged\n"), "{text}");
    for _ in 0..3 {
        world.tick();
        assert!(plan(spec, &world.look(spec)).is_converged(), "planning again plans something");
    }
}

#[test]
fn creation() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE, TWO]);
    goes("create", &mut world, &spec, Keep::Nothing);
    assert!(world.serves());
}

#[test]
fn teardown_leaves_nothing_of_ours() {
    let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
    let absent = spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    goes("teardown", &mut world, &absent, Keep::Nothing);
    assert_eq!(world.leftovers(&absent), Vec::<String>::new());
    assert_eq!(world.record, None);
    // And back again: the tokens of the first life do not stand in the way.
    let again = spec(|_| {});
    run(&mut world, &again, Keep::Nothing);
    assert!(world.serves());
}

#[test]
fn a_changed_hosted_zone_leaves_no_record_behind() {
    let in_zone = |zone: &str| spec(|it| it["service"]["dns"]["hostedZoneId"] = json!(zone));
    let (second, third) = (in_zone("Z0FFFFFFFFFFFF"), in_zone("Z0EEEEEEEEEEEE"));
    let mut world = settled(&spec(|_| {}), &[ONE]);
    goes("hosted-zone", &mut world, &second, Keep::Serving);
    let zones = |world: &World| world.other_records.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((world.record.is_some(), zones(&world)), (false, vec!["Z0FFFFFFFFFFFF".to_owned()]));
    // Cut off after each call, and on to a third zone: nothing is forgotten.
    for calls in 0..12 {
        let mut world = world.clone();
        let mut left = calls;
        while left > 0 {
            let steps = plan(&spec(|_| {}), &world.look(&spec(|_| {}))).steps;
            if steps.is_empty() {
                break;
            }
            for step in steps.iter().take(left) {
                world.call(&step.action).unwrap();
                left -= 1;
            }
            world.tick();
        }
        let mut other = world.clone();
        run(&mut other, &third, Keep::Serving);
        assert_eq!(
            (other.record.is_some(), zones(&other)),
            (false, vec!["Z0EEEEEEEEEEEE".to_owned()]),
            "{calls} calls"
        );
        let absent = spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
        run(&mut world, &absent, Keep::Nothing);
        assert_eq!((world.record.is_some(), zones(&world)), (false, Vec::new()), "{calls} calls, then torn down");
    }
    // A record of somebody else in the former zone stays.
    world.write_record(third.service.dns.zone_id().unwrap(), Some(SeenRecord { alias: None }));
    let text = run(&mut world, &third, Keep::Serving);
    assert!(text.contains("! Foreign"), "{text}");
}

#[test]
fn a_zone_is_found_by_its_name_if_there_is_one() {
    let named = spec(|it| it["service"]["dns"] = json!({"hostedZoneName": "example.com"}));
    let mut world = settled(&named, &[ONE]);
    assert!(world.record.is_some());
    let zones = |count: usize| (0..count).map(|n| HostedZoneId::parse(format!("Z{n}")).unwrap()).collect();
    (world.estate.hosted_zone, world.estate.other_zones) = (None, zones(0));
    let mut text = run(&mut world, &named, Keep::Serving);
    world.estate.other_zones = zones(2);
    text.push_str(&run(&mut world, &named, Keep::Serving));
    golden("zone-by-name", &text);
    // A zone that can no longer be told keeps nobody from tearing down: the service's tag remembers it.
    let mut absent =
        serde_json::from_str::<serde_json::Value>(include_str!("../../../../examples/recipe.json")).unwrap();
    absent["service"]["dns"] = json!({"hostedZoneName": "example.com"});
    (absent["state"], absent["deletionProtection"]) = (json!("absent"), json!(false));
    let absent = spec(|it| *it = absent);
    run(&mut world, &absent, Keep::Nothing);
    assert_eq!((&world.record, world.leftovers(&absent)), (&None, Vec::<String>::new()));
}

#[test]
fn a_protected_stack_is_not_torn_down() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    goes_nowhere("protected", &mut world, &spec(|it| it["state"] = json!("absent")));
}

/// Nothing is called, and the reason is the golden file.
fn goes_nowhere(name: &str, world: &mut World, spec: &Spec) {
    let plan = plan(spec, &world.look(spec));
    assert!(plan.steps.is_empty(), "{plan:?}");
    golden(name, &run(world, spec, Keep::Serving));
}

#[test]
fn a_new_target_port_moves_without_a_gap() {
    let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
    let spec = spec(|it| it["targets"]["port"] = json!(8443));
    goes("target-port", &mut world, &spec, Keep::Serving);
}

#[test]
fn nobody_is_sent_to_a_port_that_is_not_admitted() {
    let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
    let former = world.listeners[0].of.forwards.clone();
    let spec = spec(|it| it["targets"]["port"] = json!(8443));
    // EC2 refuses the rule for as long as anybody waits.
    let mut refused = 0;
    for _ in 0..30 {
        let plan = plan(&spec, &world.look(&spec));
        let is_rule = |action: &Action| matches!(action, Action::AuthorizeIngress { .. });
        refused += plan.steps.iter().filter(|step| is_rule(&step.action)).count();
        plan.steps.iter().filter(|step| !is_rule(&step.action)).for_each(|step| world.call(&step.action).unwrap());
        world.tick();
        assert_eq!(world.listeners[0].of.forwards, former);
    }
    assert!(refused > 30, "{refused}");
    assert_eq!(world.groups.len(), 2, "the new group is there and waits");
    run(&mut world, &spec, Keep::Serving);
    assert_ne!(world.listeners[0].of.forwards, former, "admitted, they go");
}

#[test]
fn nobody_is_sent_to_a_new_target_port_that_fails_its_health_check() {
    let checked = |port: u16| {
        spec(|it| {
            it["targets"]["port"] = json!(port);
            it["healthCheck"] = json!({"enabled": true});
        })
    };
    let mut world = settled(&checked(443), &[ONE, TWO]);
    world.sick_port = Some(8443);
    golden("target-port-sick", &run(&mut world, &checked(8443), Keep::Serving));
    assert_eq!(world.listeners[0].of.forwards.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [100, 0]);
    // It recovers, falls ill again while it has a few clients, and loses them.
    world.sick_port = None;
    world.tick();
    let plan = plan(&checked(8443), &world.look(&checked(8443)));
    plan.steps.iter().for_each(|step| world.call(&step.action).unwrap());
    assert_eq!(world.listeners[0].of.forwards.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(), [90, 10]);
    world.sick_port = Some(8443);
    world.tick();
    let text = run(&mut world, &checked(8443), Keep::Serving);
    assert!(text.contains("fails its health check") && text.contains("! Unhealthy"), "{text}");
    // Taking the change back ends it at once: no client has to be moved.
    goes("target-port-back", &mut world, &checked(443), Keep::Serving);
    assert_eq!(world.groups.len(), 1);
}

#[test]
fn a_second_change_during_the_first_moves_everybody_on() {
    let port = |port: u16| spec(|it| it["targets"]["port"] = json!(port));
    let mut world = settled(&port(443), &[ONE, TWO]);
    for _ in 0..4 {
        let plan = plan(&port(8443), &world.look(&port(8443)));
        plan.steps.iter().for_each(|step| world.call(&step.action).unwrap());
        world.tick();
    }
    assert_eq!(world.listeners[0].of.forwards.len(), 2, "under way");
    goes("target-port-twice", &mut world, &port(9443), Keep::Serving);
    assert_eq!(world.groups.len(), 1);
}

#[test]
fn replaced_instances_move_without_a_gap() {
    let spec = spec(|_| {});
    let mut world = settled(&spec, &[ONE, TWO]);
    // Selected by tag: the old ones are not selected any more, but still run.
    world.estate.instances[0].opted_in = false;
    world.estate.instances.push(instance(&spec, THREE));
    let text = run(&mut world, &spec, Keep::Serving);
    golden("replaced-instance", &text);
}

#[test]
fn everything_that_can_change_in_place_does() {
    let mut world = settled(&spec(|_| {}), &[ONE, TWO]);
    world.estate.groups.extend(more_groups());
    let spec = spec(|it| {
        it["service"]["idleTimeoutSeconds"] = json!(300);
        it["network"]["consumers"][0]["securityGroupIds"] = json!(["sg-0a1b2c3d4e5f60719"]);
        it["network"]["consumers"].as_array_mut().unwrap().remove(1);
        it["healthCheck"] = json!({"enabled": true, "port": 8080, "path": "/healthz"});
        it["prober"]["securityGroupId"] = json!("sg-0a1b2c3d4e5f60715");
    });
    goes("change", &mut world, &spec, Keep::Serving);
    assert_eq!(world.estate.ingress.len(), 5, "the prober, and two lists on two ports");
    // What the spec no longer says goes back to the defaults.
    let back = crate::spec(|_| {});
    goes("change-back", &mut world, &back, Keep::Serving);
    assert_eq!(world.services[0].of.idle, 60);
}

/// Groups that a later spec names.
fn more_groups() -> Vec<espalier_domain::network::SeenGroup> {
    let named = spec(|it| {
        it["network"]["consumers"][0]["securityGroupIds"] = json!(["sg-0a1b2c3d4e5f60719"]);
        it["prober"]["securityGroupId"] = json!("sg-0a1b2c3d4e5f60715");
        it["targets"]["securityGroupId"] = json!("sg-0a1b2c3d4e5f6071e");
    });
    crate::world::groups(&named)
}

#[test]
fn rules_are_added_to_a_new_group_and_taken_out_of_the_former_one() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    world.estate.groups.extend(more_groups());
    let spec = spec(|it| it["targets"]["securityGroupId"] = json!("sg-0a1b2c3d4e5f6071e"));
    goes("targets-group", &mut world, &spec, Keep::Serving);
    assert!(world.estate.ingress.is_empty());
    assert!(world.estate.former_ingress.iter().all(|(group, _)| *group == spec.targets.security_group_id));
    assert_eq!(world.estate.former_ingress.len(), 3);
}

/// The steps of a wave are taken side by side: whatever order they come in, the check is never made on a closed port.
#[test]
fn a_health_check_moves_to_another_port_when_that_is_open() {
    let of = |port: u16| spec(|it| it["healthCheck"] = json!({"enabled": true, "port": port}));
    let (before, after) = (of(8080), of(8081));
    let mut world = settled(&before, &[ONE, TWO]);
    for _ in 0..20 {
        for step in plan(&after, &world.look(&after)).steps.iter().rev() {
            world.call(&step.action).unwrap();
            assert!(world.serves(), "{} broke the service", step.action);
        }
        world.tick();
    }
    assert!(plan(&after, &world.look(&after)).is_converged());
    assert_eq!(world.groups[0].of.check.as_ref().unwrap().port, Some(8081));
    // Where there is no room for the rule it stays where it is; what needs no rule is done.
    let list = IngressSource::PrefixList("pl-0theirs".into());
    let theirs = |n: u32| rule(format!("sgr-0other{n}"), list.clone(), 22);
    world.estate.other_ingress = (0..30).map(theirs).collect();
    let path = spec(|it| it["healthCheck"] = json!({"enabled": true, "port": 8081, "path": "/ready"}));
    for (after, is_moved, blocks) in [(of(8082), false, 1), (path, true, 0)] {
        let mut world = world.clone();
        // That the spec has changed is written down first.
        plan(&after, &world.look(&after)).steps.iter().for_each(|step| world.call(&step.action).unwrap());
        let seen = plan(&after, &world.look(&after));
        let moved = seen.steps.iter().any(|step| step.action.to_string().ends_with(" health check"));
        assert_eq!((moved, seen.blocks.len()), (is_moved, blocks), "{seen:?}");
    }
}

#[test]
fn a_full_security_group_blocks_with_figures_before_anything_is_added() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE]);
    let block = |n: u32, is_ipv6_block: bool| espalier_domain::network::SeenIngress {
        rule_id: format!("sgr-0other{n}"),
        source: None,
        is_tcp: true,
        ports: (22, 22),
        is_ipv6_block,
    };
    // Lattice's IPv4 list and the prober's group need 11: 49 leave room, IPv6 blocks are counted apart.
    world.estate.other_ingress = (0..49).map(|n| block(n, false)).chain((0..49).map(|n| block(n, true))).collect();
    assert!(plan(&spec, &world.look(&spec)).blocks.is_empty());
    world.estate.other_ingress.push(block(99, false));
    let plan = plan(&spec, &world.look(&spec));
    assert!(plan.steps.iter().all(|step| !step.action.to_string().contains("Ingress")), "{plan:?}");
    golden("rules-quota", &espalier_domain::network::render(&plan));
    // Every protocol from Lattice's list is another rule than ours, and counts ten, too.
    let list = espalier_domain::network::IngressSource::PrefixList(crate::world::PREFIX_LIST.into());
    let every = espalier_domain::network::SeenIngress {
        is_tcp: false,
        ports: (0, u16::MAX),
        ..crate::world::rule("sgr-0every".into(), list, 0)
    };
    for (others, is_room) in [(39, true), (40, false)] {
        world.estate.other_ingress = (0..others).map(|n| block(n, false)).chain([every.clone()]).collect();
        assert_eq!(espalier_domain::network::plan(&spec, &world.look(&spec)).blocks.is_empty(), is_room, "{others}");
    }
    let raised = crate::spec(|it| it["targets"]["rulesPerGroup"] = json!(100));
    assert!(espalier_domain::network::plan(&raised, &world.look(&raised)).blocks.is_empty());
}

#[test]
fn what_failed_is_deleted_and_made_again() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE]);
    // The first wave's target group and service.
    world.bad_creations = 2;
    goes("creation-failed", &mut world, &spec, Keep::Nothing);
    let absent = crate::spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false)));
    world.bad_deletions = 3;
    goes("deletion-failed", &mut world, &absent, Keep::Nothing);
    assert_eq!(world.leftovers(&absent), Vec::<String>::new());
}

#[test]
fn a_new_listener_port_is_opened_before_the_old_one_closes() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    let port = spec(|it| it["service"]["port"] = json!(8443));
    goes("listener-port", &mut world, &port, Keep::Serving);
    assert_eq!(world.listeners.iter().map(|one| one.of.port).collect::<Vec<_>>(), [8443]);
}

#[test]
fn what_cannot_change_in_place_is_said() {
    let mut world = settled(&spec(|_| {}), &[ONE]);
    let domain = spec(|it| {
        it["service"]["domainName"] = json!("other.example.com");
        it["certificate"]["dnsNames"] = json!(["other.example.com"]);
    });
    golden("domain", &run(&mut world, &domain, Keep::Serving));
}

#[test]
fn the_last_target_stays() {
    let spec = spec(|_| {});
    let mut world = settled(&spec, &[ONE, TWO]);
    world.estate.instances.iter_mut().for_each(|one| one.opted_in = false);
    goes_nowhere("no-consent", &mut world, &spec);
    world.estate.instances.clear();
    world.estate.instances.push(instance(&spec, THREE));
    world.estate.instances[0].is_running = false;
    assert!(plan(&spec, &world.look(&spec)).steps.is_empty(), "what was there still serves");
}

#[test]
fn a_stopped_instance_is_named_and_not_registered() {
    let spec = spec(|it| it["targets"]["select"] = json!({"instanceIds": [ONE, TWO, THREE]}));
    let mut world = World::new(&spec, &[ONE, TWO]);
    world.estate.instances[1].is_running = false;
    world.estate.instances[1].state = "stopped".into();
    golden("stopped-instance", &run(&mut world, &spec, Keep::Nothing));
    assert_eq!(world.groups[0].of.targets.len(), 1);
}
