//! Who is sent clients: nobody without proof, nobody who fails them while others can serve, and in step with the Auto
//! Scaling group they are in.

use espalier_domain::network::{Life, Scaling, SeenHook, SeenInstance, members, plan, render};
use espalier_domain::spec::Spec;
use espalier_domain::verdict::Fault;
use serde_json::json;

use crate::world::{World, instance};
use crate::{Keep, ONE, THREE, TWO, run, settled, spec};

const GROUP: &str = "payments-web";

/// Takes every step until none is left or so many looks are over; what was done.
fn looks(world: &mut World, spec: &Spec, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let plan = plan(spec, &world.look(spec));
        text.push_str(&render(&plan));
        for step in &plan.steps {
            world.call(&step.action).unwrap_or_else(|why| panic!("{} was refused: {why}\n{text}", step.action));
        }
        world.tick();
    }
    text
}

fn registered(world: &World) -> Vec<&str> {
    let targets = world.groups.iter().flat_map(|group| &group.of.targets);
    targets.map(|((id, _), _)| id.as_str()).collect()
}

#[test]
fn nobody_is_registered_before_it_was_seen_serving() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE, TWO]);
    world.unseen = [ONE.to_owned(), TWO.to_owned()].into();
    looks(&mut world, &spec, 8);
    assert!(registered(&world).is_empty());
    let now = plan(&spec, &world.look(&spec));
    assert!(now.steps.is_empty() && now.blocks.is_empty() && now.waits.len() == 1, "{}", render(&now));
    let awaited = members(&spec, &world.look(&spec)).members;
    assert!(awaited.len() == 2 && awaited.values().all(|member| !member.registered && member.seen_at.is_none()));
    world.unseen.remove(TWO);
    looks(&mut world, &spec, 3);
    assert_eq!(registered(&world), [TWO]);
    world.unseen.clear();
    assert!(run(&mut world, &spec, Keep::Serving).ends_with("converged\n"));
    assert_eq!(registered(&world), [ONE, TWO]);
}

#[test]
fn a_start_makes_what_was_seen_before_worthless() {
    let spec = spec(|_| {});
    let mut world = World::new(&spec, &[ONE, TWO]);
    let later = time::OffsetDateTime::from_unix_timestamp(world.now + 1_000).unwrap();
    world.estate.instances[0].launched_at = Some(later);
    looks(&mut world, &spec, 8);
    assert_eq!(registered(&world), [TWO]);
}

#[test]
fn who_fails_clients_is_drained_as_far_as_others_can_serve_and_comes_back_by_proof() {
    let spec = spec(|it| it["targets"]["minimumInService"] = json!(2));
    let mut world = settled(&spec, &[ONE, TWO, THREE]);
    world.faults.insert(ONE.into(), (vec![Fault::Expired], world.now));
    looks(&mut world, &spec, 2);
    assert_eq!(registered(&world).len(), 3, "a first bad look drains nobody");
    world.pass(10);
    world.faults.insert(TWO.into(), (vec![Fault::Untrusted], world.now - 100));
    let text = looks(&mut world, &spec, 3);
    assert_eq!(registered(&world), [TWO, THREE], "two have to stay\n{text}");
    assert!(world.serves());
    let left = plan(&spec, &world.look(&spec));
    assert!(left.steps.is_empty() && left.blocks.is_empty(), "{}", render(&left));
    assert!(left.waits.iter().any(|wait| wait.on.contains(ONE)), "{}", render(&left));
    world.faults.clear();
    looks(&mut world, &spec, 3);
    assert_eq!(registered(&world).len(), 3);
    // All of them at once: the minimum is kept whatever it serves.
    for id in [ONE, TWO, THREE] {
        world.faults.insert(id.into(), (vec![Fault::Expired], world.now - 100));
    }
    looks(&mut world, &spec, 4);
    assert_eq!(registered(&world).len(), 2);
}

#[test]
fn who_came_and_answered_badly_at_first_is_awaited() {
    let spec = spec(|_| {});
    let mut world = settled(&spec, &[ONE]);
    world.estate.instances.push(instance(&spec, TWO));
    world.faults.insert(TWO.into(), (vec![Fault::TimedOut], world.now));
    let text = looks(&mut world, &spec, 2);
    assert_eq!(registered(&world), [ONE]);
    assert!(!plan(&spec, &world.look(&spec)).is_converged(), "nobody waits for it\n{text}");
    world.faults.clear();
    looks(&mut world, &spec, 2);
    assert_eq!(registered(&world), [ONE, TWO]);
}

#[test]
fn another_certificate_that_clients_accept_is_no_reason_to_drain() {
    let spec = spec(|_| {});
    let mut world = settled(&spec, &[ONE, TWO]);
    world.faults.insert(ONE.into(), (vec![Fault::OtherCertificate], world.now - 1_000));
    assert!(plan(&spec, &world.look(&spec)).is_converged());
}

#[test]
fn a_replacement_serves_before_what_it_replaces_goes() {
    let ids = |id: &str| spec(|it| it["targets"]["select"] = json!({"instanceIds": [id]}));
    let mut world = settled(&ids(ONE), &[ONE]);
    world.estate.instances = vec![instance(&ids(TWO), TWO)];
    world.unseen.insert(TWO.into());
    looks(&mut world, &ids(TWO), 4);
    assert_eq!(registered(&world), [ONE]);
    world.unseen.clear();
    looks(&mut world, &ids(TWO), 6);
    assert_eq!(registered(&world), [TWO]);
}

#[test]
fn who_serves_stays_while_those_that_are_selected_instead_fail_clients() {
    let ids = |ids: &[&str]| spec(|it| it["targets"]["select"] = json!({"instanceIds": ids}));
    let mut world = settled(&ids(&[ONE, TWO]), &[ONE, TWO, THREE]);
    let after = ids(&[ONE, THREE]);
    world.faults.insert(ONE.into(), (vec![Fault::TimedOut], world.now));
    world.faults.insert(THREE.into(), (vec![Fault::Expired], world.now - 100));
    let text = looks(&mut world, &after, 4);
    assert_eq!(registered(&world), [ONE, TWO], "{text}");
    let next = plan(&after, &world.look(&after));
    assert!(next.steps.is_empty() && !next.waits.is_empty(), "{}", render(&next));
    // Both are there, and neither is known to serve.
    world.faults.remove(THREE);
    looks(&mut world, &spec(|it| it["targets"]["select"] = json!({"instanceIds": [ONE, TWO, THREE]})), 2);
    world.faults.insert(THREE.into(), (vec![Fault::TimedOut], world.now));
    let next = plan(&after, &world.look(&after));
    assert!(next.waits.iter().any(|wait| wait.on.ends_with("before i-0a1b2c3d4e5f60712 leaves")), "{}", render(&next));
    assert_eq!(registered(&world), [ONE, TWO, THREE]);
    world.faults.clear();
    assert!(run(&mut world, &after, Keep::Serving).ends_with("converged\n"));
    assert_eq!(registered(&world), [ONE, THREE]);
}

#[test]
fn a_change_goes_no_further_while_those_it_leads_to_fail_clients() {
    let (before, after) = (
        spec(|it| it["targets"]["select"] = json!({"instanceIds": [ONE]})),
        spec(|it| {
            it["targets"]["select"] = json!({"instanceIds": [TWO]});
            it["targets"]["port"] = json!(8443);
        }),
    );
    let mut world = settled(&before, &[ONE, TWO]);
    let weights = |world: &World| world.listeners[0].of.forwards.iter().map(|(_, weight)| *weight).collect::<Vec<_>>();
    let text = looks(&mut world, &after, 6);
    assert_eq!(weights(&world), [90, 10], "{text}");
    // The first bad look changes nothing; when it has lasted, the few go back.
    world.faults.insert(TWO.into(), (vec![Fault::TimedOut], world.now));
    world.pass(59);
    looks(&mut world, &after, 1);
    assert_eq!(weights(&world), [90, 10]);
    looks(&mut world, &after, 2);
    assert_eq!(weights(&world), [100, 0]);
    world.pass(600);
    let next = plan(&after, &world.look(&after));
    assert!(next.steps.is_empty() && !next.waits.is_empty(), "{}", render(&next));
    world.faults.clear();
    assert!(run(&mut world, &after, Keep::Serving).ends_with("converged\n"));
    assert_eq!(registered(&world), [TWO]);
}

/// They were well when they were registered on the new port. Since they were started anew, nobody has seen them there.
#[test]
fn nobody_is_led_to_whom_nobody_has_seen_since_its_start() {
    let before = spec(|_| {});
    let after = spec(|it| it["targets"]["port"] = json!(8443));
    let mut world = settled(&before, &[ONE, TWO]);
    while registered(&world).len() < 4 {
        looks(&mut world, &after, 1);
    }
    let started = time::OffsetDateTime::from_unix_timestamp(world.now + 10_000).unwrap();
    world.estate.instances.iter_mut().for_each(|one| one.launched_at = Some(started));
    let text = looks(&mut world, &after, 6);
    let led: u32 = world.listeners[0].of.forwards[1..].iter().map(|(_, weight)| *weight).sum();
    assert!(led == 0 && text.contains("to be seen serving well"), "{led}: {text}");
    world.estate.instances.iter_mut().for_each(|one| one.launched_at = None);
    assert!(run(&mut world, &after, Keep::Serving).ends_with("converged\n"));
}

fn scaled(spec: &Spec, id: &str, life: Life) -> SeenInstance {
    SeenInstance { scaling: Some(Scaling { group: GROUP.into(), life }), ..instance(spec, id) }
}

fn hook(name: &str, is_for_launch: bool, ours: bool) -> SeenHook {
    SeenHook { group: GROUP.into(), name: name.into(), is_for_launch, ours }
}

fn group() -> (Spec, World) {
    let spec = spec(|it| it["targets"]["select"] = json!({"autoScalingGroups": [GROUP]}));
    let mut world = World::new(&spec, &[]);
    world.estate.scaling_groups.insert(GROUP.into());
    world.estate.hooks = vec![hook("come", true, true), hook("go", false, true)];
    world.estate.instances = vec![scaled(&spec, ONE, Life::InService), scaled(&spec, TWO, Life::ComingWaits)];
    (spec, world)
}

fn life(world: &World, id: &str) -> Life {
    let mut instances = world.estate.instances.iter();
    instances.find(|one| one.id.as_str() == id).unwrap().scaling.as_ref().unwrap().life
}

#[test]
fn a_lifecycle_hook_is_answered_when_the_target_serves_and_when_it_is_drained() {
    let (spec, mut world) = group();
    world.unseen.insert(TWO.into());
    looks(&mut world, &spec, 10);
    assert_eq!(life(&world, TWO), Life::ComingWaits);
    world.unseen.clear();
    assert!(run(&mut world, &spec, Keep::Serving).ends_with("converged\n"));
    assert_eq!(life(&world, TWO), Life::InService);
    world.estate.instances[0].scaling = Some(Scaling { group: GROUP.into(), life: Life::GoingWaits });
    let text = run(&mut world, &spec, Keep::Serving);
    assert!(text.ends_with("converged\n"), "{text}");
    expectorate::assert_contents("tests/golden/network/scale-in.txt", &text);
    assert_eq!((life(&world, ONE), registered(&world)), (Life::Going, vec![TWO]));
}

#[test]
fn the_last_one_leaves_when_nobody_else_is_to_come_and_waits_while_somebody_is() {
    let (spec, mut world) = group();
    world.estate.instances = vec![scaled(&spec, ONE, Life::InService)];
    assert!(run(&mut world, &spec, Keep::Nothing).ends_with("converged\n"));
    world.estate.instances[0].scaling = Some(Scaling { group: GROUP.into(), life: Life::GoingWaits });
    world.estate.instances.push(scaled(&spec, TWO, Life::ComingWaits));
    world.unseen.insert(TWO.into());
    looks(&mut world, &spec, 5);
    assert_eq!((life(&world, ONE), world.serves()), (Life::GoingWaits, true));
    world.estate.instances.pop();
    looks(&mut world, &spec, 5);
    assert_eq!(life(&world, ONE), Life::Going);
}

#[test]
fn who_is_taken_away_leaves_when_all_who_are_to_come_are_there_however_many_are_wanted() {
    let (_, mut world) = group();
    let spec = spec(|it| {
        it["targets"]["select"] = json!({"autoScalingGroups": [GROUP]});
        it["targets"]["minimumInService"] = json!(2);
    });
    assert!(run(&mut world, &spec, Keep::Nothing).ends_with("converged\n"));
    world.estate.instances[0].scaling = Some(Scaling { group: GROUP.into(), life: Life::GoingWaits });
    // The other one fails: better the one that goes than nobody.
    world.faults.insert(TWO.into(), (vec![Fault::Expired], world.now - 100));
    looks(&mut world, &spec, 4);
    assert_eq!((life(&world, ONE), registered(&world).contains(&ONE)), (Life::GoingWaits, true));
    world.faults.clear();
    let text = looks(&mut world, &spec, 4);
    assert_eq!((life(&world, ONE), registered(&world)), (Life::Going, vec![TWO]), "{text}");
}

#[test]
fn hooks_of_others_are_left_to_them_and_two_for_one_transition_block() {
    let (spec, mut world) = group();
    world.estate.hooks = vec![hook("theirs", true, false)];
    assert!(run(&mut world, &spec, Keep::Nothing).ends_with("converged\n"));
    assert_eq!(life(&world, TWO), Life::ComingWaits);
    world.estate.hooks.push(hook("come", true, true));
    let text = run(&mut world, &spec, Keep::Serving);
    assert!(text.contains("! Unsupported") && text.contains("theirs"), "{text}");
    world.estate.scaling_groups.clear();
    assert!(render(&plan(&spec, &world.look(&spec))).contains("! NotFound"));
}
