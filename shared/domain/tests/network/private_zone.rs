//! A private hosted zone of the stack's own: made, kept where the clients are, given up; and never somebody else's.

use std::collections::BTreeSet;

use espalier_domain::id::{HostedZoneId, VpcId};
use espalier_domain::network::{Action, current_zone, plan};
use espalier_domain::plan::BlockCode;
use espalier_domain::spec::Spec;
use serde_json::{Value, json};

use crate::world::{REGION, World};
use crate::zones::Zone;
use crate::{Keep, ONE, run, settled, spec};

const NARROW: &str = "api-service.example.com";
const WIDE: &str = "example.com";

fn own(name: &str) -> impl FnOnce(&mut Value) {
    move |it| it["service"]["dns"] = json!({"privateZone": {"name": name}})
}

fn absent() -> Spec {
    spec(|it| {
        own(NARROW)(it);
        (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false));
    })
}

fn golden(name: &str, text: &str) {
    expectorate::assert_contents(format!("tests/golden/network/{name}.txt"), text);
}

fn vpcs(spec: &Spec) -> BTreeSet<VpcId> {
    spec.network.consumers.iter().map(|one| one.vpc_id.clone()).collect()
}

/// Somebody else's zone.
fn theirs(world: &mut World, name: &str, vpc: &VpcId) {
    let id = HostedZoneId::parse("ZTHEIRS").unwrap();
    let (name, comment, vpcs) = (name.to_owned(), "espalier:payroll".to_owned(), [vpc.clone()].into());
    world.zones.push(Zone { id, name, comment, vpcs, theirs: None });
}

#[test]
fn it_is_made_kept_and_deleted_with_the_stack() {
    let wanted = spec(own(NARROW));
    let mut world = World::new(&wanted, &[ONE]);
    let mut text = run(&mut world, &wanted, Keep::Nothing);
    assert!(text.ends_with("converged\n") && world.serves(), "{text}");
    assert_eq!((world.zones.len(), &world.zones[0].vpcs), (1, &vpcs(&wanted)));
    assert!(plan(&wanted, &world.look(&wanted)).is_converged());
    // A consumer leaves, and comes back.
    let fewer = spec(|it| {
        own(NARROW)(it);
        it["network"]["consumers"].as_array_mut().unwrap().remove(0);
    });
    text.push_str(&run(&mut world, &fewer, Keep::Serving));
    assert_eq!(world.zones[0].vpcs, vpcs(&fewer));
    text.push_str(&run(&mut world, &wanted, Keep::Serving));
    assert_eq!(world.zones[0].vpcs, vpcs(&wanted));
    text.push_str(&run(&mut world, &absent(), Keep::Nothing));
    golden("private-zone", &text);
    assert_eq!(world.leftovers(&absent()), Vec::<String>::new());
    assert!(world.zones.is_empty() && world.other_records.is_empty());
}

#[test]
fn what_others_do_to_it_is_undone() {
    let wanted = spec(own(NARROW));
    let mut world = settled(&wanted, &[ONE]);
    let second = world.zones[0].vpcs.pop_last().unwrap();
    let text = run(&mut world, &wanted, Keep::Serving);
    assert!(text.contains(&format!("+ ZoneAssociation {} {second}", world.zones[0].id)), "{text}");
    // A VPC of this account that somebody added, and one of another account that its owner did.
    let (more, abroad) = ("vpc-0aaaaaaaaaaaaaaa1", "vpc-0bbbbbbbbbbbbbbb1");
    let [more, abroad] = [more, abroad].map(|id| VpcId::parse(id).unwrap());
    world.abroad.insert(abroad.clone());
    world.zones[0].vpcs.extend([more.clone(), abroad.clone()]);
    let text = run(&mut world, &wanted, Keep::Serving);
    assert!(text.ends_with("converged\n") && text.contains(&format!("- ZoneAssociation {} {more}", world.zones[0].id)));
    assert!(world.zones[0].vpcs.contains(&abroad), "its owner associated it");
    // Deleted by hand, with all that is in it.
    world.zones.clear();
    world.other_records.clear();
    let text = run(&mut world, &wanted, Keep::Nothing);
    assert!(text.ends_with("converged\n") && world.serves(), "{text}");
    assert_eq!(world.zones.len(), 1);
}

#[test]
fn a_zone_of_the_same_name_in_a_wanted_vpc_blocks_by_its_id() {
    let wanted = spec(own(NARROW));
    let mut text = String::new();
    for vpc in vpcs(&wanted) {
        let mut world = World::new(&wanted, &[ONE]);
        theirs(&mut world, NARROW, &vpc);
        text.push_str(&run(&mut world, &wanted, Keep::Nothing).lines().last().map(|line| format!("{line}\n")).unwrap());
        assert_eq!((world.zones.len(), world.record.is_none()), (1, true), "nothing is made while it is there");
        world.zones.clear();
        assert!(run(&mut world, &wanted, Keep::Nothing).ends_with("converged\n"));
    }
    // The same name where nobody needs it, and another name, are nobody's business.
    let mut world = World::new(&wanted, &[ONE]);
    theirs(&mut world, NARROW, &VpcId::parse("vpc-0fffffffffffffff1").unwrap());
    theirs(&mut world, "other.example.com", vpcs(&wanted).first().unwrap());
    assert!(run(&mut world, &wanted, Keep::Nothing).ends_with("converged\n"));
    // Ours no longer, once somebody takes our comment off: named, and not touched any more, not even at the end.
    let mut world = settled(&wanted, &[ONE]);
    "mine now".clone_into(&mut world.zones[0].comment);
    text.push_str(&run(&mut world, &wanted, Keep::Serving));
    assert!(run(&mut world, &absent(), Keep::Nothing).ends_with("converged\n"));
    assert_eq!((world.zones.len(), world.other_records.len()), (1, 0), "our record in it goes all the same");
    golden("private-zone-foreign", &text);
}

#[test]
fn the_zone_of_the_same_stack_in_another_region_is_not_ours() {
    let wanted = spec(own(NARROW));
    let mut world = World::new(&wanted, &[ONE]);
    theirs(&mut world, NARROW, vpcs(&wanted).first().unwrap());
    world.zones[0].comment = espalier_domain::tag::zone_comment(&wanted.stack, "eu-west-2");
    let text = run(&mut world, &wanted, Keep::Nothing);
    assert!(text.contains("! Foreign: service.dns.privateZone") && world.zones.len() == 1, "{text}");
    // Nor is it deleted at the end of this one.
    assert!(run(&mut world, &absent(), Keep::Nothing).ends_with("converged\n"));
    assert_eq!(world.zones.len(), 1);
}

#[test]
fn a_zone_that_holds_something_else_stays_until_that_is_gone() {
    let mut world = settled(&spec(own(NARROW)), &[ONE]);
    world.zones[0].theirs = Some("a record www.api-service.example.com (A 10.0.0.1)".into());
    let text = run(&mut world, &absent(), Keep::Nothing);
    assert_eq!((world.zones.len(), world.services.len(), world.networks.len()), (1, 0, 0), "all else is gone\n{text}");
    assert!(text.lines().last().unwrap().contains("www.api-service.example.com"), "{text}");
    assert_eq!(plan(&absent(), &world.look(&absent())).blocks[0].code, BlockCode::Foreign);
    world.zones[0].theirs = None;
    assert!(run(&mut world, &absent(), Keep::Nothing).ends_with("converged\n"));
    assert_eq!(world.leftovers(&absent()), Vec::<String>::new());
}

/// Without the record it would hide the name from the VPC that it cannot leave.
#[test]
fn a_former_zone_that_has_to_stay_keeps_the_record() {
    let (plain, wanted) = (spec(|_| {}), spec(own(NARROW)));
    let mut world = settled(&plain, &[ONE]);
    run(&mut world, &wanted, Keep::Serving);
    world.zones[0].theirs = Some("a record www.api-service.example.com (A 10.0.0.1)".into());
    let text = run(&mut world, &plain, Keep::Serving);
    assert!(text.lines().last().unwrap().starts_with("! Foreign: hosted zone api-service.example.com"), "{text}");
    assert!(vpcs(&plain).iter().all(|vpc| world.resolves_in(vpc)), "{text}");
    world.zones[0].theirs = None;
    assert!(run(&mut world, &plain, Keep::Serving).ends_with("converged\n"));
    assert!(world.zones.is_empty() && vpcs(&plain).iter().all(|vpc| world.resolves_in(vpc)));
}

#[test]
fn from_zone_to_zone_nothing_is_left_wherever_it_was_cut_off() {
    let specs = [spec(|_| {}), spec(own(NARROW)), spec(own(WIDE))];
    let homes = [true, false, false];
    for (from, _) in specs.iter().enumerate() {
        for (to, _) in specs.iter().enumerate().filter(|(to, _)| *to != from) {
            let mut start = settled(&specs[0], &[ONE]);
            run(&mut start, &specs[from], Keep::Serving);
            for calls in 0..12 {
                let mut world = start.clone();
                some(&mut world, &specs[to], calls);
                // On to the third, and back to where it came from.
                for end in [3 - from - to, from] {
                    let mut world = world.clone();
                    let text = run(&mut world, &specs[end], Keep::Serving);
                    assert!(text.ends_with("converged\n"), "{from} {to} {end} after {calls}: {text}");
                    let own = usize::from(!homes[end]);
                    let records = (world.record.is_some(), world.other_records.len(), world.zones.len());
                    assert_eq!(records, (homes[end], own, own), "{from} {to} {end} after {calls}\n{text}");
                }
                run(&mut world, &absent(), Keep::Nothing);
                assert_eq!((&world.record, world.other_records.len(), world.zones.len()), (&None, 0, 0), "{calls}");
            }
        }
    }
}

/// Makes so many calls and no more.
fn some(world: &mut World, spec: &Spec, mut calls: usize) {
    for _ in 0..20 {
        for step in plan(spec, &world.look(spec)).steps {
            if calls == 0 {
                return;
            }
            world.call(&step.action).unwrap();
            calls -= 1;
        }
        world.tick();
    }
}

/// A zone without the record hides the name. Where the zone is made that cannot be helped; everywhere else the name
/// resolves all the while.
#[test]
fn in_further_vpcs_the_name_resolves_all_the_while() {
    let specs = [spec(|_| {}), spec(own(NARROW)), spec(own(WIDE))];
    for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        let (mut world, spec) = (settled(&specs[0], &[ONE]), &specs[to]);
        run(&mut world, &specs[from], Keep::Serving);
        let further: Vec<VpcId> = vpcs(spec).into_iter().skip(1).collect();
        for _ in 0..20 {
            for step in plan(spec, &world.look(spec)).steps {
                world.call(&step.action).unwrap();
                for vpc in &further {
                    assert!(world.resolves_in(vpc), "{from} to {to}: after {} not in {vpc}", step.action);
                }
            }
            world.tick();
        }
        assert!(plan(spec, &world.look(spec)).is_converged());
        assert!(vpcs(spec).iter().all(|vpc| world.resolves_in(vpc)));
    }
}

#[test]
fn of_two_zones_that_two_runs_made_the_one_with_the_record_stays() {
    let wanted = spec(own(NARROW));
    let mut world = settled(&wanted, &[ONE]);
    let second = world.zones[0].vpcs.pop_last().unwrap();
    let mut twin = world.zones[0].clone();
    (twin.id, twin.vpcs) = (HostedZoneId::parse("Z0AAA").unwrap(), [second].into());
    world.zones.insert(0, twin);
    let seen = world.look(&wanted).estate.private_zones;
    assert!(current_zone(&wanted, &seen).unwrap().record.is_some());
    assert!(run(&mut world, &wanted, Keep::Serving).ends_with("converged\n"));
    assert_eq!((world.zones.len(), &world.zones[0].vpcs), (1, &vpcs(&wanted)));
    assert_ne!(world.zones[0].id.as_str(), "Z0AAA");
}

#[test]
fn a_zone_that_is_named_by_its_id_instead_stays() {
    let mut world = settled(&spec(own(NARROW)), &[ONE]);
    let id = world.zones[0].id.clone();
    let by_id = spec(|it| it["service"]["dns"] = json!({"hostedZoneId": id.as_str()}));
    for comment in ["espalier:api-service in eu-west-1", "ours to keep"] {
        comment.clone_into(&mut world.zones[0].comment);
        assert!(run(&mut world, &by_id, Keep::Serving).ends_with("converged\n"));
        assert!(
            world.zones.len() == 1
                && world.record_in(&id).is_some()
                && plan(&by_id, &world.look(&by_id)).is_converged()
        );
    }
    run(&mut world, &absent(), Keep::Nothing);
    assert!(world.zones.len() == 1 && world.record_in(&id).is_none(), "with another comment it is not the stack's");
}

#[test]
fn the_last_vpc_is_never_taken_away() {
    // Nobody of the former consumers stays.
    let only = |vpc: &str| {
        let consumer = json!([{"vpcId": vpc, "securityGroupIds": ["sg-0a1b2c3d4e5f6071f"]}]);
        spec(|it| {
            own(NARROW)(it);
            it["network"]["consumers"] = consumer;
        })
    };
    let (first, second) = (only("vpc-0aaaaaaaaaaaaaaa1"), only("vpc-0aaaaaaaaaaaaaaa2"));
    let mut world = settled(&first, &[ONE]);
    world.estate.vpcs.extend(World::new(&second, &[ONE]).estate.vpcs);
    world.estate.groups.extend(crate::world::groups(&second));
    world.estate.groups.retain(|group| group.vpc_id.as_ref() != Some(&first.network.consumers[0].vpc_id));
    let text = run(&mut world, &second, Keep::Nothing);
    assert!(text.ends_with("converged\n"), "{text}");
    assert_eq!(world.zones[0].vpcs, vpcs(&second));
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word} in {text}"));
    assert!(at("+ ZoneAssociation") < at("- ZoneAssociation"), "{text}");
}

#[test]
fn under_a_settled_spec_that_wants_none_nobody_looks_for_zones() {
    let plain = spec(|_| {});
    let mut world = settled(&plain, &[ONE]);
    let id = HostedZoneId::parse("ZOWN1").unwrap();
    let comment = espalier_domain::tag::zone_comment(&plain.stack, REGION);
    world.zones.push(Zone { id, name: NARROW.into(), comment, vpcs: vpcs(&plain), theirs: None });
    assert!(world.look(&plain).estate.private_zones.is_empty());
    // It is found with the next change, and at the end.
    let changed = spec(|it| it["service"]["idleTimeoutSeconds"] = json!(300));
    let is_zone = |action: &Action| matches!(action, Action::DeletePrivateZone { .. });
    assert!(plan(&changed, &world.look(&changed)).steps.iter().any(|step| !is_zone(&step.action)));
    run(&mut world, &changed, Keep::Serving);
    assert!(world.zones.is_empty());
}
