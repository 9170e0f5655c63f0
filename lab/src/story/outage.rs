//! The scenario of outages: ACM renews, and what the rotation depends on is out, one thing after the other, each until it was
//! missed and a while longer. Calls are counted meanwhile, so that nobody storms what is down. Then the rotation is completed by
//! the schedule alone. Clients are at work all the while, and none of their handshakes may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::chaos::{converge, generations};
use super::repair::{renew, settled, unnoticed};
use super::watch::until;
use super::{Options, StoryError, Tale, deploy};
use crate::chaos::{CallFault, EventFault, Fault, kill};
use crate::process::Processes;
use crate::report::Report;
use crate::ui::{Phase, Ui};

/// How something is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// Every event is lost, ACM's about the renewal first, and no schedule fires. What the state machine puts on the bus passes
    /// inside the emulator.
    Events,
    /// These calls get no answer.
    Calls(&'static [&'static str]),
    /// Functions die as soon as they run.
    Functions,
}

impl Outage {
    fn told(self, missed: u32) -> String {
        match self {
            Self::Events => format!("{missed} events lost, and no schedule"),
            Self::Calls(_) => format!("{missed} calls"),
            Self::Functions => format!("{missed} functions killed"),
        }
    }
}

/// What is out, in the order in which a rotation comes to need it: each keeps it from all that is to be out after it. Only
/// `provision` misses the last two, and the rotation goes on without them.
const OUT: [(&str, Outage); 11] = [
    ("EventBridge", Outage::Events),
    ("Lambda", Outage::Functions),
    ("ACM", Outage::Calls(&["acm.DescribeCertificate"])),
    ("Step Functions", Outage::Calls(&["sfn.StartExecution", "sfn.DescribeExecution"])),
    (
        "the ledger",
        Outage::Calls(&["dynamodb.GetItem", "dynamodb.Query", "dynamodb.PutItem", "dynamodb.TransactWriteItems"]),
    ),
    ("the authority's key", Outage::Calls(&["secrets_manager.GetSecretValue", "kms.Sign"])),
    (
        "Parameter Store",
        Outage::Calls(&["ssm.GetParameter", "ssm.GetParametersByPath", "ssm.PutParameter", "ssm.GetParameterHistory"]),
    ),
    ("the inventory", Outage::Calls(&["ssm.DescribeInstanceInformation"])),
    ("Run Command", Outage::Calls(&["ssm.SendCommand", "ssm.ListCommandInvocations"])),
    ("EC2", Outage::Calls(&["ec2.DescribeInstances"])),
    ("VPC Lattice", Outage::Calls(&["vpc_lattice.ListServiceNetworks", "vpc_lattice.ListServices"])),
];

/// How long one thing is out once it was missed.
const LASTS: Duration = Duration::from_secs(3);

/// How long it may take until it is missed.
const MISSED: Duration = Duration::from_secs(90);

const LOOK: Duration = Duration::from_millis(100);

/// Between two looks for functions that run: a warm one needs longer for anything that has an effect.
const PULSE: Duration = Duration::from_millis(10);

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
    for (name, outage) in OUT {
        let force = InForce::of(tale, outage);
        if outage == Outage::Events {
            renew(tale).await;
        }
        let out = out(tale, name, &force, phase).await;
        drop(force);
        phase.note(&out?);
    }
    let out_s = begun.elapsed().as_secs_f64();
    let sweeps = converge(tale, &before, phase).await?;
    let all_s = begun.elapsed().as_secs_f64();
    phase.note(&format!("{out_s:.0} s of outages, {:.0} s and {sweeps} sweeps until all was well", all_s - out_s));
    Ok(
        "each of eleven dependencies was out in the middle of a rotation, which was completed unaided and without a storm of calls",
    )
}

/// An outage for as long as this lives.
struct InForce<'a> {
    tale: &'a Tale,
    outage: Outage,
    killer: Option<JoinHandle<()>>,
    killed: Arc<AtomicU32>,
}

impl<'a> InForce<'a> {
    fn of(tale: &'a Tale, outage: Outage) -> Self {
        let always =
            |operation: &&'static str| Fault::Call { operation, first: 1, last: u32::MAX, what: CallFault::Refuse };
        let killed = Arc::<AtomicU32>::default();
        let (faults, killer) = match outage {
            Outage::Events => (vec![Fault::Event { first: 1, last: u32::MAX, what: EventFault::Drop }], None),
            Outage::Calls(operations) => (operations.iter().map(always).collect(), None),
            Outage::Functions => {
                (Vec::new(), Some(tokio::spawn(kill_all(tale.world.processes.clone(), Arc::clone(&killed)))))
            }
        };
        tale.world.chaos.arm(faults);
        Self { tale, outage, killer, killed }
    }

    /// How often it was missed so far.
    fn missed(&self) -> u32 {
        match self.outage {
            Outage::Events => self.tale.world.chaos.events(),
            Outage::Calls(operations) => self.tale.world.chaos.counted(operations),
            Outage::Functions => self.killed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for InForce<'_> {
    fn drop(&mut self) {
        self.tale.world.chaos.disarm();
        if let Some(killer) = &self.killer {
            killer.abort();
        }
    }
}

/// Kills whatever function runs, for ever, and counts those that somebody started after the first look.
async fn kill_all(processes: Processes, killed: Arc<AtomicU32>) {
    kill::functions(&processes);
    loop {
        tokio::time::sleep(PULSE).await;
        let some = u32::try_from(kill::functions(&processes)).unwrap_or(u32::MAX);
        killed.fetch_add(some, Ordering::Relaxed);
    }
}

/// Waits until something that is out was missed, and a while longer. What was seen of it.
async fn out(tale: &Tale, name: &str, force: &InForce<'_>, phase: &Phase) -> Result<String, StoryError> {
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    let known = tale.watch.executions(machine).await?.len();
    let (begun, mut swept) = (Instant::now(), Instant::now());
    let missed = until(MISSED, LOOK, async || {
        phase.progress(&format!("{name} is out"));
        tale.watch.hear().await?;
        if force.missed() > 0 {
            return Ok::<_, StoryError>(Some(()));
        }
        if swept.elapsed() >= SWEEP {
            tale.world.router.fire_schedules().await?;
            swept = Instant::now();
        }
        Ok(None)
    });
    missed.await?.ok_or_else(|| StoryError::Unmet(format!("{name} was out, and nobody missed it")))?;
    tokio::time::sleep(LASTS).await;
    let (missed, seconds) = (force.missed(), begun.elapsed().as_secs_f64());
    if force.outage == Outage::Events && tale.watch.executions(machine).await?.len() > known {
        return Err(StoryError::Unmet(format!("{name} was out, and a rotation began all the same")));
    }
    if f64::from(missed) > CALLS.0 + CALLS.1 * seconds {
        return Err(StoryError::Unmet(format!("{missed} calls in {seconds:.1} s of {name}, which was out")));
    }
    Ok(format!("{name} out for {seconds:.1} s: {}", force.outage.told(missed)))
}
