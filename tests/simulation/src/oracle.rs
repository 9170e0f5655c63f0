//! The promises, each told in its own words and not in the planner's, and looked at after every step.

use espalier_domain::id::Generation;
use espalier_domain::plan::{BlockCode, Plan};
use espalier_domain::record::{AttemptRecord, SightingRecord};
use espalier_domain::rotation::evidence::{Evidence, TargetEvidence};
use espalier_domain::rotation::phase::phase;
use espalier_domain::rotation::rollout::Rollout;
use espalier_domain::verdict::{Expected, Fault, Leaf, judge};
use espalier_domain::work::{DeliverItem, DeliveryAction, MintItem, WorkItem};
use time::{Duration, OffsetDateTime};

use crate::host::{Host, Pair, Server};
use crate::tally;
use crate::world::World;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What happened.
    pub what: String,
}

impl Broken {
    pub(crate) fn new(promise: &'static str, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

pub(crate) fn hold(kept: bool, promise: &'static str, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if kept { Ok(()) } else { Err(Broken::new(promise, what())) }
}

/// Certificates are served as long as nothing outside keeps them from it.
pub const SERVED: &str = "what is served is valid where the world allows it";
/// An installation never makes things worse.
pub const NEVER_WORSE: &str = "never toward a worse pair";
/// Floors only rise.
pub const NEVER_BACKWARDS: &str = "never backwards";
/// What was reverted is never tried again.
pub const QUARANTINE: &str = "a reverted generation is delivered to nobody again";
/// The canary goes first.
pub const CANARY: &str = "canary first";
/// Waves are bounded.
pub const WAVES: &str = "one bounded wave at a time";
/// Too many failed.
pub const BUDGET: &str = "past the failure budget nothing new starts";
/// One attempt, one command, one installer.
pub const ONCE: &str = "one delivery at a time on a target, under a number of its own";
/// The calendar is kept.
pub const CALENDAR: &str = "nothing begins in a freeze that can wait";
/// Emergencies.
pub const SAFE: &str = "what was declared unsafe is replaced at once and handed out to nobody";
/// Consent.
pub const CONSENT: &str = "whoever is not opted in, selected and reached is left alone";
/// Broken targets leave service before they are repaired.
pub const OUT_FIRST: &str = "who fails clients is taken out of service before it is repaired";
/// One leaf at a time.
pub const MINTS: &str = "one new leaf at a time, and nothing of what it replaces is handed out";
/// Nothing is deleted under anybody's hands.
pub const KEPT: &str = "no leaf is discarded that somebody is told to fetch";
/// Rest.
pub const REST: &str = "planning again plans nothing";
/// What stays was seen.
pub const CONFIRMED: &str = "only what was seen is confirmed";
/// The end.
pub const CONVERGES: &str = "when all is well the fleet serves the newest leaf";

impl World {
    /// Whether clients accept what a host shows.
    pub(crate) fn accepts(&self, index: usize) -> bool {
        let host = &self.hosts[index];
        let every: String = self.ledger.authorities.iter().map(|record| record.root_pem.as_str()).collect();
        let Some(presented) = self.presented(host, &every) else { return false };
        let expected = Expected { server_name: &self.policy.server_name, leaf: Leaf::OneOf(&[]) };
        let faults = judge(&presented, &expected, self.now).faults;
        host.server == Server::Up && faults.iter().all(|fault| *fault == Fault::OtherCertificate)
    }

    /// After every step: does anybody fail clients whom nothing outside keeps from serving?
    pub(crate) fn examine(&mut self) -> Result<(), Broken> {
        let (now, margin) = (self.now, self.policy.safety_margin());
        self.examine_safety()?;
        for index in 0..self.hosts.len() {
            let ends = match self.hosts[index].serves {
                None => continue,
                Some(Pair::Ours(generation)) => self.ledger.generation(generation).map(|leaf| leaf.not_after),
                Some(Pair::Foreign(_)) => Some(OffsetDateTime::UNIX_EPOCH),
            };
            if ends.is_some_and(|ends| ends >= now) || self.accepts(index) {
                self.hosts[index].failing_since = None;
                continue;
            }
            let since = *self.hosts[index].failing_since.get_or_insert(now);
            let host = &self.hosts[index];
            let is_well = |host: &Host| host.troubles == 0 && host.well_since + margin <= now;
            let others = self.hosts.iter().filter(|host| !is_well(host)).count();
            let shared = self.current.is_none_or(|trouble| !trouble.keeps_from_renewing());
            // One broken target never keeps the others from it, whatever the budget.
            let within = others <= usize::try_from(self.policy.failure_budget).unwrap_or(usize::MAX).max(1);
            let undisturbed = is_well(host) && within && shared && self.well_since + margin <= now && since <= now;
            hold(!undisturbed, SERVED, || {
                format!("{} shows {:?}, all has been well for {margin}", host.id, host.serves)
            })?;
        }
        Ok(())
    }

    pub(crate) fn examine_swap(&self, index: usize, generation: Generation) -> Result<(), Broken> {
        let host = &self.hosts[index];
        let kept = host.floor <= Some(generation);
        hold(kept, NEVER_BACKWARDS, || format!("{} goes from {:?} to {generation}", host.id, host.floor))
    }

    pub(crate) fn examine_reload(&self, index: usize, was_good: bool) -> Result<(), Broken> {
        let kept = !was_good || self.accepts(index);
        hold(kept, NEVER_WORSE, || format!("{} shows {:?} now", self.hosts[index].id, self.hosts[index].serves))
    }

    /// A host went back: to something that was confirmed there and that outlasts the safety margin.
    pub(crate) fn examine_going_back(&self, index: usize) -> Result<(), Broken> {
        let host = &self.hosts[index];
        let leaf = host.disk.and_then(|generation| self.ledger.generation(generation));
        let ends = leaf.map(|leaf| leaf.not_after - self.policy.safety_margin());
        let better = ends.is_some_and(|ends| self.now < ends) && host.disk <= host.floor;
        hold(better, NEVER_WORSE, || format!("{} went back to {:?}", host.id, host.disk))
    }

    pub(crate) fn examine_floor(&self, before: Option<Generation>, after: &SightingRecord) -> Result<(), Broken> {
        hold(after.floor >= before, NEVER_BACKWARDS, || format!("the floor of {} was {before:?}", after.target))
    }

    /// A delivery begins, in the ledger as it is now and not as it was when it was planned.
    pub(crate) fn examine_start(&self, item: &DeliverItem, late: bool) -> Result<(), Broken> {
        for target in &item.targets {
            let sighting = self.ledger.sightings.get(target);
            let floor = sighting.and_then(|sighting| sighting.floor);
            hold(floor <= Some(item.generation), NEVER_BACKWARDS, || format!("{target} is at {floor:?}: {item:?}"))?;
            let others = self.ledger.attempts.values().filter(|record| {
                record.target == *target && (record.generation, record.attempt) != (item.generation, item.attempt)
            });
            let reverted = |record: &AttemptRecord| {
                record.generation == item.generation && record.ended.as_ref().is_some_and(|end| end.code == "reverted")
            };
            for record in others {
                let open = record.ended.is_none() && record.command_id.is_some();
                let running = open && self.now - record.begun_at < Duration::minutes(20) - Duration::seconds(31);
                hold(!running || late, ONCE, || format!("{target}: {record:?} is under way"))?;
                hold(!reverted(record), QUARANTINE, || format!("{target} reverted {}", item.generation))?;
            }
        }
        Ok(())
    }

    /// What no plan may ever ask for.
    pub(crate) fn examine_plan(&self, evidence: &Evidence, plan: &Plan<WorkItem>) -> Result<(), Broken> {
        let minted = plan.steps.iter();
        let minted = minted.filter_map(|step| if let WorkItem::Mint(item) = &step.action { Some(item) } else { None });
        let (begun, own): (Vec<&MintItem>, Vec<&MintItem>) = minted.partition(|item| item.nodes.is_empty());
        let (deliveries, confirmations): (Vec<&DeliverItem>, Vec<&DeliverItem>) = plan
            .steps
            .iter()
            .filter_map(|step| if let WorkItem::Deliver(item) = &step.action { Some(item) } else { None })
            .partition(|item| item.action != DeliveryAction::Confirm);
        let sent: Vec<&DeliverItem> = deliveries.iter().chain(&confirmations).copied().collect();
        self.examine_unsafe(evidence, plan, &sent)?;
        let is_alone = deliveries.is_empty() && own.is_empty();
        hold(begun.len() <= 1 && (begun.is_empty() || is_alone), MINTS, || format!("{plan:?}"))?;
        if begun.len() == 1 {
            self.examine_mint(evidence, plan)?;
        }
        for item in own {
            self.examine_own(evidence, item)?;
        }
        let told: Vec<_> = plan
            .steps
            .iter()
            .filter_map(|step| if let WorkItem::Membership(item) = &step.action { Some(&item.targets) } else { None })
            .flatten()
            .collect();
        for item in &confirmations {
            self.examine_confirmation(evidence, item)?;
        }
        let mut named: Vec<_> = Vec::new();
        for item in &deliveries {
            for id in &item.targets {
                let Some(target) = evidence.targets.iter().find(|target| target.target == *id) else { continue };
                let confirmed = confirmations.iter().any(|item| item.targets.contains(id));
                hold(!named.contains(&id) && !confirmed, ONCE, || format!("{id} is named twice"))?;
                hold(!told.contains(&id), OUT_FIRST, || format!("{id}"))?;
                named.push(id);
                self.examine_target(evidence, item, target)?;
            }
        }
        if named.is_empty() { Ok(()) } else { self.examine_wave(evidence, plan, named.len()) }
    }

    /// Whether a freeze that was announced is on.
    fn is_frozen(&self, now: OffsetDateTime) -> bool {
        self.frozen.iter().any(|(from, to)| *from <= now && now < *to)
    }

    fn examine_mint(&self, evidence: &Evidence, plan: &Plan<WorkItem>) -> Result<(), Broken> {
        let newest = evidence.generations.last();
        let next = newest.map_or(1, |leaf| leaf.generation.0 + 1);
        let numbered = plan.steps.iter().all(|step| match &step.action {
            WorkItem::Mint(item) => item.generation.0 == next && item.scope == evidence.policy.scope,
            WorkItem::Deliver(_) | WorkItem::Verify(_) | WorkItem::Membership(_) => true,
            WorkItem::Authority(_) => evidence.authorities.is_empty(),
            WorkItem::Export(_) => false,
        });
        hold(numbered, MINTS, || format!("{next} is the next one: {plan:?}"))?;
        let Some(newest) = newest.filter(|_| self.is_frozen(evidence.now)) else { return Ok(()) };
        let retired = !evidence.authorities.iter().any(|authority| authority.authority == newest.authority);
        let margin = evidence.policy.safety_margin();
        let floors = evidence.targets.iter().filter(|target| target.wanted).filter_map(TargetEvidence::floor);
        let served = floors.filter_map(|floor| evidence.generation(floor)).chain([newest]);
        let all: Vec<_> = served.collect();
        let declared = all.iter().any(|leaf| self.is_unsafe(leaf.generation));
        let urgent = all.iter().map(|leaf| leaf.not_after).min().is_some_and(|ends| evidence.now >= ends - margin);
        let fails = |target: &TargetEvidence| target.sighting.as_ref().is_some_and(|seen| !seen.verdict.is_good());
        let failing = evidence.targets.iter().any(|target| target.wanted && fails(target));
        // Whoever has nothing to serve is given no further leaf of what is due for replacement.
        let waits = |target: &TargetEvidence| {
            let installs = target.wanted && target.opted_in && target.fingerprint(newest).is_none();
            installs && self.is_urgent(evidence, target)
        };
        let waited = newest.scope.is_each() && evidence.targets.iter().any(waits);
        let needed = urgent || retired || declared || failing || waited;
        hold(needed, CALENDAR, || format!("a leaf is minted: {plan:?}"))
    }

    /// A key is made for whoever is about to be given it, and has none yet; of what is unsafe, for nobody.
    fn examine_own(&self, evidence: &Evidence, item: &MintItem) -> Result<(), Broken> {
        let Some(newest) = evidence.generations.last() else { return Ok(()) };
        let is_newest = newest.generation == item.generation && newest.scope.is_each() && item.scope.is_each();
        hold(is_newest && item.nodes.len() <= 50, MINTS, || format!("{item:?}"))?;
        hold(!self.is_unsafe(item.generation), SAFE, || format!("{item:?}"))?;
        for node in &item.nodes {
            let target = evidence.targets.iter().find(|target| target.node.as_ref() == Some(node));
            let Some(target) = target else { return Err(Broken::new(CONSENT, format!("whose is {node}?"))) };
            let reached = target.managed.as_ref().is_some_and(|managed| managed.online);
            hold(target.wanted && target.opted_in && reached, CONSENT, || format!("{target:?}"))?;
            hold(target.fingerprint(newest).is_none(), ONCE, || format!("{node} has one: {item:?}"))?;
            let in_time = !self.is_frozen(evidence.now) || self.is_urgent(evidence, target);
            hold(in_time, CALENDAR, || format!("{node} is given a leaf in a freeze"))?;
        }
        Ok(())
    }

    fn examine_confirmation(&self, evidence: &Evidence, item: &DeliverItem) -> Result<(), Broken> {
        for id in &item.targets {
            let Some(target) = evidence.targets.iter().find(|target| target.target == *id) else { continue };
            let reached = target.managed.as_ref().is_some_and(|managed| managed.online);
            hold(target.wanted && target.opted_in && reached, CONSENT, || format!("{target:?}"))?;
            let seen = target.sighting.as_ref().filter(|sighting| sighting.verdict.is_good());
            let is_it = seen.is_some_and(|sighting| sighting.generation == item.generation);
            hold(is_it, CONFIRMED, || format!("{id}: {item:?}"))?;
        }
        Ok(())
    }

    fn examine_target(&self, evidence: &Evidence, item: &DeliverItem, target: &TargetEvidence) -> Result<(), Broken> {
        let id = &target.target;
        let reached = target.managed.as_ref().is_some_and(|managed| managed.online);
        hold(target.wanted && target.opted_in && reached, CONSENT, || format!("{target:?}"))?;
        hold(target.floor() <= Some(item.generation), NEVER_BACKWARDS, || format!("{id}: {item:?}"))?;
        let newest = evidence.generations.last().map(|leaf| leaf.generation);
        hold(newest == Some(item.generation), NEVER_BACKWARDS, || format!("{newest:?} is the newest: {item:?}"))?;
        let last =
            target.attempts.iter().filter(|record| record.generation == item.generation).map(|record| record.attempt);
        let next = last.max().unwrap_or_default() + 1;
        hold(item.attempt == next, ONCE, || format!("{id}: attempt {next} is the next one: {item:?}"))?;
        let reverted = evidence.targets.iter().filter(|target| target.wanted).any(|other| {
            let bad = |record: &AttemptRecord| {
                record.generation == item.generation && record.ended.as_ref().is_some_and(|end| end.code == "reverted")
            };
            let proven_since = other
                .sighting
                .as_ref()
                .is_some_and(|seen| seen.verdict.is_good() && seen.generation == item.generation);
            other.attempts.iter().any(bad) && !proven_since
        });
        let is_back = target.floor() == Some(item.generation);
        hold(!reverted || is_back, QUARANTINE, || format!("{id} is given {}", item.generation))?;
        let in_time = !self.is_frozen(evidence.now) || self.is_urgent(evidence, target);
        hold(in_time, CALENDAR, || format!("{id} is given {} in a freeze", item.generation))
    }

    /// Whether a target cannot wait for the end of a freeze.
    fn is_urgent(&self, evidence: &Evidence, target: &TargetEvidence) -> bool {
        let served = target.floor().and_then(|floor| evidence.generation(floor));
        let ends = served.map(|leaf| leaf.not_after - evidence.policy.safety_margin());
        let good = target.sighting.as_ref().is_some_and(|sighting| sighting.verdict.is_good());
        let declared = target.floor().is_some_and(|floor| self.is_unsafe(floor));
        !good || declared || was_armed(target) || ends.is_none_or(|ends| evidence.now >= ends)
    }

    /// The canary, the wave and the budget, counted from the ledger's own records.
    fn examine_wave(&self, evidence: &Evidence, plan: &Plan<WorkItem>, begins: usize) -> Result<(), Broken> {
        let Some(newest) = evidence.generations.last() else { return Ok(()) };
        let wanted: Vec<&TargetEvidence> = evidence.targets.iter().filter(|target| target.wanted).collect();
        let is_proven = |target: &TargetEvidence| {
            target.sighting.as_ref().is_some_and(|seen| seen.generation == newest.generation && seen.verdict.is_good())
        };
        let proven = wanted.iter().filter(|target| is_proven(target)).count();
        let open = |target: &TargetEvidence| {
            let recent = |record: &AttemptRecord| evidence.now - record.begun_at < Duration::minutes(1);
            let installs = |record: &AttemptRecord| record.action == DeliveryAction::Install;
            target.attempts.iter().any(|record| record.ended.is_none() && recent(record) && installs(record))
        };
        let under_way = wanted.iter().filter(|target| open(target)).count();
        let canary = usize::try_from(evidence.policy.canary).unwrap_or(usize::MAX);
        if proven < canary {
            let kept = proven + under_way + begins <= canary;
            hold(kept, CANARY, || format!("{proven} proven, {under_way} under way, {begins} begin: {plan:?}"))?;
        }
        let wave = evidence.policy.wave.of(wanted.len()).max(canary);
        hold(under_way + begins <= wave, WAVES, || format!("{under_way} under way, {begins} begin, a wave is {wave}"))?;
        let has_failed = |target: &&&TargetEvidence| {
            let mut of: Vec<_> =
                target.attempts.iter().filter(|record| record.generation == newest.generation).collect();
            of.sort_by_key(|record| record.attempt);
            let bad = |record: &&AttemptRecord| {
                let word = record.ended.as_ref().filter(|end| !end.installed).map(|end| end.code.as_str());
                word.is_some_and(|word| {
                    matches!(word, "fetchFailed" | "configTestFailed" | "NoReport" | "reloadFailed")
                })
            };
            // Whoever was proven once with this leaf may have failed before that.
            of.iter().rev().take_while(|record| bad(record)).count() >= 3 && target.floor() < Some(newest.generation)
        };
        let failed = wanted.iter().filter(has_failed).count();
        let over = failed > usize::try_from(evidence.policy.failure_budget).unwrap_or(usize::MAX);
        let says = plan.blocks.iter().any(|block| block.code == BlockCode::Halted);
        hold(says || !over, BUDGET, || format!("{failed} failed, and it is not said: {plan:?}"))?;
        hold(begins <= 1 || !(over || says), BUDGET, || format!("{failed} failed and {begins} begin: {plan:?}"))
    }

    /// Counts where everybody stands.
    pub(crate) fn note(&mut self, evidence: &Evidence, plan: &Plan<WorkItem>) {
        for block in &plan.blocks {
            *self.tally.blocks.entry(block.code).or_default() += 1;
        }
        let rollout = Rollout::of(evidence);
        for target in &evidence.targets {
            *self.tally.phases.entry(tally::name(&phase(&rollout, target))).or_default() += 1;
        }
    }

    /// All has been well for long: everybody serves the newest leaf, and there is nothing to do.
    pub(crate) fn examine_end(&mut self) -> Result<(), Broken> {
        let plan = self.plan_again()?;
        let rests = plan.as_ref().is_some_and(Plan::is_converged);
        hold(rests, REST, || format!("{plan:?}"))?;
        let newest = self.ledger.newest().map(|leaf| leaf.generation);
        for host in &self.hosts {
            let serves = newest.is_some() && host.serves == newest.map(Pair::Ours);
            hold(serves, CONVERGES, || format!("{} shows {:?}, not {newest:?}", host.id, host.serves))?;
            let member = self.ledger.membership.as_ref().and_then(|all| all.members.get(&host.id));
            let registered = member.is_some_and(|member| member.registered);
            hold(registered, CONVERGES, || format!("{} gets no clients", host.id))?;
            hold(host.deadline.is_none(), CONVERGES, || format!("{} awaits confirmation", host.id))?;
        }
        Ok(())
    }
}

/// Whether the last that is known of a target's installations is that it waits for a confirmation.
fn was_armed(target: &TargetEvidence) -> bool {
    let ends = |code: &str| {
        let ends = target.attempts.iter().filter_map(|record| record.ended.as_ref());
        ends.filter(|end| end.code == code).map(|end| end.at).max()
    };
    ends("armed") > ends("confirmed")
}
