//! The hands: `mint`, `distribute` and `verify`, which may die before, between and after their writes.

use espalier_domain::id::{Generation, NodeId, Scope, TargetId};
use espalier_domain::record::{AttemptEnd, DiscardRecord, GenerationRecord, LeafRecord};
use espalier_domain::rotation::discard::discardable;
use espalier_domain::verdict::{Expected, Fault, Leaf, Presented, Verdict, judge};
use espalier_domain::work::{DeliverItem, DeliveryAction, MintItem, SeenTarget, SeenThrough, VerifyItem, WorkItem};
use time::{Duration, OffsetDateTime};

use crate::host::{Host, Pair};
use crate::oracle::Broken;
use crate::trouble::Trouble;
use crate::world::{Event, World, authority};

/// How a function's work ended.
enum Done {
    Well,
    /// Its caller sees an error.
    Badly,
    Seen(Vec<SeenTarget>, Vec<SeenThrough>),
}

impl World {
    /// Whether a function dies here.
    pub(crate) fn dies(&mut self, how: Trouble) -> bool {
        let dies = !self.calm && self.dice.one_in(40);
        if dies {
            self.tally.meet(how);
        }
        dies
    }

    /// A function does a piece of work; twice or late, if it comes to that.
    pub(crate) fn work(&mut self, execution: Option<usize>, item: Box<WorkItem>, tries: u32) -> Result<(), Broken> {
        if execution.is_some_and(|index| !self.executions[index].runs) {
            return Ok(());
        }
        if !self.calm && execution.is_some() {
            let again = match self.dice.roll(40) {
                0 => Some((Trouble::DoneTwice, 100)),
                1 => Some((Trouble::DoneLate, self.dice.between(5_000, 60_000))),
                _ => None,
            };
            if let Some((trouble, pause)) = again {
                self.tally.meet(trouble);
                let event = Event::Work { execution: None, item: item.clone(), tries: 9 };
                self.after(Duration::milliseconds(i64::from(pause)), event);
            }
        }
        let done = if self.dies(Trouble::DiedBefore) { Done::Badly } else { self.does(&item, execution.is_none())? };
        let done = if self.dies(Trouble::DiedAfter) { Done::Badly } else { done };
        let Some(index) = execution else { return Ok(()) };
        match done {
            Done::Badly if tries < 4 => {
                let event = Event::Work { execution, item, tries: tries + 1 };
                self.after(Duration::seconds(2 << tries), event);
                return Ok(());
            }
            Done::Badly => self.executions[index].failed = true,
            Done::Well => {}
            Done::Seen(seen, through) => self.executions[index].results.push((seen, through)),
        }
        self.executions[index].out -= 1;
        if self.executions[index].out == 0 {
            self.after(Duration::milliseconds(300), Event::Pass { execution: index, tries: 0 });
        }
        Ok(())
    }

    fn does(&mut self, item: &WorkItem, late: bool) -> Result<Done, Broken> {
        if self.is_helpless() && !matches!(item, WorkItem::Verify(_)) {
            return Ok(Done::Badly);
        }
        match item {
            WorkItem::Authority(_) => Ok(self.found()),
            WorkItem::Mint(mint) => Ok(self.mint(mint)),
            WorkItem::Deliver(deliver) => self.deliver(deliver, late),
            WorkItem::Verify(_) if self.is_out(Trouble::ProberOut) => Ok(Done::Badly),
            WorkItem::Verify(verify) => Ok(self.verify(verify)),
            // No stack here is served from ACM.
            WorkItem::Export(_) => Ok(Done::Badly),
            WorkItem::Membership(_) => {
                self.join();
                Ok(Done::Well)
            }
        }
    }

    /// Made once, published, appended (`functions/authority`).
    fn found(&mut self) -> Done {
        if self.is_out(Trouble::ParametersOut) || self.dies(Trouble::DiedBetween) {
            return Done::Badly;
        }
        if self.ledger.authorities.is_empty() {
            self.ledger.authorities.push(authority(1, self.now + Duration::days(1825)));
        }
        Done::Well
    }

    /// Made, stored under a name that is never used twice, appended (`functions/mint/src/leaf.rs`).
    fn mint(&mut self, item: &MintItem) -> Done {
        if item.scope.is_each() {
            return self.mint_own(item);
        }
        let next = self.ledger.newest().map_or(Generation::FIRST, |last| last.generation.next());
        if item.generation < next {
            return self.was_made(item);
        }
        if item.generation > next || self.is_out(Trouble::ParametersOut) || self.policy.scope != item.scope {
            return Done::Badly;
        }
        let record = self.sign(item);
        let record = self.ledger.stored.entry(item.generation).or_insert(record).clone();
        if self.dies(Trouble::DiedBetween) {
            return Done::Badly;
        }
        self.tally.leaves += 1;
        self.append(item, record);
        Done::Well
    }

    /// Whether what is there was made for what is asked.
    fn was_made(&self, item: &MintItem) -> Done {
        let is_same = self.ledger.generation(item.generation).is_some_and(|record| record.scope == item.scope);
        if is_same { Done::Well } else { Done::Badly }
    }

    /// What they have in common first, then a leaf for each node that has none.
    fn mint_own(&mut self, item: &MintItem) -> Done {
        let now = self.now + self.skew;
        let next = self.ledger.newest().map_or(Generation::FIRST, |last| last.generation.next());
        if item.generation > next || self.is_out(Trouble::ParametersOut) || self.policy.scope != item.scope {
            return Done::Badly;
        }
        if item.generation == next {
            let in_common = GenerationRecord { serial: String::new(), fingerprint: String::new(), ..self.sign(item) };
            self.append(item, in_common);
        } else if matches!(self.was_made(item), Done::Badly) {
            return Done::Badly;
        }
        if !item.nodes.is_empty() && !self.takes_more(item.generation) {
            return Done::Badly;
        }
        for (at, node) in item.nodes.iter().enumerate() {
            let Some(host) = self.hosts.iter().position(|host| NodeId::of(&host.id).as_ref() == Some(node)) else {
                continue;
            };
            let key = (self.hosts[host].id.clone(), item.generation);
            let Some(not_after) = self.ledger.generation(item.generation).map(|record| record.not_after) else {
                continue;
            };
            if self.ledger.leaves.contains_key(&key) || !self.is_signed(item, at, &key) {
                continue;
            }
            // Each key that is made is another one; the first that is stored is the one that counts.
            self.tally.leaves += 1;
            let leaf = LeafRecord {
                scope: Scope::of(node),
                generation: item.generation,
                serial: format!("{:x}", self.tally.leaves),
                fingerprint: format!("{:064x}", u64::from(self.tally.leaves) << 32),
                minted_at: now,
                not_after,
            };
            self.ledger.leaves.insert(key, leaf);
            if self.dies(Trouble::DiedBetween) {
                return Done::Badly;
            }
        }
        Done::Well
    }

    /// A further leaf has the names and the authority of the others (`functions/mint/src/leaf.rs`).
    fn takes_more(&self, generation: Generation) -> bool {
        let issuing = self.ledger.authorities.iter().max_by_key(|record| record.not_after);
        self.ledger.generation(generation).is_some_and(|record| {
            record.dns_names == self.policy.leaf_names()
                && record.custody == self.policy.custody
                && issuing.is_some_and(|issuing| issuing.authority == record.authority)
        })
    }

    fn append(&mut self, item: &MintItem, record: GenerationRecord) {
        self.tell(|| format!("minted {}: {}", item.generation, item.because));
        self.ledger.generations.push(record);
        self.discard();
        if !self.calm && self.dice.one_in(6) {
            // Somebody stops everything in the middle of a rollout.
            self.tally.meet(Trouble::Frozen);
            let (from, hours) = (self.now + Duration::seconds(20), self.dice.between(1, 20));
            self.freeze(from, from + Duration::hours(i64::from(hours)));
        }
    }

    /// What nobody will fetch any more (`Leaves::tidy` of `shared/aws`).
    fn discard(&mut self) {
        let attempts: Vec<_> = self.ledger.attempts.values().cloned().collect();
        let now = self.now + self.skew;
        let gone: Vec<_> = discardable(&self.ledger.generations, &self.ledger.discarded, &attempts, now).collect();
        self.ledger.discarded.extend(gone.into_iter().map(|generation| DiscardRecord { generation, at: now }));
    }

    fn sign(&self, item: &MintItem) -> GenerationRecord {
        let now = self.now + self.skew;
        let issuing = self.ledger.authorities.iter().max_by_key(|record| record.not_after);
        let (authority, ends) = issuing.map_or((String::new(), now), |it| (it.authority.clone(), it.not_after));
        GenerationRecord {
            scope: item.scope.clone(),
            generation: item.generation,
            parameter: String::new(),
            serial: format!("{:x}", item.generation.0),
            fingerprint: format!("{:064x}", item.generation.0),
            dns_names: self.policy.leaf_names(),
            not_before: now - Duration::minutes(5),
            not_after: (now + self.policy.validity()).min(ends),
            minted_at: now,
            authority,
            follows: item.follows.clone(),
            export: None,
            spec: None,
            key_type: None,
            custody: self.policy.custody,
            because: item.because.clone(),
        }
    }

    /// The attempt first, then the command, then its id (`functions/distribute/src/deliver.rs`).
    fn deliver(&mut self, item: &DeliverItem, late: bool) -> Result<Done, Broken> {
        let now = self.now + self.skew;
        let prepares = item.action == DeliveryAction::Prepare;
        if !prepares && item.targets.iter().any(|target| self.ledger.fingerprint(target, item.generation).is_none()) {
            return Ok(Done::Badly);
        }
        if !self.ledger.begin(item, now) {
            return Ok(Done::Well);
        }
        self.examine_start(item, late)?;
        if self.dies(Trouble::DiedBetween) {
            return Ok(Done::Badly);
        }
        if self.is_out(Trouble::CommandsOut) {
            for target in &item.targets {
                let end = AttemptEnd { installed: false, code: "Undeliverable".into(), detail: String::new(), at: now };
                self.ledger.end(&(target.clone(), item.generation, item.attempt), end);
            }
            return Ok(Done::Badly);
        }
        let command = self.send(item);
        if !self.calm && self.dice.one_in(30) {
            self.tally.meet(Trouble::SentUnclear);
            return Ok(Done::Badly);
        }
        if self.dies(Trouble::DiedBetween) {
            return Ok(Done::Badly);
        }
        self.ledger.note(item, command);
        Ok(Done::Well)
    }

    fn verify(&mut self, item: &VerifyItem) -> Done {
        let now = self.now + self.prober_skew;
        let mut seen = Vec::with_capacity(item.targets.len());
        for target in &item.targets {
            let Some(host) = self.hosts.iter().find(|host| host.id == target.target) else { continue };
            let verdict = self.shown(host, std::slice::from_ref(&target.fingerprint), item, false, now);
            seen.push(SeenTarget {
                target: target.target.clone(),
                generation: target.generation,
                at: self.now,
                port: Some(target.address.port()),
                verdict,
                connect_ms: None,
                handshake_ms: 1.0,
            });
        }
        let through = self.through(item, now);
        let verdicts = seen.iter().map(|seen| &seen.verdict).chain(through.iter().map(|seen| &seen.verdict));
        let (mut faults, mut good) = (Vec::new(), 0);
        for verdict in verdicts {
            good += u32::from(verdict.is_good());
            faults.extend(verdict.faults.iter().copied());
        }
        self.tally.good += good;
        for fault in faults {
            *self.tally.faults.entry(fault).or_default() += 1;
        }
        Done::Seen(seen, through)
    }

    /// Samples through the service, which sends them to registered targets in turns.
    fn through(&self, item: &VerifyItem, now: OffsetDateTime) -> Vec<SeenThrough> {
        let Some(through) = &item.through else { return Vec::new() };
        let members = self.ledger.membership.as_ref().map(|all| &all.members);
        let registered = |host: &&Host| {
            members.and_then(|members| members.get(&host.id)).is_some_and(|member| member.registered) && host.runs
        };
        let serving: Vec<&Host> = self.hosts.iter().filter(registered).collect();
        let one = |n: u32| {
            let verdict = if self.is_out(Trouble::NameBroken) {
                Verdict::unseen(if self.misled { Fault::WrongAddress } else { Fault::Unresolved })
            } else {
                let index = usize::try_from(n).unwrap_or_default() % serving.len().max(1);
                match serving.get(index) {
                    Some(host) => self.shown(host, &through.fingerprints, item, true, now),
                    None => Verdict::unseen(Fault::TimedOut),
                }
            };
            SeenThrough { address: None, at: self.now, verdict, connect_ms: None, handshake_ms: 1.0 }
        };
        (0..through.samples).map(one).collect()
    }

    fn shown(&self, host: &Host, wanted: &[String], item: &VerifyItem, service: bool, now: OffsetDateTime) -> Verdict {
        if let Some(fault) = host.silence(service) {
            return Verdict::unseen(fault);
        }
        let Some(presented) = self.presented(host, &item.trust) else { return Verdict::unseen(Fault::Refused) };
        let leaf = if wanted.is_empty() { Leaf::Any } else { Leaf::OneOf(wanted) };
        judge(&presented, &Expected { server_name: &item.server_name, leaf }, now)
    }

    /// What a host presents to somebody who trusts these roots.
    pub(crate) fn presented(&self, host: &Host, trust: &str) -> Option<Presented> {
        let generation = match host.serves.as_ref()? {
            Pair::Foreign(presented) => return Some(presented.clone()),
            Pair::Ours(generation) => *generation,
        };
        self.presents(&host.id, generation, trust)
    }

    /// What a target's leaf of a generation looks like to somebody who trusts these roots.
    pub(crate) fn presents(&self, target: &TargetId, generation: Generation, trust: &str) -> Option<Presented> {
        let leaf = self.ledger.generation(generation)?;
        let own = self.ledger.leaves.get(&(target.clone(), generation));
        let (serial, fingerprint) =
            own.map_or((&leaf.serial, &leaf.fingerprint), |own| (&own.serial, &own.fingerprint));
        let root = self.ledger.authorities.iter().find(|record| record.authority == leaf.authority);
        let trusted = root.is_some_and(|root| trust.contains(root.root_pem.trim_end()));
        Some(Presented {
            names: leaf.dns_names.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            serial: serial.clone(),
            fingerprint: fingerprint.clone(),
            chain: if trusted { Ok(()) } else { Err("unknown issuer".into()) },
        })
    }
}
