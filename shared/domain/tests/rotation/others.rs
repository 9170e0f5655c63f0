//! What others install (`manage: nothing`, `issuer` of kind `others`): looked at, judged, told, and never touched.

use espalier_domain::id::{AcmArn, Generation, NodeId, Scope, TargetId};
use espalier_domain::plan::{BlockCode, Plan};
use espalier_domain::record::{GenerationRecord, Member, MembershipRecord};
use espalier_domain::rotation::emergency::{Declaration, Ruling, rule};
use espalier_domain::rotation::slack::{Assumed, ahead, slack};
use espalier_domain::rotation::status::{Served, status};
use espalier_domain::spec::{Others, Trust};
use espalier_domain::verdict::Fault;
use espalier_domain::work::{VerifyItem, WorkItem};
use time::Duration;

use crate::golden::{converge, keep};
use crate::world::{ACM, Ill, START, World, acm, instance};

/// A certificate of theirs: its number, ACM's serial number for it, and how long it lives.
fn installed(world: &mut World, number: u32, serial: &str, life: Duration) {
    let not_before = world.now;
    world.theirs.push(GenerationRecord {
        scope: Scope::shared(),
        generation: Generation(number),
        parameter: String::new(),
        serial: serial.into(),
        fingerprint: format!("{:064x}", 0xacc + number),
        dns_names: world.policy.leaf_names(),
        not_before,
        not_after: not_before + life,
        minted_at: not_before,
        authority: String::new(),
        follows: None,
        export: None,
        spec: None,
        key_type: None,
        custody: espalier_domain::spec::Custody::default(),
        because: String::new(),
    });
}

/// Two hosts that serve ACM's certificate, which an agent of somebody else's brings; no owner of theirs opted in.
fn world() -> World {
    let mut world = World::new(2);
    world.policy.observes = true;
    world.policy.follow = None;
    world.policy.others = Some(Others { trust: Trust::Public, certificate_arn: Some(AcmArn::parse(ACM).unwrap()) });
    world.authorities.clear();
    installed(&mut world, 1, "a01", Duration::days(198));
    for host in world.hosts.values_mut() {
        (host.serves, host.opted_in) = (Some(Generation(1)), false);
    }
    world
}

/// Runs to the end. Whatever was done: nothing is in the ledger but what was seen.
fn run(world: &mut World) -> Plan<WorkItem> {
    let plan = world.run();
    assert!(world.generations.is_empty() && world.attempts.is_empty() && world.authorities.is_empty());
    assert!(world.sightings.values().all(|sighting| sighting.floor.is_none()), "a floor for what nobody numbers");
    for line in world.trace.lines().filter(|line| line.starts_with("    ")) {
        assert!(["? ", "! ", ". ", "co"].iter().any(|mark| line.trim_start().starts_with(mark)), "{line}");
    }
    plan
}

fn codes(plan: &Plan<WorkItem>) -> Vec<BlockCode> {
    plan.blocks.iter().map(|block| block.code).collect()
}

fn item(plan: &Plan<WorkItem>) -> VerifyItem {
    match &plan.steps[0].action {
        WorkItem::Verify(item) => item.clone(),
        other => panic!("{other:?}"),
    }
}

fn told(world: &World, n: u32) -> (String, Option<String>) {
    let status = status(&world.evidence(), &Assumed::default());
    let one = status.targets.into_iter().find(|one| one.target == instance(n)).unwrap();
    (one.phase, one.because)
}

#[test]
fn what_others_install_and_renew_is_seen_and_told() {
    let mut world = world();
    assert!(run(&mut world).is_converged());
    assert!(world.through.as_ref().is_some_and(|through| through.is_good()));
    assert_eq!(told(&world, 1), ("current".into(), None));

    world.now += Duration::days(140);
    world.note("ACM renews; the agents have not come yet");
    world.acm = Some(acm("0b:02", world.now + Duration::days(198)));
    installed(&mut world, 2, "b02", Duration::days(198));
    assert!(run(&mut world).is_converged(), "clients accept the former one: nobody is called");
    assert_eq!(told(&world, 1).0, "observed");
    assert!(told(&world, 1).1.unwrap().contains("ACM's newest"));

    world.now += Duration::hours(12);
    world.note("one agent has come, the other has died");
    world.host(1).serves = Some(Generation(2));
    assert!(run(&mut world).is_converged());
    assert_eq!(told(&world, 1), ("current".into(), None));
    world.now += Duration::hours(37);
    let plan = run(&mut world);
    assert_eq!(codes(&plan), [BlockCode::Differs]);
    assert!(plan.blocks[0].because.contains("i-00000002: it has not served ACM's newest certificate, serial b02"));

    world.note("it is mended; the next one is for another name");
    installed(&mut world, 3, "b02", Duration::days(90));
    world.theirs[2].dns_names = vec!["www.example.com".into()];
    (world.host(1).serves, world.host(2).serves) = (Some(Generation(3)), Some(Generation(2)));
    world.now += Duration::hours(6);
    let plan = run(&mut world);
    assert_eq!(codes(&plan), [BlockCode::Unverifiable, BlockCode::Differs]);
    assert!(plan.blocks[1].because.contains("i-00000001: it fails clients (WrongName)"), "{plan:?}");

    world.note("that is mended, too, and then nobody renews");
    world.host(1).serves = Some(Generation(2));
    world.now += Duration::minutes(15);
    assert!(run(&mut world).is_converged());
    world.now = world.theirs[1].not_after - Duration::hours(28);
    world.acm = None;
    assert_eq!(codes(&run(&mut world)), [BlockCode::AcmUnusable, BlockCode::Differs]);
    world.now += Duration::hours(29);
    world.note("it has ended");
    run(&mut world);
    world.now += Duration::minutes(15);
    assert_eq!(codes(&run(&mut world)), [BlockCode::AcmUnusable, BlockCode::Differs]);
    keep("others", &world);
}

#[test]
fn they_are_dialled_with_the_trust_of_the_spec_and_for_acms_newest() {
    let mut world = world();
    let asked = item(&world.look());
    let others = asked.others.unwrap();
    assert_eq!((asked.trust.as_str(), others.public, others.serial.as_deref()), ("", true, Some("a01")));
    assert!(asked.targets.iter().all(|one| one.generation == Generation::NONE && one.fingerprint.is_empty()));

    world.policy.others = Some(Others { trust: Trust::Roots("PEM".into()), certificate_arn: None });
    let asked = item(&world.look());
    let others = asked.others.unwrap();
    assert_eq!((asked.trust.as_str(), others.public, others.serial), ("PEM", false, None));

    world.policy.others = Some(Others { trust: Trust::Authority, certificate_arn: None });
    let plan = world.look();
    assert_eq!(
        (plan.steps.len(), codes(&plan)),
        (0, vec![BlockCode::Unverifiable]),
        "no authority, nothing to judge by"
    );
    world.authorities = World::new(0).authorities;
    let asked = item(&world.look());
    assert_eq!((asked.trust, asked.others.unwrap().public), (world.evidence().trust(), false));
}

#[test]
fn a_name_is_dialled_by_its_name_and_told_like_any_target() {
    let mut world = world();
    let name = TargetId::parse("internal-payments-1.eu-west-1.elb.amazonaws.com").unwrap();
    let host = world.host(1).clone();
    world.hosts = [(name.clone(), host)].into();
    let asked: Vec<_> = item(&world.look()).targets.into_iter().map(|one| one.address.to_string()).collect();
    assert_eq!(asked, [format!("{name}:8443")]);
    assert!(run(&mut world).is_converged());
    let status = status(&world.evidence(), &Assumed::default());
    assert_eq!((status.targets[0].target.clone(), status.targets[0].phase.as_str()), (name, "current"));
}

#[test]
fn without_any_certificate_of_acms_any_will_do_that_clients_accept() {
    let mut world = world();
    world.policy.others.as_mut().unwrap().certificate_arn = None;
    world.acm = None;
    assert!(run(&mut world).is_converged());
    installed(&mut world, 2, "77", Duration::days(90));
    world.host(1).serves = Some(Generation(2));
    world.now += Duration::hours(7);
    assert!(run(&mut world).is_converged());
    assert_eq!(told(&world, 1), ("current".into(), None));
}

#[test]
fn slack_and_numbers_are_of_what_is_served() {
    let mut world = world();
    assert_eq!(Served::of(&world.evidence()), None);
    run(&mut world);
    let end = world.theirs[0].not_after;
    world.now += Duration::days(1);
    let all = slack(&world.evidence(), &Assumed::default());
    assert!(all.iter().all(|one| one.breaks_at == Some(end) && one.generation.is_none()), "{all:?}");
    assert_eq!(all[0].slack_s, Some((end - world.now).whole_seconds()));
    assert_eq!(ahead(&world.evidence()), []);
    assert_eq!(Served::of(&world.evidence()), Some(Served { days_to_expiry: Some(196), failing: 0, stale: 0 }));
    world.acm = Some(acm("0b:02", world.now + Duration::days(198)));
    world.host(2).ill = Ill::Hidden;
    run(&mut world);
    assert_eq!(Served::of(&world.evidence()), Some(Served { days_to_expiry: Some(196), failing: 1, stale: 1 }));
}

#[test]
fn what_was_minted_before_is_neither_expected_nor_forgotten() {
    let mut world = World::new(2);
    converge(&mut world);
    world.join();
    let (records, floor) = (world.generations.clone(), world.sightings[&instance(1)].floor);
    world.policy.observes = true;
    world.policy.others = Some(Others { trust: Trust::Public, certificate_arn: None });
    world.authorities[0].not_after = START;
    installed(&mut world, 9, "99", Duration::days(90));
    world.host(1).serves = Some(Generation(9));
    world.host(2).serves = Some(Generation(9));
    let first = item(&world.look());
    assert_eq!(first.targets.len(), 2, "what was seen of ours was judged by other roots");
    assert!(world.run().is_converged(), "{}", world.trace);
    assert_eq!(world.generations, records);
    assert_eq!(
        (world.sightings[&instance(1)].floor, world.sightings[&instance(1)].generation),
        (floor, Generation::NONE)
    );
    assert_eq!(status(&world.evidence(), &Assumed::default()).leaf, None);
    world.note("it fails clients; an earlier look said that it is registered");
    world.host(1).ill = Ill::Hidden;
    world.now += Duration::hours(7);
    let plan = world.run();
    assert!(!world.trace.contains("= Membership"), "{}", world.trace);
    assert_eq!(codes(&plan), [BlockCode::Differs]);
    // Back to leaves of our own: proven anew.
    (world.policy.others, world.policy.observes) = (None, false);
    world.authorities = World::new(0).authorities;
    world.host(1).ill = Ill::Well;
    for n in [1, 2] {
        world.host(n).serves = Some(Generation(1));
    }
    converge(&mut world);
}

#[test]
fn whoever_only_watches_asks_provision_for_nothing() {
    let mut world = World::new(1);
    converge(&mut world);
    world.policy.observes = true;
    world.host(1).ill = Ill::Hidden;
    let member = Member { launched_at: None, registered: true, seen_at: None };
    world.membership = Some(MembershipRecord { members: [(instance(1), member)].into(), deleting: None });
    world.now += Duration::hours(7);
    world.run();
    assert_eq!(world.sightings[&instance(1)].verdict.faults, [Fault::TimedOut]);
    assert!(!world.trace.contains("= Membership"), "{}", world.trace);
}

#[test]
fn an_address_needs_no_node_and_an_instance_needs_an_address() {
    let mut world = world();
    let (other, host) = (TargetId::parse("10.0.1.6").unwrap(), world.hosts[&instance(1)].clone());
    world.hosts.insert(other.clone(), host);
    assert!(run(&mut world).is_converged());
    assert!(world.sightings[&other].verdict.is_good());
    let mut evidence = world.evidence();
    for target in &mut evidence.targets {
        target.managed = None;
    }
    evidence.now += Duration::hours(7);
    let plan = espalier_domain::rotation::plan::plan(&evidence);
    assert_eq!(codes(&plan), [BlockCode::Unverifiable]);
    assert_eq!(item(&plan).targets.len(), 1, "the address is dialled all the same");
    assert!(NodeId::of(&other).is_none());
}

#[test]
fn nothing_of_theirs_is_replaced_in_an_emergency() {
    let mut world = world();
    run(&mut world);
    let asked = Declaration {
        through: None,
        caller: espalier_domain::id::Caller::parse("arn:aws:iam::000000000000:user/someone").unwrap(),
        reason: espalier_domain::id::Reason::parse("key leaked").unwrap(),
        request: "r-1".into(),
    };
    assert!(matches!(rule(&world.evidence(), &asked), Ruling::Refused(_)));
}
