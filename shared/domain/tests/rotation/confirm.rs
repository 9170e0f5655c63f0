//! The canary goes back by itself unless it is told that the new leaf was seen; and what becomes of the others when a
//! rollout is halted.

use espalier_domain::id::Generation;
use espalier_domain::plan::{BlockCode, Plan};
use espalier_domain::rotation::phase::{Phase, phase};
use espalier_domain::rotation::policy::Wave;
use espalier_domain::rotation::rollout::Rollout;
use espalier_domain::spec::Confirm;
use espalier_domain::work::{DeliverItem, DeliveryAction, WorkItem};
use time::Duration;

use crate::golden::{converge, keep};
use crate::world::{Ill, START, World, acm, instance};

/// A fleet that serves generation 1, whose canary is to be confirmed; ACM renews.
fn renewed(hosts: u32, confirm: Confirm) -> World {
    let mut world = World::new(hosts);
    world.policy.confirm = confirm;
    converge(&mut world);
    assert!(world.attempts.values().all(|attempt| attempt.action == DeliveryAction::Install), "nothing to go back to");
    world.note("ACM renews");
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    world
}

fn deliveries(plan: &Plan<WorkItem>, action: DeliveryAction) -> Vec<&DeliverItem> {
    let items = plan.steps.iter().filter_map(|step| match &step.action {
        WorkItem::Deliver(item) if item.action == action => Some(item),
        WorkItem::Deliver(_)
        | WorkItem::Authority(_)
        | WorkItem::Mint(_)
        | WorkItem::Export(_)
        | WorkItem::Verify(_)
        | WorkItem::Membership(_) => None,
    });
    items.collect()
}

/// Passes until a delivery of this kind is planned.
fn until(world: &mut World, action: DeliveryAction) -> DeliverItem {
    for _ in 0..200 {
        let plan = world.look();
        if let Some(item) = deliveries(&plan, action).first() {
            return (*item).clone();
        }
        world.pass();
    }
    panic!("no {action:?} is planned:\n{}", world.trace);
}

#[test]
fn the_canary_is_confirmed_when_it_was_seen_and_others_are_not_asked() {
    let mut world = renewed(3, Confirm::Canary);
    converge(&mut world);
    keep("confirmed-canary", &world);
    let confirmed: Vec<_> =
        world.attempts.values().filter(|attempt| attempt.action == DeliveryAction::Confirm).collect();
    assert_eq!(confirmed.len(), 1);
    assert_eq!((confirmed[0].target.clone(), confirmed[0].generation), (instance(1), Generation(2)));
}

#[test]
fn everybody_is_confirmed_where_everybody_is_to_be() {
    let mut world = renewed(3, Confirm::All);
    converge(&mut world);
    let confirmed = world.attempts.values().filter(|attempt| attempt.action == DeliveryAction::Confirm).count();
    assert_eq!(confirmed, 3);
}

#[test]
fn a_host_that_went_back_by_itself_is_heard_blamed_for_nothing_and_given_it_again() {
    let mut world = renewed(3, Confirm::Canary);
    until(&mut world, DeliveryAction::Confirm);
    world.note("the control plane is gone for an hour; i-00000001 goes back by itself");
    world.host(1).serves = Some(Generation(1));
    world.now += Duration::hours(1);
    converge(&mut world);
    keep("unconfirmed-canary", &world);
    assert_eq!(world.generations.len(), 2, "the leaf is not to blame");
    let said: Vec<_> = world.attempts.values().filter_map(|attempt| attempt.ended.as_ref()).collect();
    assert!(said.iter().any(|end| end.code == "unconfirmed"), "{said:?}");
}

/// The wire may say it first.
/// Found by the model: the sighting of before it went back counted again, because the last delivery had come to nothing.
#[test]
fn a_command_that_was_never_sent_takes_back_nothing_of_what_the_host_said() {
    let mut world = renewed(2, Confirm::Canary);
    until(&mut world, DeliveryAction::Confirm);
    world.host(1).serves = Some(Generation(1));
    let again = until(&mut world, DeliveryAction::Install);
    assert!(world.attempts.values().any(|attempt| attempt.ended.as_ref().is_some_and(|end| end.code == "unconfirmed")));
    world.begin(&again);
    world.note("distribute died before it sent anything");
    world.now += Duration::minutes(30);
    let evidence = world.evidence();
    let canary = evidence.targets.iter().find(|target| target.target == instance(1)).unwrap();
    let found = phase(&Rollout::of(&evidence), canary);
    assert!(matches!(found, Phase::Issued { .. }), "{found:?}");
    converge(&mut world);
}

#[test]
fn a_host_that_is_seen_to_have_gone_back_is_given_it_again() {
    let mut world = renewed(2, Confirm::Canary);
    until(&mut world, DeliveryAction::Confirm);
    world.host(1).serves = Some(Generation(1));
    world.host(1).online = false;
    world.now += Duration::hours(1);
    world.run();
    world.host(1).online = true;
    world.look_since = Some(world.now);
    converge(&mut world);
    assert_eq!(world.generations.len(), 2);
}

#[test]
fn a_confirmation_that_was_not_delivered_is_sent_again_and_nobody_else_is_touched_meanwhile() {
    let mut world = renewed(3, Confirm::Canary);
    until(&mut world, DeliveryAction::Confirm);
    world.host(1).ill = Ill::AlwaysBusy;
    for _ in 0..8 {
        world.pass();
        let evidence = world.evidence();
        let rollout = Rollout::of(&evidence);
        let canary = phase(&rollout, &evidence.targets[0]);
        assert!(matches!(canary, Phase::Unconfirmed { .. } | Phase::Delivering { .. }), "{canary:?}");
        assert_eq!(deliveries(&world.look(), DeliveryAction::Install), Vec::<&DeliverItem>::new());
    }
    world.host(1).ill = Ill::Well;
    world.now += Duration::minutes(10);
    converge(&mut world);
}

/// A renewal, a freeze or a halt in between keeps nobody waiting for a confirmation.
#[test]
fn what_was_seen_is_confirmed_although_a_newer_leaf_is_due() {
    let mut world = renewed(2, Confirm::Canary);
    until(&mut world, DeliveryAction::Confirm);
    world.acm = Some(acm("0c:03", START + Duration::days(198)));
    let plan = world.look();
    assert_eq!(deliveries(&plan, DeliveryAction::Confirm).len(), 1, "{plan:?}");
    assert!(plan.steps.iter().any(|step| matches!(step.action, WorkItem::Mint(_))), "{plan:?}");
    converge(&mut world);
    assert_eq!(world.generations.len(), 3);
}

#[test]
fn nothing_is_to_be_confirmed_where_going_back_would_be_a_step_down() {
    let armed = |change: fn(&mut World)| {
        let mut world = renewed(2, Confirm::All);
        change(&mut world);
        until(&mut world, DeliveryAction::Install).confirm_s
    };
    assert_eq!(armed(|_| {}), 1_800);
    assert_eq!(armed(|world| world.policy.confirm = Confirm::Never), 0);
    // 168 hours of life, a margin of 28 and half an hour to wait.
    assert_eq!(armed(|world| world.now = START + Duration::hours(139)), 1_800);
    assert_eq!(armed(|world| world.now = START + Duration::hours(140)), 0);
    assert_eq!(armed(|world| world.generations[0].authority = "retired".to_owned()), 0);
}

/// The rollout that is halted is the one that was to renew what the others serve: from the safety margin on it goes on
/// for them, one at a time.
#[test]
fn a_renewal_by_age_that_its_canary_halts_lets_nobodys_leaf_run_out() {
    for ill in [Ill::CannotFetch, Ill::RevertsAll, Ill::Hidden, Ill::Lies] {
        let mut world = World::new(3);
        converge(&mut world);
        world.now = START + Duration::hours(111);
        world.host(1).ill = ill;
        for _ in 0..20 * 24 {
            world.now += Duration::hours(1);
            world.run();
            for n in [2, 3] {
                let served = world.hosts[&instance(n)].serves;
                let leaf = world.generations.iter().find(|record| Some(record.generation) == served).unwrap();
                assert!(leaf.not_after > world.now, "{ill:?}: {} serves {served:?}\n{}", instance(n), world.trace);
            }
        }
        world.host(1).ill = Ill::Well;
        world.now += Duration::hours(6);
        converge(&mut world);
    }
}

/// What was proven on a target and is gone is put back: that is nothing new.
#[test]
fn a_halted_rollout_puts_back_what_was_proven() {
    let mut world = World::new(3);
    world.policy.wave = Wave::Targets(1);
    converge(&mut world);
    world.host(2).ill = Ill::CannotFetch;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    let end = world.run();
    assert!(end.blocks.iter().any(|block| block.code == BlockCode::Halted), "{end:?}");
    assert_eq!(world.hosts[&instance(1)].serves, Some(Generation(2)));
    world.host(1).serves = Some(Generation(1));
    world.now += Duration::minutes(1);
    world.look_since = Some(world.now);
    world.run();
    assert_eq!(world.hosts[&instance(1)].serves, Some(Generation(2)), "{}", world.trace);
}
