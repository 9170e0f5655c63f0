//! The scenario of an agent that dies in the middle of an installation: the installer is killed with it. The host serves on, the
//! others get the new leaf, the dead one is told as `Unmanaged`; when its agent is back it catches up by itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::confirm::serving;
use super::repair::{blocked_as, renew, settled, unnoticed};
use super::watch::until;
use super::{Options, StoryError, Tale, deploy};
use crate::chaos::Fault;
use crate::report::Report;
use crate::ui::{Phase, Ui};

const LIMIT: Duration = Duration::from_secs(240);

const LOOK: Duration = Duration::from_millis(100);

/// The deployed schedule's 15 minutes, in the lab.
const SWEEP: Duration = Duration::from_secs(5);

/// When after its command an installer is killed, in milliseconds: whichever finds it at work.
const KILLS: [u64; 4] = [300, 600, 1_000, 1_600];

/// Tells the scenario.
pub(super) async fn told(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("agent dies");
    settled(tale, &phase).await?;
    let proved = unnoticed(tale, options, report, dies(tale, &phase)).await?;
    phase.done(&proved);
    Ok(())
}

async fn dies(tale: &Tale, phase: &Phase) -> Result<&'static str, StoryError> {
    let (before, sent) = (serving(tale).await?, tale.world.gateway.passed().len());
    tale.world.chaos.arm(KILLS.map(|after_ms| Fault::KillInstaller { command: 1, after_ms }).to_vec());
    renew(tale).await;
    let killed = until(LIMIT, LOOK, async || {
        phase.progress("waiting for an installer");
        Ok::<_, StoryError>(tale.world.chaos.took_installers().then_some(()))
    });
    let killed = killed.await;
    let dead = commanded(tale, sent);
    let gone = dead.as_ref().is_some_and(|dead| tale.world.ssm.set_online(dead, false));
    tale.world.chaos.disarm();
    let told = match (killed?, &dead) {
        (Some(()), Some(dead)) if gone => without(tale, phase, dead, &before).await,
        other => Err(StoryError::Unmet(format!("no installer was killed: {other:?}"))),
    };
    if let Some(dead) = &dead {
        tale.world.ssm.set_online(dead, true);
    }
    told?;
    // Nothing tells that an agent is back: the schedule finds it, and nobody asks.
    unaided(tale, phase).await?;
    settled(tale, phase).await?;
    Ok(
        "the others were served without the one whose agent died half-way, which was told as Unmanaged; with its agent back it \
        caught up unaided",
    )
}

/// Whom the first command since then was for.
fn commanded(tale: &Tale, since: usize) -> Option<String> {
    let passed = tale.world.gateway.passed();
    let sent = passed.iter().skip(since).find(|one| one.operation == "ssm.SendCommand")?;
    let sent: Value = serde_json::from_slice(&sent.request).ok()?;
    sent["InstanceIds"][0].as_str().map(str::to_owned)
}

/// Everybody else gets the new leaf, and the dead one serves on.
async fn without(
    tale: &Tale,
    phase: &Phase,
    dead: &str,
    before: &std::collections::BTreeMap<String, u32>,
) -> Result<(), StoryError> {
    swept_until(tale, phase, "waiting for the others", async || {
        // A target that shows no valid certificate ends this.
        let now = serving(tale).await?;
        Ok(now.iter().all(|(id, generation)| id == dead || Some(generation) > before.get(id)))
    })
    .await?;
    blocked_as(tale, "Unmanaged", phase).await
}

/// All serve the same, by the schedule alone.
async fn unaided(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    swept_until(tale, phase, "waiting for the one that was gone", async || {
        let now = serving(tale).await?;
        Ok(now.values().min() == now.values().max())
    })
    .await
}

/// Fires the schedule until it is so.
pub(super) async fn swept_until(
    tale: &Tale,
    phase: &Phase,
    what: &str,
    is_so: impl AsyncFn() -> Result<bool, StoryError>,
) -> Result<(), StoryError> {
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    let mut swept = Instant::now();
    let found = until(LIMIT, Duration::from_millis(400), async || {
        phase.progress(what);
        tale.watch.hear().await?;
        if is_so().await? {
            return Ok::<_, StoryError>(Some(()));
        }
        if swept.elapsed() >= SWEEP && tale.watch.running(machine).await? == 0 {
            tale.world.router.fire_schedules().await?;
            swept = Instant::now();
        }
        Ok(None)
    });
    found.await?.ok_or_else(|| StoryError::Unmet(format!("in vain: {what}")))
}
