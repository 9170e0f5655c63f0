//! What a request is about, in identifiers: for the trace and the log. Nothing is decided by it.

use espalier_domain::id::{Epoch, Generation, StackName, TargetId};
use espalier_domain::work::{Pass, VerifyTarget, WorkItem};

use super::{Direct, Hint, Mode, Trigger};

/// What a request says itself that it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The rough kind.
    pub kind: &'static str,
    /// The stack.
    pub stack: Option<StackName>,
    /// The rotation.
    pub epoch: Option<u32>,
    /// The pass.
    pub wave: Option<u32>,
    /// The generation.
    pub generation: Option<u32>,
    /// The targets.
    pub targets: Vec<String>,
    /// The event's id.
    pub event: Option<String>,
}

impl Subject {
    /// A request of this kind, about nothing in particular.
    pub fn of(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    fn on(self, stack: &StackName) -> Self {
        Self { stack: Some(stack.clone()), ..self }
    }

    fn in_epoch(self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch.0), ..self }
    }

    fn for_generation(self, generation: Generation) -> Self {
        Self { generation: Some(generation.0), ..self }
    }

    fn to<'a>(self, targets: impl IntoIterator<Item = &'a TargetId>) -> Self {
        Self { targets: targets.into_iter().map(TargetId::to_string).collect(), ..self }
    }
}

impl From<&WorkItem> for Subject {
    fn from(item: &WorkItem) -> Self {
        match item {
            WorkItem::Authority(_) => Self::of("authority"),
            WorkItem::Mint(item) => Self::of("mint").on(&item.stack).for_generation(item.generation),
            WorkItem::Export(item) => Self::of("export").on(&item.stack).for_generation(item.generation),
            WorkItem::Deliver(item) => Self::of("deliver")
                .on(&item.stack)
                .in_epoch(item.epoch)
                .for_generation(item.generation)
                .to(&item.targets),
            WorkItem::Verify(item) => {
                Self::of("verify").on(&item.stack).to(item.targets.iter().map(|VerifyTarget { target, .. }| target))
            }
            WorkItem::Membership(item) => Self::of("membership").on(&item.stack).to(&item.targets),
        }
    }
}

impl From<&Pass> for Subject {
    fn from(pass: &Pass) -> Self {
        Self { wave: Some(pass.wave), ..Self::of("pass").on(&pass.stack).in_epoch(pass.epoch) }
    }
}

impl From<&Hint> for Subject {
    fn from(hint: &Hint) -> Self {
        Self { stack: hint.stack.clone(), event: hint.event.clone(), ..Self::of("hint") }.to(&hint.instances)
    }
}

impl From<&Direct> for Subject {
    fn from(direct: &Direct) -> Self {
        let kind = match direct.mode {
            Mode::Apply => "apply",
            Mode::Plan => "plan",
            Mode::Diagnose => "diagnose",
            Mode::Verify => "look",
            Mode::Status => "status",
            Mode::Check { .. } => "check",
            Mode::Emergency(_) => "emergency",
        };
        Self::of(kind).on(&direct.stack)
    }
}

impl From<&Trigger> for Subject {
    fn from(trigger: &Trigger) -> Self {
        match trigger {
            Trigger::Hint(hint) => hint.into(),
            Trigger::Direct(direct) => direct.into(),
            Trigger::Pass(pass) => pass.into(),
            Trigger::Work(item) => item.into(),
        }
    }
}
