//! Targets by address: registered as such once they are proven, moved to and from instances by weight, with the same drift,
//! the same draining and the same end as instances.

use espalier_domain::network::{Action, SeenInstance, members, plan, render, target_group_names};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::{Spec, TargetKind};
use espalier_domain::verdict::Fault;
use serde_json::{Value, json};

use crate::world::World;
use crate::{Keep, ONE, TWO, run, settled, spec};

const NODE: &str = "mi-0a1b2c3d4e5f60711";

/// The recipe with these addresses, the first of them with a node.
fn at(addresses: &[&str]) -> Spec {
    let mut all: Vec<Value> = addresses.iter().map(|address| json!({ "address": address })).collect();
    all[0]["node"] = json!(NODE);
    spec(|it| it["targets"]["select"] = json!({ "addresses": all }))
}

fn golden(name: &str, text: &str) {
    expectorate::assert_contents(format!("tests/golden/network/{name}.txt"), text);
}

fn registered(world: &World) -> Vec<String> {
    world.groups.iter().flat_map(|group| group.of.targets.keys().map(|(id, _)| id.clone())).collect()
}

#[test]
fn addresses_are_registered_in_a_group_of_their_own_type() {
    let spec = at(&["10.0.1.5", "10.0.2.6"]);
    let mut world = World::new(&spec, &[]);
    golden("addresses", &run(&mut world, &spec, Keep::Nothing));
    assert_eq!(
        (world.groups[0].of.kind, registered(&world)),
        (TargetKind::Ipv4, ["10.0.1.5", "10.0.2.6"].map(String::from).into())
    );
    assert!(world.serves());
    let known = members(&spec, &world.look(&spec)).members;
    assert!(known.len() == 2 && known.values().all(|one| one.registered), "rotate knows of all: {known:?}");
}

#[test]
fn an_address_is_registered_when_it_was_seen_serving_and_not_before() {
    let spec = at(&["10.0.1.5", "10.0.2.6"]);
    let mut world = World::new(&spec, &[]);
    world.unseen.insert("10.0.2.6".into());
    for _ in 0..40 {
        let next = plan(&spec, &world.look(&spec));
        next.steps.iter().for_each(|step| world.call(&step.action).unwrap());
        world.tick();
    }
    assert_eq!(registered(&world), ["10.0.1.5"]);
    let text = render(&plan(&spec, &world.look(&spec)));
    assert_eq!(text, "... 10.0.2.6 to be seen serving a certificate for the service's name\n");
    world.unseen.clear();
    assert!(run(&mut world, &spec, Keep::Serving).contains("+ Targets 10.0.2.6"));
}

#[test]
fn from_instances_to_addresses_and_back_clients_are_moved_by_weight() {
    let (recipe, addresses) = (spec(|_| {}), at(&["10.0.1.5", "10.0.2.6"]));
    let mut world = settled(&recipe, &[ONE, TWO]);
    golden("addresses-replace", &run(&mut world, &addresses, Keep::Serving));
    assert_eq!((world.groups.len(), world.groups[0].of.kind), (1, TargetKind::Ipv4));
    let text = run(&mut world, &recipe, Keep::Serving);
    assert!(text.ends_with("converged\n"), "{text}");
    assert_eq!((world.groups.len(), world.groups[0].of.kind), (1, TargetKind::Instance));
}

#[test]
fn each_type_and_family_has_a_name_of_its_own() {
    let names = [spec(|_| {}), at(&["10.0.1.5"]), at(&["fd12::5"])].map(|spec| target_group_names(&spec)[0].clone());
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
    // The recipe's is the one it has always had.
    golden("target-group-names", &format!("instances {}\nIPv4 {}\nIPv6 {}\n", names[0], names[1], names[2]));
}

#[test]
fn whoever_is_no_longer_listed_is_drained_when_the_others_serve() {
    let (two, other) = (at(&["10.0.1.5", "10.0.2.6"]), at(&["10.0.1.5", "10.0.2.7"]));
    let mut world = World::new(&two, &[]);
    run(&mut world, &two, Keep::Nothing);
    golden("addresses-change", &run(&mut world, &other, Keep::Serving));
    assert_eq!(registered(&world), ["10.0.1.5", "10.0.2.7"]);
}

#[test]
fn an_address_that_fails_clients_is_drained_while_enough_others_stay() {
    let spec = at(&["10.0.1.5", "10.0.2.6"]);
    let mut world = World::new(&spec, &[]);
    run(&mut world, &spec, Keep::Nothing);
    for address in ["10.0.1.5", "10.0.2.6"] {
        world.faults.insert(address.into(), (vec![Fault::Expired], world.now - 600));
    }
    let steps = plan(&spec, &world.look(&spec)).steps;
    let [step] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(matches!(&step.action, Action::DeregisterTargets { targets, .. } if targets.len() == 1), "{}", step.action);
    world.call(&step.action).unwrap();
    world.tick();
    assert!(world.serves(), "the last one stays");
    world.faults.clear();
    run(&mut world, &spec, Keep::Serving);
    assert_eq!(registered(&world).len(), 2);
}

#[test]
fn an_address_outside_the_subnets_blocks_and_the_others_go_on() {
    let spec = at(&["10.0.1.5", "10.0.9.6", "192.0.2.1"]);
    let mut world = World::new(&spec, &[]);
    let text = run(&mut world, &spec, Keep::Nothing);
    let blocks = plan(&spec, &world.look(&spec)).blocks;
    assert!(blocks.iter().all(|block| block.code == BlockCode::NotFound) && blocks.len() == 2, "{text}");
    for address in ["10.0.9.6", "192.0.2.1"] {
        let told = format!("! NotFound: address {address} is in none of network.subnetIds");
        assert!(text.contains(&told), "{text}");
    }
    assert_eq!(registered(&world), ["10.0.1.5"]);
}

#[test]
fn an_estate_of_others_has_to_have_the_addresses_registered() {
    let own = at(&["10.0.1.5", "10.0.2.6"]);
    let mut world = World::new(&own, &[]);
    run(&mut world, &own, Keep::Nothing);
    let (service, group) = (world.services[0].id.clone(), world.groups[0].id.clone());
    let ids = |id: &str, prefix: &str| format!("{prefix}{:0>17}", id.trim_start_matches(prefix));
    world.services[0].id = ids(&service, "svc-");
    world.groups[0].id = ids(&group, "tg-");
    for listener in &mut world.listeners {
        listener.of.service = world.services[0].id.clone();
        listener.of.forwards.iter_mut().for_each(|(id, _)| *id = world.groups[0].id.clone());
    }
    world.associations.iter_mut().for_each(|one| one.of.1 = world.services[0].id.clone());
    let given = |addresses: &[&str]| {
        let all: Vec<Value> = addresses.iter().map(|address| json!({ "address": address })).collect();
        spec(|it| {
            it["manage"] = json!("rotation");
            it["lattice"] = json!({"serviceId": world.services[0].id, "targetGroupIds": [world.groups[0].id]});
            it["targets"]["select"] = json!({ "addresses": all });
        })
    };
    let text = |spec: &Spec| render(&plan(spec, &world.look(spec)));
    let (same, fewer, more) =
        (given(&["10.0.1.5", "10.0.2.6"]), given(&["10.0.1.5"]), given(&["10.0.1.5", "10.0.2.6", "10.0.2.7"]));
    assert!(!text(&same).contains("registered"), "{}", text(&same));
    assert!(text(&fewer).contains("registered and not selected: 10.0.2.6"), "{}", text(&fewer));
    assert!(text(&more).contains("selected and not registered on port 443: 10.0.2.7"), "{}", text(&more));
}

#[test]
fn teardown_and_drift_are_the_same_as_of_instances() {
    let spec = at(&["10.0.1.5", "10.0.2.6"]);
    let mut world = World::new(&spec, &[]);
    run(&mut world, &spec, Keep::Nothing);
    let port = spec.targets.port;
    world.groups[0].of.targets.remove(&("10.0.2.6".to_owned(), port));
    assert!(run(&mut world, &spec, Keep::Serving).contains("+ Targets 10.0.2.6"));
    let absent = crate::spec(|it| {
        it["targets"]["select"] =
            json!({"addresses": [{"address": "10.0.1.5", "node": NODE}, {"address": "10.0.2.6"}]});
        (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false));
    });
    run(&mut world, &absent, Keep::Nothing);
    assert_eq!(world.leftovers(&absent), Vec::<String>::new());
}

#[test]
fn what_is_selected_by_address_is_there_as_long_as_the_spec_says_so() {
    let spec = at(&["fd12::5"]);
    let target = espalier_domain::id::TargetId::parse("fd12::5").unwrap();
    let seen = SeenInstance::at(target.clone(), spec.network.vpc_id);
    assert!(seen.is_running && seen.opted_in && seen.private_ip == target.address() && seen.launched_at.is_none());
}
