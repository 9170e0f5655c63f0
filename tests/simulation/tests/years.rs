//! A thousand fleets, each through its own misfortunes: no promise is broken, and every kind of trouble is met.
//!
//! `ESPALIER_SEED=7 cargo test --test years` lives one life again and tells it; `ESPALIER_WORLDS=20000` lives more.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test tells what it met and fails by panicking"
)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "the seed comes from the environment")]

use espalier_domain::rotation::policy::Policy;
use espalier_domain::spec::{self, AllowedDomains};
use espalier_simulation::tally::{FAULTS, PHASES, Tally};
use espalier_simulation::trouble::Trouble;
use espalier_simulation::{Fleet, Lives, NotSimulated, live, live_all, tell};

/// How many fleets a plain run lives.
const WORLDS: u64 = 1_000;

/// How long each of them lives, in days.
const DAYS: u32 = 8;

/// So many lives that came to grief are named before the rest is left alone.
const SHOWN: usize = 3;

/// How often each kind of trouble has to occur in them.
const EACH: u32 = 100;

/// What there is only where each target has a leaf of its own.
const OWN: [Trouble; 2] = [Trouble::MixedUp, Trouble::ScopeChanged];

/// What there is only where each target makes its key itself.
const OWN_KEYS: [Trouble; 3] = [Trouble::CustodyChanged, Trouble::KeyLost, Trouble::RequestSpoilt];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn no_promise_is_broken_whatever_happens() {
    let Some(tally) = lived(&Fleet::Drawn, WORLDS, "no_promise") else { return };
    complete(&tally, |trouble| !OWN.contains(trouble) && !OWN_KEYS.contains(trouble));
}

/// The same where each target has a leaf of its own: half as many.
#[test]
fn nor_where_each_target_has_a_leaf_of_its_own() {
    let Some(tally) = lived(&Fleet::Each, WORLDS / 2, "where_each") else { return };
    complete(&tally, |trouble| OWN.contains(trouble));
}

/// The same where it makes its key itself: half as many.
#[test]
fn nor_where_each_target_makes_its_own_key() {
    let Some(tally) = lived(&Fleet::OwnKeys, WORLDS / 2, "own_key") else { return };
    complete(&tally, |trouble| OWN_KEYS.contains(trouble));
    for code in ["prepared", "noKey", "RequestRefused", "RequestLost"] {
        assert!(tally.codes.contains_key(code), "no delivery ever ended with {code}: {:?}", tally.codes);
    }
}

/// What it was that was met, once so many have lived well; nothing where one is told.
fn lived(fleet: &Fleet, whole: u64, name: &str) -> Option<Tally> {
    if let Some(seed) = number("ESPALIER_SEED") {
        let (story, result) = tell(fleet, seed, DAYS);
        eprintln!("{}", story.join("\n"));
        assert_eq!(result, Ok(()), "seed {seed}");
        return None;
    }
    let worlds = number("ESPALIER_WORLDS").unwrap_or(whole);
    let Lives { tally, grief, .. } = live_all(fleet, 1..worlds + 1, DAYS, SHOWN + 1);
    for one in &grief {
        eprintln!("seed {}: {}", one.seed, one.broken.promise);
    }
    if let Some(first) = grief.first() {
        let (seed, last) = (first.seed, first.story.len().saturating_sub(60));
        eprintln!("{}", first.story[last..].join("\n"));
        panic!(
            "{}: {}\nseed {seed}: ESPALIER_SEED={seed} cargo test --test years {name} lives it again",
            first.broken.promise, first.broken.what
        );
    }
    eprintln!("{tally:?}");
    (worlds >= whole).then_some(tally)
}

/// Lives in which a host that reverts every leaf kept the next one from those who failed clients or whose own ran out, or in
/// which a canary out of reach did not count.
#[test]
fn what_once_came_to_grief_does_not_again() {
    for seed in [7_824, 15_315, 21_365, 21_909, 26_810, 27_308, 27_637, 34_884] {
        live(&Fleet::Drawn, seed, DAYS).unwrap_or_else(|grief| panic!("seed {seed}: {:?}", grief.broken));
    }
}

/// One fleet for long: what adds up over the years would be seen here.
#[test]
fn a_fleet_lives_for_two_years() {
    let tally = live(&Fleet::Drawn, 2026, 2 * 365).unwrap_or_else(|grief| panic!("{:?}", grief.broken));
    eprintln!("two years: {} plans, {} leaves, {} commands", tally.plans, tally.leaves, tally.commands);
    assert!(tally.leaves > 30);
}

/// The recipe's own policy, on a fleet of six.
#[test]
fn the_recipes_policy_keeps_its_promises() {
    let recipe = include_str!("../../../examples/recipe.json");
    let allowed = AllowedDomains::parse("example.com").unwrap();
    let policy = Policy::from_spec(&spec::parse(recipe, &allowed).unwrap(), &allowed);
    assert_eq!(Fleet::given(policy.clone(), 0).unwrap_err(), NotSimulated::Targets(0));
    let observing = Policy { observes: true, ..policy.clone() };
    assert_eq!(Fleet::given(observing, 6).unwrap_err(), NotSimulated::Observes);
    let fleet = Fleet::given(policy, 6).unwrap();
    for seed in 1..=20 {
        live(&fleet, seed, DAYS).unwrap_or_else(|grief| panic!("seed {seed}: {:?}", grief.broken));
    }
}

/// Nothing that can be met is missing.
fn complete(tally: &Tally, counts: impl Fn(&Trouble) -> bool) {
    for trouble in Trouble::ALL.iter().filter(|trouble| counts(trouble)) {
        let count = tally.troubles.get(trouble).copied().unwrap_or_default();
        assert!(count >= EACH, "{trouble:?} occurred {count} times only");
    }
    for phase in PHASES {
        assert!(tally.phases.contains_key(phase), "no target was ever {phase}: {:?}", tally.phases);
    }
    for fault in FAULTS {
        assert!(tally.faults.contains_key(&fault), "no handshake ever showed {fault:?}: {:?}", tally.faults);
    }
    assert!(tally.good > 0);
    assert!(tally.went_back >= EACH, "hosts went back by themselves {} times only", tally.went_back);
}
