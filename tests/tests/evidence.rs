//! A copy of the evidence before a judge that shares no code with the product: `evidence/verify.py`. The production code makes the
//! segments, openssl seals them with real keys, and whatever is done to a copy afterwards is found and named.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use espalier_domain::id::StackName;
use espalier_domain::inventory::{Chain, Draft, Facts, Head, Place, Seal, Segment};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const START: OffsetDateTime = datetime!(2026-01-22 12:00 UTC);

/// The bucket, and the keys.
struct Copy {
    folder: TempDir,
    heads: Vec<Head>,
}

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").current_dir(folder).args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn chain(stack: &str) -> Chain {
    Chain::Stack(StackName::parse(stack).unwrap())
}

/// What the ledger has after so many generations.
fn ledger(generations: u32) -> Facts {
    let record = |number: u32| {
        serde_json::from_value(json!({
            "scope": "shared", "generation": number, "parameter": format!("/espalier-leaf/payments/shared/{number}"),
            "serial": format!("{number:x}"), "fingerprint": format!("{number:064x}"), "dnsNames": ["pay.example.com"],
            "notBefore": "2026-11-22T11:55:00Z", "notAfter": "2026-11-29T12:00:00.123456789Z",
            "mintedAt": "2026-11-22T12:00:00.5Z", "authority": "a0", "spec": { "version": 3, "digest": "5a" },
            "keyType": "EC_prime256v1", "because": "Grüße \"quoted\"\u{7f}\n"
        }))
        .unwrap()
    };
    let seen = |target: u32| {
        serde_json::from_value(json!({
            "target": format!("i-{target:017x}"), "generation": generations, "at": "2026-11-22T18:00:00Z",
            "verdict": { "fingerprint": format!("{generations:064x}"), "faults": [] }
        }))
        .unwrap()
    };
    Facts {
        generations: (1..=generations).map(record).collect(),
        sightings: (1..=3).map(seen).collect(),
        ..Facts::default()
    }
}

impl Copy {
    /// Two stacks, five segments and three, and the control plane's five, as the function makes them.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ours", "theirs"] {
            openssl(folder.path(), &format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
            openssl(folder.path(), &format!("pkey -in {name}.key -pubout -out {name}.pem"));
        }
        let mut copy = Self { folder, heads: Vec::new() };
        copy.fill("ours");
        copy
    }

    fn fill(&mut self, key: &str) {
        let (mut payments, mut shop, mut plane) = (None, None, None);
        for day in 1..=5_u32 {
            let now = START + Duration::days(i64::from(day)) + Duration::nanoseconds(i64::from(day) * 1_000_001);
            payments = Some(self.seal(key, &chain("payments"), payments.as_ref(), &ledger(day * 2), now));
            if day <= 3 {
                shop = Some(self.seal(key, &chain("shop"), shop.as_ref(), &ledger(day), now));
            }
            let heads: Vec<Head> = payments.iter().chain(&shop).map(Segment::head).collect();
            plane = Some(self.seal(key, &Chain::Plane, plane.as_ref(), &Facts { heads, ..Facts::default() }, now));
        }
        self.heads = [payments, shop, plane].into_iter().flatten().map(|segment| segment.head()).collect();
    }

    fn seal(&self, key: &str, chain: &Chain, last: Option<&Segment>, facts: &Facts, now: OffsetDateTime) -> Segment {
        let draft = Draft::new(chain, last, facts, now).unwrap();
        let folder = self.folder.path();
        std::fs::write(folder.join("signed"), draft.signed()).unwrap();
        openssl(folder, &format!("dgst -sha256 -sign {key}.key -out signature signed"));
        let signature = STANDARD.encode(std::fs::read(folder.join("signature")).unwrap());
        let seal = Seal { algorithm: "ECDSA_SHA_256".into(), key: "arn".into(), signature };
        let (text, path) = (draft.sealed(&seal).unwrap(), self.path(&draft.place().name()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &text).unwrap();
        Segment::parse(&draft.place(), &text).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("copy").join(name)
    }

    fn stack(&self, stack: &str, number: u32) -> PathBuf {
        self.path(&Place { chain: chain(stack), number }.name())
    }

    /// Changes a segment's lines; the first two are the header and the seal.
    fn edit(&self, number: u32, change: impl FnOnce(&mut Vec<String>)) {
        let path = self.stack("payments", number);
        let mut lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        change(&mut lines);
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }

    /// The exit code, and what was said.
    fn judged(&self, more: &[String]) -> (i32, String) {
        let script = espalier_tests::root().join("evidence/verify.py");
        let (copy, key) = (self.folder.path().join("copy"), self.folder.path().join("ours.pem"));
        let output = Command::new("python3").arg(script).arg(copy).arg("--key").arg(key).args(more).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    }

    fn noted(&self) -> Vec<String> {
        self.heads
            .iter()
            .flat_map(|head| ["--head".to_owned(), format!("{}:{}:{}", head.chain, head.number, head.hash)])
            .collect()
    }

    #[track_caller]
    fn is_found(&self, finding: &str) {
        let (code, said) = self.judged(&[]);
        assert!(code == 1 && said.lines().any(|line| line.starts_with(finding)), "{finding:?} is not in\n{said}");
    }
}

#[test]
fn what_was_sealed_is_found_whole() {
    let copy = Copy::new();
    let (code, said) = copy.judged(&copy.noted());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("ok: stacks/payments: 5 segments, 30 rows, until 2026-01-27T12:00:00.005000005Z"), "{said}");
    let head = copy.heads.iter().find(|head| head.chain == Chain::Plane).unwrap();
    assert!(said.contains(&format!("--head plane:5:{}", head.hash)), "{said}");
}

#[test]
fn an_edited_record_is_named() {
    let copy = Copy::new();
    copy.edit(2, |lines| lines[2] = lines[2].replace("pay.example.com", "pay.example.org"));
    copy.is_found("edited: stacks/payments 2: its rows are other ones than were sealed");
    // Whoever corrects the header's hash, too, has no seal for it.
    copy.edit(2, |lines| {
        let body: String = lines[2..].iter().map(|line| format!("{line}\n")).collect();
        let mut header: Value = serde_json::from_str(&lines[0]).unwrap();
        header["rows"] = espalier_domain::token::sha256(&body).into();
        lines[0] = header.to_string();
    });
    copy.is_found("edited: stacks/payments 2: its header is not what was sealed");
    copy.is_found("reordered: stacks/payments 3: the segment before it is not the one that it follows");
}

#[test]
fn a_header_in_other_words_is_named() {
    let copy = Copy::new();
    copy.edit(5, |lines| lines[0] = lines[0].replace("\"count\":6", "\"count\": 6"));
    copy.is_found("edited: stacks/payments 5: its header is not written as it was sealed");
    copy.edit(4, |lines| lines[1] = "{}".into());
    copy.is_found("edited: stacks/payments 4: its header or its seal cannot be read");
}

#[test]
fn what_is_no_header_is_named_whatever_it_is() {
    for (from, to) in [
        ("\"count\":", "\"count\":[],\"x\":"),
        ("\"number\":", "\"number\":\"1\",\"x\":"),
        ("\"until\":\"", "\"until\":\"soon"),
        ("\"until\":", "\"until\":\"2026-01-27T12:00:00\",\"x\":"),
    ] {
        let copy = Copy::new();
        copy.edit(5, |lines| lines[0] = lines[0].replacen(from, to, 1));
        copy.is_found("edited: stacks/payments 5: its header is none of format 1");
    }
}

#[test]
fn a_deleted_record_is_named() {
    let copy = Copy::new();
    copy.edit(3, |lines| drop(lines.remove(3)));
    copy.is_found("deleted: stacks/payments 3: rows [2] are missing");
    std::fs::remove_file(copy.stack("payments", 2)).unwrap();
    copy.is_found("deleted: stacks/payments: segments [2] are missing");
    copy.is_found("inconsistent: stacks/payments 3: generation 5 follows generation 2");
}

#[test]
fn an_added_record_is_named() {
    let copy = Copy::new();
    copy.edit(3, |lines| lines.push(lines[2].replace("\"row\":1,", "\"row\":7,")));
    copy.is_found("added: stacks/payments 3: it has 7 rows and 6 were sealed");
    std::fs::write(copy.path("stacks/payments/notes.txt"), "").unwrap();
    copy.is_found("added: stacks/payments: notes.txt is no segment");
    std::fs::create_dir(copy.path("stacks/other")).unwrap();
    std::fs::copy(copy.stack("payments", 1), copy.path("stacks/other/00000001.jsonl")).unwrap();
    copy.is_found("added: stacks/other: the control plane's chain has never heard of it");
    copy.is_found("reordered: stacks/other 1: it is segment 1 of stacks/payments");
}

#[test]
fn a_leaf_that_cannot_be_is_named() {
    let copy = Copy::new();
    let leaf =
        |generation: u32| json!({"kind": "leaf", "scope": "i-0a", "generation": generation, "row": 7}).to_string();
    copy.edit(3, |lines| lines.extend([leaf(9), leaf(1), leaf(1)]));
    copy.is_found("inconsistent: stacks/payments 3: i-0a's own leaf of generation 9 is there before it");
    copy.is_found("inconsistent: stacks/payments 3: i-0a's own leaf of generation 1 is there twice");
}

#[test]
fn reordered_records_are_named() {
    let copy = Copy::new();
    copy.edit(4, |lines| lines.swap(2, 4));
    copy.is_found("reordered: stacks/payments 4: rows [1, 3] are not where they were sealed");
    let (second, third, aside) = (copy.stack("payments", 2), copy.stack("payments", 3), copy.path("aside"));
    for (from, to) in [(&second, &aside), (&third, &second), (&aside, &third)] {
        std::fs::rename(from, to).unwrap();
    }
    copy.is_found("reordered: stacks/payments 2: it is segment 3 of stacks/payments");
    copy.is_found("reordered: stacks/payments 3: it is segment 2 of stacks/payments");
}

#[test]
fn a_truncated_chain_is_named_by_the_other_chain_and_by_whoever_noted_its_head() {
    let copy = Copy::new();
    copy.edit(5, |lines| lines.truncate(5));
    copy.is_found("truncated: stacks/payments 5: it ends after row 3 of 6");
    std::fs::remove_file(copy.stack("payments", 5)).unwrap();
    copy.is_found("truncated: stacks/payments: plane 5 names segment 5, and the newest is 4");
    std::fs::remove_dir_all(copy.path("stacks/shop")).unwrap();
    copy.is_found("deleted: stacks/shop: the whole chain is missing, which plane 1 names");

    // All chains cut at the same day are whole, as far as they go: only what was noted elsewhere, and the calendar, know better.
    let copy = Copy::new();
    std::fs::remove_file(copy.stack("payments", 5)).unwrap();
    std::fs::remove_file(copy.path(&Place { chain: Chain::Plane, number: 5 }.name())).unwrap();
    assert_eq!(copy.judged(&[]).0, 0);
    let (code, said) = copy.judged(&copy.noted());
    assert_eq!(code, 1);
    for chain in ["plane", "stacks/payments"] {
        let finding = format!("truncated: {chain}: the head noted elsewhere names segment 5, and the newest is 4");
        assert!(said.contains(&finding), "{said}");
    }
    let (code, said) = copy.judged(&["--newest-within".into(), "0.001".into()]);
    assert!(code == 1 && said.contains("truncated: plane: nothing was sealed in the last 0.001 hours"), "{said}");
}

#[test]
fn a_copy_that_was_rewritten_as_a_whole_is_named() {
    let mut copy = Copy::new();
    let noted = copy.noted();
    std::fs::remove_dir_all(copy.path("")).unwrap();
    copy.fill("theirs");
    for chain in ["plane", "stacks/payments", "stacks/shop"] {
        copy.is_found(&format!("rewritten: {chain}: none of its segments is sealed by a key that was given"));
    }
    // The records are the same, and so are the heads: it is the seals alone that tell.
    assert!(!copy.judged(&noted).1.contains("the head noted elsewhere"));

    // One stack rewritten by somebody who holds the sealing key is not what the control plane's chain and the notes say.
    let copy = Copy::new();
    let (mut last, now) = (None, START + Duration::days(1));
    for day in 1..=5_u32 {
        let at = now + Duration::hours(i64::from(day));
        last = Some(copy.seal("ours", &chain("payments"), last.as_ref(), &ledger(day), at));
    }
    copy.is_found("rewritten: stacks/payments 1: it is not the one that plane 1 names");
    assert!(
        copy.judged(&copy.noted()).1.contains("rewritten: stacks/payments 5: it is not the one that the head noted")
    );
}

#[test]
fn the_judge_says_when_it_cannot_look() {
    let copy = Copy::new();
    std::fs::remove_file(copy.folder.path().join("ours.pem")).unwrap();
    assert_eq!(copy.judged(&[]).0, 2);
    let copy = Copy::new();
    std::fs::remove_dir_all(copy.path("plane")).unwrap();
    copy.is_found("deleted: plane: the control plane's own chain is missing");
}
