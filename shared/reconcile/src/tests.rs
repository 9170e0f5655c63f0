//! The loop against a world of a few switches, with hours passing in no time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use espalier_domain::failure::{Failure, Word};
use espalier_domain::plan::{BlockCode, OutcomeKind, Plan};
use time::OffsetDateTime;

use crate::{Clock, Limits, Report, World, reconcile};

/// A clock that only moves when somebody sleeps.
struct FakeClock(Mutex<(OffsetDateTime, Vec<Duration>)>);

impl FakeClock {
    fn new() -> Self {
        Self(Mutex::new((OffsetDateTime::UNIX_EPOCH, Vec::new())))
    }

    fn slept(&self) -> Vec<f64> {
        self.0.lock().unwrap().1.iter().map(Duration::as_secs_f64).collect()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> OffsetDateTime {
        self.0.lock().unwrap().0
    }

    async fn sleep(&self, wait: Duration) {
        let mut state = self.0.lock().unwrap();
        state.0 += wait;
        state.1.push(wait);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("turning the switch")]
struct Trouble(Word, Option<u32>);

impl Failure for Trouble {
    fn word(&self) -> Word {
        self.0
    }

    fn retry_after_s(&self) -> Option<u32> {
        self.1
    }
}

/// How a switch behaves.
#[derive(Clone, Default)]
struct Switch {
    /// Another switch that must be on first.
    after: Option<&'static str>,
    /// Failures to come, first one first.
    trouble: Vec<(Word, Option<u32>)>,
    /// Looks until it is seen on after it was turned.
    slow: u32,
    /// Turning it changes nothing.
    dead: bool,
    turned: bool,
    seen: bool,
}

#[derive(Default)]
struct Switches {
    all: Mutex<BTreeMap<&'static str, Switch>>,
    looks: Mutex<Vec<Word>>,
    block: Option<BlockCode>,
    wait_s: u32,
    flying: AtomicUsize,
    most_flying: AtomicUsize,
}

impl Switches {
    fn of<const N: usize>(switches: [(&'static str, Switch); N]) -> Self {
        Self { all: Mutex::new(BTreeMap::from(switches)), wait_s: 2, ..Self::default() }
    }
}

impl World for Switches {
    type Observed = BTreeMap<&'static str, Switch>;
    type Action = &'static str;
    type Error = Trouble;

    async fn observe(&self) -> Result<Self::Observed, Trouble> {
        if let Some(word) = self.looks.lock().unwrap().pop() {
            return Err(Trouble(word, None));
        }
        let mut all = self.all.lock().unwrap();
        for switch in all.values_mut().filter(|switch| switch.turned && !switch.dead) {
            switch.seen = switch.slow == 0;
            switch.slow = switch.slow.saturating_sub(1);
        }
        Ok(all.clone())
    }

    fn plan(&self, observed: &Self::Observed, _: OffsetDateTime) -> Plan<&'static str> {
        let mut plan = Plan::default();
        for (name, switch) in observed.iter().filter(|(_, switch)| !switch.seen) {
            if switch.after.is_some_and(|before| !observed[before].seen) {
                continue;
            }
            if switch.turned && !switch.dead {
                plan.wait(format!("{name} to light up"), self.wait_s);
            } else {
                plan.step(*name, "it is off");
            }
        }
        if let Some(code) = self.block {
            plan.block(code, "somebody has to come");
        }
        plan
    }

    async fn apply(&self, action: &&'static str) -> Result<(), Trouble> {
        let flying = self.flying.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_flying.fetch_max(flying, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.flying.fetch_sub(1, Ordering::SeqCst);
        let mut all = self.all.lock().unwrap();
        let switch = all.get_mut(action).unwrap();
        if switch.trouble.is_empty() {
            switch.turned = true;
            return Ok(());
        }
        let (word, asked) = switch.trouble.remove(0);
        Err(Trouble(word, asked))
    }

    fn render(&self, action: &&'static str) -> String {
        format!("+ {action}")
    }
}

/// Whoever reads the answer learns what it is that does not get better by itself.
#[tokio::test]
async fn the_last_passing_failure_is_told_while_it_lasts() {
    let conflict = |times: usize| Switch { trouble: vec![(Word::Conflict, Some(1)); times], ..Switch::default() };
    let world = Switches::of([("a", conflict(1_000)), ("b", Switch::default())]);
    let report = run(&world, &FakeClock::new(), 300).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Pending);
    assert_eq!(report.outcome.waits, ["+ a to succeed: it is tried again after turning the switch"]);
    assert!(report.failures.is_empty());
    // What went well at last is no longer told.
    let world = Switches::of([("a", conflict(2)), ("b", Switch { slow: 1_000, ..Switch::default() })]);
    let report = run(&world, &FakeClock::new(), 300).await;
    assert_eq!(report.outcome.waits, ["b to light up"]);
    // The same of a look.
    let world = Switches::of([("a", Switch::default())]);
    *world.looks.lock().unwrap() = vec![Word::Busy; 1_000];
    let report = run(&world, &FakeClock::new(), 300).await;
    assert_eq!(report.outcome.waits, ["look to succeed: it is tried again after turning the switch"]);
}

async fn run(world: &Switches, clock: &FakeClock, seconds: i64) -> Report {
    let deadline = clock.now() + time::Duration::seconds(seconds);
    reconcile(world, clock, Limits::until(deadline), || 0.5).await
}

fn taken(report: &Report) -> Vec<(u32, &str)> {
    report.outcome.steps.iter().map(|step| (step.wave, step.action.as_str())).collect()
}

#[tokio::test]
async fn waves_follow_what_is_seen_and_steps_of_a_wave_fly_together() {
    let second = Switch { after: Some("a"), ..Switch::default() };
    let world = Switches::of([("a", Switch { slow: 3, ..Switch::default() }), ("b", Switch::default()), ("c", second)]);
    let clock = FakeClock::new();
    let report = run(&world, &clock, 900).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Converged);
    assert_eq!(taken(&report), [(1, "+ a"), (1, "+ b"), (2, "+ c")]);
    assert_eq!(world.most_flying.load(Ordering::SeqCst), 2);
    assert_eq!(clock.slept(), [2.0, 2.0, 2.0]);
    assert!(report.changed() && report.failures.is_empty());

    let again = run(&world, &clock, 900).await;
    assert_eq!(again.outcome.outcome, OutcomeKind::Converged);
    assert!(!again.changed());
}

#[tokio::test]
async fn the_deadline_makes_it_pending_with_a_time_to_come_back() {
    let world = Switches::of([("a", Switch { slow: 1_000, ..Switch::default() })]);
    let clock = FakeClock::new();
    let report = run(&world, &clock, 30).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Pending);
    assert_eq!(report.outcome.retry_after_s, Some(2));
    let slept: f64 = clock.slept().iter().sum();
    assert!((26.0..30.0).contains(&slept), "{slept}");
}

#[tokio::test]
async fn nobody_sits_through_a_long_wait() {
    let world = Switches { wait_s: 600, ..Switches::of([("a", Switch { slow: 2, ..Switch::default() })]) };
    let clock = FakeClock::new();
    let report = run(&world, &clock, 900).await;
    assert_eq!((report.outcome.outcome, report.outcome.retry_after_s), (OutcomeKind::Pending, Some(600)));
    assert_eq!((taken(&report), clock.slept()), (vec![(1, "+ a")], vec![]));
}

#[tokio::test]
async fn no_step_begins_after_the_deadline() {
    let world = Switches::of([("a", Switch::default())]);
    let report = run(&world, &FakeClock::new(), 0).await;
    assert_eq!((report.outcome.outcome, report.changed()), (OutcomeKind::Pending, false));
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_after_at_least_what_was_asked_for() {
    let busy = Switch { trouble: vec![(Word::Busy, Some(7)), (Word::Conflict, None)], ..Switch::default() };
    let world = Switches::of([("a", busy), ("b", Switch::default())]);
    let clock = FakeClock::new();
    let report = run(&world, &clock, 900).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Converged);
    assert_eq!(taken(&report), [(1, "+ b"), (3, "+ a")]);
    assert_eq!(clock.slept(), [7.0, 2.0]);
    assert!(report.failures.is_empty());
}

#[tokio::test]
async fn a_lasting_failure_is_reported_once_and_stops_nothing_independent() {
    let refused = Switch { trouble: vec![(Word::Refused, None); 9], ..Switch::default() };
    let world = Switches::of([
        ("a", refused),
        ("b", Switch { slow: 2, ..Switch::default() }),
        ("c", Switch { after: Some("b"), ..Switch::default() }),
    ]);
    let report = run(&world, &FakeClock::new(), 900).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Pending);
    assert_eq!(taken(&report), [(1, "+ b"), (2, "+ c")]);
    let [failure] = report.failures.as_slice() else { panic!("{:?}", report.failures) };
    assert_eq!((failure.wave, failure.action.as_str(), failure.word), (1, "+ a", Word::Refused));
    assert_eq!(failure.text, "turning the switch");
}

#[tokio::test]
async fn steps_that_change_nothing_end_as_broken() {
    let world = Switches::of([("a", Switch { dead: true, ..Switch::default() })]);
    let report = run(&world, &FakeClock::new(), 9_000).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Pending);
    assert_eq!(report.outcome.steps.len(), 6);
    let [failure] = report.failures.as_slice() else { panic!("{:?}", report.failures) };
    assert_eq!(failure.word, Word::Broken);
    assert!(failure.text.starts_with("no progress"), "{}", failure.text);
}

#[tokio::test]
async fn a_block_does_not_stop_independent_steps_and_ends_the_run() {
    let world =
        Switches { block: Some(BlockCode::Foreign), ..Switches::of([("a", Switch { slow: 2, ..Switch::default() })]) };
    let report = run(&world, &FakeClock::new(), 900).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Blocked);
    assert_eq!(taken(&report), [(1, "+ a")]);
    assert_eq!(report.outcome.blocks[0].code, BlockCode::Foreign);
    assert!(world.all.lock().unwrap()["a"].seen);
}

#[tokio::test]
async fn looking_is_tried_again_in_passing_trouble_and_given_up_in_lasting() {
    let world = Switches::of([("a", Switch::default())]);
    *world.looks.lock().unwrap() = vec![Word::Busy, Word::Busy];
    let clock = FakeClock::new();
    let report = run(&world, &clock, 900).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Converged);
    assert_eq!(clock.slept(), [1.0, 2.0]);

    *world.looks.lock().unwrap() = vec![Word::Refused];
    let report = run(&world, &clock, 900).await;
    assert_eq!(report.outcome.outcome, OutcomeKind::Pending);
    assert_eq!((report.failures[0].wave, report.failures[0].word), (0, Word::Refused));
}

#[tokio::test]
async fn waits_are_spread_by_the_jitter() {
    for (jitter, wait) in [(0.0, 1.5), (0.99, 2.49)] {
        let world = Switches::of([("a", Switch { slow: 1, ..Switch::default() })]);
        let clock = FakeClock::new();
        let deadline = clock.now() + time::Duration::minutes(1);
        reconcile(&world, &clock, Limits::until(deadline), || jitter).await;
        assert_eq!(clock.slept(), [wait]);
    }
}
