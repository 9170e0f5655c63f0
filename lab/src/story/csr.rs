//! The scenario of keys that targets make themselves: the spec asks for them under client load, each host makes its key and says
//! so, its certificate comes back, and every server takes it. ACM renews, and each makes the next one. Afterwards every key that a
//! host made is sought wherever anything of the run can be, the stores of keys among them.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use super::confirm::taken;
use super::leaks::{left_no_target, sent_to_stores};
use super::load::Clients;
use super::per_target::{each_its_own, one_for_all, read, replaced, served};
use super::repair::{renew, settled};
use super::rotation::unharmed;
use super::{Options, STACK, StoryError, Tale};
use crate::leak::Secret;
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let mut keys = asked(tale, options, report, ui.phase("keys on the targets")).await?;
    keys.extend(renewed(tale, options, report, ui.phase("each its next key")).await?);
    sought(tale, &keys, ui.phase("keys stay")).await?;
    one_for_all(tale, ui.phase("one for all again")).await
}

async fn asked(
    tale: &mut Tale,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<Vec<Secret>, StoryError> {
    let before = served(tale).await?;
    let clients = Clients::start(tale, options.clients)?;
    tale.spec["certificate"]["scope"] = json!("target");
    tale.spec["certificate"]["custody"] = json!({"kind": "target"});
    let changed = async {
        tale.put_spec(true).await?;
        replaced(tale, &before, &phase).await?;
        taken(tale, &phase).await
    };
    let changed = changed.await;
    let seen = clients.stop().await;
    if changed.is_err() {
        let attempts = tale.watch.records(tale.ledger()?, STACK, "ATTEMPT#").await?;
        attempts.iter().for_each(|attempt| phase.note(&attempt.to_string()));
    }
    changed?;
    let attempted = unharmed(Way::Espalier, 1, &seen, report).map_err(StoryError::Unmet)?;
    let keys = own_keys(tale).await?;
    phase.done(&format!("{} targets have made a key each; {attempted} handshakes meanwhile, 0 failed", keys.len()));
    Ok(keys)
}

async fn renewed(tale: &Tale, options: &Options, report: &mut Report, phase: Phase) -> Result<Vec<Secret>, StoryError> {
    let (before, former) = (each_its_own(tale).await?, own_keys(tale).await?);
    let clients = Clients::start(tale, options.clients)?;
    let begun = Instant::now();
    renew(tale).await;
    let replaced = replaced(tale, &before, &phase).await;
    let seconds = begun.elapsed().as_secs_f64();
    let seen = clients.stop().await;
    replaced?;
    settled(tale, &phase).await?;
    let attempted = unharmed(Way::Espalier, 1, &seen, report).map_err(StoryError::Unmet)?;
    let keys = own_keys(tale).await?;
    if keys.iter().any(|key| former.iter().any(|old| old.pem == key.pem)) {
        return Err(StoryError::Unmet("a key was used for two generations".to_owned()));
    }
    report.rotations += 1;
    phase.done(&format!(
        "every target served its next one {seconds:.1} s after ACM's renewal; {attempted} handshakes meanwhile, 0 failed"
    ));
    Ok(keys)
}

/// The key that each target serves with: its own, and one that the ledger says was made there.
async fn own_keys(tale: &Tale) -> Result<Vec<Secret>, StoryError> {
    let all = each_its_own(tale).await?;
    let generations = tale.watch.records(tale.ledger()?, STACK, "GENERATION#").await?;
    let made_there: BTreeSet<_> = generations
        .iter()
        .filter(|generation| generation["custody"]["kind"] == "target")
        .filter_map(|generation| generation["generation"].as_u64())
        .collect();
    if let Some(other) = all.values().find(|one| !made_there.contains(&u64::from(one.generation))) {
        return Err(StoryError::Unmet(format!("the key of {} was not made there", other.target)));
    }
    let mut keys = Vec::new();
    for host in &tale.world.hosts {
        let pem = String::from_utf8_lossy(&read(host, "key.pem")?).into_owned();
        keys.push(Secret { name: format!("the key of {}", host.id), pem });
    }
    Ok(keys)
}

async fn sought(tale: &Tale, keys: &[Secret], phase: Phase) -> Result<(), StoryError> {
    phase.progress("looking for every key that a target made");
    let places = left_no_target(tale, keys).await?;
    // What was minted for all went to a store: a search that does not find that finds nothing.
    let sent = sent_to_stores(tale);
    if sent.is_empty() || left_no_target(tale, &sent).await.is_ok() {
        return Err(StoryError::Unmet(format!("of {} keys that were sent to stores none is found", sent.len())));
    }
    phase.done(&format!(
        "{} keys sought in {places} places, the stores of keys among them: none has left its target",
        keys.len()
    ));
    Ok(())
}
