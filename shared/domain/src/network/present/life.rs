//! The life of asynchronous resources: what to wait for, what to make again.

use crate::network::SOON_S;
use crate::network::action::Action;
use crate::network::observed::{SeenFailure, Status};
use crate::plan::Plan;

/// Whether a resource is on its way out.
pub(super) fn is_leaving(status: &Status) -> bool {
    matches!(status, Status::Deleting)
}

/// Deletes a resource unless it is going already or in a state that VPC Lattice deletes nothing in.
pub(in crate::network) fn leave(what: &str, status: &Status, because: &str, plan: &mut Plan<Action>, delete: Action) {
    match status {
        Status::Deleting => plan.wait(format!("{what} to be deleted"), SOON_S),
        Status::Creating | Status::Updating => plan.wait(format!("{what} to settle before it is deleted"), SOON_S),
        Status::DeleteFailed(failure) => {
            let remedy = "if it fails again, remove what VPC Lattice names";
            plan.step(delete, format!("{because}; the last deletion failed ({failure}): {remedy}"));
        }
        Status::Active | Status::CreateFailed(_) | Status::UpdateFailed(_) => plan.step(delete, because),
    }
}

/// Whether the resource is active; if not, waits for it, or has it deleted when it failed for good ("if CREATE_FAILED
/// you must delete and recreate").
pub(super) fn settled(
    what: &str,
    status: &Status,
    plan: &mut Plan<Action>,
    delete: impl FnOnce(&mut Plan<Action>, String),
) -> bool {
    match status {
        Status::Active => return true,
        Status::Creating => plan.wait(format!("{what} to become active"), SOON_S),
        Status::Updating => plan.wait(format!("{what} to be updated"), SOON_S),
        Status::Deleting => plan.wait(format!("{what} to be deleted"), SOON_S),
        Status::CreateFailed(failure) => delete(plan, anew("creation", failure)),
        Status::DeleteFailed(failure) => delete(plan, anew("deletion", failure)),
        // The former configuration is still in force: comparing it with the spec plans the update again.
        Status::UpdateFailed(_) => return true,
    }
    false
}

/// What failed can only be deleted and made again. Whether that helps, only the reason tells.
fn anew(what: &str, failure: &SeenFailure) -> String {
    format!(
        "its {what} failed ({failure}): it goes and is made again; if it fails again, remove what VPC Lattice names"
    )
}
