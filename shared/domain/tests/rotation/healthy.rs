//! How many targets stay well and untouched while others are changed.

use espalier_domain::id::Generation;
use espalier_domain::rotation::policy::Wave;
use espalier_domain::work::{DeliveryAction, WorkItem};
use time::Duration;

use crate::world::{START, World};

/// Ten targets that serve the first generation, and eight of ten have to be well.
fn fleet() -> World {
    let mut world = World::new(10);
    (world.policy.wave, world.policy.minimum_healthy_percent) = (Wave::Targets(10), Some(80));
    assert!(world.run().is_converged(), "nobody is well before the first leaf, and nobody waits for that");
    world
}

fn serving(world: &World, generation: u32) -> usize {
    world.hosts.values().filter(|host| host.serves == Some(Generation(generation))).count()
}

#[test]
fn no_more_are_changed_at_once_than_can_be_spared() {
    let mut world = fleet();
    world.now += Duration::hours(113);
    let mut most = 0;
    while serving(&world, 2) < 10 {
        let installs = world.look().steps.into_iter().filter_map(|step| match step.action {
            WorkItem::Deliver(item) if item.action == DeliveryAction::Install => Some(item.targets.len()),
            _ => None,
        });
        most = most.max(installs.sum());
        assert!(world.pass(), "it ends before everybody has it:\n{}", world.trace);
    }
    assert_eq!(most, 2, "{}", world.trace);
    assert!(world.run().is_converged());
}

#[test]
fn where_too_few_are_well_nothing_well_is_touched_before_the_margin() {
    let mut world = fleet();
    for n in 1..=3 {
        let host = world.host(n);
        (host.serves, host.online) = (None, false);
    }
    run_until(&mut world, 130);
    assert_eq!(serving(&world, 2), 0, "{}", world.trace);
    let waits = world.look().waits;
    assert!(waits.iter().any(|wait| wait.on.contains("7 of 10 are, and 8 have to be")), "{waits:?}");
    // One comes back: it is repaired at once, though fewer are well than should be.
    world.host(1).online = true;
    world.look_since = Some(world.now);
    run_until(&mut world, 135);
    let served: Vec<_> = world.hosts.values().take(4).map(|host| host.serves).collect();
    assert_eq!(served, [Some(Generation(2)), None, None, Some(Generation(1))], "{}", world.trace);
    // What is served comes to its end, and that counts for more.
    run_until(&mut world, 141);
    assert_eq!(serving(&world, 2), 8, "{}", world.trace);
}

/// Until so many hours after the beginning: a leaf is due after 112, and its margin begins after 140.
fn run_until(world: &mut World, hours: i64) {
    world.now = world.now.max(START + Duration::hours(113));
    while world.now < START + Duration::hours(hours) {
        if !world.pass() {
            world.now += Duration::minutes(15);
        }
    }
}

#[test]
fn a_well_fleet_of_any_size_is_renewed_whatever_is_asked() {
    for hosts in 1..=4 {
        for percent in [1, 50, 99] {
            let mut world = World::new(hosts);
            world.policy.minimum_healthy_percent = Some(percent);
            world.run();
            world.now += Duration::hours(113);
            assert!(world.run().is_converged(), "{hosts} hosts, {percent} %:\n{}", world.trace);
            assert_eq!(serving(&world, 2), world.hosts.len());
            assert!(world.now < START + Duration::hours(114), "at once, not when the margin begins");
        }
    }
}
