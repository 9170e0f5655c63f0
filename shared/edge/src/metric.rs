//! Metrics without an API call: one JSON line in CloudWatch's embedded metric format on standard output.

use std::io::Write;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

/// The namespace of every metric of ours.
pub const NAMESPACE: &str = "Espalier";

/// CloudWatch's units we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// A duration in milliseconds.
    Milliseconds,
    /// A duration in seconds.
    Seconds,
}

impl Unit {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
            Self::Seconds => "Seconds",
        }
    }
}

/// One line: the dimensions' values at the root, and the metrics, as the format's specification wants them.
///
/// At most 30 dimensions and 100 metrics; both are ours and few.
pub fn line(at: OffsetDateTime, dimensions: &[(&str, &str)], metrics: &[(&str, Unit, f64)]) -> String {
    let mut root = Map::new();
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let definitions: Vec<Value> =
        metrics.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit.as_str() })).collect();
    root.insert(
        "_aws".into(),
        json!({
            "Timestamp": i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX),
            "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [names], "Metrics": definitions }],
        }),
    );
    for (name, value) in dimensions {
        root.insert((*name).into(), json!(value));
    }
    for (name, _, value) in metrics {
        root.insert((*name).into(), json!(value));
    }
    Value::Object(root).to_string()
}

/// Writes one line to standard output, where Lambda's log stream takes it. A metric that cannot be written is lost.
pub fn emit(at: OffsetDateTime, dimensions: &[(&str, &str)], metrics: &[(&str, Unit, f64)]) {
    let mut text = line(at, dimensions, metrics);
    text.push('\n');
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_shape_cloudwatch_reads() {
        let at = OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap();
        let line = line(at, &[("Function", "provision")], &[("Duration", Unit::Milliseconds, 12.5)]);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["_aws"]["Timestamp"], 1_795_000_000_000_i64);
        let set = &value["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(set["Namespace"], "Espalier");
        assert_eq!(set["Dimensions"], json!([["Function"]]));
        assert_eq!(set["Metrics"], json!([{ "Name": "Duration", "Unit": "Milliseconds" }]));
        assert_eq!((&value["Function"], &value["Duration"]), (&json!("provision"), &json!(12.5)));
        assert!(!line.contains('\n'));
    }
}
