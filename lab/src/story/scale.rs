//! The scenario of scaling: the targets are those of an Auto Scaling group with the hooks of
//! `examples/auto-scaling-group.yaml`. Instances come and go while clients connect. Whoever comes serves its certificate and
//! is registered before its hook is answered; whoever goes is out of the target group before; whoever never serves is left to
//! its hook, and replaced. No handshake fails.

mod group;
mod order;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::deploy::PORT;
use super::judge::{self, DOMAIN};
use super::look::{LIMIT, PAUSE, converged, forget};
use super::rotation::unharmed_through;
use super::watch::until;
use super::{CLIENT, Options, STACK, Server, StoryError, Tale, load};
use crate::autoscaling::Life;
use crate::client::load::{Aim, Load, Pace};
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};
use group::NAME;

/// Events do it all; whatever one of them missed is found by the sweep, which comes this often here.
const SWEEP: Duration = Duration::from_secs(20);

/// A hook's 900 seconds take four and a half, for whom nobody will ever answer.
const SHORT: Duration = Duration::from_millis(5);

/// Tells the scenario; the recipe's own instances serve before and after.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let spec = tale.spec.clone();
    let own: Vec<String> = tale.world.hosts.iter().map(|host| host.id.clone()).collect();
    group::create(tale).await?;
    forget(tale).await?;
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let aim = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
    let load = Load::start(&client, &aim, options.clients, &Pace::new(load::PAUSE));
    let scaled = async {
        come(tale, ui.phase("two come")).await?;
        never(tale, ui.phase("one never serves")).await?;
        go(tale, ui.phase("two go")).await
    }
    .await;
    let phase = ui.phase("recipe's own again");
    let scaled = match scaled {
        Ok(()) => recipe(tale, spec, &own, &phase).await,
        Err(error) => Err(error),
    };
    let seen = load.stop().await;
    scaled?;
    unharmed_through(tale, Way::Scale, &seen, report)?;
    phase.done(&format!("the group is gone; {} handshakes in all, 0 failed", seen.attempted));
    Ok(())
}

/// The group's first two take over from the recipe's own instances.
async fn come(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    group::desire(tale, 2).await?;
    let both = until(LIMIT, PAUSE, async || {
        Ok::<_, StoryError>((tale.world.autoscaling.members(NAME).len() == 2).then_some(()))
    });
    both.await?.ok_or_else(|| StoryError::Unmet("the group launched nobody".to_owned()))?;
    tale.spec["targets"]["select"] = json!({"autoScalingGroups": [NAME]});
    tale.put_spec(true).await?;
    let sweeps = settle(tale, 2, &[], &phase).await?;
    for (id, _) in tale.world.autoscaling.members(NAME) {
        order::came(&tale.world.gateway.passed(), &id).map_err(StoryError::Unmet)?;
    }
    phase.done(&format!(
        "each served its certificate, was registered, and only then its hook was answered; {sweeps} sweeps meanwhile"
    ));
    Ok(())
}

/// An instance without a server: nobody answers for it, its hook abandons it, and another one comes.
async fn never(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    let known: Vec<String> = tale.world.autoscaling.members(NAME).into_iter().map(|(id, _)| id).collect();
    group::desire(tale, 3).await?;
    let found = until(LIMIT, PAUSE, async || {
        let members = tale.world.autoscaling.members(NAME);
        Ok::<_, StoryError>(members.into_iter().map(|(id, _)| id).find(|id| !known.contains(id)))
    });
    let dumb = found.await?.ok_or_else(|| StoryError::Unmet("the group launched nobody".to_owned()))?;
    phase.note(&format!("{dumb} has no server"));
    tale.world.autoscaling.quicken(SHORT);
    let gone = until(LIMIT, Duration::from_millis(100), async || {
        phase.progress(&format!("waiting until the hook has abandoned {dumb}"));
        let members = tale.world.autoscaling.members(NAME);
        let stays = members.iter().any(|(id, life)| *id == dumb && *life == Life::PendingWait);
        Ok::<_, StoryError>((!stays).then_some(()))
    });
    let gone = gone.await;
    tale.world.autoscaling.quicken(Duration::from_secs(1));
    gone?.ok_or_else(|| StoryError::Unmet(format!("{dumb} still waits for its hook")))?;
    let sweeps = settle(tale, 3, std::slice::from_ref(&dumb), &phase).await?;
    order::never(&tale.world.gateway.passed(), &dumb).map_err(StoryError::Unmet)?;
    phase.done(&format!(
        "never registered, never answered for; its hook abandoned it, and another came; {sweeps} sweeps meanwhile"
    ));
    Ok(())
}

/// The group shrinks by two.
async fn go(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    let before: Vec<String> = tale.world.autoscaling.members(NAME).into_iter().map(|(id, _)| id).collect();
    group::desire(tale, 1).await?;
    let sweeps = settle(tale, 1, &[], &phase).await?;
    let now = tale.world.autoscaling.members(NAME);
    for id in before.iter().filter(|id| now.iter().all(|(other, _)| other != *id)) {
        order::went(&tale.world.gateway.passed(), id).map_err(StoryError::Unmet)?;
    }
    phase.done(&format!(
        "each was drained and gone from the target group, and only then its hook was answered; {sweeps} sweeps meanwhile"
    ));
    Ok(())
}

/// The recipe's own instances take over again, and the group goes.
async fn recipe(tale: &mut Tale, spec: Value, own: &[String], phase: &Phase) -> Result<(), StoryError> {
    // By name first: while the group's instances run, the recipe's tag selects them, too.
    tale.spec["targets"]["select"] = json!({"instanceIds": own});
    tale.put_spec(true).await?;
    converged(tale, phase).await?;
    group::delete(tale).await?;
    until(LIMIT, PAUSE, async || {
        phase.progress("waiting until the group's instances are terminated");
        Ok::<_, StoryError>(tale.world.autoscaling.members(NAME).is_empty().then_some(()))
    })
    .await?
    .ok_or_else(|| StoryError::Unmet("the group's instances stay".to_owned()))?;
    let gone: Vec<String> =
        tale.world.hosts.iter().map(|host| host.id.clone()).filter(|id| !own.contains(id)).collect();
    gone.iter().for_each(|id| tale.world.retire(id));
    tale.spec = spec;
    tale.put_spec(true).await?;
    converged(tale, phase).await?;
    forget(tale).await
}

/// Boots whoever comes but the `dumb`, until so many are in service and nothing is left to do. How many sweeps that took.
async fn settle(tale: &mut Tale, wanted: usize, dumb: &[String], phase: &Phase) -> Result<u32, StoryError> {
    let (mut sweeps, mut swept, mut last) = (0, Instant::now(), Value::Null);
    let deadline = Instant::now() + LIMIT;
    loop {
        boot(tale, dumb).await?;
        let members = tale.world.autoscaling.members(NAME);
        let serving = members.iter().filter(|(_, life)| *life == Life::InService).count();
        phase.progress(&format!("waiting for {wanted} in service: {members:?}"));
        if serving == wanted && members.len() == wanted {
            last = tale.would_do("provision", None).await?;
            if last["outcome"] == "converged" {
                return Ok(sweeps);
            }
        }
        // Not awaited: what was said is what this asks for.
        tale.watch.hear().await?;
        if swept.elapsed() >= SWEEP {
            tale.world.router.fire_schedules().await?;
            (sweeps, swept) = (sweeps + 1, Instant::now());
        }
        if Instant::now() > deadline {
            return Err(StoryError::Unmet(format!(
                "not {wanted} in service within {} s: {members:?}; {last}",
                LIMIT.as_secs()
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What user data does on a new instance, and what becomes of one that is gone.
async fn boot(tale: &mut Tale, dumb: &[String]) -> Result<(), StoryError> {
    let members = tale.world.autoscaling.members(NAME);
    let is_new = |id: &String| !dumb.contains(id) && tale.world.hosts.iter().all(|host| host.id != *id);
    let new: Vec<String> = members.into_iter().map(|(id, _)| id).filter(is_new).collect();
    if new.is_empty() {
        return Ok(());
    }
    let network = tale.world.fabric.network().await.map_err(StoryError::boxed("reading the instances"))?;
    for id in new {
        if let Some(instance) = network.instances.get(&id) {
            tale.world.boot(Server::Lab, id, instance, STACK, PORT).await?;
        }
    }
    Ok(())
}
