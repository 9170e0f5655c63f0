//! Where the time of a rotation goes: an execution's history, summed by what was being waited for.

use std::collections::BTreeMap;

use serde_json::Value;

/// Seconds by state of the workflow, from its first event to its last. States that only route take no time of their own
/// and are counted where the time was spent: with the one entered last.
pub fn by_state(history: &str) -> BTreeMap<String, f64> {
    let parsed: Value = serde_json::from_str(history).unwrap_or_default();
    let mut events: Vec<(f64, &Value)> = parsed["events"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| Some((event["timestamp"].as_f64()?, event)))
        .collect();
    events.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut spent: BTreeMap<String, f64> = BTreeMap::new();
    let mut state = "start".to_owned();
    let mut since = events.first().map(|(at, _)| *at).unwrap_or_default();
    for (at, event) in events {
        *spent.entry(state.clone()).or_default() += at - since;
        since = at;
        if let Some(entered) = event["stateEnteredEventDetails"]["name"].as_str() {
            state = entered.to_owned();
        }
    }
    spent.retain(|_, seconds| *seconds >= 0.05);
    spent
}

/// The same for a reader, longest first.
pub fn told(spent: &BTreeMap<String, f64>) -> String {
    let mut all: Vec<_> = spent.iter().collect();
    all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let parts: Vec<String> = all.into_iter().map(|(state, seconds)| format!("{state} {seconds:.1} s")).collect();
    parts.join(", ")
}

/// The numbers in an execution's name, `<stack>-<epoch>-<attempt>`, so that names can be put in order.
pub fn epoch_and_attempt(name: &str) -> (u64, u64) {
    let mut parts = name.rsplit('-').map(|part| part.parse().unwrap_or_default());
    let attempt = parts.next().unwrap_or_default();
    (parts.next().unwrap_or_default(), attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_belongs_to_the_state_that_was_entered_last() {
        let entered =
            |at: f64, name: &str| serde_json::json!({"timestamp": at, "stateEnteredEventDetails": {"name": name}});
        let history = serde_json::json!({"events": [
            {"timestamp": 10.0}, entered(10.0, "Rotate"), {"timestamp": 10.5}, entered(11.0, "Wait"), entered(14.0, "Rotate"),
            {"timestamp": 14.25},
        ]});
        let spent = by_state(&history.to_string());
        assert_eq!(spent, BTreeMap::from([("Rotate".to_owned(), 1.25), ("Wait".to_owned(), 3.0)]));
        assert_eq!(told(&spent), "Wait 3.0 s, Rotate 1.2 s");
        assert!(epoch_and_attempt("api-service-10-2") > epoch_and_attempt("api-service-9-12"));
    }
}
