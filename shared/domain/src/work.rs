//! What crosses from one function to another: the items `rotate` hands out and the results it takes back.
//!
//! Identifiers and public data only. Key material has no way into any of these types.

mod attempts;
mod endpoint;

use std::net::{IpAddr, SocketAddr};

pub use endpoint::{Endpoint, NoEndpoint};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::id::{Epoch, Generation, HostName, NodeId, ProberName, Scope, StackName, TargetId};
use crate::plan::{Block, OutcomeKind};
use crate::record::AcmMark;
use crate::verdict::Verdict;

/// At most this many targets or items in one item, page or command (`SendCommand` takes 50 instance ids).
pub const PAGE: usize = 50;

/// One thing for another function to do. The state machine chooses the function by `kind` alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum WorkItem {
    /// For `authority`: make the authority that leaves are to be minted from, unless there is one.
    #[serde(rename_all = "camelCase")]
    Authority(AuthorityItem),
    /// For `mint`: make this generation, unless the ledger already has it.
    #[serde(rename_all = "camelCase")]
    Mint(MintItem),
    /// For `export`: take this generation out of ACM, unless the ledger already has it.
    #[serde(rename_all = "camelCase")]
    Export(ExportItem),
    /// For `distribute`: send our document to these targets.
    #[serde(rename_all = "camelCase")]
    Deliver(DeliverItem),
    /// For `verify`: dial these targets and report what they serve.
    #[serde(rename_all = "camelCase")]
    Verify(VerifyItem),
    /// For `provision`: look at the stack's targets again; the ledger holds a proof it has not seen.
    #[serde(rename_all = "camelCase")]
    Membership(MembershipItem),
}

/// Which targets' proofs are new. Whether they are registered, drained or left as they are is `provision`'s to plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MembershipItem {
    /// The stack.
    pub stack: StackName,
    /// 1 to 50 targets, sorted: for people, since `provision` looks at all.
    pub targets: Vec<TargetId>,
}

/// What `authority` is asked for: there is one for the whole control plane, and no stack decides anything about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorityItem {
    /// Why, for the log.
    pub because: String,
}

/// What `mint` needs beyond the spec, which it reads itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MintItem {
    /// The stack.
    pub stack: StackName,
    /// Whether one leaf is shared, or each target has its own.
    pub scope: Scope,
    /// The generation to make: the ledger's newest plus one at the time of planning. A conditional write decides.
    pub generation: Generation,
    /// Where each target has its own leaf, up to 50 nodes, sorted, that are to have theirs. With none of them, nothing but what
    /// the generation's leaves have in common is decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeId>,
    /// Where each target makes its key itself, which delivery its request is the answer to, in the order of the nodes; what it
    /// says is read from Run Command, and by which command from the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<KeyRequest>,
    /// The state of the followed ACM certificate that this generation answers, if the stack follows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<AcmMark>,
    /// Why it is minted, for the ledger.
    pub because: String,
}

/// The delivery, of the item's generation, in which a target was told to make its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRequest {
    /// The target.
    pub target: TargetId,
    /// The delivery's number.
    pub attempt: u32,
}

/// What `export` needs beyond the spec, which it reads itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportItem {
    /// The stack.
    pub stack: StackName,
    /// Who shares the leaf.
    pub scope: Scope,
    /// The generation to make: the ledger's newest plus one at the time of planning. A conditional write decides.
    pub generation: Generation,
    /// The serial number that ACM showed, lower-case hexadecimal: another certificate is not what was planned.
    pub serial: String,
    /// Why it is exported, for the ledger.
    pub because: String,
}

/// What a target is told to do (`Action` of the installer document).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeliveryAction {
    /// Fetch, check, swap, reload, look.
    Install,
    /// Keep what was installed: it was seen. Without it the host goes back by itself.
    Confirm,
    /// Make the generation's key on the host and ask for its certificate; change nothing that is served.
    Prepare,
}

/// One command to a set of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliverItem {
    /// The stack.
    pub stack: StackName,
    /// The rotation this belongs to.
    pub epoch: Epoch,
    /// What the targets are told.
    pub action: DeliveryAction,
    /// Whether they share one leaf, or each is given its own.
    pub scope: Scope,
    /// The generation to install.
    pub generation: Generation,
    /// 1 to 50 instances or addresses, sorted.
    pub targets: Vec<TargetId>,
    /// The managed nodes that answer at them, in the same order; left out where each target is its own node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeId>,
    /// The number of this attempt for each target and generation, from 1; the same for all targets of the item.
    pub attempt: u32,
    /// How long the targets wait for their turn to read the leaf, in seconds (`rotation::pace`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_s: u32,
    /// Over how many seconds from then on they spread.
    pub window_s: u32,
    /// After how long the targets go back by themselves unless they are told that the generation was seen; 0 for never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub confirm_s: u32,
    /// For how many hours longer than that what they would go back to has to last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub margin_hours: u32,
}

#[cfg(test)]
impl DeliverItem {
    /// A first generation for so many targets.
    pub(crate) fn sample(action: DeliveryAction, targets: u32) -> Self {
        Self {
            stack: StackName::parse("payments").unwrap(),
            epoch: Epoch(1),
            action,
            scope: Scope::shared(),
            generation: Generation(1),
            targets: (1..=targets).map(|number| TargetId::parse(format!("i-{number:08x}")).unwrap()).collect(),
            nodes: Vec::new(),
            attempt: 1,
            start_s: 0,
            window_s: 0,
            confirm_s: 0,
            margin_hours: 0,
        }
    }
}

/// Serde hands out references.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One handshake tour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyItem {
    /// The stack.
    pub stack: StackName,
    /// The server name to send and to match.
    pub server_name: HostName,
    /// The roots to trust, concatenated PEM.
    pub trust: String,
    /// 1 to 50 targets to dial directly.
    pub targets: Vec<VerifyTarget>,
    /// The way through the service; absent when the stack has none to probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Through>,
    /// A resolver to ask for names in place of the VPC's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<SocketAddr>,
    /// Where others install: how what they installed is judged in place of its fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<OthersItem>,
    /// Which prober does it; absent for the control plane's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prober: Option<ProberName>,
}

/// How certificates are judged that others installed: by chain, name and dates, and by this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OthersItem {
    /// Beside `trust`, the public authorities count that the prober's platform trusts.
    #[serde(default)]
    pub public: bool,
    /// The serial number that targets have to show, lower-case hexadecimal: ACM's newest. Any will do if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// One target to dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyTarget {
    /// The instance.
    pub target: TargetId,
    /// Where it serves TLS.
    pub address: Endpoint,
    /// The generation its newest certificate is known by; [`Generation::NONE`] where others install.
    pub generation: Generation,
    /// SHA-256 of the leaf's DER that is expected there, lower-case hexadecimal; empty where others install.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
}

/// A probe by name: resolve the custom domain, dial what comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Through {
    /// The listener's port.
    pub port: u16,
    /// How many connections to sample (each may reach another target), 1 to 20.
    pub samples: u32,
    /// Fingerprints that a healthy sample may show (current and, during a rollout, previous generation). Empty where there are
    /// too many to name, in a fleet in which each target has its own: then chain, names and dates count.
    pub fingerprints: Vec<String>,
}

/// What a function answers to a [`WorkItem`]; the state machine hands the list back to `rotate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum WorkResult {
    /// `authority`: the authority exists now (made by this call, or found), and its root is published.
    #[serde(rename_all = "camelCase")]
    Founded {
        /// Its id.
        authority: String,
    },
    /// Any of them: it cannot be done until a person has done something, which the block says. Trying again would not
    /// help, and nothing was changed.
    #[serde(rename_all = "camelCase")]
    Blocked {
        /// What is wrong and what would end it.
        block: Block,
    },
    /// `mint` or `export`: the generation exists now (made by this call, or found), and so do the leaves that were asked for.
    #[serde(rename_all = "camelCase")]
    Minted {
        /// The stack.
        stack: StackName,
        /// Whether one leaf is shared, or each target has its own.
        scope: Scope,
        /// The generation.
        generation: Generation,
        /// The leaf's serial number, lower-case hexadecimal without leading zeros; empty where each target has its own.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        serial: String,
    },
    /// `distribute`: the command is under way.
    #[serde(rename_all = "camelCase")]
    Sent {
        /// The stack.
        stack: StackName,
        /// Run Command's id.
        command_id: String,
    },
    /// `verify`: what was seen.
    #[serde(rename_all = "camelCase")]
    Seen {
        /// The stack.
        stack: StackName,
        /// One per target dialled.
        sightings: Vec<SeenTarget>,
        /// One per sample through the service.
        through: Vec<SeenThrough>,
    },
    /// `provision`: it has looked.
    #[serde(rename_all = "camelCase")]
    Joined {
        /// The stack.
        stack: StackName,
        /// What its look came to.
        outcome: OutcomeKind,
    },
    /// The function failed; the state machine's `Catch` makes this. The next pass decides what to do about it.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// Stable word: `Busy`, `Conflict`, `Refused`, `Invalid`, `Broken`, or a Lambda/States error name.
        error: String,
        /// Its text.
        #[serde(default)]
        cause: String,
        /// The function that was called, where the spec says which one: the prober of another VPC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        function: Option<String>,
    },
}

/// A target as it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenTarget {
    /// The instance.
    pub target: TargetId,
    /// The generation that was expected.
    pub generation: Generation,
    /// When the handshake ended.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The port that was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What the judge says.
    pub verdict: Verdict,
    /// How long connecting took (TCP), in milliseconds; absent when nothing was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<f64>,
    /// How long the TLS handshake took after that, in milliseconds.
    pub handshake_ms: f64,
}

/// A sample through the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenThrough {
    /// What the name resolved to and was dialled; absent when it did not resolve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// When the handshake ended.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What the judge says.
    pub verdict: Verdict,
    /// How long connecting took (TCP), in milliseconds; absent when nothing was connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<f64>,
    /// How long the TLS handshake took after that, in milliseconds.
    pub handshake_ms: f64,
}

/// What the state machine carries and hands to `rotate` each time round: identifiers, a pass counter, results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pass {
    /// The stack.
    pub stack: StackName,
    /// The rotation.
    pub epoch: Epoch,
    /// Which pass this is, from 1; after [`Pass::LAST`] the execution ends and the schedule resumes.
    pub wave: u32,
    /// What the last pass's work came to.
    #[serde(default)]
    pub results: Vec<WorkResult>,
}

impl Pass {
    /// Passes in one execution; keeps its history far below 25,000 events.
    pub const LAST: u32 = 200;
}

/// `rotate`'s answer to a [`Pass`], as the state machine reads it.
pub type RotateOutcome = crate::plan::Outcome<WorkItem>;

/// The words in [`RotateOutcome`] that keep the state machine going.
pub fn goes_on(kind: OutcomeKind) -> bool {
    match kind {
        OutcomeKind::Pending | OutcomeKind::Work => true,
        OutcomeKind::Converged | OutcomeKind::Blocked => false,
    }
}
