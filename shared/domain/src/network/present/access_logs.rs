//! Where the service's access logs go: one subscription of ours, beside whatever others have.

use super::Look;
use crate::network::action::Action;
use crate::network::observed::{SeenAccessLog, SeenService};
use crate::network::service_name;
use crate::plan::Plan;

impl Look<'_> {
    pub(super) fn access_logs(&self, service: &SeenService, plan: &mut Plan<Action>) {
        let (name, all) = (service_name(&self.spec.stack), &self.observed.access_logs);
        let ours = || all.iter().filter(|one| one.owned.ours);
        let Some(logs) = &self.spec.service.access_logs else {
            ours().for_each(|one| drop_subscription(&name, one, "the spec has no accessLogs", plan));
            return;
        };
        let wanted = &logs.destination_arn;
        // Ours first: what somebody else made may go any time.
        let there = ours().chain(all).find(|one| wanted.is_same(&one.destination));
        if let Some(there) = there {
            let because = "the logs go where the spec wants them by another one";
            ours().filter(|one| *one != there).for_each(|one| drop_subscription(&name, one, because, plan));
            return;
        }
        let destination = wanted.clone();
        // Whether an update may lead to another kind of destination is not documented: then a new one is made first.
        if let Some(seen) = ours().find(|one| wanted.is_of_same_kind(&one.destination)) {
            let because = format!("the logs go to {}", seen.destination);
            let subscription_id = seen.owned.id.clone();
            plan.step(Action::UpdateAccessLogs { subscription_id, name, destination }, because);
        } else {
            let service_id = service.owned.id.clone();
            let token = self.token("AccessLogSubscription", &format!("{service_id}/{destination}"));
            let tags = self.tags();
            plan.step(Action::SubscribeAccessLogs { service_id, name, destination, tags, token }, "missing");
        }
    }
}

fn drop_subscription(name: &str, seen: &SeenAccessLog, because: &str, plan: &mut Plan<Action>) {
    let (subscription_id, name) = (seen.owned.id.clone(), name.to_owned());
    plan.step(Action::DeleteAccessLogs { subscription_id, name, destination: seen.destination.clone() }, because);
}
