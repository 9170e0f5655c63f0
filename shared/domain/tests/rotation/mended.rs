//! A target that used up its attempts is left alone for hours, unless somebody asks for a fresh look.

use espalier_domain::plan::BlockCode;
use time::Duration;

use crate::golden::converge;
use crate::world::{Ill, START, World, acm, instance};

/// The canary's server refuses, three times.
fn halted() -> World {
    let mut world = World::new(3);
    converge(&mut world);
    world.host(1).ill = Ill::RevertsAll;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    let end = world.run();
    assert!(end.blocks.iter().any(|block| block.code == BlockCode::Halted), "{end:?}");
    world
}

#[test]
fn whoever_mended_it_and_says_so_is_not_kept_waiting() {
    let mut world = halted();
    world.host(1).ill = Ill::Well;
    world.now += Duration::minutes(1);
    assert!(world.run().steps.is_empty(), "nobody has said so");
    world.look_since = Some(world.now);
    converge(&mut world);
}

#[test]
fn whoever_asks_in_vain_gets_one_attempt_for_it() {
    let mut world = halted();
    let known = world.attempts.len();
    world.now += Duration::minutes(1);
    world.look_since = Some(world.now);
    let end = world.run();
    assert!(end.steps.is_empty() && end.blocks.iter().any(|block| block.code == BlockCode::Halted), "{end:?}");
    assert_eq!(world.attempts.len(), known + 1);
    assert!(world.attempts.keys().all(|(target, generation, _)| generation.0 == 1 || *target == instance(1)));
}
