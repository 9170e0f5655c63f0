//! A stack's rotation: what `rotate` reads and writes in a pass, what `distribute` sends, what its hosts do.

use std::collections::BTreeMap;

use espalier_domain::id::{Generation, NodeId, StackName, TargetId};
use espalier_domain::plan::OutcomeKind;
use espalier_domain::record::{GenerationRecord, SightingRecord};
use espalier_domain::rotation::evidence::{Evidence, Managed, TargetEvidence};
use espalier_domain::rotation::execution::{self, LONGEST_WAIT_S};
use espalier_domain::rotation::pace;
use espalier_domain::rotation::plan::plan;
use espalier_domain::rotation::policy::Wave;
use espalier_domain::rotation::settle::{CommandSeen, settle};
use espalier_domain::rotation::sighting;
use espalier_domain::verdict::Verdict;
use espalier_domain::work::{DeliverItem, DeliveryAction, PAGE, Pass, SeenTarget, WorkItem};
use time::Duration;

use super::{Event, World};
use crate::model::{agreed, known, leaf};
use crate::world::START;

/// How often everything is looked at without being asked (`SweepRate`).
const SWEEP_MS: u64 = 900_000;

/// `FETCH_SECONDS` of the installer, and its longest pause (`documents/installer.sh`).
const FETCH_MS: u64 = 120_000;
const LONGEST_PAUSE_S: u64 = 16;

/// The SDK's own attempts, and the pauses after which `distribute` begins them again (`functions/distribute/src/deliver.rs`).
const SDK_TRIES: u32 = 3;
const THROTTLED_S: [u32; 4] = [1, 2, 4, 8];

/// A command: who got it, and what became of it there.
struct Command {
    seen: BTreeMap<usize, CommandSeen>,
    is_settled: bool,
    targets: Vec<usize>,
}

pub(super) struct Stack {
    evidence: Evidence,
    commands: Vec<Command>,
    /// Items whose answer the execution waits for.
    out: usize,
    failed: bool,
    results: Vec<SeenTarget>,
    pub(super) passes: u32,
    /// When the first delivery after the canary was planned.
    pub(super) wave_ms: Option<u64>,
    pub(super) ended_ms: Option<u64>,
}

impl Stack {
    /// Everybody serves the first generation, and the second one was just minted.
    pub(super) fn new(number: usize, targets: usize, wave_percent: u32) -> Self {
        let mut policy = agreed();
        policy.stack = StackName::parse(format!("fleet-{number}")).expect("a stack's name");
        policy.wave = Wave::Percent(wave_percent);
        let names = || policy.leaf_names();
        let generations = vec![
            leaf(&policy, Generation(1), names(), START - Duration::hours(100)),
            leaf(&policy, Generation(2), names(), START),
        ];
        let targets = (0..targets).map(|index| target(number, index)).collect();
        let evidence = known(START, policy, generations, targets);
        Self {
            evidence,
            commands: Vec::new(),
            out: 0,
            failed: false,
            results: Vec::new(),
            passes: 0,
            wave_ms: None,
            ended_ms: None,
        }
    }

    fn newest(&self) -> &GenerationRecord {
        &self.evidence.generations[1]
    }

    /// Where a target stands in the evidence: its id says so.
    fn index(target: &TargetId) -> usize {
        let digits = target.as_str().get(7..).and_then(|digits| usize::from_str_radix(digits, 16).ok());
        digits.expect("an id that this world made")
    }

    /// The installer's last line.
    pub(super) fn answers(&mut self, command: usize, target: usize, good: bool) {
        let (newest, stack) = (self.newest(), &self.evidence.policy.stack);
        let (status, code) = if good { ("Success", "installed") } else { ("Failed", "fetchFailed") };
        let output = format!(
            "{{\"espalier\":1,\"code\":\"{code}\",\"stack\":\"{stack}\",\"generation\":{},\"fingerprint\":\"{}\",\
             \"serial\":\"0\",\"detail\":\"\"}}\n",
            newest.generation, newest.fingerprint
        );
        let seen = CommandSeen { status: status.into(), status_details: status.into(), output };
        self.commands[command].seen.insert(target, seen);
    }

    /// Asks about every command that is open; how many were asked about, and how many attempts have ended.
    fn settle(&mut self) -> (usize, usize) {
        let (mut asked, mut ended) = (0, 0);
        let now = self.evidence.now;
        let newest = self.newest().fingerprint.clone();
        for command in self.commands.iter_mut().filter(|command| !command.is_settled) {
            asked += 1;
            let mut open = command.targets.len();
            for index in &command.targets {
                let Some(attempt) = self.evidence.targets[*index].attempts.last_mut() else { continue };
                if attempt.ended.is_none()
                    && let Some(seen) = command.seen.get(index)
                    && let Some(end) = settle(attempt, &self.evidence.policy.stack, Some(newest.as_str()), seen, now)
                {
                    attempt.ended = Some(end);
                    ended += 1;
                }
                open -= usize::from(attempt.ended.is_some());
            }
            command.is_settled = open == 0;
        }
        (asked, ended)
    }

    fn record(&mut self) -> usize {
        let results = std::mem::take(&mut self.results);
        for seen in &results {
            let target = &mut self.evidence.targets[Self::index(&seen.target)];
            target.sighting = Some(sighting::after(target.sighting.as_ref(), seen));
        }
        results.len()
    }
}

fn target(stack: usize, index: usize) -> TargetEvidence {
    let target = TargetId::parse(format!("i-{stack:05x}{index:012x}")).expect("an instance id");
    TargetEvidence {
        node: NodeId::of(&target),
        wanted: true,
        opted_in: true,
        managed: Some(Managed { online: true, address: Some([10, 0, 0, 1].into()), agent: None }),
        attempts: Vec::new(),
        leaves: Vec::new(),
        sighting: Some(SightingRecord {
            target: target.clone(),
            generation: Generation(1),
            at: START,
            port: Some(8443),
            verdict: good(),
            floor: Some(Generation(1)),
            failing_since: None,
        }),
        target,
    }
}

fn good() -> Verdict {
    Verdict { fingerprint: None, serial: None, not_after: None, tls: None, faults: Vec::new() }
}

impl World {
    /// One pass: writes down what came back, looks, plans, takes places in the line, hands out.
    pub(super) fn pass(&mut self, number: usize) {
        let begun_ms = self.clock.now_ms;
        let now = self.clock.moment(0);
        let stack = &mut self.stacks[number];
        stack.passes += 1;
        stack.evidence.now = now;
        stack.evidence.line = self.line;
        let targets = stack.evidence.targets.len();
        let (recorded, (asked, ended)) = (stack.record(), stack.settle());
        let failed = std::mem::take(&mut stack.failed);
        let (passes, plan) = (stack.passes, plan(&stack.evidence));
        // Each sighting is read and written; the ledger's nine lists, of which the attempts' is the long one; the spec.
        let mut took = self.call("GetItem", recorded) + self.call("PutItem", recorded + ended);
        took +=
            self.call("Query", 9 + targets / 1_000) + self.call("DescribeInstanceInformation", targets.div_ceil(PAGE));
        took += self.call("ListCommandInvocations", asked) + self.call("GetParameter", 1);
        // Nobody reads it in vain: the SDK asks again a moment later.
        if !self.reads.take(begun_ms) {
            self.refused += 1;
            took += self.call("GetParameter", 1) + 1_000;
        }
        let wait_s = plan.retry_after_s().filter(|wait| *wait <= LONGEST_WAIT_S).map(|wait| u64::from(wait.max(1)));
        match execution::outcome(&plan) {
            OutcomeKind::Converged => self.stacks[number].ended_ms = Some(begun_ms + took),
            OutcomeKind::Blocked => {}
            _ if passes.is_multiple_of(Pass::LAST) => {
                self.clock.after(SWEEP_MS - (begun_ms + took) % SWEEP_MS + took, Event::Pass { stack: number });
            }
            OutcomeKind::Work if failed => self.clock.after(took + 5_000, Event::Pass { stack: number }),
            OutcomeKind::Pending => {
                self.clock.after(took + wait_s.map_or(SWEEP_MS, |wait| wait * 1_000), Event::Pass { stack: number });
            }
            OutcomeKind::Work => {
                let steps = execution::carried_by_a_pass(plan.steps);
                let mut items: Vec<WorkItem> = steps.into_iter().map(|step| step.action).collect();
                let readers = pace::readers(&items);
                if readers > 0 {
                    took += self.call("GetItem", 1) + self.call("PutItem", 1);
                    let handed_out = self.clock.moment(took);
                    let (first, line) = pace::join(self.line.as_ref(), handed_out, readers);
                    self.line = Some(line);
                    pace::line_up(&mut items, first, handed_out);
                }
                self.hand_out(number, items, took);
            }
        }
    }

    fn hand_out(&mut self, number: usize, items: Vec<WorkItem>, took: u64) {
        let begun_ms = self.clock.now_ms;
        let mut tour = None;
        self.stacks[number].out = items.len();
        for item in items {
            match item {
                WorkItem::Deliver(item) => {
                    let stack = &mut self.stacks[number];
                    if !stack.commands.is_empty() {
                        stack.wave_ms.get_or_insert(begun_ms);
                    }
                    self.clock.after(took, Event::Deliver { stack: number, item: Box::new(item), tries: 0 });
                }
                WorkItem::Verify(item) => {
                    let at = self.clock.moment(took + self.assumptions.tour_ms);
                    let seen = item.targets.into_iter().map(|dialled| SeenTarget {
                        target: dialled.target,
                        generation: dialled.generation,
                        at,
                        port: Some(8443),
                        verdict: good(),
                        connect_ms: None,
                        handshake_ms: 5.0,
                    });
                    self.stacks[number].results.extend(seen);
                    self.stacks[number].out -= 1;
                    tour = Some(took + self.assumptions.tour_ms);
                }
                WorkItem::Authority(_) | WorkItem::Mint(_) | WorkItem::Export(_) | WorkItem::Membership(_) => {
                    self.stacks[number].out -= 1;
                }
            }
        }
        // Deliveries that go along with it end sooner, or ask for the next pass themselves.
        if let (Some(tour), 0) = (tour, self.stacks[number].out) {
            self.clock.after(tour, Event::Pass { stack: number });
        }
    }

    /// `distribute`: writes the attempts down, sends, notes the command's id.
    pub(super) fn deliver(&mut self, number: usize, item: Box<DeliverItem>, tries: u32) {
        let mut took = 0;
        if tries == 0 {
            took += self.call("GetItem", 1) + self.call("TransactWriteItems", 1);
            let begun_at = self.clock.moment(0);
            let leaf = self.stacks[number].evidence.newest().expect("a delivery has a leaf").clone();
            for attempt in item.attempts(&leaf, begun_at) {
                self.stacks[number].evidence.targets[Stack::index(&attempt.target)].attempts.push(attempt);
            }
        }
        took += self.call("SendCommand", 1);
        if !self.sends.take(self.clock.now_ms) {
            self.refused_send(number, item, tries, took);
            return;
        }
        took += self.call("TransactWriteItems", 1);
        let stack = &mut self.stacks[number];
        let command = stack.commands.len();
        let id = command.to_string();
        let targets: Vec<usize> = item.targets.iter().map(Stack::index).collect();
        for index in &targets {
            if let Some(attempt) = stack.evidence.targets[*index].attempts.last_mut() {
                attempt.command_id = Some(id.clone());
            }
        }
        for index in &targets {
            let part = cksum(*index) % u64::from(item.window_s.max(1));
            let wait = self.assumptions.arrival_ms + (u64::from(item.start_s) + part) * 1_000;
            let since = self.clock.now_ms + took + wait;
            let event = Event::Fetch { stack: number, target: *index, command, since, pause_s: 1 };
            self.clock.after(took + wait, event);
        }
        stack.commands.push(Command {
            seen: BTreeMap::new(),
            is_settled: item.action != DeliveryAction::Install,
            targets,
        });
        self.back(number, took, false);
    }

    /// Run Command refused for its rate: the SDK tries again, then `distribute`, then nobody.
    fn refused_send(&mut self, number: usize, mut item: Box<DeliverItem>, tries: u32, took: u64) {
        let next = tries + 1;
        let mut pause = took + jitter_ms(number, &item, tries % SDK_TRIES, tries);
        if next.is_multiple_of(SDK_TRIES) {
            let round = usize::try_from(next / SDK_TRIES - 1).unwrap_or(usize::MAX);
            let Some(wait_s) = THROTTLED_S.get(round) else {
                self.not_sent(number, &item);
                self.back(number, took, true);
                return;
            };
            pause = took + u64::from(*wait_s) * 1_000;
            item.start_s = item.start_s.saturating_sub(*wait_s);
        }
        self.clock.after(pause, Event::Deliver { stack: number, item, tries: next });
    }

    /// Nobody waits for a command that was refused (`functions/distribute/src/deliver.rs`).
    fn not_sent(&mut self, number: usize, item: &DeliverItem) {
        let at = self.clock.moment(0);
        *self.calls.entry("PutItem").or_default() += u64::try_from(item.targets.len()).unwrap_or_default();
        for target in &item.targets {
            let attempts = &mut self.stacks[number].evidence.targets[Stack::index(target)].attempts;
            if let Some(attempt) = attempts.last_mut() {
                let code = "Undeliverable".to_owned();
                attempt.ended =
                    Some(espalier_domain::record::AttemptEnd { installed: false, code, detail: String::new(), at });
            }
        }
    }

    /// An item came back; after the last one the execution asks again.
    fn back(&mut self, number: usize, took: u64, failed: bool) {
        let stack = &mut self.stacks[number];
        stack.out = stack.out.saturating_sub(1);
        stack.failed |= failed;
        if stack.out == 0 {
            let tour = if stack.results.is_empty() { 0 } else { self.assumptions.tour_ms };
            self.clock.after(took.max(tour), Event::Pass { stack: number });
        }
    }

    /// The installer asks Parameter Store, again and again until its deadline.
    pub(super) fn fetch(&mut self, stack: usize, target: usize, command: usize, since: u64, pause_s: u64) {
        self.call("GetParameter", 1);
        let now = self.clock.now_ms;
        if self.reads.take(now) {
            self.clock.after(self.assumptions.install_ms, Event::Serves { stack, target, command });
        } else if now + pause_s * 1_000 >= since + FETCH_MS {
            self.failed += 1;
            self.stacks[stack].answers(command, target, false);
        } else {
            self.refused += 1;
            let pause_s_next = (pause_s * 2).min(LONGEST_PAUSE_S);
            let event = Event::Fetch { stack, target, command, since, pause_s: pause_s_next };
            self.clock.after(pause_s * 1_000, event);
        }
    }
}

/// A host's own part of the spread: as even as the installer's `cksum` of its name.
fn cksum(index: usize) -> u64 {
    u64::try_from(index).unwrap_or_default().wrapping_mul(2_654_435_761) >> 7
}

/// The SDK's pause after a refusal: any part of a second, then of two.
fn jitter_ms(number: usize, item: &DeliverItem, round: u32, tries: u32) -> u64 {
    let which =
        item.targets.first().map_or(0, Stack::index) / PAGE * 31 + number * 7 + usize::try_from(tries).unwrap_or(0);
    cksum(which + 1) % (1_000 << round)
}
