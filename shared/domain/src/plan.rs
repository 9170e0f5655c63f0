//! What both planners return: the steps that can be taken now, each with its reason; or a wait; or a block.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing to do and why, in words an operator can read in a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step<A> {
    /// What is done.
    pub action: A,
    /// Why it is done now.
    pub because: String,
}

/// Something that is on its way and needs no action but time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What is awaited.
    pub on: String,
    /// How long until another look is worth it, in seconds.
    pub retry_after_s: u32,
}

/// Why nothing (more) can be done without a person. Stable words: alarms and mails name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BlockCode {
    /// No spec under the stack's parameter name, or it cannot be read.
    SpecMissing,
    /// The spec can be read but not accepted.
    SpecInvalid,
    /// A resource with our name, but without our tag, stands in the way.
    Foreign,
    /// Something the spec refers to (a VPC, a subnet, an instance, a zone) does not exist.
    NotFound,
    /// A resource of ours is in a failed state that only its deletion ends, and deleting it needs a person.
    Failed,
    /// Teardown was asked for while deletion protection is on.
    DeletionProtected,
    /// A change was asked for that AWS cannot make in place.
    Immutable,
    /// A target's owner has not opted in (instance tag `espalier:stack`, `host.conf`).
    NotOptedIn,
    /// A target is not reachable by Systems Manager.
    Unmanaged,
    /// The targets the spec describes do not exist, or there are none.
    NoTargets,
    /// No prober can reach the target, so nothing can be proven.
    Unverifiable,
    /// More targets failed than the rollout's failure budget allows.
    Halted,
    /// A target's deliveries failed, within the rollout's failure budget; it keeps what it serves.
    Stuck,
    /// A target's server is broken, and not by what was delivered; it keeps what it serves.
    ServerBroken,
    /// What is served would not be replaced early enough before its end, as much as can be foreseen.
    SlackTooShort,
    /// The authority ends too soon for a leaf that would live longer than the one there is.
    AuthorityExpiring,
    /// The authority's key cannot be used as it is: not allowed, disabled, about to be deleted, or not the authority's.
    AuthorityUnusable,
    /// An authority is prepared, and a registered verifier has not acknowledged it.
    Unacknowledged,
    /// A DNS name is outside the control plane's `AllowedDomains`.
    DomainNotAllowed,
    /// The ACM certificate the stack serves or follows cannot be used.
    AcmUnusable,
    /// The ACM certificate the stack serves was revoked.
    AcmRevoked,
    /// The ACM certificate the stack serves has ended.
    AcmExpired,
    /// The ACM certificate the stack serves ends soon, and ACM has no newer one yet.
    AcmExpiring,
    /// ACM tries to renew the certificate the stack serves, and cannot without somebody's help.
    AcmActionRequired,
    /// ACM will not renew the certificate the stack serves.
    AcmNotRenewing,
    /// A certificate of ACM's that no stack uses ends soon, and ACM will not renew it.
    AcmLapsing,
    /// Something exists but VPC Lattice (or this version) cannot work with it as it is.
    Unsupported,
    /// An auth policy lets no TLS passthrough connection through.
    CutOff,
    /// Something that somebody else manages is not as the spec says; it is theirs to change.
    Differs,
    /// An AWS quota would be exceeded.
    Quota,
    /// Somebody changed what is ours, and the spec wants that told and not repaired.
    Drifted,
    /// Targets fail VPC Lattice's health check where a change would send clients.
    Unhealthy,
}

impl BlockCode {
    /// Whether it is about a certificate in ACM: it is mended there, or where ACM looks for its validation, and has an
    /// alarm of its own.
    pub const fn is_about_acm(self) -> bool {
        match self {
            Self::AcmUnusable
            | Self::AcmRevoked
            | Self::AcmExpired
            | Self::AcmExpiring
            | Self::AcmActionRequired
            | Self::AcmNotRenewing
            | Self::AcmLapsing => true,
            Self::SpecMissing
            | Self::SpecInvalid
            | Self::Foreign
            | Self::NotFound
            | Self::Failed
            | Self::DeletionProtected
            | Self::Immutable
            | Self::NotOptedIn
            | Self::Unmanaged
            | Self::NoTargets
            | Self::Unverifiable
            | Self::Halted
            | Self::Stuck
            | Self::ServerBroken
            | Self::SlackTooShort
            | Self::AuthorityExpiring
            | Self::AuthorityUnusable
            | Self::Unacknowledged
            | Self::DomainNotAllowed
            | Self::Unsupported
            | Self::CutOff
            | Self::Differs
            | Self::Quota
            | Self::Drifted
            | Self::Unhealthy => false,
        }
    }
}

/// A reason code and the sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The stable word.
    pub code: BlockCode,
    /// What is wrong and what would end it, naming the resource.
    pub because: String,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.because)
    }
}

/// What can be done now. All three lists may be filled: independent steps go on beside a wait and a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan<A> {
    /// Steps whose inputs are already visible; independent of each other.
    pub steps: Vec<Step<A>>,
    /// What is on its way.
    pub waits: Vec<Wait>,
    /// What needs a person.
    pub blocks: Vec<Block>,
}

impl<A> Default for Plan<A> {
    fn default() -> Self {
        Self { steps: Vec::new(), waits: Vec::new(), blocks: Vec::new() }
    }
}

impl<A> Plan<A> {
    /// Adds a step.
    pub fn step(&mut self, action: A, because: impl Into<String>) {
        self.steps.push(Step { action, because: because.into() });
    }

    /// Adds a wait.
    pub fn wait(&mut self, on: impl Into<String>, retry_after_s: u32) {
        self.waits.push(Wait { on: on.into(), retry_after_s });
    }

    /// Adds a block.
    pub fn block(&mut self, code: BlockCode, because: impl Into<String>) {
        self.blocks.push(Block { code, because: because.into() });
    }

    /// Nothing to do, nothing on its way, nothing in the way.
    pub fn is_converged(&self) -> bool {
        self.steps.is_empty() && self.waits.is_empty() && self.blocks.is_empty()
    }

    /// The shortest of the waits, in seconds.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.waits.iter().map(|wait| wait.retry_after_s).min()
    }
}

/// What a function answers (`DESIGN`: public contract). `work` is only ever filled by `rotate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome<W = serde_json::Value> {
    /// The one word the state machine chooses by.
    pub outcome: OutcomeKind,
    /// The stack this is about; absent when an answer covers several (see `stacks`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// When another look is worth it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// What was done, or with `mode: plan` would be done, each with `because`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<ReportedStep>,
    /// What is in the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
    /// The same blocks were told before: the state machine tells nobody again. Only of `rotate`, to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// What is awaited at the end: what is on its way, and what failed last and is tried again, with the failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// Items for the state machine to map over; at most 50.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<W>,
}

impl<W> Outcome<W> {
    /// Only the word, of this stack or of several; whoever has more to say adds it.
    pub fn bare(outcome: OutcomeKind, stack: Option<String>) -> Self {
        let (steps, blocks, waits, work) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { outcome, stack, retry_after_s: None, steps, blocks, repeated: false, waits, work }
    }
}

/// The four words of [`Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeKind {
    /// Nothing is left to do.
    Converged,
    /// Something is on its way; look again after `retry_after_s`.
    Pending,
    /// There is `work` to hand out.
    Work,
    /// A person is needed; `blocks` says for what.
    Blocked,
}

/// A step as it is reported: rendered, because the reader is a person or a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedStep {
    /// The wave it belongs to, from 1.
    pub wave: u32,
    /// What was (or would be) done, for example `+ TargetGroup payments`.
    pub action: String,
    /// Why.
    pub because: String,
}
