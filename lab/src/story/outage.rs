//! The scenario of outages: ACM renews, and what the rotation depends on is out, one thing after the other, each until it was
//! missed and a while longer. Calls are counted meanwhile, so that nobody storms what is down. Then the rotation is completed by
//! the schedule alone. Clients are at work all the while, and none of their handshakes may fail.

use std::time::{Duration, Instant};

use super::chaos::{converge, generations};
use super::repair::{renew, settled, unnoticed};
use super::watch::until;
use super::{Options, StoryError, Tale, deploy};
use crate::chaos::{CallFault, Fault};
use crate::report::Report;
use crate::ui::{Phase, Ui};

/// What is out, in the order in which a rotation comes to need it.
const OUT: [(&str, &[&str]); 7] = [
    ("ACM", &["acm.DescribeCertificate"]),
    ("Step Functions", &["sfn.StartExecution", "sfn.DescribeExecution"]),
    ("the ledger", &["dynamodb.GetItem", "dynamodb.Query", "dynamodb.PutItem", "dynamodb.TransactWriteItems"]),
    ("the authority's key", &["secrets_manager.GetSecretValue", "kms.Sign"]),
    (
        "Parameter Store",
        &["ssm.GetParameter", "ssm.GetParametersByPath", "ssm.PutParameter", "ssm.GetParameterHistory"],
    ),
    ("the inventory", &["ssm.DescribeInstanceInformation"]),
    ("Run Command", &["ssm.SendCommand", "ssm.ListCommandInvocations"]),
];

/// How long one thing is out once it was missed.
const LASTS: Duration = Duration::from_secs(3);

/// How long it may take until it is missed.
const MISSED: Duration = Duration::from_secs(90);

const LOOK: Duration = Duration::from_millis(100);

/// The deployed schedule's 15 minutes, in the lab.
const SWEEP: Duration = Duration::from_secs(4);

/// Calls that may be made of something that is out: so many, and so many more each second. The SDK asks three times, hints, the
/// schedule, the state machine and its repetitions come to a few calls a second; a loop without a pause makes hundreds.
const CALLS: (f64, f64) = (20.0, 8.0);

/// Tells the scenario.
pub(super) async fn told(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("outages");
    settled(tale, &phase).await?;
    let proved = unnoticed(tale, options, report, all(tale, &phase)).await?;
    phase.done(&proved);
    Ok(())
}

async fn all(tale: &Tale, phase: &Phase) -> Result<&'static str, StoryError> {
    let before = generations(tale).await?;
    let begun = Instant::now();
    let mut renewed = false;
    for (name, operations) in OUT {
        let never =
            |operation: &&'static str| Fault::Call { operation, first: 1, last: u32::MAX, what: CallFault::Refuse };
        tale.world.chaos.arm(operations.iter().map(never).collect());
        if !renewed {
            renew(tale).await;
            renewed = true;
        }
        let out = out(tale, name, operations, phase).await;
        if out.is_err() {
            tale.world.chaos.disarm();
        }
        phase.note(&out?);
    }
    tale.world.chaos.disarm();
    let out_s = begun.elapsed().as_secs_f64();
    let sweeps = converge(tale, &before, phase).await?;
    let all_s = begun.elapsed().as_secs_f64();
    phase.note(&format!("{out_s:.0} s of outages, {:.0} s and {sweeps} sweeps until all was well", all_s - out_s));
    Ok(
        "each of seven dependencies was out in the middle of a rotation, which was completed unaided and without a storm of calls",
    )
}

/// Waits until something that is out was missed, and a while longer. What was seen of it.
async fn out(tale: &Tale, name: &str, operations: &[&str], phase: &Phase) -> Result<String, StoryError> {
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    let (begun, mut swept) = (Instant::now(), Instant::now());
    let missed = until(MISSED, LOOK, async || {
        phase.progress(&format!("{name} is out"));
        tale.watch.hear().await?;
        if tale.world.chaos.counted(operations) > 0 {
            return Ok::<_, StoryError>(Some(()));
        }
        if swept.elapsed() >= SWEEP && tale.watch.running(machine).await? == 0 {
            tale.world.router.fire_schedules().await?;
            swept = Instant::now();
        }
        Ok(None)
    });
    missed.await?.ok_or_else(|| StoryError::Unmet(format!("{name} was out, and nobody missed it")))?;
    tokio::time::sleep(LASTS).await;
    let (calls, seconds) = (tale.world.chaos.counted(operations), begun.elapsed().as_secs_f64());
    if f64::from(calls) > CALLS.0 + CALLS.1 * seconds {
        return Err(StoryError::Unmet(format!("{calls} calls in {seconds:.1} s of {name}, which was out")));
    }
    Ok(format!("{name} out for {seconds:.1} s: {calls} calls"))
}
