//! Moving clients from one target group to another without a gap: by weight, a few first, and the group they leave is
//! kept until the last connection to it has ended by itself.

use super::Look;
use crate::network::action::Action;
use crate::network::observed::{SeenListener, SeenTargetGroup, TargetStatus};
use crate::network::{SOON_S, listener_name};
use crate::plan::{BlockCode, Plan};

/// Of a hundred new connections so many go to the new group first.
const CANARY: u32 = 10;

/// All of them.
const ALL: u32 = 100;

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

/// How the listener's groups stand to the wanted one.
struct Stand<'a> {
    wanted: &'a SeenTargetGroup,
    /// The wanted group's weight, if it is forwarded to at all.
    weight: Option<u32>,
    /// Other groups of ours that get clients now.
    live: Vec<(&'a SeenTargetGroup, u32)>,
    /// Other groups of ours that get none any more.
    parked: Vec<&'a SeenTargetGroup>,
    /// Groups that are not ours, or that are gone.
    has_strangers: bool,
    /// Since the weights were last changed.
    age_s: u32,
}

/// What the targets of the wanted group are known to be.
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
    /// Brings the listener one step nearer to forwarding to the wanted group alone.
    pub(super) fn forwards(
        &self,
        service_id: String,
        listener: &SeenListener,
        wanted: &SeenTargetGroup,
        is_ready: bool,
        plan: &mut Plan<Action>,
    ) {
        match self.stand(listener, wanted).next(is_ready) {
            Next::Nothing => {}
            Next::Wait(on, retry_after_s) => plan.wait(on, retry_after_s),
            Next::Block(because) => plan.block(BlockCode::Unhealthy, because),
            Next::Shift(forwards, because) => {
                let (listener_id, name) = (listener.owned.id.clone(), listener_name(&self.spec.stack, listener.port));
                plan.step(Action::UpdateListener { service_id, listener_id, name, forwards }, because);
            }
        }
    }

    fn stand<'a>(&'a self, listener: &SeenListener, wanted: &'a SeenTargetGroup) -> Stand<'a> {
        let mut stand = Stand {
            wanted,
            weight: None,
            live: Vec::new(),
            parked: Vec::new(),
            has_strangers: false,
            age_s: self.since_s(listener.changed_at),
        };
        for (id, weight) in &listener.forwards {
            let group = self.observed.target_groups.iter().find(|group| group.owned.id == *id);
            match group.filter(|group| group.owned.ours) {
                Some(group) if group.owned.id == wanted.owned.id => stand.weight = Some(*weight),
                Some(group) if *weight > 0 && serves(group) => stand.live.push((group, *weight)),
                Some(group) => stand.parked.push(group),
                None => stand.has_strangers = true,
            }
        }
        stand
    }
}

impl Stand<'_> {
    fn next(&self, is_ready: bool) -> Next {
        let name = &self.wanted.name;
        match self.weight {
            Some(1..) if self.live.is_empty() && !self.has_strangers => self.drain(),
            // What is there serves on; the waits for registration say what is awaited.
            _ if !is_ready => Next::Nothing,
            _ if self.live.is_empty() => Next::Shift(self.all(), format!("it does not forward to {name} alone")),
            // A group that comes into use begins with targets that are not ready (API reference, `TargetSummary`).
            None => {
                let is_checked = self.wanted.health_check.is_some();
                let first = if is_checked { "its health is checked first" } else { "it comes into use first" };
                Next::Shift(self.few(0), format!("{name} replaces what it forwards to; {first}"))
            }
            Some(0) => self.check(),
            Some(1..) => self.canary(),
        }
    }

    /// All clients go to the wanted group; what they left goes when nobody can be connected to it any more.
    fn drain(&self) -> Next {
        let name = &self.wanted.name;
        match (self.parked.is_empty(), CONNECTION_S.saturating_sub(self.age_s)) {
            (true, _) => Next::Nothing,
            (false, 0) => {
                let only = vec![(self.wanted.owned.id.clone(), ALL)];
                Next::Shift(only, format!("no connection to what {name} replaces can be left"))
            }
            (false, left_s) => Next::Wait(format!("the last connections to what {name} replaces to end"), left_s),
        }
    }

    /// The wanted group gets no client yet.
    fn check(&self) -> Next {
        let name = &self.wanted.name;
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

    /// A few clients go to the wanted group.
    fn canary(&self) -> Next {
        let name = &self.wanted.name;
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
        for target in &self.wanted.targets {
            match target.status {
                TargetStatus::Unhealthy => return Health::Bad(target.id.clone()),
                TargetStatus::Initial | TargetStatus::Unused => health = Health::Unknown,
                TargetStatus::Healthy | TargetStatus::Unavailable | TargetStatus::Draining => {}
            }
        }
        health
    }

    /// So many of a hundred to the wanted group, the others as before.
    fn few(&self, wanted: u32) -> Vec<(String, u32)> {
        let sum: u32 = self.live.iter().map(|(_, weight)| weight).sum();
        let share = |weight: u32| (weight * (ALL - wanted) / sum.max(1)).max(1);
        let live = self.live.iter().map(|(group, weight)| (group.owned.id.clone(), share(*weight)));
        live.chain(self.still(&[])).chain([(self.wanted.owned.id.clone(), wanted)]).collect()
    }

    /// All to the wanted group; what served stays a part of the listener, so that nobody is cut off.
    fn all(&self) -> Vec<(String, u32)> {
        let live: Vec<_> = self.live.iter().map(|(group, _)| *group).collect();
        self.still(&live).into_iter().chain([(self.wanted.owned.id.clone(), ALL)]).collect()
    }

    fn still(&self, also: &[&SeenTargetGroup]) -> Vec<(String, u32)> {
        also.iter().chain(&self.parked).map(|group| (group.owned.id.clone(), 0)).collect()
    }
}

/// Whether a client that is sent to this group reaches anybody.
fn serves(group: &SeenTargetGroup) -> bool {
    group.targets.iter().any(|target| target.status != TargetStatus::Draining)
}
