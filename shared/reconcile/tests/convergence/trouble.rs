//! What goes wrong, and what the product's adapters make of what AWS refuses.

use std::collections::BTreeMap;

use espalier_domain::failure::{Failure, Word};
use espalier_domain::network::Action;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A call is throttled, with a time to stay away.
    Throttled,
    /// A look is throttled.
    LookThrottled,
    /// A call fails without effect.
    Unavailable,
    /// A call has its effect and its answer is lost.
    AnswerLost,
    /// A call is made twice.
    Twice,
    /// Some of a call's targets are not registered, or not deregistered.
    Partial,
    /// `CREATE_FAILED`.
    CreationFailed,
    /// `UPDATE_FAILED`.
    UpdateFailed,
    /// `DELETE_FAILED`.
    DeletionFailed,
    /// Something asynchronous takes its time.
    Slow,
    /// A list is answered as it was some seconds ago.
    Lagging,
    /// The run ends before a call.
    CutBefore,
    /// The run ends after a call, and before its answer.
    CutAfter,
    /// A second run beside the first.
    Concurrent,
    /// Somebody changes what is ours by hand.
    Meddled,
    /// Somebody else's resource has our name.
    InTheWay,
    /// A target fails clients.
    Fails,
    /// An instance starts anew, and nobody has seen it serve since.
    Restarted,
    /// Auto Scaling launches an instance and waits for an answer.
    Launched,
    /// Auto Scaling gives up an instance that nobody answered for.
    Abandoned,
    /// Auto Scaling ends an instance and waits for an answer.
    Terminating,
    /// An instance's owner puts it aside for a while.
    SetAside,
}

impl Fault {
    pub(crate) const ALL: [Self; 22] = [
        Self::Throttled,
        Self::LookThrottled,
        Self::Unavailable,
        Self::AnswerLost,
        Self::Twice,
        Self::Partial,
        Self::CreationFailed,
        Self::UpdateFailed,
        Self::DeletionFailed,
        Self::Slow,
        Self::Lagging,
        Self::CutBefore,
        Self::CutAfter,
        Self::Concurrent,
        Self::Meddled,
        Self::InTheWay,
        Self::Fails,
        Self::Restarted,
        Self::Launched,
        Self::Abandoned,
        Self::Terminating,
        Self::SetAside,
    ];
}

/// How often each fault occurred.
pub(crate) type Met = BTreeMap<Fault, u32>;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Trouble {
    word: Word,
    retry_after_s: Option<u32>,
    text: String,
}

impl Trouble {
    pub(crate) fn busy(text: &str, retry_after_s: Option<u32>) -> Self {
        Self { word: Word::Busy, retry_after_s, text: text.into() }
    }

    pub(crate) fn refused(text: &str) -> Self {
        Self { word: Word::Refused, retry_after_s: None, text: text.into() }
    }

    fn conflict(text: String) -> Self {
        Self { word: Word::Conflict, retry_after_s: None, text }
    }
}

impl Failure for Trouble {
    fn word(&self) -> Word {
        self.word
    }

    fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }
}

/// Refusals that a run meets because somebody else was faster, or because what it saw was out of date.
const PASSING: [&str; 10] = [
    "1.6: ",
    "1.7: the name is taken",
    "1.8: one network per VPC",
    "no such ",
    "already associated",
    "one listener per port",
    "not registered",
    "unverified: registering while draining",
    "points nowhere",
    "Route 53: ",
];

/// What an adapter answers for a refusal of the world. A refusal that no state of the world explains is a bug of the
/// planner's and ends the test.
pub(crate) fn answer(action: &Action, refusal: String) -> Result<(), Trouble> {
    let is_gone = refusal.contains("does not exist") || refusal.starts_with("no such");
    if (is_gone && is_deletion(action))
        || refusal == "InvalidPermission.Duplicate"
        || refusal.starts_with("Route 53 deletes only")
        || refusal.starts_with("no active lifecycle action")
    {
        return Ok(());
    }
    if is_gone || PASSING.iter().any(|known| refusal.starts_with(known)) {
        return Err(Trouble::conflict(refusal));
    }
    panic!("{action} is refused whatever the state: {refusal}");
}

fn is_deletion(action: &Action) -> bool {
    action.to_string().starts_with("- ") && !matches!(action, Action::DeregisterTargets { .. })
}
