//! The scenario of a canary that fails: its server does not take the next leaf. Nobody else is touched, `Rotation Halted` says
//! who and why, and when the owner has mended it and says so the rotation goes on. Clients are at work all the while.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::confirm::serving;
use super::repair::{first, hosts, renew, settled, unnoticed};
use super::watch::until;
use super::world::Host;
use super::{Options, StoryError, Tale, deploy};
use crate::report::Report;
use crate::ui::{Phase, Ui};

/// Three deliveries with their pauses of 10 and 40 seconds, on a slow machine, too.
const LIMIT: Duration = Duration::from_secs(400);

const LOOK: Duration = Duration::from_millis(300);

/// The deployed schedule's 15 minutes, in the lab.
const SWEEP: Duration = Duration::from_secs(10);

/// Tells the scenario.
pub(super) async fn told(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("canary fails");
    settled(tale, &phase).await?;
    let proved = unnoticed(tale, options, report, fails(tale, &phase)).await?;
    phase.done(&proved);
    Ok(())
}

async fn fails(tale: &Tale, phase: &Phase) -> Result<&'static str, StoryError> {
    let canary = first(tale)?;
    let (before, sent) = (serving(tale).await?, tale.world.gateway.passed().len());
    hosts::break_reload(canary, "exit 1")?;
    renew(tale).await;
    let halted = halts(tale, phase).await;
    let after = serving(tale).await;
    let others = touched(tale, sent, canary);
    hosts::mend_reload(canary)?;
    let halted = halted?;
    if after? != before || !others.is_empty() {
        return Err(StoryError::Unmet(format!("not only {} was touched: {others:?}", canary.id)));
    }
    let blocks = halted["blocks"].as_array().into_iter().flatten();
    let names = |block: &Value| {
        block["code"] == "Halted" && block["because"].as_str().is_some_and(|because| because.contains(&canary.id))
    };
    if !blocks.clone().any(names) {
        return Err(StoryError::Unmet(format!("`Rotation Halted` does not name {}: {halted}", canary.id)));
    }
    settled(tale, phase).await?;
    Ok(
        "the canary's server refused three leaves, nobody else was touched, `Rotation Halted` named it; mended, and a fresh look \
        asked for, all serve the next leaf",
    )
}

/// The schedule fires until the rotation has halted; what the event says.
async fn halts(tale: &Tale, phase: &Phase) -> Result<Value, StoryError> {
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    let mut swept = Instant::now();
    let halted = until(LIMIT, LOOK, async || {
        phase.progress("waiting for `Rotation Halted`");
        let heard = tale.watch.hear().await?;
        if let Some(halted) = heard.into_iter().find(|heard| heard.kind == "Rotation Halted") {
            return Ok::<_, StoryError>(Some(halted.detail));
        }
        if swept.elapsed() >= SWEEP && tale.watch.running(machine).await? == 0 {
            tale.world.router.fire_schedules().await?;
            swept = Instant::now();
        }
        Ok(None)
    });
    halted.await?.ok_or_else(|| StoryError::Unmet("the rotation did not halt".to_owned()))
}

/// The instances that commands went to since then, without this one.
fn touched(tale: &Tale, since: usize, host: &Host) -> Vec<String> {
    let passed = tale.world.gateway.passed();
    let sent = passed.iter().skip(since).filter(|one| one.operation == "ssm.SendCommand");
    let sent = sent.filter_map(|one| serde_json::from_slice::<Value>(&one.request).ok());
    let named = sent.flat_map(|one| one["InstanceIds"].as_array().cloned().unwrap_or_default());
    named.filter_map(|id| id.as_str().map(str::to_owned)).filter(|id| *id != host.id).collect()
}
