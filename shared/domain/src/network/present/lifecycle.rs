//! Answering lifecycle hooks of Auto Scaling groups: whoever comes serves before it counts as in service, whoever goes is
//! out of every target group before it is terminated.
//!
//! The only answer is `CONTINUE`. A target that is never proven is left to the hook's own timeout and its default
//! result, which its owner chose.

use super::Look;
use super::fleet::Fleet;
use crate::id::TargetId;
use crate::network::action::Action;
use crate::network::observed::{Life, Observed, Scaling, SeenHook, SeenInstance};
use crate::network::roster::Roster;
use crate::plan::{BlockCode, Plan};

const OUT: &str = "it is in no target group any more";

impl Look<'_> {
    pub(super) fn lifecycle(&self, fleet: &Fleet, plan: &mut Plan<Action>) {
        for instance in &self.observed.estate.instances {
            let Some(scaling) = &instance.scaling else { continue };
            let (is_for_launch, because) = match scaling.life {
                Life::ComingWaits if self.is_in_service(fleet, &instance.id) => {
                    (true, "it serves a certificate for the service's name and is registered")
                }
                Life::GoingWaits if self.roster.is_out(instance.id.as_str()) => (false, OUT),
                Life::ComingWaits | Life::GoingWaits | Life::Coming | Life::InService | Life::Going | Life::Aside => {
                    continue;
                }
            };
            answer(self.observed, instance, scaling, is_for_launch, because, plan);
        }
    }

    fn is_in_service(&self, fleet: &Fleet, id: &TargetId) -> bool {
        fleet.proven.contains(id) && self.are_registered(&[id.clone()].into())
    }
}

/// When the stack is to be absent: nobody is held from being terminated once they are out. Who comes is answered for by
/// nobody, since nobody will prove them.
pub(in crate::network) fn let_go(observed: &Observed, plan: &mut Plan<Action>) {
    let roster = Roster::of(observed, &[]);
    for instance in &observed.estate.instances {
        let Some(scaling) = &instance.scaling else { continue };
        if scaling.life == Life::GoingWaits && roster.is_out(instance.id.as_str()) {
            answer(observed, instance, scaling, false, OUT, plan);
        }
    }
}

fn answer(
    observed: &Observed,
    instance: &SeenInstance,
    scaling: &Scaling,
    is_for_launch: bool,
    because: &str,
    plan: &mut Plan<Action>,
) {
    if let Some(hook) = hook(observed, &scaling.group, is_for_launch, plan) {
        let (group, hook, instance) = (scaling.group.clone(), hook.name.clone(), instance.id.clone());
        plan.step(Action::CompleteLifecycleAction { group, hook, instance }, because);
    }
}

/// The stack's hook of a group. An instance does not tell which of several hooks it still waits for, and answering
/// one again and again would never come to an end.
fn hook<'a>(observed: &'a Observed, group: &str, is_for_launch: bool, plan: &mut Plan<Action>) -> Option<&'a SeenHook> {
    let hooks = observed.estate.hooks.iter();
    let hooks: Vec<&SeenHook> =
        hooks.filter(|hook| hook.group == group && hook.is_for_launch == is_for_launch).collect();
    let ours = hooks.iter().find(|hook| hook.ours).copied()?;
    match hooks.iter().find(|hook| hook.name != ours.name) {
        None => Some(ours),
        Some(other) => {
            let because = format!(
                "Auto Scaling group {group} has lifecycle hook {} beside {} for the same transition, and an instance \
                 does not tell which it waits for; keep one",
                other.name, ours.name
            );
            if !plan.blocks.iter().any(|block| block.because == because) {
                plan.block(BlockCode::Unsupported, because);
            }
            None
        }
    }
}
