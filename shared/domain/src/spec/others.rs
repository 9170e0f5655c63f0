//! What the spec says of certificates that somebody else installs.

use serde::Deserialize;

use crate::id::AcmArn;

/// How certificates are judged that somebody else installs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Others {
    /// What their chain has to lead to.
    pub trust: Trust,
    /// The ACM certificate that they are: served is its newest, or a former one.
    #[serde(default)]
    pub certificate_arn: Option<AcmArn>,
}

/// What a chain has to lead to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Trust {
    /// An authority that everybody trusts: the platform's store decides.
    Public,
    /// The control plane's own authority, or what certificates lead to that it exported for this stack.
    Authority,
    /// One of these certificates, PEM.
    Roots(String),
}

impl From<String> for Trust {
    fn from(text: String) -> Self {
        match text.as_str() {
            "public" => Self::Public,
            "authority" => Self::Authority,
            _ => Self::Roots(text),
        }
    }
}
