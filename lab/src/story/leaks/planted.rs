//! The leak check's own test: a throw-away key and a throw-away passphrase are planted in every channel, for real, and each
//! has to be found there.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use super::super::watch::until;
use super::super::{StoryError, Tale, deploy};
use super::places::{self, Channel};
use crate::aws::Endpoint;
use crate::events::Event;
use crate::leak::{Search, Secret, word};
use crate::ui::Phase;

/// What planted things are called.
const NAME: &str = "lab-planted";

/// The forms in which keys are planted, in turn.
const FORMS: [fn(&Key) -> String; 6] = [
    |key| key.pem.clone(),
    |key| STANDARD.encode(&key.der),
    |key| URL_SAFE.encode([b"x".as_slice(), &key.der].concat()),
    |key| STANDARD.encode(&key.pem),
    |key| STANDARD.encode([b"xx", key.pem.as_bytes()].concat()),
    |key| key.der.iter().map(|byte| format!("{byte:02x}")).collect(),
];

/// The forms in which passphrases are planted, in turn: as they are, as ACM's API carries them, and in hexadecimal.
const WORDS: [fn(&str) -> String; 3] =
    [str::to_owned, |word| STANDARD.encode(word), |word| word.bytes().map(|byte| format!("{byte:02x}")).collect()];

struct Key {
    pem: String,
    der: Vec<u8>,
}

/// Plants, looks, and compares channel by channel. Nothing of it counts as a leak of the run.
pub(in super::super) async fn all(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let mut secrets = Vec::new();
    let forms = FORMS.iter().cycle().zip(WORDS.iter().cycle());
    for (channel, (form, word_form)) in Channel::ALL.into_iter().zip(forms) {
        phase.progress(&format!("planting a key and a passphrase: {}", channel.name()));
        let (key, passphrase) = (fresh_key().await?, fresh_passphrase().await?);
        plant(tale, channel, &format!("{} {}", form(&key), word_form(&passphrase))).await?;
        let [of_key, of_passphrase] = names(channel);
        secrets.push(Secret { name: of_key, pem: key.pem });
        secrets.push(word(&of_passphrase, &passphrase));
    }
    let looked = look(tale, &secrets, &phase).await;
    withdraw(tale).await?;
    looked?;
    let (channels, forms, words) = (Channel::ALL.len(), FORMS.len(), WORDS.len());
    phase.done(&format!(
        "a key and a passphrase planted in each of {channels} channels, in {forms} and {words} forms; each found in its own"
    ));
    Ok(())
}

/// What was found so far: the channels and the keys seen there.
type Found = BTreeMap<Channel, BTreeSet<String>>;

/// Until every channel shows its key: a log line or a message takes its time, and a message once read stays away a while.
async fn look(tale: &Tale, secrets: &[Secret], phase: &Phase) -> Result<(), StoryError> {
    let (mut found, mut problems) = (Found::new(), Vec::new());
    let settled = until(Duration::from_secs(30), Duration::from_secs(1), async || {
        phase.progress("looking for the planted keys");
        look_once(tale, secrets, &mut found).await?;
        problems = compare(&found);
        Ok::<_, StoryError>(problems.is_empty().then_some(()))
    });
    match settled.await? {
        Some(()) => Ok(()),
        None => Err(StoryError::Unmet(format!("the leak check is blind or sees double: {}", problems.join("; ")))),
    }
}

async fn look_once(tale: &Tale, secrets: &[Secret], found: &mut Found) -> Result<(), StoryError> {
    // The run's own keys are known, so that one of them that leaked is not taken for a stranger's; it was told before.
    let of_run = super::secrets(tale).await?;
    let names: BTreeSet<&str> = of_run.iter().map(|secret| secret.name.as_str()).collect();
    let all = [secrets, &of_run].concat();
    let mut by_channel: BTreeMap<Channel, Search> = BTreeMap::new();
    for place in places::all(tale).await? {
        let search = match by_channel.entry(place.channel) {
            Entry::Occupied(search) => search.into_mut(),
            Entry::Vacant(none) => none.insert(super::searching(&all)?),
        };
        search.look(&place.to_string(), &place.content);
    }
    for (channel, search) in by_channel {
        let keys = search.leaks().into_iter().map(|leak| leak.secret).filter(|key| !names.contains(key.as_str()));
        found.entry(channel).or_default().extend(keys);
    }
    Ok(())
}

/// What is not as it has to be: each channel's own key, and no other but what the channel passes on by its nature.
fn compare(found: &Found) -> Vec<String> {
    let mut problems = Vec::new();
    for channel in Channel::ALL {
        let own = BTreeSet::from(names(channel));
        let passed_on: BTreeSet<String> = echoes(channel).iter().flat_map(|other| names(*other)).collect();
        let seen = found.get(&channel).cloned().unwrap_or_default();
        if !own.is_subset(&seen) {
            let missing: Vec<&String> = own.difference(&seen).collect();
            problems.push(format!("{}: {missing:?} was not found", channel.name()));
        }
        let strange: Vec<&String> = seen.difference(&own).filter(|name| !passed_on.contains(*name)).collect();
        if !strange.is_empty() {
            problems.push(format!("{}: found {strange:?}, too", channel.name()));
        }
    }
    problems
}

/// The channels whose content a channel shows as well, as on AWS.
fn echoes(channel: Channel) -> &'static [Channel] {
    match channel {
        // A command's status event holds its parameters.
        Channel::EventIn => &[Channel::Command],
        // A function logs the error that it answers with.
        Channel::Log => &[Channel::FunctionAnswer],
        // The emulator's own log holds what functions log.
        Channel::File => &[Channel::FunctionAnswer],
        Channel::EventOut
        | Channel::Command
        | Channel::Output
        | Channel::History
        | Channel::Parameter
        | Channel::Environment
        | Channel::Queue
        | Channel::Notification
        | Channel::Ledger
        | Channel::Request
        | Channel::Answer
        | Channel::FunctionAnswer
        | Channel::Trace => &[],
    }
}

/// What the key and the passphrase are called that were planted in a channel.
fn names(channel: Channel) -> [String; 2] {
    [channel.name().to_owned(), format!("{}'s passphrase", channel.name())]
}

/// A passphrase like that of an export, which nobody uses.
async fn fresh_passphrase() -> Result<String, StoryError> {
    let made =
        tokio::process::Command::new("openssl").args(["rand", "-base64", "32"]).stdin(Stdio::null()).output().await;
    let made = made.map_err(StoryError::io("starting openssl; install it"))?;
    let text = String::from_utf8_lossy(&made.stdout).trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    match text.len() {
        43 => Ok(text),
        length => Err(StoryError::Unmet(format!("openssl made a passphrase of {length} characters"))),
    }
}

/// A key that nobody uses.
async fn fresh_key() -> Result<Key, StoryError> {
    let arguments = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let made = tokio::process::Command::new("openssl").args(arguments).stdin(Stdio::null()).output().await;
    let made = made.map_err(StoryError::io("starting openssl; install it"))?;
    let pem = String::from_utf8_lossy(&made.stdout).into_owned();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(&body).map_err(StoryError::boxed("reading the key that openssl made"))?;
    Ok(Key { pem, der })
}

async fn plant(tale: &Tale, channel: Channel, text: &str) -> Result<(), StoryError> {
    let base = &tale.world.ministack;
    let call = async |service, target: &str, body: Value| Endpoint::new(service, base).json(target, &body).await;
    match channel {
        Channel::Log => log_line(tale, text).await?,
        Channel::EventIn => {
            let (source, detail_type) = ("aws.planted".to_owned(), NAME.to_owned());
            tale.world.router.put(Event { source, detail_type, resources: Vec::new(), detail: detail(text) }).await;
        }
        Channel::EventOut => {
            let entry = json!({"Source": "espalier", "DetailType": NAME, "Detail": detail(text).to_string()});
            call("events", "AWSEvents.PutEvents", json!({"Entries": [entry]})).await?;
        }
        Channel::Command => run_command(tale, NAME, "true", json!({"Text": [text]})).await?,
        Channel::Output => {
            let file = tale.world.run.join(NAME);
            std::fs::write(&file, text).map_err(StoryError::io("planting a file"))?;
            run_command(tale, &format!("{NAME}-output"), &format!("cat '{}'", file.display()), json!({})).await?;
        }
        Channel::History => execute(tale, text).await?,
        Channel::Parameter => {
            let put = json!({"Name": format!("/{NAME}"), "Type": "String", "Value": text});
            call("ssm", "AmazonSSM.PutParameter", put).await?;
        }
        Channel::Environment => set_environment(tale, Some(text)).await?,
        Channel::Queue => {
            let url = deploy::output(&tale.plane, "DeadLetterQueue")?;
            let name = url.rsplit(['/', ':']).next().unwrap_or_default();
            let url = format!("{base}/{}/{name}", crate::aws::ACCOUNT);
            call("sqs", "AmazonSQS.SendMessage", json!({"QueueUrl": url, "MessageBody": text})).await?;
        }
        Channel::Notification => {
            let topic = deploy::output(&tale.plane, "NotificationTopic")?;
            Endpoint::new("sns", base).form("Publish", &[("TopicArn", topic), ("Message", text)]).await?;
        }
        Channel::Ledger => {
            put_item(tale, NAME, text).await?;
        }
        Channel::Request => {
            get_item(tale, text).await?;
        }
        Channel::Answer => {
            put_item(tale, "lab-planted-answer", text).await?;
            get_item(tale, "lab-planted-answer").await?;
            delete_item(tale, "lab-planted-answer").await?;
        }
        Channel::FunctionAnswer => {
            tale.watch.invoke(&tale.function("rotate"), &json!({"stack": text})).await?;
        }
        Channel::Trace => {
            let sent = crate::xray::send(tale.world.xray.address(), &traced(text));
            sent.map_err(StoryError::io("planting a document"))?;
        }
        Channel::File => {
            let file = tale.world.run.join("commands").join(NAME);
            std::fs::write(&file, text).map_err(StoryError::io("planting a file"))?;
        }
    }
    Ok(())
}

/// As if `mint` had logged it.
async fn log_line(tale: &Tale, text: &str) -> Result<(), StoryError> {
    let logs = Endpoint::new("logs", &tale.world.ministack);
    let group = format!("/aws/lambda/{}", tale.function("mint"));
    let mut put = json!({"logGroupName": group, "logStreamName": NAME});
    logs.json("Logs_20140328.CreateLogStream", &put).await?;
    let now = time::OffsetDateTime::now_utc().unix_timestamp() * 1_000;
    put["logEvents"] = json!([{"timestamp": now, "message": format!("bundle: {text}")}]);
    logs.json("Logs_20140328.PutLogEvents", &put).await?;
    Ok(())
}

/// As if a function had put it into a span.
fn traced(text: &str) -> Value {
    json!({"trace_id": "1-5759e988-bd862e3fe1be46a994272793", "id": "53995c3f42cd8ad8", "name": NAME,
        "start_time": 1.465_509_896e9, "end_time": 1.465_509_897e9, "metadata": {"espalier": {"bundle": text}}})
}

fn detail(text: &str) -> Value {
    json!({"stack": NAME, "inner": json!({"bundle": text}).to_string()})
}

/// A command on one of the targets, by a document of its own.
async fn run_command(tale: &Tale, document: &str, script: &str, parameters: Value) -> Result<(), StoryError> {
    let unmet = |what: &str, fault: String| StoryError::Unmet(format!("planting a command, {what}: {fault}"));
    let content = json!({
        "schemaVersion": "2.2",
        "description": "planted by the lab",
        "parameters": {"Text": {"type": "String", "default": "none"}},
        "mainSteps": [{"action": "aws:runShellScript", "name": "run", "inputs": {"runCommand": [script]}}],
    });
    let create = json!({"Name": document, "DocumentType": "Command", "DocumentFormat": "JSON",
        "Content": content.to_string()});
    let ssm = &tale.world.ssm;
    ssm.call("CreateDocument", &create).map_err(|fault| unmet("CreateDocument", fault.message()))?;
    let host = tale.world.hosts.first().map(|host| host.id.clone()).unwrap_or_default();
    let send = json!({"DocumentName": document, "InstanceIds": [host], "Parameters": parameters});
    ssm.call("SendCommand", &send).map_err(|fault| unmet("SendCommand", fault.message()))?;
    Ok(())
}

/// An execution of a state machine of its own, with the key in its input.
async fn execute(tale: &Tale, text: &str) -> Result<(), StoryError> {
    let states = Endpoint::new("states", &tale.world.ministack);
    let definition = json!({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}).to_string();
    let role = format!("arn:aws:iam::{}:role/{NAME}", crate::aws::ACCOUNT);
    let create = json!({"name": NAME, "definition": definition, "roleArn": role});
    let machine = states.json("AWSStepFunctions.CreateStateMachine", &create).await?;
    let input = json!({"inner": {"bundle": text}}).to_string();
    let start = json!({"stateMachineArn": machine["stateMachineArn"], "name": NAME, "input": input});
    states.json("AWSStepFunctions.StartExecution", &start).await?;
    Ok(())
}

/// Adds a variable to `verify`'s environment, or takes it out again.
async fn set_environment(tale: &Tale, text: Option<&str>) -> Result<(), StoryError> {
    let lambda = Endpoint::new("lambda", &tale.world.ministack);
    let path = format!("/2015-03-31/functions/{}/configuration", tale.function("verify"));
    let now = lambda.get("GetFunctionConfiguration", &path).await?;
    let mut variables = now["Environment"]["Variables"].as_object().cloned().unwrap_or_default();
    variables.remove("LAB_PLANTED");
    variables.extend(text.map(|text| ("LAB_PLANTED".to_owned(), text.into())));
    lambda.put("UpdateFunctionConfiguration", &path, &json!({"Environment": {"Variables": variables}})).await?;
    Ok(())
}

fn item_key(sort: &str) -> Value {
    json!({"pk": {"S": "STACK#lab-planted"}, "sk": {"S": sort}})
}

async fn put_item(tale: &Tale, sort: &str, text: &str) -> Result<(), StoryError> {
    let mut item = item_key(sort);
    item["record"] = json!({"S": text});
    let put = json!({"TableName": tale.ledger()?, "Item": item});
    Endpoint::new("dynamodb", &tale.world.ministack).json("DynamoDB_20120810.PutItem", &put).await?;
    Ok(())
}

async fn delete_item(tale: &Tale, sort: &str) -> Result<(), StoryError> {
    let delete = json!({"TableName": tale.ledger()?, "Key": item_key(sort)});
    Endpoint::new("dynamodb", &tale.world.ministack).json("DynamoDB_20120810.DeleteItem", &delete).await?;
    Ok(())
}

/// As the product calls: through the endpoint whose traffic is kept.
async fn get_item(tale: &Tale, sort: &str) -> Result<(), StoryError> {
    let endpoint = tale.world.gateway.endpoints().get("AWS_ENDPOINT_URL_DYNAMODB").cloned().unwrap_or_default();
    let get = json!({"TableName": tale.ledger()?, "Key": item_key(sort)});
    Endpoint::new("dynamodb", &endpoint).json("DynamoDB_20120810.GetItem", &get).await?;
    Ok(())
}

/// Takes back what could disturb the chapters to come.
async fn withdraw(tale: &Tale) -> Result<(), StoryError> {
    set_environment(tale, None).await?;
    delete_item(tale, NAME).await?;
    let delete = json!({"Name": format!("/{NAME}")});
    Endpoint::new("ssm", &tale.world.ministack).json("AmazonSSM.DeleteParameter", &delete).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blind_channel_and_one_that_sees_double_are_told() {
        let mut found: Found =
            Channel::ALL.into_iter().map(|channel| (channel, BTreeSet::from(names(channel)))).collect();
        assert_eq!(compare(&found), [] as [&str; 0]);
        found.get_mut(&Channel::EventIn).unwrap().insert("command".into());
        assert_eq!(compare(&found), [] as [&str; 0], "a command's parameters are in its events");
        found.remove(&Channel::Queue);
        found.get_mut(&Channel::Ledger).unwrap().insert("an unknown key".into());
        let problems = compare(&found);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].starts_with("queue: [\"queue\"") && problems[1].starts_with("table: found"),
            "{problems:?}"
        );
        found.insert(Channel::Queue, BTreeSet::from(["queue".to_owned()]));
        let problems = compare(&found);
        assert!(problems[0].starts_with("queue: [\"queue's passphrase\"]"), "a key alone is not enough: {problems:?}");
    }
}
