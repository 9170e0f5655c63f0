//! The scenario of the alarms: each is raised by what causes it, for real, and ends when that is over; and nobody else calls than
//! the template says. Clients are at work all the while, and none of their handshakes may fail.
//!
//! The periods of alarms are quarters of an hour, hours and a day. What happens here takes seconds, and the time between is left
//! out on the alarms' clock ([`stage`]); every quarter of an hour has a sweep of its own, as deployed.

mod causes;
mod runbook;
mod stage;

use std::time::Duration as Wait;

use time::{Duration, OffsetDateTime};

use super::watch::until;
use super::{Options, StoryError, Tale, repair};
use crate::alarms::State;
use crate::report::Report;
use crate::ui::{Phase, Ui};
use stage::Stage;

/// How long one thing may take.
const LIMIT: Wait = Wait::from_secs(120);

const LOOK: Wait = Wait::from_millis(100);

/// The deployed schedule's `rate(15 minutes)`.
const QUARTER: Duration = Duration::minutes(15);

/// Who is called by a schedule.
const SWEPT: [&str; 3] = ["rotate", "provision", "authority"];

/// An event that could not be handled is tried so often.
const ATTEMPTS: usize = 3;

/// Tells the scenario.
pub(super) async fn told(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("alarms");
    repair::settled(tale, &phase).await?;
    let mut stage = Stage::set(tale).await?;
    calm(tale, &mut stage, &phase).await?;
    // The only one that its clients meet.
    causes::shut_out(tale, &mut stage, &phase).await?;
    let proved = repair::unnoticed(tale, options, report, all(tale, &mut stage, &phase)).await;
    tale.world.chaos.disarm();
    let proved = proved?;
    report.alarms = stage.told()?;
    phase.done(&format!("{} alarms: {proved}", stage.monitor.states().len()));
    Ok(())
}

async fn all(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<&'static str, StoryError> {
    causes::look(tale, stage, phase).await?;
    causes::work(tale, stage, phase).await?;
    causes::everything(tale, stage, phase).await?;
    causes::commands(tale, stage, phase).await?;
    causes::export(tale, stage, phase).await?;
    causes::restored(tale, stage, phase).await?;
    causes::person(tale, stage, phase).await?;
    causes::over(tale, stage, phase).await?;
    causes::silence(tale, stage, phase).await?;
    calm(tale, stage, phase).await?;
    Ok("each was raised by its cause and ended with it, and only those called who were to")
}

/// A quarter of an hour in which nothing happens: no alarm is raised.
async fn calm(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("nothing");
    quarter(tale, stage, phase).await?;
    let every: Vec<String> = stage.monitor.states().keys().cloned().collect();
    let every: Vec<&str> = every.iter().map(String::as_str).collect();
    stage.expect(State::Ok, &every)
}

/// The schedules fire, what they set off is waited for, and the rest of a quarter of an hour passes.
async fn quarter(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    let since = OffsetDateTime::now_utc();
    tale.world.router.fire_schedules().await?;
    let swept = until(LIMIT, LOOK, async || {
        phase.progress("waiting for a sweep");
        tale.watch.hear().await?;
        for function in SWEPT {
            let (calls, errors) = stage.calls(&tale.function(function), since).await?;
            if calls == errors && errors < ATTEMPTS {
                return Ok::<_, StoryError>(None);
            }
        }
        Ok(Some(()))
    });
    swept.await?.ok_or_else(|| StoryError::Unmet("a sweep did not end".to_owned()))?;
    stage.passes(tale, QUARTER).await
}

/// Waits until a function has failed since then.
async fn failed(
    tale: &Tale,
    stage: &Stage,
    function: &str,
    since: OffsetDateTime,
    phase: &Phase,
) -> Result<(), StoryError> {
    let failed = until(LIMIT, LOOK, async || {
        phase.progress(&format!("waiting for a failure of {function}"));
        tale.watch.hear().await?;
        let (_, errors) = stage.calls(&tale.function(function), since).await?;
        Ok::<_, StoryError>((errors > 0).then_some(()))
    });
    failed.await?.ok_or_else(|| StoryError::Unmet(format!("{function} did not fail")))
}

/// Two quarters of an hour in each of which a function fails.
async fn twice(tale: &Tale, stage: &mut Stage, function: &str, phase: &Phase) -> Result<(), StoryError> {
    let mut since = OffsetDateTime::now_utc();
    for _ in 0..2 {
        failed(tale, stage, function, since, phase).await?;
        since = OffsetDateTime::now_utc();
        quarter(tale, stage, phase).await?;
    }
    Ok(())
}
