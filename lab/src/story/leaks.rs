//! Looking for key material in everything the run left behind.

use std::path::Path;

use serde_json::Value;

use super::{STACK, StoryError, Tale, deploy};
use crate::leak::{Leak, Search, Secret};
use crate::setup::FUNCTIONS;
use crate::ui::Phase;

/// Calls whose own bodies carry a key: the two stores of key material, on the way in and on the way out.
const CARRIERS: [&str; 5] = [
    "ssm.PutParameter",
    "ssm.GetParameter",
    "secrets_manager.CreateSecret",
    "secrets_manager.GetSecretValue",
    "secrets_manager.PutSecretValue",
];

/// Searches logs, events, commands, histories, parameters and calls; what was found.
pub(super) async fn check(tale: &Tale, phase: Phase) -> Result<Vec<Leak>, StoryError> {
    phase.progress("collecting every key of the run");
    // The calls so far: the lab's own fetching of the keys, just below, is no leak of the product.
    let passed = tale.world.gateway.passed();
    let mut search = Search::new(&secrets(tale).await?);
    for function in FUNCTIONS {
        let log = tale.watch.log(&tale.function(function)).await?;
        search.look(&format!("log of {function}"), log.join("\n").as_bytes());
    }
    for (name, _, arn) in tale.watch.executions(deploy::output(&tale.plane, "RotationStateMachine")?).await? {
        search.look(&format!("history of {name}"), tale.watch.history(&arn).await?.as_bytes());
    }
    for output in tale.world.ssm.command_outputs() {
        let place = format!("output of {} on {}", output.command_id, output.instance_id);
        search.look(&place, format!("{}\n{}", output.stdout, output.stderr).as_bytes());
    }
    for event in tale.world.router.events() {
        search.look("an event", event.to_string().as_bytes());
    }
    for passed in passed {
        let carries = CARRIERS.contains(&passed.operation.as_str());
        if !carries || is_plain(&passed.request) {
            search.look(&format!("request {}", passed.operation), &passed.request);
        }
        if !carries {
            search.look(&format!("answer of {}", passed.operation), &passed.answer);
        }
    }
    let records = tale.watch.records(tale.ledger()?, STACK, "").await?;
    search.look("the ledger", Value::from(records).to_string().as_bytes());
    for directory in ["logs", "run/stage"] {
        look_into(&mut search, &tale.world.run.with_file_name("").join(directory));
    }
    let (keys, places) = (search.keys(), search.places());
    let leaks = search.leaks();
    if let Some(leak) = leaks.first() {
        phase.note(&format!("found {} as {} in {}", leak.secret, leak.form, leak.place));
    }
    phase.done(&format!("{keys} private keys sought in {places} places, {} found", leaks.len()));
    Ok(leaks)
}

/// A parameter that is not encrypted has no business with a key, whatever call it came by.
fn is_plain(request: &[u8]) -> bool {
    serde_json::from_slice::<Value>(request).is_ok_and(|request| request["Type"] == "String")
}

/// Every private key that existed: the leaves' and the authority's.
async fn secrets(tale: &Tale) -> Result<Vec<Secret>, StoryError> {
    let aws = tale.world.aws();
    let list = ["ssm", "get-parameters-by-path", "--path", "/espalier-leaf", "--recursive", "--with-decryption"];
    let parameters = aws.run(&[&list[..], &["--output", "json"]].concat()).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut secrets: Vec<Secret> = parameters["Parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|parameter| Secret { name: text(&parameter["Name"]), pem: text(&parameter["Value"]) })
        .collect();
    let get = ["secretsmanager", "get-secret-value", "--secret-id", "espalier/authority", "--output", "json"];
    let authority = aws.run(&get).await?;
    // The secret is JSON that holds PEM: unescaped, its lines are PEM lines.
    let pem = text(&authority["SecretString"]).replace("\\n", "\n").replace('"', "\n");
    secrets.push(Secret { name: "the authority".to_owned(), pem });
    if secrets.len() < 2 {
        return Err(StoryError::Unmet("no leaf's key was found to look for".to_owned()));
    }
    Ok(secrets)
}

fn look_into(search: &mut Search, directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            look_into(search, &path);
        } else if path.extension().is_some_and(|kind| kind == "log" || kind == "yaml" || kind == "json") {
            let content = std::fs::read(&path).unwrap_or_default();
            search.look(&path.display().to_string(), &content);
        }
    }
}
