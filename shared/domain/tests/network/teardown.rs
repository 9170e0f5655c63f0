//! Teardown of stacks that have everything a spec can ask for, from every state between nothing and all of it: each call of
//! their making, each call of each change, whatever others took away, each call of the teardown itself. It comes to its
//! end, leaves nothing of ours and everything of others, and its answer says what went and what stayed.

use std::collections::BTreeSet;

use espalier_domain::network::{Life, deleted, left, members, plan, render};
use espalier_domain::record::MembershipRecord;
use espalier_domain::spec::Spec;

use crate::rich::{EVERYTHING, KINDS, Kind, SCALED, as_it_is, is_ours, ours, theirs};
use crate::strangers::stranger;
use crate::tables::cut_after;
use crate::world::World;
use crate::{Keep, run};

/// What `provision` keeps in the ledger of what it sets about, and answers with.
#[derive(Default)]
struct Answer(Option<MembershipRecord>);

impl Answer {
    fn look(&mut self, absent: &Spec, world: &World) {
        self.0 = Some(members(absent, &world.look(absent)).after(self.0.as_ref()));
    }

    fn deleted(&self) -> BTreeSet<String> {
        self.0.iter().flat_map(|record| record.deleting.clone().unwrap_or_default()).collect()
    }
}

/// A run that looks, writes down and calls; at most so many calls. Whether it came to its end.
fn tear_down(world: &mut World, absent: &Spec, answer: &mut Answer, mut calls: usize) -> bool {
    for _ in 0..60 {
        answer.look(absent, world);
        let plan = plan(absent, &world.look(absent));
        if plan.is_converged() {
            return true;
        }
        assert!(plan.blocks.is_empty(), "{}", render(&plan));
        let wait_s = if plan.steps.is_empty() { plan.retry_after_s().unwrap_or(1) } else { 1 };
        for step in plan.steps {
            if calls == 0 {
                return false;
            }
            world.call(&step.action).unwrap_or_else(|why| panic!("{} was refused: {why}", step.action));
            calls -= 1;
        }
        world.pass(wait_s);
    }
    panic!("no end in sight: {}", render(&plan(absent, &world.look(absent))));
}

/// Tears down from here to the end, and holds it to all that a teardown promises.
fn goes(from: &World, kind: &Kind, absent: &Spec, when: &str) {
    let (mut world, mut answer) = (from.clone(), Answer::default());
    assert!(tear_down(&mut world, absent, &mut answer, usize::MAX), "{} {when}", kind.what);
    ended(&mut world, kind, absent, when);
    told(&answer, from, kind, absent, when);
    assert_eq!(theirs(&world), theirs(from), "{} {when}: what is others' stays", kind.what);
}

fn ended(world: &mut World, kind: &Kind, absent: &Spec, when: &str) {
    assert_eq!(world.leftovers(absent), Vec::<String>::new(), "{} {when}", kind.what);
    assert_eq!(ours(world, absent), BTreeSet::new(), "{} {when}", kind.what);
    for _ in 0..3 {
        world.pass(1_200);
        assert!(plan(absent, &world.look(absent)).is_converged(), "{} {when}: planned again", kind.what);
    }
    let left: Vec<String> = left(absent, &world.look(absent)).into_iter().map(|one| one.what).collect();
    assert_eq!(left, kind.leaves, "{} {when}", kind.what);
}

/// All that was there is told, and nothing that was not.
fn told(answer: &Answer, from: &World, kind: &Kind, absent: &Spec, when: &str) {
    // Targets are drained with their group.
    let told: BTreeSet<String> = answer.deleted().into_iter().filter(|one| !one.starts_with("Targets ")).collect();
    assert_eq!(told, ours(from, absent), "{} {when}", kind.what);
}

#[test]
fn from_every_state_of_its_making() {
    let mut states = 0;
    for kind in &KINDS {
        let (wanted, absent) = (kind.wanted(as_it_is), kind.absent(as_it_is));
        for calls in 0.. {
            let mut world = kind.world();
            let is_partial = cut_after(&mut world, &wanted, calls);
            goes(&world, kind, &absent, &format!("after {calls} calls"));
            // What was called for last fails in the end, and so do the first deletions.
            let mut world = kind.world();
            cut_after(&mut world, &wanted, calls.saturating_sub(1));
            (world.bad_creations, world.bad_updates) = (1, 1);
            cut_after(&mut world, &wanted, 1);
            (world.bad_creations, world.bad_updates, world.bad_deletions) = (0, 0, 3);
            goes(&world, kind, &absent, &format!("after {calls} calls of which the last fails"));
            states += 2;
            if !is_partial {
                break;
            }
        }
    }
    assert!(states > 160, "{states} states are fewer than there were");
}

#[test]
fn from_every_state_of_each_change() {
    let mut states = 0;
    for kind in &KINDS {
        let settled = kind.settled();
        for (what, change) in kind.changes {
            for calls in 0.. {
                let mut world = settled.clone();
                let is_partial = cut_after(&mut world, &kind.wanted(*change), calls);
                // The person writes `absent` into the new document, or into the former one.
                goes(&world, kind, &kind.absent(*change), &format!("{what}: after {calls} calls"));
                goes(&world, kind, &kind.absent(as_it_is), &format!("{what}, as before: after {calls} calls"));
                states += 2;
                if !is_partial {
                    break;
                }
            }
        }
    }
    assert!(states > 440, "{states} states are fewer than there were");
}

/// What others may have deleted before, as far as AWS let them: every subset.
#[test]
fn from_whatever_others_left() {
    type Take = fn(&mut World) -> bool;
    let takes: [Take; 9] = [
        |world| {
            world.record = None;
            world.other_records.retain(|zone, _| zone.as_str() == "ZTHEIRS");
            true
        },
        |world| {
            let is_empty = world.other_records.keys().all(|zone| zone.as_str() == "ZTHEIRS");
            world.zones.retain(|zone| zone.id.as_str() == "ZTHEIRS");
            is_empty
        },
        |world| {
            world.associations.retain(|one| !is_ours(&one.tags));
            true
        },
        |world| {
            world.listeners.clear();
            true
        },
        |world| {
            let is_free = world.associations.iter().all(|one| !is_ours(&one.tags));
            world.services.retain(|one| !is_ours(&one.tags));
            is_free
        },
        |world| {
            let there: Vec<String> = world.services.iter().map(|one| one.id.clone()).collect();
            world.listeners.retain(|one| there.contains(&one.of.service));
            let is_free = world.listeners.is_empty();
            world.groups.retain(|one| !is_ours(&one.tags) || one.of.name.ends_with('b'));
            is_free
        },
        |world| {
            world.vpcs.retain(|one| !is_ours(&one.tags));
            true
        },
        |world| {
            let is_used = |id: &str| {
                world.vpcs.iter().any(|one| one.of.0 == id) || world.associations.iter().any(|one| one.of.0 == id)
            };
            let is_free = world.networks.iter().all(|one| !is_ours(&one.tags) || !is_used(&one.id));
            world.networks.retain(|one| !is_ours(&one.tags));
            is_free
        },
        |world| {
            world.estate.ingress.pop();
            true
        },
    ];
    let mut states = 0;
    for kind in &KINDS {
        let settled = kind.settled();
        for subset in 0_u32..1 << takes.len() {
            let mut world = settled.clone();
            let chosen = takes.iter().enumerate().filter(|(n, _)| subset & (1 << n) != 0);
            if chosen.fold(true, |all, (_, take)| all & take(&mut world)) {
                world.tick();
                goes(&world, kind, &kind.absent(as_it_is), &format!("without {subset:#b}"));
                states += 1;
            }
        }
    }
    assert!(states > 900, "{states} states are fewer than there were");
}

/// Cut off after each of its calls: the next run goes on and tells of both; or the stack is wanted again, and made whole.
#[test]
fn from_every_state_of_a_teardown() {
    for kind in &KINDS {
        let (settled, absent) = (kind.settled(), kind.absent(as_it_is));
        let whole = ours(&settled, &absent).len();
        for calls in 0.. {
            let (mut world, mut answer) = (settled.clone(), Answer::default());
            let is_ended = tear_down(&mut world, &absent, &mut answer, calls);
            let mut again = world.clone();
            assert!(tear_down(&mut world, &absent, &mut answer, usize::MAX));
            let when = format!("after {calls} calls of it");
            ended(&mut world, kind, &absent, &when);
            told(&answer, &settled, kind, &absent, &when);
            let text = run(&mut again, &kind.wanted(as_it_is), Keep::Nothing);
            again.tick();
            assert!(text.ends_with("converged\n") && again.serves(), "{} {when}: {text}", kind.what);
            assert_eq!(
                (ours(&again, &absent).len(), theirs(&again)),
                (whole, theirs(&settled)),
                "{} {when}",
                kind.what
            );
            if is_ended {
                break;
            }
        }
    }
}

/// Their termination waits for nobody once they are out, during a teardown and after it. Nobody is proven meanwhile, so a launch is
/// left to the hook's own timeout.
#[test]
fn whom_auto_scaling_takes_away_is_let_go_when_they_are_out() {
    let absent = SCALED.absent(as_it_is);
    let is_in = |world: &World, life: Life| {
        let of = world.estate.instances.iter().filter_map(|one| one.scaling.as_ref());
        of.filter(|one| one.life == life).count()
    };
    for calls in 0.. {
        let (mut world, mut answer) = (SCALED.settled(), Answer::default());
        let is_ended = tear_down(&mut world, &absent, &mut answer, calls);
        let mut scaled = world.estate.instances.iter_mut().filter_map(|one| one.scaling.as_mut());
        let [going, coming] = [scaled.next().unwrap(), scaled.next().unwrap()];
        (going.life, coming.life) = (Life::GoingWaits, Life::ComingWaits);
        assert!(tear_down(&mut world, &absent, &mut answer, usize::MAX));
        assert_eq!((is_in(&world, Life::Going), is_in(&world, Life::ComingWaits)), (1, 1), "after {calls} calls");
        assert_eq!(world.leftovers(&absent), Vec::<String>::new());
        if is_ended {
            break;
        }
    }
}

/// Somebody else's service in our network is served on, until it leaves.
#[test]
fn with_other_services_in_our_network_it_waits_for_them_to_leave() {
    let (kind, absent) = (EVERYTHING, EVERYTHING.absent(as_it_is));
    for calls in 0.. {
        let mut world = kind.world();
        let is_partial = cut_after(&mut world, &kind.wanted(as_it_is), calls);
        let Some(network) = world.networks.iter().find(|one| is_ours(&one.tags)).map(|one| one.id.clone()) else {
            continue;
        };
        world.associations.push(stranger("snsa-0guest", (network, "svc-0theirs".to_owned())));
        let (vpcs, before) = (world.vpcs.len(), theirs(&world));
        let text = run(&mut world, &absent, Keep::Nothing);
        let blocks: Vec<&str> = text.lines().filter(|line| line.starts_with('!')).collect();
        let [block] = blocks.as_slice() else { panic!("after {calls} calls: {text}") };
        assert!(block.starts_with("! Foreign: service association snsa-0guest"), "{text}");
        assert_eq!((theirs(&world), world.vpcs.len()), (before, vpcs), "its clients come by our associations");
        assert!(!ours(&world, &absent).iter().any(|one| one.starts_with("Record") || one.starts_with("ServiceAss")));
        let told = left(&absent, &world.look(&absent));
        assert!(told.iter().any(|one| one.what == "service association (snsa-0guest)"), "{told:?}");
        world.associations.retain(|one| one.id != "snsa-0guest");
        goes(&world, &kind, &absent, &format!("after {calls} calls, when the guest is gone"));
        if !is_partial {
            break;
        }
    }
}

#[test]
fn of_everything_in_words() {
    let (mut world, absent, mut answer) = (EVERYTHING.settled(), EVERYTHING.absent(as_it_is), Answer::default());
    let text = run(&mut world.clone(), &absent, Keep::Nothing);
    assert!(text.lines().filter_map(|line| deleted(line.trim())).count() > 15, "{text}");
    tear_down(&mut world, &absent, &mut answer, usize::MAX);
    let told = answer.0.and_then(|record| record.deleting).unwrap_or_default();
    let left = left(&absent, &world.look(&absent));
    let told = told.iter().map(|one| format!("deleted: {one}\n"));
    let left = left.iter().map(|one| format!("left: {}: {}\n", one.what, one.because));
    let text = [text].into_iter().chain(told).chain(left).collect::<String>();
    expectorate::assert_contents("tests/golden/network/teardown-everything.txt", &text);
}
