//! Looking for key material in everything the run left behind.

mod places;
pub(super) mod planted;

use std::path::Path;

use super::{StoryError, Tale};
use crate::leak::{Leak, Search, Secret, keys_in};
use crate::ui::Phase;

/// Searches every place; what was found.
pub(super) async fn check(tale: &Tale, phase: Phase) -> Result<Vec<Leak>, StoryError> {
    phase.progress("collecting every key of the run");
    let mut search = Search::new(&secrets(tale)?);
    for place in places::all(tale).await? {
        search.look(&place.to_string(), &place.content);
    }
    let (keys, places) = (search.keys(), search.places());
    let leaks = search.leaks();
    if let Some(leak) = leaks.first() {
        phase.note(&format!("found {} as {} in {}", leak.secret, leak.form, leak.place));
    }
    phase.done(&format!("{keys} private keys sought in {places} places, {} found", leaks.len()));
    Ok(leaks)
}

/// Every private key that ever existed in the run: what was ever sent to a store of keys, whether it is still there or
/// not (the leaves, the authority's issuing key), and what lies on the targets' disks (a scenario's own pairs, too). The
/// root's key is not among them: it never leaves `mint`'s memory.
fn secrets(tale: &Tale) -> Result<Vec<Secret>, StoryError> {
    let mut secrets = Vec::new();
    for passed in tale.world.gateway.passed() {
        if passed.operation.starts_with("ssm.Put") || passed.operation.starts_with("secrets_manager.") {
            secrets.extend(keys_in(&format!("a key of {}", passed.operation), &passed.request));
        }
    }
    let stored = secrets.len();
    on_disk(&tale.world.run.join("hosts"), &mut secrets);
    if stored < 2 || secrets.len() == stored {
        let problem =
            format!("{stored} keys were stored, {} lie on disks: too few to look for", secrets.len() - stored);
        return Err(StoryError::Unmet(problem));
    }
    Ok(secrets)
}

fn on_disk(directory: &Path, secrets: &mut Vec<Secret>) {
    for path in places::files(directory) {
        let content = std::fs::read(&path).unwrap_or_default();
        secrets.extend(keys_in(&path.display().to_string(), &content));
    }
}
