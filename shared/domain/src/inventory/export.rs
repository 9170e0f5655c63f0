//! The inventory as JSON and as tables that spreadsheets open (RFC 4180).

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Certificate, Handshake, Trusted, View, Word};

/// The whole inventory as one JSON document.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn json(view: &View) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(view).map(|text| text + "\n")
}

/// One list of the inventory as a table; the first line names the columns.
pub fn csv<'a, R: Tabled + 'a>(rows: impl IntoIterator<Item = &'a R>) -> String {
    let mut text = line(R::COLUMNS.iter().map(|column| (*column).to_owned()));
    for row in rows {
        text.push_str(&line(row.cells().into_iter()));
    }
    text
}

/// What has columns.
pub trait Tabled {
    /// Their names.
    const COLUMNS: &'static [&'static str];

    /// A cell for each.
    fn cells(&self) -> Vec<String>;
}

impl Tabled for Certificate {
    const COLUMNS: &'static [&'static str] = &[
        "stack",
        "scope",
        "generation",
        "standing",
        "dns_names",
        "issuer",
        "serial",
        "sha256",
        "key_type",
        "not_before",
        "not_after",
        "issued_at",
        "exported_from",
        "stored_in",
        "discarded_at",
        "because",
        "asked_by",
        "caller",
        "spec_version",
        "spec_sha256",
        "superseded_at",
        "unsafe_since",
        "delivered_to",
        "served_by",
        "last_served_at",
    ];

    fn cells(&self) -> Vec<String> {
        let asked_by = match self.asked_by {
            Word::Spec => "spec",
            Word::Emergency => "emergency",
            Word::Taint => "taint",
        };
        vec![
            self.stack.to_string(),
            self.scope.to_string(),
            self.generation.to_string(),
            self.standing.name().to_owned(),
            self.dns_names.join(" "),
            self.issuer.clone(),
            self.serial.clone(),
            self.fingerprint.clone(),
            self.key_type.map(|key| key.to_string()).unwrap_or_default(),
            time(Some(self.not_before)),
            time(Some(self.not_after)),
            time(Some(self.issued_at)),
            self.exported_from.clone().unwrap_or_default(),
            self.stored_in.clone(),
            time(self.discarded_at),
            self.because.clone(),
            asked_by.to_owned(),
            self.caller.clone().unwrap_or_default(),
            self.spec_version.map(|version| version.to_string()).unwrap_or_default(),
            self.spec_digest.clone().unwrap_or_default(),
            time(self.superseded_at),
            time(self.unsafe_since),
            spaced(&self.delivered_to),
            spaced(&self.served_by),
            time(self.last_served_at),
        ]
    }
}

impl Tabled for Trusted {
    const COLUMNS: &'static [&'static str] = &["authority", "phase", "tainted", "key", "published_at", "not_after"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.authority.clone(),
            self.phase.to_owned(),
            self.tainted.to_string(),
            self.key.clone().unwrap_or_default(),
            time(self.published_at),
            time(Some(self.not_after)),
        ]
    }
}

impl Tabled for Handshake {
    const COLUMNS: &'static [&'static str] =
        &["stack", "target", "port", "at", "protocol", "suite", "alpn", "versions", "key_type", "sha256", "faults"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.stack.to_string(),
            self.target.to_string(),
            self.port.map(|port| port.to_string()).unwrap_or_default(),
            time(Some(self.at)),
            self.protocol.clone().unwrap_or_default(),
            self.suite.clone().unwrap_or_default(),
            self.alpn.clone().unwrap_or_default(),
            self.versions.join(" "),
            self.key_type.map(|key| key.to_string()).unwrap_or_default(),
            self.fingerprint.clone().unwrap_or_default(),
            self.faults.join(" "),
        ]
    }
}

fn spaced<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn time(at: Option<OffsetDateTime>) -> String {
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.map(|cell| quoted(&cell)).collect();
    format!("{}\r\n", cells.join(","))
}

/// Reasons are people's words: what a spreadsheet would take for a formula is kept from being one.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !cell.contains([',', '"', '\n', '\r']) {
        return cell.to_owned();
    }
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}
