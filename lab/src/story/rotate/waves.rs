//! In which waves a leaf was given to a fleet, by the calls that passed: a canary alone, then no more at a time than the spec
//! allows, and nobody before everybody of the wave before was seen to serve it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::gateway::Passed;

/// The sizes of the waves, or what is wrong with them.
pub(super) fn told(passed: &[Passed], generation: u32, size: usize) -> Result<Vec<usize>, String> {
    let (mut begun, mut proven, mut waves) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for call in passed.iter().filter(|call| call.status < 400) {
        if call.operation == "ssm.SendCommand" {
            let new: BTreeSet<String> = installed_on(call).filter(|id| !begun.contains(id)).collect();
            // Whoever was busy or out of reach is asked again; that is no wave.
            if new.is_empty() {
                continue;
            }
            let most = if waves.is_empty() { 1 } else { size };
            if new.len() > most {
                return Err(format!("wave {} has {} targets; {most} are allowed", waves.len() + 1, new.len()));
            }
            if let Some(early) = begun.difference(&proven).next() {
                return Err(format!("wave {} began before {early} was proven", waves.len() + 1));
            }
            waves.push(new.len());
            begun.extend(new);
        } else if call.operation.starts_with("dynamodb.") {
            let request: Value = serde_json::from_slice(&call.request).unwrap_or_default();
            proofs(&request, generation, &mut proven);
        }
    }
    Ok(waves)
}

/// Whom a command tells to install.
fn installed_on(call: &Passed) -> impl Iterator<Item = String> {
    let request: Value = serde_json::from_slice(&call.request).unwrap_or_default();
    let installs = request["Parameters"]["Action"][0] == "Install";
    let ids = request["InstanceIds"].as_array().filter(|_| installs).cloned().unwrap_or_default();
    ids.into_iter().filter_map(|id| id.as_str().map(str::to_owned))
}

/// Whom a write into the ledger records as seen with this generation, and without a fault; whatever kind of write it is.
fn proofs(value: &Value, generation: u32, proven: &mut BTreeSet<String>) {
    let id = value["sk"]["S"].as_str().and_then(|key| key.strip_prefix("SIGHTING#"));
    if let (Some(id), Some(record)) = (id, value["record"]["S"].as_str()) {
        let record: Value = serde_json::from_str(record).unwrap_or_default();
        let is_good = record["verdict"]["faults"].as_array().is_none_or(Vec::is_empty);
        if is_good && record["generation"].as_u64() == Some(generation.into()) {
            proven.insert(id.to_owned());
        }
        return;
    }
    let parts = value.as_object().into_iter().flat_map(|map| map.values());
    for part in parts.chain(value.as_array().into_iter().flatten()) {
        proofs(part, generation, proven);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(operation: &str, request: &Value) -> Passed {
        Passed::well(operation, request.to_string(), "")
    }

    fn send(action: &str, ids: &[&str]) -> Passed {
        call("ssm.SendCommand", &json!({"InstanceIds": ids, "Parameters": {"Action": [action]}}))
    }

    fn seen(id: &str, generation: u32, faults: &[&str]) -> Passed {
        let record = json!({"generation": generation, "verdict": {"faults": faults}}).to_string();
        let item = json!({"sk": {"S": format!("SIGHTING#{id}")}, "record": {"S": record}});
        call("dynamodb.TransactWriteItems", &json!({"TransactItems": [{"Put": {"Item": item}}]}))
    }

    #[test]
    fn a_wave_begins_when_everybody_of_the_one_before_is_proven() {
        let proven = [
            send("Install", &["i-1"]),
            seen("i-1", 3, &[]),
            send("Confirm", &["i-1"]),
            send("Install", &["i-2", "i-3"]),
        ];
        assert_eq!(told(&proven, 3, 2), Ok(vec![1, 2]));
        for other in [seen("i-1", 2, &[]), seen("i-1", 3, &["StaleCertificate"]), seen("i-2", 3, &[])] {
            let early = [send("Install", &["i-1"]), other, send("Install", &["i-2"])];
            assert_eq!(told(&early, 3, 2), Err("wave 2 began before i-1 was proven".to_owned()));
        }
    }

    #[test]
    fn no_wave_is_larger_than_it_may_be_and_the_first_is_one() {
        assert_eq!(
            told(&[send("Install", &["i-1", "i-2"])], 3, 2),
            Err("wave 1 has 2 targets; 1 are allowed".to_owned())
        );
        let large = [send("Install", &["i-1"]), seen("i-1", 3, &[]), send("Install", &["i-2", "i-3", "i-4"])];
        assert_eq!(told(&large, 3, 2), Err("wave 2 has 3 targets; 2 are allowed".to_owned()));
        let again = [send("Install", &["i-1"]), send("Install", &["i-1"])];
        assert_eq!(told(&again, 3, 2), Ok(vec![1]));
    }
}
