//! The stand-in for ACM against moto, which nobody here wrote: the same calls to both, and every difference is listed in
//! `lab/README.md`, with who follows ACM's documents.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use espalier_lab::acm::{Acm, Kind};
use espalier_lab::events::EventRouter;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::process::Command;

/// Why the two differ; each rests on a line of documentation.
const WHY: [(&str, &str); 13] = [
    ("a token with a hyphen", "ACM: `\\w+`, 1 to 32 characters (API reference, `RequestCertificate`)"),
    ("a token of 33 characters", "the same"),
    (
        "`KeyAlgorithm` `RSA_4096`",
        "ACM: `RSA_2048`, `EC_prime256v1`, `EC_secp384r1` can be requested (ACM user guide, certificate characteristics)",
    ),
    (
        "a common name of 72 characters",
        "ACM: 64 at most (API reference, `RequestCertificate`); moto cannot make it either",
    ),
    ("a tag key `aws:a`", "ACM: `InvalidTagException` (the same page)"),
    (
        "`DescribeCertificate` at once: status",
        "ACM: `PENDING_VALIDATION` until it has seen the records (user guide, DNS validation); moto issues after a set time",
    ),
    ("at once: a serial number", "ACM: a certificate that is not issued has none"),
    ("at once: validation records", "ACM: after \"several seconds\" (API reference, `RequestCertificate`)"),
    ("`RenewalEligibility` after an export", "ACM: an export makes it `ELIGIBLE` (user guide, managed renewal)"),
    ("the serial number: pairs of hexadecimal digits", "ACM prints pairs; moto a decimal number"),
    (
        "before it is issued",
        "ACM: `RequestInProgressException` (API reference, `ExportCertificate`); moto's is issued by then",
    ),
    ("a passphrase of 3 characters", "ACM: 4 at least (the same page); moto counts the base64 characters"),
    ("a passphrase with `#`", "ACM: any ASCII character but `#`, `$`, `%` (user guide, exporting)"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Each question with both outcomes.
async fn judged() -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    // Nobody listens: there are no rules to read.
    let acm = Acm::start(EventRouter::new("http://127.0.0.1:9"), directory.path().join("acm")).await.unwrap();
    let now = OffsetDateTime::now_utc();
    let exportable = acm.issue_exportable("a.example.com", Kind::Public, now).await.unwrap();
    let plain = acm.issue("a.example.com", now);
    let python = root().join("target/judges/bin/python");
    let output = Command::new(&python)
        .arg(root().join("tests/judges/acm.py"))
        .args([format!("http://{}", acm.address()), exportable, plain])
        .output()
        .await
        .unwrap_or_else(|_| panic!("{} is missing: bash tests/run --tools", python.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shown(outcome: &Value) -> String {
    match outcome {
        Value::String(text) => format!("`{text}`"),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => format!("`{other}`"),
    }
}

#[tokio::test]
async fn every_difference_from_an_emulator_that_nobody_here_wrote_is_listed() {
    const MARK: &str = "<!-- acm emulator -->";
    let all = judged().await;
    let different: Vec<&Value> = all.iter().filter(|one| one["lab"] != one["moto"]).collect();
    let same = all.len() - different.len();
    assert!(same >= 18, "only {same} of {} are the same: {all:#?}", all.len());
    let mut list = format!(
        "{} questions, {same} with the same answer. The others:\n\n| question | here | moto 5.2.5 | what ACM's documents say |\n| --- | --- | --- | --- |\n",
        all.len()
    );
    // "..." continues the operation that was named last.
    let mut operation = String::new();
    for one in &all {
        let name = one["question"].as_str().unwrap();
        if let Some(named) = name.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            operation = named.0.to_owned();
        }
        if one["lab"] == one["moto"] {
            continue;
        }
        let bare = name.trim_start_matches("... ");
        let why = WHY.iter().find(|(question, _)| *question == bare).map(|(_, why)| *why);
        let why = why.unwrap_or_else(|| panic!("a difference nobody has explained: {one}"));
        let question = if name.starts_with('`') { bare.to_owned() } else { format!("`{operation}`: {bare}") };
        writeln!(list, "| {question} | {} | {} | {why} |", shown(&one["lab"]), shown(&one["moto"])).unwrap();
    }
    assert_eq!(different.len(), WHY.len(), "a difference is gone: take its reason out");
    let path = root().join("lab/README.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let [before, _, after] = page.split(MARK).collect::<Vec<_>>()[..] else { panic!("lab/README.md has two marks") };
    expectorate::assert_contents(path, &format!("{before}{MARK}\n{list}{MARK}{after}"));
}
