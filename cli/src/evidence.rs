//! The evidence: where it is, a copy of it, and what a copy says. Whether a copy is whole is not said here: that is
//! `evidence/verify.py`'s, which shares no code with this.

use std::path::{Path, PathBuf};

use comfy_table::{Table, presets};
use espalier_domain::inventory::{Certificate, Damage, Filter, Handshake, Place, Segment, Trusted, View, csv, json};
use espalier_domain::spoken::count;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::{EvidenceWord, List, Show};
use crate::commands::{CommandError, Ending, Told, pretty};
use crate::control_plane::ControlPlane;

/// Digits of a serial number or a fingerprint that are shown; all of them are in JSON and CSV.
const DIGITS: usize = 16;

/// Characters of a line in PEM.
const LINE: usize = 64;

/// Why a copy of the evidence cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// There is no copy.
    #[error("{} holds no evidence; `espalier evidence fetch` makes a copy", .0.display())]
    Empty(PathBuf),
    /// It is damaged.
    #[error("the copy is damaged; `evidence/verify.py` says more")]
    Damaged(#[from] Damage),
}

/// What `seal` answers.
#[derive(Deserialize)]
struct Answer {
    bucket: String,
    key: String,
    #[serde(default)]
    heads: Vec<Head>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Head {
    chain: String,
    number: u32,
    hash: String,
}

#[derive(Deserialize)]
struct Step {
    action: String,
    because: String,
}

/// Runs a command about evidence.
pub(crate) fn evidence(plane: &ControlPlane<'_>, word: &EvidenceWord, as_json: bool) -> Result<Told, CommandError> {
    match word {
        EvidenceWord::Status => told(plane, "status", as_json),
        EvidenceWord::Seal => told(plane, "seal", as_json),
        EvidenceWord::Key => Ok(well(pem(&plane.public_key(&asked(plane, "status")?.1.key)?))),
        EvidenceWord::Fetch { directory } => {
            let (raw, answer) = asked(plane, "status")?;
            plane.copy(&answer.bucket, directory)?;
            Ok(well(if as_json { pretty(&raw) } else { fetched(directory, &answer) }))
        }
        EvidenceWord::Show(show) => shown(show, as_json),
    }
}

fn well(text: String) -> Told {
    Told { text, ending: Ending::Well }
}

fn asked(plane: &ControlPlane<'_>, mode: &str) -> Result<(Value, Answer), CommandError> {
    let raw: Value = plane.ask("seal", &json!({ "mode": mode }))?;
    let answer = Answer::deserialize(&raw).map_err(|source| CommandError::Answer { function: "seal", source })?;
    Ok((raw, answer))
}

fn told(plane: &ControlPlane<'_>, mode: &str, as_json: bool) -> Result<Told, CommandError> {
    let (raw, answer) = asked(plane, mode)?;
    if as_json {
        return Ok(well(pretty(&raw)));
    }
    let steps = answer.steps.iter().map(|step| format!("  {}  ({})\n", step.action, step.because));
    Ok(well(format!("{}{}", heads(&answer), steps.collect::<String>())))
}

/// What to note elsewhere.
fn heads(answer: &Answer) -> String {
    let lines = answer.heads.iter().map(|Head { chain, number, hash }| format!("{chain}:{number}:{hash}\n"));
    format!("s3://{}, sealed by {}\n{}", answer.bucket, answer.key, lines.collect::<String>())
}

fn fetched(directory: &Path, answer: &Answer) -> String {
    let copy = directory.display();
    format!("{}copied to {copy}; python3 evidence/verify.py {copy} --key KEY says whether it is whole\n", heads(answer))
}

fn pem(spki: &str) -> String {
    let lines = spki.as_bytes().chunks(LINE).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    format!("-----BEGIN PUBLIC KEY-----\n{}-----END PUBLIC KEY-----\n", lines.collect::<String>())
}

fn shown(show: &Show, as_json: bool) -> Result<Told, CommandError> {
    let segments = read(&show.directory)?;
    let filter = Filter {
        stacks: show.stacks.clone(),
        expires_before: show.expires_before,
        target: show.target.clone(),
        issuer: show.issuer.clone(),
        name: show.name.clone(),
    };
    let view = View::of(&segments).filtered(&filter);
    if as_json {
        let text = json(&view).map_err(|source| CommandError::Answer { function: "seal", source })?;
        return Ok(well(text));
    }
    Ok(well(match (show.csv, show.list) {
        (true, List::Certificates) => csv(&view.certificates),
        (true, List::Authorities) => csv(&view.authorities),
        (true, List::Handshakes) => csv(&view.handshakes),
        (false, List::Certificates) => certificates(&view.certificates),
        (false, List::Authorities) => authorities(&view.authorities),
        (false, List::Handshakes) => handshakes(&view.handshakes),
    }))
}

/// Every segment of a copy, those of a chain in order.
fn read(directory: &Path) -> Result<Vec<Segment>, CommandError> {
    let mut places = Vec::new();
    let stacks = names(&directory.join("stacks"));
    for chain in stacks.iter().map(|stack| format!("stacks/{stack}")).chain(["plane".to_owned()]) {
        places
            .extend(names(&directory.join(&chain)).iter().filter_map(|name| Place::parse(&format!("{chain}/{name}"))));
    }
    if places.is_empty() {
        return Err(CopyError::Empty(directory.to_owned()).into());
    }
    places.sort();
    let segment = |place: &Place| {
        let path = directory.join(place.name());
        let text = std::fs::read_to_string(&path).map_err(|source| CommandError::File { path, source })?;
        Ok(Segment::parse(place, &text).map_err(CopyError::Damaged)?)
    };
    places.iter().map(segment).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>, of: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head);
    let mut all = 0;
    for row in rows {
        table.add_row(row);
        all += 1;
    }
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if all == 0 { format!("{}\n", count(0, of)) } else { lines }
}

fn certificates(all: &[Certificate]) -> String {
    let row = |one: &Certificate| {
        [
            format!("{} {} {}", one.stack, one.scope, one.generation),
            one.standing.name().to_owned(),
            one.dns_names.join(" "),
            one.issuer.chars().take(DIGITS).collect(),
            one.not_after.date().to_string(),
            one.served_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            one.caller.clone().unwrap_or_default(),
        ]
    };
    let head = ["certificate", "standing", "names", "issuer", "ends", "served by", "asked by"];
    table(head, all.iter().map(row), "certificate")
}

fn authorities(all: &[Trusted]) -> String {
    let row = |one: &Trusted| {
        let tainted = if one.tainted { ", declared unsafe" } else { "" };
        let key = one.key.clone().unwrap_or_else(|| "in Secrets Manager".to_owned());
        [one.authority.clone(), format!("{}{tainted}", one.phase), one.not_after.date().to_string(), key]
    };
    table(["authority", "phase", "ends", "key"], all.iter().map(row), "authorities")
}

fn handshakes(all: &[Handshake]) -> String {
    let row = |one: &Handshake| {
        [
            format!("{} {}", one.stack, one.target),
            one.protocol.clone().unwrap_or_default(),
            one.suite.clone().unwrap_or_default(),
            one.versions.join(" "),
            one.alpn.clone().unwrap_or_default(),
            one.key_type.map(|key| key.to_string()).unwrap_or_default(),
            one.at.date().to_string(),
            one.faults.join(" "),
        ]
    };
    table(
        ["target", "protocol", "cipher suite", "speaks", "ALPN", "key", "seen", "wrong"],
        all.iter().map(row),
        "handshake",
    )
}
