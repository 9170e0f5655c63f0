//! What became of a delivery: Run Command's status and the installer's last line, read strictly.
//!
//! A command's `Success` proves nothing and is believed only together with a last line that names this stack, this
//! generation and this certificate. Even then the answer is the installer's word; a sighting is the proof.

mod report;

use serde::Deserialize;
use time::OffsetDateTime;

use crate::id::StackName;
use crate::record::{AttemptEnd, AttemptRecord};
use crate::work::DeliveryAction;

use report::report;
pub use report::request;

/// How a preparation ends whose request Run Command does not show any more: the host is asked for another.
pub const REQUEST_LOST: &str = "RequestLost";

/// How a preparation ends whose request was refused: the target failed once.
pub const REQUEST_REFUSED: &str = "RequestRefused";

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
    /// It was installed and the server serves it; the host goes back by itself unless it is confirmed in time.
    Armed,
    /// What was installed stays.
    Confirmed,
    /// The key of the generation is there, made on the host, and the last line carries a request for its certificate.
    Prepared,
    /// Nobody confirmed it in time: the host has gone back by itself.
    Unconfirmed,
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
    /// The bundle holds no key, and the one that the host made for it is not there any more.
    NoKey,
    /// The host has confirmed a higher generation.
    BelowFloor,
    /// The server refused its configuration with the new files, and there was no generation to go back to.
    ConfigTestFailed,
    /// The server could not be reloaded, and there was no generation to go back to.
    ReloadFailed,
    /// After the reload the server served another certificate, and there was no generation to go back to.
    ServedOther,
    /// The server was broken before anything was changed, or not by what was: its configuration is refused with the former pair, too,
    /// or it does not answer with either.
    ServerBroken,
    /// Another installation was running.
    Busy,
}

impl InstallerCode {
    /// Every word, in the order they are declared.
    pub const ALL: [Self; 18] = [
        Self::Installed,
        Self::Armed,
        Self::Confirmed,
        Self::Prepared,
        Self::Unconfirmed,
        Self::Unchanged,
        Self::Reverted,
        Self::Refused,
        Self::NotOptedIn,
        Self::FetchFailed,
        Self::InvalidBundle,
        Self::NoKey,
        Self::BelowFloor,
        Self::ConfigTestFailed,
        Self::ReloadFailed,
        Self::ServedOther,
        Self::ServerBroken,
        Self::Busy,
    ];

    /// The word as the installer prints it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Armed => "armed",
            Self::Confirmed => "confirmed",
            Self::Prepared => "prepared",
            Self::Unconfirmed => "unconfirmed",
            Self::Unchanged => "unchanged",
            Self::Reverted => "reverted",
            Self::Refused => "refused",
            Self::NotOptedIn => "notOptedIn",
            Self::FetchFailed => "fetchFailed",
            Self::InvalidBundle => "invalidBundle",
            Self::NoKey => "noKey",
            Self::BelowFloor => "belowFloor",
            Self::ConfigTestFailed => "configTestFailed",
            Self::ReloadFailed => "reloadFailed",
            Self::ServedOther => "servedOther",
            Self::ServerBroken => "serverBroken",
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
    /// The host has made its key: nothing was delivered yet, and nothing failed.
    Prepared,
    /// The target cannot have the generation, because its server would not take it or because the key that was made for it is gone: it is
    /// quarantined for good, and the target failed once.
    Reverted,
    /// The target failed once; the same generation may be tried again.
    Failed,
    /// The delivery did not take place, for no fault of target or certificate: tried again, never counted.
    Missed,
    /// The host's owner has not opted in.
    NotOptedIn,
    /// The target's server is broken, and not by what was delivered: it is told, and neither counts.
    ServerBroken,
}

/// Weighs how an attempt ended.
pub fn weigh(end: &AttemptEnd) -> Weight {
    if end.installed {
        return Weight::Installed;
    }
    match InstallerCode::parse(&end.code) {
        Some(InstallerCode::NotOptedIn) => Weight::NotOptedIn,
        Some(InstallerCode::ServerBroken) => Weight::ServerBroken,
        // Neither target nor certificate is to blame when nobody came to confirm.
        Some(InstallerCode::Busy | InstallerCode::Unconfirmed) => Weight::Missed,
        Some(InstallerCode::Prepared) => Weight::Prepared,
        Some(InstallerCode::Reverted | InstallerCode::NoKey) => Weight::Reverted,
        // The server's refusals come back under these words only where there was nothing to revert to, or where the
        // confirmed generation was asserted again: that generation is not to blame.
        Some(
            InstallerCode::Installed
            | InstallerCode::Armed
            | InstallerCode::Confirmed
            | InstallerCode::Unchanged
            | InstallerCode::Refused
            | InstallerCode::FetchFailed
            | InstallerCode::InvalidBundle
            | InstallerCode::BelowFloor
            | InstallerCode::ConfigTestFailed
            | InstallerCode::ReloadFailed
            | InstallerCode::ServedOther,
        ) => Weight::Failed,
        // Run Command's own words: a target that was not reached was not tried.
        None => match end.code.as_str() {
            "Undeliverable" | REQUEST_LOST | "DeliveryTimedOut" | "RateExceeded" | "Cancelled" | "Terminated" => {
                Weight::Missed
            }
            _ => Weight::Failed,
        },
    }
}

/// How the attempt ended, or nothing while it is still on its way.
///
/// `expected` is the fingerprint of the generation's leaf on this target; without it no installation can be believed.
pub fn settle(
    attempt: &AttemptRecord,
    stack: &StackName,
    expected: Option<&str>,
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
    let claims = match report.code {
        InstallerCode::Installed | InstallerCode::Armed | InstallerCode::Unchanged => Some(DeliveryAction::Install),
        InstallerCode::Confirmed => Some(DeliveryAction::Confirm),
        InstallerCode::Prepared => Some(DeliveryAction::Prepare),
        InstallerCode::Unconfirmed
        | InstallerCode::Reverted
        | InstallerCode::Refused
        | InstallerCode::NotOptedIn
        | InstallerCode::FetchFailed
        | InstallerCode::InvalidBundle
        | InstallerCode::NoKey
        | InstallerCode::BelowFloor
        | InstallerCode::ConfigTestFailed
        | InstallerCode::ReloadFailed
        | InstallerCode::ServedOther
        | InstallerCode::ServerBroken
        | InstallerCode::Busy => None,
    };
    let Some(claimed) = claims else {
        return end(false, report.code.as_str(), report.detail);
    };
    if claimed != attempt.action {
        let detail = format!("the last line says {}, which was not asked for", report.code.as_str());
        return end(false, "NoReport", detail);
    }
    if status != "Success" {
        return end(false, "NoReport", format!("the last line says {}, the status {status}", report.code.as_str()));
    }
    if claimed == DeliveryAction::Prepare {
        // Nothing is installed yet. Whoever signs reads the request again, from Run Command, and believes none of it.
        return end(false, report.code.as_str(), report.detail);
    }
    if expected.is_none_or(|fingerprint| fingerprint != report.fingerprint) {
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

fn clip(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::id::{Epoch, Generation, TargetId};

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
    const LINE: &str = r#"{"espalier":1,"code":"installed","stack":"pay","generation":3,"fingerprint":"f3","serial":"0a","detail":""}"#;

    fn attempt() -> AttemptRecord {
        AttemptRecord {
            target: TargetId::parse("i-0000000a").unwrap(),
            generation: Generation(3),
            attempt: 1,
            epoch: Epoch(1),
            action: DeliveryAction::Install,
            asked: None,
            begun_at: NOW,
            leaf_ends_at: NOW,
            command_id: Some("c".into()),
            ended: None,
        }
    }

    fn end(status: &str, details: &str, output: &str) -> Option<AttemptEnd> {
        let seen = CommandSeen { status: status.into(), status_details: details.into(), output: output.into() };
        settle(&attempt(), &StackName::parse("pay").unwrap(), Some("f3"), &seen, NOW)
    }

    fn code(status: &str, details: &str, output: &str) -> (bool, String) {
        end(status, details, output).map(|end| (end.installed, end.code)).unwrap()
    }

    #[test]
    fn only_success_with_a_last_line_about_this_certificate_is_believed() {
        assert_eq!(code("Success", "Success", &format!("log\n{LINE}\n\n")), (true, "installed".into()));
        assert_eq!(code("Success", "", &LINE.replace("installed", "unchanged")), (true, "unchanged".into()));
        assert_eq!(code("Success", "", &LINE.replace("installed", "armed")), (true, "armed".into()));
        for (what, status, output) in [
            ("no output", "Success", String::new()),
            ("a line after it", "Success", format!("{LINE}\ndone")),
            ("cut off", "Success", LINE[..60].to_owned()),
            ("another stack", "Success", LINE.replace("pay", "pax")),
            ("another generation", "Success", LINE.replace(":3,", ":2,")),
            ("another certificate", "Success", LINE.replace("f3", "f2")),
            ("another version", "Success", LINE.replace("\"espalier\":1", "\"espalier\":2")),
            ("an unknown word", "Success", LINE.replace("installed", "perfect")),
            ("an unknown field", "Success", LINE.replace("\"detail\"", "\"details\"")),
            ("a failed command", "Failed", LINE.to_owned()),
            ("a confirmation that was not asked for", "Success", LINE.replace("installed", "confirmed")),
        ] {
            let end = end(status, status, &output).unwrap();
            assert!(!end.installed, "{what}: {end:?}");
            assert_eq!(weigh(&end), Weight::Failed, "{what}: {end:?}");
        }
        let seen = CommandSeen { status: "Success".into(), status_details: String::new(), output: LINE.into() };
        assert!(!settle(&attempt(), &StackName::parse("pay").unwrap(), None, &seen, NOW).unwrap().installed);
    }

    #[test]
    fn the_installers_words_weigh_what_they_should() {
        let weight = |word: &str| {
            let line = LINE.replace("installed", word).replace("\"detail\":\"\"", "\"detail\":\"why\\u001b[0m\"");
            let end = end("Failed", "Failed", &line).unwrap();
            assert_eq!((end.code.as_str(), end.detail.as_str()), (word, "why [0m"));
            weigh(&end)
        };
        assert_eq!(weight("reverted"), Weight::Reverted);
        let failed = ["refused", "fetchFailed", "invalidBundle", "belowFloor"];
        for code in failed.into_iter().chain(["configTestFailed", "reloadFailed", "servedOther"]) {
            assert_eq!(weight(code), Weight::Failed, "{code}");
        }
        assert_eq!(weight("busy"), Weight::Missed);
        assert_eq!(weight("unconfirmed"), Weight::Missed);
        assert_eq!(weight("notOptedIn"), Weight::NotOptedIn);
        assert_eq!(weight("serverBroken"), Weight::ServerBroken);
        for code in InstallerCode::ALL {
            assert_eq!(serde_json::from_value::<InstallerCode>(code.as_str().into()).unwrap(), code);
        }
    }

    #[test]
    fn run_commands_words_are_read_with_and_without_spaces() {
        for status in ["Pending", "InProgress", "Delayed", "Cancelling"] {
            assert_eq!(end(status, status, ""), None, "{status}");
        }
        assert_eq!(end("InProgress", "In Progress", ""), None);
        for (status, details, word, weight) in [
            ("TimedOut", "Delivery Timed Out", "DeliveryTimedOut", Weight::Missed),
            ("TimedOut", "DeliveryTimedOut", "DeliveryTimedOut", Weight::Missed),
            ("TimedOut", "Execution Timed Out", "ExecutionTimedOut", Weight::Failed),
            ("Failed", "Undeliverable", "Undeliverable", Weight::Missed),
            ("Canceled", "", "Cancelled", Weight::Missed),
            ("Cancelled", "Terminated", "Terminated", Weight::Missed),
            ("Failed", "Access Denied", "AccessDenied", Weight::Failed),
            ("Failed", "Invalid Platform", "InvalidPlatform", Weight::Failed),
        ] {
            let end = end(status, details, LINE).unwrap();
            assert_eq!((end.installed, end.code.as_str(), weigh(&end)), (false, word, weight), "{status} {details}");
        }
    }
}
