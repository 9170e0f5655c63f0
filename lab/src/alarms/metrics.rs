//! Data points by namespace, name and dimensions, as CloudWatch keeps them; and those of a log line in the embedded metric
//! format.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

/// What is one metric to CloudWatch: another dimension makes another metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// `Namespace`.
    pub namespace: String,
    /// `MetricName`.
    pub name: String,
    /// `Dimensions`.
    pub dimensions: BTreeMap<String, String>,
}

impl Series {
    /// A metric with one dimension.
    pub fn of(namespace: &str, name: &str, dimension: (&str, &str)) -> Self {
        let dimensions = BTreeMap::from([(dimension.0.to_owned(), dimension.1.to_owned())]);
        Self { namespace: namespace.to_owned(), name: name.to_owned(), dimensions }
    }
}

/// What becomes of a period's data points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Statistic {
    /// All together.
    Sum,
    /// The least.
    Minimum,
    /// The greatest.
    Maximum,
}

/// Every data point.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    points: BTreeMap<Series, Vec<(OffsetDateTime, f64)>>,
}

impl Metrics {
    /// One more data point.
    pub fn put(&mut self, series: Series, at: OffsetDateTime, value: f64) {
        self.points.entry(series).or_default().push((at, value));
    }

    /// Whether there ever was a data point of this metric.
    pub fn knows(&self, series: &Series) -> bool {
        self.points.contains_key(series)
    }

    /// The values that this metric had since then.
    pub fn since(&self, series: &Series, from: OffsetDateTime) -> Vec<f64> {
        let all = self.points.get(series).into_iter().flatten();
        all.filter(|(at, _)| *at >= from).map(|(_, value)| *value).collect()
    }

    /// The statistic over a period, if there is anything in it.
    pub fn value(
        &self,
        series: &Series,
        statistic: Statistic,
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Option<f64> {
        let all = self.points.get(series)?;
        let within = all.iter().filter(|(at, _)| (from..until).contains(at)).map(|(_, value)| *value);
        within.reduce(|a, b| match statistic {
            Statistic::Sum => a + b,
            Statistic::Minimum => a.min(b),
            Statistic::Maximum => a.max(b),
        })
    }
}

/// The data points of a log line, if it is one of the embedded metric format: for each set of dimensions each metric
/// (CloudWatch user guide, embedded metric format specification). A line that is half one is an error.
///
/// # Errors
/// It announces metrics, and lacks a dimension's or a metric's value, or its time.
pub fn embedded(line: &str) -> Result<Vec<(OffsetDateTime, Series, f64)>, String> {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    let Some(directives) = line["_aws"]["CloudWatchMetrics"].as_array() else { return Ok(Vec::new()) };
    let lacks = |what: &str| format!("a line of metrics lacks {what}: {line}");
    let millis = line["_aws"]["Timestamp"].as_i64().ok_or_else(|| lacks("its time"))?;
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    let at = at.map_err(|_| lacks("a time that is one"))?;
    let mut points = Vec::new();
    for directive in directives {
        let namespace = directive["Namespace"].as_str().ok_or_else(|| lacks("Namespace"))?;
        for names in directive["Dimensions"].as_array().into_iter().flatten() {
            let names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
            let dimensions: Option<BTreeMap<String, String>> =
                names.map(|name| Some((name.to_owned(), line[name].as_str()?.to_owned()))).collect();
            let dimensions = dimensions.ok_or_else(|| lacks("the value of a dimension"))?;
            for metric in directive["Metrics"].as_array().into_iter().flatten() {
                let name = metric["Name"].as_str().ok_or_else(|| lacks("the name of a metric"))?;
                let value = line[name].as_f64().ok_or_else(|| lacks(name))?;
                let (namespace, name, dimensions) = (namespace.to_owned(), name.to_owned(), dimensions.clone());
                points.push((at, Series { namespace, name, dimensions }, value));
            }
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_becomes_a_point_for_each_metric_and_set_of_dimensions() {
        let line = json!({
            "_aws": {"Timestamp": 90_000, "CloudWatchMetrics": [{"Namespace": "Espalier", "Dimensions": [["F"], ["F", "S"]],
                "Metrics": [{"Name": "Failed", "Unit": "Count"}]}]},
            "F": "rotate", "S": "payments", "Failed": 1.0, "more": "text",
        });
        let points = embedded(&line.to_string()).unwrap();
        let at = OffsetDateTime::from_unix_timestamp(90).unwrap();
        let mut both = Series::of("Espalier", "Failed", ("F", "rotate"));
        both.dimensions.insert("S".to_owned(), "payments".to_owned());
        assert_eq!(points, [(at, Series::of("Espalier", "Failed", ("F", "rotate")), 1.0), (at, both, 1.0)]);
        assert!(embedded("START RequestId: 1").unwrap().is_empty() && embedded("{}").unwrap().is_empty());
        for gone in ["F", "Failed"] {
            let mut broken = line.clone();
            broken.as_object_mut().unwrap().remove(gone);
            assert!(embedded(&broken.to_string()).is_err(), "{gone}");
        }
    }

    #[test]
    fn a_period_without_points_has_no_value() {
        let (mut metrics, series) = (Metrics::default(), Series::of("N", "M", ("D", "v")));
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        for (second, value) in [(10, 3.0), (20, 1.0), (30, 2.0)] {
            metrics.put(series.clone(), at(second), value);
        }
        let value = |statistic, from, until| metrics.value(&series, statistic, at(from), at(until));
        assert_eq!(value(Statistic::Sum, 10, 30), Some(4.0));
        assert_eq!(value(Statistic::Minimum, 0, 60), Some(1.0));
        assert_eq!(value(Statistic::Maximum, 20, 60), Some(2.0));
        assert_eq!(value(Statistic::Sum, 31, 60), None);
        assert_eq!(metrics.since(&series, at(20)), [1.0, 2.0]);
    }
}
