//! Obtaining a certificate of ACM's: what can be done now about one that a spec asks Espalier to request.
//!
//! A certificate is requested once for a wish (stack, names, kind of key). What finds it again is, in this order: the
//! ledger; the tags it was requested with, should the ledger not have been written; and for an hour ACM's own idempotency,
//! should its list not show it yet. Its validation records are written and, as long as the spec asks for the certificate,
//! kept: ACM renews by the same records. Waiting for ACM is nobody's work; whether what it issues can be served is
//! [`super::meaning()`]'s.

use std::collections::BTreeMap;
use std::fmt;

use super::{AcmEvidence, AcmStatus, ValidationRecord};
use crate::id::{HostName, HostedZoneId};
use crate::plan::{BlockCode, Plan};
use crate::record::RequestedRecord;
use crate::spec::{AcmRequest, KeyType, Spec, State};
use crate::tag;
use crate::token::short_hash;

/// How long until ACM has made up its validation records: "several seconds" (API reference, `RequestCertificate`).
const RECORDS_POLL_S: u32 = 2;

/// When to look again, in seconds, for a certificate whose records are there: ACM takes minutes, and says so by an event.
/// Longer than an execution of the rotation waits.
pub const ISSUANCE_POLL_S: u32 = 300;

/// What is wanted of ACM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The common name: the service's domain.
    pub domain_name: HostName,
    /// The other names, sorted.
    pub other_names: Vec<HostName>,
    /// The kind of key.
    pub key_type: KeyType,
    /// What the certificate is tagged with, by which it is found again.
    pub tags: BTreeMap<String, String>,
    /// ACM's `IdempotencyToken`: 32 word characters, the same for the same wish.
    pub token: String,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Request the certificate and write down which one it is.
    Request(Wish),
    /// Write down a certificate that was requested before.
    Remember(RequestedRecord),
    /// Write a validation record.
    WriteRecord {
        /// The zone.
        hosted_zone_id: HostedZoneId,
        /// The record.
        record: ValidationRecord,
    },
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the ledger knows.
    pub remembered: Option<RequestedRecord>,
    /// The certificate that the ledger or, failing that, the tags lead to; one that is gone is none.
    pub certificate: Option<AcmEvidence>,
    /// The zone of the validation records.
    pub zone: Option<Zone>,
    /// What the zone answers at the names of the validation records: the CNAME's value, or `None` for anything else.
    pub answers: BTreeMap<String, Option<String>>,
}

/// A hosted zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name without the trailing dot.
    pub name: String,
    /// Whether it answers only inside VPCs.
    pub is_private: bool,
}

/// What the spec asks to be requested now; nothing for a stack that is not to exist.
pub fn wanted(spec: &Spec) -> Option<&AcmRequest> {
    spec.certificate.request().filter(|_| spec.state == State::Present)
}

/// The wish in a word: the same stack, names and kind of key make the same.
pub fn mark(spec: &Spec) -> String {
    let mut names: Vec<&str> = spec.certificate.dns_names.iter().map(HostName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let first = [spec.stack.as_str(), spec.certificate.key_type.name(), spec.service.domain_name.as_str()];
    short_hash(&[first.as_slice(), names.as_slice()].concat(), 16)
}

/// The tags of the certificate that the spec asks for.
pub fn tags(spec: &Spec) -> BTreeMap<String, String> {
    let mut tags = tag::tags(&spec.stack);
    tags.insert(tag::REQUEST.to_owned(), mark(spec));
    tags
}

/// Of several certificates with the same tags, the one to go on with: an issued one before others, and always the same.
pub fn choose(found: Vec<AcmEvidence>) -> Option<AcmEvidence> {
    let rank = |one: &AcmEvidence| match one.status {
        AcmStatus::Issued => 0,
        AcmStatus::PendingValidation => 1,
        AcmStatus::Inactive
        | AcmStatus::Expired
        | AcmStatus::ValidationTimedOut
        | AcmStatus::Revoked
        | AcmStatus::Failed
        | AcmStatus::Missing
        | AcmStatus::Other(_)
        | AcmStatus::Unread(_) => 2,
    };
    found.into_iter().min_by_key(|one| (rank(one), one.certificate.to_string()))
}

/// What can be done now.
pub fn plan(spec: &Spec, seen: &Seen) -> Plan<Action> {
    let mut plan = Plan::default();
    let Some(request) = wanted(spec) else { return plan };
    if !is_zone_good(spec, request, seen, &mut plan) {
        return plan;
    }
    let certificate = seen.certificate.as_ref().filter(|one| one.status != AcmStatus::Missing);
    let Some(certificate) = certificate else {
        let because = match &seen.remembered {
            None => "the spec asks for a certificate of ACM's".to_owned(),
            Some(former) if former.request != mark(spec) => "the spec asks for other names or another key".to_owned(),
            Some(former) => format!("{} is gone", former.certificate),
        };
        plan.step(Action::Request(wish(spec, seen.remembered.as_ref())), because);
        return plan;
    };
    let record = RequestedRecord { certificate: certificate.certificate.clone(), request: mark(spec) };
    if seen.remembered.as_ref() != Some(&record) {
        plan.step(Action::Remember(record), "it was requested before and not written down");
    }
    match certificate.status {
        AcmStatus::PendingValidation | AcmStatus::Issued => records(request, seen, certificate, &mut plan),
        // What there is to say about it, `rotate` says, which knows what the targets serve.
        AcmStatus::Inactive
        | AcmStatus::Expired
        | AcmStatus::ValidationTimedOut
        | AcmStatus::Revoked
        | AcmStatus::Failed
        | AcmStatus::Missing
        | AcmStatus::Other(_)
        | AcmStatus::Unread(_) => {}
    }
    plan
}

/// ACM asks the public DNS; a record where nobody finds it would be waited for in vain.
fn is_zone_good(spec: &Spec, request: &AcmRequest, seen: &Seen, plan: &mut Plan<Action>) -> bool {
    let id = &request.hosted_zone_id;
    let field = "certificate.issuer.request.hostedZoneId";
    let Some(zone) = &seen.zone else {
        let because = format!("there is no hosted zone {id}: name the public zone of the names in {field}");
        plan.block(BlockCode::NotFound, because);
        return false;
    };
    if zone.is_private {
        let name = &zone.name;
        let because =
            format!("hosted zone {id} ({name}) is private and ACM asks the public DNS: name the public one in {field}");
        plan.block(BlockCode::Unsupported, because);
        return false;
    }
    let is_inside = |name: &&HostName| {
        name.as_str().strip_suffix(zone.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if let Some(outside) = spec.certificate.dns_names.iter().find(|name| !is_inside(name)) {
        let because = format!(
            "{outside} is not in hosted zone {id} ({}): its validation record cannot be written there. Take it out of \
             certificate.dnsNames, or name the zone of all names in {field}",
            zone.name
        );
        plan.block(BlockCode::Unsupported, because);
        return false;
    }
    true
}

/// What is requested; `former` is what was written down before.
pub fn wish(spec: &Spec, former: Option<&RequestedRecord>) -> Wish {
    let domain_name = spec.service.domain_name.clone();
    let mut other_names: Vec<HostName> =
        spec.certificate.dns_names.iter().filter(|name| **name != domain_name).cloned().collect();
    other_names.sort();
    other_names.dedup();
    // ACM would answer the token of a certificate that is gone with that certificate, for an hour.
    let former = former.map_or("", |former| former.certificate.as_str());
    let token = short_hash(&[&mark(spec), former], 32);
    Wish { domain_name, other_names, key_type: spec.certificate.key_type, tags: tags(spec), token }
}

/// The validation records: written where they are missing, before issuance and ever after.
fn records(request: &AcmRequest, seen: &Seen, certificate: &AcmEvidence, plan: &mut Plan<Action>) {
    let arn = &certificate.certificate;
    let is_pending = certificate.status == AcmStatus::PendingValidation;
    if certificate.validation.is_empty() {
        if is_pending {
            plan.wait(format!("ACM to name the validation records of {arn}"), RECORDS_POLL_S);
        }
        return;
    }
    let mut is_complete = true;
    for record in &certificate.validation {
        match seen.answers.get(&record.name) {
            Some(Some(value)) if *value == record.value => {}
            Some(held) => {
                is_complete = false;
                let held = held.as_deref().unwrap_or("something that is no simple CNAME");
                let because = format!(
                    "{} in hosted zone {} is {held}; ACM validates {arn} by a CNAME to {}: remove what is there",
                    record.name, request.hosted_zone_id, record.value
                );
                plan.block(BlockCode::Foreign, because);
            }
            None => {
                is_complete = false;
                let because =
                    if is_pending { "ACM validates the domain by it" } else { "ACM renews by it, and it is gone" };
                let hosted_zone_id = request.hosted_zone_id.clone();
                plan.step(Action::WriteRecord { hosted_zone_id, record: record.clone() }, because);
            }
        }
    }
    if is_pending && is_complete {
        plan.wait(format!("ACM to issue {arn}"), ISSUANCE_POLL_S);
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(wish) => {
                let names: Vec<&str> =
                    std::iter::once(&wish.domain_name).chain(&wish.other_names).map(HostName::as_str).collect();
                write!(f, "+ Certificate {} ({})", names.join(", "), wish.key_type)
            }
            Self::Remember(record) => write!(f, "~ Certificate {}", record.certificate),
            Self::WriteRecord { hosted_zone_id, record } => {
                write!(f, "+ ValidationRecord {} -> {} in {hosted_zone_id}", record.name, record.value)
            }
        }
    }
}
