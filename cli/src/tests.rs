//! The command against a stand-in for `aws` that answers from files, and answers as they are shown.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::arguments::Arguments;
use crate::commands::{CommandError, Ending, Told, asked};
use crate::control_plane::ControlPlane;
use crate::render;

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

/// A program in `aws`' place that writes down how it was called and answers what it is told to.
struct Aws {
    folder: tempfile::TempDir,
}

impl Aws {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("aws");
        let head = format!("#!/bin/sh\nfolder='{}'\n", folder.path().display());
        let log = "printf '%s\\n' \"$*\" >>\"$folder/calls\"\n";
        // The question, and where the answer belongs: the last argument.
        let invoke = "for last in \"$@\"; do case $last in fileb://*) cat \"${last#fileb://}\" >>\"$folder/asked\" ;; esac; done\n";
        std::fs::write(&program, format!("{head}{log}{invoke}{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// Answers every invocation with this.
    fn answering(answer: &Value) -> Self {
        let answer = answer.to_string().replace('\'', "'\\''");
        let invoked = format!("case \"$*\" in \"lambda invoke \"*) printf '%s' '{answer}' >\"$last\" ;; esac");
        Self::new(&format!("{invoked}\necho '{{\"StatusCode\": 200}}'"))
    }

    fn run(&self, line: &str) -> Result<Told, CommandError> {
        let arguments = Arguments::parse_from(["espalier"].into_iter().chain(line.split_whitespace()));
        let program = self.path("aws").display().to_string();
        let plane = ControlPlane::through(&arguments.common, &program);
        asked(&plane, &arguments.command, arguments.common.json, NOW)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

fn status() -> Value {
    json!({
        "outcome": "work",
        "stack": "payments",
        "status": {
            "leaf": {
                "generation": 4, "serial": "5a01", "parameter": "/espalier-leaf/payments/shared/4", "dnsNames": ["pay.example.com"], "mintedAt": "2026-11-21T11:58:00Z",
                "notAfter": "2026-11-28T11:58:00Z", "because": "the followed ACM certificate was renewed"
            },
            "emergency": {
                "through": 3, "at": "2026-11-21T11:57:00Z", "caller": "arn:aws:sts::123456789012:assumed-role/ops/jane",
                "reason": "the key was in a public repository", "request": "8f5c", "epoch": 9
            },
            "rotation": {
                "epoch": 9, "begunAt": "2026-11-21T11:57:30Z",
                "advance": { "stage": "canary", "proven": 0, "underWay": 1, "failed": 1, "waiting": 1 }
            },
            "through": { "at": "2026-11-21T11:59:15Z", "samples": 6, "good": 5, "faults": ["TimedOut"] },
            "targets": [
                {
                    "target": "i-0aaaaaaaaaaaaaaa1", "phase": "current", "generation": 4, "endsAt": "2026-11-28T11:58:00Z",
                    "seenAt": "2026-11-21T11:59:00Z", "registered": true, "slackS": 201_600
                },
                {
                    "target": "i-0aaaaaaaaaaaaaaa2", "phase": "pausing", "because": "reloadFailed\u{1b}[31m", "generation": 3,
                    "endsAt": "2026-11-21T11:00:00Z", "seenAt": "2026-11-21T06:00:00Z", "faults": ["Expired"],
                    "registered": false, "slackS": -3_600
                },
                { "target": "i-0aaaaaaaaaaaaaaa3", "phase": "unmanaged", "because": "it never registered with Systems Manager" }
            ]
        }
    })
}

#[test]
fn status_is_a_table_worth_looking_at() {
    let told = Aws::answering(&status()).run("status payments").unwrap();
    assert_eq!(told.ending, Ending::Well);
    expectorate::assert_contents("src/golden/status.txt", &render::plain(&told.text));
}

#[test]
fn the_functions_of_the_named_control_plane_are_asked_with_the_callers_profile() {
    let aws = Aws::answering(&json!({ "outcome": "converged", "stack": "payments" }));
    let told = aws.run("plan payments --control-plane edge --profile ops --region eu-west-1").unwrap();
    assert_eq!(told.text, "provision: nothing to do\nrotate: nothing to do\n");
    let calls = aws.read("calls");
    for function in ["edge-provision", "edge-rotate"] {
        assert!(calls.contains(&format!("--function-name {function} ")), "{calls}");
    }
    assert_eq!(calls.matches("--profile ops --region eu-west-1").count(), 2, "{calls}");
    assert_eq!(aws.read("asked"), r#"{"mode":"plan","stack":"payments"}"#.repeat(2));
}

#[test]
fn every_command_asks_its_function_and_ends_as_the_answer_says() {
    let blocked = json!({
        "outcome": "blocked", "stack": "payments", "blocks": [{ "code": "SlackTooShort", "because": "too late" }],
        "findings": [{ "pitfall": "no-targets", "problem": "tg-1 is empty", "remedy": "start an instance" }]
    });
    for (line, function, asked) in [
        ("rotate payments", "espalier-rotate", json!({ "stack": "payments", "mode": "apply" })),
        ("rotate payments --verify", "espalier-rotate", json!({ "stack": "payments", "mode": "verify" })),
        (
            "check payments --min-slack 2",
            "espalier-rotate",
            json!({ "stack": "payments", "mode": "check", "min_slack_days": 2 }),
        ),
        ("diagnose payments", "espalier-provision", json!({ "stack": "payments", "mode": "diagnose" })),
        ("status payments", "espalier-rotate", json!({ "stack": "payments", "mode": "status" })),
    ] {
        let aws = Aws::answering(&blocked);
        let told = aws.run(line).unwrap();
        assert_eq!(told.ending, Ending::Attention, "{line}");
        assert!(told.text.contains("SlackTooShort: too late"), "{line}: {}", told.text);
        assert!(aws.read("calls").contains(&format!("--function-name {function} ")), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&aws.read("asked")).unwrap(), asked, "{line}");
        let raw = Aws::answering(&blocked).run(&format!("{line} --json")).unwrap();
        let raw: Value = serde_json::from_str(&raw.text).unwrap();
        assert!(raw == blocked || raw["payments"] == blocked, "{raw}");
    }
}

#[test]
fn an_emergency_says_who_asks_and_why() {
    let arn = "arn:aws:sts::123456789012:assumed-role/ops/jane";
    let answer = json!({
        "outcome": "work", "stack": "payments",
        "steps": [{ "wave": 1, "action": "! Emergency, generation 3 and before", "because": "jane: leaked" }]
    });
    let who = format!(r#"case "$*" in sts*) echo '"{arn}"'; exit 0 ;; esac"#);
    let aws = Aws::new(&format!("{who}\nprintf '%s' '{answer}' >\"$last\"\necho '{{}}'"));
    let told = aws.run("emergency payments --reason leaked --generation 3 --profile ops").unwrap();
    assert_eq!(told.ending, Ending::Well);
    assert!(told.text.contains("! Emergency, generation 3 and before"), "{}", told.text);
    let asked: Value = serde_json::from_str(&aws.read("asked")).unwrap();
    let wanted =
        json!({ "stack": "payments", "mode": "emergency", "caller": arn, "reason": "leaked", "generation": 3 });
    assert_eq!(asked, wanted);
    assert_eq!(aws.read("calls").matches("--profile ops").count(), 2);
    // Who cannot say who they are asks for nothing.
    let nobody = Aws::new("echo 'Unable to locate credentials' >&2; exit 253");
    assert!(nobody.run("emergency payments --reason leaked").is_err());
    assert_eq!(nobody.read("asked"), "");
}

#[test]
fn what_is_said_of_an_authority_says_who_says_it() {
    let arn = "arn:aws:sts::123456789012:assumed-role/ops/jane";
    let answer = json!({
        "outcome": "blocked", "blocks": [{ "code": "Unacknowledged", "because": "authority b is not activated" }],
        "waits": ["clients that nobody registered"], "bundle": "5a01", "authorities": [
            { "authority": "0", "phase": "retiring", "notAfter": "2027-11-21T12:00:00Z", "tainted": true },
            { "authority": "a", "phase": "active", "notAfter": "2031-11-21T12:00:00Z" },
            { "authority": "b", "phase": "prepared", "notAfter": "2036-11-21T12:00:00Z", "missing": ["batch"] }
        ]
    });
    let who = format!(r#"case "$*" in sts*) echo '"{arn}"'; exit 0 ;; esac"#);
    for (line, asked) in [
        ("authority status", json!({ "mode": "status" })),
        ("authority prepare", json!({ "mode": "prepare", "caller": arn })),
        (
            "authority acknowledge batch --authority b --bundle 5a01",
            json!({ "mode": "acknowledge", "authority": "b", "verifier": "batch", "bundle": "5a01", "days": 30, "caller": arn }),
        ),
        (
            "authority activate b --reason lost",
            json!({ "mode": "activate", "authority": "b", "reason": "lost", "caller": arn }),
        ),
        (
            "authority taint 0 --reason lost",
            json!({ "mode": "taint", "authority": "0", "reason": "lost", "caller": arn }),
        ),
        (
            "authority retire a --reason lost",
            json!({ "mode": "retire", "authority": "a", "reason": "lost", "caller": arn }),
        ),
    ] {
        let aws = Aws::new(&format!("{who}\nprintf '%s' '{answer}' >\"$last\"\necho '{{}}'"));
        let told = aws.run(line).unwrap();
        assert_eq!(told.ending, Ending::Attention, "{line}");
        expectorate::assert_contents("src/golden/authority.txt", &told.text);
        assert!(aws.read("calls").contains("--function-name espalier-authority "), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&aws.read("asked")).unwrap(), asked, "{line}");
    }
}

#[test]
fn without_a_name_every_stack_that_has_a_spec_is_asked_about() {
    let answer = json!({ "outcome": "converged", "forecast": { "min_slack_s": 200_000 } });
    let list = r#"case "$*" in ssm*) echo '["/espalier-spec/zebra", "/espalier-spec/payments", "/espalier-spec/No_Stack"]'; exit 0 ;; esac"#;
    let aws = Aws::new(&format!("{list}\nprintf '%s' '{answer}' >\"$last\"\necho '{{}}'"));
    let told = aws.run("check --min-slack 1").unwrap();
    assert_eq!(told.text, "payments: at least 1 day of slack: 2 d 7 h\n\nzebra: at least 1 day of slack: 2 d 7 h\n");
}

#[test]
fn what_went_wrong_is_said_in_one_line() {
    let told = |script: &str| espalier_domain::failure::chain(&Aws::new(script).run("rotate payments").unwrap_err());
    let denied = told("echo; echo 'An error occurred (AccessDeniedException)' >&2; exit 254");
    assert_eq!(denied, "aws lambda invoke: An error occurred (AccessDeniedException)");
    let failed = "printf '{\"errorType\": \"Busy\", \"errorMessage\": \"throttled\"}' >\"$last\"; echo '{\"FunctionError\": \"Unhandled\"}'";
    assert_eq!(told(failed), "espalier-rotate failed with Busy: throttled");
    let other = told("printf '{\"outcome\": \"enlightened\"}' >\"$last\"; echo '{}'");
    assert!(
        other.starts_with("the answer of rotate cannot be read; is the control plane of another version?"),
        "{other}"
    );
}

#[test]
fn specs_are_checked_as_the_control_plane_checks_them() {
    let aws = Aws::new("exit 1");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let recipe = folder.join("recipe.json");
    let good = aws.run(&format!("validate {} --allowed-domains example.com", recipe.display())).unwrap();
    assert_eq!((good.ending, good.text), (Ending::Well, format!("{}: valid\n", recipe.display())));
    let elsewhere = aws.run(&format!("validate {} --allowed-domains example.org", recipe.display())).unwrap();
    assert_eq!(elsewhere.ending, Ending::Attention);
    assert!(elsewhere.text.contains("/service/domainName"), "{}", elsewhere.text);
    std::fs::write(aws.path("bad.json"), "[]").unwrap();
    let several = format!(
        "validate {} {} --allowed-domains example.com --json",
        aws.path("bad.json").display(),
        aws.path("no.json").display()
    );
    let several = aws.run(&several).unwrap();
    let mistakes: Value = serde_json::from_str(&several.text).unwrap();
    assert!(mistakes.as_object().unwrap().values().all(|list| !list.as_array().unwrap().is_empty()), "{mistakes}");
    assert_eq!(aws.read("calls"), "", "AWS was asked");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for line in [
        "",
        "plan",
        "plan No_Stack",
        "check payments",
        "check payments --min-slack -1",
        "validate spec.json",
        "status payments --control-plane a;b",
        "authority",
        "authority acknowledge Batch --authority b --bundle 5a01",
        "authority activate b",
        "emergency payments",
        "emergency payments --reason",
        "emergency payments --reason leaked --generation 0",
        "emergency payments --reason leaked --generation newest",
        "evidence show",
        "evidence show copy --expires-before soon",
    ] {
        let parsed = Arguments::try_parse_from(["espalier"].into_iter().chain(line.split_whitespace()));
        assert!(parsed.is_err(), "{line}");
    }
}

/// What `seal` answers.
fn sealed() -> Value {
    json!({
        "outcome": "converged", "bucket": "espalier-evidence-1", "key": "arn:aws:kms:eu-west-1:1:key/5",
        "heads": [{ "chain": "stacks/payments", "number": 3, "hash": "5a" }, { "chain": "plane", "number": 4, "hash": "5b" }],
        "steps": [{ "wave": 1, "action": "+ Segment plane 4", "because": "2 rows since the last one" }]
    })
}

#[test]
fn the_evidence_is_sealed_copied_and_its_key_printed_with_the_callers_credentials() {
    let aws = Aws::answering(&sealed());
    let told = aws.run("evidence seal --profile ops").unwrap();
    let heads = "s3://espalier-evidence-1, sealed by arn:aws:kms:eu-west-1:1:key/5\nstacks/payments:3:5a\nplane:4:5b\n";
    assert_eq!(told.text, format!("{heads}  + Segment plane 4  (2 rows since the last one)\n"));
    assert_eq!(aws.read("asked"), r#"{"mode":"seal"}"#);
    let aws = Aws::answering(&sealed());
    let copy = aws.path("copy");
    let told = aws.run(&format!("evidence fetch {} --profile ops", copy.display())).unwrap();
    assert!(told.text.starts_with(heads), "{}", told.text);
    let calls = aws.read("calls");
    let asked = format!("s3 sync s3://espalier-evidence-1/ {} --only-show-errors", copy.display());
    assert!(calls.contains(&format!("{asked} --output json --profile ops\n")), "{calls}");
    assert_eq!(aws.read("asked"), r#"{"mode":"status"}"#);
    let key = format!(r#"case "$*" in kms*key/5*) echo '"{}"'; exit 0 ;; esac"#, "A".repeat(100));
    let answer = sealed();
    let aws = Aws::new(&format!("{key}\nprintf '%s' '{answer}' >\"$last\"\necho '{{}}'"));
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", "A".repeat(64), "A".repeat(36));
    assert_eq!(aws.run("evidence key").unwrap().text, pem);
}

#[test]
fn a_copy_of_the_evidence_is_listed_without_asking_anybody() {
    use espalier_domain::inventory::{Chain, Draft, Facts, Seal};
    let aws = Aws::new("exit 1");
    let record = |generation: u32, name: &str| {
        serde_json::from_value(json!({
            "scope": "shared", "generation": generation, "parameter": "/espalier-leaf/payments/shared/1", "serial": "5a01",
            "fingerprint": "ab".repeat(32), "dnsNames": [name], "notBefore": "2026-11-21T11:55:00Z",
            "notAfter": "2026-11-28T12:00:00Z", "mintedAt": "2026-11-21T12:00:00Z", "authority": "a0a1a2a3a4a5a6a7",
            "because": "missing"
        }))
        .unwrap()
    };
    let seen = serde_json::from_value(json!({
        "target": "i-0aaaaaaaaaaaaaaa1", "generation": 2, "at": "2026-11-21T12:05:00Z",
        "verdict": {
            "fingerprint": "ab".repeat(32), "faults": [],
            "tls": { "protocol": "TLSv1.3", "suite": "TLS_AES_256_GCM_SHA384", "alpn": "h2", "versions": ["TLSv1.2", "TLSv1.3"] }
        }
    }))
    .unwrap();
    let generations = vec![record(1, "old.example.com"), record(2, "pay.example.com")];
    let facts = Facts { generations, sightings: vec![seen], ..Facts::default() };
    let chain: Chain = "stacks/payments".parse().unwrap();
    let draft = Draft::new(&chain, None, &facts, NOW).unwrap();
    let seal = Seal { algorithm: "ECDSA_SHA_256".into(), key: "arn".into(), signature: "AA==".into() };
    let path = aws.path("copy").join(draft.place().name());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, draft.sealed(&seal).unwrap()).unwrap();
    let copy = aws.path("copy");
    let shown = |more: &str| aws.run(&format!("evidence show {} {more}", copy.display())).unwrap().text;
    expectorate::assert_contents("src/golden/evidence.txt", &format!("{}\n{}", shown(""), shown("--list handshakes")));
    assert_eq!(shown("--csv").lines().count(), 3);
    assert_eq!(shown("--csv --name old.example.com").lines().count(), 2);
    assert_eq!(shown("--csv --expires-before 2026-11-28").lines().count(), 1);
    assert_eq!(shown("--csv --expires-before 2026-11-28T12:00:01Z").lines().count(), 3);
    assert!(shown("--list handshakes --csv").contains("TLSv1.3,TLS_AES_256_GCM_SHA384"));
    assert_eq!(shown("--target i-0aaaaaaaaaaaaaaa2"), "0 certificates\n");
    let all: Value = serde_json::from_str(&shown("--json --issuer a0a1a2a3a4a5a6a7")).unwrap();
    assert_eq!(all["certificates"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["heads"][0]["number"], 1);
    assert_eq!(aws.read("calls"), "", "AWS was asked");
    // What is not what was sealed is not shown as if it were.
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("pay.", "pax.")).unwrap();
    let error = aws.run(&format!("evidence show {}", copy.display())).unwrap_err();
    assert!(espalier_domain::failure::chain(&error).contains("holds other rows than were sealed"));
    assert!(aws.run(&format!("evidence show {}", aws.path("nothing").display())).is_err());
}
