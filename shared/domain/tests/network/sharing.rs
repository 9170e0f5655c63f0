//! A fleet in several target groups: everybody stays where they are, clients come to each group by what is in it, and
//! groups come and go with the fleet, never with a gap.

use std::collections::{BTreeMap, BTreeSet};

use espalier_domain::network::{
    Life, Scaling, SeenHook, SeenInstance, TargetStatus, members, plan, render, target_group_names,
};
use espalier_domain::spec::Spec;
use espalier_domain::verdict::Fault;
use serde_json::{Value, json};

use crate::world::{World, instance};
use crate::{Keep, run, settled, spec};

/// The recipe with at most two targets in a group.
fn pairs(change: impl FnOnce(&mut Value)) -> Spec {
    spec(|it| {
        it["targets"]["targetsPerGroup"] = json!(2);
        change(it);
    })
}

fn ids(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("i-{n:017x}")).collect()
}

fn fleet(spec: &Spec, count: usize) -> World {
    let ids = ids(count);
    settled(spec, &ids.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Who is in each group, by its place among the spec's names.
fn places(spec: &Spec, world: &World) -> BTreeMap<usize, BTreeSet<String>> {
    let names = target_group_names(spec);
    let place = |name: &String| names.iter().position(|one| one == name);
    let groups = world.groups.iter().filter_map(|one| Some((place(&one.of.name)?, one)));
    let there = |status: &TargetStatus| *status != TargetStatus::Draining;
    groups
        .map(|(place, one)| {
            let targets = one.of.targets.iter().filter(|(_, status)| there(status));
            (place, targets.map(|((id, _), _)| id.clone()).collect())
        })
        .collect()
}

/// The weights of the groups, by the same.
fn weights(spec: &Spec, world: &World) -> BTreeMap<usize, u32> {
    let names = target_group_names(spec);
    let name = |id: &String| world.groups.iter().find(|one| one.id == *id).map(|one| one.of.name.clone());
    let place = |id: &String| names.iter().position(|one| Some(one) == name(id).as_ref());
    world.listeners[0].of.forwards.iter().filter_map(|(id, weight)| Some((place(id)?, *weight))).collect()
}

fn converges(world: &mut World, spec: &Spec) -> String {
    let text = run(world, spec, Keep::Serving);
    assert!(text.ends_with("converged\n"), "{text}");
    text
}

fn golden(name: &str, text: &str) {
    expectorate::assert_contents(format!("tests/golden/network/{name}.txt"), text);
}

#[test]
fn a_fleet_that_is_too_large_for_one_group_is_shared_out() {
    let spec = pairs(|_| {});
    let ids = ids(5);
    let mut world = World::new(&spec, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    golden("shared-fleet", &run(&mut world, &spec, Keep::Nothing));
    let sizes: Vec<usize> = places(&spec, &world).values().map(BTreeSet::len).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 2), (1, 2), (2, 1)]));
    let known = members(&spec, &world.look(&spec)).members;
    assert!(known.len() == 5 && known.values().all(|member| member.registered), "rotate knows of all: {known:?}");
}

#[test]
fn whoever_goes_moves_nobody_and_whoever_comes_takes_the_free_place() {
    let spec = pairs(|_| {});
    let mut world = fleet(&spec, 5);
    let mut expected = places(&spec, &world);
    let gone = world.estate.instances.remove(1).id.to_string();
    golden("shared-fleet-one-leaves", &converges(&mut world, &spec));
    expected.get_mut(&0).unwrap().remove(&gone);
    assert_eq!(places(&spec, &world), expected);
    world.estate.instances.push(instance(&spec, "i-0000000000000000f"));
    converges(&mut world, &spec);
    expected.get_mut(&0).unwrap().insert("i-0000000000000000f".into());
    assert_eq!(places(&spec, &world), expected);
}

#[test]
fn a_group_more_comes_into_use_before_clients_come_to_it() {
    let spec = pairs(|it| it["healthCheck"] = json!({"enabled": true}));
    let mut world = fleet(&spec, 2);
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 100)]));
    world.estate.instances.push(instance(&spec, "i-0000000000000000f"));
    golden("shared-fleet-grows", &converges(&mut world, &spec));
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 2), (1, 1)]));
}

#[test]
fn a_group_that_empties_loses_its_clients_before_its_targets() {
    let spec = pairs(|_| {});
    let mut world = fleet(&spec, 4);
    world.estate.instances.drain(2..);
    golden("shared-fleet-shrinks", &converges(&mut world, &spec));
    assert_eq!(places(&spec, &world).len(), 1);
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 100)]));
    // The first one may be the one that goes.
    let mut world = fleet(&spec, 4);
    world.estate.instances.drain(..2);
    converges(&mut world, &spec);
    assert_eq!(places(&spec, &world).into_keys().collect::<Vec<_>>(), [1]);
    // And it comes back when it is needed.
    world.estate.instances.push(instance(&spec, "i-0000000000000000f"));
    converges(&mut world, &spec);
    assert_eq!(places(&spec, &world).into_keys().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_replacement_of_several_groups_has_no_gap() {
    let mut world = fleet(&pairs(|_| {}), 5);
    let other = pairs(|it| it["targets"]["port"] = json!(8443));
    golden("shared-fleet-replaced", &converges(&mut world, &other));
    assert_eq!(world.groups.len(), 3);
    assert_eq!(weights(&other, &world), BTreeMap::from([(0, 2), (1, 2), (2, 1)]));
    // Another limit is a replacement, too: everybody is placed anew.
    let wider = spec(|it| it["targets"]["port"] = json!(8443));
    converges(&mut world, &wider);
    assert_eq!((world.groups.len(), weights(&wider, &world)), (1, BTreeMap::from([(0, 100)])));
}

#[test]
fn a_new_listener_port_forwards_to_all_groups_before_the_old_one_closes() {
    let mut world = fleet(&pairs(|_| {}), 5);
    let other = pairs(|it| it["service"]["port"] = json!(8443));
    converges(&mut world, &other);
    assert_eq!(world.listeners.len(), 1);
    assert_eq!(weights(&other, &world), BTreeMap::from([(0, 2), (1, 2), (2, 1)]));
}

#[test]
fn a_group_whose_instances_stopped_gets_no_more_clients() {
    let spec = pairs(|_| {});
    let mut world = fleet(&spec, 4);
    for instance in &mut world.estate.instances[2..] {
        instance.is_running = false;
    }
    assert!(!world.serves(), "VPC Lattice still sends clients there");
    let first = plan(&spec, &world.look(&spec));
    assert!(render(&first).contains("~ Listener"), "{}", render(&first));
    first.steps.iter().for_each(|step| world.call(&step.action).unwrap());
    assert!(world.serves(), "{}", render(&first));
    converges(&mut world, &spec);
}

#[test]
fn a_group_that_fails_its_clients_gets_no_more_of_them() {
    let spec = pairs(|_| {});
    let mut world = fleet(&spec, 4);
    for id in &ids(4)[2..] {
        world.faults.insert(id.clone(), (vec![Fault::Expired], world.now - 100));
    }
    let first = plan(&spec, &world.look(&spec));
    assert!(render(&first).contains("~ Listener") && !render(&first).contains("- Targets"), "{}", render(&first));
    first.steps.iter().for_each(|step| world.call(&step.action).unwrap());
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 2), (1, 0)]));
    world.faults.clear();
    converges(&mut world, &spec);
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 2), (1, 2)]));
}

#[test]
fn a_fleet_that_is_exchanged_serves_from_another_group_before_the_former_one_goes() {
    let (spec, mut world) = scaled(2);
    run(&mut world, &spec, Keep::Nothing);
    world.estate.instances.extend(ids(4)[2..].iter().map(|id| member(&spec, id, Life::InService)));
    for instance in &mut world.estate.instances[..2] {
        instance.scaling = Some(Scaling { group: "web".into(), life: Life::Aside });
    }
    golden("shared-fleet-exchanged", &converges(&mut world, &spec));
    assert_eq!(places(&spec, &world).into_keys().collect::<Vec<_>>(), [1]);
}

fn member(spec: &Spec, id: &str, life: Life) -> SeenInstance {
    SeenInstance { scaling: Some(Scaling { group: "web".into(), life }), ..instance(spec, id) }
}

/// So many members of an Auto Scaling group, two in each target group.
fn scaled(count: usize) -> (Spec, World) {
    let spec = pairs(|it| it["targets"]["select"] = json!({"autoScalingGroups": ["web"]}));
    let mut world = World::new(&spec, &[]);
    world.estate.scaling_groups.insert("web".into());
    let hook = SeenHook { group: "web".into(), name: "go".into(), is_for_launch: false, ours: true };
    world.estate.hooks = vec![hook];
    world.estate.instances = ids(count).iter().map(|id| member(&spec, id, Life::InService)).collect();
    (spec, world)
}

#[test]
fn a_group_that_its_auto_scaling_group_takes_away_loses_its_clients_first() {
    let (spec, mut world) = scaled(4);
    run(&mut world, &spec, Keep::Nothing);
    for instance in &mut world.estate.instances[2..] {
        instance.scaling = Some(Scaling { group: "web".into(), life: Life::GoingWaits });
    }
    let began = world.now;
    for _ in 0..6 {
        let next = plan(&spec, &world.look(&spec));
        for step in &next.steps {
            world.call(&step.action).unwrap();
            assert!(world.serves(), "{}", step.action);
        }
        world.tick();
    }
    let gone = world.estate.instances.iter().filter(|one| !one.is_running).count();
    assert_eq!((gone, world.now - began), (2, 6), "nobody is kept waiting for ten minutes");
    converges(&mut world, &spec);
}

#[test]
fn a_target_in_two_groups_leaves_the_later_one() {
    let spec = pairs(|_| {});
    let mut world = fleet(&spec, 3);
    let (id, port) = (ids(3)[0].clone(), spec.targets.port);
    world.groups[1].of.targets.insert((id.clone(), port), TargetStatus::Unavailable);
    converges(&mut world, &spec);
    let places = places(&spec, &world);
    assert!(places[&0].contains(&id) && !places[&1].contains(&id), "{places:?}");
}

#[test]
fn weights_follow_the_targets_when_they_are_an_eighth_apart() {
    let spec = spec(|it| it["targets"]["targetsPerGroup"] = json!(20));
    let mut world = fleet(&spec, 40);
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 20), (1, 20)]));
    world.estate.instances.drain(..2);
    let text = converges(&mut world, &spec);
    assert!(!text.contains("~ Listener"), "{text}");
    world.estate.instances.drain(..4);
    converges(&mut world, &spec);
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 14), (1, 20)]));
}

#[test]
fn thousands_of_targets_are_registered_a_hundred_at_a_time() {
    let spec = spec(|_| {});
    let ids = ids(2_500);
    let mut world = World::new(&spec, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let text = run(&mut world, &spec, Keep::Nothing);
    assert!(text.ends_with("converged\n"), "{text}");
    assert_eq!(text.matches("+ Targets").count(), 25, "pages of 100");
    let sizes: Vec<usize> = places(&spec, &world).values().map(BTreeSet::len).collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert_eq!(weights(&spec, &world), BTreeMap::from([(0, 999), (1, 999), (2, 500)]));
}

#[test]
fn five_groups_are_the_most() {
    let spec = pairs(|_| {});
    let ids = ids(11);
    let mut world = World::new(&spec, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let text = run(&mut world, &spec, Keep::Nothing);
    assert_eq!(places(&spec, &world).values().map(BTreeSet::len).sum::<usize>(), 10);
    let because = "! Quota: targets.select: 11 instances are selected; a stack takes 10: 5 target groups of 2, half of the \
                   ten that a service may have, since a replacement needs as many again, and never more than 3000: select \
                   fewer\n";
    assert!(text.ends_with(because), "{text}");
}

#[test]
fn what_is_remembered_of_the_largest_fleet_fits_into_one_item_of_the_ledger() {
    let spec = spec(|_| {});
    let ids = ids(3_100);
    let mut world = World::new(&spec, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let started = time::OffsetDateTime::from_unix_timestamp_nanos(1_790_000_000_123_456_789).unwrap();
    world.estate.instances.iter_mut().for_each(|one| one.launched_at = Some(started));
    let mut seen = world.look(&spec);
    seen.sightings.values_mut().for_each(|sighting| sighting.at = started);
    let record = members(&spec, &seen);
    assert_eq!(record.members.len(), 3_000);
    let size = serde_json::to_string(&record).unwrap().len();
    assert!(size < 400 * 1_024 - 1_024, "{size} bytes; DynamoDB takes items of 400 KB");
    assert!(
        render(&plan(&spec, &seen))
            .contains("! Quota: targets.select: 3100 instances are selected; a stack takes 3000")
    );
}

#[test]
fn a_fleet_that_grows_is_no_drift() {
    let spec = pairs(|it| it["drift"] = json!("report"));
    let mut world = fleet(&spec, 2);
    world.estate.instances.push(instance(&spec, "i-0000000000000000f"));
    converges(&mut world, &spec);
    world.estate.instances.drain(..1);
    converges(&mut world, &spec);
    world.estate.instances.pop();
    converges(&mut world, &spec);
    assert_eq!(places(&spec, &world).len(), 1);
    // What others do to the listener is.
    world.listeners[0].of.forwards = vec![("tg-0theirs".into(), 100)];
    let held = plan(&spec, &world.look(&spec));
    assert!(held.steps.is_empty() && render(&held).contains("! Drifted"), "{}", render(&held));
}
