//! The ledger's records: what is remembered between looks. Facts only; phases are derived from them, never stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::id::{AcmArn, Caller, Epoch, Generation, NodeId, Nonce, Reason, Scope, TargetId, VerifierName};
use crate::spec::{Custody, KeyType};
use crate::verdict::{Fault, Verdict};
use crate::work::DeliveryAction;

/// What a leaf's generation answered on the side of the ACM certificate its stack follows.
///
/// A leaf is due when the mark seen now differs from the mark of the newest generation: a renewal changes the
/// serial, an approaching expiry sets `expiring`. Comparing marks needs no clock and no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmMark {
    /// The ACM certificate's serial number as ACM prints it.
    pub serial: String,
    /// Whether it was inside its expiry window.
    pub expiring: bool,
}

/// What a stack's targets are to serve: minted here or exported from ACM. Public data only: a key is in the Parameter Store value
/// and nowhere else. Where each target has a leaf of its own, this is what all of them have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationRecord {
    /// Whether one leaf is shared, or each target has its own.
    pub scope: Scope,
    /// Its number.
    pub generation: Generation,
    /// Where the bundle is; where each target has its own, with the word `target` in place of the target.
    pub parameter: String,
    /// The leaf's serial number, lower-case hexadecimal; empty where each target has its own: [`LeafRecord`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// SHA-256 of the leaf's DER, lower-case hexadecimal; empty where each target has its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// The DNS names in the leaf, sorted.
    pub dns_names: Vec<String>,
    /// Start of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// End of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// When it was minted or exported.
    #[serde(with = "time::serde::rfc3339")]
    pub minted_at: OffsetDateTime,
    /// The authority that signed it; of an exported one, the digest of what a verifier trusts.
    pub authority: String,
    /// What it answered on ACM's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<AcmMark>,
    /// Where it was exported from; absent when it was minted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<ExportRecord>,
    /// The spec that asked for it; absent in records of before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecMark>,
    /// The kind of the leaf's key; absent in records of before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<KeyType>,
    /// Where the key of each leaf is made and kept.
    #[serde(default, skip_serializing_if = "Custody::is_default")]
    pub custody: Custody,
    /// Why it was minted or exported.
    pub because: String,
}

impl GenerationRecord {
    /// The fingerprint of what this generation is to whoever has these leaves of its own; nothing where it is to have one of this
    /// generation and has none yet.
    pub fn fingerprint_with<'a>(&'a self, own: &'a [LeafRecord]) -> Option<&'a str> {
        if !self.scope.is_each() {
            return Some(&self.fingerprint);
        }
        own.iter().find(|leaf| leaf.generation == self.generation).map(|leaf| leaf.fingerprint.as_str())
    }
}

/// A spec as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecMark {
    /// The parameter's version, under which Parameter Store knows who wrote it.
    pub version: i64,
    /// SHA-256 of its text, lower-case hexadecimal.
    pub digest: String,
}

/// One target's own leaf of a generation: names, dates and authority are the generation's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeafRecord {
    /// The node it is for.
    pub scope: Scope,
    /// The generation it is of.
    pub generation: Generation,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of its DER, lower-case hexadecimal.
    pub fingerprint: String,
    /// When it was minted.
    #[serde(with = "time::serde::rfc3339")]
    pub minted_at: OffsetDateTime,
    /// End of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

impl LeafRecord {
    /// Until when one is remembered that ends then: a fleet has thousands of them a year, and nothing depends any more on one that
    /// has ended.
    pub const fn kept_until(not_after: OffsetDateTime) -> OffsetDateTime {
        not_after.saturating_add(Duration::days(30))
    }
}

/// That a generation's bundles were deleted from Parameter Store: nobody fetches them any more. Appended, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscardRecord {
    /// The generation.
    pub generation: Generation,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A generation that came out of ACM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportRecord {
    /// The ACM certificate.
    pub certificate: AcmArn,
    /// What a verifier trusts: the certificate above those that the targets serve, PEM.
    pub trust_pem: String,
}

/// A certificate that was requested of ACM for a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedRecord {
    /// The certificate.
    pub certificate: AcmArn,
    /// What was requested, as [`crate::acm::request::mark`] writes it: another wish is another request.
    pub request: String,
}

/// That it was told: a certificate that no stack uses will end without being renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LapsingRecord {
    /// The certificate.
    pub certificate: AcmArn,
    /// When it ends: after a renewal it may be told again.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// When it was told, which tells two that tell it at once apart.
    #[serde(with = "time::serde::rfc3339")]
    pub told_at: OffsetDateTime,
}

/// An authority whose leaves may be on the wire. Public data only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityRecord {
    /// Its id: the first 16 hexadecimal digits of the root's SHA-256.
    pub authority: String,
    /// The root to trust, PEM.
    pub root_pem: String,
    /// The issuing certificate, PEM.
    pub issuing_pem: String,
    /// The key in AWS KMS, by ARN, whose public half the issuing certificate holds; absent when the key is kept in Secrets
    /// Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuing_key: Option<String>,
    /// End of the issuing certificate's validity; no leaf outlives it.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// When its root was published, which was before this record; absent in records of before this was written down.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub published_at: Option<OffsetDateTime>,
}

/// A turn in the authorities' life. Numbered, and appended only if none has its number: of two that were decided upon the
/// same facts one is taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnRecord {
    /// Its number, from 1.
    pub number: u32,
    /// Which authority.
    pub authority: String,
    /// What becomes of it.
    pub turn: Turn,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why: what was measured, or the person's words.
    pub because: String,
    /// The person whose word it was, as the request says; absent where the planner found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
}

/// What becomes of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Turn {
    /// It signs leaves from now on, and no other one does.
    Activated,
    /// What it signed is unsafe: it never signs again, and each of its leaves is replaced without waiting.
    Tainted,
    /// Its root is trusted no more, for good.
    Retired,
}

/// That somebody who verifies what is served accepts an authority's leaves, by an operator's word. Appended, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcknowledgementRecord {
    /// The authority.
    pub authority: String,
    /// Who verifies.
    pub verifier: VerifierName,
    /// SHA-256 of the bundle it has, lower-case hexadecimal.
    pub bundle: String,
    /// When that was said.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How long it holds.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Who says so, as the request does.
    pub caller: Caller,
    /// The invocation's request id, by which CloudTrail knows who it really was.
    pub request: String,
}

/// A delivery that was begun. Written *before* the command is sent, completed afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRecord {
    /// The instance.
    pub target: TargetId,
    /// The generation to install.
    pub generation: Generation,
    /// The number of this attempt for the target and generation, from 1.
    pub attempt: u32,
    /// The rotation it belongs to.
    pub epoch: Epoch,
    /// What the target was told.
    pub action: DeliveryAction,
    /// What the target is to put into its request for a certificate, where it was told to make a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedRecord>,
    /// When it was begun.
    #[serde(with = "time::serde::rfc3339")]
    pub begun_at: OffsetDateTime,
    /// When the generation's leaf ends: nobody is given it after that.
    #[serde(with = "time::serde::rfc3339")]
    pub leaf_ends_at: OffsetDateTime,
    /// Run Command's id; absent while (or if) sending was never confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<String>,
    /// How it ended; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<AttemptEnd>,
}

/// What tells a host's request for a certificate from all others: whose it is, and which command it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedRecord {
    /// The node that was asked.
    pub node: NodeId,
    /// Chosen by chance for this command.
    pub nonce: Nonce,
}

/// How long an attempt is kept after it can no longer matter: clocks differ, and somebody may want to read what was said.
const KEPT: Duration = Duration::days(7);

impl AttemptRecord {
    /// Until when it is kept; absent while it is under way. What a generation was reverted for keeps it quarantined as long
    /// as it could be delivered, that is until its leaf ends. Everything that is kept is read at each look.
    pub fn kept_until(&self) -> Option<OffsetDateTime> {
        let ended = self.ended.as_ref()?;
        Some(self.leaf_ends_at.max(ended.at).saturating_add(KEPT))
    }

    /// Whether its command may still run; one that has not been seen to end by then Run Command has long given up.
    pub fn may_run(&self, now: OffsetDateTime) -> bool {
        self.ended.is_none() && now - self.begun_at < Duration::hours(1)
    }
}

/// How a delivery ended. `Installed` is the installer's word, not proof: a sighting is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptEnd {
    /// Whether the installer says the target serves the generation.
    pub installed: bool,
    /// The installer's stable word (`installed`, `unchanged`, `reverted`, `refused`, ...) or Run Command's status.
    pub code: String,
    /// One line for a person.
    #[serde(default)]
    pub detail: String,
    /// When it was learnt.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl AttemptEnd {
    /// Whether a look at that moment shows what came of it. In the very moment in which a delivery failed, a host may still have
    /// shown what it has gone back from.
    pub(crate) fn is_before(&self, seen_at: OffsetDateTime) -> bool {
        if self.installed { seen_at >= self.at } else { seen_at > self.at }
    }
}

/// What was last seen on the wire at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SightingRecord {
    /// The instance.
    pub target: TargetId,
    /// The generation that was expected; [`Generation::NONE`] where others install.
    pub generation: Generation,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The port that was dialled; absent in records of before this was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the judge said.
    pub verdict: Verdict,
    /// The highest generation ever confirmed on this target: its floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Generation>,
    /// When the first of the bad sightings in a row was made; absent while the last one was good.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<OffsetDateTime>,
}

/// What was last seen through the service: the custom domain resolved, dialled and judged. One per stack.
///
/// VPC Lattice chooses the target of each sample, so this proves routing and never a single target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThroughRecord {
    /// When the last sample ended.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How many samples were taken.
    pub samples: u32,
    /// How many of them were good.
    pub good: u32,
    /// Every fault seen in any sample, sorted, each once; empty when all is well.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// When the first of the bad probes in a row was made; absent while the last one was good.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<OffsetDateTime>,
}

impl ThroughRecord {
    /// At least one sample was taken, and all of them were good.
    pub fn is_good(&self) -> bool {
        self.samples > 0 && self.good == self.samples && self.faults.is_empty()
    }
}

/// The stack's targets as `provision` last saw them: what tells `rotate` whom to prove, and what was heard of its proofs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MembershipRecord {
    /// The running instances the spec selects, and all that are registered.
    pub members: BTreeMap<TargetId, Member>,
    /// Everything that a teardown has set about deleting, in whatever run; absent while the stack is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Vec<String>>,
}

impl MembershipRecord {
    /// What is written in the place of the former record: what earlier runs of a teardown set about comes first.
    #[must_use]
    pub fn after(self, former: Option<&Self>) -> Self {
        let earlier = former.and_then(|former| former.deleting.clone()).unwrap_or_default();
        let deleting = self.deleting.map(|now| {
            let news = now.into_iter().filter(|one| !earlier.contains(one)).collect();
            [earlier, news].concat()
        });
        Self { deleting, ..self }
    }

    /// Whether it says nothing that a record is needed for.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.deleting.as_ref().is_none_or(Vec::is_empty)
    }
}

/// One of the stack's targets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// When it was last started: what was seen before that proves nothing.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<OffsetDateTime>,
    /// Whether clients are sent to it.
    #[serde(default)]
    pub registered: bool,
    /// The time of the sighting this was decided upon.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<OffsetDateTime>,
}

/// When somebody last asked for a fresh look at every target: what was seen before it does not count as seen lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookRecord {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// That somebody declared what was issued so far unsafe: an emergency. Appended once for each generation it reaches up to,
/// never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyRecord {
    /// The newest generation that is unsafe; all before it are, too.
    pub through: Generation,
    /// When it was declared.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who declared it, as the request says.
    pub caller: Caller,
    /// Why, in the caller's words.
    pub reason: Reason,
    /// The invocation's request id, by which CloudTrail knows who it really was.
    pub request: String,
    /// The rotation that was in progress, or the one that was begun for it.
    pub epoch: Epoch,
}

/// The stack's rotation in progress, or its last one. Taken and ended by conditional write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EpochRecord {
    /// Its number.
    pub epoch: Epoch,
    /// How often an execution was started for it.
    pub attempt: u32,
    /// When the epoch began.
    #[serde(with = "time::serde::rfc3339")]
    pub begun_at: OffsetDateTime,
    /// When it converged; absent while it has not.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<OffsetDateTime>,
    /// The name of the execution that last carried it.
    pub execution: String,
}
