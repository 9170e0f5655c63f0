//! One rotation of a large fleet on a virtual clock, with AWS's published quotas as hard limits: whoever asks beyond one is
//! refused, as AWS does it.
//!
//! What is the product's here: the plan, what a pass carries, the line of readers, settling, sightings. What is told again:
//! the order of `rotate`'s, `distribute`'s and the installer's calls, and that nothing else goes wrong: that is `world`'s
//! subject. What AWS does not publish is an [`Assumptions`], and printed with the result.

mod clock;
mod stack;

use std::collections::BTreeMap;
use std::fmt;

use espalier_domain::rotation::pace::{FETCH_QUOTA, LineRecord};
use espalier_domain::work::DeliverItem;

use clock::{Bucket, Clock};
use stack::Stack;

/// What AWS does not publish, and what was measured elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assumptions {
    /// How many `SendCommand` a second Run Command takes; one second's worth at once.
    pub send_command_per_s: u32,
    /// How long a call to AWS takes; calls of one function follow one another.
    pub call_ms: u64,
    /// How long a call to the ledger takes.
    pub ledger_ms: u64,
    /// From `SendCommand` to the installer's start.
    pub arrival_ms: u64,
    /// From the leaf that was read to the server that serves it.
    pub install_ms: u64,
    /// How long `verify` takes to dial a page of targets.
    pub tour_ms: u64,
}

impl Default for Assumptions {
    fn default() -> Self {
        // Arrival and installation together: a target holds a slot for five seconds.
        Self { send_command_per_s: 5, call_ms: 50, ledger_ms: 10, arrival_ms: 1_000, install_ms: 4_000, tour_ms: 2_000 }
    }
}

impl Assumptions {
    /// A target's own run, in seconds.
    fn run_s(&self) -> f64 {
        seconds(self.arrival_ms + self.install_ms)
    }
}

impl fmt::Display for Assumptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { send_command_per_s, call_ms, ledger_ms, arrival_ms, install_ms, tour_ms } = self;
        write!(
            f,
            "published and hard: {FETCH_QUOTA} GetParameter a second, 50 instances a command; assumed: {send_command_per_s} \
             SendCommand a second, {call_ms} ms a call, {ledger_ms} ms a ledger call, {arrival_ms} ms until a command \
             arrives, {install_ms} ms to install and reload, {tour_ms} ms to dial a page"
        )
    }
}

/// What a rotation came to. Times are in seconds, from the moment the canary is proven on.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// How many targets.
    pub targets: usize,
    /// Of how many stacks.
    pub stacks: usize,
    /// How long the canary took, before.
    pub canary_s: f64,
    /// Until the last target served the new leaf.
    pub served_s: f64,
    /// Until the last rotation ended: everybody proven by a handshake.
    pub proven_s: f64,
    /// The slowest stage alone: every target's read at the whole quota, or a target's own run.
    pub bound_s: f64,
    /// The same, and the last target's own run after its read.
    pub reachable_s: f64,
    /// Installers that gave up.
    pub failed: u64,
    /// Reads that were refused and tried again.
    pub refused: u64,
    /// The most passes of an execution.
    pub passes: u32,
    /// Calls by name, refused ones included.
    pub calls: BTreeMap<&'static str, u64>,
}

impl Scale {
    /// Time to served as a multiple of the slowest stage.
    pub fn ratio(&self) -> f64 {
        self.served_s / self.bound_s
    }

    /// Time to served as a multiple of what could be reached.
    pub fn ratio_to_reachable(&self) -> f64 {
        self.served_s / self.reachable_s
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            targets, stacks, canary_s, served_s, proven_s, bound_s, reachable_s, failed, refused, passes, ..
        } = self;
        write!(
            f,
            "{targets} targets of {stacks} stack(s): served after {served_s:.1} s, proven after {proven_s:.1} s (canary \
             {canary_s:.1} s before); lower bound {bound_s:.1} s: {:.2}x; with the last target's own run {reachable_s:.1} s: \
             {:.2}x; {failed} failed fetches, {refused} tried again; {passes} passes\n   ",
            self.ratio(),
            self.ratio_to_reachable(),
        )?;
        self.calls.iter().try_for_each(|(name, count)| write!(f, " {name} {count}"))
    }
}

fn seconds(ms: u64) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1_000.0
}

/// Something that is to happen.
#[derive(Debug)]
enum Event {
    /// An execution asks `rotate`.
    Pass { stack: usize },
    /// `rotate` answers: its work is handed out.
    Deliver { stack: usize, item: Box<DeliverItem>, tries: u32 },
    /// An installer asks for its leaf: since when, and how long it pauses next.
    Fetch { stack: usize, target: usize, command: usize, since: u64, pause_s: u64 },
    /// A host serves the new leaf.
    Serves { stack: usize, target: usize, command: usize },
}

struct World {
    clock: Clock<Event>,
    assumptions: Assumptions,
    stacks: Vec<Stack>,
    line: Option<LineRecord>,
    reads: Bucket,
    sends: Bucket,
    calls: BTreeMap<&'static str, u64>,
    failed: u64,
    refused: u64,
    served_ms: u64,
}

/// Rotates so many targets, in equal parts of so many stacks: a canary of one, and then as large a part as the policy's
/// wave of so many percent.
pub fn rotate(targets: usize, stacks: usize, wave_percent: u32, assumptions: Assumptions) -> Scale {
    let mut world = World {
        clock: Clock::default(),
        assumptions,
        stacks: (0..stacks).map(|number| Stack::new(number, targets / stacks, wave_percent)).collect(),
        line: None,
        reads: Bucket::new(FETCH_QUOTA),
        sends: Bucket::new(assumptions.send_command_per_s),
        calls: BTreeMap::new(),
        failed: 0,
        refused: 0,
        served_ms: 0,
    };
    for stack in 0..stacks {
        world.clock.after(0, Event::Pass { stack });
    }
    while let Some(event) = world.clock.next() {
        match event {
            Event::Pass { stack } => world.pass(stack),
            Event::Deliver { stack, item, tries } => world.deliver(stack, item, tries),
            Event::Fetch { stack, target, command, since, pause_s } => {
                world.fetch(stack, target, command, since, pause_s);
            }
            Event::Serves { stack, target, command } => {
                world.served_ms = world.clock.now_ms;
                world.stacks[stack].answers(command, target, true);
            }
        }
    }
    world.outcome(targets)
}

impl World {
    fn outcome(self, targets: usize) -> Scale {
        let waves = || self.stacks.iter().filter_map(|stack| stack.wave_ms);
        let begun = waves().min().unwrap_or_default();
        let proven = self.stacks.iter().filter_map(|stack| stack.ended_ms).max().unwrap_or(u64::MAX);
        let all_reads = f64::from(u32::try_from(targets).unwrap_or(u32::MAX)) / f64::from(FETCH_QUOTA);
        Scale {
            targets,
            stacks: self.stacks.len(),
            canary_s: seconds(begun),
            served_s: seconds(self.served_ms.saturating_sub(begun)),
            proven_s: seconds(proven.saturating_sub(begun)),
            bound_s: all_reads.max(self.assumptions.run_s()),
            reachable_s: all_reads + self.assumptions.run_s(),
            failed: self.failed,
            refused: self.refused,
            passes: self.stacks.iter().map(|stack| stack.passes).max().unwrap_or_default(),
            calls: self.calls,
        }
    }

    /// Counts calls that follow one another, and says how long they take.
    fn call(&mut self, name: &'static str, count: usize) -> u64 {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        *self.calls.entry(name).or_default() += count;
        let is_ledger = matches!(name, "GetItem" | "PutItem" | "Query" | "TransactWriteItems");
        count * if is_ledger { self.assumptions.ledger_ms } else { self.assumptions.call_ms }
    }
}
