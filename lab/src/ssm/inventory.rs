//! Managed instances: who has an agent, and whether it is heard.

use std::net::IpAddr;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::parameters::{page, strings, text};
use super::rules::{Fault, Rule};
use super::{Answer, ManagedInstance, RegisterError, Ssm};

/// `i-` and 8 or 17 hexadecimal digits.
pub(super) fn is_instance_id(id: &str) -> bool {
    let digits = id.strip_prefix("i-").unwrap_or_default();
    matches!(digits.len(), 8 | 17) && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

/// A script of ours must not be able to call AWS.
pub(super) fn check(instance: &ManagedInstance) -> Result<(), RegisterError> {
    if !is_instance_id(&instance.id) {
        return Err(RegisterError::Id(instance.id.clone()));
    }
    for (variable, value) in &instance.environment {
        if variable.starts_with("AWS_ENDPOINT_URL") && !is_loopback(value) {
            return Err(RegisterError::Endpoint { id: instance.id.clone(), variable: variable.clone() });
        }
    }
    Ok(())
}

fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    url.scheme() == "http" && host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Ssm {
    pub(super) fn describe_instances(&self, request: &Value) -> Answer {
        if !request["InstanceInformationFilterList"].is_null() {
            return Err(Fault::new(Rule::Shape, "InstanceInformationFilterList is not served; use Filters"));
        }
        let state = self.state();
        let mut found: Vec<&ManagedInstance> = state.instances.values().collect();
        for filter in request["Filters"].as_array().into_iter().flatten() {
            let (key, values) = (text(filter, "Key")?, strings(&filter["Values"]));
            if values.is_empty() || values.len() > 100 {
                return Err(Fault::new(Rule::Shape, format!("{key}: 1 to 100 Values")));
            }
            match key {
                "InstanceIds" => {
                    let unknown = values.iter().find(|id| !state.instances.contains_key(*id));
                    if let Some(id) = unknown {
                        return Err(Fault::new(Rule::InstanceUnknown, id.clone()));
                    }
                    found.retain(|instance| values.contains(&instance.id));
                }
                "PingStatus" => found.retain(|instance| values.iter().any(|value| value == ping(instance))),
                _ => match key.strip_prefix("tag:") {
                    Some(tag) => {
                        found.retain(|instance| instance.tags.get(tag).is_some_and(|value| values.contains(value)));
                    }
                    None => return Err(Fault::new(Rule::FilterKey, key)),
                },
            }
        }
        page(request, "InstanceInformationList", found.into_iter().map(information).collect(), (5, 50))
    }
}

const fn ping(instance: &ManagedInstance) -> &'static str {
    if instance.online { "Online" } else { "ConnectionLost" }
}

fn information(instance: &ManagedInstance) -> Value {
    json!({
        "InstanceId": instance.id,
        "PingStatus": ping(instance),
        "LastPingDateTime": OffsetDateTime::now_utc().unix_timestamp(),
        "AgentVersion": instance.agent_version,
        "IsLatestVersion": true,
        "PlatformType": "Linux",
        "PlatformName": "Espalier lab",
        "ResourceType": "EC2Instance",
        "IPAddress": instance.ip.to_string(),
        "ComputerName": instance.id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_endpoints_are_loopback() {
        assert!(is_loopback("http://127.0.0.1:4566"));
        assert!(is_loopback("http://127.3.0.1:4566/"));
        assert!(is_loopback("http://[::1]:4566"));
        for url in ["https://ssm.eu-west-1.amazonaws.com", "http://127.0.0.1.example.com", "http://10.0.0.1", ""] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn instance_ids() {
        assert!(is_instance_id("i-0abc1234") && is_instance_id("i-0abc1234def567890"));
        assert!(!is_instance_id("i-0abc123") && !is_instance_id("mi-0abc1234def567890"));
    }
}
