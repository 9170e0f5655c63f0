//! A fleet's years in seconds: the production rotation planner and the ledger's rules in a seeded world on a virtual
//! clock, in which everything goes wrong that can. After every step the promises are looked at (`oracle`).
//!
//! What is the product's here: planning, settling, sightings, proofs, verdicts. What is told again, each with the file it
//! follows: `rotate`'s passes and hints, `mint`'s and `distribute`'s order of writes, the ledger's conditions, the
//! installer's decisions. A life is the same for the same seed, on every machine.

#![allow(clippy::wildcard_enum_match_arm, reason = "most kinds of trouble concern few places")]

mod dice;
mod each;
mod emergency;
mod fleet;
mod host;
mod installing;
mod keys;
mod ledger;
pub mod model;
pub mod oracle;
mod rotating;
pub mod scale;
pub mod succession;
pub mod tally;
pub mod trouble;
mod working;
mod world;

use std::fmt::Display;
use std::io::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

pub use fleet::{Fleet, NotSimulated};
use oracle::Broken;
use tally::Tally;
use time::Duration;
use world::World;

/// What a test measured or explored, on standard error past what the harness captures of tests that pass: a figure that nobody sees is
/// none.
pub fn report(figure: impl Display) {
    // Nothing depends on whether somebody reads it.
    let _ = writeln!(std::io::stderr(), "{figure}");
}

/// How long all has to be well before a fleet has to be at rest: the longest pause of the rotation, twice, and a freeze.
const CALM: Duration = Duration::hours(36);

/// A life that came to grief.
#[derive(Debug, Clone)]
pub struct Grief {
    /// The seed.
    pub seed: u64,
    /// The promise that was broken, and how.
    pub broken: Broken,
    /// What happened until then.
    pub story: Vec<String>,
}

/// Lives a fleet's life of so many days.
///
/// # Errors
/// A promise was broken.
pub fn live(fleet: &Fleet, seed: u64, days: u32) -> Result<Tally, Box<Grief>> {
    let mut world = World::new(fleet, seed, false);
    match world.whole_life(days) {
        Ok(()) => Ok(world.tally),
        Err(broken) => {
            // The same again, told this time.
            let mut world = World::new(fleet, seed, true);
            let _same = world.whole_life(days);
            Err(Box::new(Grief { seed, broken, story: world.story.unwrap_or_default() }))
        }
    }
}

/// What many lives came to.
#[derive(Debug, Default)]
pub struct Lives {
    /// What was met in those that ended well.
    pub tally: Tally,
    /// Those that did not, by their seeds.
    pub grief: Vec<Grief>,
    /// How many were lived.
    pub count: u64,
}

/// Lives a life for each seed, on every core, until so many have come to grief.
pub fn live_all(fleet: &Fleet, seeds: Range<u64>, days: u32, most: usize) -> Lives {
    let (next, all) = (AtomicU64::new(seeds.start), Mutex::new(Lives::default()));
    let lives = || all.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || lives().grief.len() >= most {
                        return;
                    }
                    let lived = live(fleet, seed, days);
                    let mut lives = lives();
                    lives.count += 1;
                    match lived {
                        Ok(met) => lives.tally.add(&met),
                        Err(found) => lives.grief.push(*found),
                    }
                }
            });
        }
    });
    let mut lives = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    lives.grief.sort_by_key(|grief| grief.seed);
    lives
}

/// Lives a life and tells it.
pub fn tell(fleet: &Fleet, seed: u64, days: u32) -> (Vec<String>, Result<(), Broken>) {
    let mut world = World::new(fleet, seed, true);
    let result = world.whole_life(days);
    (world.story.unwrap_or_default(), result)
}

impl World {
    fn whole_life(&mut self, days: u32) -> Result<(), Broken> {
        let end = world::START + Duration::days(i64::from(days));
        self.live(end)?;
        self.soothe();
        self.live(end + CALM)?;
        self.tally.hours = u64::from(days) * 24;
        self.come_to_rest()
    }

    /// Between two looks a sighting may just have become old: there is a moment at which nothing is left to do.
    fn come_to_rest(&mut self) -> Result<(), Broken> {
        for _ in 0..200 {
            if self.plan_again()?.is_some_and(|plan| plan.is_converged()) {
                break;
            }
            let now = self.now;
            self.hint();
            self.live(now + Duration::minutes(5))?;
        }
        self.examine_end()
    }
}
