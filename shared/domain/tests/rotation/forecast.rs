//! Slack and what lies ahead.

use espalier_domain::rotation::calendar::{Day, Freeze, TimeOfDay, Window};
use espalier_domain::rotation::slack::{Assumed, ahead, slack};
use time::Duration;

use crate::world::{START, World};

const ON_TIME: Assumed = Assumed { failures: 0, sweep_s: 0, wave_s: 0 };

fn world() -> World {
    let mut world = World::new(3);
    assert!(world.run().is_converged());
    world
}

fn hours(world: &World, assumed: &Assumed) -> Vec<Option<i64>> {
    let all = slack(&world.evidence(), assumed);
    all.iter().map(|one| one.slack_s.map(|seconds| seconds.div_euclid(3600))).collect()
}

#[test]
fn without_trouble_the_slack_is_what_the_policy_leaves() {
    assert_eq!(hours(&world(), &ON_TIME), [Some(56); 3]);
}

#[test]
fn failures_sweeps_waves_and_baking_cost_slack() {
    let mut world = world();
    world.policy.bake_minutes = 60;
    let assumed = Assumed { failures: 3, sweep_s: 3600, wave_s: 1800 };
    // An hour of baking, one until the sweep, two waves of half an hour, three deliveries of twenty minutes that come to
    // nothing, two short pauses and the six hours after the third.
    assert_eq!(hours(&world, &assumed), [Some(56 - 1 - 1 - 1 - 1 - 6 - 1); 3]);
}

#[test]
fn a_window_that_comes_late_costs_slack_down_to_the_safety_margin() {
    let mut world = world();
    let at = |text| TimeOfDay::parse(text).unwrap();
    // Due on Wednesday 2026-11-25 at 16:00; the next Thursday begins 8 hours later.
    world.policy.calendar.windows = vec![Window { days: vec![Day::Thu], from: at("00:00"), to: at("03:00") }];
    assert_eq!(hours(&world, &ON_TIME), [Some(48); 3]);
    world.policy.calendar.freezes = vec![Freeze { from: START, to: START + Duration::days(30) }];
    assert_eq!(hours(&world, &ON_TIME), [Some(28); 3]);
}

#[test]
fn whoever_shows_nothing_good_comes_first_and_whoever_lags_behind_next() {
    let mut world = world();
    world.now += Duration::hours(100);
    world.host(3).serves = None;
    world.look_since = Some(world.now);
    world.pass();
    let all = slack(&world.evidence(), &ON_TIME);
    assert_eq!((all[0].target.as_str(), all[0].generation), ("i-00000003", None));
    assert!(all[1].slack_s.is_some());
}

#[test]
fn what_lies_ahead_are_renewals_in_their_windows() {
    let mut world = world();
    let quarter = ahead(&world.evidence());
    // One each 112 hours: 168 of life less 56.
    assert_eq!(quarter.len(), 19);
    assert!(quarter.windows(2).all(|pair| pair[1].due_at - pair[0].begins_at == Duration::hours(112)));
    let at = |text| TimeOfDay::parse(text).unwrap();
    world.policy.calendar.windows = vec![Window { days: Vec::new(), from: at("02:00"), to: at("03:00") }];
    let nightly = ahead(&world.evidence());
    assert!(nightly.iter().all(|one| one.begins_at.hour() == 2 && one.begins_at >= one.due_at), "{nightly:?}");
    assert!(nightly.iter().all(|one| one.begins_at < one.ends_at));
}
