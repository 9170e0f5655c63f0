//! The scenario of repair: things break on hosts and between them, one at a time. Each is found by a handshake or by the
//! installer, under its code, and repaired: by Espalier where it can, by the owner where only the owner can.
//!
//! Where the pair that is served stays a good one, clients are at work meanwhile, and none of their handshakes may fail.

pub(super) mod hosts;

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::load::Clients;
use super::look::forget;
use super::rotation::unharmed;
use super::watch::until;
use super::world::Host;
use super::{Options, PROBER, STACK, StoryError, Tale, deploy, judge};
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

/// How long finding or repairing one thing may take.
const LIMIT: Duration = Duration::from_secs(240);

const LOOK: Duration = Duration::from_millis(300);

/// Tells the scenario.
pub(super) async fn told(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    replaced(tale, ui.phase("replaced by hand")).await?;
    restored(tale, ui.phase("restored host")).await?;
    unreachable(tale, ui.phase("unreachable")).await?;
    stopped(tale, ui.phase("stopped instance")).await?;
    for (name, instead, cause) in
        [("refused reload", "exit 1", "reloadFailed"), ("lying reload", "exit 0", "servedOther")]
    {
        let phase = ui.phase(name);
        let proved = unnoticed(tale, options, report, refusing(tale, &phase, instead, cause)).await?;
        phase.done(&proved);
    }
    let phase = ui.phase("consent withdrawn");
    let proved = unnoticed(tale, options, report, withdrawn(tale, &phase)).await?;
    phase.done(&proved);
    if options.custody == "kms" {
        let phase = ui.phase("key disabled");
        let proved = unnoticed(tale, options, report, disabled(tale, &phase)).await?;
        phase.done(&proved);
    }
    Ok(())
}

/// Clients are at work while a case is told: what it proved, and that none of them met it.
pub(super) async fn unnoticed(
    tale: &Tale,
    options: &Options,
    report: &mut Report,
    case: impl Future<Output = Result<&'static str, StoryError>>,
) -> Result<String, StoryError> {
    let clients = Clients::start(tale, options.clients)?;
    let proved = case.await;
    let seen = clients.stop().await;
    let attempted = unharmed(Way::Refused, 2, &seen, report);
    let proved = proved?;
    let attempted = attempted.map_err(StoryError::Unmet)?;
    Ok(format!("{proved}; {attempted} handshakes meanwhile, 0 failed"))
}

/// Somebody puts another certificate where Espalier's is: it is seen on the wire and replaced.
async fn replaced(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let host = first(tale)?;
    hosts::replace_pair(tale, host).await?;
    find(tale, host, "OtherCertificate", &phase).await?;
    settled(tale, &phase).await?;
    phase.done("found as OtherCertificate by a handshake, and put right");
    Ok(())
}

/// A host comes back from an image that is a generation old: the ledger is ahead of the wire.
async fn restored(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let host = first(tale)?;
    let image = hosts::image(host)?;
    let before = served(tale, host).await?;
    renew(tale).await;
    settled(tale, &phase).await?;
    if served(tale, host).await? <= before {
        return Err(StoryError::Unmet(format!("{} still serves generation {before} after the renewal", host.id)));
    }
    hosts::restore(tale, host, &image).await?;
    find(tale, host, "OtherCertificate", &phase).await?;
    settled(tale, &phase).await?;
    phase.done("the older pair was found as OtherCertificate; the newest is served again");
    Ok(())
}

/// A security group closes in front of a target: reported, and over when it opens.
async fn unreachable(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let host = first(tale)?;
    let former = hosts::close(tale, host).await?;
    let found = find(tale, host, "TimedOut", &phase).await;
    hosts::open(tale, host, &former).await?;
    found?;
    settled(tale, &phase).await?;
    phase.done("found as TimedOut; proven again when its security group let the prober in");
    Ok(())
}

/// An instance is stopped: the inventory says so, under a code, and others are not kept from anything.
async fn stopped(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let host = first(tale)?;
    let dialled = found(tale, host, "TimedOut").await?;
    hosts::power(tale, host, "stop-instances").await?;
    let blocked = blocked_as(tale, "Unmanaged", &phase).await;
    let in_vain = found(tale, host, "TimedOut").await? > dialled;
    hosts::power(tale, host, "start-instances").await?;
    blocked?;
    if in_vain {
        return Err(StoryError::Unmet(format!("{} was dialled although the inventory says that it is gone", host.id)));
    }
    settled(tale, &phase).await?;
    phase.done("blocked as Unmanaged by the inventory, not dialled in vain; proven again after its start");
    Ok(())
}

/// A server refuses to reload, or says it did: the installer takes the new pair back, and the rotation halts.
async fn refusing(tale: &Tale, phase: &Phase, instead: &str, cause: &str) -> Result<&'static str, StoryError> {
    let host = first(tale)?;
    let before = served(tale, host).await?;
    hosts::break_reload(host, instead)?;
    let failed = fail(tale, host, "reverted", cause, phase).await;
    let kept = served(tale, host).await;
    hosts::mend_reload(host)?;
    failed?;
    if kept? != before {
        return Err(StoryError::Unmet(format!("{} did not go back to generation {before}", host.id)));
    }
    renew(tale).await;
    settled(tale, phase).await?;
    Ok("the new pair was taken back and the old one served all the while; a new one is installed now that it reloads")
}

/// The owner takes the host's consent back: nothing is installed there, and that is said.
async fn withdrawn(tale: &Tale, phase: &Phase) -> Result<&'static str, StoryError> {
    let host = first(tale)?;
    let before = served(tale, host).await?;
    let aside = host.guest.host_conf.with_extension("aside");
    std::fs::rename(&host.guest.host_conf, &aside).map_err(StoryError::io("taking host.conf away"))?;
    let failed = fail(tale, host, "notOptedIn", "", phase).await;
    let kept = served(tale, host).await;
    std::fs::rename(&aside, &host.guest.host_conf).map_err(StoryError::io("putting host.conf back"))?;
    failed?;
    if kept? != before {
        return Err(StoryError::Unmet(format!("{} was changed without its owner's consent", host.id)));
    }
    renew(tale).await;
    settled(tale, phase).await?;
    Ok("refused as notOptedIn, nothing changed; installed once host.conf was back")
}

/// Somebody disables the authority's key: a person is told once, however often the schedule finds it so.
async fn disabled(tale: &Tale, phase: &Phase) -> Result<&'static str, StoryError> {
    forget(tale).await?;
    hosts::sign(tale, "disable-key").await?;
    renew(tale).await;
    let told = halted_by(tale, "AuthorityUnusable", phase).await;
    let again = match told {
        Ok(()) => found_again(tale, phase).await,
        Err(error) => Err(error),
    };
    hosts::sign(tale, "enable-key").await?;
    again?;
    settled(tale, phase).await?;
    Ok("told once as AuthorityUnusable, and not again by three sweeps that found it so; enabled, a new leaf is served")
}

/// Waits for `Rotation Halted` with this code.
async fn halted_by(tale: &Tale, code: &str, phase: &Phase) -> Result<(), StoryError> {
    let halted = tale.wait_for(&["Rotation Halted"], LIMIT, phase).await?;
    let mut blocks = halted.detail["blocks"].as_array().into_iter().flatten();
    if blocks.any(|block| block["code"] == code) {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("the rotation halted for something else than {code}: {}", halted.detail)))
}

/// Three sweeps, each with an execution that comes to the same end and says nothing.
async fn found_again(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    for sweep in 1..=3 {
        let known = tale.watch.executions(machine).await?.len();
        tale.world.router.fire_schedules().await?;
        let ended = until(LIMIT, LOOK, async || {
            phase.progress(&format!("waiting for the end of sweep {sweep}"));
            let is_over =
                tale.watch.executions(machine).await?.len() > known && tale.watch.running(machine).await? == 0;
            Ok::<_, StoryError>(is_over.then_some(()))
        });
        ended.await?.ok_or_else(|| StoryError::Unmet("a sweep started no execution".to_owned()))?;
    }
    match tale.watch.hear().await?.into_iter().find(|heard| heard.kind == "Rotation Halted") {
        None => Ok(()),
        Some(again) => Err(StoryError::Unmet(format!("a sweep told it again: {}", again.detail))),
    }
}

pub(super) fn first(tale: &Tale) -> Result<&Host, StoryError> {
    tale.world.hosts.first().ok_or_else(|| StoryError::Unmet("there is no target".to_owned()))
}

pub(super) async fn renew(tale: &Tale) {
    tale.world.acm.renew(&tale.certificate, OffsetDateTime::now_utc()).await;
}

/// The generation a host serves now.
async fn served(tale: &Tale, host: &Host) -> Result<u32, StoryError> {
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let all = judge::served(&tale.world, PROBER, &tale.roots, &generations).await?;
    let one = all.iter().find(|one| one.target == host.id).map(|one| one.generation);
    one.ok_or_else(|| StoryError::Unmet(format!("{} serves nothing", host.id)))
}

/// Asks for a fresh look, and waits until it has found this host with this fault.
pub(super) async fn find(tale: &Tale, host: &Host, fault: &str, phase: &Phase) -> Result<(), StoryError> {
    let known = found(tale, host, fault).await?;
    ask(tale).await?;
    let again = until(LIMIT, LOOK, async || {
        phase.progress(&format!("waiting for {fault} at {}", host.id));
        Ok::<_, StoryError>((found(tale, host, fault).await? > known).then_some(()))
    })
    .await?;
    again.ok_or_else(|| StoryError::Unmet(format!("{} was not found with {fault}", host.id)))
}

/// How often `rotate` has said that this host shows this fault. Lines of several sandboxes come in no certain order.
async fn found(tale: &Tale, host: &Host, fault: &str) -> Result<usize, StoryError> {
    let log = tale.watch.log(&tale.function("rotate")).await?;
    let said = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = said.map(|line| line["fields"].clone()).filter(|fields| fields["target_id"] == host.id.as_str());
    Ok(ours.filter(|fields| fields["faults"].as_str().is_some_and(|faults| faults.contains(fault))).count())
}

pub(super) async fn ask(tale: &Tale) -> Result<(), StoryError> {
    let answer = tale.watch.invoke(&tale.function("rotate"), &json!({"stack": STACK, "mode": "verify"})).await?;
    if answer["errorType"].is_string() {
        return Err(StoryError::Unmet(format!("rotate did not take the request for a fresh look: {answer}")));
    }
    Ok(())
}

/// ACM renews; waits until a delivery to this host has ended with this code.
async fn fail(tale: &Tale, host: &Host, code: &str, cause: &str, phase: &Phase) -> Result<(), StoryError> {
    let is_it =
        |end: &&Value| end["code"] == code && end["detail"].as_str().is_some_and(|detail| detail.starts_with(cause));
    let known = ends(tale, host).await?.iter().filter(is_it).count();
    renew(tale).await;
    let mut asked = tokio::time::Instant::now();
    let found = until(LIMIT, LOOK, async || {
        phase.progress(&format!("waiting for {code} {cause} at {}", host.id));
        if asked.elapsed() > Duration::from_secs(20) {
            ask(tale).await?;
            asked = tokio::time::Instant::now();
        }
        let ended = ends(tale, host).await?.iter().filter(is_it).count();
        Ok::<_, StoryError>((ended > known).then_some(()))
    })
    .await?;
    found.ok_or_else(|| StoryError::Unmet(format!("no delivery to {} ended with {code} {cause}", host.id)))
}

/// How the deliveries to a host ended, oldest first.
async fn ends(tale: &Tale, host: &Host) -> Result<Vec<Value>, StoryError> {
    let attempts = tale.watch.records(tale.ledger()?, STACK, "ATTEMPT#").await?;
    let ours = attempts.into_iter().filter(|attempt| attempt["target"] == host.id.as_str());
    Ok(ours.map(|attempt| attempt["ended"].clone()).filter(Value::is_object).collect())
}

/// Asks for a fresh look, and waits until `rotate` blocks under this code.
pub(super) async fn blocked_as(tale: &Tale, code: &str, phase: &Phase) -> Result<(), StoryError> {
    ask(tale).await?;
    let mut last = Value::Null;
    let blocked = until(LIMIT, LOOK, async || {
        phase.progress(&format!("waiting for the block {code}"));
        last = tale.would_do("rotate", None).await?;
        let mut blocks = last["blocks"].as_array().into_iter().flatten();
        Ok::<_, StoryError>(blocks.any(|block| block["code"] == code).then_some(()))
    })
    .await?;
    blocked.ok_or_else(|| StoryError::Unmet(format!("rotate does not block as {code}: {last}")))
}

/// Asks for fresh looks until the newest generation is served everywhere and nothing is left to do.
pub(super) async fn settled(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    ask(tale).await?;
    let mut asked = tokio::time::Instant::now();
    let mut last = Value::Null;
    let settled = until(LIMIT, LOOK, async || {
        phase.progress("waiting until nothing is left to do");
        // Not awaited here: what was found is what the scenario asked for.
        tale.watch.hear().await?;
        last = tale.would_do("rotate", None).await?;
        if last["outcome"] == "converged" {
            let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
            let newest = generations.last().map(|newest| newest.generation);
            let served = judge::served(&tale.world, PROBER, &tale.roots, &generations).await?;
            if served.iter().all(|one| Some(one.generation) == newest) {
                return Ok::<_, StoryError>(Some(()));
            }
        }
        if asked.elapsed() > Duration::from_secs(20) {
            ask(tale).await?;
            asked = tokio::time::Instant::now();
        }
        Ok(None)
    })
    .await?;
    settled.ok_or_else(|| StoryError::Unmet(format!("not repaired within {} s: {last}", LIMIT.as_secs())))
}
