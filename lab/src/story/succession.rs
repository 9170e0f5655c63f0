//! The scenario of one authority taking over from another: prepared with the operator's own command while clients are at work.
//! Nothing is signed below it before the wait is over, nor before the one registered client, which is slow to take the bundle,
//! is acknowledged for. Then every target is given a leaf of it, and a month later the former one retires by itself.
//!
//! A week and a month do not pass here: the ledger is told that they did, before a sweep.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cli::{Cli, CliError};
use super::deploy::PORT;
use super::judge::{self, DOMAIN};
use super::load::{Clients, PAUSE};
use super::repair::settled;
use super::rotation::{unharmed, unharmed_through};
use super::watch::until;
use super::{CLIENT, Options, PROBER, STACK, StoryError, Tale, command, deploy};
use crate::client::load::{Aim, Load, Pace};
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

/// The client that the control plane waits for.
pub(super) const SLOW: &str = "slow-client";

const LIMIT: Duration = Duration::from_secs(240);

const LOOK: Duration = Duration::from_millis(300);

/// What the ledger knows of authorities.
const PARTITION: &str = "AUTHORITIES";

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("ca-rotation");
    if options.custody != "kms" {
        phase.done("not told: a secret holds one authority's key, and no other can stand beside it");
        return Ok(());
    }
    tale.world.router.fire_schedules().await?;
    settled(tale, &phase).await?;
    tale.roots = bundle(tale).await?;
    let former = Former { authority: with_phase(&standing(tale).await?, "active")?, roots: tale.roots.clone() };
    let slow = Slow::start(tale, &former.roots)?;
    let clients = Clients::start(tale, options.clients)?;
    let prepared = prepared(tale, &phase).await;
    let mut attempted = unharmed(Way::Espalier, 1, &clients.stop().await, report).map_err(StoryError::Unmet)?;
    let next = prepared?;
    // All but one take the bundle.
    tale.roots = bundle(tale).await?;
    let clients = Clients::start(tale, options.clients)?;
    let taken = taken_over(tale, &next, slow, report, &phase).await;
    attempted += unharmed(Way::Espalier, 1, &clients.stop().await, report).map_err(StoryError::Unmet)?;
    let seconds = taken?;
    retired(tale, &next, &former, &phase).await?;
    phase.done(&format!(
        "waited for the slow client, then every target served below the new root after {seconds:.0} s; {attempted} handshakes \
         meanwhile, 0 failed; the former authority is retired"
    ));
    Ok(())
}

/// Who signs now, and what clients trust.
struct Former {
    authority: String,
    roots: String,
}

/// The client that still has the former bundle.
struct Slow(Load);

impl Slow {
    fn start(tale: &Tale, roots: &str) -> Result<Self, StoryError> {
        let client = judge::client(&tale.world, CLIENT, roots)?;
        let aim = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
        Ok(Self(Load::start(&client, &aim, 1, &Pace::new(PAUSE))))
    }

    async fn stop(self, tale: &Tale, report: &mut Report) -> Result<(), StoryError> {
        let seen = self.0.stop().await;
        if seen.attempted == 0 {
            return Err(StoryError::Unmet("the slow client was not at work".to_owned()));
        }
        unharmed_through(tale, Way::Espalier, &seen, report)
    }
}

/// The next authority is made and published; its wait is not over, so that sweeps change nothing. Its id.
async fn prepared(tale: &Tale, phase: &Phase) -> Result<String, StoryError> {
    phase.progress("the next authority is prepared");
    let next = made(tale, phase).await?;
    let told = standing(tale).await?;
    if told["waits"].as_array().is_none_or(Vec::is_empty) || told["blocks"][0]["code"] != "Unacknowledged" {
        return Err(StoryError::Unmet(format!("a week and {SLOW} were to be waited for: {told}")));
    }
    nothing_changes(tale, &next).await?;
    put_right(tale).await?;
    // The week passes, for both.
    for id in [with_phase(&told, "active")?, next.clone()] {
        aged(tale, &format!("AUTHORITY#{id}"), "publishedAt", time::Duration::days(8)).await?;
    }
    Ok(next)
}

/// The next authority is made by the operator's command. Where every key has its authority, the template is deployed with the active
/// one's pair alone and then with both, as its page says. Its id.
pub(super) async fn made(tale: &Tale, phase: &Phase) -> Result<String, StoryError> {
    let (espalier, prepare) = (command::espalier(tale), ["authority", "prepare"]);
    let mut said = spoken(&espalier, &prepare).await?;
    if said.contains("KeysOfAuthority=both") {
        // The pairs alternate.
        let authorities = standing(tale).await?["authorities"].as_array().map_or(0, Vec::len);
        for keys in [if authorities % 2 == 0 { "second" } else { "first" }, "both"] {
            phase.progress(&format!("deploying with KeysOfAuthority={keys}"));
            deployed_with(tale, keys).await?;
            settled(tale, phase).await?;
        }
        said = spoken(&espalier, &prepare).await?;
    }
    command::expect(&prepare, &said, "+ Authority")?;
    let told = standing(tale).await?;
    let next = with_phase(&told, "prepared")?;
    let is_of_second = told["authorities"].as_array().map_or(0, Vec::len) % 2 == 0;
    let curve = if is_of_second { ("secp384r1", "ecdsa-with-SHA384") } else { ("prime256v1", "ecdsa-with-SHA256") };
    judge::is_on_curve(&tale.world, &published(tale, &next).await?, curve).await?;
    Ok(next)
}

async fn deployed_with(tale: &Tale, keys: &str) -> Result<(), StoryError> {
    let named = |parameter: &String| match parameter.starts_with("KeysOfAuthority=") {
        true => format!("KeysOfAuthority={keys}"),
        false => parameter.clone(),
    };
    let parameters: Vec<String> = tale.parameters.iter().map(named).collect();
    deploy::submit(&tale.world, &tale.world.run.join("stage"), &parameters).await.map(drop)
}

/// Sweeps wait for the slow client and for nobody else; when it is acknowledged for, every target serves below the new root.
async fn taken_over(
    tale: &Tale,
    next: &str,
    slow: Slow,
    report: &mut Report,
    phase: &Phase,
) -> Result<f64, StoryError> {
    phase.progress("waiting for the slow client");
    nothing_changes(tale, next).await?;
    let told = standing(tale).await?;
    let is_waited_for = told["blocks"][0]["because"].as_str().is_some_and(|because| because.contains(SLOW));
    if !is_waited_for || told["waits"].as_array().is_some_and(|waits| !waits.is_empty()) {
        return Err(StoryError::Unmet(format!("{SLOW} alone was to be waited for: {told}")));
    }
    let espalier = command::espalier(tale);
    let digest = told["bundle"].as_str().unwrap_or_default().to_owned();
    let acknowledge = ["authority", "acknowledge", SLOW, "--authority", next, "--bundle"];
    // What it has is another bundle: that is no acknowledgement.
    said(&espalier, &[&acknowledge[..], &["00"]].concat(), "Differs").await?;
    nothing_changes(tale, next).await?;
    slow.stop(tale, report).await?;
    let slow = Slow::start(tale, &tale.roots)?;
    let begun = std::time::Instant::now();
    said(&espalier, &[&acknowledge[..], &[&digest]].concat(), "Activated").await?;
    let everywhere = until(LIMIT, LOOK, async || {
        phase.progress("waiting for every target");
        tale.world.router.fire_schedules().await?;
        let generations = tale.watch.records(tale.ledger()?, STACK, "GENERATION#").await?;
        let is_next = generations.last().is_some_and(|newest| newest["authority"] == next);
        Ok::<_, StoryError>((is_next && tale.would_do("rotate", None).await?["outcome"] == "converged").then_some(()))
    });
    everywhere.await?.ok_or_else(|| StoryError::Unmet("not every target serves below the new root".to_owned()))?;
    let seconds = begun.elapsed().as_secs_f64();
    judge::openssl(&tale.world, &tale.roots).await?;
    slow.stop(tale, report).await?;
    Ok(seconds)
}

/// A month passes; the former root leaves the bundle, and who has the new one alone goes on.
async fn retired(tale: &mut Tale, next: &str, former: &Former, phase: &Phase) -> Result<(), StoryError> {
    phase.progress("a month passes");
    tale.world.router.fire_schedules().await?;
    with_phase(&standing(tale).await?, "retiring")?;
    let turns = tale.watch.partition(tale.ledger()?, PARTITION, "TURN#").await?;
    let newest = turns.last().and_then(|turn| turn["number"].as_u64()).unwrap_or_default();
    aged(tale, &format!("TURN#{newest:08}"), "at", time::Duration::days(31)).await?;
    let gone = until(LIMIT, LOOK, async || {
        tale.world.router.fire_schedules().await?;
        let told = standing(tale).await?;
        let mut all = told["authorities"].as_array().into_iter().flatten();
        let is_retired = all.any(|one| one["authority"] == former.authority && one["phase"] == "retired");
        Ok::<_, StoryError>((told["outcome"] == "converged" && is_retired).then_some(()))
    });
    gone.await?.ok_or_else(|| StoryError::Unmet("the former authority is not retired".to_owned()))?;
    tale.roots = bundle(tale).await?;
    let is_alone = tale.roots.matches("BEGIN CERTIFICATE").count() == 1 && tale.roots != former.roots;
    if !is_alone || with_phase(&standing(tale).await?, "active")? != next {
        return Err(StoryError::Unmet(format!("{next} was to be alone in the bundle: {}", tale.roots)));
    }
    settled(tale, phase).await?;
    judge::openssl(&tale.world, &tale.roots).await?;
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    judge::served(&tale.world, PROBER, &tale.roots, &generations).await.map(drop)
}

/// Whatever is swept, leaves are the active authority's.
async fn nothing_changes(tale: &Tale, next: &str) -> Result<(), StoryError> {
    tale.world.router.fire_schedules().await?;
    let told = standing(tale).await?;
    if with_phase(&told, "prepared")? == next {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("{next} was to stay prepared: {told}")))
}

/// What clients take, from the parameter as from the copy of it.
pub(super) async fn bundle(tale: &Tale) -> Result<String, StoryError> {
    let bundle = published(tale, "bundle").await?;
    let taken = tale.world.run.join("bundle.pem");
    tale.world.aws().run(&of_copy("get-object", &[&taken.to_string_lossy()])).await?;
    let copy = std::fs::read_to_string(&taken).map_err(StoryError::io("reading the bundle's copy"))?;
    if copy != bundle {
        return Err(StoryError::Unmet(format!("the copy is {copy:?}, and the parameter {bundle:?}")));
    }
    Ok(bundle)
}

/// The bundle, or the root of an authority, as its parameter has it.
async fn published(tale: &Tale, name: &str) -> Result<String, StoryError> {
    let name = format!("/espalier-trust/{name}");
    let answer = tale.world.aws().run(&["ssm", "get-parameter", "--name", &name, "--output", "json"]).await?;
    Ok(answer["Parameter"]["Value"].as_str().unwrap_or_default().to_owned())
}

fn of_copy<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["s3api", command, "--bucket", deploy::CLIENTS_BUCKET, "--key", deploy::BUNDLE_KEY], more].concat()
}

/// Somebody puts something else in the copy's place, and then takes it away: a sweep puts it back.
async fn put_right(tale: &Tale) -> Result<(), StoryError> {
    let other = tale.world.run.join("other.pem");
    std::fs::write(&other, "another bundle").map_err(StoryError::io("writing another bundle"))?;
    let other = other.to_string_lossy();
    for meddled in [of_copy("put-object", &["--body", &other]), of_copy("delete-object", &[])] {
        tale.world.aws().run(&meddled).await?;
        tale.world.router.fire_schedules().await?;
        let put_back = until(LIMIT, LOOK, async || Ok::<_, StoryError>(bundle(tale).await.ok()));
        put_back.await?.ok_or_else(|| StoryError::Unmet("the bundle's copy was not put back".to_owned()))?;
    }
    Ok(())
}

/// Where the authorities stand.
pub(super) async fn standing(tale: &Tale) -> Result<Value, StoryError> {
    Ok(tale.watch.invoke(&tale.function("authority"), &serde_json::json!({"mode": "status"})).await?)
}

pub(super) fn with_phase(told: &Value, phase: &str) -> Result<String, StoryError> {
    let all = told["authorities"].as_array().into_iter().flatten();
    let found: Vec<&str> =
        all.filter(|one| one["phase"] == phase).filter_map(|one| one["authority"].as_str()).collect();
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        _ => Err(StoryError::Unmet(format!("one authority was to be {phase}: {told}"))),
    }
}

/// Tells the ledger that something was so much longer ago.
async fn aged(tale: &Tale, sk: &str, field: &str, by: time::Duration) -> Result<(), StoryError> {
    let found = tale.watch.partition(tale.ledger()?, PARTITION, sk).await?;
    let mut record = found.into_iter().next().unwrap_or_default();
    let at = OffsetDateTime::parse(record[field].as_str().unwrap_or_default(), &Rfc3339);
    let at = at.map_err(StoryError::boxed("reading a time"))? - by;
    record[field] = at.format(&Rfc3339).map_err(StoryError::boxed("writing a time"))?.into();
    Ok(tale.watch.write(tale.ledger()?, PARTITION, sk, &record).await?)
}

/// Runs the operator's command, which has to say this, whether or not somebody is needed.
pub(super) async fn said(espalier: &Cli, arguments: &[&str], wanted: &str) -> Result<(), StoryError> {
    command::expect(arguments, &spoken(espalier, arguments).await?, wanted)
}

/// What the operator's command says, also where somebody is needed.
async fn spoken(espalier: &Cli, arguments: &[&str]) -> Result<String, StoryError> {
    match espalier.run(arguments).await {
        Ok(text) => Ok(text.as_str().unwrap_or_default().to_owned()),
        Err(CliError::Failed { output, .. }) => Ok(output),
        Err(error @ CliError::Start { .. }) => Err(error.into()),
    }
}
