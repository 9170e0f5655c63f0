//! `rotate` and its executions: hints, passes, the evidence both are decided by, and what they write down.

use espalier_domain::id::{Generation, NodeId, TargetId};
use espalier_domain::plan::{OutcomeKind, Plan};
use espalier_domain::record::LeafRecord;
use espalier_domain::rotation::evidence::{Evidence, Managed, TargetEvidence};
use espalier_domain::rotation::execution::{self, LONGEST_WAIT_S};
use espalier_domain::rotation::plan::{is_anybody_arriving, plan};
use espalier_domain::rotation::settle::{CommandSeen, settle};
use espalier_domain::rotation::sighting;
use espalier_domain::work::{SeenTarget, SeenThrough, WorkItem};
use time::Duration;

use crate::host::Agent;
use crate::oracle::Broken;
use crate::trouble::Trouble;
use crate::world::{Event, Execution, World};

/// How many items a pass carries, and how long work that failed is left alone (`functions/rotate/src/answer.rs`).
const ITEMS: usize = 10;
const FAILED_RETRY_S: u32 = 5;

/// After so many passes an execution ends (`workflows/rotation.asl.yaml`).
const PASSES: u32 = 200;

/// Times a function is asked again, and after how many seconds.
const RETRIES: [i64; 4] = [2, 4, 8, 16];

impl World {
    /// `rotate` reads everything anew. Nothing when one of those it reads from does not answer.
    pub(crate) fn look(&mut self) -> Option<Evidence> {
        if self.is_helpless() || !self.calm && self.dice.one_in(60) {
            self.tally.meet(Trouble::Throttled);
            return None;
        }
        let now = self.now + self.skew;
        if !self.settle() {
            return None;
        }
        let targets = self.hosts.iter().map(|host| {
            let managed = Managed {
                online: host.runs && host.agent != Agent::Gone,
                address: host.has_address.then(|| [10, 0, 0, 1].into()),
                agent: None,
            };
            // An instance that was never seen by Systems Manager is not there at all.
            let known = host.runs || host.launched_at.is_none();
            TargetEvidence {
                target: host.id.clone(),
                node: NodeId::of(&host.id),
                wanted: host.wanted,
                opted_in: host.tagged,
                managed: known.then_some(managed),
                attempts: Vec::new(),
                sighting: self.ledger.sightings.get(&host.id).cloned(),
                leaves: self.own_leaves(&host.id),
            }
        });
        let mut targets: Vec<TargetEvidence> = targets.collect();
        for (key, record) in &self.ledger.attempts {
            if let Ok(index) = targets.binary_search_by(|target| target.target.cmp(&key.0)) {
                targets[index].attempts.push(record.clone());
            }
        }
        let acm_answers = self.policy.follow.is_some() && !self.is_out(Trouble::AcmOut);
        Some(Evidence {
            now,
            policy: self.policy.clone(),
            generations: self.ledger.generations.clone(),
            targets,
            authorities: self.ledger.authorities.clone(),
            turns: Vec::new(),
            acm: acm_answers.then(|| self.acm.clone()),
            through: self.ledger.through.clone(),
            membership: self.ledger.membership.clone(),
            look_since: self.ledger.look_since,
            emergency: self.ledger.emergency.clone(),
            line: None,
            epoch: self.ledger.epoch.clone(),
        })
    }

    fn own_leaves(&self, target: &TargetId) -> Vec<LeafRecord> {
        let own = (target.clone(), Generation::NONE)..=(target.clone(), Generation(u32::MAX));
        self.ledger.leaves.range(own).map(|(_, leaf)| leaf.clone()).collect()
    }

    /// Asks Run Command about what is open, and ends what is over.
    fn settle(&mut self) -> bool {
        let now = self.now + self.skew;
        let mut ends = Vec::new();
        for (key, record) in self.ledger.attempts.iter().filter(|(_, record)| record.ended.is_none()) {
            let Some(id) = &record.command_id else { continue };
            if now - record.begun_at >= Duration::hours(1) {
                continue;
            }
            if self.is_out(Trouble::CommandsOut) {
                return false;
            }
            let command = id.parse().ok().and_then(|id: u32| self.commands.get(&id));
            let pending =
                CommandSeen { status: "InProgress".into(), status_details: String::new(), output: String::new() };
            let seen = command.and_then(|command| command.seen.get(&key.0)).unwrap_or(&pending);
            let expected = self.ledger.fingerprint(&record.target, record.generation);
            ends.extend(settle(record, &self.policy.stack, expected, seen, now).map(|end| (key.clone(), end)));
        }
        for (key, end) in ends {
            *self.tally.codes.entry(end.code.clone()).or_default() += 1;
            self.ledger.end(&key, end);
        }
        true
    }

    /// Plans, and has the plan examined.
    fn decide(&mut self, evidence: &Evidence) -> Result<Plan<WorkItem>, Broken> {
        let plan = plan(evidence);
        self.tally.plans += 1;
        if self.tally.plans.is_multiple_of(4) {
            self.note(evidence, &plan);
        }
        self.examine_plan(evidence, &plan)?;
        Ok(plan)
    }

    /// A hint or the schedule: look, and see to it that an execution carries what there is to do.
    pub(crate) fn look_and_start(&mut self, tries: u32) -> Result<(), Broken> {
        if let Some(open) = self.ledger.open()
            && self.executions.iter().any(|execution| execution.runs && execution.name == open.execution)
        {
            self.ledger.nudges += 1;
            return Ok(());
        }
        let Some(evidence) = self.look() else {
            // An asynchronous invocation is repeated twice.
            if tries < 2 {
                self.after(Duration::minutes(1 + i64::from(tries)), Event::Hint { tries: tries + 1 });
            }
            return Ok(());
        };
        let plan = self.decide(&evidence)?;
        let is_begun = self.ledger.open().is_some() || is_anybody_arriving(&evidence);
        if !execution::is_worth_one(&plan, is_begun) {
            if execution::outcome(&plan) == OutcomeKind::Converged {
                self.finish();
            }
            return Ok(());
        }
        let record = self.ledger.claim(self.now);
        let index = self.start(record.execution, record.epoch.0);
        self.after(Duration::seconds(1), Event::Pass { execution: index, tries: 0 });
        Ok(())
    }

    fn start(&mut self, name: String, epoch: u32) -> usize {
        let fresh = Execution { name, epoch, runs: true, passes: 0, out: 0, failed: false, results: Vec::new() };
        self.executions.push(fresh);
        self.executions.len() - 1
    }

    /// A person starts the rotation's execution a second time.
    pub(crate) fn double(&mut self) {
        let Some(open) = self.ledger.open() else { return };
        let (name, epoch) = (format!("{}-again", open.execution), open.epoch.0);
        let index = self.start(name, epoch);
        self.after(Duration::seconds(1), Event::Pass { execution: index, tries: 0 });
    }

    fn finish(&mut self) {
        let now = self.now;
        if let Some(epoch) = self.ledger.epoch.as_mut().filter(|epoch| epoch.ended_at.is_none()) {
            epoch.ended_at = Some(now);
        }
    }

    /// One pass of an execution.
    pub(crate) fn pass(&mut self, index: usize, tries: u32) -> Result<(), Broken> {
        if !self.executions.get(index).is_some_and(|execution| execution.runs) {
            return Ok(());
        }
        if !self.calm && self.dice.one_in(150) {
            self.tally.meet(Trouble::ExecutionDied);
            self.well_since = self.now;
            self.executions[index].runs = false;
            return Ok(());
        }
        let (died, lost) = (self.dies(Trouble::DiedBefore), self.dies(Trouble::DiedAfter));
        let out = self.is_helpless();
        if !died && !out {
            let results = self.executions[index].results.clone();
            self.record_all(&results)?;
            if !self.calm && !results.is_empty() && self.dice.one_in(8) {
                // The function that was given up on writes after all.
                self.tally.meet(Trouble::SeenLate);
                let pause = Duration::seconds(i64::from(self.dice.between(5, 120)));
                self.after(pause, Event::Records { results });
            }
        }
        let evidence = if died || lost || out { None } else { self.look() };
        let Some(evidence) = evidence else {
            self.again(index, tries);
            return Ok(());
        };
        self.executions[index].results.clear();
        self.executions[index].passes += 1;
        if evidence.epoch.as_ref().is_none_or(|epoch| epoch.epoch.0 != self.executions[index].epoch) {
            self.executions[index].runs = false;
            return Ok(());
        }
        let plan = self.decide(&evidence)?;
        self.answer_pass(index, plan);
        Ok(())
    }

    fn again(&mut self, index: usize, tries: u32) {
        let pause = usize::try_from(tries).ok().and_then(|tries| RETRIES.get(tries));
        match pause {
            Some(pause) => {
                self.after(Duration::seconds(*pause), Event::Pass { execution: index, tries: tries + 1 });
            }
            None => self.executions[index].runs = false,
        }
    }

    fn answer_pass(&mut self, index: usize, plan: Plan<WorkItem>) {
        let failed = std::mem::take(&mut self.executions[index].failed);
        let waits = plan.retry_after_s().filter(|wait| *wait <= LONGEST_WAIT_S);
        let pause = match execution::outcome(&plan) {
            _ if self.executions[index].passes >= PASSES => None,
            OutcomeKind::Converged => {
                self.finish();
                None
            }
            OutcomeKind::Blocked => None,
            OutcomeKind::Pending => waits,
            OutcomeKind::Work if failed => Some(waits.map_or(FAILED_RETRY_S, |wait| wait.clamp(1, FAILED_RETRY_S))),
            OutcomeKind::Work => {
                let items: Vec<WorkItem> = plan.steps.into_iter().take(ITEMS).map(|step| step.action).collect();
                self.executions[index].out = items.len();
                for item in items {
                    let pause = Duration::milliseconds(i64::from(self.dice.between(100, 2_000)));
                    self.after(pause, Event::Work { execution: Some(index), item: Box::new(item), tries: 0 });
                }
                return;
            }
        };
        match pause {
            Some(pause) => {
                let pause = Duration::seconds(i64::from(pause.max(1)));
                self.after(pause, Event::Pass { execution: index, tries: 0 });
            }
            None => self.executions[index].runs = false,
        }
    }

    pub(crate) fn record_all(&mut self, results: &[(Vec<SeenTarget>, Vec<SeenThrough>)]) -> Result<(), Broken> {
        for (seen, through) in results {
            self.record(seen, through)?;
        }
        Ok(())
    }

    /// Writes sightings down. Executions that had the same thing looked at may bring them in any order.
    fn record(&mut self, seen: &[SeenTarget], through: &[SeenThrough]) -> Result<(), Broken> {
        for seen in seen {
            let previous = self.ledger.sightings.get(&seen.target);
            let next = sighting::after(previous, seen);
            self.examine_floor(previous.and_then(|record| record.floor), &next)?;
            self.ledger.sightings.insert(seen.target.clone(), next);
        }
        self.ledger.through = sighting::after_through(self.ledger.through.as_ref(), through);
        Ok(())
    }

    /// At rest: what is planned now, and whether that is nothing.
    pub(crate) fn plan_again(&mut self) -> Result<Option<Plan<WorkItem>>, Broken> {
        let Some(evidence) = self.look() else { return Ok(None) };
        self.decide(&evidence).map(Some)
    }
}
