//! Servers that were broken before anything was delivered.

use espalier_domain::id::Generation;
use espalier_domain::plan::BlockCode;
use time::Duration;

use crate::golden::{converge, keep};
use crate::world::{Ill, World};

/// Somebody broke the server of what would be the canary, and of one in a wave: both are told by name, another is the canary, nothing
/// counts as a failure, no leaf is replaced; mended, they are given the same generation.
#[test]
fn a_server_that_was_broken_before_is_told_and_counts_against_nobody() {
    let mut world = World::new(5);
    (world.host(1).ill, world.host(4).ill) = (Ill::ServerBroken, Ill::ServerBroken);
    for round in 0..6 {
        let end = world.run();
        let told: Vec<_> = end.blocks.iter().map(|block| (block.code, block.because.as_str())).collect();
        let because = "i-00000001, i-00000004: serverBroken; mend the server, then ask for a fresh look";
        assert_eq!(told, [(BlockCode::ServerBroken, because)], "round {round}");
        world.now += Duration::minutes(31);
    }
    let served: Vec<_> = (1..=5).map(|n| world.host(n).serves.map(|generation| generation.0)).collect();
    assert_eq!(served, [None, Some(1), Some(1), None, Some(1)], "{}", world.trace);
    world.note("their owners mend them, and ask for a fresh look at once");
    world.run();
    (world.host(1).ill, world.host(4).ill) = (Ill::Well, Ill::Well);
    world.now += Duration::minutes(1);
    world.look_since = Some(world.now);
    converge(&mut world);
    assert!((1..=5).all(|n| world.host(n).serves == Some(Generation(1))), "{}", world.trace);
    keep("server-broken", &world);
}
