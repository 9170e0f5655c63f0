//! The scenario of an emergency: everything is frozen, and somebody declares what is served unsafe with the operator's own
//! command. Every target serves a new leaf at once, by canary and waves, none with a deadline to go back; who declared it, and
//! why, is in the ledger. Clients are at work all the while, and none of their handshakes may fail.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cli::Cli;
use super::confirm::{serving, taken};
use super::load::Clients;
use super::repair::settled;
use super::rotation::unharmed;
use super::watch::until;
use super::{Options, STACK, StoryError, Tale, command};
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

const LIMIT: Duration = Duration::from_secs(240);

const LOOK: Duration = Duration::from_millis(200);

const REASON: &str = "the key was seen in a public repository";

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("emergency");
    let former = freeze(tale).await?;
    settled(tale, &phase).await?;
    let clients = Clients::start(tale, options.clients)?;
    let begun = std::time::Instant::now();
    let proved = declared(tale, &phase).await;
    let seconds = begun.elapsed().as_secs_f64();
    let seen = clients.stop().await;
    let attempted = unharmed(Way::Espalier, 1, &seen, report);
    thaw(tale, former, &phase).await?;
    let proved = proved?;
    let attempted = attempted.map_err(StoryError::Unmet)?;
    phase.done(&format!("{proved}, {seconds:.0} s from the command on; {attempted} handshakes meanwhile, 0 failed"));
    Ok(())
}

/// Nothing may begin for two days, the canary bakes for an hour, and everybody is to be confirmed. The former rollout.
pub(super) async fn freeze(tale: &mut Tale) -> Result<Value, StoryError> {
    let now = OffsetDateTime::now_utc();
    let at = |hours: i64| {
        let at = now.replace_nanosecond(0).unwrap_or(now) + time::Duration::hours(hours);
        at.format(&Rfc3339).map_err(StoryError::boxed("writing a time"))
    };
    let former = tale.spec["rollout"].clone();
    tale.spec["rollout"]["freezes"] = json!([{"from": at(-1)?, "to": at(47)?}]);
    tale.spec["rollout"]["bakeMinutes"] = json!(60);
    tale.spec["rollout"]["confirm"] = json!("all");
    tale.put_spec(true).await?;
    Ok(former)
}

/// The former rollout again.
pub(super) async fn thaw(tale: &mut Tale, former: Value, phase: &Phase) -> Result<(), StoryError> {
    tale.spec["rollout"] = former;
    tale.put_spec(true).await?;
    taken(tale, phase).await
}

async fn declared(tale: &Tale, phase: &Phase) -> Result<String, StoryError> {
    let espalier = command::espalier(tale);
    let (before, sent) = (serving(tale).await?, tale.world.gateway.passed().len());
    let unsafe_through = *before.values().max().unwrap_or(&0);
    no_event_does(tale).await?;
    said(&espalier, &["--reason", REASON], &format!("! Emergency, generation {unsafe_through} and before")).await?;
    // Whoever asks again is told who was first; nothing is replaced twice.
    let number = unsafe_through.to_string();
    let again = ["--reason", "again", "--generation", &number];
    said(&espalier, &again, &format!("= Emergency, generation {unsafe_through} and before")).await?;
    // Not for the event: an earlier rotation's may still be on its way.
    let everywhere = until(LIMIT, LOOK, async || {
        phase.progress("waiting for every target");
        Ok::<_, StoryError>(serving(tale).await?.values().all(|served| *served > unsafe_through).then_some(()))
    });
    everywhere.await?.ok_or_else(|| StoryError::Unmet("what is unsafe is still served".to_owned()))?;
    replaced(tale, &before).await?;
    let record = recorded(tale, unsafe_through).await?;
    nobody_goes_back(tale, sent)?;
    let caller = record["caller"].as_str().unwrap_or_default();
    phase.note(&format!("recorded: {caller}, request {}: {REASON}", record["request"].as_str().unwrap_or_default()));
    Ok(format!("generation {unsafe_through} was replaced on {} targets in a freeze, nobody armed", before.len()))
}

/// An event that asks for one is refused.
async fn no_event_does(tale: &Tale) -> Result<(), StoryError> {
    let event = json!({"version": "0", "id": "9c95e8e4", "source": "espalier", "detail-type": "Rotate Requested",
        "account": "000000000000", "time": "2026-11-21T06:51:08Z", "region": "eu-west-1", "resources": [],
        "detail": {"stack": STACK, "mode": "emergency", "caller": "arn:aws:iam::000000000000:root", "reason": REASON}});
    let known = records(tale, None).await?.len();
    let answer = tale.watch.invoke(&tale.function("rotate"), &event).await?;
    if answer["errorType"] == "Invalid" && records(tale, None).await?.len() == known {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("an event asks for an emergency, and rotate answers {answer}")))
}

/// Runs `espalier emergency`, which has to say this.
async fn said(espalier: &Cli, arguments: &[&str], wanted: &str) -> Result<(), StoryError> {
    let text = command::text(espalier, &[&["emergency", STACK], arguments].concat()).await?;
    command::expect(&["emergency"], &text, wanted)
}

/// Every target serves the one leaf that was minted for it.
async fn replaced(tale: &Tale, before: &BTreeMap<String, u32>) -> Result<(), StoryError> {
    let (after, generations) = (serving(tale).await?, tale.watch.generations(tale.ledger()?, STACK).await?);
    let newest = generations.last().map(|newest| (newest.generation, newest.because.clone())).unwrap_or_default();
    let next = before.values().max().unwrap_or(&0) + 1;
    if newest.0 != next || !newest.1.contains(REASON) || after.values().any(|served| *served != next) {
        return Err(StoryError::Unmet(format!(
            "generation {next} was to replace all of {before:?}: {after:?}, {newest:?}"
        )));
    }
    Ok(())
}

async fn records(tale: &Tale, through: Option<u32>) -> Result<Vec<Value>, StoryError> {
    let all = tale.watch.records(tale.ledger()?, STACK, "EMERGENCY#").await?;
    Ok(all.into_iter().filter(|record| through.is_none_or(|through| record["through"] == through)).collect())
}

/// The ledger knows who it was: the principal that AWS takes the operator for.
async fn recorded(tale: &Tale, through: u32) -> Result<Value, StoryError> {
    let who = tale.world.aws().run(&["sts", "get-caller-identity", "--output", "json"]).await?;
    let found = records(tale, Some(through)).await?;
    let is_it = |record: &&Value| {
        record["caller"] == who["Arn"]
            && record["reason"] == REASON
            && record["request"].as_str().is_some_and(|id| !id.is_empty())
    };
    match found.iter().find(is_it) {
        Some(record) if found.len() == 1 => Ok(record.clone()),
        _ => Err(StoryError::Unmet(format!("the ledger has {found:?}; it was {}", who["Arn"]))),
    }
}

/// No host is told to go back to what is unsafe.
pub(super) fn nobody_goes_back(tale: &Tale, since: usize) -> Result<(), StoryError> {
    let passed = tale.world.gateway.passed();
    let sent = passed.iter().skip(since).filter(|one| one.operation == "ssm.SendCommand");
    let sent: Vec<Value> = sent.filter_map(|one| serde_json::from_slice(&one.request).ok()).collect();
    let armed = sent.iter().find(|one| one["Parameters"]["ConfirmSeconds"] != json!(["0"]));
    match armed {
        None if !sent.is_empty() => Ok(()),
        None => Err(StoryError::Unmet("no command was seen".to_owned())),
        Some(armed) => Err(StoryError::Unmet(format!("a host goes back to what is unsafe unless it is told: {armed}"))),
    }
}
