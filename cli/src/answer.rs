//! The functions' answers, as far as they are shown. What a later control plane adds is ignored; `--json` passes answers on
//! as they came.

use espalier_domain::plan::Outcome;
use espalier_domain::rotation::status::Status;
use serde::Deserialize;
use serde_json::Value;

/// An answer of `provision` or `rotate`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// With mode `status`.
    #[serde(default)]
    pub(crate) status: Option<Status>,
    /// With the modes `plan` and `check` of `rotate`.
    #[serde(default)]
    pub(crate) forecast: Option<Forecast>,
    /// With mode `diagnose`.
    #[serde(default)]
    pub(crate) findings: Vec<Finding>,
    /// Of `authority`: every authority, the newest last.
    #[serde(default)]
    pub(crate) authorities: Vec<Standing>,
    /// Of `authority`: SHA-256 of the bundle that clients find.
    #[serde(default)]
    pub(crate) bundle: Option<String>,
    /// With mode `diagnose`: what no API shows.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

impl Answer {
    /// Reads an answer.
    pub(crate) fn read(raw: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(raw)
    }
}

/// What lies ahead.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Forecast {
    #[serde(default)]
    pub(crate) min_slack_s: Option<i64>,
}

/// Where an authority stands.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    pub(crate) authority: String,
    pub(crate) phase: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_after: time::OffsetDateTime,
    #[serde(default)]
    pub(crate) tainted: bool,
    #[serde(default)]
    pub(crate) missing: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Finding {
    pub(crate) pitfall: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}
