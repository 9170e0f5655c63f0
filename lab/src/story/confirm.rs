//! The scenario of confirmation: the control plane vanishes between a swap and its confirmation. The host whose former
//! pair is good goes back to it by itself; the host whose former pair is not stays with the new one. Clients are at work
//! all the while, and none of their handshakes may fail.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::judge;
use super::repair::{renew, settled, unnoticed};
use super::watch::until;
use super::world::Host;
use super::{Options, PROBER, STACK, StoryError, Tale};
use crate::chaos::{CallFault, Fault};
use crate::report::Report;
use crate::ui::{Phase, Ui};

/// How long one step may take, on a slow machine, too.
const LIMIT: Duration = Duration::from_secs(240);

const LOOK: Duration = Duration::from_millis(50);

/// How long the hosts wait for a confirmation: the shortest that a spec may say.
const WAIT_S: u32 = 20;

/// What no function gets along without.
const LEDGER: [&str; 4] = ["dynamodb.GetItem", "dynamodb.Query", "dynamodb.PutItem", "dynamodb.TransactWriteItems"];

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("nobody confirms");
    let former = tale.spec["rollout"].clone();
    tale.spec["rollout"]["canary"] = json!(tale.world.hosts.len());
    tale.spec["rollout"]["confirmSeconds"] = json!(WAIT_S);
    tale.put_spec(true).await?;
    settled(tale, &phase).await?;
    let proved = unnoticed(tale, options, report, vanished(tale, &phase)).await;
    tale.spec["rollout"] = former;
    tale.put_spec(true).await?;
    let proved = proved?;
    taken(tale, &phase).await?;
    phase.done(&proved);
    Ok(())
}

/// The changed spec's own event has `provision` look, which leaves nothing to do.
pub(super) async fn taken(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    let taken = until(LIMIT, Duration::from_millis(500), async || {
        phase.progress("waiting for provision");
        Ok::<_, StoryError>((tale.would_do("provision", None).await?["outcome"] == "converged").then_some(()))
    });
    taken.await?.ok_or_else(|| StoryError::Unmet("provision does not come to rest".to_owned()))?;
    settled(tale, phase).await
}

async fn vanished(tale: &Tale, phase: &Phase) -> Result<&'static str, StoryError> {
    let [good, bad, ..] = tale.world.hosts.as_slice() else {
        return Err(StoryError::Unmet("there are no two targets".to_owned()));
    };
    let before = serving(tale).await?;
    // What its server has loaded is served on; what is on its disk is no pair to go back to.
    std::fs::remove_file(base(bad).join("current/chain.pem")).map_err(StoryError::io("harming a pair on disk"))?;
    renew(tale).await;
    let deadline = base(good).join("deadline");
    until(LIMIT, LOOK, async || {
        phase.progress("waiting for a deadline");
        Ok::<_, StoryError>(deadline.exists().then_some(()))
    })
    .await?
    .ok_or_else(|| StoryError::Unmet(format!("{} was given no deadline", good.id)))?;
    let never = |operation| Fault::Call { operation, first: 1, last: u32::MAX, what: CallFault::Refuse };
    tale.world.chaos.arm(LEDGER.map(never).to_vec());
    let seen = alone(tale, (good, bad), &before, phase).await;
    tale.world.chaos.disarm();
    seen?;
    renew(tale).await;
    settled(tale, phase).await?;
    Ok("one host went back by itself to the pair before, one whose pair before is broken kept the new one; both serve \
        the next one")
}

/// Nobody is there but the hosts: both swap, and one goes back.
async fn alone(
    tale: &Tale,
    (good, bad): (&Host, &Host),
    before: &BTreeMap<String, u32>,
    phase: &Phase,
) -> Result<(), StoryError> {
    let newer = |now: &BTreeMap<String, u32>, host: &Host| now.get(&host.id) > before.get(&host.id);
    let wait_for = async |what: &str, is_it: &dyn Fn(&BTreeMap<String, u32>) -> bool| {
        let seen = until(LIMIT, LOOK, async || {
            phase.progress(what);
            Ok::<_, StoryError>(is_it(&serving(tale).await?).then_some(()))
        });
        seen.await?.ok_or_else(|| StoryError::Unmet(format!("in vain: {what}")))
    };
    wait_for("waiting for both to swap", &|now| newer(now, good) && newer(now, bad)).await?;
    let begun = Instant::now();
    wait_for("waiting for a host to go back", &|now| now.get(&good.id) == before.get(&good.id)).await?;
    phase.note(&format!("{} went back after {:.0} s", good.id, begun.elapsed().as_secs_f64()));
    let written = base(good).join("unconfirmed");
    until(LIMIT, LOOK, async || {
        Ok::<_, StoryError>((written.exists() && !base(good).join("deadline").exists()).then_some(()))
    })
    .await?
    .ok_or_else(|| StoryError::Unmet(format!("{} did not write down that it went back", good.id)))?;
    if base(bad).join("deadline").exists() || !newer(&serving(tale).await?, bad) {
        return Err(StoryError::Unmet(format!("{} went back, or is about to, to a broken pair", bad.id)));
    }
    Ok(())
}

/// Where a host keeps its pairs.
fn base(host: &Host) -> PathBuf {
    host.guest.certificates.join(STACK)
}

/// The generation that each host serves.
pub(super) async fn serving(tale: &Tale) -> Result<BTreeMap<String, u32>, StoryError> {
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let all = judge::served(&tale.world, PROBER, &tale.roots, &generations).await?;
    Ok(all.into_iter().map(|one| (one.target, one.generation)).collect())
}
