//! Where a prober connects to.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::HostName;

/// Where something serves TLS. It is written as one text, `10.0.1.5:443` or `internal-payments-1.elb.amazonaws.com:443`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Endpoint {
    /// At an address.
    Address(SocketAddr),
    /// At every address that a name leads to.
    Host {
        /// The name.
        name: HostName,
        /// The port, from 1.
        port: u16,
    },
}

impl Endpoint {
    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Host { port, .. } => *port,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// What is neither an address nor a name with its port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a lower-case host name, followed by a colon and a port")]
pub struct NoEndpoint(String);

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let no_endpoint = || NoEndpoint(text.to_owned());
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(address));
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(no_endpoint)?;
        let name = HostName::parse(name).map_err(|_| no_endpoint())?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(no_endpoint)?;
        Ok(Self::Host { name, port })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NoEndpoint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_it_is_written() {
        for text in ["10.0.1.5:443", "[fd12::5]:8443", "internal-a-1.eu-west-1.elb.amazonaws.com:443"] {
            let endpoint: Endpoint = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(&endpoint).unwrap(), text);
            assert!(text.ends_with(&format!(":{}", endpoint.port())), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for text in
            ["a.example.com", "a.example.com:0", "a.example.com:65536", "A.example.com:443", "10.0.1:443", ":443"]
        {
            let refused = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{text:?} is neither")), "{refused}");
        }
    }
}
