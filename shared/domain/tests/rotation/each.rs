//! Stacks in which each target has a leaf of its own: one number, one record of dates, one rollout for all, and as many keys
//! as targets.

use std::collections::BTreeSet;

use espalier_domain::id::{Generation, Scope, TargetId};
use espalier_domain::record::SightingRecord;
use espalier_domain::rotation::calendar::{Calendar, Freeze};
use espalier_domain::rotation::policy::Wave;
use espalier_domain::rotation::slack::Assumed;
use espalier_domain::rotation::status::status;
use espalier_domain::spec::{Confirm, Custody};
use espalier_domain::verdict::Fault;
use espalier_domain::work::{DeliverItem, DeliveryAction, MintItem, VerifyItem, WorkItem};
use time::Duration;

use crate::world::{START, World, instance};

fn world(hosts: u32) -> World {
    let mut world = World::new(hosts);
    world.policy.scope = Scope::target();
    world
}

/// What the next look plans.
fn next(world: &mut World) -> Vec<WorkItem> {
    world.look().steps.into_iter().map(|step| step.action).collect()
}

fn mints(items: &[WorkItem]) -> Vec<&MintItem> {
    items.iter().filter_map(|item| if let WorkItem::Mint(mint) = item { Some(mint) } else { None }).collect()
}

fn delivers(items: &[WorkItem]) -> Vec<&DeliverItem> {
    items.iter().filter_map(|item| if let WorkItem::Deliver(deliver) = item { Some(deliver) } else { None }).collect()
}

fn fingerprints(world: &World, generation: Generation) -> BTreeSet<String> {
    world.hosts.keys().map(|id| world.leaf_on(id, generation)).collect()
}

fn newest(world: &World) -> Generation {
    world.generations.last().unwrap().generation
}

#[test]
fn a_rotation_mints_for_those_whose_turn_it_is_and_gives_each_its_own() {
    let mut world = world(4);
    assert!(world.run().is_converged());
    world.note("ACM renews");
    world.acm = Some(crate::world::acm("0a:02", START + Duration::days(396)));
    assert!(world.run().is_converged());
    assert_eq!(world.generations.len(), 2);
    let told = status(&world.evidence(), &Assumed::default()).leaf.unwrap();
    assert!(told.each && told.serial.is_empty(), "{told:?}");
    for generation in [Generation(1), Generation(2)] {
        assert_eq!(fingerprints(&world, generation).len(), 4, "no key is anybody else's");
    }
    crate::golden::keep("each-target", &world);
}

#[test]
fn no_key_is_made_before_the_canary_is_proven_but_the_canarys() {
    let mut world = world(5);
    world.pass();
    assert_eq!((world.generations.len(), world.leaves.len()), (1, 0), "first what they have in common");
    for _ in 0..50 {
        let proven = world.sightings.values().filter(|seen| seen.verdict.is_good()).count();
        assert!(proven >= 1 || world.leaves.len() <= 1, "{}", world.trace);
        world.pass();
    }
    assert_eq!(world.leaves.len(), 5);
}

#[test]
fn who_joins_later_is_given_its_own_leaf_of_the_newest_generation() {
    let mut world = world(2);
    assert!(world.run().is_converged());
    let like = world.hosts[&instance(1)].clone();
    world.hosts.insert(instance(9), crate::world::Host { serves: None, ..like });
    world.now += Duration::hours(3);
    let items = next(&mut world);
    let [only] = mints(&items)[..] else { panic!("{items:?}") };
    assert_eq!((only.generation, only.scope.clone()), (Generation(1), Scope::target()));
    assert_eq!(only.nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>(), [instance(9).as_str()]);
    assert!(world.run().is_converged());
    assert_eq!((newest(&world), fingerprints(&world, Generation(1)).len()), (Generation(1), 3));
}

/// The calendar keeps a renewal waiting, and what is due for replacement is given no further leaf: whoever has nothing to serve
/// does not wait for that.
#[test]
fn who_joins_in_a_freeze_is_given_the_next_generation_and_nobody_else_is() {
    let mut world = world(2);
    assert!(world.run().is_converged());
    let (from, to) = (world.now, world.now + Duration::hours(20));
    world.policy.calendar = Calendar { windows: Vec::new(), freezes: vec![Freeze { from, to }] };
    world.acm = Some(crate::world::acm("0a:02", START + Duration::days(396)));
    assert!(next(&mut world).is_empty(), "everybody is well and waits");
    let like = world.hosts[&instance(1)].clone();
    world.hosts.insert(instance(9), crate::world::Host { serves: None, ..like });
    for _ in 0..60 {
        world.pass();
        if world.sightings.get(&instance(9)).is_some_and(|seen| seen.verdict.is_good()) {
            break;
        }
    }
    assert_eq!(world.hosts[&instance(9)].serves, Some(Generation(2)), "{}", world.trace);
    assert!(world.now < to);
    assert_eq!(world.hosts[&instance(1)].serves, Some(Generation(1)), "the others are patient");
    world.now = to;
    assert!(world.run().is_converged());
    assert_eq!(world.hosts[&instance(1)].serves, Some(Generation(2)));
}

#[test]
fn another_targets_leaf_of_the_same_generation_is_another_certificate_and_is_put_right() {
    let mut world = world(3);
    assert!(world.run().is_converged());
    world.host(2).borrows = Some(instance(3));
    world.look_since = Some(world.now);
    world.now += Duration::seconds(1);
    world.pass();
    assert_eq!(world.sightings[&instance(2)].verdict.faults, [Fault::OtherCertificate]);
    assert!(world.run().is_converged());
    assert_eq!(world.hosts[&instance(2)].borrows, None);
    assert_eq!(world.generations.len(), 1, "nothing new is minted for it");
    assert!(world.sightings[&instance(2)].verdict.is_good());
}

#[test]
fn one_for_all_becomes_one_for_each_and_back_by_a_new_generation() {
    let mut world = World::new(3);
    assert!(world.run().is_converged());
    for (scope, because) in [
        (Scope::target(), "leaf generation 1 is one for all targets; the spec now asks for one for each"),
        (Scope::shared(), "leaf generation 2 is one for each target; the spec now asks for one for all"),
    ] {
        world.policy.scope = scope.clone();
        let items = next(&mut world);
        let [only] = mints(&items)[..] else { panic!("{items:?}") };
        assert_eq!((only.because.as_str(), &only.scope, only.nodes.len()), (because, &scope, 0));
        assert!(world.run().is_converged());
        let expected = if scope.is_each() { 3 } else { 1 };
        assert_eq!(fingerprints(&world, newest(&world)).len(), expected);
    }
    assert_eq!(newest(&world), Generation(3), "one sequence of numbers, whoever shares the leaf");
}

#[test]
fn a_confirmation_is_of_the_scope_that_was_delivered() {
    let mut world = World::new(2);
    world.policy.confirm = Confirm::All;
    assert!(world.run().is_converged());
    world.acm = Some(crate::world::acm("0a:02", START + Duration::days(396)));
    for _ in 0..60 {
        world.pass();
        let is_second = |seen: &SightingRecord| seen.generation == Generation(2) && seen.verdict.is_good();
        if world.sightings.values().any(is_second) {
            break;
        }
    }
    world.policy.scope = Scope::target();
    for item in mints(&next(&mut world)) {
        world.mint(item);
    }
    assert_eq!(newest(&world), Generation(3));
    let items = next(&mut world);
    let confirms = delivers(&items).into_iter().filter(|item| item.action == DeliveryAction::Confirm);
    let of: Vec<_> = confirms.map(|item| (item.generation, item.scope.clone())).collect();
    assert_eq!(of, [(Generation(2), Scope::shared())], "{}", world.trace);
}

#[test]
fn a_page_of_keys_is_made_at_a_time_and_the_probe_of_a_large_fleet_names_no_fingerprint() {
    let mut world = world(130);
    (world.policy.canary, world.policy.wave) = (0, Wave::Percent(100));
    let (mut asked, mut probed) = (0, 0);
    for _ in 0..2_000 {
        for mint in mints(&next(&mut world)) {
            assert!(mint.nodes.len() <= 50 && mint.nodes.is_sorted());
            asked += mint.nodes.len();
        }
        for deliver in delivers(&next(&mut world)) {
            assert!(deliver.targets.len() <= 50);
        }
        for verify in verifies(&next(&mut world)) {
            let through = verify.through.iter();
            probed += through.clone().count();
            assert_eq!(through.flat_map(|through| &through.fingerprints).count(), 0);
        }
        if !world.pass() {
            break;
        }
    }
    assert!(world.look().is_converged() && probed > 0);
    assert_eq!((asked, fingerprints(&world, Generation(1)).len()), (130, 130), "each key is made once");
}

fn verifies(items: &[WorkItem]) -> Vec<&VerifyItem> {
    items.iter().filter_map(|item| if let WorkItem::Verify(verify) = item { Some(verify) } else { None }).collect()
}

#[test]
fn every_target_is_compared_with_its_own_leaf() {
    let mut world = world(3);
    assert!(world.run().is_converged());
    world.look_since = Some(world.now);
    world.now += Duration::seconds(1);
    let items = next(&mut world);
    let dialled: Vec<(TargetId, String)> = verifies(&items)
        .iter()
        .flat_map(|item| item.targets.iter().map(|one| (one.target.clone(), one.fingerprint.clone())))
        .collect();
    let own: Vec<_> = world.hosts.keys().map(|id| (id.clone(), world.leaf_on(id, Generation(1)))).collect();
    assert_eq!(dialled, own);
    let through = verifies(&items).into_iter().find_map(|item| item.through.clone()).unwrap();
    assert_eq!(through.fingerprints.into_iter().collect::<BTreeSet<_>>(), fingerprints(&world, Generation(1)));
}

/// First what the leaves have in common, then the key on the host, then its certificate, then the delivery: of the canary, then of
/// each wave.
#[test]
fn a_target_that_makes_its_key_is_told_to_before_its_leaf_is_made() {
    let mut world = world(4);
    world.policy.custody = Custody::Target;
    assert!(world.run().is_converged());
    assert_eq!(world.generations[0].custody, Custody::Target);
    let of = |world: &World, id| {
        let attempts = world.attempts.values().filter(move |attempt| attempt.target == id);
        attempts.map(|attempt| (attempt.attempt, attempt.action)).collect::<Vec<_>>()
    };
    let canary = [(1, DeliveryAction::Prepare), (2, DeliveryAction::Install)];
    assert_eq!(of(&world, instance(1)), canary);
    assert_eq!(of(&world, instance(4)), canary);
    assert_eq!(fingerprints(&world, Generation(1)).len(), 4);
    world.note("the spec asks for keys from the control plane");
    world.policy.custody = Custody::ParameterStore;
    assert!(world.run().is_converged());
    let [(1, DeliveryAction::Prepare), (2, DeliveryAction::Install), rest @ ..] = &of(&world, instance(1))[..] else {
        panic!("{}", world.trace)
    };
    assert!(!rest.iter().any(|(_, action)| *action == DeliveryAction::Prepare), "{rest:?}");
    crate::golden::keep("target-keys", &world);
}

/// A host whose keys cannot be made fails as one whose installation does: the others wait for it, and no longer than that.
#[test]
fn a_canary_that_makes_no_key_is_tried_again_and_then_halts_the_rollout() {
    let mut world = world(3);
    world.policy.custody = Custody::Target;
    (world.policy.canary, world.policy.failure_budget) = (1, 0);
    world.host(1).ill = crate::world::Ill::NotInHostConf;
    for _ in 0..40 {
        world.pass();
    }
    let made: BTreeSet<_> = world.leaves.iter().map(|leaf| leaf.scope.to_string()).collect();
    assert!(
        !made.contains(instance(1).as_str()) && made.len() == 2,
        "{made:?}: who is not opted in keeps nobody waiting"
    );
}
