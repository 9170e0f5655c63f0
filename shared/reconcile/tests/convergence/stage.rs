//! The simulated world as the loop sees it: looks that lag, calls that fail in every way, a clock that jumps.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use espalier_domain::network::{Action, Observed, Status, plan};
use espalier_domain::plan::Plan;
use espalier_domain::spec::{Dns, Spec, State};
use espalier_reconcile::{Clock, World as Reconciled};
use time::OffsetDateTime;

use super::hosts::{in_service, is_anybody_well};
use super::shape::Dice;
use super::trouble::{Fault, Met, Trouble, answer};
use super::world::{Group, Thing, World, takes};

/// A list shows what was true so many seconds ago, at most.
const LAG_S: i64 = 5;

/// Everything the runs share.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) dice: Dice,
    pub(crate) met: Met,
    pub(crate) story: String,
    /// Whether things go wrong.
    pub(crate) is_rough: bool,
    /// Whether clients were reached last time; from then on they have to be.
    serves: bool,
    /// Whether they were reached by somebody who is well.
    is_well: bool,
    /// What former looks would have seen.
    pub(crate) looks: VecDeque<(i64, Arc<Observed>)>,
    /// Whether anything has changed since the last of them.
    is_new: bool,
    /// Who sleeps until when, and how many runs there are.
    sleepers: Vec<i64>,
    pub(crate) runs: usize,
    /// How many instances the Auto Scaling group has launched.
    pub(crate) launched: u32,
    /// Lists may not show before what others did to what is ours.
    unknown_until: i64,
    /// Somebody may act on a list that lagged.
    blurred_until: i64,
}

impl Scene {
    pub(crate) fn new(world: World, dice: Dice) -> Self {
        let story = String::new();
        let (looks, sleepers) = (VecDeque::new(), Vec::new());
        Self {
            world,
            dice,
            met: Met::new(),
            story,
            is_rough: true,
            serves: false,
            is_well: false,
            looks,
            is_new: true,
            sleepers,
            runs: 0,
            launched: 0,
            unknown_until: 0,
            blurred_until: 0,
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        self.story.push_str(&format!("{:>6} {line}\n", self.world.now - 1_795_000_000));
    }

    /// Rolls whether a fault occurs, once in so many times.
    fn strikes(&mut self, fault: Fault, once_in: usize) -> bool {
        let it_does = self.is_rough && self.dice.roll(once_in) == 0;
        if it_does {
            self.meet(fault);
        }
        it_does
    }

    pub(crate) fn meet(&mut self, fault: Fault) {
        *self.met.entry(fault).or_default() += 1;
        self.tell(&format!("  ! {fault:?}"));
    }

    pub(crate) fn pass(&mut self, seconds: i64, spec: &Spec) {
        self.world.pass(u32::try_from(seconds).unwrap());
        self.is_new = true;
        self.keep_serving(spec, "time");
    }

    fn keep_serving(&mut self, spec: &Spec, what: &str) {
        // From a VPC the spec wants: what it no longer lists may go.
        let wanted = |vpc: &_| spec.network.consumers.iter().any(|consumer| consumer.vpc_id == *vpc);
        let has_clients = self.world.vpcs.iter().any(|one| takes(&one.status) && wanted(&one.of.1));
        let serves = self.world.serves() && has_clients;
        let well = serves && is_anybody_well(&self.world);
        let is_known = self.world.now > self.unknown_until;
        let must = spec.state == State::Present && is_known;
        assert!(serves || !must || !self.serves, "{what} broke the service");
        // Who fails clients is known at once. Where they are sent, a list may tell late.
        let is_sharp = self.world.now > self.blurred_until;
        assert!(well || !must || !self.is_well || !is_sharp, "{what} leaves clients to those who fail them");
        (self.serves, self.is_well) = (serves, well);
    }

    /// Others did something to the hosts. Whom that cuts off, they cut off.
    pub(crate) fn others_did(&mut self) {
        (self.serves, self.is_well, self.is_new) = (false, false, true);
    }

    /// Others did something to what is ours. For as long as a list may not show it, nobody can make up for it.
    pub(crate) fn others_changed(&mut self) {
        self.others_did();
        self.unknown_until = self.world.now + 2 * LAG_S;
    }

    /// Looks, and keeps what was seen.
    fn remember(&mut self, spec: &Spec) -> Arc<Observed> {
        if let Some((_, last)) = self.looks.back().filter(|_| !self.is_new) {
            return Arc::clone(last);
        }
        let seen = Arc::new(self.world.look(spec));
        self.looks.push_back((self.world.now, Arc::clone(&seen)));
        if self.looks.len() > 8 {
            self.looks.pop_front();
        }
        self.is_new = false;
        seen
    }

    /// Each list may be some seconds behind, and they need not agree.
    fn lag(&mut self, seen: &mut Arc<Observed>) {
        for list in 0..8 {
            if !self.strikes(Fault::Lagging, 20) {
                continue;
            }
            let recent = self.looks.iter().rposition(|(at, _)| self.world.now - at > LAG_S).map_or(0, |last| last + 1);
            let pick = recent + self.dice.roll(self.looks.len() - recent);
            let mut old = Observed::clone(&self.looks[pick].1);
            let seen = Arc::make_mut(seen);
            self.blurred_until = self.world.now + LAG_S;
            match list {
                0 => seen.network = old.network,
                1 => seen.vpc_associations = old.vpc_associations,
                2 => seen.target_groups = old.target_groups,
                3 => {
                    (seen.service, seen.listeners) = (old.service, old.listeners);
                    seen.access_logs = old.access_logs;
                }
                4 => seen.service_associations = old.service_associations,
                5 => seen.estate.ingress = std::mem::take(&mut old.estate.ingress),
                6 => {
                    (seen.record, seen.former_records) = (old.record, old.former_records);
                    seen.estate.hosted_zone = old.estate.hosted_zone;
                    seen.estate.private_zones = std::mem::take(&mut old.estate.private_zones);
                    seen.estate.zones_in_the_way = std::mem::take(&mut old.estate.zones_in_the_way);
                }
                _ => {
                    // Target groups of now with the targets of then.
                    for group in &mut seen.target_groups {
                        let then = old.target_groups.iter().find(|one| one.owned.id == group.owned.id);
                        group.targets = then.map(|one| one.targets.clone()).unwrap_or_default();
                    }
                }
            }
        }
    }

    /// Makes a call, perhaps with consequences.
    fn perform(&mut self, spec: &Spec, action: &Action) -> Result<(), Trouble> {
        self.forbid(spec, action);
        self.remember(spec);
        self.doom(action);
        let before = self.under_way();
        let served = in_service(&self.world, spec);
        let result = self.world.call(action);
        self.spare(spec, action, &served);
        self.is_new = true;
        (self.world.bad_creations, self.world.bad_updates, self.world.bad_deletions) = (0, 0, 0);
        for id in self.under_way().into_iter().filter(|id| !before.contains(id)) {
            if self.is_rough && self.dice.roll(3) == 0 {
                self.meet(Fault::Slow);
                let until = self.world.now + 3 + i64::try_from(self.dice.roll(90)).unwrap();
                self.world.slow.insert(id, until);
            }
        }
        self.tell(&format!("  {action}{}", result.as_ref().err().map(|why| format!(": {why}")).unwrap_or_default()));
        self.keep_serving(spec, &action.to_string());
        result.or_else(|refusal| answer(action, refusal))
    }

    /// Whether what the call begins fails in the end.
    fn doom(&mut self, action: &Action) {
        let creates = matches!(
            action,
            Action::AssociateVpc { .. }
                | Action::CreateTargetGroup { .. }
                | Action::CreateService { .. }
                | Action::AssociateService { .. }
        );
        let deletes = matches!(
            action,
            Action::DeleteServiceAssociation { .. }
                | Action::DeleteTargetGroup { .. }
                | Action::DeleteService { .. }
                | Action::DeleteVpcAssociation { .. }
        );
        if creates && self.strikes(Fault::CreationFailed, 8) {
            self.world.bad_creations = 1;
        }
        if deletes && self.strikes(Fault::DeletionFailed, 8) {
            self.world.bad_deletions = 1;
        }
        if matches!(action, Action::UpdateVpcAssociation { .. }) && self.strikes(Fault::UpdateFailed, 2) {
            self.world.bad_updates = 1;
        }
    }

    fn under_way(&self) -> Vec<String> {
        let is = |status: &Status| matches!(status, Status::Creating | Status::Updating | Status::Deleting);
        let vpcs = self.world.vpcs.iter().filter(|one| is(&one.status)).map(|one| one.id.clone());
        let groups = self.world.groups.iter().filter(|one| is(&one.status)).map(|one| one.id.clone());
        let services = self.world.services.iter().filter(|one| is(&one.status)).map(|one| one.id.clone());
        let joined = self.world.associations.iter().filter(|one| is(&one.status)).map(|one| one.id.clone());
        vpcs.chain(groups).chain(services).chain(joined).collect()
    }

    /// What no plan for a present stack may do: delete what is there, in order and wanted.
    fn forbid(&self, spec: &Spec, action: &Action) {
        if spec.state != State::Present {
            return;
        }
        let names = espalier_domain::network::target_group_names(spec);
        let shares = |one: &&Thing<Group>| names.contains(&one.of.name);
        let family = self.world.groups.iter().filter(shares);
        let is_only = family.clone().count() == 1;
        let well = |id: &str| {
            let services = self.world.services.iter().map(|one| (&one.id, &one.status));
            let joined = self.world.associations.iter().map(|one| (&one.id, &one.status));
            // Of several that share a fleet, an empty one may go.
            let used = family.clone().filter(|one| is_only || !one.of.targets.is_empty());
            let groups = used.map(|one| (&one.id, &one.status));
            let is_consumer = |vpc: &_| spec.network.consumers.iter().any(|consumer| consumer.vpc_id == *vpc);
            let vpcs = self.world.vpcs.iter().filter(|one| is_consumer(&one.of.1)).map(|one| (&one.id, &one.status));
            services.chain(joined).chain(groups).chain(vpcs).any(|(one, status)| one == id && *status == Status::Active)
        };
        let id = match action {
            Action::DeleteService { service_id, .. } => service_id,
            Action::DeleteServiceAssociation { association_id }
            | Action::DeleteVpcAssociation { association_id, .. } => association_id,
            Action::DeleteTargetGroup { target_group_id, .. } => target_group_id,
            Action::DeletePrivateZone { name, .. } => {
                let wanted = matches!(&spec.service.dns, Dns::PrivateZone { name: wanted } if wanted.as_str() == name);
                let alike = self.world.zones.iter().filter(|zone| zone.name == *name && zone.theirs.is_none());
                assert!(!wanted || alike.count() > 1, "{action} deletes the wanted zone");
                return;
            }
            Action::DeleteServiceNetwork { .. } => panic!("{action} while the stack is wanted"),
            _ => return,
        };
        assert!(!well(id), "{action} deletes what is in order and wanted");
    }

    /// A call that reaches some of its targets only. `None` when the call is of another kind.
    fn partly(&mut self, spec: &Spec, action: &Action) -> Option<Result<(), Trouble>> {
        let mut part = action.clone();
        let left = match &mut part {
            Action::RegisterTargets { targets, .. } => {
                targets.truncate(self.dice.roll(targets.len()));
                targets.len()
            }
            Action::DeregisterTargets { targets, .. } => {
                targets.truncate(self.dice.roll(targets.len()));
                targets.len()
            }
            Action::DropAuth { service_id, .. } => return self.half_dropped(service_id),
            _ => return None,
        };
        if !self.strikes(Fault::Partial, 5) {
            return None;
        }
        if left > 0
            && let Err(error) = self.perform(spec, &part)
        {
            return Some(Err(error));
        }
        // The service's code for a target it did not take decides what the adapter makes of it.
        Some(Err(match self.dice.roll(2) {
            0 => Trouble::refused("some targets were refused"),
            _ => Trouble::busy("some targets were refused for now", None),
        }))
    }

    /// These are two calls: the policy is out of force, and still there.
    fn half_dropped(&mut self, service_id: &str) -> Option<Result<(), Trouble>> {
        if !self.strikes(Fault::Partial, 3) {
            return None;
        }
        self.world.services.iter_mut().filter(|one| one.id == service_id).for_each(|one| one.of.is_iam = false);
        self.is_new = true;
        Some(Err(Trouble::busy("ServiceUnavailable", None)))
    }
}

/// One run's view of the scene.
pub(crate) struct Stage<'a> {
    pub(crate) scene: &'a Mutex<Scene>,
    pub(crate) spec: &'a Spec,
    /// The run ends with this call, before or after it.
    pub(crate) cut: Option<(u32, bool)>,
    pub(crate) calls: Mutex<u32>,
    pub(crate) is_cut: AtomicBool,
}

impl Stage<'_> {
    pub(crate) fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lets others go first, so that calls overtake one another.
    async fn linger(&self) {
        let mut turns = self.scene().dice.roll(4);
        poll_fn(move |context| {
            if turns == 0 {
                return Poll::Ready(());
            }
            turns -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    async fn cut_off(&self, fault: Fault) {
        self.scene().meet(fault);
        self.is_cut.store(true, Ordering::Relaxed);
        pending::<()>().await;
    }

    fn attempt(&self, action: &Action) -> Result<(), Trouble> {
        let mut scene = self.scene();
        if scene.strikes(Fault::Throttled, 25) {
            let asked_s = u32::try_from(scene.dice.roll(6)).unwrap();
            return Err(Trouble::busy("ThrottlingException", Some(asked_s)));
        }
        if scene.strikes(Fault::Unavailable, 25) {
            return Err(Trouble::busy("ServiceUnavailable", None));
        }
        if let Some(result) = scene.partly(self.spec, action) {
            return result;
        }
        if scene.strikes(Fault::AnswerLost, 25) {
            let _ = scene.perform(self.spec, action);
            return Err(Trouble::busy("TimedOut", None));
        }
        if scene.strikes(Fault::Twice, 25) {
            let _ = scene.perform(self.spec, action);
        }
        scene.perform(self.spec, action)
    }
}

impl Reconciled for Stage<'_> {
    type Observed = Arc<Observed>;
    type Action = Action;
    type Error = Trouble;

    async fn observe(&self) -> Result<Arc<Observed>, Trouble> {
        self.linger().await;
        let mut scene = self.scene();
        scene.pass(1, self.spec);
        if scene.strikes(Fault::LookThrottled, 40) {
            return Err(Trouble::busy("ThrottlingException", Some(2)));
        }
        let mut seen = scene.remember(self.spec);
        scene.lag(&mut seen);
        Ok(seen)
    }

    fn plan(&self, observed: &Arc<Observed>, _: OffsetDateTime) -> Plan<Action> {
        plan(self.spec, observed)
    }

    async fn apply(&self, action: &Action) -> Result<(), Trouble> {
        self.linger().await;
        let call = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        if self.cut == Some((call, false)) {
            self.cut_off(Fault::CutBefore).await;
        }
        let result = self.attempt(action);
        if self.cut == Some((call, true)) {
            self.cut_off(Fault::CutAfter).await;
        }
        result
    }

    fn render(&self, action: &Action) -> String {
        action.to_string()
    }
}

impl Clock for Stage<'_> {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.scene().world.now).unwrap()
    }

    /// When every run sleeps, time jumps to the first of them to wake.
    async fn sleep(&self, wait: Duration) {
        let until = {
            let mut scene = self.scene();
            let until = scene.world.now + i64::try_from(wait.as_secs()).unwrap() + 1;
            scene.sleepers.push(until);
            until
        };
        poll_fn(|context| {
            let mut scene = self.scene();
            let first = scene.sleepers.iter().min().copied();
            if scene.world.now < until && scene.sleepers.len() >= scene.runs && first == Some(until) {
                let seconds = until - scene.world.now;
                scene.pass(seconds, self.spec);
                scene.live(self.spec);
            }
            if scene.world.now >= until {
                let mine = scene.sleepers.iter().position(|one| *one == until).unwrap();
                scene.sleepers.remove(mine);
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
