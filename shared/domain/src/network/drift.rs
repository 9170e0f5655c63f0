//! Drift: what differs from a spec under which nothing was left to do once.
//!
//! The spec did not change, so somebody else changed what is ours. A fleet that grows and shrinks is no drift: who is
//! selected is registered whatever the spec says of drift, and when it takes several target groups, these come and go with
//! it, and so do their shares of the clients.

use super::action::Action;
use super::observed::{Observed, Owned, SeenService};
use super::target_group_names;
use crate::plan::{BlockCode, Plan, Step};
use crate::spec::{Drift, Manage, Spec, State};
use crate::tag;

/// The steps of the plan that undo what others did.
pub fn drifted<'a>(spec: &Spec, observed: &Observed, plan: &'a Plan<Action>) -> Vec<&'a Step<Action>> {
    if spec.state == State::Absent || !was_settled(spec, observed) {
        return Vec::new();
    }
    plan.steps.iter().filter(|step| undoes(spec, observed, &step.action)).collect()
}

/// With `drift: report`, takes such steps out of the plan and says what they would have done.
pub(super) fn hold_back(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    match spec.drift {
        Drift::Repair => return,
        Drift::Report if !was_settled(spec, observed) => return,
        Drift::Report => {}
    }
    let (held, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut plan.steps).into_iter().partition(|step| undoes(spec, observed, &step.action));
    plan.steps = kept;
    for Step { action, because } in held {
        let remedy = "undo it, write it into the spec, or set drift to repair";
        plan.block(BlockCode::Drifted, format!("would be done: {action} ({because}); {remedy}"));
    }
}

/// Before the first step that another spec wants, forgets that nothing was left to do under the former one: should the
/// former come back half way, what is undone then is no drift.
pub(super) fn forget(spec: &Spec, observed: &Observed, plan: &mut Plan<Action>) {
    if !plan.steps.iter().any(|step| undoes(spec, observed, &step.action)) {
        return;
    }
    let is_stale = |hash: &str| hash != spec.hash() && hash != tag::CHANGING;
    let stale = observed.owned().filter(|owned| owned.ours && owned.spec_hash.as_deref().is_some_and(is_stale));
    let tags = tag::settled(&spec.stack, tag::CHANGING);
    let forget = |owned: &Owned| Step {
        action: Action::Tag { arn: owned.arn.clone(), what: owned.id.clone(), tags: tags.clone() },
        because: "the spec has changed".to_owned(),
    };
    let steps: Vec<_> = stale.map(forget).collect();
    if !steps.is_empty() {
        plan.steps = steps;
    }
}

/// Whether the service says that nothing was left to do under this very spec. Then nothing is left of former specs, and
/// nobody has to look for it.
pub fn is_settled(spec: &Spec, service: Option<&SeenService>) -> bool {
    let owned = service.map(|service| &service.owned);
    owned.is_some_and(|owned| owned.ours && owned.spec_hash.as_deref() == Some(spec.hash()))
}

/// Whether something of ours may be left that this spec does not name: rules in other security groups, other zones.
pub fn may_have_leftovers(spec: &Spec, service: Option<&SeenService>) -> bool {
    spec.manage == Manage::Stack && (spec.state == State::Absent || !is_settled(spec, service))
}

/// Whether nothing was left to do under this very spec at some time.
fn was_settled(spec: &Spec, observed: &Observed) -> bool {
    observed.owned().any(|owned| owned.ours && owned.spec_hash.as_deref() == Some(spec.hash()))
}

fn undoes(spec: &Spec, observed: &Observed, action: &Action) -> bool {
    let names = target_group_names(spec);
    let shares = |name: &str| names.iter().any(|one| one == name);
    let others = |name: &str| {
        let mut groups = observed.target_groups.iter();
        shares(name) && groups.any(|group| group.owned.ours && group.name != name && shares(&group.name))
    };
    match action {
        Action::CreateTargetGroup { want, .. } => !others(&want.name),
        Action::DeleteTargetGroup { name, .. } => !others(name),
        Action::UpdateListener { listener_id, forwards, .. } => {
            let listener = observed.listeners.iter().find(|one| one.owned.id == *listener_id);
            let before = listener.into_iter().flat_map(|one| &one.forwards);
            let is_shared = |id: &str| {
                let mut groups = observed.target_groups.iter();
                groups.any(|group| group.owned.id == id && group.owned.ours && others(&group.name))
            };
            !before.chain(forwards).all(|(id, _)| is_shared(id))
        }
        // The fleet, and our own memory.
        Action::RegisterTargets { .. }
        | Action::DeregisterTargets { .. }
        | Action::CompleteLifecycleAction { .. }
        | Action::Tag { .. } => false,
        Action::CreateServiceNetwork { .. }
        | Action::AssociateVpc { .. }
        | Action::UpdateVpcAssociation { .. }
        | Action::UpdateHealthCheck { .. }
        | Action::CreateService { .. }
        | Action::UpdateIdleTimeout { .. }
        | Action::PutAuthPolicy { .. }
        | Action::SubscribeAccessLogs { .. }
        | Action::UpdateAccessLogs { .. }
        | Action::DeleteAccessLogs { .. }
        | Action::RequireAuth { .. }
        | Action::DropAuth { .. }
        | Action::CreateListener { .. }
        | Action::AssociateService { .. }
        | Action::CreatePrivateZone { .. }
        | Action::AssociateZone { .. }
        | Action::DisassociateZone { .. }
        | Action::WriteRecord { .. }
        | Action::AuthorizeIngress { .. }
        | Action::DeleteRecord { .. }
        | Action::DeletePrivateZone { .. }
        | Action::DeleteServiceAssociation { .. }
        | Action::DeleteListener { .. }
        | Action::DeleteService { .. }
        | Action::DeleteVpcAssociation { .. }
        | Action::DeleteServiceNetwork { .. }
        | Action::RevokeIngress { .. } => true,
    }
}
