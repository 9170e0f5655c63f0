//! Having `provision` look, as a schedule would, and what several scenarios about the estate ask of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::deploy::PORT;
use super::judge::{self, DOMAIN};
use super::watch::until;
use super::{CLIENT, STACK, StoryError, Tale};
use crate::report::Report;
use crate::ui::Phase;

/// How long anything may take; two slow cores fit into this several times.
pub(super) const LIMIT: Duration = Duration::from_secs(180);

/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(300);

/// What a look at the recipe's stack may cost; docs/benchmarks.md says of what it is made up.
const CALLS: u64 = 34;

/// Has `provision` look at the stack; its answer.
pub(super) async fn provision(tale: &Tale) -> Result<Value, StoryError> {
    let answer = tale.watch.invoke(&tale.function("provision"), &json!({"stack": STACK})).await?;
    if answer["errorType"].is_string() {
        return Err(StoryError::Unmet(format!("provision failed: {answer}")));
    }
    Ok(answer)
}

/// Has `provision` look until nothing is left to do; every step it took, in order.
pub(super) async fn converged(tale: &Tale, phase: &Phase) -> Result<Vec<String>, StoryError> {
    let (mut last, mut done) = (Value::Null, Vec::new());
    let found = until(LIMIT, PAUSE, async || {
        phase.progress("waiting until nothing is left to do");
        last = provision(tale).await?;
        done.extend(steps(&last));
        Ok::<_, StoryError>((last["outcome"] == "converged").then_some(()))
    });
    let found = found.await?;
    found.ok_or_else(|| StoryError::Unmet(format!("not settled within {} s: {last}", LIMIT.as_secs())))?;
    Ok(done)
}

/// The steps of an answer.
pub(super) fn steps(answer: &Value) -> impl Iterator<Item = String> {
    let list = answer["steps"].as_array().into_iter().flatten();
    list.filter_map(|step| step["action"].as_str().map(str::to_owned))
}

/// Counts the calls of one look at a stack where nothing is left to do, and holds them to what they are known to be. Others may
/// call meanwhile (a rotation that ends): of some looks the one with the fewest calls counts.
pub(super) async fn counted(tale: &Tale, report: &mut Report, phase: Phase) -> Result<(), StoryError> {
    let mut fewest: Option<BTreeMap<String, u64>> = None;
    let total = |calls: &BTreeMap<String, u64>| calls.values().sum::<u64>();
    for look in 1..=10 {
        let before = tale.world.gateway.counts();
        let answer = provision(tale).await?;
        if answer["outcome"] != "converged" || steps(&answer).next().is_some() {
            return Err(StoryError::Unmet(format!("provision still has something to do: {answer}")));
        }
        let mut calls = tale.world.gateway.counts();
        calls.retain(|operation, count| {
            *count -= before.get(operation).copied().unwrap_or_default();
            *count > 0
        });
        if fewest.as_ref().is_none_or(|fewest| total(&calls) < total(fewest)) {
            fewest = Some(calls);
        }
        if look >= 3 && fewest.as_ref().is_some_and(|calls| total(calls) <= CALLS) {
            break;
        }
    }
    report.look = fewest.unwrap_or_default();
    let told: Vec<String> = report.look.iter().map(|(operation, count)| format!("{operation} {count}")).collect();
    phase.note(&told.join(", "));
    let total = total(&report.look);
    if total > CALLS {
        let told = format!("a look at what needs nothing makes {total} calls, and is known to need {CALLS}: {told:?}");
        return Err(StoryError::Unmet(told));
    }
    phase.done(&format!("{total} calls tell provision that nothing is left to do"));
    Ok(())
}

/// Waits until a client in the consumers' VPC reaches the service.
pub(super) async fn serves(tale: &Tale) -> Result<(), StoryError> {
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let mut last = String::new();
    let reached = until(LIMIT, PAUSE, async || {
        let tried = client.get(DOMAIN, PORT, "/").await;
        Ok::<_, StoryError>(tried.map_err(|error| last = error.to_string()).ok())
    });
    let reached = reached.await?.map(|_| ());
    reached.ok_or_else(|| StoryError::Unmet(format!("clients do not reach the service again: {last}")))
}

/// A call of VPC Lattice with the AWS CLI.
pub(super) async fn lattice(tale: &Tale, arguments: &[&str]) -> Result<Value, StoryError> {
    let all = [&["vpc-lattice"], arguments, &["--output", "json"]].concat();
    Ok(tale.world.aws().run(&all).await?)
}

/// The ARN of the stack's resource whose id begins so.
pub(super) fn arn(tale: &Tale, prefix: &str) -> Result<String, StoryError> {
    let tagged = tale.world.lattice.resources().into_iter();
    let tagged = tagged.filter(|(_, tags)| tags.get("espalier:stack").is_some_and(|stack| stack == STACK));
    let mut arns = tagged.map(|(arn, _)| arn);
    let is_it = |arn: &String| arn.rsplit('/').next().is_some_and(|id| id.starts_with(prefix));
    arns.find(is_it).ok_or_else(|| StoryError::Unmet(format!("the stack has no {prefix}...")))
}

/// Its id.
pub(super) fn ours(tale: &Tale, prefix: &str) -> Result<String, StoryError> {
    let arn = arn(tale, prefix)?;
    Ok(arn.rsplit('/').next().unwrap_or(&arn).to_owned())
}

/// What was said on the way is not awaited any more.
pub(super) async fn forget(tale: &Tale) -> Result<(), StoryError> {
    while !tale.watch.hear().await?.is_empty() {}
    Ok(())
}
