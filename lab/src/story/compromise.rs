//! The scenario of an authority whose key was stolen. Everything is frozen; with the operator's own command the next authority is
//! prepared and takes over at once, and the former one is declared unsafe. Every target serves a leaf of the new one, by canary and
//! waves, none with a deadline to go back; then the stolen root leaves the bundle. Clients are at work all the while, and none of
//! their handshakes may fail.

use std::time::{Duration, Instant};

use super::confirm::serving;
use super::emergency::{freeze, nobody_goes_back, thaw};
use super::judge;
use super::load::Clients;
use super::repair::settled;
use super::rotation::unharmed;
use super::succession::{bundle, made, said, standing, with_phase};
use super::watch::until;
use super::{Options, PROBER, STACK, StoryError, Tale, command};
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

const LIMIT: Duration = Duration::from_secs(240);

const LOOK: Duration = Duration::from_millis(300);

const REASON: &str = "its key was seen in a public repository";

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("ca-compromise");
    if options.custody != "kms" {
        phase.done("not told: a secret holds one authority's key, and no other can stand beside it");
        return Ok(());
    }
    let former = freeze(tale).await?;
    settled(tale, &phase).await?;
    let stolen = with_phase(&standing(tale).await?, "active")?;
    let next = made(tale, &phase).await?;
    tale.roots = bundle(tale).await?;
    let clients = Clients::start(tale, options.clients)?;
    let begun = Instant::now();
    let replaced = replaced(tale, &stolen, &next, &phase).await;
    let seconds = begun.elapsed().as_secs_f64();
    let gone = match &replaced {
        Ok(()) => gone(tale, &stolen, &next, &phase).await,
        Err(_) => Ok(()),
    };
    let attempted = unharmed(Way::Espalier, 1, &clients.stop().await, report);
    thaw(tale, former, &phase).await?;
    replaced?;
    gone?;
    let attempted = attempted.map_err(StoryError::Unmet)?;
    phase.done(&format!(
        "every target served below the new root {seconds:.0} s after it took over, in a freeze, nobody armed; the stolen root is \
         out of the bundle; {attempted} handshakes meanwhile, 0 failed"
    ));
    Ok(())
}

/// The next one signs, what the stolen one signed is unsafe, and every target gets another leaf: in a freeze, and none for a time.
async fn replaced(tale: &Tale, stolen: &str, next: &str, phase: &Phase) -> Result<(), StoryError> {
    let espalier = command::espalier(tale);
    let (before, sent) = (serving(tale).await?, tale.world.gateway.passed().len());
    let taint = ["authority", "taint", stolen, "--reason", REASON];
    said(&espalier, &taint, "activate another one first").await?;
    said(&espalier, &["authority", "activate", next, "--reason", REASON], "Activated").await?;
    said(&espalier, &taint, "Tainted").await?;
    said(&espalier, &["authority", "activate", stolen, "--reason", "back"], "never signs again").await?;
    let everywhere = until(LIMIT, LOOK, async || {
        phase.progress("waiting for every target");
        tale.world.router.fire_schedules().await?;
        let generations = tale.watch.records(tale.ledger()?, STACK, "GENERATION#").await?;
        let newest = generations.last().filter(|newest| newest["authority"] == next);
        let Some(newest) = newest.and_then(|newest| newest["generation"].as_u64()) else { return Ok(None) };
        let all = serving(tale).await?.values().all(|served| u64::from(*served) >= newest);
        Ok::<_, StoryError>(all.then_some(newest))
    });
    let newest = everywhere.await?;
    let newest = newest.ok_or_else(|| StoryError::Unmet("what the stolen key signed is still served".to_owned()))?;
    let expected = u64::from(before.values().copied().max().unwrap_or_default()) + 1;
    if newest != expected {
        return Err(StoryError::Unmet(format!("one leaf was to replace all of {before:?}: {newest} is the newest")));
    }
    nobody_goes_back(tale, sent)
}

/// A person is asked to take the root out of the bundle, and does; who has the new one alone goes on.
async fn gone(tale: &mut Tale, stolen: &str, next: &str, phase: &Phase) -> Result<(), StoryError> {
    phase.progress("the stolen root leaves the bundle");
    let espalier = command::espalier(tale);
    said(&espalier, &["authority", "status"], "retire it when no target serves a leaf of it").await?;
    said(&espalier, &["authority", "retire", stolen, "--reason", REASON], "Retired").await?;
    let roots = bundle(tale).await?;
    let told = standing(tale).await?;
    if roots.matches("BEGIN CERTIFICATE").count() != 1 || with_phase(&told, "active")? != next {
        return Err(StoryError::Unmet(format!("{next} was to be alone in the bundle: {told}")));
    }
    tale.roots = roots;
    judge::openssl(&tale.world, &tale.roots).await?;
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    judge::served(&tale.world, PROBER, &tale.roots, &generations).await.map(drop)
}
