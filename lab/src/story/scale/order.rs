//! In which order calls passed, for one instance: proof, registration and answer when it comes; deregistration, draining and
//! answer when it goes.

use crate::gateway::Passed;

/// Seen serving, then registered, then answered for.
pub(super) fn came(passed: &[Passed], id: &str) -> Result<(), String> {
    let proven = first(passed, id, |one| one.operation.starts_with("dynamodb.") && is_proof(one, id));
    let registered = first(passed, id, |one| one.operation == "vpc_lattice.RegisterTargets");
    let answered = first(passed, id, is_answer);
    match (proven, registered, answered) {
        (Some(proven), Some(registered), Some(answered)) if proven < registered && registered < answered => Ok(()),
        order => Err(format!("{id} came in another order than proven, registered, answered for: {order:?}")),
    }
}

/// Deregistered, then gone from the target group, then answered for.
pub(super) fn went(passed: &[Passed], id: &str) -> Result<(), String> {
    let is_leave = |one: &Passed| one.operation == "vpc_lattice.DeregisterTargets";
    let deregistered = first(passed, id, is_leave);
    // The launch was answered, too, long before.
    let answered = deregistered.and_then(|from| Some(from + first(passed.get(from..)?, id, is_answer)?));
    let (Some(from), Some(until)) = (deregistered, answered) else {
        return Err(format!("{id} was not deregistered and then answered for: {deregistered:?}, {answered:?}"));
    };
    let between = passed.get(from..until).unwrap_or_default();
    let mut lists = between.iter().filter(|one| one.operation == "vpc_lattice.ListTargets");
    match lists.next_back() {
        Some(last) if !says(&last.answer, id) => Ok(()),
        Some(_) => Err(format!("{id} was answered for while it was still in the target group")),
        None => Err(format!("{id} was answered for without another look at the target group")),
    }
}

/// Neither registered nor answered for.
pub(super) fn never(passed: &[Passed], id: &str) -> Result<(), String> {
    let acted = first(passed, id, |one| one.operation == "vpc_lattice.RegisterTargets" || is_answer(one));
    acted.map_or(Ok(()), |_| Err(format!("{id} was registered or answered for, and never served")))
}

fn is_answer(one: &Passed) -> bool {
    one.operation == "auto_scaling.CompleteLifecycleAction"
}

/// A sighting that is written into the ledger.
fn is_proof(one: &Passed, id: &str) -> bool {
    let writes = ["PutItem", "UpdateItem", "TransactWriteItems", "BatchWriteItem"];
    writes.iter().any(|write| one.operation.ends_with(write)) && says(&one.request, &format!("SIGHTING#{id}"))
}

/// The first call of this kind that names the instance and was answered well.
fn first(passed: &[Passed], id: &str, is_it: impl Fn(&Passed) -> bool) -> Option<usize> {
    passed.iter().position(|one| one.status < 400 && is_it(one) && says(&one.request, id))
}

fn says(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(operation: &str, request: &'static str, answer: &'static str) -> Passed {
        Passed::well(operation, request, answer)
    }

    #[test]
    fn whoever_comes_is_proven_and_registered_before_it_is_answered_for() {
        let sighting = call("dynamodb.PutItem", "SIGHTING#i-1", "");
        let register = call("vpc_lattice.RegisterTargets", "i-1", "");
        let answer = call("auto_scaling.CompleteLifecycleAction", "InstanceId=i-1", "");
        let all = [sighting.clone(), register.clone(), answer.clone()];
        assert!(came(&all, "i-1").is_ok() && never(&all, "i-1").is_err() && never(&all, "i-2").is_ok());
        assert!(came(&[sighting.clone(), answer.clone(), register.clone()], "i-1").is_err());
        assert!(came(&[register, sighting, answer], "i-1").is_err());
    }

    #[test]
    fn whoever_goes_is_out_of_the_group_before_it_is_answered_for() {
        let early = call("auto_scaling.CompleteLifecycleAction", "InstanceId=i-1", "");
        let deregister = call("vpc_lattice.DeregisterTargets", "i-1", "");
        let (draining, gone) = (call("vpc_lattice.ListTargets", "", "i-1"), call("vpc_lattice.ListTargets", "", "i-2"));
        let all = [&early, &deregister, &draining, &gone, &early].map(Clone::clone);
        assert!(went(&all, "i-1").is_ok());
        assert!(went(&[&early, &deregister, &draining, &early].map(Clone::clone), "i-1").is_err());
        assert!(went(&[&early, &deregister, &early].map(Clone::clone), "i-1").is_err());
        assert!(went(&[&early, &deregister, &gone].map(Clone::clone), "i-1").is_err());
    }
}
