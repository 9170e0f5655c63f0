//! What became of a delivery: Run Command's status and the installer's last line, read strictly.
//!
//! A command's `Success` proves nothing and is believed only together with a last line that names this stack, this
//! generation and this certificate. Even then the answer is the installer's word; a sighting is the proof.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::id::StackName;
use crate::record::{AttemptEnd, AttemptRecord, GenerationRecord};

/// Longest detail that is kept; the ledger is no place for logs.
const DETAIL_CHARS: usize = 300;

/// One target's part in a command, as `ListCommandInvocations` or `GetCommandInvocation` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSeen {
    /// `Status`.
    pub status: String,
    /// `StatusDetails`: more exact, spelt with or without spaces depending on the page of the documentation.
    pub status_details: String,
    /// Standard output, as much of it as there is.
    pub output: String,
}

/// The installer's stable words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstallerCode {
    /// The generation was installed and the server serves it.
    Installed,
    /// It was there already, on disk and on the wire.
    Unchanged,
    /// It was installed, did not prove itself, and the one before it is served again.
    Reverted,
    /// The command's parameters or the host's set-up were not acceptable.
    Refused,
    /// The host's owner has not opted in for this stack.
    NotOptedIn,
    /// The bundle could not be fetched.
    FetchFailed,
    /// The bundle is not what it should be.
    InvalidBundle,
    /// The host has confirmed a higher generation.
    BelowFloor,
    /// The server refused its configuration with the new files; the old ones are back.
    ConfigTestFailed,
    /// The server could not be reloaded; the old files are back.
    ReloadFailed,
    /// After the reload the server served another certificate; the old files are back.
    ServedOther,
    /// Another installation was running.
    Busy,
}

impl InstallerCode {
    /// Every word, in the order they are declared.
    pub const ALL: [Self; 12] = [
        Self::Installed,
        Self::Unchanged,
        Self::Reverted,
        Self::Refused,
        Self::NotOptedIn,
        Self::FetchFailed,
        Self::InvalidBundle,
        Self::BelowFloor,
        Self::ConfigTestFailed,
        Self::ReloadFailed,
        Self::ServedOther,
        Self::Busy,
    ];

    /// The word as the installer prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Unchanged => "unchanged",
            Self::Reverted => "reverted",
            Self::Refused => "refused",
            Self::NotOptedIn => "notOptedIn",
            Self::FetchFailed => "fetchFailed",
            Self::InvalidBundle => "invalidBundle",
            Self::BelowFloor => "belowFloor",
            Self::ConfigTestFailed => "configTestFailed",
            Self::ReloadFailed => "reloadFailed",
            Self::ServedOther => "servedOther",
            Self::Busy => "busy",
        }
    }

    /// The word an attempt ended with, if it is one of the installer's.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }
}

/// What an attempt's end says about what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The installer says the target serves the generation.
    Installed,
    /// The server would not take the generation: it is quarantined for good, and the target failed once.
    Reverted,
    /// The target failed once; the same generation may be tried again.
    Failed,
    /// The delivery did not take place, for no fault of target or certificate: tried again, never counted.
    Missed,
    /// The host's owner has not opted in.
    NotOptedIn,
}

/// Weighs how an attempt ended.
pub fn weigh(end: &AttemptEnd) -> Weight {
    if end.installed {
        return Weight::Installed;
    }
    match InstallerCode::parse(&end.code) {
        Some(InstallerCode::NotOptedIn) => Weight::NotOptedIn,
        Some(InstallerCode::Busy) => Weight::Missed,
        Some(
            InstallerCode::Reverted
            | InstallerCode::ConfigTestFailed
            | InstallerCode::ReloadFailed
            | InstallerCode::ServedOther,
        ) => Weight::Reverted,
        Some(
            InstallerCode::Installed
            | InstallerCode::Unchanged
            | InstallerCode::Refused
            | InstallerCode::FetchFailed
            | InstallerCode::InvalidBundle
            | InstallerCode::BelowFloor,
        ) => Weight::Failed,
        // Run Command's own words: a target that was not reached was not tried.
        None => match end.code.as_str() {
            "Undeliverable" | "DeliveryTimedOut" | "RateExceeded" | "Cancelled" | "Lost" => Weight::Missed,
            _ => Weight::Failed,
        },
    }
}

/// How the attempt ended, or nothing while it is still on its way.
///
/// `expected` is the generation's record, for its fingerprint; without it no installation can be believed.
pub fn settle(
    attempt: &AttemptRecord,
    stack: &StackName,
    expected: Option<&GenerationRecord>,
    seen: &CommandSeen,
    now: OffsetDateTime,
) -> Option<AttemptEnd> {
    let status = word(seen);
    let end = |installed: bool, code: &str, detail: String| {
        Some(AttemptEnd { installed, code: code.to_owned(), detail: clip(&detail), at: now })
    };
    match status.as_str() {
        "Pending" | "InProgress" | "Delayed" | "Cancelling" => return None,
        "Success" | "Failed" => {}
        other => return end(false, other, format!("Run Command says {other}")),
    }
    let report = match report(&seen.output) {
        Ok(report) => report,
        Err(problem) => return end(false, "NoReport", format!("status {status}, but {problem}")),
    };
    if report.stack != stack.as_str() || report.generation != attempt.generation.0 {
        let detail = format!("the last line is about {} generation {}", report.stack, report.generation);
        return end(false, "NoReport", detail);
    }
    let claims = matches!(report.code, InstallerCode::Installed | InstallerCode::Unchanged);
    if !claims {
        return end(false, report.code.as_str(), report.detail);
    }
    if status != "Success" {
        return end(false, "NoReport", format!("the last line says {}, the status {status}", report.code.as_str()));
    }
    if expected.is_none_or(|record| record.fingerprint != report.fingerprint) {
        return end(false, "OtherCertificate", format!("installed {}", report.fingerprint));
    }
    end(true, report.code.as_str(), report.detail)
}

/// The more exact of the two status words, without spaces and in the API's spelling.
fn word(seen: &CommandSeen) -> String {
    let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let details = squeeze(&seen.status_details);
    let word = if details.is_empty() { squeeze(&seen.status) } else { details };
    // Events spell it with one `l`, the API with two; `TimedOut` alone is the event's word for both kinds.
    match word.as_str() {
        "Canceled" => "Cancelled".into(),
        "Canceling" => "Cancelling".into(),
        _ => word,
    }
}

/// The installer's last line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    espalier: u32,
    code: InstallerCode,
    stack: String,
    generation: u32,
    #[serde(default)]
    fingerprint: String,
    #[serde(default, rename = "serial")]
    _serial: String,
    #[serde(default)]
    detail: String,
}

fn report(output: &str) -> Result<Report, String> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty()).ok_or("there is no output")?;
    let report: Report =
        serde_json::from_str(line.trim()).map_err(|error| format!("the last line is not a report: {error}"))?;
    if report.espalier != 1 {
        return Err(format!("the report has version {}", report.espalier));
    }
    Ok(report)
}

fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_CHARS).collect()
}
