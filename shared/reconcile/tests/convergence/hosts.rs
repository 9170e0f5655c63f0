//! The fleet's own life beside ours: targets fail clients and are mended, start anew, come and go with their Auto Scaling
//! group. Nobody here asks `provision` for leave; it has to keep up.

use std::collections::BTreeSet;

use espalier_domain::id::TargetId;
use espalier_domain::network::{Action, Life, Scaling, SeenHook, SeenInstance, TargetStatus, target_group_names};
use espalier_domain::spec::{Select, Spec, State};
use espalier_domain::verdict;

use super::stage::Scene;
use super::trouble::Fault;
use super::world::{World, instance};

/// The Auto Scaling group that some goals select.
pub(crate) const SCALING: &str = "web";

/// Its instances in the beginning.
const FIRST: [&str; 2] = ["i-0a1b2c3d4e5f60721", "i-0a1b2c3d4e5f60722"];

/// It is never larger.
const MOST: usize = 6;

/// One event in so many leaps of time.
const ONCE_IN: usize = 12;

/// The group with the hooks that the stack answers.
pub(crate) fn found(spec: &Spec, world: &mut World) {
    world.estate.scaling_groups.insert(SCALING.into());
    let hook =
        |name: &str, is_for_launch| SeenHook { group: SCALING.into(), name: name.into(), is_for_launch, ours: true };
    world.estate.hooks = vec![hook("come", true), hook("go", false)];
    world.estate.instances.extend(FIRST.map(|id| scaled(spec, id, Life::InService)));
}

fn scaled(spec: &Spec, id: &str, life: Life) -> SeenInstance {
    SeenInstance { scaling: Some(Scaling { group: SCALING.into(), life }), ..instance(spec, id) }
}

impl Scene {
    /// Time has leapt: perhaps something happens, and what happened before comes to its end.
    pub(crate) fn live(&mut self, spec: &Spec) {
        self.go_on(spec);
        if self.is_rough && self.dice.roll(ONCE_IN) == 0 {
            self.happen(spec);
        }
        self.others_did();
    }

    /// Something happens to a host.
    pub(crate) fn happen(&mut self, spec: &Spec) {
        let fault = match self.dice.roll(7) {
            0 | 1 => self.fail(),
            2 => self.restart(),
            3 | 4 => self.launch(spec),
            5 => self.lead_away(Life::GoingWaits, Fault::Terminating),
            _ => self.lead_away(Life::Aside, Fault::SetAside),
        };
        if let Some(fault) = fault {
            self.meet(fault);
        }
        self.others_did();
    }

    /// A target begins to fail clients.
    fn fail(&mut self) -> Option<Fault> {
        let (id, now) = (self.pick(|_| true)?, self.world.now);
        let fault = if self.dice.roll(2) == 0 { verdict::Fault::Expired } else { verdict::Fault::TimedOut };
        self.world.faults.entry(id).or_insert((vec![fault], now));
        Some(Fault::Fails)
    }

    /// An instance starts anew: what was seen of it before counts no more.
    fn restart(&mut self) -> Option<Fault> {
        let id = self.pick(|_| true)?;
        self.world.unseen.insert(id);
        Some(Fault::Restarted)
    }

    fn launch(&mut self, spec: &Spec) -> Option<Fault> {
        if self.scaled().count() >= MOST {
            return None;
        }
        let id = format!("i-{:017x}", 0xa1b_2c3d_4e5f_6073_u64 + u64::from(self.launched));
        self.launched += 1;
        self.world.unseen.insert(id.clone());
        self.world.estate.instances.push(scaled(spec, &id, Life::ComingWaits));
        Some(Fault::Launched)
    }

    /// The group ends an instance, or its owner puts it aside; another one stays in service.
    fn lead_away(&mut self, life: Life, fault: Fault) -> Option<Fault> {
        let in_service = self.scaled().filter(|(_, life)| *life == Life::InService).count();
        let id = if in_service > 1 { self.pick(|one| one.scaling.is_some())? } else { return None };
        // What no list shows yet, nobody can wait for.
        let is_known = self.looks.iter().all(|(_, seen)| {
            let targets = seen.target_groups.iter().flat_map(|group| &group.targets);
            targets.into_iter().any(|one| one.id == id) == self.is_registered(&id)
        });
        let instance = self.world.estate.instances.iter_mut().find(|one| one.id.as_str() == id).filter(|_| is_known)?;
        instance.scaling = Some(Scaling { group: SCALING.into(), life });
        Some(fault)
    }

    /// What happened before comes to its end.
    fn go_on(&mut self, spec: &Spec) {
        for id in self.world.faults.keys().cloned().collect::<Vec<_>>() {
            if self.comes(3) && self.may_be_mended(spec, &id) {
                self.world.faults.remove(&id);
                self.tell(&format!("  {id} is mended"));
            }
        }
        for id in self.world.unseen.clone() {
            if self.comes(3) {
                self.world.unseen.remove(&id);
                self.tell(&format!("  {id} is seen"));
            } else if self.dice.roll(12) == 0 {
                self.abandon(&id);
            }
        }
        // A terminated instance is in its group no more, and nobody who is put aside stays there.
        self.world.estate.instances.retain(|one| one.scaling.as_ref().is_none_or(|it| it.life != Life::Going));
        let comes = self.comes(4);
        let instances = self.world.estate.instances.iter_mut().filter_map(|one| one.scaling.as_mut());
        instances.filter(|it| it.life == Life::Aside && comes).for_each(|it| it.life = Life::InService);
    }

    /// Nobody answered for it in time: its group gives it up.
    fn abandon(&mut self, id: &str) {
        let waits = |one: &SeenInstance| one.scaling.as_ref().is_some_and(|it| it.life == Life::ComingWaits);
        let all = &mut self.world.estate.instances;
        let before = all.len();
        all.retain(|one| one.id.as_str() != id || !waits(one));
        if all.len() < before {
            self.meet(Fault::Abandoned);
        }
    }

    /// Who fails clients is repaired when it is out of service, or cannot be spared, or is nobody's target now.
    fn may_be_mended(&self, spec: &Spec, id: &str) -> bool {
        let goes = |life| matches!(life, Life::Going | Life::GoingWaits | Life::Aside);
        let selected = self.world.selected(spec);
        let staying = selected.iter().filter(|one| !one.scaling.as_ref().is_some_and(|it| goes(it.life)));
        let staying: BTreeSet<String> = staying.map(|one| one.id.to_string()).collect();
        let served = &in_service(&self.world, spec) & &staying;
        let is_anybody_well = served.iter().any(|one| !self.world.faults.contains_key(one));
        !served.contains(id) || served.len() <= minimum(spec) || !is_anybody_well
    }

    /// Whether something that takes its time is over: in peace, soon; else once in so many leaps.
    fn comes(&mut self, once_in: usize) -> bool {
        !self.is_rough || self.dice.roll(once_in) == 0
    }

    /// A running instance that is in service, or in no Auto Scaling group, and has nothing the matter with it.
    fn pick(&mut self, is: impl Fn(&SeenInstance) -> bool) -> Option<String> {
        let world = &self.world;
        let serves = |one: &&SeenInstance| one.scaling.as_ref().is_none_or(|it| it.life == Life::InService);
        let is_well = |id: &str| !world.faults.contains_key(id) && !world.unseen.contains(id);
        let all = world.estate.instances.iter().filter(|one| one.is_running && is(one)).filter(serves);
        let all: Vec<String> = all.map(|one| one.id.to_string()).filter(|id| is_well(id)).collect();
        (!all.is_empty()).then(|| all[self.dice.roll(all.len())].clone())
    }

    fn scaled(&self) -> impl Iterator<Item = (&TargetId, Life)> {
        let instances = self.world.estate.instances.iter();
        instances.filter_map(|one| Some((&one.id, one.scaling.as_ref()?.life)))
    }

    fn is_registered(&self, id: &str) -> bool {
        self.world.groups.iter().any(|group| group.of.targets.keys().any(|(target, _)| target == id))
    }

    /// Whether nobody has anything the matter with it, and no hook is waited for.
    pub(crate) fn is_well(&self, spec: &Spec) -> bool {
        let is_at_rest = |life| matches!(life, Life::InService | Life::Coming | Life::Going);
        let is_theirs = matches!(spec.targets.select, Select::AutoScalingGroups(_));
        let are_at_rest = self.scaled().all(|(_, life)| is_at_rest(life) || !is_theirs);
        self.world.faults.is_empty() && self.world.unseen.is_empty() && are_at_rest
    }

    /// Whoever fails clients is taken out of service only while enough others stay.
    pub(crate) fn spare(&self, spec: &Spec, action: &Action, before: &BTreeSet<String>) {
        let Action::DeregisterTargets { targets, .. } = action else { return };
        let is_drained = |id: &str| before.contains(id) && self.world.faults.contains_key(id);
        if spec.state == State::Present && targets.iter().all(|(id, _)| is_drained(id)) {
            let after = in_service(&self.world, spec).len();
            let least = minimum(spec).min(before.len());
            assert!(after >= least, "{action} leaves {after} of {} in service, and {least} are wanted", before.len());
        }
    }
}

fn minimum(spec: &Spec) -> usize {
    usize::try_from(spec.targets.minimum_in_service).unwrap()
}

/// Whom clients may be sent to, in the groups that the spec wants.
pub(crate) fn in_service(world: &World, spec: &Spec) -> BTreeSet<String> {
    let names = target_group_names(spec);
    let groups = world.groups.iter().filter(|group| names.contains(&group.of.name));
    let targets = groups.flat_map(|group| &group.of.targets).filter(|(_, status)| **status != TargetStatus::Draining);
    targets.map(|((id, _), _)| id.clone()).collect()
}

/// Whether clients reach a target that is well.
pub(crate) fn is_anybody_well(world: &World) -> bool {
    let mut forwards = world.listeners.iter().flat_map(|one| &one.of.forwards).filter(|(_, weight)| *weight > 0);
    forwards.any(|(group, _)| {
        let group = world.groups.iter().find(|one| one.id == *group);
        let mut targets = group.into_iter().flat_map(|group| &group.of.targets);
        targets.any(|((id, _), status)| *status != TargetStatus::Draining && !world.faults.contains_key(id))
    })
}
