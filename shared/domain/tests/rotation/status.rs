//! What a person is told about a stack.

use espalier_domain::id::{Epoch, Generation};
use espalier_domain::plan::BlockCode;
use espalier_domain::record::{EpochRecord, ThroughRecord};
use espalier_domain::rotation::evidence::Evidence;
use espalier_domain::rotation::policy::Wave;
use espalier_domain::rotation::shown::Shown;
use espalier_domain::rotation::slack::Assumed;
use espalier_domain::rotation::status::{Status, status};
use espalier_domain::verdict::{Fault, Negotiated};
use espalier_domain::work::WorkItem;
use time::Duration;

use crate::world::{Ill, START, World, acm, instance};

fn told(world: &World) -> Status {
    status(&world.evidence(), &Assumed::default())
}

#[test]
fn before_anything_is_issued_there_is_only_who_is_due() {
    let status = told(&World::new(2));
    assert!(status.leaf.is_none() && status.through.is_none());
    assert_eq!(status.targets.iter().map(|one| one.phase.as_str()).collect::<Vec<_>>(), ["due", "due"]);
    assert!(status.targets.iter().all(|one| one.slack_s.is_none() && one.seen_at.is_none()));
}

/// What is told of a rotation in progress, each time it changes, while the world runs to its end.
fn advances(world: &mut World) -> Vec<String> {
    let epoch = EpochRecord {
        epoch: Epoch(1),
        begun_at: world.now,
        attempt: 1,
        ended_at: None,
        execution: "payments-1-1".into(),
    };
    let mut told: Vec<String> = Vec::new();
    for _ in 0..200 {
        world.collect();
        let evidence = Evidence { epoch: Some(epoch.clone()), ..world.evidence() };
        let rotation = status(&evidence, &Assumed::default()).rotation.unwrap();
        told.extend(rotation.advance.map(|advance| advance.told()));
        told.dedup();
        if !world.pass() {
            return told;
        }
    }
    panic!("no end: {told:?}");
}

#[test]
fn a_rotation_in_progress_is_told_with_its_waves() {
    let mut world = World::new(4);
    world.policy.wave = Wave::Targets(2);
    assert_eq!(
        advances(&mut world),
        [
            "canary, 4 waiting",
            "canary, 1 under way, 3 waiting",
            "waves, 1 proven, 3 waiting",
            "waves, 1 proven, 2 under way, 1 waiting",
            "waves, 3 proven, 1 waiting",
            "waves, 3 proven, 1 under way",
            "waves, 4 proven"
        ]
    );
    assert_eq!(told(&world).rotation, None, "no rotation was begun in this world");
    let mut world = World::new(3);
    world.host(1).ill = Ill::RevertsAll;
    let told = advances(&mut world);
    assert_eq!(told.last().map(String::as_str), Some("halted, 1 failed, 2 waiting"), "{told:?}");
}

#[test]
fn an_emergency_is_told_as_long_as_something_unsafe_is_served() {
    let mut world = World::new(2);
    assert!(world.run().is_converged());
    assert_eq!(told(&world).emergency, None);
    let declared = crate::emergency::declare(&mut world);
    assert_eq!(told(&world).emergency, Some(declared));
    assert!(world.run().is_converged());
    assert_eq!(told(&world).emergency, None);
}

#[test]
fn each_target_is_told_with_what_it_serves_and_how_long_that_lasts() {
    let mut world = World::new(3);
    assert!(world.run().is_converged());
    world.now += Duration::hours(20);
    world.host(2).serves = None;
    world.host(3).online = false;
    world.look_since = Some(world.now);
    world.pass();
    let negotiated = Negotiated {
        protocol: "TLSv1.3".into(),
        suite: "TLS_AES_128_GCM_SHA256".into(),
        alpn: Some("h2".into()),
        versions: vec!["TLSv1.2".into(), "TLSv1.3".into()],
    };
    world.sightings.get_mut(&instance(1)).unwrap().verdict.tls = Some(negotiated.clone());
    let status = told(&world);
    let leaf = status.leaf.unwrap();
    let [well, silent, gone] = &status.targets[..] else { panic!("{:?}", status.targets) };
    assert_eq!(
        (well.phase.as_str(), well.generation, well.ends_at),
        ("current", Some(leaf.generation), Some(leaf.not_after))
    );
    assert!(well.seen_at.is_some_and(|at| world.now - at < Duration::minutes(1)) && well.faults.is_empty(), "{well:?}");
    assert!(well.slack_s.is_some());
    assert_eq!((well.tls.as_ref(), silent.tls.as_ref()), (Some(&negotiated), None));
    assert!(silent.phase != "current" && silent.slack_s.is_none() && !silent.faults.is_empty(), "{silent:?}");
    assert_eq!((gone.phase.as_str(), gone.because.is_some()), ("unmanaged", true));
}

/// What was proven long ago and cannot be looked at any more is not known to be so: it is told, and not dialled in vain.
#[test]
fn who_is_known_to_be_gone_is_told_and_not_dialled() {
    let mut world = World::new(2);
    assert!(world.run().is_converged());
    world.host(1).online = false;
    world.now += Duration::hours(7);
    let plan = world.look();
    let dialled = plan.steps.iter().filter_map(|step| match &step.action {
        WorkItem::Verify(item) => Some(item.targets.iter().map(|target| target.target.clone())),
        _ => None,
    });
    assert_eq!(dialled.flatten().collect::<Vec<_>>(), [instance(2)], "{plan:?}");
    assert_eq!(plan.blocks.iter().map(|block| block.code).collect::<Vec<_>>(), [BlockCode::Unmanaged]);
}

#[test]
fn the_answer_is_read_as_it_was_written() {
    let mut world = World::new(2);
    world.run();
    let before = told(&world);
    let text = serde_json::to_string(&before).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), before, "{text}");
}

#[test]
fn a_stale_certificate_is_told_from_one_that_is_not_known() {
    let mut world = World::new(3);
    assert!(world.run().is_converged());
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    assert!(world.run().is_converged());
    world.host(1).serves = Some(Generation(1));
    world.look_since = Some(world.now);
    world.pass();
    let verdict = &mut world.sightings.get_mut(&instance(2)).unwrap().verdict;
    verdict.faults = vec![Fault::OtherCertificate, Fault::WrongName];
    verdict.fingerprint = Some("ff".into());
    let status = told(&world);
    let shown: Vec<_> = status.targets.iter().map(|one| one.shown).collect();
    assert_eq!(shown, [Some(Shown::Generation(Generation(1))), Some(Shown::Unknown), None]);
    let wrong: Vec<String> = status.targets.iter().map(|one| one.cells(world.now)[7].clone()).collect();
    assert_eq!(wrong, ["OtherCertificate (generation 1)", "OtherCertificate (not known to be its own), WrongName", ""],);
}

#[test]
fn a_name_that_leads_to_somebody_else_is_told_from_targets_that_show_the_wrong_certificate() {
    let mut world = World::new(2);
    assert!(world.run().is_converged());
    let through = |faults: &[Fault]| ThroughRecord {
        at: world.now,
        samples: 6,
        good: 0,
        faults: faults.to_vec(),
        failing_since: Some(world.now),
    };
    let (elsewhere, silent) = (through(&[Fault::WrongName]), through(&[Fault::TimedOut]));
    world.through = Some(silent);
    assert!(!told(&world).misrouted, "nobody was reached");
    world.through = Some(elsewhere);
    let status = told(&world);
    assert!(status.misrouted);
    assert_eq!(
        status.through_told(world.now).as_deref(),
        Some(
            "0 of 6 good, 0 s ago: WrongName; the name leads to somebody else: every target by itself shows what it should"
        )
    );
    world.sightings.get_mut(&instance(2)).unwrap().verdict.faults = vec![Fault::WrongName];
    assert!(!told(&world).misrouted, "a target shows the wrong name itself");
}
