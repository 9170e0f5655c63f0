//! Targets by address: with a node they are installed on like any other, without one they are looked at and told.

use espalier_domain::id::{Generation, NodeId, TargetId};
use espalier_domain::plan::BlockCode;
use espalier_domain::rotation::evidence::TargetEvidence;
use espalier_domain::rotation::slack::{Assumed, slack};
use espalier_domain::rotation::status::status;
use espalier_domain::work::WorkItem;
use time::Duration;

use crate::golden::{converge, keep};
use crate::world::{Host, Ill, World};

fn at(address: &str) -> TargetId {
    TargetId::parse(address).unwrap()
}

/// Two instances, and something at an address that is nobody's node.
fn world() -> (World, TargetId) {
    let (mut world, other) = (World::new(2), at("10.0.1.6"));
    let host = Host { serves: None, ill: Ill::Well, online: true, opted_in: false, wanted: true, borrows: None };
    world.hosts.insert(other.clone(), host);
    (world, other)
}

fn codes(world: &mut World) -> Vec<BlockCode> {
    world.look().blocks.iter().map(|block| block.code).collect()
}

#[test]
fn what_others_install_on_is_looked_at_told_and_left_alone() {
    let (mut world, other) = world();
    world.note("nobody has installed anything at 10.0.1.6");
    world.run();
    assert_eq!(codes(&mut world), [BlockCode::Differs]);
    world.note("its owner installs the leaf");
    world.hosts.get_mut(&other).unwrap().serves = Some(Generation(1));
    world.now += Duration::minutes(15);
    assert!(world.run().is_converged());
    world.now += Duration::hours(112);
    world.note("a renewal; its owner waits");
    assert!(world.run().is_converged(), "clients accept what it serves: {}", world.trace);
    assert_eq!(world.generations.len(), 2);
    assert_eq!(world.hosts[&other].serves, Some(Generation(1)), "nobody installed there");
    world.now += Duration::hours(29);
    world.note("the safety margin before its end has begun");
    world.run();
    assert_eq!(codes(&mut world), [BlockCode::Differs]);
    world.now += Duration::hours(28);
    world.note("it has ended");
    world.run();
    world.now += Duration::minutes(15);
    world.run();
    // Nobody drains it here, so that the way through the service shows it, too.
    assert_eq!(codes(&mut world), [BlockCode::Unverifiable, BlockCode::Differs]);
    world.hosts.get_mut(&other).unwrap().serves = Some(Generation(2));
    world.now += Duration::minutes(15);
    world.note("its owner installs the newer one");
    assert!(world.run().is_converged());
    world.now += Duration::seconds(1);
    assert!(world.look().is_converged(), "planning again plans something");
    keep("observed", &world);
}

#[test]
fn an_address_with_a_node_is_given_the_leaf_by_its_node() {
    let mut world = World::new(0);
    let host = Host { serves: None, ill: Ill::Well, online: true, opted_in: true, wanted: true, borrows: None };
    for (address, node) in [("10.0.1.5", "mi-0a1b2c3d4e5f60711"), ("10.0.1.6", "i-0a1b2c3d4e5f60712")] {
        world.hosts.insert(at(address), host.clone());
        world.nodes.insert(at(address), NodeId::parse(node).unwrap());
    }
    // An agent behind a translated address reports another one: what is dialled is what is registered.
    let evidence = world.evidence();
    let is_dialled_there =
        |target: &TargetEvidence| target.endpoint(443) == format!("{}:443", target.target).parse().ok();
    assert!(evidence.targets.iter().all(is_dialled_there));
    converge(&mut world);
    assert_eq!(world.generations.len(), 1);
    keep("addresses", &world);
}

#[test]
fn a_node_is_asked_for_consent_and_reached_like_an_instance() {
    let mut world = World::new(0);
    let host = Host { serves: None, ill: Ill::Well, online: false, opted_in: true, wanted: true, borrows: None };
    world.hosts.insert(at("10.0.1.5"), host.clone());
    world.hosts.insert(at("10.0.1.6"), Host { online: true, opted_in: false, ..host });
    for (address, node) in [("10.0.1.5", "mi-0a1b2c3d4e5f60711"), ("10.0.1.6", "mi-0a1b2c3d4e5f60712")] {
        world.nodes.insert(at(address), NodeId::parse(node).unwrap());
    }
    world.run();
    let mut found = codes(&mut world);
    found.sort();
    assert_eq!(found, [BlockCode::NotOptedIn, BlockCode::Unmanaged]);
}

#[test]
fn what_others_install_on_is_no_canary_and_makes_nobody_mint() {
    let (mut world, other) = world();
    world.policy.canary = 2;
    world.hosts.get_mut(&other).unwrap().serves = None;
    world.run();
    let before = world.generations.len();
    world.hosts.get_mut(&other).unwrap().serves = Some(Generation(1));
    world.now += Duration::hours(1);
    assert!(world.run().is_converged());
    // A server that refuses every leaf: the rollout is halted, and the other's leaf comes to its end.
    world.host(1).ill = Ill::RevertsAll;
    world.host(2).serves = Some(Generation(1));
    world.now += Duration::hours(113);
    world.run();
    let minted = world.generations.len() - before;
    assert!(minted < 10, "{minted} leaves for somebody on whom none is installed: {}", world.trace);
    assert_eq!(world.hosts[&other].serves, Some(Generation(1)));
}

#[test]
fn a_probe_through_the_service_accepts_what_others_installed() {
    let (mut world, other) = world();
    world.run();
    world.hosts.get_mut(&other).unwrap().serves = Some(Generation(1));
    world.now += Duration::minutes(15);
    assert!(world.run().is_converged());
    world.now += Duration::hours(112);
    world.run();
    let through = world.through.clone().unwrap();
    assert!(through.is_good(), "{through:?}\n{}", world.trace);
    world.through = None;
    let probe = world.look().steps.into_iter().find_map(|step| match step.action {
        WorkItem::Verify(item) => item.through,
        _ => None,
    });
    let accepted = probe.unwrap().fingerprints;
    assert_eq!(accepted, [1, 2].map(|n| format!("{n:064x}")), "the newest, and the older one that is served there");
}

#[test]
fn its_slack_is_what_is_left_of_what_it_serves() {
    let (mut world, other) = world();
    world.run();
    let of = |world: &World| {
        let all = slack(&world.evidence(), &Assumed::default());
        all.into_iter().find(|one| one.target == other).unwrap().slack_s
    };
    assert_eq!(of(&world), None, "nothing that clients accept");
    world.hosts.get_mut(&other).unwrap().serves = Some(Generation(1));
    world.now += Duration::minutes(15);
    world.run();
    let ends_at = world.generations[0].not_after;
    assert_eq!(of(&world), Some((ends_at - world.now).whole_seconds()));
    world.now += Duration::hours(112);
    world.run();
    assert_eq!(of(&world), Some((ends_at - world.now).whole_seconds()), "an older leaf is as good while it lasts");
    let told = status(&world.evidence(), &Assumed::default());
    let told = told.targets.into_iter().find(|one| one.target == other).unwrap();
    assert_eq!(
        (told.phase.as_str(), told.because.as_deref()),
        ("observed", Some("its owner installs the certificate"))
    );
}
