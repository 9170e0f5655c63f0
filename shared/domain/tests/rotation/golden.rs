//! Histories as text: what was planned when, and why. `EXPECTORATE=overwrite` writes them anew.

use espalier_domain::acm::AcmStatus;
use espalier_domain::id::{Generation, HostName, StackName};
use espalier_domain::plan::BlockCode;
use espalier_domain::rotation::calendar::{Freeze, TimeOfDay, Window};
use espalier_domain::rotation::policy::Wave;
use espalier_domain::rotation::rollout::renew_at;
use espalier_domain::verdict::Fault;
use espalier_domain::work::WorkItem;
use time::Duration;

use crate::world::{Ill, START, World, acm, authority, instance};

pub(crate) fn keep(name: &str, world: &World) {
    let path = format!("{}/tests/golden/rotation/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    expectorate::assert_contents(path, &world.trace);
}

/// Runs to the end and asserts that planning again plans nothing.
pub(crate) fn converge(world: &mut World) {
    let end = world.run();
    assert!(end.is_converged(), "{end:?}\n{}", world.trace);
    world.now += Duration::seconds(1);
    assert!(world.look().is_converged(), "planning again plans something");
    let newest = world.generations.last().unwrap().generation;
    for (id, host) in world.hosts.iter().filter(|(_, host)| host.wanted) {
        assert_eq!(host.serves, Some(newest), "{id}");
        assert_eq!(world.sightings[id].floor, Some(newest), "{id}");
    }
}

#[test]
fn the_first_rollout_goes_by_canary_and_waves() {
    let mut world = World::new(6);
    converge(&mut world);
    assert_eq!(world.generations.len(), 1);
    keep("first-rollout", &world);
}

#[test]
fn with_manage_nothing_targets_are_dialled_and_nothing_else_is_planned() {
    let mut world = World::new(2);
    world.policy.observes = true;
    let first = world.look();
    assert_eq!((first.steps.len(), first.blocks[0].code), (0, BlockCode::Unverifiable), "{first:?}");
    world.policy.observes = false;
    converge(&mut world);
    world.policy.observes = true;
    world.now += Duration::hours(7);
    let stale = world.look();
    assert!(!stale.steps.is_empty(), "seen long ago");
    assert!(stale.steps.iter().all(|step| matches!(step.action, WorkItem::Verify(_))), "{stale:?}");
    converge(&mut world);
    // Into the time in which a leaf is replaced.
    world.now += Duration::hours(120);
    world.run();
    let due = world.look();
    assert!(due.steps.is_empty() && due.blocks.iter().all(|block| block.code == BlockCode::Drifted), "{due:?}");
    assert_eq!((due.blocks.len(), world.generations.len()), (1, 1));
    world.policy.observes = false;
    converge(&mut world);
    assert_eq!(world.generations.len(), 2);
}

#[test]
fn an_acm_renewal_makes_every_leaf_follow() {
    let mut world = World::new(2);
    world.policy.wave = Wave::Targets(10);
    converge(&mut world);
    world.now += Duration::hours(1);
    world.note("ACM renews the certificate");
    world.acm = Some(acm("0b:02", world.now + Duration::days(198)));
    converge(&mut world);
    world.now += Duration::hours(1);
    world.note("the certificate comes into its expiry window");
    world.acm = Some(acm("0b:02", world.now + Duration::days(45)));
    converge(&mut world);
    world.note("another machine's clock says it is not there yet");
    world.acm = Some(acm("0b:02", world.now + Duration::days(46)));
    converge(&mut world);
    assert_eq!(world.generations.len(), 3);
    keep("acm-renewal", &world);
}

#[test]
fn a_certificate_that_cannot_be_followed_blocks_and_stops_no_renewal() {
    let mut world = World::new(1);
    converge(&mut world);
    world.note("the followed certificate is revoked");
    world.acm.as_mut().unwrap().status = AcmStatus::Revoked;
    let end = world.run();
    assert_eq!(end.blocks.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::AcmUnusable]);
    world.now = START + Duration::hours(113);
    world.note("the leaf comes to its end");
    let end = world.run();
    assert!(end.steps.is_empty());
    assert_eq!(world.hosts[&instance(1)].serves, Some(Generation(2)));
    world.note("ACM has the certificate back, unchanged");
    world.acm = Some(acm("0a:01", START + Duration::days(198)));
    converge(&mut world);
    assert_eq!(world.generations.len(), 2, "an unchanged certificate asks for nothing");
    keep("acm-unusable", &world);
}

#[test]
fn a_broken_canary_halts_before_anybody_else_is_touched() {
    let mut world = World::new(3);
    converge(&mut world);
    world.note("the server on i-00000001 stops reloading; ACM renews");
    world.host(1).ill = Ill::RevertsAll;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    let end = world.run();
    assert!(end.blocks.iter().any(|block| block.code == BlockCode::Halted), "{end:?}");
    assert!(world.hosts.values().all(|host| host.serves == Some(Generation(1))));
    world.note("its owner repairs it; six hours pass");
    world.host(1).ill = Ill::Well;
    world.now += Duration::hours(6);
    converge(&mut world);
    keep("broken-canary", &world);
}

#[test]
fn a_failure_within_the_budget_does_not_keep_the_others_waiting() {
    let mut world = World::new(4);
    world.policy.failure_budget = 1;
    world.host(1).ill = Ill::CannotFetch;
    let end = world.run();
    assert_eq!(end.blocks.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::Stuck]);
    assert!((2..=4).all(|n| world.hosts[&instance(n)].serves == Some(Generation(1))));
    world.note("a person installs it by hand");
    world.host(1).ill = Ill::Well;
    world.host(1).serves = Some(Generation(1));
    world.now += Duration::minutes(11);
    converge(&mut world);
    keep("within-budget", &world);
}

#[test]
fn a_reverted_generation_is_never_given_to_anybody_again() {
    let mut world = World::new(4);
    world.policy.failure_budget = 1;
    world.host(2).ill = Ill::RevertsAll;
    let end = world.run();
    assert_eq!(end.blocks.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::Stuck]);
    let newest = world.generations.last().unwrap().generation;
    assert!([1, 3, 4].iter().all(|n| world.hosts[&instance(*n)].serves == Some(newest)), "{}", world.trace);
    world.note("its owner repairs it; six hours pass");
    world.host(2).ill = Ill::Well;
    world.now += Duration::hours(6);
    converge(&mut world);
    keep("reverted", &world);
}

#[test]
fn a_broken_host_never_keeps_a_renewal_from_the_others_for_good() {
    // The first is the canary whenever nothing is known against it.
    for broken in [1, 2] {
        let mut world = World::new(3);
        converge(&mut world);
        world.note("ACM renews while one host is broken; budget 0");
        world.host(broken).ill = Ill::RevertsAll;
        world.acm = Some(acm("0b:02", START + Duration::days(198)));
        let days = 20;
        while world.now < START + Duration::days(days) {
            world.run();
            for (id, host) in &world.hosts {
                let leaf = world.generations.iter().find(|record| Some(record.generation) == host.serves).unwrap();
                assert!(*id == instance(broken) || leaf.not_after > world.now, "{id} serves a leaf that ran out");
            }
            world.now += Duration::minutes(30);
        }
        assert!(i64::try_from(world.generations.len()).unwrap() < days * 10, "{} leaves", world.generations.len());
        world.host(broken).ill = Ill::Well;
        world.now += Duration::hours(6);
        converge(&mut world);
    }
}

#[test]
fn whoever_fails_clients_is_put_right_before_the_host_that_reverts_them_all() {
    let mut world = World::new(2);
    converge(&mut world);
    world.host(1).ill = Ill::RevertsAll;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    world.run();
    assert!(world.generations.len() > 1, "what i-00000001 reverted was replaced");
    world.note("somebody puts another certificate on i-00000002, while i-00000001 reverts whatever it is given");
    world.host(2).serves = None;
    world.look_since = Some(world.now);
    let end = world.now + Duration::hours(1);
    while world.now < end && world.hosts[&instance(2)].serves.is_none() {
        world.run();
        world.now += Duration::minutes(15);
    }
    assert!(world.hosts[&instance(2)].serves.is_some(), "{}", world.trace);
}

#[test]
fn whoever_fails_clients_goes_before_the_host_that_reverts_them_all() {
    let mut world = World::new(2);
    converge(&mut world);
    world.host(1).ill = Ill::RevertsAll;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    world.run();
    world.note("i-00000002 shows another certificate, and its owner does not let Espalier repair it for half a day");
    (world.host(2).serves, world.host(2).ill) = (None, Ill::NotInHostConf);
    world.look_since = Some(world.now);
    let (agrees, end) = (world.now + Duration::hours(12), world.now + Duration::hours(30));
    while world.now < end && world.hosts[&instance(2)].serves.is_none() {
        if world.now >= agrees {
            world.host(2).ill = Ill::Well;
        }
        world.run();
        world.now += Duration::minutes(15);
    }
    assert!(world.hosts[&instance(2)].serves.is_some(), "{}", world.trace);
}

#[test]
fn a_canary_that_is_out_of_reach_since_has_proven_it_all_the_same() {
    let mut world = World::new(4);
    world.policy.canary = 2;
    converge(&mut world);
    world.note("i-00000001 serves on without its agent; somebody puts another certificate on all others");
    world.host(1).online = false;
    for n in 2..=4 {
        world.host(n).serves = None;
    }
    world.look_since = Some(world.now);
    let given = loop {
        let installs = world.look().steps.into_iter().find_map(|step| match step.action {
            WorkItem::Deliver(item) => Some(item.targets.len()),
            _ => None,
        });
        match installs {
            Some(given) => break given,
            None => assert!(world.pass(), "nobody is given anything: {}", world.trace),
        }
    };
    assert_eq!(given, 1, "one of the two canaries has proven it");
}

#[test]
fn what_is_not_opted_in_or_not_managed_is_named_and_left_alone() {
    let mut world = World::new(6);
    world.host(2).opted_in = false;
    world.host(3).online = false;
    world.host(4).ill = Ill::NotInHostConf;
    world.host(5).ill = Ill::AlwaysBusy;
    world.host(6).ill = Ill::OldAgent;
    let end = world.run();
    let codes: Vec<_> = end.blocks.iter().map(|block| block.code).collect();
    let (consent, reach) = (BlockCode::NotOptedIn, BlockCode::Unmanaged);
    assert_eq!(codes, [consent, consent, reach, reach, reach]);
    let sent = world.attempts.values().filter(|attempt| attempt.target == instance(6)).count();
    assert_eq!(sent, 0, "what its agent cannot run is not sent");
    world.note("the owners of all but i-00000003, which is given up, agree, and one updates its agent");
    for n in 2..=6 {
        let host = world.host(n);
        (host.opted_in, host.ill, host.wanted) = (true, Ill::Well, n != 3);
    }
    world.now += Duration::hours(1);
    converge(&mut world);
    keep("consent", &world);
}

#[test]
fn a_target_that_shows_something_else_is_looked_at_again_and_then_repaired() {
    let mut world = World::new(2);
    converge(&mut world);
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    converge(&mut world);
    world.trace.clear();
    world.note("somebody puts the old certificate back on i-00000001; six hours pass");
    world.host(1).serves = Some(Generation(1));
    world.now += Duration::hours(6) + Duration::seconds(2);
    converge(&mut world);
    assert_eq!(world.generations.len(), 2);
    keep("drift", &world);
}

#[test]
fn a_fresh_look_that_is_asked_for_dials_everybody_once_and_finds_what_changed() {
    let mut world = World::new(2);
    converge(&mut world);
    world.now += Duration::minutes(5);
    world.host(2).serves = None;
    assert!(world.look().steps.is_empty(), "what was seen lately is believed");
    world.note("i-00000002 is changed by hand; a fresh look is asked for");
    world.look_since = Some(world.now);
    converge(&mut world);
    assert!(world.hosts.values().all(|host| host.serves == Some(Generation(1))));
    keep("fresh-look", &world);
}

#[test]
fn a_target_that_no_prober_reaches_is_not_called_a_success() {
    let mut world = World::new(2);
    world.host(1).ill = Ill::Hidden;
    let end = world.run();
    let codes: Vec<_> = end.blocks.iter().map(|block| block.code).collect();
    assert_eq!(codes, [BlockCode::Unverifiable, BlockCode::Halted]);
    assert_eq!(world.hosts[&instance(2)].serves, None);
    assert_eq!(world.sightings[&instance(1)].verdict.faults, [Fault::TimedOut]);
    keep("unverifiable", &world);
}

#[test]
fn an_installer_that_lies_does_not_pass() {
    let mut world = World::new(2);
    converge(&mut world);
    world.host(1).ill = Ill::Lies;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    let end = world.run();
    assert!(end.blocks.iter().any(|block| block.code == BlockCode::Halted), "{end:?}");
    assert_eq!(world.hosts[&instance(2)].serves, Some(Generation(1)));
}

#[test]
fn names_age_and_authority_make_a_leaf_due() {
    let mut world = World::new(1);
    converge(&mut world);
    world.note("the spec asks for a second name");
    world.policy.dns_names.push(HostName::parse("alt.example.com").unwrap());
    converge(&mut world);
    world.note("the leaf comes to its end");
    world.now += Duration::hours(112);
    converge(&mut world);
    world.note("the authority is replaced");
    world.authorities = vec![authority("fedcba9876543210", world.now + Duration::hours(100))];
    converge(&mut world);
    assert_eq!(world.generations.last().unwrap().not_after, world.authorities[0].not_after, "clipped");
    world.note("the new authority comes to its end");
    world.now += Duration::hours(60);
    let end = world.run();
    assert_eq!(end.blocks.iter().map(|b| b.code).collect::<Vec<_>>(), [BlockCode::AuthorityExpiring]);
    assert_eq!(world.generations.len(), 4);
    keep("due", &world);
}

#[test]
fn a_new_control_plane_has_its_authority_made_before_its_first_leaf() {
    let mut world = World::new(1);
    world.authorities.clear();
    converge(&mut world);
    assert_eq!((world.authorities.len(), world.generations.len()), (1, 1));
    keep("founding", &world);
}

#[test]
fn a_fleet_is_verified_in_pages() {
    let mut world = World::new(120);
    world.policy.wave = Wave::Targets(100);
    converge(&mut world);
    keep("pages", &world);
}

#[test]
fn a_clock_that_is_wrong_is_never_a_panic() {
    let mut world = World::new(3);
    converge(&mut world);
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    for _ in 0..4 {
        world.pass();
    }
    let extremes = [
        time::PrimitiveDateTime::MIN.assume_utc(),
        START - Duration::days(9),
        time::PrimitiveDateTime::MAX.assume_utc(),
    ];
    let moments: Vec<_> = world.attempts.values().map(|a| a.begun_at).chain(extremes).collect();
    for now in &moments {
        for recorded in &moments {
            let mut evidence = world.evidence();
            evidence.now = *now;
            for generation in &mut evidence.generations {
                (generation.not_after, generation.minted_at) = (*recorded, *recorded);
            }
            for target in &mut evidence.targets {
                for attempt in &mut target.attempts {
                    attempt.begun_at = *recorded;
                    if let Some(end) = &mut attempt.ended {
                        end.at = *recorded;
                    }
                }
                if let Some(sighting) = &mut target.sighting {
                    (sighting.at, sighting.failing_since) = (*recorded, Some(*recorded));
                }
            }
            for authority in &mut evidence.authorities {
                authority.not_after = *recorded;
            }
            evidence.acm.as_mut().unwrap().not_after = Some(*recorded);
            if let Some(through) = &mut evidence.through {
                (through.at, through.failing_since) = (*recorded, Some(*recorded));
            }
            let _ = espalier_domain::rotation::plan::plan(&evidence);
        }
    }
}

#[test]
fn the_same_evidence_in_another_order_is_the_same_plan() {
    let mut world = World::new(5);
    world.policy.wave = Wave::Targets(3);
    world.host(2).opted_in = false;
    for _ in 0..30 {
        let evidence = world.evidence();
        let mut mixed = evidence.clone();
        mixed.targets.reverse();
        mixed.generations.reverse();
        mixed.authorities.reverse();
        for target in &mut mixed.targets {
            target.attempts.reverse();
        }
        let plan = espalier_domain::rotation::plan::plan;
        assert_eq!(plan(&evidence), plan(&mixed));
        world.pass();
    }
}

#[test]
fn a_reverted_generation_that_cannot_be_replaced_goes_to_nobody() {
    let mut world = World::new(4);
    world.policy.failure_budget = 1;
    world.host(2).ill = Ill::RevertsAll;
    while !world.attempts.values().any(|attempt| attempt.ended.as_ref().is_some_and(|end| end.code == "reverted")) {
        world.pass();
    }
    world.note("the authority has ended");
    world.authorities[0].not_after = world.now;
    world.now += Duration::hours(7);
    let plan = world.look();
    assert!(plan.blocks.iter().any(|block| block.code == BlockCode::AuthorityExpiring), "{plan:?}");
    let delivered = plan.steps.iter().any(|step| matches!(step.action, WorkItem::Deliver(_)));
    assert!(!delivered, "{plan:?}");
}

#[test]
fn a_halted_rollout_lets_nobodys_leaf_run_out() {
    let mut world = World::new(3);
    world.policy.wave = Wave::Targets(1);
    converge(&mut world);
    world.now = START + Duration::hours(100);
    world.host(2).ill = Ill::CannotFetch;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    let end = world.run();
    assert!(end.blocks.iter().any(|block| block.code == BlockCode::Halted), "{end:?}");
    assert_eq!(world.hosts[&instance(3)].serves, Some(Generation(1)), "halted before its turn");
    while world.now < START + Duration::hours(168) {
        world.now += Duration::hours(1);
        world.run();
    }
    let served = world.hosts[&instance(3)].serves;
    let leaf = world.generations.iter().find(|record| Some(record.generation) == served).unwrap();
    assert!(leaf.not_after > world.now, "i-00000003 serves a leaf that ran out");
}

#[test]
fn a_target_that_failed_is_not_the_next_rollouts_canary() {
    let mut world = World::new(3);
    converge(&mut world);
    world.host(1).ill = Ill::CannotFetch;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    world.run();
    assert!(world.hosts.values().all(|host| host.serves == Some(Generation(1))), "halted at the canary");
    world.acm = Some(acm("0c:03", START + Duration::days(198)));
    world.run();
    assert_eq!([2, 3].map(|n| world.hosts[&instance(n)].serves), [Some(Generation(3)); 2]);
}

#[test]
fn a_delivery_that_ended_after_the_last_sighting_is_looked_at() {
    let mut world = World::new(1);
    world.policy.samples = 0;
    converge(&mut world);
    let mut again = world.attempts.values().next().unwrap().clone();
    again.attempt = 2;
    again.ended.as_mut().unwrap().at = world.now;
    world.attempts.insert((again.target.clone(), again.generation, 2), again);
    let plan = world.look();
    assert!(matches!(plan.steps.as_slice(), [step] if matches!(step.action, WorkItem::Verify(_))), "{plan:?}");
}

#[test]
fn the_prober_that_the_spec_names_is_asked_for_every_look() {
    let mut world = World::new(2);
    world.policy.prober = Some(espalier_domain::id::ProberName::parse("east").unwrap());
    let mut asked = 0;
    for _ in 0..20 {
        for step in world.look().steps {
            if let WorkItem::Verify(item) = &step.action {
                asked += 1;
                assert_eq!(item.prober, world.policy.prober);
                let told = espalier_domain::rotation::render::action(&step.action);
                assert!(told.ends_with(", by the prober east"), "{told}");
            }
        }
        world.pass();
    }
    assert!(asked > 1, "nobody was asked");
}

fn nightly(from: &str, to: &str) -> Window {
    let at = |text| TimeOfDay::parse(text).unwrap();
    Window { days: Vec::new(), from: at(from), to: at(to) }
}

#[test]
fn a_rollout_waits_for_its_window_and_what_is_broken_does_not() {
    let mut world = World::new(3);
    world.policy.calendar.windows = vec![nightly("02:00", "04:00")];
    world.policy.wave = Wave::Percent(50);
    converge(&mut world);
    assert!(world.now < START + Duration::hours(1), "the first leaf waits for nothing");
    world.note("ACM renews at noon");
    world.now = START + Duration::hours(12);
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    assert!(world.look().steps.iter().all(|step| matches!(step.action, WorkItem::Verify(_))));
    world.note("meanwhile somebody puts another certificate on i-00000002");
    world.host(2).serves = None;
    world.look_since = Some(world.now);
    converge(&mut world);
    assert!((START + Duration::hours(26)..START + Duration::hours(28)).contains(&world.now), "{}", world.now);
    keep("window", &world);
}

#[test]
fn a_rollout_that_outlasts_its_window_goes_on_in_the_next() {
    let mut world = World::new(3);
    world.policy.wave = Wave::Targets(1);
    converge(&mut world);
    world.policy.calendar.windows = vec![nightly("02:00", "02:01")];
    world.policy.bake_minutes = 30;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    converge(&mut world);
    assert!((START + Duration::hours(26)..START + Duration::hours(27)).contains(&world.now), "{}", world.now);
    keep("window-again", &world);
}

#[test]
fn a_freeze_never_outlives_a_leaf() {
    let mut world = World::new(2);
    converge(&mut world);
    world.policy.calendar.freezes = vec![Freeze { from: START + Duration::hours(1), to: START + Duration::days(60) }];
    world.now = START + Duration::hours(113);
    world.note("the leaf is due, and everything is frozen");
    assert!(world.look().steps.iter().all(|step| matches!(step.action, WorkItem::Verify(_))));
    // 168 hours of life, 28 of safety margin.
    converge(&mut world);
    let begun = world.generations[1].minted_at;
    assert!((START + Duration::hours(140)..START + Duration::hours(141)).contains(&begun), "{begun}");
    keep("freeze", &world);
}

#[test]
fn the_canary_bakes_before_others_follow() {
    let mut world = World::new(4);
    world.policy.bake_minutes = 45;
    world.policy.wave = Wave::Percent(100);
    converge(&mut world);
    // Nobody who serves nothing is kept waiting for a canary's proof of time.
    assert!(world.now < START + Duration::minutes(5), "{}", world.now);
    world.trace.clear();
    let renewed_at = world.now;
    world.acm = Some(acm("0b:02", START + Duration::days(198)));
    converge(&mut world);
    assert!(world.now > renewed_at + Duration::minutes(45), "{}", world.now);
    keep("bake", &world);
}

#[test]
fn stacks_made_together_do_not_renew_together() {
    let mut world = World::new(1);
    converge(&mut world);
    let record = world.generations[0].clone();
    let due = |stack: &str, percent| {
        let mut policy = world.policy.clone();
        (policy.stack, policy.renew_spread_percent) = (StackName::parse(stack).unwrap(), percent);
        renew_at(&policy, &record)
    };
    let latest = record.not_after - Duration::hours(56);
    assert_eq!(due("payments", 0), latest);
    let spread: std::collections::BTreeSet<_> = (0..100).map(|n| due(&format!("stack-{n}"), 10)).collect();
    assert!(spread.len() > 95, "{}", spread.len());
    let earliest = latest - Duration::minutes(1009);
    assert!(spread.iter().all(|at| (earliest..=latest).contains(at)));
    assert!(
        *spread.first().unwrap() < latest - Duration::hours(15)
            && *spread.last().unwrap() > latest - Duration::hours(2)
    );
    assert_eq!(due("stack-7", 10), due("stack-7", 10), "always the same");
}
