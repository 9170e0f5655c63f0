//! Judging a sighting: every mismatch, not only the first.

use serde::{Deserialize, Serialize};

/// What a handshake proved, or everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// SHA-256 of the served leaf's DER, lower-case hexadecimal; absent when no certificate was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The served leaf's serial number, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The served leaf's end of validity.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub not_after: Option<time::OffsetDateTime>,
    /// Empty when all is well.
    pub faults: Vec<Fault>,
}

impl Verdict {
    /// The expected certificate is served, trusted, valid now and for the name asked for.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// One thing that is wrong with what was seen. Stable words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// The name did not resolve.
    Unresolved,
    /// The name resolved to something that is not what was expected.
    WrongAddress,
    /// The connection was refused.
    Refused,
    /// No answer in time (connect or handshake).
    TimedOut,
    /// The connection ended or the peer broke the protocol before a certificate was seen.
    HandshakeFailed,
    /// The chain does not lead to a trusted root.
    Untrusted,
    /// The leaf is not for the name asked for.
    WrongName,
    /// The leaf's validity has ended.
    Expired,
    /// The leaf's validity has not begun.
    NotYetValid,
    /// Another certificate than the expected one is served.
    OtherCertificate,
}
