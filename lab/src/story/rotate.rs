//! The scenario of a fleet: thirty targets with the run's servers in turn are given a new leaf because ACM renewed, the canary
//! first and then wave by wave, while clients connect. Told are the waves, and how long after the hint each target was seen to
//! serve the new leaf.

mod waves;

use std::collections::BTreeMap;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::deploy::{self, PORT};
use super::load::{self, Clients};
use super::look::{converged, forget};
use super::repair::{renew, settled};
use super::rotation::{LIMIT, spent, unharmed};
use super::{Options, PROBER, STACK, StoryError, Tale, judge, timeline, traced};
use crate::report::{Fleet, Report, Way};
use crate::ui::{Phase, Ui};

/// Targets, the recipe's own among them.
const TARGETS: usize = 30;

/// Tells the scenario; the recipe's own instances serve before and after.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let more = grow(tale, options, ui.phase("thirty targets")).await?;
    rotate(tale, options, report, ui.phase("fleet's rotation")).await?;
    traced::told(tale, report, ui.phase("fleet's trace")).await?;
    shrink(tale, &more, ui.phase("recipe's own again")).await
}

/// Launches what the recipe's own lack to thirty, and waits until all serve and are registered. Who came.
async fn grow(tale: &mut Tale, options: &Options, phase: Phase) -> Result<Vec<String>, StoryError> {
    let own = tale.world.hosts.len();
    phase.progress("launching instances");
    let more = deploy::instances(&tale.world, &tale.network, "fleet", TARGETS.saturating_sub(own)).await?;
    let network = tale.world.fabric.network().await.map_err(StoryError::boxed("reading the instances"))?;
    for (number, id) in (own..).zip(&more) {
        let instance = network.instances.get(id);
        let instance = instance.ok_or_else(|| StoryError::Unmet(format!("{id} was launched and is not there")))?;
        let server = options.servers[number % options.servers.len()];
        tale.world.boot(server, id.clone(), instance, STACK, PORT).await?;
    }
    settled(tale, &phase).await?;
    converged(tale, &phase).await?;
    forget(tale).await?;
    phase.done(&format!("{} more came with the tag alone; each was proven, and registered after it", more.len()));
    Ok(more)
}

/// ACM renews, and every target ends up serving a new certificate, wave by wave.
async fn rotate(tale: &Tale, options: &Options, report: &mut Report, phase: Phase) -> Result<(), StoryError> {
    // No crowd at each server here: ten are reloaded at a time.
    let clients = Clients::start_even(tale, options.clients, load::PAUSE)?;
    let (passed, hinted_at) = (tale.world.gateway.passed().len(), OffsetDateTime::now_utc());
    renew(tale).await;
    let completed = tale.wait_for(&["Rotation Completed"], LIMIT, &phase).await;
    let seen = clients.stop().await;
    completed?;
    let attempted = unharmed(Way::Espalier, 1, &seen, report).map_err(StoryError::Unmet)?;

    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let newest = generations.last().map(|one| one.generation).unwrap_or_default();
    report.rotations += 1;
    let served = judge::served(&tale.world, PROBER, &tale.roots, &generations).await?;
    if let Some(old) = served.iter().find(|one| one.generation != newest) {
        return Err(StoryError::Unmet(format!("{} still serves generation {}", old.target, old.generation)));
    }
    let calls = tale.world.gateway.passed();
    let waves =
        waves::told(calls.get(passed..).unwrap_or_default(), newest, wave_size(tale)).map_err(StoryError::Unmet)?;
    let fleet = fleet(tale, newest, hinted_at, waves).await?;
    phase.note(&format!(
        "seen to serve it after {:.1} s (the first), {:.1} s (half), {:.1} s (all); half of the deliveries took over {:.1} s, \
        half of the proofs {:.1} s more",
        fleet.first_s, fleet.median_s, fleet.last_s, fleet.delivery_s, fleet.proof_s
    ));
    phase.note(&format!("where the time went: {}", timeline::told(&fleet.spent)));
    phase.done(&format!(
        "{} targets in waves of {:?}: ACM's hint to the last verified handshake in {:.1} s; {attempted} handshakes \
        meanwhile, 0 failed",
        fleet.targets, fleet.waves, fleet.last_s
    ));
    report.fleet = Some(fleet);
    Ok(())
}

/// The instances that came go again.
async fn shrink(tale: &mut Tale, more: &[String], phase: Phase) -> Result<(), StoryError> {
    let mut terminate = vec!["ec2", "terminate-instances", "--instance-ids"];
    terminate.extend(more.iter().map(String::as_str));
    tale.world.aws().run(&terminate).await?;
    more.iter().for_each(|id| tale.world.retire(id));
    // The way through the service is proven again when nobody is registered any more who is gone.
    converged(tale, &phase).await?;
    settled(tale, &phase).await?;
    forget(tale).await?;
    phase.done(&format!("{} were terminated, and are gone from the target group", more.len()));
    Ok(())
}

/// What the spec says.
fn wave_size(tale: &Tale) -> usize {
    tale.spec["rollout"]["waveSize"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(10)
}

/// When the ledger says that each target was given the leaf, had it, and was seen to serve it.
async fn fleet(
    tale: &Tale,
    generation: u32,
    hinted_at: OffsetDateTime,
    waves: Vec<usize>,
) -> Result<Fleet, StoryError> {
    let of_it = |record: &Value| record["generation"].as_u64() == Some(generation.into());
    let after = |text: &Value| {
        let parsed = text.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        parsed.map(|at| (at - hinted_at).as_seconds_f64())
    };
    let sightings = tale.watch.records(tale.ledger()?, STACK, "SIGHTING#").await?;
    let attempts = tale.watch.records(tale.ledger()?, STACK, "ATTEMPT#").await?;
    let installs = |one: &&Value| of_it(one) && one["action"] == "Install" && one["ended"]["installed"] == true;
    let mut told: BTreeMap<String, [f64; 3]> = BTreeMap::new();
    for attempt in attempts.iter().filter(installs) {
        let seen = sightings.iter().find(|one| of_it(one) && one["target"] == attempt["target"]);
        let (begun, installed) = (after(&attempt["begunAt"]), after(&attempt["ended"]["at"]));
        match (attempt["target"].as_str(), begun, installed, seen.and_then(|seen| after(&seen["at"]))) {
            (Some(target), Some(begun), Some(installed), Some(seen)) => {
                told.insert(target.to_owned(), [begun, installed, seen]);
            }
            _ => return Err(StoryError::Unmet(format!("not all is known of the delivery {attempt}"))),
        }
    }
    if told.len() != tale.world.hosts.len() {
        return Err(StoryError::Unmet(format!("the ledger knows of {} deliveries only", told.len())));
    }
    Fleet::of(&told, waves, spent(tale).await?)
        .ok_or_else(|| StoryError::Unmet("the ledger knows of no delivery".to_owned()))
}
