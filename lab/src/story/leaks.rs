//! Looking for key material in everything the run left behind.

mod places;
pub(super) mod planted;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use serde_json::json;

use super::{StoryError, Tale};
use crate::aws::Endpoint;
use crate::leak::{Leak, Search, Secret, keys_in, word};
use crate::ui::Phase;

/// What was searched before and held no key: no key that was made since can be in it. The run's last search begins without.
#[derive(Debug, Default)]
pub(super) struct Clean(HashSet<u64>);

impl Clean {
    /// Whether this was not searched before.
    fn is_new(&mut self, content: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        self.0.insert(hasher.finish())
    }
}

/// Searches every place but those that were clean before; what was found.
pub(super) async fn check(tale: &Tale, clean: &mut Clean, phase: Phase) -> Result<Vec<Leak>, StoryError> {
    phase.progress("collecting every key of the run");
    let mut search = searching(&secrets(tale).await?)?;
    for place in places::all(tale).await?.into_iter().filter(|place| clean.is_new(&place.content)) {
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

/// Looks for keys that are their targets' own, in everything: what a store of keys was ever sent or holds is no place for them, either.
/// Answers in how many places.
pub(super) async fn left_no_target(tale: &Tale, keys: &[Secret]) -> Result<usize, StoryError> {
    let mut search = searching(keys)?;
    for sealed in &stored(tale).await? {
        search.look(&sealed.name, sealed.pem.as_bytes());
    }
    for passed in tale.world.gateway.passed() {
        search.look(&passed.operation, &passed.request);
        search.look(&passed.operation, &passed.answer);
    }
    for place in places::all(tale).await? {
        search.look(&place.to_string(), &place.content);
    }
    let places = search.places();
    // What others share is found by its mark in the stores, and is none of these.
    let found = search.leaks().into_iter().find(|leak| leak.form != "marker");
    found.map_or(Ok(places), |leak| {
        Err(StoryError::Unmet(format!("{} left its target: as {} in {}", leak.secret, leak.form, leak.place)))
    })
}

/// Preparing to look.
fn searching(secrets: &[Secret]) -> Result<Search, StoryError> {
    Search::new(secrets).map_err(StoryError::boxed("looking for leaked keys"))
}

/// Every private key that ever existed in the run: what was ever sent to a store of keys, whether it is still there or
/// not (the leaves; the issuing key, if it is kept in a secret), what is stored although its sender never heard of it, and what lies on
/// the targets' disks and in the run's directory (a scenario's own pairs, too). The authority's keys in KMS are not
/// among them: no call hands them out.
async fn secrets(tale: &Tale) -> Result<Vec<Secret>, StoryError> {
    let mut secrets = sent_to_stores(tale);
    secrets.extend(tale.world.acm.passphrases().iter().map(|passphrase| word("a passphrase of an export", passphrase)));
    secrets.extend(stored(tale).await?);
    let sent = secrets.len();
    for entry in std::fs::read_dir(&tale.world.run).into_iter().flatten().flatten() {
        if !NO_DISK.iter().any(|name| entry.file_name() == *name) {
            on_disk(&entry.path(), &mut secrets);
        }
    }
    if sent < 2 || secrets.len() == sent {
        let problem = format!("{sent} keys were stored, {} lie on disks: too few to look for", secrets.len() - sent);
        return Err(StoryError::Unmet(problem));
    }
    Ok(secrets)
}

/// The keys that were ever sent to a store of keys, whether they are still there or not.
pub(super) fn sent_to_stores(tale: &Tale) -> Vec<Secret> {
    let to_stores = |operation: &str| operation.starts_with("ssm.Put") || operation.starts_with("secrets_manager.");
    let sent = tale.world.gateway.passed().into_iter().filter(|passed| to_stores(&passed.operation));
    sent.flat_map(|passed| keys_in(&format!("a key of {}", passed.operation), &passed.request)).collect()
}

/// What of the run's directory is the emulators' memory or what was deployed.
const NO_DISK: [&str; 5] = ["tmp", "stage", "sam", "cloudshell", "traces"];

/// The leaves that are stored now, asked of the emulator itself.
async fn stored(tale: &Tale) -> Result<Vec<Secret>, StoryError> {
    let mut secrets = Vec::new();
    let ssm = Endpoint::new("ssm", &tale.world.ministack);
    let mut ask = json!({"Path": "/espalier-leaf", "Recursive": true, "WithDecryption": true});
    loop {
        let answer = ssm.json("AmazonSSM.GetParametersByPath", &ask).await?;
        for parameter in answer["Parameters"].as_array().into_iter().flatten() {
            let (name, value) = (&parameter["Name"], &parameter["Value"]);
            secrets.extend(keys_in(name.as_str().unwrap_or_default(), value.as_str().unwrap_or_default().as_bytes()));
        }
        if !answer["NextToken"].is_string() {
            return Ok(secrets);
        }
        ask["NextToken"] = answer["NextToken"].clone();
    }
}

fn on_disk(path: &Path, secrets: &mut Vec<Secret>) {
    let files = if path.is_dir() { places::files(path) } else { vec![path.to_owned()] };
    for path in files {
        let content = std::fs::read(&path).unwrap_or_default();
        secrets.extend(keys_in(&path.display().to_string(), &content));
    }
}
