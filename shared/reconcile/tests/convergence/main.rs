//! The real loop over the real network planner, in thousands of seeded worlds in which everything goes wrong that can:
//! from any start, through any specs, it settles, creates nothing twice, never touches what is somebody else's, never
//! lets a service that serves drop to none, and planning again plans nothing.
//!
//! `ESPALIER_SEED=7 cargo test --test convergence` lives one world again and prints what happened in it;
//! `ESPALIER_WORLDS=50000` lives more of them.

#![allow(
    clippy::print_stderr,
    clippy::disallowed_macros,
    reason = "a world's story, and how often each fault occurred"
)]

mod hosts;
mod life;
mod stage;
mod trouble;

// One strict simulated AWS for the planner's own tests and for these.
#[allow(dead_code, reason = "the planner's tests use more of it")]
#[path = "../../../domain/tests/network/calls.rs"]
mod calls;
#[path = "../../../domain/tests/network/estate.rs"]
mod estate;
#[path = "../../../domain/tests/network/shape.rs"]
mod shape;
#[allow(dead_code, reason = "the planner's tests use more of it")]
#[path = "../../../domain/tests/network/world.rs"]
mod world;
#[allow(dead_code, reason = "the planner's tests use more of it")]
#[path = "../../../domain/tests/network/zones.rs"]
mod zones;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use life::{GOALS, Life, end_of};
use trouble::{Fault, Met};

/// How many worlds a plain run lives.
const WORLDS: u64 = 2000;

/// How often each kind of fault has to occur in them.
const EACH: u32 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Lives one world; what went wrong in it, and what was done until then.
fn live(seed: u64) -> Result<Met, String> {
    let life = Life::new(seed);
    match catch_unwind(AssertUnwindSafe(|| life.live())) {
        Ok(()) => Ok(life.met()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(format!("{}\n{}", life.story(), text.unwrap_or_default()))
        }
    }
}

fn add(met: &mut Met, found: &Met) {
    for (fault, count) in found {
        *met.entry(*fault).or_default() += count;
    }
}

#[test]
fn it_settles_whatever_happens() {
    if let Some(seed) = number("ESPALIER_SEED") {
        let life = Life::new(seed);
        let lived = catch_unwind(AssertUnwindSafe(|| life.live()));
        eprintln!("{}", life.story());
        assert!(lived.is_ok(), "seed {seed} came to grief");
        return;
    }
    let worlds = number("ESPALIER_WORLDS").unwrap_or(WORLDS);
    let met = Mutex::new(Met::new());
    let failed = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for lane in 0..2 {
            let (met, failed) = (&met, &failed);
            scope.spawn(move || {
                for seed in (1..=worlds).filter(|seed| seed % 2 == lane) {
                    match live(seed) {
                        Ok(found) => add(&mut met.lock().unwrap(), &found),
                        Err(text) => drop(failed.lock().unwrap().insert(seed, text)),
                    }
                    if !failed.lock().unwrap().is_empty() {
                        return;
                    }
                }
            });
        }
    });
    if let Some((seed, text)) = failed.into_inner().unwrap().into_iter().next() {
        panic!("{text}\nseed {seed}: ESPALIER_SEED={seed} cargo test --test convergence lives it again");
    }
    let met = met.into_inner().unwrap();
    eprintln!("{met:?}");
    for fault in Fault::ALL.into_iter().filter(|_| worlds >= WORLDS) {
        let count = met.get(&fault).copied().unwrap_or_default();
        assert!(count >= EACH, "{fault:?} occurred {count} times only: {met:?}");
    }
}

/// The goals differ: two that come to the same end would prove half as much.
#[test]
fn every_goal_has_an_end_of_its_own() {
    let ends: Vec<_> = (0..GOALS.len()).map(end_of).collect();
    for (n, end) in ends.iter().enumerate() {
        assert!(ends[..n].iter().all(|other| other != end), "goal {n}");
    }
}
