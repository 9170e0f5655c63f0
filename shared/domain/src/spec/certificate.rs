//! What a spec says of certificates: who signs them, where their keys are made, who shares them, and how long they live.

use serde::{Deserialize, Serialize};

use super::{KeyType, Others};
use crate::id::{AcmArn, HostName, HostedZoneId};

/// What the targets prove themselves with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Who signs.
    #[serde(default)]
    pub issuer: Issuer,
    /// Where the key is made and kept.
    #[serde(default)]
    custody: Option<Custody>,
    /// Who shares it.
    #[serde(default)]
    pub scope: Sharing,
    /// The names in the certificate; the service's domain name is one of them.
    pub dns_names: Vec<HostName>,
    /// The kind of key.
    #[serde(default)]
    pub key_type: KeyType,
    /// How long a leaf lives, in hours, 1 to 720; of an ACM certificate, what to expect.
    #[serde(default = "acm_hours")]
    pub validity_hours: u32,
    /// How long before its end a leaf is replaced, in hours.
    pub renew_before_hours: u32,
    /// Up to which part of its life earlier, in percent, 0 to 25: stacks made together shall not renew together.
    #[serde(default = "five")]
    pub renew_spread_percent: u32,
    /// An ACM certificate whose renewal or approaching expiry makes the leaves due.
    #[serde(default)]
    pub follow: Option<Follow>,
}

/// Who signs what the targets serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Issuer {
    /// The control plane's own authority: `mint` makes leaves.
    #[default]
    Authority,
    /// ACM: `export` takes the certificate and its key from there, again after each of ACM's renewals.
    Acm(AcmSource),
    /// Somebody else, who installs it, too; with `manage: nothing`.
    Others(Others),
}

/// Which of ACM's certificates is served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AcmSource {
    /// This one, which somebody else requested.
    CertificateArn(AcmArn),
    /// One that `provision` requests.
    Request(AcmRequest),
}

/// A certificate that is to be requested: public, exportable, validated by DNS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmRequest {
    /// The public hosted zone in which ACM looks for the validation records; they are written there and kept there.
    pub hosted_zone_id: HostedZoneId,
}

impl Certificate {
    /// The ACM certificate that the targets serve, if it comes from there.
    pub fn source(&self) -> Option<&AcmSource> {
        match &self.issuer {
            Issuer::Authority | Issuer::Others(_) => None,
            Issuer::Acm(source) => Some(source),
        }
    }

    /// How what others install is judged, if they do.
    pub fn others(&self) -> Option<&Others> {
        match &self.issuer {
            Issuer::Others(others) => Some(others),
            Issuer::Authority | Issuer::Acm(_) => None,
        }
    }

    /// What is to be requested of ACM, if anything is.
    pub fn request(&self) -> Option<&AcmRequest> {
        match self.source()? {
            AcmSource::CertificateArn(_) => None,
            AcmSource::Request(request) => Some(request),
        }
    }

    /// Where each leaf's key is made and kept. A key that is one target's own need never leave it; one that all share has to.
    pub fn custody(&self) -> Custody {
        self.custody.unwrap_or(match self.scope {
            Sharing::Shared => Custody::ParameterStore,
            Sharing::Target => Custody::Target,
        })
    }

    /// Whether the spec names this ACM certificate, to serve it, to follow it or to compare with it. Of one that was
    /// requested for it, only the ledger knows.
    pub fn names(&self, certificate: &AcmArn) -> bool {
        matches!(self.source(), Some(AcmSource::CertificateArn(named)) if named == certificate)
            || self.others().is_some_and(|others| others.certificate_arn.as_ref() == Some(certificate))
            || self.follow.as_ref().is_some_and(|follow| follow.certificate_arn == *certificate)
    }
}

/// Who shares a certificate and its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sharing {
    /// All targets of the stack.
    #[default]
    Shared,
    /// Nobody: each target has its own.
    Target,
}

/// Where a leaf's key is made and kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Custody {
    /// Made by `mint`, kept in one SecureString that the targets fetch.
    #[default]
    ParameterStore,
    /// Made on the target that serves it, and nowhere else ever.
    Target,
}

impl Custody {
    /// Whether it is what records of before this was written down had.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An ACM certificate that the leaves follow.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Follow {
    /// The certificate.
    pub certificate_arn: AcmArn,
    /// How many days before its end it counts as expiring, 1 to 90.
    #[serde(default = "forty_five")]
    pub expiring_days: u32,
}

/// A public certificate of ACM lives 198 days (ACM user guide, certificate characteristics).
fn acm_hours() -> u32 {
    198 * 24
}

fn forty_five() -> u32 {
    45
}

fn five() -> u32 {
    5
}
