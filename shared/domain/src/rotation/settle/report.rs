//! The installer's last line, read strictly.

use serde::Deserialize;

use super::InstallerCode;
use crate::id::{Generation, StackName};

/// The installer's last line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    espalier: u32,
    pub(super) code: InstallerCode,
    pub(super) stack: String,
    pub(super) generation: u32,
    #[serde(default)]
    pub(super) fingerprint: String,
    #[serde(default, rename = "serial")]
    _serial: String,
    #[serde(default)]
    pub(super) detail: String,
    /// The host's certification request (PKCS#10), DER in base64, after [`InstallerCode::Prepared`] only.
    #[serde(default)]
    request: Option<String>,
}

/// The certification request, base64, in what a host said after it was told to prepare this generation.
///
/// # Errors
/// What is wrong with the last line, for a person.
pub fn request(stack: &StackName, generation: Generation, output: &str) -> Result<String, String> {
    let report = report(output)?;
    if report.code != InstallerCode::Prepared {
        return Err(format!("the last line says {}", report.code.as_str()));
    }
    if report.stack != stack.as_str() || report.generation != generation.0 {
        return Err(format!("the last line is about {} generation {}", report.stack, report.generation));
    }
    report.request.ok_or_else(|| "the last line carries no request".to_owned())
}

pub(super) fn report(output: &str) -> Result<Report, String> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty()).ok_or("there is no output")?;
    let report: Report =
        serde_json::from_str(line.trim()).map_err(|error| format!("the last line is not a report: {error}"))?;
    if report.espalier != 1 {
        return Err(format!("the report has version {}", report.espalier));
    }
    if report.request.is_some() != (report.code == InstallerCode::Prepared) {
        return Err(format!("a report of {} with a request, or without", report.code.as_str()));
    }
    Ok(report)
}
