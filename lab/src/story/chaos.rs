//! Rotations under faults: functions and installers are killed, calls and events go astray, and the stack converges.
//!
//! What must hold after each seed, once its faults have ended and the schedule has looked: every target serves the
//! newest leaf; both planners plan nothing; no execution is under way; no client's handshake failed, at any moment; one
//! leaf was minted for the renewal, and another one only because its predecessor was reverted on a target (invariant 5:
//! what was reverted is never used again); no delivery was sent by two commands, unless it was the SDK that repeated the
//! call. In between anything may happen that a person is told of, `Rotation Halted`
//! included: a halt is an end only if the stack stays so.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::deploy::{self, PORT};
use super::judge::{self, DOMAIN};
use super::load::PAUSE;
use super::rotation::merge;
use super::watch::LedgerGeneration;
use super::{CLIENT, Options, PROBER, STACK, StoryError, Tale};
use crate::chaos::{CallFault, Fault, schedule};
use crate::client::LoadReport;
use crate::client::load::{Aim, Load, Pace};
use crate::report::{Report, Storm};
use crate::ui::{Phase, Ui};

/// Faults end when the rotation does, or when nothing was under way for this long, even after a sweep.
const CALM: Duration = Duration::from_secs(3);

/// However long a rotation drags on, its faults end.
const STORM: Duration = Duration::from_secs(30);

/// The product's own patience (a command that was never sent is given up after a minute, `policy::LOST_AFTER`) and two
/// slow cores fit into this several times.
const LIMIT: Duration = Duration::from_secs(400);

/// The deployed schedule's 15 minutes, in the lab.
const SWEEP: Duration = Duration::from_secs(4);

const LOOK: Duration = Duration::from_millis(250);

/// A rotation for each seed; the first that does not converge ends the run.
pub(super) async fn storms(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    for seed in &options.chaos {
        storm(tale, options, *seed, report, ui.phase(&format!("chaos {seed}"))).await?;
    }
    Ok(())
}

async fn storm(tale: &Tale, options: &Options, seed: u64, report: &mut Report, phase: Phase) -> Result<(), StoryError> {
    let faults = schedule(seed);
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    phase.note(&told.join("; "));
    let before = generations(tale).await?;
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let aim = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
    let load = Load::start(&client, &aim, options.clients, &Pace::new(PAUSE));
    let begun = Instant::now();
    let sent = repeated(tale);
    tale.world.chaos.arm(faults);
    let acm = (tale.world.acm.clone(), tale.certificate.clone());
    // The hint itself may be held back.
    let hint = tokio::spawn(async move { acm.0.renew(&acm.1, OffsetDateTime::now_utc()).await });
    let raged = rage(tale, &phase).await;
    let met = tale.world.chaos.disarm();
    let converged = match raged {
        Ok(()) => converge(tale, &before, &phase).await,
        Err(error) => Err(error),
    };
    hint.abort();
    let seconds = begun.elapsed().as_secs_f64();
    let load = load.stop().await;
    let minted = generations(tale).await?.split_off(before.len());
    merge(&mut report.handshakes, &load);
    report.chaos.push(Storm {
        seed,
        faults: told,
        met: met.len(),
        seconds,
        handshakes: load.attempted,
        failed: load.failed,
        generations: minted.len(),
        sweeps: converged.as_ref().copied().unwrap_or_default(),
    });
    let sweeps = converged.map_err(|error| of(seed, &error))?;
    let excess = repeated(tale).saturating_sub(sent + excused(&met));
    judge(&load, &minted, excess).map_err(|text| StoryError::Unmet(format!("seed {seed}: {text}")))?;
    report.served = judge::served(&tale.world, PROBER, &tale.roots, &generations(tale).await?).await?;
    report.rotations += 1;
    phase.done(&format!(
        "{} faults met; converged after {sweeps} sweeps in {seconds:.1} s; {} leaf; {} handshakes, 0 failed",
        met.len(),
        minted.len(),
        load.attempted
    ));
    Ok(())
}

fn of(seed: u64, error: &StoryError) -> StoryError {
    StoryError::Unmet(format!("seed {seed}: {}", error.lines()))
}

pub(super) async fn generations(tale: &Tale) -> Result<Vec<LedgerGeneration>, StoryError> {
    Ok(tale.watch.generations(tale.ledger()?, STACK).await?)
}

/// Lets the faults have their way until the rotation ends, well or not, or nothing moves any more.
async fn rage(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    let begun = Instant::now();
    let mut moved = begun;
    // One sweep belongs to the storm: after a lost hint there would be no rotation for the faults to meet.
    let mut swept = false;
    while begun.elapsed() < STORM {
        phase.progress(&format!("faults are in force ({} s)", begun.elapsed().as_secs()));
        let heard = tale.watch.hear().await?;
        if heard.iter().any(|heard| ["Rotation Completed", "Rotation Halted"].contains(&heard.kind.as_str())) {
            break;
        }
        if tale.world.chaos.took_installers() {
            foreign_reload(tale, phase).await?;
        }
        if tale.watch.running(machine).await? > 0 {
            moved = Instant::now();
        }
        if moved.elapsed() >= CALM {
            if swept || tale.world.chaos.is_spent() {
                break;
            }
            tale.world.router.fire_schedules().await?;
            (swept, moved) = (true, Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What a log rotation does at the worst of times: servers read their files as a killed installer has left them.
async fn foreign_reload(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    for host in &tale.world.hosts {
        let home = &host.guest.home;
        let (program, arguments): (_, &[&str]) = match host.server {
            "apache" => (home.join("control"), &["-k", "graceful"]),
            "nginx" => (home.join("control"), &["-s", "reload"]),
            "haproxy" => (home.join("control"), &["reload"]),
            _ => (home.join("hooks").join("reload"), &[]),
        };
        let (marker, value) = tale.world.processes.marker();
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env(marker, value).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A server that refuses its files keeps the old ones, which is its owner's business: clients tell.
        let _ = tokio::time::timeout(Duration::from_secs(30), command.status()).await;
    }
    phase.note("an installer was killed, and its host's server reloaded");
    Ok(())
}

/// Fires the schedule until the world is as it must be; how often that was.
pub(super) async fn converge(tale: &Tale, before: &[LedgerGeneration], phase: &Phase) -> Result<u32, StoryError> {
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    let (begun, mut sweeps, mut swept) = (Instant::now(), 0, None::<Instant>);
    let mut reason = "an execution is still under way".to_owned();
    while begun.elapsed() < LIMIT {
        // Not awaited: kept from piling up before the next seed's.
        tale.watch.hear().await?;
        if tale.watch.running(machine).await? == 0 {
            match unsettled(tale, before).await? {
                None => return Ok(sweeps),
                Some(why) => reason = why,
            }
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                tale.world.router.fire_schedules().await?;
                (sweeps, swept) = (sweeps + 1, Some(Instant::now()));
            }
        }
        phase.progress(&format!("healthy again ({} s, {sweeps} sweeps): {reason}", begun.elapsed().as_secs()));
        tokio::time::sleep(LOOK).await;
    }
    Err(StoryError::Unmet(format!("not converged {} s after the last fault: {reason}", LIMIT.as_secs())))
}

/// What is not yet as it must be.
async fn unsettled(tale: &Tale, before: &[LedgerGeneration]) -> Result<Option<String>, StoryError> {
    let now = generations(tale).await?;
    let newest = now.last().map_or(0, |one| one.generation);
    if now.len() <= before.len() {
        return Ok(Some("nothing was minted yet".to_owned()));
    }
    // A dial that fails is a failed handshake: no reason to look again.
    let served = judge::served(&tale.world, PROBER, &tale.roots, &now).await?;
    if let Some(old) = served.iter().find(|one| one.generation != newest) {
        return Ok(Some(format!("{} serves generation {} of {newest}", old.target, old.generation)));
    }
    for function in ["provision", "rotate"] {
        let answer = match tale.would_do(function, None).await {
            Ok(answer) => answer,
            // The sandbox may be one whose process a fault has just killed.
            Err(error) => return Ok(Some(error.to_string())),
        };
        let idle = answer["steps"].as_array().is_none_or(Vec::is_empty);
        if answer["outcome"] != "converged" || !idle {
            return Ok(Some(format!("{function} answers {answer}")));
        }
    }
    Ok(None)
}

/// What may never have happened on the way.
fn judge(load: &LoadReport, minted: &[LedgerGeneration], excess: usize) -> Result<(), String> {
    if load.failed > 0 || load.attempted == 0 {
        return Err(format!("{} of {} handshakes failed: {:?}", load.failed, load.attempted, load.first_failures));
    }
    let (reverted, renewed): (Vec<_>, Vec<_>) = minted.iter().partition(|one| one.because.contains("was reverted on"));
    if renewed.len() != 1 {
        return Err(format!(
            "{} leaves for one renewal, {} more after reverts: {minted:?}",
            renewed.len(),
            reverted.len()
        ));
    }
    if excess > 0 {
        return Err(format!("{excess} commands were sent for deliveries that had been sent before"));
    }
    Ok(())
}

/// How many commands so far carried a delivery that an earlier one had carried. Their comment names stack, epoch,
/// generation and attempt.
fn repeated(tale: &Tale) -> usize {
    let passed = tale.world.gateway.passed();
    let sent = passed.iter().filter(|call| call.operation == "ssm.SendCommand" && call.status == 200);
    let sent: Vec<Value> = sent.filter_map(|call| serde_json::from_slice(&call.request).ok()).collect();
    let told = |command: &Value| (command["Comment"].to_string(), command["InstanceIds"].to_string());
    sent.len() - sent.iter().map(told).collect::<BTreeSet<_>>().len()
}

/// How often the way to AWS itself brought a `SendCommand` twice. The call knows no client token, and whoever gets no answer does not
/// send it again.
fn excused(met: &[Fault]) -> usize {
    let repeats = |fault: &Fault| match *fault {
        Fault::Call { operation: "ssm.SendCommand", first, last, what: CallFault::Twice } => last - first + 1,
        Fault::Call { .. } | Fault::Event { .. } | Fault::KillFunction { .. } | Fault::KillInstaller { .. } => 0,
    };
    met.iter().map(repeats).sum::<u32>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minted(because: &str) -> LedgerGeneration {
        let text = String::new;
        let because = because.to_owned();
        LedgerGeneration { generation: 2, parameter: text(), fingerprint: text(), serial: text(), because }
    }

    #[test]
    fn a_second_leaf_needs_a_revert_and_no_handshake_may_fail() {
        let load = LoadReport { attempted: 5, ..LoadReport::default() };
        let renewed = || minted("leaf generation 1 answers ACM serial a; ACM now has b");
        let again = minted("leaf generation 2 was reverted on i-1 and is never used again");
        assert_eq!(judge(&load, &[renewed()], 0), Ok(()));
        assert_eq!(judge(&load, &[renewed(), again], 0), Ok(()));
        assert!(judge(&load, &[renewed()], 1).is_err());
        assert!(judge(&load, &[renewed(), renewed()], 0).is_err());
        assert!(judge(&load, &[], 0).is_err());
        assert!(judge(&LoadReport { failed: 1, ..load }, &[renewed()], 0).is_err());
        assert!(judge(&LoadReport::default(), &[renewed()], 0).is_err());
    }

    #[test]
    fn only_a_repetition_on_the_way_excuses_a_second_command() {
        let call = |operation, what| Fault::Call { operation, first: 1, last: 2, what };
        assert_eq!(excused(&[call("ssm.SendCommand", CallFault::Twice)]), 2);
        assert_eq!(
            excused(&[call("ssm.SendCommand", CallFault::LoseAnswer)]),
            0,
            "nothing is sent again for want of an answer"
        );
        assert_eq!(excused(&[call("ssm.SendCommand", CallFault::KillAfter)]), 0);
        assert_eq!(excused(&[call("ssm.PutParameter", CallFault::Twice)]), 0);
    }
}
