//! The world: a fleet, a ledger, what is on its way, and a clock that jumps from one event to the next.

use std::collections::BTreeMap;

use espalier_domain::acm::{AcmEvidence, AcmStatus};
use espalier_domain::id::{AcmArn, Generation, HostName, Scope, StackName, TargetId};
use espalier_domain::record::{AuthorityRecord, Member, MembershipRecord};
use espalier_domain::rotation::calendar::{Calendar, Freeze};
use espalier_domain::rotation::policy::{FollowPolicy, Policy, Wave};
use espalier_domain::rotation::proof::{Proof, proof};
use espalier_domain::spec::{Confirm, Custody};
use espalier_domain::work::{SeenTarget, SeenThrough, WorkItem};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::dice::Dice;
use crate::each;
use crate::emergency;
use crate::fleet::Fleet;
use crate::host::Host;
use crate::installing::Command;
use crate::keys;
use crate::ledger::Ledger;
use crate::oracle::Broken;
use crate::tally::Tally;
use crate::trouble::{self, Trouble};

pub(crate) const START: OffsetDateTime = datetime!(2026-11-21 00:00 UTC);
pub(crate) const SERVER: &str = "pay.example.com";
pub(crate) const ACM: &str = "arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";

/// Something that is to happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// An event reaches `rotate`; so many times it was tried before.
    Hint { tries: u32 },
    /// The schedule.
    Sweep,
    /// An execution asks `rotate`.
    Pass { execution: usize, tries: u32 },
    /// An execution hands out work; nobody's, if it is a repetition that nobody waits for.
    Work { execution: Option<usize>, item: Box<WorkItem>, tries: u32 },
    /// What was seen is written down once more.
    Records { results: Vec<(Vec<SeenTarget>, Vec<SeenThrough>)> },
    /// An installer goes on.
    Install { command: u32, host: usize, stage: Stage },
    /// Something goes wrong.
    Strikes,
    /// It is over.
    Ends { trouble: Trouble, host: Option<usize> },
    /// Somebody declares what was issued unsafe; not for the first time.
    Emergency { again: bool },
    /// Where each target has its own leaf: somebody takes one for another, or has the spec changed.
    Meddling,
    /// Where each target makes its own key: somebody loses it, or has the spec changed.
    KeysMeddled,
    /// A deadline on a host passes.
    Expires { host: usize, at: OffsetDateTime },
    /// The agent of an instance that was started registers.
    Registers { host: usize },
}

/// How far an installer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Arrives,
    Swaps,
    Reloads,
    /// Run Command gives up on an instance that does not answer.
    TimesOut,
}

/// A state machine's execution.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) name: String,
    pub(crate) epoch: u32,
    pub(crate) runs: bool,
    pub(crate) passes: u32,
    /// Items that were handed out and did not come back.
    pub(crate) out: usize,
    pub(crate) failed: bool,
    pub(crate) results: Vec<(Vec<SeenTarget>, Vec<SeenThrough>)>,
}

pub(crate) struct World {
    pub(crate) now: OffsetDateTime,
    pub(crate) dice: Dice,
    pub(crate) tally: Tally,
    pub(crate) policy: Policy,
    pub(crate) ledger: Ledger,
    pub(crate) hosts: Vec<Host>,
    pub(crate) commands: BTreeMap<u32, Command>,
    pub(crate) executions: Vec<Execution>,
    pub(crate) acm: AcmEvidence,
    pub(crate) renewals: u32,
    /// What is wrong for all, and since when nothing is.
    pub(crate) current: Option<Trouble>,
    pub(crate) troubles: u32,
    pub(crate) well_since: OffsetDateTime,
    pub(crate) skew: Duration,
    pub(crate) prober_skew: Duration,
    pub(crate) misled: bool,
    /// Until when there is no control plane.
    pub(crate) gone_until: OffsetDateTime,
    /// A leaf that no server takes.
    pub(crate) rejected: Option<Generation>,
    /// Spans in which nothing may begin, apart from the calendar that says the same.
    pub(crate) frozen: Vec<(OffsetDateTime, OffsetDateTime)>,
    /// No more trouble from here on.
    pub(crate) calm: bool,
    /// What happened, where somebody wants to know.
    pub(crate) story: Option<Vec<String>>,
    queue: BTreeMap<(OffsetDateTime, u64), Event>,
    sequence: u64,
}

pub(crate) fn authority(number: u32, not_after: OffsetDateTime) -> AuthorityRecord {
    let root_pem = format!("-----BEGIN CERTIFICATE-----\nroot {number:04}\n-----END CERTIFICATE-----\n");
    AuthorityRecord {
        authority: format!("{number:016x}"),
        root_pem,
        issuing_pem: String::new(),
        issuing_key: None,
        not_after,
        published_at: None,
    }
}

pub(crate) fn acm(serial: u32, not_after: OffsetDateTime) -> AcmEvidence {
    AcmEvidence {
        status: AcmStatus::Issued,
        serial: Some(format!("0a:{serial:02}")),
        not_after: Some(not_after),
        ..AcmEvidence::missing(AcmArn::parse(ACM).expect("an ARN"))
    }
}

pub(crate) fn policy(dice: &mut Dice) -> Policy {
    let validity_hours = dice.between(120, 400);
    let renew_before_hours = validity_hours / 3;
    let wave = if dice.one_in(2) { Wave::Targets(dice.between(1, 3)) } else { Wave::Percent(dice.between(10, 60)) };
    Policy {
        custody: Custody::default(),
        stack: StackName::parse("payments").expect("a stack's name"),
        server_name: HostName::parse(SERVER).expect("a host's name"),
        service_port: 443,
        target_port: 8443,
        dns_names: vec![HostName::parse(SERVER).expect("a host's name")],
        validity_hours,
        renew_before_hours,
        renew_spread_percent: dice.roll(2) * dice.roll(10),
        scope: Scope::shared(),
        source: None,
        follow: dice
            .one_in(2)
            .then(|| FollowPolicy { certificate: AcmArn::parse(ACM).expect("an ARN"), expiring_days: 45 }),
        canary: dice.roll(3),
        bake_minutes: dice.roll(2) * dice.roll(90),
        wave,
        calendar: Calendar::default(),
        safety_margin_hours: renew_before_hours / 2,
        failure_budget: dice.roll(3),
        minimum_healthy_percent: None,
        confirm: [Confirm::Canary, Confirm::Canary, Confirm::All, Confirm::Never][dice.roll(4) as usize],
        confirm_s: dice.between(10, 60) * 60,
        samples: dice.roll(2) * 6,
        observes: false,
        others: None,
        prober: None,
        resolver: None,
    }
}

impl World {
    pub(crate) fn new(fleet: &Fleet, seed: u64, story: bool) -> Self {
        let mut dice = Dice::new(seed);
        let drawn = (policy(&mut dice), 1 + dice.roll(5));
        let (policy, hosts) = match fleet {
            Fleet::Drawn => drawn,
            Fleet::Each => (Policy { scope: Scope::target(), ..drawn.0 }, drawn.1),
            Fleet::OwnKeys => {
                // By the seed and not by its dice: the lives of known seeds stay what they were but for this.
                let minimum_healthy_percent = seed.is_multiple_of(3).then_some(50);
                let (scope, custody) = (Scope::target(), Custody::Target);
                (Policy { scope, custody, minimum_healthy_percent, ..drawn.0 }, drawn.1)
            }
            Fleet::Given { policy, targets } => ((**policy).clone(), *targets),
        };
        let id = |n: u32| TargetId::parse(format!("i-{n:08x}")).expect("an instance id");
        // Some control planes are new, and have their authority made by the first rotation.
        let there = (seed % 25 != 13).then(|| authority(1, START + Duration::days(1825)));
        let ledger = Ledger { authorities: there.into_iter().collect(), ..Ledger::default() };
        let mut world = Self {
            now: START,
            dice,
            tally: Tally::default(),
            policy,
            ledger,
            hosts: (1..=hosts).map(|n| Host::new(id(n), START)).collect(),
            commands: BTreeMap::new(),
            executions: Vec::new(),
            acm: acm(1, START + Duration::days(198)),
            renewals: 1,
            current: None,
            troubles: 0,
            well_since: START,
            skew: Duration::ZERO,
            prober_skew: Duration::ZERO,
            misled: false,
            gone_until: START,
            rejected: None,
            frozen: Vec::new(),
            calm: false,
            story: story.then(Vec::new),
            queue: BTreeMap::new(),
            sequence: 0,
        };
        world.after(Duration::ZERO, Event::Sweep);
        world.after(Duration::minutes(1), Event::Strikes);
        emergency::foresee(&mut world, seed);
        match fleet {
            Fleet::Each => each::foresee(&mut world),
            Fleet::OwnKeys => keys::foresee(&mut world),
            Fleet::Drawn | Fleet::Given { .. } => {}
        }
        world
    }

    pub(crate) fn size(&self) -> u32 {
        u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn tell(&mut self, text: impl FnOnce() -> String) {
        let since = self.now - START;
        if let Some(story) = &mut self.story {
            let (hours, rest) = (since.whole_hours(), since.whole_seconds() % 3600);
            story.push(format!("[{hours:>5} h {rest:>4} s] {}", text()));
        }
    }

    pub(crate) fn after(&mut self, pause: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + pause, self.sequence), event);
    }

    /// Lives until then.
    pub(crate) fn live(&mut self, until: OffsetDateTime) -> Result<(), Broken> {
        let mut steps = 0;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now = at;
            steps += 1;
            if steps > 200_000 {
                return Err(Broken::new("the world moves on", "200,000 events without an end"));
            }
            self.happens(event)?;
            self.examine()?;
        }
        self.now = until;
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Hint { tries } => self.look_and_start(tries),
            Event::Sweep => self.sweep(),
            Event::Pass { execution, tries } => self.pass(execution, tries),
            Event::Work { execution, item, tries } => self.work(execution, item, tries),
            Event::Records { results } => self.record_all(&results),
            Event::Install { command, host, stage } => self.install(command, host, stage),
            Event::Expires { host, at } => self.expires(host, at),
            Event::Emergency { again } => self.declare(again),
            Event::KeysMeddled => {
                self.meddle_with_keys();
                Ok(())
            }
            Event::Meddling => {
                self.meddle();
                Ok(())
            }
            Event::Strikes => {
                if !self.calm {
                    trouble::strike(self);
                    let minutes = self.dice.between(10, 60 * 40);
                    self.after(Duration::minutes(i64::from(minutes)), Event::Strikes);
                }
                Ok(())
            }
            Event::Ends { trouble, host } => {
                trouble::relieve(self, trouble, host);
                Ok(())
            }
            Event::Registers { host } => {
                self.hosts[host].agent = crate::host::Agent::Up;
                self.hint();
                Ok(())
            }
        }
    }

    /// The schedule looks more rarely than it is deployed to, which is the harder case.
    fn sweep(&mut self) -> Result<(), Broken> {
        let quarters = if self.troubles == 0 { self.dice.between(16, 28) } else { self.dice.between(2, 12) };
        self.after(Duration::minutes(15 * i64::from(quarters)), Event::Sweep);
        self.ledger.forget(self.now);
        if !self.calm && self.dice.one_in(12) {
            self.tally.meet(Trouble::SweepMissed);
            self.well_since = self.now;
            return Ok(());
        }
        self.join();
        self.retire_authorities();
        self.look_and_start(0)
    }

    /// An event is on its way to `rotate`.
    pub(crate) fn hint(&mut self) {
        let pause = Duration::seconds(i64::from(self.dice.between(1, 5)));
        if self.calm {
            return self.after(pause, Event::Hint { tries: 0 });
        }
        match self.dice.roll(8) {
            0 | 1 => self.tally.meet(Trouble::HintLost),
            2 => {
                self.tally.meet(Trouble::HintLate);
                let minutes = self.dice.between(1, 90);
                self.after(Duration::minutes(i64::from(minutes)), Event::Hint { tries: 0 });
            }
            3 => {
                self.tally.meet(Trouble::HintTwice);
                self.after(pause, Event::Hint { tries: 0 });
                self.after(pause * 2_i32, Event::Hint { tries: 0 });
            }
            _ => self.after(pause, Event::Hint { tries: 0 }),
        }
    }

    /// What `provision` does when it looks: whoever was seen serving is sent clients, whoever fails them is not.
    pub(crate) fn join(&mut self) {
        let port = self.policy.target_port;
        let before = self.ledger.membership.take().unwrap_or_default().members;
        let members = self.hosts.iter().filter(|host| host.wanted && host.runs).map(|host| {
            let sighting = self.ledger.sightings.get(&host.id);
            let registered = match proof(sighting, port, host.launched_at, self.now) {
                Proof::Good => true,
                Proof::Bad(_) => false,
                Proof::Missing | Proof::Doubtful => before.get(&host.id).is_some_and(|member| member.registered),
            };
            let seen_at = sighting.map(|sighting| sighting.at);
            (host.id.clone(), Member { launched_at: host.launched_at, registered, seen_at })
        });
        self.ledger.membership = Some(MembershipRecord { members: members.collect(), deleting: None });
    }

    /// An instance was started: `provision` hears of it, and its agent takes a while.
    pub(crate) fn arrive(&mut self, host: usize) {
        self.hosts[host].agent = crate::host::Agent::Gone;
        self.join();
        let seconds = self.dice.between(5, 500);
        self.after(Duration::seconds(i64::from(seconds)), Event::Registers { host });
    }

    pub(crate) fn change_names(&mut self) {
        let name = format!("n{}.example.com", self.dice.roll(1000));
        self.policy.dns_names.truncate(1);
        self.policy.dns_names.push(HostName::parse(name).expect("a host's name"));
    }

    pub(crate) fn add_authority(&mut self) {
        let number = u32::try_from(self.ledger.authorities.len()).unwrap_or(u32::MAX) + self.dice.between(1, 9) * 100;
        let ends = self.ledger.authorities.iter().map(|record| record.not_after).max().unwrap_or(self.now);
        self.ledger.authorities.push(authority(number, ends.max(self.now + Duration::days(1000)) + Duration::days(30)));
    }

    /// A root leaves the trusted ones when nothing is seen of it any more.
    fn retire_authorities(&mut self) {
        let (hosts, ledger) = (&self.hosts, &mut self.ledger);
        let Some(newest) = ledger.newest().map(|newest| newest.authority.clone()) else { return };
        let last =
            ledger.authorities.iter().max_by_key(|record| record.not_after).map(|record| record.authority.clone());
        let on_disk: Vec<Generation> = hosts.iter().flat_map(|host| [host.disk, host.before]).flatten().collect();
        let used: Vec<String> = on_disk
            .iter()
            .filter_map(|number| ledger.generation(*number))
            .map(|record| record.authority.clone())
            .collect();
        ledger.authorities.retain(|record| {
            record.authority == newest || Some(&record.authority) == last.as_ref() || used.contains(&record.authority)
        });
    }

    pub(crate) fn freeze(&mut self, from: OffsetDateTime, to: OffsetDateTime) {
        self.policy.calendar.freezes.push(Freeze { from, to });
        self.frozen.push((from, to));
    }

    pub(crate) fn clear(&mut self, trouble: Trouble) {
        if self.current == Some(trouble) {
            self.current = None;
        }
        match trouble {
            Trouble::AcmFailed => self.acm.status = AcmStatus::Issued,
            Trouble::ClockSkewed => self.skew = Duration::ZERO,
            Trouble::ProberClock => self.prober_skew = Duration::ZERO,
            Trouble::LeafRejected => self.rejected = None,
            Trouble::AuthorityEnding => self.add_authority(),
            _ => {}
        }
    }

    pub(crate) fn is_out(&self, trouble: Trouble) -> bool {
        self.current == Some(trouble)
    }

    /// Whether functions do nothing: they are gone, or have no ledger.
    pub(crate) fn is_helpless(&self) -> bool {
        self.now < self.gone_until || self.is_out(Trouble::LedgerOut)
    }

    /// Everything is put right, and nothing goes wrong from here on.
    pub(crate) fn soothe(&mut self) {
        self.tell(|| "calm".into());
        self.calm = true;
        if let Some(trouble) = self.current.take() {
            self.clear(trouble);
        }
        self.queue.retain(|_, event| !matches!(event, Event::Ends { .. }));
        self.troubles = 0;
        self.gone_until = self.now;
        self.well_since = self.now;
        self.policy.calendar = Calendar::default();
        self.frozen.clear();
        for index in 0..self.hosts.len() {
            let (now, was_down) = (self.now, !self.hosts[index].runs);
            self.hosts[index].troubles = 0;
            self.hosts[index].well_since = now;
            self.hosts[index].heal(now);
            if was_down {
                self.arrive(index);
            }
        }
    }
}
