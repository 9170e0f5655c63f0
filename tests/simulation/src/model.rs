//! The rotation protocol explored to the last state: every order of passes, work, crashes, repetitions and delays within
//! a horizon, with the production planner in each state.
//!
//! A pass may be made in any state, also while work of an earlier one is still in flight: that is a delay, and it is a
//! second rotation at the same time. A host that waits for its confirmation goes back by itself at any time after its deadline.
//! From each state at the horizon a run without faults has to come to rest.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use espalier_domain::id::{Generation, NodeId, Scope, TargetId};
use espalier_domain::plan::Plan;
use espalier_domain::record::{AttemptRecord, GenerationRecord, SightingRecord};
use espalier_domain::rotation::evidence::{Evidence, Managed, TargetEvidence};
use espalier_domain::rotation::plan::plan;
use espalier_domain::rotation::policy::{Policy, Wave};
use espalier_domain::rotation::settle::{CommandSeen, InstallerCode, settle};
use espalier_domain::rotation::sighting;
use espalier_domain::spec::Confirm;
use espalier_domain::verdict::{Fault, Verdict};
use espalier_domain::work::{DeliverItem, DeliveryAction, SeenTarget, VerifyItem, WorkItem};
use time::{Duration, OffsetDateTime};

use crate::dice::Dice;
use crate::host::{Host, Ill, Pair};
use crate::ledger::Key;
use crate::oracle::{Broken, CANARY, CONFIRMED, CONVERGES, NEVER_BACKWARDS, NEVER_WORSE, ONCE, QUARANTINE, hold};
use crate::world::{START, authority, policy};

/// One step of time.
const TICK: Duration = Duration::seconds(20);
/// How long a host waits for its confirmation: within the horizon, so that it also waits in vain.
const CONFIRM_S: u32 = 20;

/// What is to be explored.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Targets; the first to be given the new leaf is the canary, the others are the second wave.
    pub hosts: u32,
    /// How far the clock may go, in steps of 20 seconds.
    pub ticks: u32,
    /// How many faults may occur in one history.
    pub faults: u32,
    /// Which targets go back by themselves unless they are told that the new leaf was seen.
    pub confirm: Confirm,
}

/// What was explored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Explored {
    /// Distinct states.
    pub states: usize,
    /// Transitions between them.
    pub transitions: usize,
    /// States at the horizon, from each of which a run without faults came to rest.
    pub ends: usize,
    /// States in which a host has gone back by itself.
    pub gone_back: usize,
}

/// A host and the installer that runs on it.
#[derive(Debug, Clone)]
struct Target {
    host: Host,
    run: Option<Run>,
}

#[derive(Debug, Clone)]
struct Run {
    key: Key,
    action: DeliveryAction,
    confirm: Option<Duration>,
    /// The ledger knows the command, and so learns what it came to.
    noted: bool,
}

#[derive(Debug, Clone)]
struct State {
    now: OffsetDateTime,
    generations: Vec<GenerationRecord>,
    hosts: BTreeMap<TargetId, Target>,
    attempts: BTreeMap<Key, AttemptRecord>,
    sightings: BTreeMap<TargetId, SightingRecord>,
    flight: Vec<WorkItem>,
    sent: BTreeMap<Key, u32>,
    faults: u32,
}

/// How a piece of work goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Well,
    Twice,
    Lost,
    Begun,
    SentUnnoted,
}

/// Explores everything within the bounds.
///
/// # Errors
/// A promise that is broken in some state.
pub fn explore(bounds: Bounds) -> Result<Explored, Broken> {
    let policy = Policy { confirm: bounds.confirm, confirm_s: CONFIRM_S, ..agreed() };
    let (mut seen, mut queue, mut found) = (HashSet::new(), VecDeque::new(), Explored::default());
    let first = State::first(&policy, bounds);
    seen.insert(first.key());
    queue.push_back(first);
    while let Some(state) = queue.pop_front() {
        found.states += 1;
        found.gone_back += usize::from(state.hosts.values().any(|target| target.host.unconfirmed.is_some()));
        state.examine(&policy)?;
        let next = state.successors(&policy, bounds)?;
        if state.now >= START + TICK * bounds.ticks {
            found.ends += 1;
            state.settles(&policy)?;
        }
        for state in next {
            found.transitions += 1;
            if seen.insert(state.key()) {
                queue.push_back(state);
            }
        }
    }
    Ok(found)
}

/// What is known of a fleet of which nothing else is to be told: its authority outlives whatever is played.
pub(crate) fn known(
    now: OffsetDateTime,
    policy: Policy,
    generations: Vec<GenerationRecord>,
    targets: Vec<TargetEvidence>,
) -> Evidence {
    Evidence {
        now,
        policy,
        generations,
        targets,
        authorities: vec![authority(1, START + Duration::days(1_000))],
        turns: Vec::new(),
        acm: None,
        through: None,
        membership: None,
        look_since: None,
        emergency: None,
        line: None,
        epoch: None,
    }
}

/// Other names are asked for than the leaf has that is served everywhere.
pub(crate) fn agreed() -> Policy {
    let mut policy = policy(&mut Dice::new(1));
    (policy.validity_hours, policy.renew_before_hours, policy.safety_margin_hours) = (168, 56, 28);
    (policy.canary, policy.wave, policy.bake_minutes, policy.failure_budget) = (1, Wave::Targets(2), 0, 0);
    (policy.samples, policy.follow, policy.renew_spread_percent) = (0, None, 0);
    policy.confirm = Confirm::Never;
    policy
}

pub(crate) fn leaf(
    policy: &Policy,
    generation: Generation,
    names: Vec<String>,
    now: OffsetDateTime,
) -> GenerationRecord {
    GenerationRecord {
        scope: Scope::shared(),
        generation,
        parameter: String::new(),
        serial: format!("{:x}", generation.0),
        fingerprint: format!("{:064x}", generation.0),
        dns_names: names,
        not_before: now - Duration::minutes(5),
        not_after: now + policy.validity(),
        minted_at: now,
        authority: authority(1, START).authority,
        follows: None,
        export: None,
        spec: None,
        key_type: None,
        custody: espalier_domain::spec::Custody::default(),
        because: String::new(),
    }
}

impl Target {
    fn serves(&self) -> Generation {
        match self.host.serves {
            Some(Pair::Ours(generation)) => generation,
            Some(Pair::Foreign(_)) | None => Generation::NONE,
        }
    }
}

/// What an installer does to its host and says; ill, the server takes nothing new.
fn install(host: &mut Host, run: &Run, now: OffsetDateTime, well: bool) -> InstallerCode {
    let generation = run.key.1;
    let is_new = host.floor < Some(generation);
    let until = run.confirm.filter(|_| is_new).map(|confirm| now + confirm);
    let always = (OffsetDateTime::UNIX_EPOCH, now + Duration::DAY);
    match host.refuses(generation, always, true, now) {
        Some(InstallerCode::Unchanged) => {
            host.keep(generation, until);
            if until.is_some() { InstallerCode::Armed } else { InstallerCode::Unchanged }
        }
        Some(code) => code,
        None => {
            host.swap(generation);
            host.ill = if well { Ill::Well } else { Ill::Reverts };
            let code = host.reload(generation, true, until);
            host.ill = Ill::Well;
            code
        }
    }
}

fn verdict(serves: Generation, wanted: Generation) -> Verdict {
    let faults = if serves == wanted { Vec::new() } else { vec![Fault::OtherCertificate] };
    Verdict { fingerprint: None, serial: None, not_after: None, tls: None, faults }
}

impl State {
    fn first(policy: &Policy, bounds: Bounds) -> Self {
        let ids = (1..=bounds.hosts).map(|n| TargetId::parse(format!("i-{n:08x}")).expect("an instance id"));
        let hosts = ids.map(|id| {
            let mut host = Host::new(id.clone(), START);
            (host.disk, host.floor) = (Some(Generation::FIRST), Some(Generation::FIRST));
            host.serves = Some(Pair::Ours(Generation::FIRST));
            (id, Target { host, run: None })
        });
        let old = leaf(policy, Generation::FIRST, vec!["old.example.com".into()], START - Duration::HOUR);
        let mut state = Self {
            now: START,
            generations: vec![old],
            hosts: hosts.collect(),
            attempts: BTreeMap::new(),
            sightings: BTreeMap::new(),
            flight: Vec::new(),
            sent: BTreeMap::new(),
            faults: bounds.faults,
        };
        for id in state.hosts.keys().cloned().collect::<Vec<_>>() {
            state.see(&id, Generation::FIRST);
        }
        state
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }

    fn newest(&self) -> Generation {
        self.generations.last().map_or(Generation::FIRST, |leaf| leaf.generation)
    }

    fn plan(&self, policy: &Policy) -> Plan<WorkItem> {
        let targets = self.hosts.keys().map(|id| TargetEvidence {
            target: id.clone(),
            node: NodeId::of(id),
            wanted: true,
            opted_in: true,
            managed: Some(Managed { online: true, address: Some([10, 0, 0, 1].into()), agent: None }),
            attempts: self.attempts.values().filter(|record| record.target == *id).cloned().collect(),
            sighting: self.sightings.get(id).cloned(),
            leaves: Vec::new(),
        });
        plan(&known(self.now, policy.clone(), self.generations.clone(), targets.collect()))
    }

    fn successors(&self, policy: &Policy, bounds: Bounds) -> Result<Vec<Self>, Broken> {
        let mut next = Vec::new();
        let mut passed = self.clone();
        for step in self.plan(policy).steps {
            self.examine_confirmation(&step.action)?;
            if !passed.flight.contains(&step.action) {
                passed.flight.push(step.action);
            }
        }
        next.push(passed);
        for index in 0..self.flight.len() {
            for how in [How::Well, How::Twice, How::Lost, How::Begun, How::SentUnnoted] {
                next.extend(self.work(policy, index, how)?);
            }
        }
        for (id, target) in &self.hosts {
            if let Some(run) = &target.run {
                next.push(self.finish(policy, id, true));
                if self.faults > 0 && run.action == DeliveryAction::Install {
                    let mut bad = self.finish(policy, id, false);
                    bad.faults -= 1;
                    next.push(bad);
                }
            } else if target.host.deadline.is_some_and(|at| at <= self.now) {
                let mut after = self.clone();
                after.expire(id)?;
                next.push(after);
            }
        }
        if self.now < START + TICK * bounds.ticks {
            next.push(Self { now: self.now + TICK, ..self.clone() });
        }
        Ok(next)
    }

    fn work(&self, policy: &Policy, index: usize, how: How) -> Result<Option<Self>, Broken> {
        let mut after = self.clone();
        let item = after.flight[index].clone();
        let applies = matches!(item, WorkItem::Deliver(_)) || !matches!(how, How::Begun | How::SentUnnoted);
        if !applies || how != How::Well && self.faults == 0 {
            return Ok(None);
        }
        if how != How::Well {
            after.faults -= 1;
        }
        if how != How::Twice {
            after.flight.remove(index);
        }
        match (&item, how) {
            (_, How::Lost) => {}
            (WorkItem::Mint(mint), _) => {
                if mint.generation == after.newest().next() {
                    after.generations.push(leaf(policy, mint.generation, policy.leaf_names(), after.now));
                }
            }
            (WorkItem::Deliver(deliver), how) => after.deliver(deliver, how)?,
            (WorkItem::Verify(verify), _) => after.verify(verify),
            // No stack here is served from ACM.
            (WorkItem::Membership(_) | WorkItem::Export(_), _) => {}
            (WorkItem::Authority(_), _) => unreachable!("there is one"),
        }
        Ok(Some(after))
    }

    fn deliver(&mut self, item: &DeliverItem, how: How) -> Result<(), Broken> {
        let key = |target: &TargetId| (target.clone(), item.generation, item.attempt);
        if item.targets.iter().any(|target| self.attempts.contains_key(&key(target))) {
            return Ok(());
        }
        for target in &item.targets {
            let reverted = self.attempts.values().any(|record| {
                record.generation == item.generation && record.ended.as_ref().is_some_and(|end| end.code == "reverted")
            });
            let back = self.sightings.get(target).is_some_and(|seen| seen.floor == Some(item.generation));
            hold(!reverted || back, QUARANTINE, || format!("{item:?}"))?;
        }
        let leaf = self.generations.iter().find(|record| record.generation == item.generation);
        let begun = leaf.map(|leaf| item.attempts(leaf, self.now)).unwrap_or_default();
        for record in begun {
            let target = &record.target.clone();
            let command_id = (how != How::Begun && how != How::SentUnnoted).then(|| "c".to_owned());
            self.attempts.insert(key(target), AttemptRecord { command_id, ..record });
            if how != How::Begun {
                *self.sent.entry(key(target)).or_default() += 1;
                let busy = self.hosts.get(target).is_some_and(|target| target.run.is_some());
                if busy {
                    self.answer(&key(target), InstallerCode::Busy, None);
                } else if let Some(host) = self.hosts.get_mut(target) {
                    host.run = Some(Run {
                        key: key(target),
                        action: item.action,
                        confirm: (item.confirm_s > 0).then(|| Duration::seconds(i64::from(item.confirm_s))),
                        noted: how == How::Well || how == How::Twice,
                    });
                }
            }
        }
        Ok(())
    }

    /// An installer ends; well, or by going back.
    fn finish(&self, policy: &Policy, id: &TargetId, well: bool) -> Self {
        let mut after = self.clone();
        let Some(target) = after.hosts.get_mut(id) else { return after };
        let Some(run) = target.run.take() else { return after };
        let code = match run.action {
            DeliveryAction::Confirm => target.host.confirm(run.key.1),
            DeliveryAction::Install | DeliveryAction::Prepare => install(&mut target.host, &run, self.now, well),
        };
        if run.noted {
            after.answer(&run.key, code, Some(policy));
        }
        after
    }

    /// A host's deadline passes: it goes back to what was confirmed there.
    fn expire(&mut self, id: &TargetId) -> Result<(), Broken> {
        let Some(target) = self.hosts.get_mut(id) else { return Ok(()) };
        target.host.go_back();
        let (disk, floor) = (target.host.disk, target.host.floor);
        hold(disk.is_some() && disk <= floor, NEVER_WORSE, || format!("{id} went back to {disk:?}, at {floor:?}"))
    }

    fn answer(&mut self, key: &Key, code: InstallerCode, policy: Option<&Policy>) {
        let expected = self.generations.iter().find(|leaf| leaf.generation == key.1).cloned();
        let (stack, now) = (policy.map_or_else(|| agreed().stack, |policy| policy.stack.clone()), self.now);
        let good = matches!(
            code,
            InstallerCode::Installed | InstallerCode::Unchanged | InstallerCode::Armed | InstallerCode::Confirmed
        );
        let fingerprint = expected.as_ref().map_or("", |leaf| leaf.fingerprint.as_str());
        let output = format!(
            "{{\"espalier\":1,\"code\":\"{code}\",\"stack\":\"{stack}\",\"generation\":{},\"fingerprint\":\"{fingerprint}\"}}",
            key.1,
            code = code.as_str()
        );
        let status = if good { "Success" } else { "Failed" }.to_owned();
        let seen = CommandSeen { status_details: status.clone(), status, output };
        if let Some(record) = self.attempts.get_mut(key)
            && record.command_id.is_some()
        {
            record.ended = settle(record, &stack, expected.as_ref().map(|leaf| leaf.fingerprint.as_str()), &seen, now);
        }
    }

    fn verify(&mut self, item: &VerifyItem) {
        for target in &item.targets {
            self.see(&target.target, target.generation);
        }
    }

    fn see(&mut self, id: &TargetId, wanted: Generation) {
        let Some(target) = self.hosts.get(id) else { return };
        let seen = SeenTarget {
            target: id.clone(),
            generation: wanted,
            at: self.now,
            port: Some(8443),
            verdict: verdict(target.serves(), wanted),
            connect_ms: None,
            handshake_ms: 1.0,
        };
        let record = sighting::after(self.sightings.get(id), &seen);
        self.sightings.insert(id.clone(), record);
    }

    /// As it is planned: until it arrives, the host may have gone back, and says so then.
    fn examine_confirmation(&self, item: &WorkItem) -> Result<(), Broken> {
        let WorkItem::Deliver(item) = item else { return Ok(()) };
        let shown = |target: &TargetId| {
            let seen = self.sightings.get(target);
            seen.is_some_and(|seen| seen.verdict.is_good() && seen.generation == item.generation)
        };
        let kept = item.action != DeliveryAction::Confirm || item.targets.iter().all(shown);
        hold(kept, CONFIRMED, || format!("{item:?}: {:?}", self.sightings))
    }

    /// What holds in every state.
    fn examine(&self, policy: &Policy) -> Result<(), Broken> {
        if let Some((key, _)) = self.sent.iter().find(|(_, times)| **times > 1) {
            return Err(Broken::new(ONCE, format!("{key:?}")));
        }
        let newest = self.newest();
        let floors = self.sightings.values().filter(|seen| seen.floor == Some(newest)).count();
        let given: HashSet<&TargetId> =
            self.attempts.keys().filter(|key| key.1 == newest).map(|(target, ..)| target).collect();
        let canary = usize::try_from(policy.canary).unwrap_or(usize::MAX);
        if newest > Generation::FIRST && floors < canary && given.len() > canary {
            return Err(Broken::new(CANARY, format!("{given:?} before {canary} proven: {self:?}")));
        }
        // Who was told nothing in time has gone back by itself, and may.
        let back = |(id, seen): &(&TargetId, &SightingRecord)| {
            let target = self.hosts.get(*id);
            let told =
                target.is_none_or(|target| target.host.unconfirmed.is_none() || target.host.unconfirmed < seen.floor);
            told && seen.floor > target.map(Target::serves)
        };
        match self.sightings.iter().find(back) {
            Some((id, seen)) => Err(Broken::new(NEVER_BACKWARDS, format!("{id} was at {:?}", seen.floor))),
            None => Ok(()),
        }
    }

    /// Without any further fault it comes to rest, with the newest leaf everywhere.
    fn settles(&self, policy: &Policy) -> Result<(), Broken> {
        let mut state = self.clone();
        for _ in 0..400 {
            let plan = state.plan(policy);
            if plan.is_converged() && state.flight.is_empty() {
                let newest = state.newest();
                let all = state.hosts.values().all(|it| it.serves() == newest && it.host.deadline.is_none());
                return if all { Ok(()) } else { Err(Broken::new(CONVERGES, format!("{state:?}"))) };
            }
            let pause = if plan.steps.is_empty() { plan.retry_after_s().unwrap_or(3600) } else { 2 };
            state.flight.extend(plan.steps.into_iter().map(|step| step.action));
            while !state.flight.is_empty() {
                state = state.work(policy, 0, How::Well)?.unwrap_or(state);
            }
            for id in state.hosts.keys().cloned().collect::<Vec<_>>() {
                state = state.finish(policy, &id, true);
                if state.hosts[&id].host.deadline.is_some_and(|at| at <= state.now) {
                    state.expire(&id)?;
                }
            }
            state.now += Duration::seconds(i64::from(pause));
        }
        Err(Broken::new(CONVERGES, format!("no end: {:?} after {self:?}", state.plan(policy))))
    }
}
