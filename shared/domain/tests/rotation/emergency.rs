//! Emergencies: what somebody declared unsafe is replaced now, whatever the calendar says, and no less carefully.

use espalier_domain::id::{Caller, Generation, Reason};
use espalier_domain::plan::{BlockCode, Plan};
use espalier_domain::record::{EmergencyRecord, Turn, TurnRecord};
use espalier_domain::rotation::calendar::Freeze;
use espalier_domain::rotation::emergency::{Declaration, Ruling, is_under_way, rule, told};
use espalier_domain::rotation::policy::Wave;
use espalier_domain::spec::Confirm;
use espalier_domain::work::{DeliverItem, DeliveryAction, WorkItem};
use time::Duration;

use crate::golden::{converge, keep};
use crate::world::{Ill, START, World, acm, authority, instance};

const CALLER: &str = "arn:aws:sts::123456789012:assumed-role/ops/jane";

fn declaration(through: Option<u32>, request: &str) -> Declaration {
    Declaration {
        through: through.map(Generation),
        caller: Caller::parse(CALLER).unwrap(),
        reason: Reason::parse("the key was in a public repository").unwrap(),
        request: request.into(),
    }
}

fn ruled(world: &World, through: Option<u32>, request: &str) -> Ruling {
    rule(&world.evidence(), &declaration(through, request))
}

/// Somebody declares what is served unsafe.
pub(crate) fn declare(world: &mut World) -> EmergencyRecord {
    match ruled(world, None, "r-1") {
        Ruling::Declare(record) => {
            world.note("somebody declares it unsafe");
            world.emergency = Some(record.clone());
            record
        }
        other => panic!("{other:?}"),
    }
}

/// Passes until it is so; a planner that never comes to it fails the test.
fn pass_until(world: &mut World, is_so: impl Fn(&mut World) -> bool) {
    for _ in 0..1_000 {
        if is_so(world) {
            return;
        }
        world.pass();
    }
    panic!("it never came to it:\n{}", world.trace);
}

fn freeze(world: &mut World, days: i64) {
    world.policy.calendar.freezes.push(Freeze { from: world.now, to: world.now + Duration::days(days) });
}

fn installations(plan: &Plan<WorkItem>) -> Vec<&DeliverItem> {
    let items = plan.steps.iter().filter_map(|step| match &step.action {
        WorkItem::Deliver(item) => Some(item),
        WorkItem::Authority(_)
        | WorkItem::Mint(_)
        | WorkItem::Export(_)
        | WorkItem::Verify(_)
        | WorkItem::Membership(_) => None,
    });
    items.collect()
}

#[test]
fn it_waits_for_nothing_and_still_goes_by_canary_and_waves() {
    let mut world = World::new(5);
    world.policy.confirm = Confirm::All;
    converge(&mut world);
    world.now += Duration::hours(2);
    (world.policy.bake_minutes, world.policy.wave) = (90, Wave::Targets(2));
    freeze(&mut world, 3);
    let begun = world.now;
    declare(&mut world);
    converge(&mut world);
    keep("emergency", &world);
    assert_eq!(world.generations.len(), 2);
    assert!(world.generations[1].because.contains("the key was in a public repository"));
    assert!(world.now - begun < Duration::minutes(2), "{}", world.now - begun);
    let armed = world.attempts.values().filter(|attempt| attempt.action == DeliveryAction::Confirm).count();
    assert_eq!(armed, 0, "nobody goes back to what is unsafe");
    // The next renewal is an ordinary one.
    world.policy.calendar.freezes.clear();
    world.acm = Some(acm("0b:02", world.now + Duration::days(198)));
    converge(&mut world);
    assert!(world.attempts.values().any(|attempt| attempt.action == DeliveryAction::Confirm));
}

/// The authority's key was stolen: what it signed is replaced as in an emergency, what the next one signed is not.
#[test]
fn what_an_authority_signed_that_was_declared_unsafe_waits_for_nothing() {
    let mut world = World::new(5);
    world.policy.confirm = Confirm::All;
    converge(&mut world);
    let former = world.generations[0].authority.clone();
    world.authorities.push(authority("fedcba9876543210", START + Duration::days(3650)));
    world.now += Duration::hours(2);
    (world.policy.bake_minutes, world.policy.wave) = (90, Wave::Targets(2));
    freeze(&mut world, 3);
    let turn = |number, authority: &str, turn| TurnRecord {
        number,
        authority: authority.into(),
        turn,
        at: world.now,
        because: "its key was seen elsewhere".into(),
        caller: Some(Caller::parse(CALLER).unwrap()),
    };
    let (activated, tainted) = (turn(1, "fedcba9876543210", Turn::Activated), turn(2, &former, Turn::Tainted));
    world.turns.push(activated);
    assert!(world.look().steps.is_empty(), "another authority alone waits for the end of the freeze");
    world.note("the former authority is declared unsafe");
    world.turns.push(tainted);
    let begun = world.now;
    converge(&mut world);
    keep("tainted", &world);
    assert_eq!(world.generations.len(), 2);
    assert!(world.generations[1].because.contains("declared unsafe"), "{}", world.generations[1].because);
    assert!(world.now - begun < Duration::minutes(2), "{}", world.now - begun);
    let armed = world.attempts.values().filter(|attempt| attempt.action == DeliveryAction::Confirm).count();
    assert_eq!(armed, 0, "nobody goes back to what is unsafe");
    assert!(!is_under_way(&world.evidence()), "nobody declared a generation unsafe");
    // What follows is an ordinary renewal.
    world.acm = Some(acm("0b:02", world.now + Duration::days(198)));
    assert!(world.look().steps.is_empty(), "it waits for the end of the freeze");
}

#[test]
fn what_is_left_of_the_bake_time_is_waited_for() {
    let mut world = World::new(2);
    converge(&mut world);
    world.policy.bake_minutes = 90;
    declare(&mut world);
    let is_second =
        |world: &mut World| installations(&world.look()).iter().any(|item| item.targets.contains(&instance(2)));
    pass_until(&mut world, |world| {
        assert!(!is_second(world), "nobody waits:\n{}", world.trace);
        world.look().waits.iter().any(|wait| wait.on.contains("serve it for a while"))
    });
    pass_until(&mut world, is_second);
    converge(&mut world);
}

#[test]
fn a_host_that_halted_the_rollout_of_what_is_unsafe_keeps_its_replacement_from_nobody() {
    let mut world = World::new(3);
    converge(&mut world);
    world.host(1).ill = Ill::RevertsAll;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    let end = world.run();
    assert!(end.blocks.iter().any(|block| block.code == BlockCode::Halted), "{end:?}");
    freeze(&mut world, 3);
    let unsafe_through = declare(&mut world).through;
    world.run();
    assert!([2, 3].iter().all(|n| world.hosts[&instance(*n)].serves > Some(unsafe_through)), "{}", world.trace);
    assert!(is_under_way(&world.evidence()), "the broken one still serves what is unsafe");
    world.note("its owner repairs it; six hours pass");
    world.host(1).ill = Ill::Well;
    world.now += Duration::hours(6);
    converge(&mut world);
    assert!(!is_under_way(&world.evidence()));
}

#[test]
fn a_replacement_that_a_host_reverted_is_replaced_in_a_freeze_as_well() {
    let mut world = World::new(1);
    converge(&mut world);
    freeze(&mut world, 3);
    declare(&mut world);
    world.host(1).ill = Ill::RevertsAll;
    let is_reverted = |world: &mut World| {
        world.attempts.values().any(|attempt| attempt.ended.as_ref().is_some_and(|end| end.code == "reverted"))
    };
    pass_until(&mut world, is_reverted);
    world.host(1).ill = Ill::Well;
    converge(&mut world);
    assert!(world.generations.len() > 2);
}

#[test]
fn what_awaits_confirmation_is_replaced_and_not_confirmed() {
    let mut world = World::new(2);
    world.policy.confirm = Confirm::All;
    converge(&mut world);
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    let awaits = |world: &mut World| {
        let plan = world.look();
        installations(&plan).iter().any(|item| item.action == DeliveryAction::Confirm)
    };
    pass_until(&mut world, awaits);
    declare(&mut world);
    assert!(!awaits(&mut world));
    converge(&mut world);
    let of_the_third = world.attempts.values().filter(|attempt| attempt.generation == Generation(3));
    assert!(of_the_third.clone().count() == 2 && of_the_third.clone().all(|one| one.action == DeliveryAction::Install));
}

#[test]
fn nothing_unsafe_is_handed_out_while_nothing_can_be_minted() {
    let mut world = World::new(2);
    converge(&mut world);
    declare(&mut world);
    world.authorities = vec![authority("0123456789abcdef", world.now - Duration::SECOND)];
    world.host(1).serves = None;
    world.look_since = Some(world.now + Duration::SECOND);
    for _ in 0..20 {
        assert_eq!(installations(&world.look()), Vec::<&DeliverItem>::new());
        world.pass();
        world.now += Duration::seconds(30);
    }
    assert!(world.look().blocks.iter().any(|block| block.code == BlockCode::AuthorityExpiring));
}

#[test]
fn asking_twice_replaces_once() {
    let mut world = World::new(3);
    let refused = |ruling: Ruling| match ruling {
        Ruling::Refused(block) => block.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(ruled(&world, None, "r-1")), BlockCode::NotFound, "nothing was issued");
    converge(&mut world);
    assert_eq!(refused(ruled(&world, Some(2), "r-1")), BlockCode::NotFound, "there is no generation 2");
    let first = declare(&mut world);
    assert_eq!((first.through, first.caller.as_str()), (Generation(1), CALLER));
    assert!(told(&first).contains(CALLER) && told(&first).contains("public repository"));
    let known = Ruling::Known(first);
    assert_eq!(ruled(&world, None, "r-2"), known, "at once");
    pass_until(&mut world, |world| world.hosts[&instance(1)].serves == Some(Generation(2)));
    assert_eq!(ruled(&world, None, "r-2"), known, "while the replacement is on its way");
    assert!(matches!(ruled(&world, Some(2), "r-2"), Ruling::Declare(record) if record.through == Generation(2)));
    converge(&mut world);
    assert_eq!(ruled(&world, None, "r-1"), known, "the same request, delivered again");
    assert_eq!(ruled(&world, Some(1), "r-2"), known);
    assert!(matches!(ruled(&world, None, "r-2"), Ruling::Declare(record) if record.through == Generation(2)));
    world.policy.observes = true;
    assert_eq!(refused(ruled(&world, None, "r-2")), BlockCode::Unsupported);
}
