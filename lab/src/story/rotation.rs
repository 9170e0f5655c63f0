//! The chapters about certificates: the first ones, their proof end to end, and rotation because ACM renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use time::OffsetDateTime;

use super::deploy::{self, PORT};
use super::judge::{self, DOMAIN};
use super::load::{Clients, Seen};
use super::{CLIENT, OUTSIDER, Options, PROBER, STACK, StoryError, Tale, naive, timeline, traced};
use crate::client::LoadReport;
use crate::report::{Handshakes, LoadRow, Report, Swap, Way};
use crate::ui::{Phase, Ui};

/// How long a rotation may take in the lab.
pub(super) const LIMIT: Duration = Duration::from_secs(240);

/// The same event that provisions the stack starts its first rotation.
pub(super) async fn first(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    tale.wait_for(&["Rotation Completed"], LIMIT, &phase).await?;
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let last = generations.last().ok_or_else(|| StoryError::Unmet("the ledger has no generation".to_owned()))?;
    tale.roots = roots(tale).await?;
    judge::openssl(&tale.world, &tale.roots).await?;
    phase.done(&format!(
        "generation {} on {} targets; openssl verifies chain, purpose and name",
        last.generation,
        tale.world.hosts.len()
    ));
    Ok(())
}

/// The root that clients trust, from where `mint` publishes it.
pub(super) async fn roots(tale: &Tale) -> Result<String, StoryError> {
    let list = ["ssm", "get-parameters-by-path", "--path", "/espalier-trust", "--recursive", "--output", "json"];
    let answer = tale.world.aws().run(&list).await?;
    let values = answer["Parameters"].as_array().into_iter().flatten();
    let roots: String = values.filter_map(|parameter| parameter["Value"].as_str()).collect();
    if roots.is_empty() {
        return Err(StoryError::Unmet("mint published no root under /espalier-trust".to_owned()));
    }
    Ok(roots)
}

/// A client in the consumers' VPC reaches every target through the data plane; one outside reaches nothing.
pub(super) async fn end_to_end(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let all: BTreeSet<String> = tale.world.hosts.iter().map(|host| host.id.clone()).collect();
    let mut reached = BTreeSet::new();
    for attempt in 1..=100 {
        phase.progress(&format!("connection {attempt}: {} of {} targets reached", reached.len(), all.len()));
        let seen = client.get(DOMAIN, PORT, "/").await;
        let seen = seen.map_err(|error| StoryError::Unmet(format!("a client in the consumer VPC: {error}")))?;
        reached.insert(seen.body.trim().to_owned());
        if reached == all {
            break;
        }
    }
    if reached != all {
        return Err(StoryError::Unmet(format!("through the service only {reached:?} of {all:?} answered")));
    }
    phase.progress("a client outside tries");
    let outsider = judge::client(&tale.world, OUTSIDER, &tale.roots)?;
    if let Ok(seen) = outsider.get(DOMAIN, PORT, "/").await {
        return Err(StoryError::Unmet(format!("a client outside every associated VPC reached {}", seen.body)));
    }
    phase.done(&format!("{} targets reached by name, chain and name verified; a client outside is refused", all.len()));
    Ok(())
}

/// As many renewals as were asked for, one after the other.
pub(super) async fn renewals(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    for number in 1..=options.rotations {
        on_renewal(tale, options, number, report, ui.phase(&format!("rotation {number}"))).await?;
    }
    stored(tale).await?;
    traced::told(tale, report, ui.phase("trace")).await?;
    if options.naive {
        naive::restarts(tale, options, report, ui).await?;
    }
    Ok(())
}

/// ACM announces a renewal; every target ends up serving a new certificate, and no client notices.
async fn on_renewal(
    tale: &Tale,
    options: &Options,
    number: u32,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let before =
        judge::served(&tale.world, PROBER, &tale.roots, &tale.watch.generations(tale.ledger()?, STACK).await?).await?;
    let clients = Clients::start_busy(tale, options.clients)?;
    let begun = std::time::Instant::now();
    tale.world.acm.renew(&tale.certificate, OffsetDateTime::now_utc()).await;
    let completed = tale.wait_for(&["Rotation Completed"], LIMIT, &phase).await;
    let seconds = begun.elapsed().as_secs_f64();
    let seen = clients.stop().await;
    completed?;

    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let served = judge::served(&tale.world, PROBER, &tale.roots, &generations).await?;
    for (old, new) in before.iter().zip(&served) {
        if new.serial == old.serial || new.generation <= old.generation {
            return Err(StoryError::Unmet(format!("{} still serves generation {}", new.target, new.generation)));
        }
    }
    if let Some(newest) = generations.last() {
        phase.note(&format!("generation {}: {}", newest.generation, newest.because));
    }
    phase.note(&format!("where the time went: {}", timeline::told(&spent(tale).await?)));
    let attempted = account(tale, number, &seen, report)?;
    report.rotations = number;
    report.served = served;
    phase.done(&format!(
        "ACM's renewal event to verified handshakes on every target in {seconds:.1} s; {attempted} handshakes meanwhile, 0 failed"
    ));
    Ok(())
}

/// Of all leaves there were, the newest and the one before are in Parameter Store: no key lies there for nobody.
async fn stored(tale: &Tale) -> Result<(), StoryError> {
    let path = format!("/espalier-leaf/{STACK}");
    let answer = tale.world.aws().run(&["ssm", "get-parameters-by-path", "--path", &path, "--recursive"]).await?;
    let stored = answer["Parameters"].as_array().into_iter().flatten().filter_map(|one| one["Name"].as_str());
    let stored: BTreeSet<&str> = stored.collect();
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let needed: BTreeSet<&str> = generations.iter().rev().take(2).map(|one| one.parameter.as_str()).collect();
    if stored == needed {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("of {} leaves {stored:?} are stored and {needed:?} needed", generations.len())))
}

/// Where the newest execution's time went, in seconds by what was waited for.
pub(super) async fn spent(tale: &Tale) -> Result<BTreeMap<String, f64>, StoryError> {
    let executions = tale.watch.executions(deploy::output(&tale.plane, "RotationStateMachine")?).await?;
    match executions.iter().max_by_key(|(name, ..)| timeline::epoch_and_attempt(name)) {
        Some((_, _, newest)) => Ok(timeline::by_state(&tale.watch.history(newest).await?)),
        None => Ok(BTreeMap::new()),
    }
}

/// Writes down what the clients saw; a handshake that failed fails the story.
fn account(tale: &Tale, number: u32, seen: &Seen, report: &mut Report) -> Result<u64, StoryError> {
    let attempted = unharmed(Way::Espalier, 1, seen, report);
    for (reload, handshakes_in_window) in &seen.reloads {
        let host = tale.world.hosts.iter().find(|host| host.id == reload.target);
        let server = host.map(|host| host.server.to_owned()).unwrap_or_default();
        let target = reload.target.clone();
        report.swaps.push(Swap { target, server, rotation: number, handshakes_in_window: *handshakes_in_window });
    }
    attempted.map_err(|problem| StoryError::Unmet(format!("during rotation {number} {problem}")))
}

/// Adds what clients saw to the tables. How many handshakes that were, none of which may have failed.
pub(super) fn unharmed(way: Way, rotations: u32, seen: &Seen, report: &mut Report) -> Result<u64, String> {
    for (path, load) in seen.paths() {
        report.add(row(way, path, rotations, load));
    }
    merge(&mut report.handshakes, &seen.through);
    merge(&mut report.handshakes, &seen.direct);
    // Counted like all others; how long they took is a crowd's own doing.
    report.handshakes.attempted += seen.pressed.attempted;
    report.handshakes.failed += seen.pressed.failed;
    let all = seen.paths().map(|(_, load)| load);
    // Where nothing is reloaded nothing is pressed; the others are always at work.
    let silent = [&seen.through, &seen.direct].into_iter().find(|load| load.attempted == 0);
    match all.into_iter().find(|load| load.failed > 0).or(silent) {
        None => Ok(all.iter().map(|load| load.attempted).sum()),
        Some(load) => {
            Err(format!("{} of {} handshakes failed: {:?}", load.failed, load.attempted, load.first_failures))
        }
    }
}

/// The same of clients through the service alone; a failure tells what the data plane saw.
pub(super) fn unharmed_through(
    tale: &Tale,
    way: Way,
    seen: &LoadReport,
    report: &mut Report,
) -> Result<(), StoryError> {
    merge(&mut report.handshakes, seen);
    report.add(row(way, "through", 0, seen));
    if seen.failed > 0 {
        let events = tale.world.lattice.event_counts();
        return Err(StoryError::Unmet(format!(
            "{} of {} handshakes failed: {:?}; the data plane saw {events:?}",
            seen.failed, seen.attempted, seen.first_failures
        )));
    }
    Ok(())
}

/// One row of the table of loads.
pub(super) fn row(way: Way, path: &str, rotations: u32, load: &LoadReport) -> LoadRow {
    LoadRow {
        way,
        path: path.to_owned(),
        rotations,
        attempted: load.attempted,
        failed: load.failed,
        p50_ms: load.p50_ms,
        p99_ms: load.p99_ms,
    }
}

pub(super) fn merge(all: &mut Handshakes, load: &LoadReport) {
    all.attempted += load.attempted;
    all.failed += load.failed;
    // The worst rotation's: a mean of percentiles means nothing.
    all.p50_ms = all.p50_ms.max(load.p50_ms);
    all.p99_ms = all.p99_ms.max(load.p99_ms);
}
