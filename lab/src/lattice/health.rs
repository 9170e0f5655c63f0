//! Health check settings, and what a row of check results makes of a target.

use serde::{Deserialize, Serialize};

use super::rules::{Fault, Rule};

/// A target group's health check with every default filled in (API HealthCheckConfig).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HealthCheck {
    pub(super) enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health_check_interval_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health_check_timeout_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) healthy_threshold_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unhealthy_threshold_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) matcher: Option<Matcher>,
}

/// Which HTTP status codes mean success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Matcher {
    pub(super) http_code: String,
}

/// Health check settings as requested.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Requested {
    enabled: Option<bool>,
    protocol: Option<String>,
    protocol_version: Option<String>,
    port: Option<u16>,
    path: Option<String>,
    health_check_interval_seconds: Option<u32>,
    health_check_timeout_seconds: Option<u32>,
    healthy_threshold_count: Option<u32>,
    unhealthy_threshold_count: Option<u32>,
    matcher: Option<Matcher>,
}

impl Requested {
    /// Checks the settings for a target group of this type and protocol and fills in the defaults.
    pub(super) fn settle(self, group_kind: &str, group_protocol: Option<&str>) -> Result<HealthCheck, Fault> {
        let tcp = group_protocol == Some("TCP");
        // Disabled by default for TCP target groups (UG tls-listeners) and not used for load balancers.
        let enabled = self.enabled.unwrap_or(!tcp && group_kind != "ALB" && group_kind != "LAMBDA");
        if enabled && group_kind == "ALB" {
            return Err(Fault::field(Rule::HealthCheckNotForAlb, "healthCheck.enabled", "type ALB"));
        }
        if let Some(protocol) = self.protocol.as_deref().filter(|p| !["HTTP", "HTTPS"].contains(p)) {
            return Err(Fault::field(Rule::HealthCheckProtocol, "healthCheck.protocol", protocol));
        }
        if tcp && enabled && (self.protocol.is_none() || self.protocol_version.is_none()) {
            return Err(Fault::field(Rule::TcpHealthCheckExplicit, "healthCheck", "enabled"));
        }
        if tcp && !enabled {
            return Ok(self.switched_off());
        }
        let codes = self.matcher.map_or_else(|| "200".to_owned(), |matcher| matcher.http_code);
        if !codes.is_empty() && ranges(&codes).is_none() {
            return Err(Fault::field(Rule::HealthCheckRange, "healthCheck.matcher.httpCode", codes));
        }
        let codes = if codes.is_empty() { "200".to_owned() } else { codes };
        Ok(HealthCheck {
            enabled,
            protocol: Some(self.protocol.unwrap_or_else(|| "HTTP".into())),
            protocol_version: Some(self.protocol_version.unwrap_or_else(|| "HTTP1".into())),
            port: self.port.filter(|port| *port != 0),
            path: Some(self.path.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into())),
            health_check_interval_seconds: ranged("IntervalSeconds", self.health_check_interval_seconds, 5, 300, 30)?,
            health_check_timeout_seconds: ranged("TimeoutSeconds", self.health_check_timeout_seconds, 1, 120, 5)?,
            healthy_threshold_count: ranged("healthyThresholdCount", self.healthy_threshold_count, 2, 10, 5)?,
            unhealthy_threshold_count: ranged("unhealthyThresholdCount", self.unhealthy_threshold_count, 2, 10, 2)?,
            matcher: Some(Matcher { http_code: codes }),
        })
    }

    /// Switched off: nothing is filled in that would look as if checks took place.
    fn switched_off(self) -> HealthCheck {
        HealthCheck {
            enabled: false,
            protocol: self.protocol,
            protocol_version: self.protocol_version,
            port: self.port.filter(|port| *port != 0),
            path: self.path,
            health_check_interval_seconds: self.health_check_interval_seconds,
            health_check_timeout_seconds: self.health_check_timeout_seconds,
            healthy_threshold_count: self.healthy_threshold_count,
            unhealthy_threshold_count: self.unhealthy_threshold_count,
            matcher: self.matcher,
        }
    }
}

/// A number in its range; absent and 0 mean the default.
fn ranged(name: &str, value: Option<u32>, low: u32, high: u32, default: u32) -> Result<Option<u32>, Fault> {
    match value {
        None | Some(0) => Ok(Some(default)),
        Some(value) if (low..=high).contains(&value) => Ok(Some(value)),
        Some(value) => Err(Fault::field(Rule::HealthCheckRange, name, format!("{value}, not {low}..{high}"))),
    }
}

/// `200`, `200,202` and `200-299` as ranges of codes within 200..499.
fn ranges(codes: &str) -> Option<Vec<(u16, u16)>> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        (200 <= low && low <= high && high <= 499).then_some((low, high))
    };
    codes.split(',').map(range).collect()
}

/// Does the status code count as healthy?
pub(super) fn matches(codes: &str, status: u16) -> bool {
    ranges(codes).is_some_and(|ranges| ranges.iter().any(|(low, high)| (*low..=*high).contains(&status)))
}

/// What checks have said of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// `None` until the first check.
    pub(super) healthy: Option<bool>,
    /// Whether it took connections when checks were switched on or changed.
    in_service: bool,
    successes: u32,
    failures: u32,
}

impl Health {
    /// Nothing is known of a target whose group has new checks. One that is in service stays there until they take it out:
    /// "If the health checks exceed UnhealthyThresholdCount consecutive failures, the service takes the target out of
    /// service"; that a first check must be passed is said of a target that was just registered (UG
    /// target-group-health-checks).
    pub(super) fn unchecked(in_service: bool) -> Self {
        Self { in_service, ..Self::default() }
    }

    /// Whether it takes connections although no check has said anything yet.
    pub(super) fn is_in_service(&self) -> bool {
        self.healthy.is_none() && self.in_service
    }

    /// Takes in one result. The first success makes a new target healthy (UG target-group-health-checks); afterwards
    /// the thresholds decide.
    pub(super) fn record(&mut self, passed: bool, check: &HealthCheck) {
        (self.successes, self.failures) = if passed { (self.successes + 1, 0) } else { (0, self.failures + 1) };
        let needed = |count: Option<u32>, default| count.unwrap_or(default);
        match self.healthy {
            None if passed => self.healthy = Some(true),
            Some(false) if self.successes >= needed(check.healthy_threshold_count, 5) => self.healthy = Some(true),
            None | Some(true) if self.failures >= needed(check.unhealthy_threshold_count, 2) => {
                self.healthy = Some(false);
            }
            None | Some(true | false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn https() -> Requested {
        let (protocol, protocol_version) = (Some("HTTPS".to_owned()), Some("HTTP1".to_owned()));
        Requested { enabled: Some(true), protocol, protocol_version, ..Requested::default() }
    }

    #[test]
    fn a_tcp_group_has_no_checks_unless_asked_for() {
        let check = Requested::default().settle("INSTANCE", Some("TCP")).unwrap();
        assert_eq!(serde_json::to_value(check).unwrap(), serde_json::json!({"enabled": false}));
        assert!(Requested::default().settle("INSTANCE", Some("HTTP")).unwrap().enabled);
    }

    #[test]
    fn defaults_fill_what_is_absent_or_zero() {
        let requested = Requested { health_check_interval_seconds: Some(0), ..https() };
        let check = requested.settle("INSTANCE", Some("TCP")).unwrap();
        assert_eq!((check.health_check_interval_seconds, check.healthy_threshold_count), (Some(30), Some(5)));
        assert_eq!((check.path.as_deref(), check.unhealthy_threshold_count), (Some("/"), Some(2)));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let refuse = |requested: Requested| requested.settle("INSTANCE", Some("TCP")).unwrap_err().rule;
        assert_eq!(refuse(Requested { health_check_interval_seconds: Some(4), ..https() }), Rule::HealthCheckRange);
        assert_eq!(refuse(Requested { healthy_threshold_count: Some(1), ..https() }), Rule::HealthCheckRange);
        let matcher = Some(Matcher { http_code: "500".into() });
        assert_eq!(refuse(Requested { matcher, ..https() }), Rule::HealthCheckRange);
    }

    #[test]
    fn one_pass_makes_a_new_target_healthy_and_thresholds_decide_afterwards() {
        let check = https().settle("INSTANCE", Some("TCP")).unwrap();
        let mut health = Health::default();
        health.record(false, &check);
        assert_eq!(health.healthy, None);
        health.record(true, &check);
        assert_eq!(health.healthy, Some(true));
        health.record(false, &check);
        assert_eq!(health.healthy, Some(true));
        health.record(false, &check);
        assert_eq!(health.healthy, Some(false));
        (0..4).for_each(|_| health.record(true, &check));
        assert_eq!(health.healthy, Some(false));
        health.record(true, &check);
        assert_eq!(health.healthy, Some(true));
    }

    #[test]
    fn codes_match_lists_and_ranges() {
        assert!(matches("200", 200) && matches("200,204", 204) && matches("200-299", 250));
        assert!(!matches("200", 201) && !matches("200-299", 404) && ranges("199").is_none());
    }
}
