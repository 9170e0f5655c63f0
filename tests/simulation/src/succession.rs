//! One authority taking over from another, explored to the last state: every order of looks, decisions that are carried out
//! late, twice or not at all, mints, clients that take the bundle, operators who say so, a person who goes back, and one who declares
//! what the former one signed unsafe and ends it by hand; with the production planner and the production ruling in each state.
//!
//! Told as it is in the world: a decision is carried out within [`LATE`]; clients that nobody registered take the bundle
//! within the wait; who was acknowledged keeps the root until the acknowledgement ends, and from then on as soon as something
//! is signed below it. What is not explored: two who publish different bundles in the same second (Parameter Store has no
//! condition for it), and a person who activates what nobody acknowledged, which is that person's decision.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use espalier_domain::authority::{
    Action, Facts, LATE, LONGEST_LEAF, Phase, Rules, Ruling, Word, bundle, digest, plan, rule, tainted,
};
use espalier_domain::id::{Caller, Reason, VerifierName};
use espalier_domain::record::{AcknowledgementRecord, AuthorityRecord, TurnRecord};
use time::{Duration, OffsetDateTime};

use crate::model::Explored;
use crate::oracle::{Broken, hold};
use crate::world::START;

/// No verifier rejects what is served.
pub const ACCEPTED: &str = "who was given time or acknowledged a root accepts every leaf that is served below it";
/// No root goes too soon.
pub const CHAINED: &str = "no authority is retired while something served chains to it, nor while it is active";
/// What is unsafe stays so.
pub const UNSAFE: &str = "an authority that was declared unsafe never signs again";
/// The end.
pub const TAKEN_OVER: &str = "when all is well one authority takes over, and the former one is retired";

/// What other clients are given.
const WAIT: Duration = LEAP;

/// How long an acknowledgement holds: it ends in the middle of everything.
const HOLDS: Duration = LEAP.saturating_add(LATE);

/// The other step of time: a little less than a leaf's life, so that the end of one can be looked at from both sides.
const LEAP: Duration = LONGEST_LEAF.saturating_sub(Duration::minutes(30));

const FORMER: &str = "a";
const NEXT: &str = "b";

/// What is to be explored, and in a state what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Registered verifiers.
    pub verifiers: u32,
    /// How often a month may pass.
    pub leaps: u32,
    /// How often an hour may pass.
    pub hours: u32,
    /// How many times something is done twice, by half or not at all.
    pub faults: u32,
    /// How often a person goes back, or forward again.
    pub words: u32,
    /// How often a person declares what was signed unsafe.
    pub taints: u32,
}

/// Somebody who verifies: the bundle it has, and what its operator is about to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    bundle: String,
    says: Option<String>,
}

/// Something that was decided and is not carried out yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Work {
    Do(Action),
    Mint(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    now: OffsetDateTime,
    authorities: Vec<(String, OffsetDateTime)>,
    turns: Vec<TurnRecord>,
    acknowledged: BTreeMap<VerifierName, (String, OffsetDateTime)>,
    bundle: String,
    clients: BTreeMap<VerifierName, Client>,
    /// The bundle of the last of those whom nobody registered, and when it has to have taken the next one.
    other: (String, Option<OffsetDateTime>),
    flight: Vec<(Work, OffsetDateTime)>,
    /// The leaf that is served: below which root, and until when it lives.
    served: (String, OffsetDateTime),
    left: Bounds,
}

/// Explores everything within the bounds.
///
/// # Errors
/// A promise that is broken in some state.
pub fn explore(bounds: Bounds) -> Result<Explored, Broken> {
    let (mut seen, mut queue, mut found) = (HashSet::new(), VecDeque::new(), Explored::default());
    let first = State::first(bounds);
    seen.insert(first.key());
    queue.push_back(first);
    while let Some(state) = queue.pop_front() {
        found.states += 1;
        state.examine()?;
        if state.left.leaps == 0 && state.left.hours == 0 && state.flight.is_empty() {
            found.ends += 1;
            state.settles()?;
        }
        for next in state.successors() {
            found.transitions += 1;
            if seen.insert(next.key()) {
                queue.push_back(next);
            }
        }
    }
    Ok(found)
}

fn record(id: &str, published_at: OffsetDateTime) -> AuthorityRecord {
    AuthorityRecord {
        authority: id.to_owned(),
        root_pem: format!("root {id}"),
        issuing_pem: String::new(),
        issuing_key: None,
        // The former one ends so soon that the next one is to be prepared, and later than all that is played.
        not_after: if id == FORMER { START + Duration::days(130) } else { START + Duration::days(1_000) },
        published_at: Some(published_at),
    }
}

fn accepts(bundle: &str, authority: &str) -> bool {
    bundle.contains(&format!("root {authority}\n"))
}

fn operator() -> Caller {
    Caller::parse("arn:aws:iam::111122223333:user/operator").expect("an ARN")
}

impl State {
    fn first(bounds: Bounds) -> Self {
        let published = START - Duration::days(1_000);
        let bundle = bundle(&[record(FORMER, published)], &[]);
        let name = |n: u32| VerifierName::parse(format!("v{n}")).expect("a name");
        let client = Client { bundle: bundle.clone(), says: None };
        Self {
            now: START,
            authorities: vec![(FORMER.to_owned(), published)],
            turns: Vec::new(),
            acknowledged: BTreeMap::new(),
            clients: (1..=bounds.verifiers).map(|n| (name(n), client.clone())).collect(),
            other: (bundle.clone(), None),
            bundle,
            flight: Vec::new(),
            served: (FORMER.to_owned(), START + LONGEST_LEAF),
            left: bounds,
        }
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn facts(&self) -> Facts {
        let said = |(verifier, (authority, until)): (&VerifierName, &(String, OffsetDateTime))| AcknowledgementRecord {
            authority: authority.clone(),
            verifier: verifier.clone(),
            bundle: String::new(),
            at: self.now,
            until: *until,
            caller: operator(),
            request: String::new(),
        };
        Facts {
            now: self.now,
            rules: Rules { verifiers: self.clients.keys().cloned().collect(), wait: WAIT },
            authorities: self.authorities.iter().map(|(id, at)| record(id, *at)).collect(),
            turns: self.turns.clone(),
            acknowledgements: self.acknowledged.iter().map(said).collect(),
            bundle: Some(self.bundle.clone()),
            damaged: Vec::new(),
            has_keys: self.authorities.len() < 2,
        }
    }

    fn phase(&self, id: &str) -> Option<Phase> {
        self.facts().phases().into_iter().find_map(|(record, phase)| (record.authority == id).then_some(phase))
    }

    fn active(&self) -> String {
        self.facts().active().map(|record| record.authority.clone()).unwrap_or_default()
    }

    fn successors(&self) -> Vec<Self> {
        let mut next = vec![self.looked()];
        next.extend(self.minting());
        for index in 0..self.flight.len() {
            next.push(self.done(index, true));
            if let Some(faulty) = self.faulty() {
                next.push(faulty.done(index, false));
                next.push(faulty.by_half(index));
                next.push(faulty.lost(index));
            }
        }
        let names: Vec<&VerifierName> = self.clients.keys().collect();
        for name in names {
            next.extend(
                [self.fetched(name), self.asked(name), self.said(name), self.forgot(name)].into_iter().flatten(),
            );
            if let Some(faulty) = self.faulty() {
                // The operator's word comes twice: once now, and once more later.
                next.extend(faulty.said(name).map(|after| Self { clients: faulty.clients.clone(), ..after }));
            }
        }
        next.push(Self { other: (self.bundle.clone(), None), ..self.clone() });
        next.extend([self.back(), self.tainted(), self.ended()].into_iter().flatten());
        next.extend(self.later(LATE));
        next.extend(self.later(LEAP));
        next
    }

    fn faulty(&self) -> Option<Self> {
        let faults = self.left.faults.checked_sub(1)?;
        let mut faulty = self.clone();
        faulty.left.faults = faults;
        Some(faulty)
    }

    /// A look, whose decisions are carried out later.
    fn looked(&self) -> Self {
        let mut after = self.clone();
        for step in plan(&self.facts()).steps {
            match step.action {
                // At once: who publishes has just looked.
                Action::Publish { bundle } => after.bundle = bundle,
                action @ (Action::Prepare | Action::Turn(_)) => after.decide(Work::Do(action)),
            }
        }
        after
    }

    fn decide(&mut self, work: Work) {
        if !self.flight.iter().any(|(other, _)| *other == work) {
            self.flight.push((work, self.now));
            // In which order they were decided upon makes no difference.
            self.flight.sort_by_key(|(work, at)| (format!("{work:?}"), *at));
        }
    }

    /// `mint` reads who is active, and signs later; one at a time.
    fn minting(&self) -> Option<Self> {
        let mints = |(work, _): &(Work, OffsetDateTime)| matches!(work, Work::Mint(_));
        let mut after = self.clone();
        after.decide(Work::Mint(self.active()));
        (!self.flight.iter().any(mints)).then_some(after)
    }

    fn done(&self, index: usize, once: bool) -> Self {
        let mut after = self.clone();
        let (work, decided_at) = after.flight[index].clone();
        if once {
            after.flight.remove(index);
        }
        match work {
            Work::Mint(authority) => after.served = (authority, after.now + LONGEST_LEAF),
            Work::Do(Action::Publish { bundle }) => after.bundle = bundle,
            Work::Do(Action::Turn(turn)) => {
                if !after.turns.iter().any(|other| other.number == turn.number) {
                    after.turns.push(turn);
                }
            }
            Work::Do(Action::Prepare) => {
                after.publish_next();
                if after.authorities.len() < 2 {
                    after.authorities.push((NEXT.to_owned(), decided_at));
                }
            }
        }
        after
    }

    /// Both roots are published; the record comes last.
    fn publish_next(&mut self) {
        let mut all = self.facts().authorities;
        if all.len() < 2 {
            all.push(record(NEXT, self.now));
            self.bundle = bundle(&all, &self.turns);
            if !accepts(&self.other.0, NEXT) {
                self.other.1 = Some(self.now + WAIT);
            }
        }
    }

    fn by_half(&self, index: usize) -> Self {
        let mut after = self.clone();
        if after.flight.remove(index).0 == Work::Do(Action::Prepare) {
            after.publish_next();
        }
        after
    }

    fn lost(&self, index: usize) -> Self {
        let mut after = self.clone();
        after.flight.remove(index);
        after
    }

    fn changed(&self, name: &VerifierName, change: impl FnOnce(&mut Client)) -> Self {
        let mut after = self.clone();
        if let Some(client) = after.clients.get_mut(name) {
            change(client);
        }
        after
    }

    /// A verifier takes the bundle that is published.
    fn fetched(&self, name: &VerifierName) -> Option<Self> {
        let client = self.clients.get(name).filter(|client| client.bundle != self.bundle)?;
        // Who has said that it has a root keeps it; only a bundle that was published anew without that is taken.
        let loses = accepts(&client.bundle, NEXT) && !accepts(&self.bundle, NEXT);
        (!loses).then(|| self.changed(name, |client| client.bundle.clone_from(&self.bundle)))
    }

    /// Its operator sees that it accepts what is below the next root, and is about to say so.
    fn asked(&self, name: &VerifierName) -> Option<Self> {
        let client = self.clients.get(name).filter(|client| client.says.is_none() && accepts(&client.bundle, NEXT))?;
        let says = digest(&client.bundle);
        Some(self.changed(name, |client| client.says = Some(says)))
    }

    /// And says so, sooner or later.
    fn said(&self, name: &VerifierName) -> Option<Self> {
        let bundle = self.clients.get(name)?.says.clone()?;
        let mut after = self.changed(name, |client| client.says = None);
        let word = Word::Acknowledge { authority: NEXT.to_owned(), verifier: name.clone(), bundle, holds: HOLDS };
        if let Ruling::Acknowledge(record) = rule(&self.facts(), &word, &operator(), "r") {
            let known = after.acknowledged.get(name).map(|(_, until)| *until);
            if known.is_none_or(|known| known < record.until) {
                after.acknowledged.insert(name.clone(), (record.authority, record.until));
            }
        }
        Some(after)
    }

    /// A verifier is restored from an old image: not while its operator's word holds or is on its way, nor when something was
    /// signed below the next root.
    fn forgot(&self, name: &VerifierName) -> Option<Self> {
        let client = self.clients.get(name)?;
        let holds = self.acknowledged.get(name).is_some_and(|(_, until)| *until > self.now);
        let prepared = matches!(self.phase(NEXT), None | Some(Phase::Prepared));
        let both = accepts(&client.bundle, NEXT) && accepts(&client.bundle, FORMER);
        let may = both && prepared && !holds && client.says.is_none();
        may.then(|| self.changed(name, |client| client.bundle = format!("root {FORMER}\n")))
    }

    /// A person goes back to the authority that signed before.
    fn back(&self) -> Option<Self> {
        let words = self.left.words.checked_sub(1)?;
        let after = self.ruled(|authority, reason| Word::Activate { authority, reason })?;
        Some(Self { left: Bounds { words, ..after.left }, ..after })
    }

    /// A person declares what the former one signed unsafe.
    fn tainted(&self) -> Option<Self> {
        let taints = self.left.taints.checked_sub(1)?;
        let after = self.ruled(|authority, reason| Word::Taint { authority, reason })?;
        Some(Self { left: Bounds { taints, ..after.left }, ..after })
    }

    /// And ends it, having looked that nobody serves a leaf of it, nor is about to.
    fn ended(&self) -> Option<Self> {
        let former = self.former().filter(|id| self.is_tainted(id))?;
        let is_below = |work: &Work| *work == Work::Mint(former.clone());
        let in_use = self.served.0 == former || self.flight.iter().any(|(work, _)| is_below(work));
        if in_use { None } else { self.ruled(|authority, reason| Word::Retire { authority, reason }) }
    }

    /// What a person says of the authority that signed before, unless it is refused.
    fn ruled(&self, word: impl FnOnce(String, Reason) -> Word) -> Option<Self> {
        let reason = Reason::parse("clients fail").expect("a reason");
        let Ruling::Turn(turn) = rule(&self.facts(), &word(self.former()?, reason), &operator(), "r") else {
            return None;
        };
        let mut after = self.clone();
        after.decide(Work::Do(Action::Turn(turn)));
        Some(after)
    }

    fn former(&self) -> Option<String> {
        let is_former = |phase: &Phase| matches!(phase, Phase::Retiring { .. });
        self.facts()
            .phases()
            .into_iter()
            .find_map(|(record, phase)| is_former(&phase).then(|| record.authority.clone()))
    }

    fn is_tainted(&self, id: &str) -> bool {
        tainted(id, &self.turns).is_some()
    }

    /// Time passes, unless something that was decided would come too late, or the last of all clients.
    fn later(&self, step: Duration) -> Option<Self> {
        let mut after = self.clone();
        let left = if step == LEAP { &mut after.left.leaps } else { &mut after.left.hours };
        *left = left.checked_sub(1)?;
        after.now += step;
        let is_late = |(_, decided_at): &(Work, OffsetDateTime)| after.now > *decided_at + LATE;
        if after.flight.iter().any(is_late) {
            return None;
        }
        if after.other.1.is_some_and(|last| last <= after.now) {
            after.other = (after.bundle.clone(), None);
        }
        Some(after)
    }

    fn examine(&self) -> Result<(), Broken> {
        let (authority, until) = &self.served;
        let lives = *until > self.now;
        for (name, client) in &self.clients {
            let kept = !lives || accepts(&client.bundle, authority);
            hold(kept, ACCEPTED, || format!("{name} rejects a leaf of {authority}: {self:?}"))?;
        }
        let kept = !lives || accepts(&self.other.0, authority);
        hold(kept, ACCEPTED, || format!("a client rejects a leaf of {authority}: {self:?}"))?;
        let is_retired = |id: &str| self.phase(id) == Some(Phase::Retired);
        hold(!(lives && is_retired(authority)), CHAINED, || format!("{authority} is retired: {self:?}"))?;
        let active = self.active();
        hold(!is_retired(&active), CHAINED, || format!("the active one is retired: {self:?}"))?;
        hold(!self.is_tainted(&active), UNSAFE, || format!("{active} signs: {self:?}"))
    }

    /// When everybody takes the bundle and says so, somebody signs, and the other one goes.
    fn settles(&self) -> Result<(), Broken> {
        let mut state = Self {
            left: Bounds { leaps: u32::MAX, hours: u32::MAX, faults: 0, words: 0, taints: 0, ..self.left },
            ..self.clone()
        };
        let names: Vec<VerifierName> = state.clients.keys().cloned().collect();
        for _ in 0..24 {
            for _ in 0..4 {
                state = state.looked();
                while !state.flight.is_empty() {
                    state = state.done(0, true);
                    state.examine()?;
                }
                for name in &names {
                    state = state.fetched(name).unwrap_or(state);
                    state = state.asked(name).unwrap_or(state);
                    state = state.said(name).unwrap_or(state);
                }
                state.other = (state.bundle.clone(), None);
            }
            state.served = (state.active(), state.now + LONGEST_LEAF);
            state.examine()?;
            if state.later(LEAP).is_some() && state.authorities.len() == 2 {
                let retired = state.facts().phases().into_iter().filter(|(_, phase)| *phase == Phase::Retired).count();
                if retired == 1 && plan(&state.facts()).steps.is_empty() {
                    return Ok(());
                }
            }
            state = state.later(LATE).and_then(|state| state.later(LEAP)).unwrap_or(state);
        }
        Err(Broken::new(TAKEN_OVER, format!("{:?}", plan(&state.facts()))))
    }
}
