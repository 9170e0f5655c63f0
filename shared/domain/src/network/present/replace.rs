//! Moving clients from target groups to others without a gap: by weight, a few first, and what they leave is kept until the
//! last connection to it has ended by itself.

use super::Look;
use super::family::{Seen, Share};
use crate::network::action::Action;
use crate::network::observed::{SeenListener, SeenTargetGroup, TargetStatus};
use crate::network::{SOON_S, listener_name, target_group_names};
use crate::plan::{BlockCode, Plan};

/// Of a hundred new connections so many go to the new group first.
const CANARY: u32 = 10;

/// All of them.
const ALL: u32 = 100;

/// The greatest weight (API reference, `WeightedTargetGroup`).
const MOST: u32 = 999;

/// How long the few go there before the others follow.
const CANARY_S: u32 = 60;

/// How often the few are looked after meanwhile.
const CANARY_LOOK_S: u32 = 10;

/// A connection through a TLS listener lives at most 10 minutes (VPC Lattice user guide, TLS listeners). So long after
/// the last one was sent to a group, none is left, and deregistering its targets cuts nobody off.
pub(super) const CONNECTION_S: u32 = 600;

/// How long to wait until the targets are ready. A group of weight 0 is "used in a service", and should be taken into use
/// and checked (API reference, `TargetSummary`); should it not be, the few clients are the check.
const CHECK_S: u32 = 300;

/// Groups in one listener, at most (API reference, `ForwardAction`).
const FORWARDS: usize = 10;

/// A wanted group.
struct Place<'a> {
    group: &'a SeenTargetGroup,
    /// How many targets in it are to serve clients.
    share: u32,
    /// What was last seen of those in it.
    seen: Seen,
    /// Its weight, if it is forwarded to at all.
    weight: Option<u32>,
}

/// How the listener's groups stand to the wanted ones.
struct Stand<'a> {
    wanted: Vec<Place<'a>>,
    /// Other groups of ours that get clients now, and are to be replaced.
    live: Vec<(&'a SeenTargetGroup, u32)>,
    /// Other groups of ours that have nobody for clients any more, or get none.
    parked: Vec<(&'a SeenTargetGroup, u32)>,
    /// Groups that are not ours, or that are gone.
    has_strangers: bool,
    /// Since the weights were last changed.
    age_s: u32,
}

/// What the targets of the wanted groups are known to be.
enum Health {
    Good,
    Bad(String),
    Unknown,
}

/// What is next.
enum Next {
    Nothing,
    Wait(String, u32),
    Block(String),
    Shift(Vec<(String, u32)>, String),
}

impl Look<'_> {
    /// Brings the listener one step nearer to forwarding to the wanted groups alone, to each by its share.
    pub(super) fn forwards(
        &self,
        service_id: String,
        listener: &SeenListener,
        shares: &[Share<'_>],
        is_ready: bool,
        plan: &mut Plan<Action>,
    ) {
        match self.stand(listener, shares).next_that_fits(is_ready) {
            Next::Nothing => {}
            Next::Wait(on, retry_after_s) => plan.wait(on, retry_after_s),
            Next::Block(because) => plan.block(BlockCode::Unhealthy, because),
            Next::Shift(forwards, because) => {
                let (listener_id, name) = (listener.owned.id.clone(), listener_name(&self.spec.stack, listener.port));
                plan.step(Action::UpdateListener { service_id, listener_id, name, forwards }, because);
            }
        }
    }

    /// Whether the listener forwards to the wanted groups, all of them and nothing else.
    pub(super) fn is_led_there(&self, listener: &SeenListener, shares: &[Share<'_>]) -> bool {
        let stand = self.stand(listener, shares);
        stand.is_there() && stand.parked.is_empty()
    }

    fn stand<'s>(&'s self, listener: &SeenListener, shares: &[Share<'s>]) -> Stand<'s> {
        let place = |one: &Share<'s>| {
            let Share { group, targets: share, seen } = *one;
            Place { group, share, seen, weight: None }
        };
        let mut stand = Stand {
            wanted: shares.iter().map(place).collect(),
            live: Vec::new(),
            parked: Vec::new(),
            has_strangers: false,
            age_s: self.since_s(listener.changed_at),
        };
        let own = target_group_names(self.spec);
        let is_wanted = |id: &String| shares.iter().any(|one| one.group.owned.id == *id);
        let is_used = listener.forwards.iter().any(|(id, weight)| *weight > 0 && is_wanted(id));
        for (id, weight) in &listener.forwards {
            if let Some(place) = stand.wanted.iter_mut().find(|place| place.group.owned.id == *id) {
                place.weight = Some(*weight);
                continue;
            }
            let group = self.observed.target_groups.iter().find(|group| group.owned.id == *id);
            match group.filter(|group| group.owned.ours) {
                // Who is left in a group that shares the fleet leaves it at once if the others get clients already.
                Some(group) if *weight > 0 && serves(group) && !(is_used && own.contains(&group.name)) => {
                    stand.live.push((group, *weight));
                }
                Some(group) => stand.parked.push((group, *weight)),
                None => stand.has_strangers = true,
            }
        }
        stand
    }
}

impl Stand<'_> {
    /// A listener has room for ten groups: before there are more, what nobody is connected to any more leaves it.
    fn next_that_fits(&self, is_ready: bool) -> Next {
        let next = self.next(is_ready);
        let Next::Shift(forwards, because) = next else { return next };
        if forwards.len() <= FORWARDS {
            return Next::Shift(forwards, because);
        }
        match CONNECTION_S.saturating_sub(self.age_s) {
            0 => {
                let is_parked = |id: &String| self.parked.iter().any(|(group, _)| group.owned.id == *id);
                Next::Shift(forwards.into_iter().filter(|(id, _)| !is_parked(id)).collect(), because)
            }
            left_s => Next::Wait(format!("room in the listener: {because}"), left_s),
        }
    }

    fn next(&self, is_ready: bool) -> Next {
        let name = self.name();
        let is_used = self.wanted.iter().any(|place| place.weight > Some(0));
        let is_lost = self.parked.iter().any(|(_, weight)| *weight > 0);
        // Whoever is sent to a group without targets fails; who is sent to the others does not.
        if is_lost && (is_used || !self.live.is_empty()) {
            return Next::Shift(self.as_it_is(), "it forwards to a group that nobody is to serve in".to_owned());
        }
        if self.is_there() {
            return self.drain();
        }
        let failing = self.wanted.iter().find(|place| place.seen == Seen::Failing && place.weight > Some(0));
        if let Some(place) = failing.filter(|_| !self.live.is_empty()) {
            return Next::Shift(self.few(0), format!("whoever is in {} fails clients", place.group.name));
        }
        // What is there serves on; the waits for registration say what is awaited.
        if !is_ready {
            return Next::Nothing;
        }
        if self.live.is_empty() && (!is_used || self.has_strangers) {
            let forwards = if is_used { self.as_it_is() } else { self.all() };
            return Next::Shift(forwards, format!("it does not forward to {name} alone"));
        }
        // What was well when it was registered may fail clients by now, whatever VPC Lattice's own check says.
        if let Some(place) = self.unproven() {
            let on = format!("somebody in {} to be seen serving well", place.group.name);
            return Next::Wait(on, SOON_S);
        }
        // A group that comes into use begins with targets that are not ready (API reference, `TargetSummary`).
        if self.wanted.iter().any(|place| place.weight.is_none()) {
            let is_checked = self.wanted.iter().any(|place| place.group.health_check.is_some());
            let first = if is_checked { "its health is checked first" } else { "it comes into use first" };
            return if is_used {
                Next::Shift(self.joined(), format!("{name}: one more for the fleet; {first}"))
            } else {
                Next::Shift(self.few(0), format!("{name} replaces what it forwards to; {first}"))
            };
        }
        if self.wanted.iter().any(|place| place.weight == Some(0)) {
            return if self.live.is_empty() { self.join() } else { self.check() };
        }
        self.canary()
    }

    /// A group that is to get more clients than it has, and in which nobody was just seen serving.
    fn unproven(&self) -> Option<&Place<'_>> {
        let gets_more = |place: &&Place<'_>| !self.live.is_empty() || place.weight.is_none_or(|weight| weight == 0);
        self.wanted.iter().filter(gets_more).find(|place| place.seen != Seen::Well)
    }

    fn name(&self) -> String {
        match &self.wanted[..] {
            [] => "no target group".to_owned(),
            [only] => only.group.name.clone(),
            [first, ..] => format!("{} ({} groups)", first.group.name, self.wanted.len()),
        }
    }

    /// All clients go to the wanted groups, and to each of them some.
    fn is_there(&self) -> bool {
        let is_used = self.wanted.iter().all(|place| place.weight > Some(0));
        is_used && !self.wanted.is_empty() && self.live.is_empty() && !self.has_strangers
    }

    /// All clients go to the wanted groups; what they left goes when nobody can be connected to it any more.
    fn drain(&self) -> Next {
        let name = self.name();
        if self.is_uneven() {
            return Next::Shift(
                self.all(),
                format!("{name}: their shares of the clients are not those of the targets"),
            );
        }
        match (self.parked.is_empty(), CONNECTION_S.saturating_sub(self.age_s)) {
            (true, _) => Next::Nothing,
            (false, 0) => Next::Shift(self.weights(), format!("no connection to what {name} replaces can be left")),
            (false, left_s) => Next::Wait(format!("the last connections to what {name} replaces to end"), left_s),
        }
    }

    /// The wanted groups get no client yet.
    fn check(&self) -> Next {
        let name = self.name();
        match (self.health(), CHECK_S.saturating_sub(self.age_s)) {
            (Health::Good, _) => Next::Shift(self.few(CANARY), format!("{name} is ready; a few clients first")),
            (Health::Bad(id), _) => Next::Block(format!(
                "{id} fails its health check in {name}, so no client is moved there: have it answer on the new port as \
                 healthCheck wants, or take the change back"
            )),
            (Health::Unknown, 0) => {
                Next::Shift(self.few(CANARY), format!("{name} is not used without clients; a few of them first"))
            }
            (Health::Unknown, left_s) => Next::Wait(format!("{name} to be ready"), left_s.min(SOON_S)),
        }
    }

    /// A further group comes beside those that serve already. VPC Lattice sends nobody to a target that fails its check, so
    /// one that passes is enough.
    fn join(&self) -> Next {
        let name = self.name();
        let takes = |status| matches!(status, TargetStatus::Healthy | TargetStatus::Unavailable);
        let fresh = || self.wanted.iter().filter(|place| place.weight == Some(0)).map(|place| place.group);
        let is_ready = fresh().all(|group| group.targets.iter().any(|target| takes(target.status)));
        let begins = |status| matches!(status, TargetStatus::Initial | TargetStatus::Unused);
        let is_beginning = fresh().any(|group| group.targets.iter().any(|target| begins(target.status)));
        match CHECK_S.saturating_sub(self.age_s) {
            _ if is_ready && !is_beginning => {
                Next::Shift(self.all(), format!("{name}: all are ready, each gets its share"))
            }
            0 if is_ready || is_beginning => {
                Next::Shift(self.all(), format!("{name}: what is not used without clients gets its share"))
            }
            0 => Next::Wait(format!("targets of {name} to pass their health check"), CONNECTION_S),
            left_s => Next::Wait(format!("{name} to be ready"), left_s.min(SOON_S)),
        }
    }

    /// A few clients go to the wanted groups.
    fn canary(&self) -> Next {
        let name = self.name();
        match (self.health(), CANARY_S.saturating_sub(self.age_s)) {
            (Health::Bad(id), _) => Next::Shift(self.few(0), format!("{id} fails its health check in {name}")),
            (Health::Good, 0) => Next::Shift(self.all(), format!("{name} serves the few well; now all")),
            (Health::Unknown, 0) => Next::Wait(format!("{name} to be checked"), SOON_S),
            (Health::Good | Health::Unknown, left_s) => {
                Next::Wait(format!("{name} to serve a few for a while"), left_s.min(CANARY_LOOK_S))
            }
        }
    }

    fn health(&self) -> Health {
        let mut health = Health::Good;
        for target in self.wanted.iter().flat_map(|place| &place.group.targets) {
            match target.status {
                TargetStatus::Unhealthy => return Health::Bad(target.id.clone()),
                TargetStatus::Initial | TargetStatus::Unused => health = Health::Unknown,
                TargetStatus::Healthy | TargetStatus::Unavailable | TargetStatus::Draining => {}
            }
        }
        health
    }

    /// Whether a group gets an eighth more or less of the clients than it has of the targets. Each change of the weights
    /// keeps for ten more minutes what was replaced before, so not every target that comes or goes makes one.
    fn is_uneven(&self) -> bool {
        let weights: u64 = self.wanted.iter().filter_map(|place| place.weight).map(u64::from).sum();
        let shares: u64 = self.wanted.iter().map(|place| u64::from(place.share)).sum();
        self.wanted.iter().any(|place| {
            let is = u64::from(place.weight.unwrap_or_default()) * shares;
            let should = u64::from(place.share) * weights;
            is.abs_diff(should) * 8 > should
        })
    }

    /// What all clients together come to: weights go from 0 to 999.
    fn whole(&self) -> u32 {
        if self.wanted.len() > 1 || self.live.len() > 1 { 900 } else { ALL }
    }

    /// The wanted groups alone, each by its share.
    fn weights(&self) -> Vec<(String, u32)> {
        match &self.wanted[..] {
            [only] => vec![(only.group.owned.id.clone(), ALL)],
            several => several.iter().map(|one| (one.group.owned.id.clone(), one.share.clamp(1, MOST))).collect(),
        }
    }

    /// So many of a hundred to the wanted groups, the others as before.
    fn few(&self, wanted: u32) -> Vec<(String, u32)> {
        let (whole, sum) = (self.whole(), self.live.iter().map(|(_, weight)| weight).sum::<u32>().max(1));
        let share = |weight: u32| (weight * (whole * (ALL - wanted) / ALL) / sum).max(1);
        let live = self.live.iter().map(|(group, weight)| (group.owned.id.clone(), share(*weight)));
        let shares: u64 = self.wanted.iter().map(|place| u64::from(place.share)).sum::<u64>().max(1);
        let few = u64::from(whole * wanted / ALL);
        let part = |share: u32| u32::try_from(u64::from(share) * few / shares).unwrap_or(MOST).max(u32::from(few > 0));
        let wanted = self.wanted.iter().map(|place| (place.group.owned.id.clone(), part(place.share)));
        live.chain(self.still(&[])).chain(wanted).collect()
    }

    /// All to the wanted groups; what served stays a part of the listener, so that nobody is cut off.
    fn all(&self) -> Vec<(String, u32)> {
        let live: Vec<_> = self.live.iter().map(|(group, _)| *group).collect();
        self.still(&live).into_iter().chain(self.weights()).collect()
    }

    /// As it is now, but that nobody is sent to what is parked or not ours.
    fn as_it_is(&self) -> Vec<(String, u32)> {
        let live = self.live.iter().map(|(group, weight)| (group.owned.id.clone(), *weight));
        let wanted = self.wanted.iter().filter_map(|place| Some((place.group.owned.id.clone(), place.weight?)));
        live.chain(self.still(&[])).chain(wanted).collect()
    }

    /// As it is now, and what is new without clients.
    fn joined(&self) -> Vec<(String, u32)> {
        let fresh = self.wanted.iter().filter(|place| place.weight.is_none());
        self.as_it_is().into_iter().chain(fresh.map(|place| (place.group.owned.id.clone(), 0))).collect()
    }

    fn still(&self, also: &[&SeenTargetGroup]) -> Vec<(String, u32)> {
        let parked = self.parked.iter().map(|(group, _)| *group);
        also.iter().copied().chain(parked).map(|group| (group.owned.id.clone(), 0)).collect()
    }
}

/// Whether a client that is sent to this group reaches anybody.
fn serves(group: &SeenTargetGroup) -> bool {
    group.targets.iter().any(|target| target.status != TargetStatus::Draining)
}
