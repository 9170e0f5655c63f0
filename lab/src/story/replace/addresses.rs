//! Targets by address: in groups of one each, on all but one of which a node installs. A renewal reaches those; the other one
//! keeps what it has, which clients accept, and is only looked at.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::super::deploy::PORT;
use super::super::judge::{self, DOMAIN};
use super::super::load::PAUSE;
use super::super::look::{forget, lattice};
use super::super::rotation::unharmed_through;
use super::super::{CLIENT, Options, PROBER, STACK, StoryError, Tale};
use super::LIMIT;
use crate::client::load::{Aim, Load, Pace};
use crate::report::{Report, Way};
use crate::ui::Phase;

/// Whatever an event missed is found by the sweep, which comes this often here.
const SWEEP: Duration = Duration::from_secs(20);

/// Has the spec select every host by its address, the last one without a node; what it said of targets before, on the recipe's
/// port.
pub(super) fn select(tale: &mut Tale) -> Value {
    tale.spec["targets"]["port"] = PORT.into();
    let recipe = tale.spec["targets"].clone();
    let mut all: Vec<Value> =
        tale.world.hosts.iter().map(|host| json!({"address": host.address, "node": host.id})).collect();
    if let Some(last) = all.last_mut().and_then(Value::as_object_mut) {
        last.remove("node");
    }
    tale.spec["targets"]["select"] = json!({ "addresses": all });
    tale.spec["targets"]["targetsPerGroup"] = 1.into();
    recipe
}

/// A renewal under load: nodes install it, and nobody does on the last one.
pub(super) async fn rotated(
    tale: &Tale,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let groups = by_address(tale).await?;
    at_rest(tale).await?;
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let aim = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
    let load = Load::start(&client, &aim, options.clients, &Pace::new(PAUSE));
    tale.world.acm.renew(&tale.certificate, OffsetDateTime::now_utc()).await;
    let completed = tale.wait_for(&["Rotation Completed"], LIMIT, &phase).await;
    let seen = load.stop().await;
    completed?;
    unharmed_through(tale, Way::Replace, &seen, report)?;
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    let newest = generations.iter().map(|one| one.generation).max().unwrap_or_default();
    let served = judge::served(&tale.world, PROBER, &tale.roots, &generations).await?;
    for (index, one) in served.iter().enumerate() {
        let is_observed = index + 1 == served.len();
        if (one.generation == newest) == is_observed {
            return Err(StoryError::Unmet(format!("{} serves generation {} of {newest}", one.target, one.generation)));
        }
    }
    at_rest(tale).await?;
    phase.done(&format!(
        "{groups} target groups of one address each; generation {newest} on {} nodes, the last address left alone; {} handshakes \
         meanwhile, 0 failed",
        served.len() - 1,
        seen.attempted
    ));
    Ok(())
}

/// The stack's target groups hold one address each, and clients came to all of them. How many there are.
async fn by_address(tale: &Tale) -> Result<usize, StoryError> {
    let listed = lattice(tale, &["list-target-groups", "--target-group-type", "IP"]).await?;
    let groups = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let expected: Vec<String> = tale.world.hosts.iter().map(|host| host.address.to_string()).collect();
    let mut reached: Vec<String> =
        tale.world.lattice.connections().into_iter().filter(|one| one.opened > 0).map(|one| one.target).collect();
    reached.sort();
    let mut wanted = expected.clone();
    wanted.sort();
    let family = |group: &&Value| group["ipAddressType"] == "IPV4";
    if groups.len() != expected.len() || groups.iter().filter(family).count() != groups.len() || reached != wanted {
        return Err(StoryError::Unmet(format!("groups {groups:?}; clients came to {reached:?} of {wanted:?}")));
    }
    Ok(groups.len())
}

/// Both planners plan nothing; what no event told, the schedule finds.
pub(super) async fn at_rest(tale: &Tale) -> Result<(), StoryError> {
    let (deadline, mut swept) = (Instant::now() + LIMIT, Instant::now());
    loop {
        let (provision, rotate) = (tale.would_do("provision", None).await?, tale.would_do("rotate", None).await?);
        if provision["outcome"] == "converged" && rotate["outcome"] == "converged" {
            return forget(tale).await;
        }
        if Instant::now() > deadline {
            return Err(StoryError::Unmet(format!("not at rest within {} s: {provision} {rotate}", LIMIT.as_secs())));
        }
        if swept.elapsed() >= SWEEP {
            tale.world.router.fire_schedules().await?;
            swept = Instant::now();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
