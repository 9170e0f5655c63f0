//! The health check of a target group.

use serde::Deserialize;

/// What VPC Lattice checks by itself. It never validates the targets' certificates, whatever this says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HealthCheck {
    /// Nothing; the default for TCP target groups.
    #[default]
    Off,
    /// An HTTP or HTTPS request.
    On(HealthCheckOn),
}

/// A health check of a TCP target group. Absent numbers are VPC Lattice's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckOn {
    /// HTTP or HTTPS; a TCP target group takes no TCP check.
    #[serde(default)]
    pub protocol: HealthCheckProtocol,
    /// HTTP/1.1 or HTTP/2.
    #[serde(default)]
    pub protocol_version: HealthCheckVersion,
    /// The port; the traffic port if absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// The path.
    #[serde(default = "root_path")]
    pub path: String,
    /// Between two checks, 5 to 300 seconds.
    #[serde(default)]
    pub interval_seconds: Option<u32>,
    /// How long a check may take, 1 to 120 seconds.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
    /// Good checks in a row that make a target healthy, 2 to 10.
    #[serde(default)]
    pub healthy_threshold: Option<u32>,
    /// Bad checks in a row that make a target unhealthy, 2 to 10.
    #[serde(default)]
    pub unhealthy_threshold: Option<u32>,
    /// Status codes that are good, within 200 to 499.
    #[serde(default = "code_200")]
    pub codes: String,
}

impl HealthCheck {
    /// The check, if there is one.
    pub fn on(&self) -> Option<&HealthCheckOn> {
        match self {
            Self::Off => None,
            Self::On(check) => Some(check),
        }
    }
}

impl HealthCheckOn {
    /// The check as VPC Lattice reports it: what is absent is its default (API reference, `HealthCheckConfig`), the
    /// port is the traffic port.
    pub fn with_defaults(&self, traffic_port: u16) -> Self {
        Self {
            protocol: self.protocol,
            protocol_version: self.protocol_version,
            port: Some(self.port.unwrap_or(traffic_port)),
            path: self.path.clone(),
            interval_seconds: Some(self.interval_seconds.unwrap_or(30)),
            timeout_seconds: Some(self.timeout_seconds.unwrap_or(5)),
            healthy_threshold: Some(self.healthy_threshold.unwrap_or(5)),
            unhealthy_threshold: Some(self.unhealthy_threshold.unwrap_or(2)),
            codes: self.codes.clone(),
        }
    }
}

/// The protocol of a health check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthCheckProtocol {
    /// In clear.
    Http,
    /// Over TLS, certificate unchecked.
    #[default]
    Https,
}

/// The HTTP version of a health check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthCheckVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

impl<'de> Deserialize<'de> for HealthCheck {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            enabled: bool,
            #[serde(flatten)]
            on: HealthCheckOn,
        }
        let wire = Wire::deserialize(deserializer)?;
        Ok(if wire.enabled { Self::On(wire.on) } else { Self::Off })
    }
}

fn root_path() -> String {
    "/".to_owned()
}

fn code_200() -> String {
    "200".to_owned()
}
