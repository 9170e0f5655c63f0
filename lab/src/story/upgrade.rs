//! The scenario of an upgrade: the same is deployed again, which changes nothing; then the next release is deployed while a
//! rotation waits between its waves, every function's code and the state machine's definition. The rotation ends with the
//! functions that are there then, and no handshake of the clients fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::agent::swept_until;
use super::confirm::serving;
use super::repair::{renew, settled, unnoticed};
use super::watch::until;
use super::{Options, StoryError, Tale, deploy};
use crate::aws::Endpoint;
use crate::report::Report;
use crate::ui::{Phase, Ui};

const LIMIT: Duration = Duration::from_secs(120);

const LOOK: Duration = Duration::from_millis(300);

/// Tells the scenario.
pub(super) async fn told(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    options.staged("an upgrade is told of")?;
    let phase = ui.phase("deployed again");
    let stage = tale.world.run.join("stage");
    let before = code(tale).await?;
    deploy::unchanged(&deploy::submit(&tale.world, &stage, &tale.parameters).await?)?;
    if code(tale).await? != before {
        return Err(StoryError::Unmet("deploying the same again replaced code".to_owned()));
    }
    phase.done("packaged and deployed a second time: no changes");

    let phase = ui.phase("upgrade");
    settled(tale, &phase).await?;
    let proved = unnoticed(tale, options, report, upgraded(tale, &phase)).await;
    tale.put_spec(true).await?;
    let proved = proved?;
    settled(tale, &phase).await?;
    phase.done(&proved);
    Ok(())
}

/// Between the canary and the others the next release is deployed.
async fn upgraded(tale: &Tale, phase: &Phase) -> Result<&'static str, StoryError> {
    let mut spec = tale.spec.clone();
    spec["rollout"]["bakeMinutes"] = json!(1);
    tale.put(&spec, true).await?;
    settled(tale, phase).await?;
    let (served, former) = (serving(tale).await?, code(tale).await?);
    renew(tale).await;
    let canary = until(LIMIT, LOOK, async || {
        phase.progress("waiting for the canary");
        tale.watch.hear().await?;
        Ok::<_, StoryError>((ahead(tale, &served).await? > 0).then_some(()))
    });
    canary.await?.ok_or_else(|| StoryError::Unmet("the canary was given no leaf".to_owned()))?;
    phase.progress("deploying the next release");
    let stage = tale.world.run.join("stage");
    deploy::next_release(&stage)?;
    deploy::submit(&tale.world, &stage, &tale.parameters).await?;
    // Otherwise the rotation was over by then, and nothing is proven.
    if ahead(tale, &served).await? != 1 {
        return Err(StoryError::Unmet(
            "the rotation did not wait between its waves until the release was there".to_owned(),
        ));
    }
    let deployed = code(tale).await?;
    if deployed.iter().any(|(function, hash)| former.get(function) == Some(hash)) || deployed.len() != former.len() {
        return Err(StoryError::Unmet(format!("not all code was replaced: {former:?}, {deployed:?}")));
    }
    // A minute is longer than an execution waits: the schedule has the next one continue the rotation.
    swept_until(tale, phase, "waiting for the others", async || Ok(ahead(tale, &served).await? == served.len()))
        .await?;
    let now: BTreeSet<u32> = serving(tale).await?.into_values().collect();
    if now.len() != 1 || now.first() != served.values().max().map(|newest| newest + 1).as_ref() {
        return Err(StoryError::Unmet(format!(
            "one rotation was to give everybody one leaf: {served:?}, then {now:?}"
        )));
    }
    Ok(
        "deployed between the canary and the others, all code and the workflow: the rotation went on with it, with the leaf that it had",
    )
}

/// How many targets serve another generation than then.
async fn ahead(tale: &Tale, then: &BTreeMap<String, u32>) -> Result<usize, StoryError> {
    Ok(serving(tale).await?.iter().filter(|(id, generation)| then.get(*id) != Some(generation)).count())
}

/// The digest of each function's deployed code.
pub(super) async fn code(tale: &Tale) -> Result<BTreeMap<String, String>, StoryError> {
    let lambda = Endpoint::new("lambda", &tale.world.ministack);
    let mut all = BTreeMap::new();
    for name in crate::setup::FUNCTIONS {
        let path = format!("/2015-03-31/functions/{}/configuration", tale.function(name));
        let answer: Value = lambda.get("GetFunctionConfiguration", &path).await?;
        let hash = answer["CodeSha256"].as_str();
        let hash = hash.ok_or_else(|| StoryError::Unmet(format!("{name} has no code: {answer}")))?;
        all.insert(name.to_owned(), hash.to_owned());
    }
    Ok(all)
}
