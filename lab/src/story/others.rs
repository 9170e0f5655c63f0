//! The scenario of a fleet on which others install: an agent of somebody else's brings ACM's certificate to each server, under a
//! private authority, and Espalier has `"manage": "nothing"`. It sees what is served, sees the renewal, says who serves the
//! former one, a wrong name, something that ends; and no file, command, parameter or registration is its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::judge::DOMAIN;
use super::look::{LIMIT, PAUSE, forget};
use super::naive::files;
use super::repair::{ask, hosts, settled};
use super::watch::until;
use super::world::Host;
use super::{STACK, StoryError, Tale, command};
use crate::ui::{Phase, Ui};

/// How often a fresh look is asked for.
const ASKED: std::time::Duration = std::time::Duration::from_secs(10);

/// What stands for a load balancer of theirs.
const BALANCER: &str = "balanced.example.com";

/// What would be Espalier's doing.
const DOINGS: [&str; 5] = ["SendCommand", "ExportCertificate", "RegisterTargets", "DeregisterTargets", "Sign"];

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("others install");
    let agent = Agent::new(tale).await?;
    let former = tale.spec.clone();
    let known = done(tale).await?;
    for host in &tale.world.hosts {
        agent.installs(tale, host, DOMAIN, 30).await?;
    }
    tale.spec["manage"] = "nothing".into();
    tale.spec["certificate"] = json!({
        "issuer": {"kind": "others", "trust": agent.root()?, "certificateArn": tale.certificate},
        "dnsNames": [DOMAIN],
        "renewBeforeHours": 56,
    });
    tale.put_spec(true).await?;
    let proved = everything(tale, &agent, &phase).await;
    let after = done(tale).await;
    tale.spec = former;
    tale.put_spec(true).await?;
    proved?;
    if after? != known {
        return Err(StoryError::Unmet("something was done where nothing is Espalier's".to_owned()));
    }
    settled(tale, &phase).await?;
    forget(tale).await?;
    phase.done(
        "others' certificate seen, its renewal, the former one, a wrong name and a near end told, by address and by name; nothing \
         touched; then back",
    );
    Ok(())
}

/// What the agent does is told of each server, and then of the one name that leads to all of them.
async fn everything(tale: &mut Tale, agent: &Agent, phase: &Phase) -> Result<(), StoryError> {
    watched(tale, agent, phase).await?;
    balance(tale, "CREATE").await?;
    tale.spec["targets"]["select"] = json!({"hosts": [BALANCER]});
    tale.put_spec(true).await?;
    let proved = balanced(tale, agent, phase).await;
    balance(tale, "DELETE").await?;
    proved?;
    agent.untouched(tale)
}

/// One name that leads to every server: what any of them serves is the name's, and it is well when all are.
async fn balanced(tale: &Tale, agent: &Agent, phase: &Phase) -> Result<(), StoryError> {
    let is_only = |answer: &Value| targets(answer).map(|one| one["target"].as_str()).eq([Some(BALANCER)]);
    let with = |phase: &'static str, faults: Value| {
        move |answer: &Value| {
            is_only(answer) && targets(answer).all(|one| one["phase"] == phase && one["faults"] == faults)
        }
    };
    let last = tale.world.hosts.last().ok_or_else(|| StoryError::Unmet("a target is needed".to_owned()))?;
    agent.installs(tale, last, "www.example.com", 30).await?;
    shown(tale, phase, "a wrong name at one address of many", with("observed", json!(["WrongName"]))).await?;
    for host in &tale.world.hosts {
        agent.installs(tale, host, DOMAIN, 30).await?;
    }
    shown(tale, phase, "a name whose addresses are all well", with("current", Value::Null)).await?;
    Ok(())
}

/// The name of the load balancer, as its owner would publish it.
async fn balance(tale: &Tale, action: &str) -> Result<(), StoryError> {
    let servers: Vec<Value> = tale.world.hosts.iter().map(|host| json!({"Value": host.address})).collect();
    let set = json!({"Name": BALANCER, "Type": "A", "TTL": 60, "ResourceRecords": servers});
    let batch = json!({"Changes": [{"Action": action, "ResourceRecordSet": set}]}).to_string();
    let zone = tale.spec["service"]["dns"]["hostedZoneId"].as_str().unwrap_or_default();
    let change = ["route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch", &batch];
    tale.world.aws().run(&change).await.map(drop).map_err(StoryError::from)
}

/// What the agent does is seen and told, step by step.
async fn watched(tale: &Tale, agent: &Agent, phase: &Phase) -> Result<(), StoryError> {
    let (Some(first), Some(last)) = (tale.world.hosts.first(), tale.world.hosts.last()) else {
        return Err(StoryError::Unmet("two targets are needed".to_owned()));
    };
    let all = |word: &'static str| move |answer: &Value| targets(answer).all(|one| one["phase"] == word);
    shown(tale, phase, "ACM's newest on every target", all("current")).await?;
    let text = command::text(&command::espalier(tale), &["status", STACK]).await?;
    command::expect(&["status"], &text, "installed by others, under the roots in the spec")?;

    tale.world.acm.renew(&tale.certificate, OffsetDateTime::now_utc()).await;
    let is_former = |one: &Value| one["because"].as_str().is_some_and(|told| told.contains("ACM's newest"));
    let answer = shown(tale, phase, "the former one", |answer| targets(answer).all(is_former)).await?;
    if !blocks(&answer).is_empty() {
        return Err(StoryError::Unmet(format!("clients accept the former one, and somebody is called: {answer}")));
    }

    agent.installs(tale, first, DOMAIN, 30).await?;
    agent.installs(tale, last, "www.example.com", 30).await?;
    let is_named = |answer: &Value| {
        target(answer, first)["phase"] == "current" && target(answer, last)["faults"] == json!(["WrongName"])
    };
    shown(tale, phase, "the renewed one, and a wrong name", is_named).await?;

    agent.installs(tale, last, DOMAIN, 1).await?;
    let ends = |answer: &Value| {
        blocks(answer).iter().any(|(code, because)| {
            code == "Differs" && because.contains(&last.id) && because.contains("what it serves ends")
        })
    };
    shown(tale, phase, "the end that comes near", ends).await?;
    measured(tale).await
}

/// Waits until `rotate` shows this of the stack, and has it look now and then.
async fn shown(tale: &Tale, phase: &Phase, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value, StoryError> {
    let mut asked: Option<tokio::time::Instant> = None;
    let mut last = Value::Null;
    let found = until(LIMIT, PAUSE, async || {
        phase.progress(&format!("waiting for {what}"));
        tale.watch.hear().await?;
        if asked.is_none_or(|at| at.elapsed() > ASKED) {
            ask(tale).await?;
            asked = Some(tokio::time::Instant::now());
        }
        last = tale.watch.invoke(&tale.function("rotate"), &json!({"stack": STACK, "mode": "status"})).await?;
        Ok::<_, StoryError>((targets(&last).next().is_some() && is_it(&last)).then_some(()))
    });
    let found = found.await?;
    found.ok_or_else(|| StoryError::Unmet(format!("{what} was not shown within {} s: {last}", LIMIT.as_secs())))?;
    phase.note(&format!("shown: {what}"));
    Ok(last)
}

fn targets(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["status"]["targets"].as_array().into_iter().flatten()
}

fn target<'a>(answer: &'a Value, host: &Host) -> &'a Value {
    targets(answer).find(|one| one["target"] == host.id.as_str()).unwrap_or(&Value::Null)
}

fn blocks(answer: &Value) -> Vec<(String, String)> {
    let all = answer["blocks"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|block| (text(&block["code"]), text(&block["because"]))).collect()
}

/// What counts as done by Espalier so far.
async fn done(tale: &Tale) -> Result<BTreeMap<String, u64>, StoryError> {
    let mut done = tale.world.gateway.counts();
    done.retain(|operation, _| DOINGS.iter().any(|doing| operation.ends_with(doing)));
    for records in ["GENERATION#", "ATTEMPT#"] {
        let count = tale.watch.records(tale.ledger()?, STACK, records).await?.len();
        done.insert(records.to_owned(), count as u64);
    }
    let leaves = tale.world.gateway.passed().into_iter().filter(|one| one.operation == "ssm.PutParameter");
    let leaves = leaves.filter(|one| String::from_utf8_lossy(&one.request).contains("/espalier-leaf/"));
    done.insert("leaves".to_owned(), leaves.count() as u64);
    Ok(done)
}

/// The numbers were written on the way.
async fn measured(tale: &Tale) -> Result<(), StoryError> {
    let log = tale.watch.log(&tale.function("rotate")).await?;
    let lines = || log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // How many they counted depends on when the schedule looked: passes of an execution write none.
    for metric in ["StaleServed", "VerificationFailed", "DaysToExpiry"] {
        if !lines().any(|line| line[metric].is_number()) {
            return Err(StoryError::Unmet(format!("rotate wrote no {metric}")));
        }
    }
    Ok(())
}

/// Somebody else's installer, with an authority of its own: it follows ACM's serial numbers, as an agent does that fetches its
/// certificates from there.
struct Agent {
    folder: PathBuf,
    put: std::sync::Mutex<BTreeMap<PathBuf, Vec<u8>>>,
}

impl Agent {
    async fn new(tale: &Tale) -> Result<Self, StoryError> {
        let folder = tale.world.run.join("others");
        std::fs::create_dir_all(&folder).map_err(StoryError::io("making an authority of somebody else's"))?;
        let agent = Self { folder, put: std::sync::Mutex::default() };
        let root = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=theirs -keyout ca.key -out ca.pem";
        agent.openssl(root).await?;
        Ok(agent)
    }

    fn root(&self) -> Result<String, StoryError> {
        std::fs::read_to_string(self.folder.join("ca.pem")).map_err(StoryError::io("reading their root"))
    }

    /// Installs ACM's newest on a host, for this name and so many days, and restarts its server.
    async fn installs(&self, tale: &Tale, host: &Host, name: &str, days: u32) -> Result<(), StoryError> {
        let serial = tale.world.acm.serial(&tale.certificate).unwrap_or_default().replace(':', "");
        let leaf = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN={name} -CA ca.pem -CAkey ca.key \
             -set_serial 0x{serial} -addext subjectAltName=DNS:{name} -addext basicConstraints=critical,CA:FALSE -keyout \
             leaf.key -out leaf.pem"
        );
        self.openssl(&leaf).await?;
        let read = |name: &str| std::fs::read(self.folder.join(name)).map_err(StoryError::io("reading their pair"));
        hosts::put_pair(tale, host, &read("leaf.key")?, &read("leaf.pem")?).await?;
        if let Ok(mut put) = self.put.lock() {
            put.extend(files(&host.guest.certificates));
        }
        Ok(())
    }

    /// What lies on the hosts is what it put there.
    fn untouched(&self, tale: &Tale) -> Result<(), StoryError> {
        let lying = tale.world.hosts.iter().flat_map(|host| files(&host.guest.certificates)).collect();
        let put = self.put.lock().map(|put| put.clone()).unwrap_or_default();
        if put == lying {
            return Ok(());
        }
        let other = |path: &&PathBuf| put.get(*path) != lying.get(*path);
        let changed: Vec<&Path> = put.keys().chain(lying.keys()).filter(other).map(PathBuf::as_path).collect();
        Err(StoryError::Unmet(format!("files that are not Espalier's were changed: {changed:?}")))
    }

    async fn openssl(&self, line: &str) -> Result<(), StoryError> {
        let mut openssl = tokio::process::Command::new("openssl");
        openssl.args(line.split_whitespace()).current_dir(&self.folder);
        hosts::run(openssl, "openssl").await
    }
}
