//! A fleet, a ledger and hands, all in memory. The hands do what a plan says and nothing else; faults are chosen by
//! the caller, so that the same world plays golden histories and seeded storms.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use espalier_domain::acm::{AcmEvidence, AcmStatus};
use espalier_domain::id::{AcmArn, Generation, HostName, NodeId, Nonce, Scope, StackName, TargetId};
use espalier_domain::plan::Plan;
use espalier_domain::record::{
    AttemptRecord, AuthorityRecord, EmergencyRecord, GenerationRecord, LeafRecord, Member, MembershipRecord,
    SightingRecord, ThroughRecord, TurnRecord,
};
use espalier_domain::rotation::agent::AgentVersion;
use espalier_domain::rotation::calendar::Calendar;
use espalier_domain::rotation::evidence::{Evidence, Managed, TargetEvidence};
use espalier_domain::rotation::plan::plan;
use espalier_domain::rotation::policy::{FollowPolicy, Policy, Wave};
use espalier_domain::rotation::proof::{Proof, proof};
use espalier_domain::rotation::render::render;
use espalier_domain::rotation::settle::{CommandSeen, settle};
use espalier_domain::rotation::sighting;
use espalier_domain::spec::{Confirm, Custody};
use espalier_domain::verdict::{Fault, Verdict};
use espalier_domain::work::{DeliverItem, DeliveryAction, MintItem, SeenTarget, SeenThrough, VerifyItem, WorkItem};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

pub(crate) const START: OffsetDateTime = datetime!(2026-11-21 00:00 UTC);
pub(crate) const ACM: &str = "arn:aws:acm:eu-west-1:000000000000:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";

/// What is wrong with a host, as long as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ill {
    Well,
    /// Its server refuses to reload: every installation is reverted.
    RevertsAll,
    /// It cannot fetch the bundle.
    CannotFetch,
    /// Its owner did not name the stack in `host.conf`.
    NotInHostConf,
    /// Its SSM Agent is older than the document needs.
    OldAgent,
    /// Its server was broken before anything was delivered.
    ServerBroken,
    /// Another installation always seems to be running.
    AlwaysBusy,
    /// The installer says `installed`, the wire shows the old leaf.
    Lies,
    /// The prober cannot reach it.
    Hidden,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) serves: Option<Generation>,
    pub(crate) ill: Ill,
    pub(crate) online: bool,
    pub(crate) opted_in: bool,
    pub(crate) wanted: bool,
    /// A person put that target's leaf there in place of its own.
    pub(crate) borrows: Option<TargetId>,
}

#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) target: TargetId,
    pub(crate) generation: Generation,
    pub(crate) action: DeliveryAction,
    pub(crate) confirm_s: u32,
    pub(crate) done_at: OffsetDateTime,
    pub(crate) seen: Option<CommandSeen>,
}

pub(crate) struct World {
    pub(crate) now: OffsetDateTime,
    pub(crate) policy: Policy,
    pub(crate) hosts: BTreeMap<TargetId, Host>,
    /// The nodes that answer at addresses; on whoever is not listed somebody else installs.
    pub(crate) nodes: BTreeMap<TargetId, NodeId>,
    pub(crate) generations: Vec<GenerationRecord>,
    /// Targets' own leaves.
    pub(crate) leaves: Vec<LeafRecord>,
    /// Certificates that others install, by numbers of their own: in no ledger.
    pub(crate) theirs: Vec<GenerationRecord>,
    pub(crate) attempts: BTreeMap<(TargetId, Generation, u32), AttemptRecord>,
    pub(crate) sightings: BTreeMap<TargetId, SightingRecord>,
    pub(crate) through: Option<ThroughRecord>,
    pub(crate) look_since: Option<OffsetDateTime>,
    pub(crate) emergency: Option<EmergencyRecord>,
    /// What `provision` saw last; nothing while it never looked.
    pub(crate) membership: Option<MembershipRecord>,
    pub(crate) authorities: Vec<AuthorityRecord>,
    pub(crate) turns: Vec<TurnRecord>,
    pub(crate) acm: Option<AcmEvidence>,
    pub(crate) commands: BTreeMap<String, Command>,
    pub(crate) trace: String,
    next_command: u32,
}

pub(crate) fn instance(n: u32) -> TargetId {
    TargetId::parse(format!("i-{n:08x}")).unwrap()
}

pub(crate) fn authority(id: &str, not_after: OffsetDateTime) -> AuthorityRecord {
    AuthorityRecord {
        authority: id.into(),
        root_pem: format!("-----BEGIN CERTIFICATE-----\n{id}\n-----END CERTIFICATE-----\n"),
        issuing_pem: String::new(),
        issuing_key: None,
        not_after,
        published_at: None,
    }
}

pub(crate) fn acm(serial: &str, not_after: OffsetDateTime) -> AcmEvidence {
    AcmEvidence {
        status: AcmStatus::Issued,
        serial: Some(serial.into()),
        not_after: Some(not_after),
        ..AcmEvidence::missing(AcmArn::parse(ACM).unwrap())
    }
}

impl World {
    /// A fleet of `hosts`, nothing minted yet.
    pub(crate) fn new(hosts: u32) -> Self {
        let host = Host { serves: None, ill: Ill::Well, online: true, opted_in: true, wanted: true, borrows: None };
        Self {
            now: START,
            policy: Policy {
                custody: Custody::default(),
                stack: StackName::parse("payments").unwrap(),
                server_name: HostName::parse("pay.example.com").unwrap(),
                service_port: 443,
                target_port: 8443,
                dns_names: vec![HostName::parse("pay.example.com").unwrap()],
                validity_hours: 168,
                renew_before_hours: 56,
                renew_spread_percent: 0,
                scope: Scope::shared(),
                source: None,
                follow: Some(FollowPolicy { certificate: AcmArn::parse(ACM).unwrap(), expiring_days: 45 }),
                canary: 1,
                bake_minutes: 0,
                wave: Wave::Targets(2),
                calendar: Calendar::default(),
                safety_margin_hours: 28,
                failure_budget: 0,
                minimum_healthy_percent: None,
                confirm: Confirm::Never,
                confirm_s: 1_800,
                samples: 6,
                observes: false,
                others: None,
                resolver: None,
                prober: None,
            },
            hosts: (1..=hosts).map(|n| (instance(n), host.clone())).collect(),
            nodes: BTreeMap::new(),
            generations: Vec::new(),
            leaves: Vec::new(),
            theirs: Vec::new(),
            attempts: BTreeMap::new(),
            sightings: BTreeMap::new(),
            through: None,
            look_since: None,
            emergency: None,
            membership: None,
            authorities: vec![authority("0123456789abcdef", START + Duration::days(1825))],
            turns: Vec::new(),
            acm: Some(acm("0a:01", START + Duration::days(198))),
            commands: BTreeMap::new(),
            trace: String::new(),
            next_command: 0,
        }
    }

    pub(crate) fn host(&mut self, n: u32) -> &mut Host {
        self.hosts.get_mut(&instance(n)).unwrap()
    }

    pub(crate) fn evidence(&self) -> Evidence {
        let targets = self.hosts.iter().map(|(id, host)| TargetEvidence {
            target: id.clone(),
            node: NodeId::of(id).or_else(|| self.nodes.get(id).cloned()),
            wanted: host.wanted,
            opted_in: host.opted_in,
            managed: Some(Managed {
                online: host.online,
                address: Some([127, 0, 1, 1].into()),
                agent: AgentVersion::parse(if host.ill == Ill::OldAgent { "3.2.923.0" } else { "3.3.3572.0" }),
            }),
            attempts: self.attempts.values().filter(|attempt| attempt.target == *id).cloned().collect(),
            sighting: self.sightings.get(id).cloned(),
            leaves: self.leaves.iter().filter(|leaf| leaf.scope == self.scope_of(id)).cloned().collect(),
        });
        Evidence {
            now: self.now,
            policy: self.policy.clone(),
            generations: self.generations.clone(),
            targets: targets.collect(),
            authorities: self.authorities.clone(),
            turns: self.turns.clone(),
            acm: self.acm.clone(),
            through: self.through.clone(),
            membership: self.membership.clone(),
            look_since: self.look_since,
            emergency: self.emergency.clone(),
            line: None,
            epoch: None,
        }
    }

    /// Settles what has ended, then plans.
    pub(crate) fn look(&mut self) -> Plan<WorkItem> {
        self.collect();
        plan(&self.evidence())
    }

    /// One pass without faults: look, note the plan, do all of it; then let time pass until the next look is due.
    /// Says whether there is any reason to look again soon.
    pub(crate) fn pass(&mut self) -> bool {
        let plan = self.look();
        if !plan.steps.is_empty() || plan.waits.is_empty() {
            let since = (self.now - START).whole_seconds();
            write!(self.trace, "[{since:>7} s]\n{}", indent(&render(&plan))).unwrap();
        }
        for step in &plan.steps {
            self.act(&step.action);
        }
        let pause = if plan.steps.is_empty() { plan.retry_after_s() } else { Some(1) };
        self.now += Duration::seconds(i64::from(pause.unwrap_or(0)));
        pause.is_some()
    }

    /// Passes until nothing is to be done or awaited.
    pub(crate) fn run(&mut self) -> Plan<WorkItem> {
        for _ in 0..2_000 {
            if !self.pass() {
                return self.look();
            }
        }
        panic!("no end after 2000 passes:\n{}", self.trace);
    }

    pub(crate) fn note(&mut self, text: &str) {
        let since = (self.now - START).whole_seconds();
        writeln!(self.trace, "[{since:>7} s] -- {text}").unwrap();
    }

    /// What `provision` does when it looks: whoever was seen serving is sent clients, whoever fails them is not.
    pub(crate) fn join(&mut self) {
        let port = self.policy.target_port;
        let before = self.membership.take().unwrap_or_default().members;
        let members = self.hosts.iter().filter(|(_, host)| host.wanted).map(|(id, _)| {
            let sighting = self.sightings.get(id);
            let registered = match proof(sighting, port, None, self.now) {
                Proof::Good => true,
                Proof::Bad(_) => false,
                Proof::Missing | Proof::Doubtful => before.get(id).is_some_and(|member| member.registered),
            };
            (id.clone(), Member { launched_at: None, registered, seen_at: sighting.map(|sighting| sighting.at) })
        });
        self.membership = Some(MembershipRecord { members: members.collect(), deleting: None });
    }

    pub(crate) fn act(&mut self, item: &WorkItem) {
        match item {
            WorkItem::Membership(_) => self.join(),
            WorkItem::Authority(_) => self.found(),
            WorkItem::Export(export) => self.export(export),
            WorkItem::Mint(mint) => self.mint(mint),
            WorkItem::Deliver(deliver) => {
                let ids = self.begin(deliver);
                self.send(deliver, &ids);
            }
            WorkItem::Verify(verify) => {
                let (seen, through) = self.dial(verify);
                self.record(&seen, &through);
            }
        }
    }

    /// An authority that is there already stays as it is.
    pub(crate) fn found(&mut self) {
        if self.authorities.is_empty() {
            self.authorities.push(authority("0123456789abcdef", self.now + Duration::days(1825)));
        }
    }

    fn scope_of(&self, target: &TargetId) -> Scope {
        let node = NodeId::of(target).or_else(|| self.nodes.get(target).cloned());
        node.as_ref().map_or_else(Scope::target, Scope::of)
    }

    /// The leaf that a target has of a generation.
    pub(crate) fn leaf_on(&self, target: &TargetId, generation: Generation) -> String {
        let record = self.generations.iter().find(|record| record.generation == generation).unwrap();
        if !record.scope.is_each() {
            return record.fingerprint.clone();
        }
        let scope = self.scope_of(target);
        let own = self.leaves.iter().find(|leaf| leaf.generation == generation && leaf.scope == scope);
        own.unwrap_or_else(|| panic!("{target} has no leaf of generation {generation}")).fingerprint.clone()
    }

    /// Conditional appends: a generation that is there already stays as it is, and so does a target's own leaf.
    pub(crate) fn mint(&mut self, item: &MintItem) {
        let is_own = self.policy.custody == Custody::Target;
        assert_eq!(item.requests.len(), if is_own { item.nodes.len() } else { 0 }, "{item:?}");
        for request in &item.requests {
            let prepared = &self.attempts[&(request.target.clone(), item.generation, request.attempt)];
            assert_eq!(prepared.ended.as_ref().map(|end| end.code.as_str()), Some("prepared"));
        }
        for scope in item.nodes.iter().map(Scope::of) {
            let (generation, not_after) = (item.generation, self.now + self.policy.validity());
            if self.leaves.iter().any(|leaf| leaf.generation == generation && leaf.scope == scope) {
                continue;
            }
            let fingerprint = format!("{scope}-{generation}");
            let serial = fingerprint.clone();
            self.leaves.push(LeafRecord { scope, generation, serial, fingerprint, minted_at: self.now, not_after });
        }
        if self.generations.iter().any(|record| record.generation == item.generation) {
            return;
        }
        let issuing = self.authorities.iter().max_by_key(|record| record.not_after).expect("an authority");
        assert!(item.nodes.is_empty(), "what the leaves have in common is decided before there are any");
        let of_all = |text: String| if item.scope.is_each() { String::new() } else { text };
        self.generations.push(GenerationRecord {
            scope: item.scope.clone(),
            generation: item.generation,
            parameter: format!("/espalier-leaf/payments/{}/{}", item.scope, item.generation),
            serial: of_all(format!("{:x}", item.generation.0)),
            fingerprint: of_all(format!("{:064x}", item.generation.0)),
            dns_names: self.policy.leaf_names(),
            not_before: self.now - Duration::minutes(5),
            not_after: (self.now + self.policy.validity()).min(issuing.not_after),
            minted_at: self.now,
            authority: issuing.authority.clone(),
            follows: item.follows.clone(),
            export: None,
            spec: None,
            key_type: None,
            custody: self.policy.custody,
            because: item.because.clone(),
        });
    }

    /// Appends the attempts; those that are there already are somebody else's and are not sent again.
    pub(crate) fn begin(&mut self, item: &DeliverItem) -> Vec<TargetId> {
        let mut ours = Vec::new();
        let nodes = item.receivers().unwrap_or_else(|| panic!("nobody takes a command for {:?}", item.targets));
        for (target, node) in item.targets.iter().zip(&nodes) {
            let known = NodeId::of(target).or_else(|| self.nodes.get(target).cloned());
            assert_eq!(known.as_ref(), Some(node), "{target}");
        }
        let leaf = self.generations.iter().find(|record| record.generation == item.generation).unwrap();
        let records = match item.action {
            DeliveryAction::Prepare => {
                item.preparations(leaf, &nodes, &Nonce::parse("0".repeat(64)).unwrap(), self.now)
            }
            DeliveryAction::Install | DeliveryAction::Confirm => item.attempts(leaf, self.now),
        };
        for record in records {
            let target = &record.target;
            let key = (target.clone(), item.generation, item.attempt);
            if self.attempts.contains_key(&key) {
                continue;
            }
            let open = self.attempts.values().any(|a| a.target == *target && self.is_running(a));
            assert!(!open, "{target} is given generation {} while an installer runs", item.generation);
            let reverted = self.attempts.values().any(|a| {
                let told = a.ended.as_ref().is_some_and(|end| end.code == "reverted");
                a.target == *target && a.generation == item.generation && told
            });
            assert!(!reverted, "{target} reverted generation {}", item.generation);
            ours.push(target.clone());
            self.attempts.insert(key, record);
        }
        ours
    }

    fn is_running(&self, attempt: &AttemptRecord) -> bool {
        attempt.ended.is_none()
            && attempt
                .command_id
                .as_ref()
                .and_then(|id| self.commands.get(id))
                .is_some_and(|command| command.done_at > self.now && command.seen.is_none())
    }

    /// Sends one command per target, each of which takes three seconds.
    pub(crate) fn send(&mut self, item: &DeliverItem, targets: &[TargetId]) {
        for target in targets {
            self.next_command += 1;
            let id = format!("command-{}-{target}", self.next_command);
            let command = Command {
                target: target.clone(),
                generation: item.generation,
                action: item.action,
                confirm_s: item.confirm_s,
                done_at: self.now + Duration::seconds(3),
                seen: None,
            };
            self.commands.insert(id.clone(), command);
            let key = (target.clone(), item.generation, item.attempt);
            self.attempts.get_mut(&key).unwrap().command_id = Some(id);
        }
    }

    /// Lets the installers whose time has come do their work, and settles their attempts.
    pub(crate) fn collect(&mut self) {
        let now = self.now;
        for command in self.commands.values_mut().filter(|command| command.done_at <= now && command.seen.is_none()) {
            let host = self.hosts.get_mut(&command.target).unwrap();
            command.seen = Some(install(host, command));
        }
        let mut attempts = std::mem::take(&mut self.attempts);
        for attempt in attempts.values_mut().filter(|attempt| attempt.ended.is_none()) {
            let Some(seen) = attempt.command_id.as_ref().and_then(|id| self.commands.get(id)?.seen.as_ref()) else {
                continue;
            };
            let prepares = attempt.action == DeliveryAction::Prepare;
            let expected = (!prepares).then(|| self.leaf_on(&attempt.target, attempt.generation));
            let output = seen.output.replace("FINGERPRINT", expected.as_deref().unwrap_or_default());
            let seen = CommandSeen { output, ..seen.clone() };
            attempt.ended = settle(attempt, &self.policy.stack, expected.as_deref(), &seen, now);
        }
        self.attempts = attempts;
    }

    /// What a handshake with each target shows now.
    pub(crate) fn dial(&self, item: &VerifyItem) -> (Vec<SeenTarget>, Vec<SeenThrough>) {
        assert!(!item.targets.is_empty() && item.targets.len() <= 50);
        let all = if item.others.is_some() { &self.theirs } else { &self.generations };
        let serial = item.others.as_ref().and_then(|others| others.serial.as_ref());
        let shows = |id: &TargetId, host: &Host, wanted: &[String]| match host
            .serves
            .filter(|_| host.ill != Ill::Hidden && host.online)
        {
            None => Verdict::unseen(Fault::TimedOut),
            Some(generation) => {
                let leaf = all.iter().find(|record| record.generation == generation).unwrap();
                let mut faults = Vec::new();
                if !leaf.dns_names.iter().any(|name| name == item.server_name.as_str()) {
                    faults.push(Fault::WrongName);
                }
                if leaf.not_after < self.now {
                    faults.push(Fault::Expired);
                }
                let whose = host.borrows.as_ref().unwrap_or(id);
                let fingerprint = match &item.others {
                    None => self.leaf_on(whose, generation),
                    Some(_) => leaf.fingerprint.clone(),
                };
                let is_expected = match &item.others {
                    None => wanted.is_empty() || wanted.contains(&fingerprint),
                    // Through the service, whichever clients accept.
                    Some(_) => wanted.is_empty() || serial.is_none_or(|serial| *serial == leaf.serial),
                };
                if !is_expected {
                    faults.push(Fault::OtherCertificate);
                }
                Verdict {
                    fingerprint: Some(fingerprint),
                    serial: Some(leaf.serial.clone()),
                    not_after: Some(leaf.not_after),
                    tls: None,
                    faults,
                }
            }
        };
        let seen = item.targets.iter().map(|target| SeenTarget {
            target: target.target.clone(),
            generation: target.generation,
            at: self.now,
            port: Some(target.address.port()),
            verdict: shows(&target.target, &self.hosts[&target.target], std::slice::from_ref(&target.fingerprint)),
            connect_ms: None,
            handshake_ms: 1.0,
        });
        // The service sends samples to whoever serves at all, in turns.
        let is_serving = |host: &Host| host.wanted && host.online && host.serves.is_some();
        let serving: Vec<(&TargetId, &Host)> = self.hosts.iter().filter(|(_, host)| is_serving(host)).collect();
        let through = item.through.iter().flat_map(|through| {
            (0..through.samples as usize).filter_map(|n| {
                let (id, host) = serving.get(n % serving.len().max(1))?;
                // Lattice reaches a target that the prober cannot dial.
                let host = Host { ill: Ill::Well, ..(*host).clone() };
                let verdict = shows(id, &host, &through.fingerprints);
                Some(SeenThrough { address: None, at: self.now, verdict, connect_ms: None, handshake_ms: 1.0 })
            })
        });
        (seen.collect(), through.collect())
    }

    /// Writes sightings down. A floor that goes down is a broken promise.
    pub(crate) fn record(&mut self, seen: &[SeenTarget], through: &[SeenThrough]) {
        for seen in seen {
            let previous = self.sightings.get(&seen.target);
            let next = sighting::after(previous, seen);
            assert!(next.floor >= previous.and_then(|record| record.floor), "the floor of {} went down", seen.target);
            self.sightings.insert(seen.target.clone(), next);
        }
        self.through = sighting::after_through(self.through.as_ref(), through);
    }
}

/// What the installer on a host does.
fn install(host: &mut Host, command: &Command) -> CommandSeen {
    let generation = command.generation;
    if !host.online {
        let (status, details) = ("TimedOut".to_owned(), "Delivery Timed Out".to_owned());
        return CommandSeen { status, status_details: details, output: String::new() };
    }
    let prepares = command.action == DeliveryAction::Prepare;
    let code = match host.ill {
        Ill::Well | Ill::Hidden | Ill::RevertsAll | Ill::CannotFetch | Ill::Lies if prepares => "prepared",
        Ill::Well | Ill::Hidden if command.action == DeliveryAction::Confirm => {
            if host.serves == Some(generation) {
                "confirmed"
            } else {
                "unconfirmed"
            }
        }
        Ill::Well | Ill::Hidden if host.serves == Some(generation) && host.borrows.is_none() => "unchanged",
        Ill::Well | Ill::Hidden if host.serves > Some(generation) => "belowFloor",
        Ill::Well | Ill::Hidden => {
            (host.serves, host.borrows) = (Some(generation), None);
            if command.confirm_s > 0 { "armed" } else { "installed" }
        }
        Ill::RevertsAll => "reverted",
        Ill::CannotFetch => "fetchFailed",
        Ill::NotInHostConf => "notOptedIn",
        Ill::OldAgent => "refused",
        Ill::ServerBroken => "serverBroken",
        Ill::AlwaysBusy => "busy",
        Ill::Lies => "installed",
    };
    let good = matches!(code, "installed" | "unchanged" | "armed" | "confirmed" | "prepared");
    let request = if code == "prepared" { ",\"request\":\"MIIB\"" } else { "" };
    let output = format!(
        "fetching\n{{\"espalier\":1,\"code\":\"{code}\",\"stack\":\"payments\",\"generation\":{generation},\
         \"fingerprint\":\"FINGERPRINT\",\"serial\":\"{:x}\",\"detail\":\"\"{request}}}\n",
        generation.0
    );
    let status = if good { "Success" } else { "Failed" };
    CommandSeen { status: status.into(), status_details: status.into(), output }
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        writeln!(all, "    {line}").unwrap();
        all
    })
}
