//! The scenario of another VPC: a second stack lives in one that the control plane's own prober does not reach. `prober.yaml` puts
//! a prober there, the stack's spec names it, and it proves every rotation. When the spec names one that there is not, somebody
//! is told which, nothing counts as proven, and the next spec mends it.

mod place;

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::look::{LIMIT, PAUSE};
use super::watch::until;
use super::{Options, PROBER, StoryError, Tale, deploy};
use crate::ui::{Phase, Ui};
use place::Place;

/// The second stack.
const FAR: &str = "far-service";

/// What its clients call it.
const DOMAIN: &str = "far-service.example.com";

/// Its prober, and one that nobody deployed.
const NAME: &str = "east";
const NOBODY: &str = "west";

/// The deployed schedule's 15 minutes, in the lab.
const SWEEP: Duration = Duration::from_secs(10);

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, ui: &Ui) -> Result<(), StoryError> {
    options.staged("a further prober is deployed of")?;
    let phase = ui.phase("another VPC");
    let place = Place::make(tale, options).await?;
    let certificate = tale.world.acm.issue(DOMAIN, OffsetDateTime::now_utc());
    let spec = place.spec(tale, &certificate)?;
    put(tale, &spec, false).await?;
    heard(tale, &phase, "Rotation Completed").await?;
    proven(tale, &place, 1).await?;
    let own = place.reached_from(tale, PROBER).await?;
    if own > 0 {
        return Err(StoryError::Unmet(format!("{own} targets are reached from the control plane's own VPC, too")));
    }
    let calls = place.calls(tale).await?;
    phase.done(&format!(
        "prober.yaml deployed into it; {} targets there, which the control plane's own prober does not reach, proven in {calls} calls \
         of {}, and through the service",
        place.hosts(),
        place.function
    ));

    let phase = ui.phase("no such prober");
    renamed(tale, &spec, NOBODY).await?;
    tale.world.acm.renew(&certificate, OffsetDateTime::now_utc()).await;
    let halted = heard(tale, &phase, "Rotation Halted").await?;
    let missing = format!("{}-prober-{NOBODY} does not exist", deploy::CONTROL_PLANE);
    if !blocks(&halted).any(|(code, because)| code == "Unverifiable" && because.contains(&missing)) {
        return Err(StoryError::Unmet(format!("`Rotation Halted` does not say that {missing}: {halted}")));
    }
    proven(tale, &place, 1).await?;
    let asked = place.calls(tale).await?;
    if asked != calls {
        return Err(StoryError::Unmet(format!("the prober {NAME} was called, which the spec does not name: {asked}")));
    }
    renamed(tale, &spec, NAME).await?;
    heard(tale, &phase, "Rotation Completed").await?;
    proven(tale, &place, 2).await?;
    phase.done(
        "`Rotation Halted` named it, nothing counted as proven; mended in the spec, the renewal is proven everywhere",
    );

    let phase = ui.phase("another VPC left");
    let gone = json!({"state": "absent", "deletionProtection": false});
    let mut absent = spec;
    absent.as_object_mut().into_iter().for_each(|fields| fields.extend(gone.as_object().cloned().unwrap_or_default()));
    put(tale, &absent, true).await?;
    heard(tale, &phase, "Stack Converged").await?;
    place.leave(tale).await?;
    phase.done("torn down, its instances terminated, its prober deleted");
    Ok(())
}

/// Puts the second stack's spec, as its writer would.
async fn put(tale: &Tale, spec: &Value, overwrite: bool) -> Result<(), StoryError> {
    let file = tale.world.run.join("far.json");
    std::fs::write(&file, spec.to_string()).map_err(StoryError::io("writing the spec"))?;
    let (name, value) = (format!("/espalier-spec/{FAR}"), format!("file://{}", file.display()));
    let mut put = vec!["ssm", "put-parameter", "--name", &name, "--type", "String", "--tier", "Intelligent-Tiering"];
    put.extend(["--value", &value]);
    if overwrite {
        put.push("--overwrite");
    }
    tale.world.aws().run(&put).await?;
    Ok(())
}

/// The spec says that this prober verifies.
async fn renamed(tale: &Tale, spec: &Value, prober: &str) -> Result<(), StoryError> {
    let mut spec = spec.clone();
    spec["prober"]["name"] = prober.into();
    put(tale, &spec, true).await
}

/// Listens until this is said of the second stack; the schedule fires meanwhile.
async fn heard(tale: &Tale, phase: &Phase, kind: &str) -> Result<Value, StoryError> {
    let mut swept = Instant::now();
    let found = until(LIMIT, PAUSE, async || {
        phase.progress(&format!("waiting for `{kind}` of {FAR}"));
        for one in tale.watch.hear().await?.into_iter().filter(|one| one.detail["stack"] == FAR) {
            if one.kind == kind {
                return Ok::<_, StoryError>(Some(one.detail));
            }
            if ["Stack Blocked", "Rotation Halted"].contains(&one.kind.as_str()) {
                return Err(StoryError::Unmet(format!("{}: {}", one.kind, one.detail)));
            }
        }
        if swept.elapsed() >= SWEEP {
            tale.world.router.fire_schedules().await?;
            swept = Instant::now();
        }
        Ok(None)
    });
    found.await?.ok_or_else(|| StoryError::Unmet(format!("no `{kind}` of {FAR} within {} s", LIMIT.as_secs())))
}

fn blocks(detail: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = detail["blocks"].as_array().into_iter().flatten();
    all.filter_map(|block| Some((block["code"].as_str()?, block["because"].as_str()?)))
}

/// This generation is the highest that each target was ever seen to serve, and the last look through the service was good.
async fn proven(tale: &Tale, place: &Place, generation: u64) -> Result<(), StoryError> {
    let sightings = tale.watch.records(tale.ledger()?, FAR, "SIGHTING#").await?;
    let floors: Vec<Option<u64>> = sightings.iter().map(|one| one["floor"].as_u64()).collect();
    if floors != vec![Some(generation); place.hosts()] {
        return Err(StoryError::Unmet(format!("generation {generation} is not what is proven: {sightings:?}")));
    }
    let through = tale.watch.records(tale.ledger()?, FAR, "THROUGH").await?;
    if through.iter().any(|one| one["samples"] == one["good"] && one["good"].as_u64() > Some(0)) {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("nobody came through the service: {through:?}")))
}
