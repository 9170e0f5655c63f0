//! The scenario of certificates that are each target's own: the spec asks for one for each, under client load, and every target
//! serves a certificate and a key that no other has. ACM renews, and each is given its next one. Somebody puts one target's
//! certificate on another: it is found by its fingerprint alone, since clients accept it, and put right. Then there is one for all
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::confirm::taken;
use super::load::Clients;
use super::repair::{find, hosts, renew, settled};
use super::rotation::{LIMIT, unharmed};
use super::watch::until;
use super::world::Host;
use super::{Options, PROBER, STACK, StoryError, Tale, judge};
use crate::report::{Report, Served, Way};
use crate::ui::{Phase, Ui};

const LOOK: Duration = Duration::from_millis(200);

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    one_for_each(tale, options, report, ui.phase("one for each")).await?;
    renewed(tale, options, report, ui.phase("each its next")).await?;
    mixed_up(tale, ui.phase("one for another")).await?;
    one_for_all(tale, ui.phase("one for all again")).await
}

async fn one_for_each(tale: &mut Tale, options: &Options, report: &mut Report, phase: Phase) -> Result<(), StoryError> {
    let before = served(tale).await?;
    let clients = Clients::start(tale, options.clients)?;
    tale.spec["certificate"]["scope"] = json!("target");
    // Where they make their keys themselves is a scenario of its own.
    tale.spec["certificate"]["custody"] = json!({"kind": "parameterStore"});
    let changed = async {
        tale.put_spec(true).await?;
        replaced(tale, &before, &phase).await?;
        taken(tale, &phase).await
    };
    let changed = changed.await;
    let seen = clients.stop().await;
    changed?;
    let attempted = unharmed(Way::Espalier, 1, &seen, report).map_err(StoryError::Unmet)?;
    let after = each_its_own(tale).await?;
    let serials: Vec<&str> = after.values().map(|one| one.serial.as_str()).collect();
    phase.note(&format!("serials {}", serials.join(", ")));
    phase.done(&format!(
        "{} targets, as many certificates and keys; {attempted} handshakes meanwhile, 0 failed",
        after.len()
    ));
    Ok(())
}

async fn renewed(tale: &Tale, options: &Options, report: &mut Report, phase: Phase) -> Result<(), StoryError> {
    let before = each_its_own(tale).await?;
    let clients = Clients::start(tale, options.clients)?;
    let begun = std::time::Instant::now();
    renew(tale).await;
    let replaced = replaced(tale, &before, &phase).await;
    let seconds = begun.elapsed().as_secs_f64();
    let seen = clients.stop().await;
    replaced?;
    settled(tale, &phase).await?;
    let attempted = unharmed(Way::Espalier, 1, &seen, report).map_err(StoryError::Unmet)?;
    each_its_own(tale).await?;
    report.rotations += 1;
    phase.done(&format!(
        "every target served its next one {seconds:.1} s after ACM's renewal; {attempted} handshakes meanwhile, 0 failed"
    ));
    Ok(())
}

/// What clients accept and is another target's: nobody but who compares it with this target's own finds it.
async fn mixed_up(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let [one, other, ..] = tale.world.hosts.as_slice() else {
        return Err(StoryError::Unmet("there are no two targets".to_owned()));
    };
    let own = each_its_own(tale).await?;
    hosts::put_pair(tale, one, &read(other, "key.pem")?, &read(other, "fullchain.pem")?).await?;
    let shown = served(tale).await?;
    if shown[&one.id].serial != own[&other.id].serial {
        return Err(StoryError::Unmet(format!("{} does not serve what is {}'s", one.id, other.id)));
    }
    find(tale, one, "OtherCertificate", &phase).await?;
    settled(tale, &phase).await?;
    let mended = each_its_own(tale).await?;
    if are_the_same(&mended, &own) {
        phase.done("another target's, which clients accept, was found as OtherCertificate; its own is served again");
        return Ok(());
    }
    Err(StoryError::Unmet(format!("something new was made to repair one target: {own:?}, {mended:?}")))
}

fn are_the_same(now: &BTreeMap<String, Served>, before: &BTreeMap<String, Served>) -> bool {
    now.iter().all(|(target, one)| before.get(target).is_some_and(|was| was.serial == one.serial))
}

pub(super) async fn one_for_all(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    tale.spec["certificate"]["scope"] = json!("shared");
    tale.spec["certificate"]["custody"] = json!({"kind": "parameterStore"});
    let before = served(tale).await?;
    tale.put_spec(true).await?;
    replaced(tale, &before, &phase).await?;
    taken(tale, &phase).await?;
    let serials: BTreeSet<String> = served(tale).await?.into_values().map(|one| one.serial).collect();
    if serials.len() != 1 {
        return Err(StoryError::Unmet(format!("one certificate was to be everybody's: {serials:?}")));
    }
    phase.done("the next generation is one certificate for all");
    Ok(())
}

/// Waits until every target serves a newer generation. Not for the event: an earlier rotation's may still be on its way.
pub(super) async fn replaced(tale: &Tale, before: &BTreeMap<String, Served>, phase: &Phase) -> Result<(), StoryError> {
    let everywhere = until(LIMIT, LOOK, async || {
        phase.progress("waiting for every target");
        let now = served(tale).await?;
        let is_newer = |(new, old): (&Served, &Served)| new.generation > old.generation;
        Ok::<_, StoryError>(now.values().zip(before.values()).all(is_newer).then_some(()))
    });
    everywhere.await?.ok_or_else(|| StoryError::Unmet(format!("not all were given another certificate: {before:?}")))
}

/// What each target serves, which has to be a leaf that the ledger knows as this target's own, with a key that no other has.
pub(super) async fn each_its_own(tale: &Tale) -> Result<BTreeMap<String, Served>, StoryError> {
    let all = served(tale).await?;
    let leaves = tale.watch.records(tale.ledger()?, STACK, "LEAF#").await?;
    for one in all.values() {
        let is_it = |leaf: &serde_json::Value| {
            leaf["scope"] == one.target.as_str()
                && leaf["serial"] == one.serial.as_str()
                && leaf["generation"] == one.generation
        };
        if !leaves.iter().any(is_it) {
            return Err(StoryError::Unmet(format!("{} serves {}, which is not its own", one.target, one.serial)));
        }
    }
    let mut keys = BTreeSet::new();
    for host in &tale.world.hosts {
        keys.insert(read(host, "key.pem")?);
    }
    if keys.len() < all.len() {
        return Err(StoryError::Unmet(format!("{} targets have {} keys", all.len(), keys.len())));
    }
    Ok(all)
}

pub(super) async fn served(tale: &Tale) -> Result<BTreeMap<String, Served>, StoryError> {
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let all = judge::served(&tale.world, PROBER, &tale.roots, &generations).await?;
    Ok(all.into_iter().map(|one| (one.target.clone(), one)).collect())
}

pub(super) fn read(host: &Host, name: &str) -> Result<Vec<u8>, StoryError> {
    let path = host.guest.certificates.join(STACK).join("current").join(name);
    std::fs::read(path).map_err(StoryError::io("reading a target's pair"))
}
