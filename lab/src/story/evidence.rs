//! The scenario of evidence: what the ledger remembers is sealed, copied with the operator's own command, and judged by the
//! script that shares no code with the product. Everything that is done to a copy is named, and the bucket lets nothing go.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::cli::{Cli, CliError};
use super::command::{espalier, text};
use super::repair::{renew, settled};
use super::{STACK, StoryError, Tale, deploy};
use crate::ui::{Phase, Ui};

/// Tells the scenario.
pub(super) async fn told(tale: &Tale, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("evidence");
    let espalier = espalier(tale);
    sealed(&espalier).await?;
    renew(tale).await;
    settled(tale, &phase).await?;
    let heads = sealed(&espalier).await?;
    let copy = tale.world.run.join("evidence");
    text(&espalier, &["evidence", "fetch", &copy.display().to_string()]).await?;
    let key = tale.world.run.join("sealing-key.pem");
    std::fs::write(&key, text(&espalier, &["evidence", "key"]).await?).map_err(StoryError::io("writing the key"))?;
    let (code, said) = judged(&copy, &key, &heads).await?;
    if code != 0 {
        return Err(StoryError::Unmet(format!("a copy that nobody touched is refused: {said}")));
    }
    let certificates = inventory(tale, &espalier, &copy).await?;
    kept(tale, &phase).await?;
    let named = tampered(&copy, &key, &heads, &phase).await?;
    phase.done(&format!(
        "{certificates} certificates of {} chains, found whole by evidence/verify.py; {named} ways to change a copy, each named",
        heads.len()
    ));
    Ok(())
}

/// Seals; the heads that the operator would note elsewhere.
async fn sealed(espalier: &Cli) -> Result<Vec<String>, StoryError> {
    let said = text(espalier, &["evidence", "seal"]).await?;
    let of_chain = |line: &&str| line.starts_with("stacks/") || line.starts_with("plane:");
    let heads: Vec<String> = said.lines().filter(of_chain).map(str::to_owned).collect();
    for chain in [&format!("stacks/{STACK}:")[..], "plane:"] {
        if !heads.iter().any(|head| head.starts_with(chain)) || !said.contains("+ Segment plane ") {
            return Err(StoryError::Unmet(format!("`espalier evidence seal` does not tell of {chain}: {said}")));
        }
    }
    Ok(heads)
}

/// What the judge says of a copy, and how it ends.
async fn judged(copy: &Path, key: &Path, heads: &[String]) -> Result<(i32, String), StoryError> {
    let mut judge = Command::new("python3");
    judge.arg(deploy::workspace()?.join("evidence/verify.py")).arg(copy).arg("--key").arg(key);
    for head in heads {
        judge.args(["--head", head]);
    }
    let output = judge.output().await.map_err(StoryError::io("running evidence/verify.py"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code().unwrap_or(-1), said))
}

/// The inventory is the ledger's: every leaf is in it, shared or a target's own, and the newest is what every target was seen to serve, with what
/// was negotiated. How many certificates there are.
async fn inventory(tale: &Tale, espalier: &Cli, copy: &Path) -> Result<usize, StoryError> {
    let all = espalier.run(&["evidence", "show", &copy.display().to_string(), "--json"]).await?;
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    // What leaves that are each target's own have in common is no certificate.
    let issued = generations.iter().filter(|one| !one.fingerprint.is_empty()).count();
    let of_stack = |list: &str| -> Vec<Value> {
        all[list].as_array().into_iter().flatten().filter(|one| one["stack"] == STACK).cloned().collect()
    };
    let certificates = of_stack("certificates");
    // Who has left may have been seen last when nobody answered any more.
    let is_here = |one: &Value| tale.world.hosts.iter().any(|host| one["target"] == host.id.as_str());
    let handshakes: Vec<Value> = of_stack("handshakes").into_iter().filter(is_here).collect();
    let newest = certificates.last().cloned().unwrap_or_default();
    let serving = newest["servedBy"].as_array().map_or(0, Vec::len);
    let is_told = |one: &Value| {
        one["protocol"].as_str().is_some_and(|protocol| protocol.starts_with("TLSv1."))
            && one["suite"].as_str().is_some_and(|suite| suite.starts_with("TLS_"))
    };
    let has_author = newest["caller"].as_str().is_some_and(|caller| caller.starts_with("arn:"));
    let targets = tale.world.hosts.len();
    let is_whole = certificates.len() == issued && serving == targets && newest["standing"] == "current";
    if !is_whole || !has_author || handshakes.len() != targets || !handshakes.iter().all(is_told) {
        return Err(StoryError::Unmet(format!(
            "of {issued} leaves and {targets} targets the inventory has {} and {serving}: {newest}, {handshakes:?}",
            certificates.len(),
        )));
    }
    Ok(certificates.len())
}

/// The lock that the template asks for holds: nobody deletes a segment's version.
async fn kept(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    let (aws, bucket) = (tale.world.aws(), deploy::output(&tale.plane, "EvidenceBucket")?);
    let key = "plane/00000001.jsonl";
    let versions = aws.run(&["s3api", "list-object-versions", "--bucket", bucket, "--prefix", key]).await?;
    let version = versions["Versions"][0]["VersionId"].as_str().unwrap_or_default().to_owned();
    let delete = ["s3api", "delete-object", "--bucket", bucket, "--key", key, "--version-id", &version];
    match aws.run(&delete).await {
        Err(CliError::Failed { output, .. }) if output.contains("AccessDenied") => {
            phase.note("deleting a sealed segment is refused: it is locked");
            Ok(())
        }
        other => Err(StoryError::Unmet(format!("a locked segment's version {version} was to be kept: {other:?}"))),
    }
}

/// A change of a copy, and the word by which it has to be named.
type Change = (&'static str, fn(&Path) -> std::io::Result<()>);

const CHANGES: [Change; 4] = [
    ("edited: ", |chain| {
        rewrite(&chain.join("00000001.jsonl"), |text| text.replacen("\"serial\":\"", "\"serial\":\"0", 1))
    }),
    ("deleted: ", |chain| std::fs::remove_file(chain.join("00000001.jsonl"))),
    ("reordered: ", |chain| std::fs::rename(newest(chain)?, chain.join("00000001.jsonl"))),
    ("truncated: ", |chain| std::fs::remove_file(newest(chain)?)),
];

/// How many changes were named.
async fn tampered(copy: &Path, key: &Path, heads: &[String], phase: &Phase) -> Result<usize, StoryError> {
    let aside = copy.with_extension("tampered");
    for (word, change) in CHANGES {
        let io = StoryError::io("changing a copy of the evidence");
        changed(copy, &aside, change).map_err(io)?;
        let (code, said) = judged(&aside, key, heads).await?;
        let found = said.lines().find(|line| line.starts_with(word) && line.contains(STACK));
        match found {
            Some(line) if code == 1 => phase.note(line),
            Some(_) | None => return Err(StoryError::Unmet(format!("a copy was {word}and this is said: {said}"))),
        }
    }
    // Somebody else's key, in place of the one that KMS has.
    let other = copy.with_extension("other.pem");
    let command = format!(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -pubout -out '{}'",
        other.display()
    );
    let made = Command::new("sh").args(["-c", &command]).output().await;
    made.map_err(StoryError::io("making another key"))?;
    let (code, said) = judged(copy, &other, &[]).await?;
    if code != 1 || !said.contains("rewritten: plane: ") {
        return Err(StoryError::Unmet(format!("sealed by another key, and this is said: {said}")));
    }
    Ok(CHANGES.len() + 1)
}

fn changed(copy: &Path, aside: &Path, change: fn(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    if aside.exists() {
        std::fs::remove_dir_all(aside)?;
    }
    copied(copy, aside)?;
    change(&aside.join("stacks").join(STACK))
}

fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)?.flatten() {
        let (path, there) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copied(&path, &there)? } else { std::fs::copy(&path, &there).map(drop)? }
    }
    Ok(())
}

fn rewrite(path: &Path, edit: impl FnOnce(String) -> String) -> std::io::Result<()> {
    std::fs::write(path, edit(std::fs::read_to_string(path)?))
}

fn newest(chain: &Path) -> std::io::Result<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(chain)?.flatten().map(|entry| entry.path()).collect();
    all.sort();
    all.pop().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
}
