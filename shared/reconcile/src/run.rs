//! The loop and its limits.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::plan::{Outcome, OutcomeKind, Plan, ReportedStep, Step};
use futures::{StreamExt, stream};
use time::OffsetDateTime;

use crate::Clock;

/// What is reconciled: how to look, what to do about it, and the hands that do it.
pub trait World: Sync {
    /// What is seen.
    type Observed: Send + Sync;
    /// What can be done.
    type Action: Send + Sync;
    /// How looking or doing fails.
    type Error: Failure + Send + 'static;

    /// Looks at everything the plan needs.
    fn observe(&self) -> impl Future<Output = Result<Self::Observed, Self::Error>> + Send;

    /// What can be done now about what is seen. Pure.
    fn plan(&self, observed: &Self::Observed, now: OffsetDateTime) -> Plan<Self::Action>;

    /// Does one thing. Idempotent: it may be called again for the same thing, also concurrently from elsewhere.
    fn apply(&self, action: &Self::Action) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The action in words; equal actions have equal words.
    fn render(&self, action: &Self::Action) -> String;
}

/// What looking is called among the steps.
const LOOK: &str = "look";

/// Of so many waits an outcome tells: each target that is on its way is one.
const WAITS: usize = 20;

/// How far a run may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// No step begins and no wait ends later than this.
    pub deadline: OffsetDateTime,
    /// Steps in flight at a time.
    pub concurrency: usize,
    /// How often in a row the same steps may be taken before it counts as no progress.
    pub same_steps: u32,
    /// The longest single wait, in seconds: a plan that has nothing to do for longer ends the run, a service that
    /// asks for longer is asked again after this.
    pub longest_wait_s: u32,
}

impl Limits {
    /// The usual limits up to the deadline.
    pub fn until(deadline: OffsetDateTime) -> Self {
        Self { deadline, concurrency: 8, same_steps: 6, longest_wait_s: 60 }
    }
}

/// A step that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// The wave it belonged to, from 1; 0 for looking.
    pub wave: u32,
    /// What was tried, in words.
    pub action: String,
    /// What kind of failure it was.
    pub word: Word,
    /// The error and its causes.
    pub text: String,
}

/// What a run did and where it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// `converged`, `pending` or `blocked`, with every step that was taken.
    pub outcome: Outcome,
    /// Failures that time alone will not end: each was tried once.
    pub failures: Vec<FailedStep>,
}

impl Report {
    /// Whether anything was changed.
    pub fn changed(&self) -> bool {
        !self.outcome.steps.is_empty()
    }
}

/// Runs the loop once, to its end or to its limits.
///
/// `jitter` gives a number in `0.0..1.0` for each wait. A failed step stops nothing that is independent of it: a
/// passing failure ([`Word::is_passing`]) is tried again after a wait, a lasting one is reported and not tried again
/// in this run.
pub async fn reconcile<W: World, C: Clock>(
    world: &W,
    clock: &C,
    limits: Limits,
    jitter: impl FnMut() -> f64 + Send,
) -> Report {
    Run {
        world,
        clock,
        limits,
        jitter,
        wave: 0,
        steps: Vec::new(),
        failures: Vec::new(),
        passing: Vec::new(),
        given_up: BTreeSet::new(),
        last: Vec::new(),
        repeats: 0,
        stumbles: 0,
    }
    .go()
    .await
}

struct Run<'a, W, C, J> {
    world: &'a W,
    clock: &'a C,
    limits: Limits,
    jitter: J,
    wave: u32,
    steps: Vec<ReportedStep>,
    failures: Vec<FailedStep>,
    /// What failed in passing at the last try, and how.
    passing: Vec<(String, String)>,
    /// Steps that failed lastingly, in words.
    given_up: BTreeSet<String>,
    /// The steps of the last wave, in words, and how often in a row they were the same.
    last: Vec<String>,
    repeats: u32,
    /// Passing failures in a row.
    stumbles: u32,
}

impl<W: World, C: Clock, J: FnMut() -> f64 + Send> Run<'_, W, C, J> {
    async fn go(mut self) -> Report {
        loop {
            let observed = match self.world.observe().await {
                Ok(observed) => observed,
                Err(error) if error.word().is_passing() => {
                    let text = chain(&error);
                    tracing::warn!(error = text, "looking failed in passing");
                    self.passing = vec![(LOOK.into(), text)];
                    let wait_s = self.backoff_s(error.retry_after_s());
                    if self.wait(wait_s).await {
                        continue;
                    }
                    return self.end(OutcomeKind::Pending, Some(wait_s), Plan::default());
                }
                Err(error) => {
                    self.failures.push(FailedStep {
                        wave: 0,
                        action: LOOK.into(),
                        word: error.word(),
                        text: chain(&error),
                    });
                    return self.end(OutcomeKind::Pending, None, Plan::default());
                }
            };
            self.passing.retain(|(what, _)| what != LOOK);
            let mut plan = self.world.plan(&observed, self.clock.now());
            drop(observed);
            if plan.is_converged() {
                return self.end(OutcomeKind::Converged, None, plan);
            }
            let due = self.due(std::mem::take(&mut plan.steps));
            let wait_s = if due.is_empty() {
                match plan.retry_after_s() {
                    // Nobody sits that long in a function that is paid by the second: whoever called comes again.
                    Some(wait_s) if wait_s > self.limits.longest_wait_s => {
                        let kind = if plan.blocks.is_empty() { OutcomeKind::Pending } else { OutcomeKind::Blocked };
                        return self.end(kind, Some(wait_s), plan);
                    }
                    Some(wait_s) => wait_s,
                    None if plan.blocks.is_empty() => return self.end(OutcomeKind::Pending, None, plan),
                    None => return self.end(OutcomeKind::Blocked, None, plan),
                }
            } else {
                if self.clock.now() >= self.limits.deadline {
                    return self.end(OutcomeKind::Pending, Some(1), plan);
                }
                if self.is_stuck(&due) {
                    return self.end(OutcomeKind::Pending, None, plan);
                }
                match self.take(due).await {
                    Some(asked_s) => self.backoff_s(Some(asked_s)),
                    None => {
                        self.stumbles = 0;
                        // The same steps again although they went well: what they made is not visible yet.
                        self.repeats
                    }
                }
            };
            if !self.wait(wait_s).await {
                let kind = if plan.blocks.is_empty() { OutcomeKind::Pending } else { OutcomeKind::Blocked };
                return self.end(kind, Some(wait_s.max(1)), plan);
            }
        }
    }

    /// The steps that have not failed lastingly in this run.
    fn due(&self, steps: Vec<Step<W::Action>>) -> Vec<(String, Step<W::Action>)> {
        steps
            .into_iter()
            .map(|step| (self.world.render(&step.action), step))
            .filter(|(words, _)| !self.given_up.contains(words))
            .collect()
    }

    /// Counts how often the same steps come up in a row; past the limit it is a failure, because steps that go well
    /// and change nothing are an error of ours (or somebody undoes them as fast).
    fn is_stuck(&mut self, due: &[(String, Step<W::Action>)]) -> bool {
        let words: Vec<String> = due.iter().map(|(words, _)| words.clone()).collect();
        // While steps fail in passing, repeating them is what was meant.
        self.repeats = if words == self.last && self.stumbles == 0 { self.repeats + 1 } else { 0 };
        self.last = words;
        if self.repeats < self.limits.same_steps {
            return false;
        }
        let mut why: Vec<&str> = due.iter().map(|(_, step)| step.because.as_str()).collect();
        why.dedup();
        let why = why.join("; ");
        self.failures.push(FailedStep {
            wave: self.wave,
            action: self.last.join(", "),
            word: Word::Broken,
            text: format!("no progress: the same steps were taken {} times and are still due ({why})", self.repeats),
        });
        true
    }

    /// Takes a wave of independent steps concurrently. If any failed in passing, answers the longest wait a service
    /// asked for, in seconds.
    async fn take(&mut self, due: Vec<(String, Step<W::Action>)>) -> Option<u32> {
        self.wave += 1;
        self.passing.clear();
        let world = self.world;
        let mut done = stream::iter(due.into_iter().enumerate())
            .map(|(place, (words, step))| async move {
                let result = world.apply(&step.action).await;
                (place, words, step.because, result)
            })
            .buffer_unordered(self.limits.concurrency.max(1))
            .collect::<Vec<_>>()
            .await;
        // The report is in the plan's order, whichever step ended first.
        done.sort_by_key(|(place, ..)| *place);
        let mut stumbled: Option<u32> = None;
        for (_, action, because, result) in done {
            match result {
                Ok(()) => {
                    tracing::info!(wave = self.wave, action, because, "step taken");
                    self.steps.push(ReportedStep { wave: self.wave, action, because });
                }
                Err(error) if error.word().is_passing() => {
                    let text = chain(&error);
                    tracing::warn!(wave = self.wave, action, error = text, "step failed in passing");
                    self.passing.push((action, text));
                    let asked_s = error.retry_after_s().unwrap_or(0);
                    stumbled = Some(stumbled.unwrap_or(0).max(asked_s));
                }
                Err(error) => {
                    let text = chain(&error);
                    tracing::error!(wave = self.wave, action, error = text, "step failed");
                    self.given_up.insert(action.clone());
                    self.failures.push(FailedStep { wave: self.wave, action, word: error.word(), text });
                }
            }
        }
        stumbled
    }

    /// The next wait after a passing failure: doubling, but at least what the service asked for.
    fn backoff_s(&mut self, asked_s: Option<u32>) -> u32 {
        self.stumbles += 1;
        let doubling = 1_u32 << self.stumbles.min(5).saturating_sub(1);
        doubling.max(asked_s.unwrap_or(0))
    }

    /// Waits, spread by the jitter; `false`, at once, when the wait would end past the deadline.
    async fn wait(&mut self, wait_s: u32) -> bool {
        if wait_s == 0 {
            return true;
        }
        let wait_s = f64::from(wait_s.min(self.limits.longest_wait_s));
        // Between three quarters and five quarters of what was asked for.
        let wait = Duration::from_secs_f64(wait_s * (0.75 + 0.5 * (self.jitter)()));
        if self.clock.now() + wait >= self.limits.deadline {
            return false;
        }
        self.clock.sleep(wait).await;
        true
    }

    fn end(self, kind: OutcomeKind, retry_after_s: Option<u32>, plan: Plan<W::Action>) -> Report {
        let tried =
            self.passing.iter().map(|(what, text)| format!("{what} to succeed: it is tried again after {text}"));
        let mut waits: Vec<String> = tried.chain(plan.waits.iter().map(|wait| wait.on.clone())).collect();
        if waits.len() > WAITS {
            let more = waits.len() - WAITS;
            waits.truncate(WAITS);
            waits.push(format!("{more} more"));
        }
        tracing::info!(outcome = ?kind, steps = self.steps.len(), failures = self.failures.len(), ?waits, "end of the run");
        let outcome = Outcome {
            retry_after_s,
            steps: self.steps,
            blocks: plan.blocks,
            waits: if kind == OutcomeKind::Converged { Vec::new() } else { waits },
            ..Outcome::bare(kind, None)
        };
        Report { outcome, failures: self.failures }
    }
}
