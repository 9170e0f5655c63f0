//! What can be told once the stack stands and serves.

use super::{
    Options, StoryError, Tale, acm, agent, alarms, canary, chaos, compromise, confirm, csr, drift, elsewhere,
    emergency, evidence, expired, input, others, outage, per_target, policy, repair, replace, rotate, rotation, scale,
    succession, teardown, upgrade,
};
use crate::report::Report;
use crate::ui::Ui;

/// A story of its own, told in the one world in which the recipe's stack stands and serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// ACM announces renewals under client load.
    Recipe,
    /// Thirty targets are given a new leaf in waves, under client load.
    Rotate,
    /// The spec asks for a certificate for each target, then for one for all again, under client load.
    PerTarget,
    /// The spec asks for keys that the targets make themselves, under client load, and no key ever leaves a target.
    Csr,
    /// At the end of the run a key is planted in every place that is searched, and found.
    Leaks,
    /// Mistakes, nonsense, strangers and dangerous wishes change nothing.
    Input,
    /// Things break on hosts and between them; each is found and repaired, or reported under its code.
    Repair,
    /// The control plane vanishes before it has confirmed what it installed.
    CommitConfirm,
    /// The canary's server does not take the next leaf: nobody else is touched, until its owner has mended it.
    CanaryFails,
    /// An agent dies in the middle of an installation.
    AgentDies,
    /// What a rotation depends on is out, one thing after the other.
    Outage,
    /// Every target serves a certificate that has ended.
    Expired,
    /// The same is deployed again, then the next release in the middle of a rotation.
    Upgrade,
    /// Each alarm of the template is raised by what causes it, and ends when that is over.
    Alarms,
    /// A new authority takes over under client load, when the slowest client has its root; the former one retires by itself.
    CaRotation,
    /// An authority's key is stolen: another takes over at once, and what the former one signed is replaced under client load.
    CaCompromise,
    /// Somebody else installs what the targets serve: it is judged and told, and nothing is touched.
    OthersInstall,
    /// A second stack lives in a VPC that only a prober of its own reaches.
    AnotherVpc,
    /// Everything is frozen, and somebody declares what is served unsafe: it is replaced under client load.
    Emergency,
    /// What the ledger remembers is sealed, copied and judged, and what is done to a copy is named.
    Evidence,
    /// An auth policy lets one client in and keeps another out.
    Policy,
    /// The targets' port is changed, and changed back, under client load.
    Replace,
    /// Others change what is Espalier's: it is found, and repaired or only told.
    Drift,
    /// Instances of an Auto Scaling group come and go under client load.
    Scale,
    /// A half-deleted stack is torn down under faults, and made again; what is not Espalier's stays.
    Teardown,
    /// A public certificate of ACM's is exported and served, and renewed under client load.
    AcmRenewal,
    /// The spec asks for a certificate: it is requested, validated, issued, served; and a record that is gone is written
    /// again when ACM needs it to renew.
    AcmRequest,
    /// ACM renews and no event says so: the sweep finds it.
    AcmLostEvent,
    /// ACM cannot renew without somebody's help.
    AcmActionRequired,
    /// ACM's certificate has expired.
    AcmExpired,
    /// ACM's certificate was revoked.
    AcmRevoked,
    /// The same as `acm-renewal`, from a private authority.
    AcmPrivate,
    /// A certificate of another account: its owner agrees late, then it is exported and renewed in sessions there.
    AcmAccount,
    /// ACM announces renewals under client load and under faults, a seed each (`--chaos`).
    Chaos,
    /// The recipe, after which the world stays, with the dashboard to look at, until somebody has seen enough.
    Tour,
}

impl Scenario {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recipe => "recipe",
            Self::Rotate => "rotate",
            Self::PerTarget => "per-target",
            Self::Csr => "csr",
            Self::Leaks => "leaks",
            Self::Input => "input",
            Self::Repair => "repair",
            Self::CommitConfirm => "commit-confirm",
            Self::CanaryFails => "canary-fails",
            Self::AgentDies => "agent-dies",
            Self::Outage => "outage",
            Self::Expired => "expired",
            Self::Upgrade => "upgrade",
            Self::Alarms => "alarms",
            Self::CaRotation => "ca-rotation",
            Self::CaCompromise => "ca-compromise",
            Self::OthersInstall => "others-install",
            Self::AnotherVpc => "another-vpc",
            Self::Emergency => "emergency",
            Self::Evidence => "evidence",
            Self::Policy => "policy",
            Self::Replace => "replace",
            Self::Drift => "drift",
            Self::Scale => "scale",
            Self::Teardown => "teardown",
            Self::AcmRenewal => "acm-renewal",
            Self::AcmRequest => "acm-request",
            Self::AcmLostEvent => "acm-lost-event",
            Self::AcmActionRequired => "acm-action-required",
            Self::AcmExpired => "acm-expired",
            Self::AcmRevoked => "acm-revoked",
            Self::AcmPrivate => "acm-private",
            Self::AcmAccount => "acm-account",
            Self::Chaos => "chaos",
            Self::Tour => "tour",
        }
    }
}

/// Tells one; the search for planted keys is the run's, and told at its end.
pub(super) async fn told(
    scenario: Scenario,
    tale: &mut Tale,
    options: &Options,
    report: &mut Report,
    ui: &Ui,
) -> Result<(), StoryError> {
    match scenario {
        Scenario::Recipe | Scenario::Tour => rotation::renewals(tale, options, report, ui).await,
        Scenario::Leaks => Ok(()),
        Scenario::Input => input::told(tale, ui).await,
        Scenario::Rotate => rotate::told(tale, options, report, ui).await,
        Scenario::PerTarget => per_target::told(tale, options, report, ui).await,
        Scenario::Csr => csr::told(tale, options, report, ui).await,
        Scenario::Repair => repair::told(tale, options, report, ui).await,
        Scenario::CommitConfirm => confirm::told(tale, options, report, ui).await,
        Scenario::CanaryFails => canary::told(tale, options, report, ui).await,
        Scenario::AgentDies => agent::told(tale, options, report, ui).await,
        Scenario::Outage => outage::told(tale, options, report, ui).await,
        Scenario::Expired => expired::told(tale, ui).await,
        Scenario::Upgrade => upgrade::told(tale, options, report, ui).await,
        Scenario::Alarms => alarms::told(tale, options, report, ui).await,
        Scenario::CaRotation => succession::told(tale, options, report, ui).await,
        Scenario::CaCompromise => compromise::told(tale, options, report, ui).await,
        Scenario::OthersInstall => others::told(tale, ui).await,
        Scenario::AnotherVpc => elsewhere::told(tale, options, ui).await,
        Scenario::Emergency => emergency::told(tale, options, report, ui).await,
        Scenario::Evidence => evidence::told(tale, ui).await,
        Scenario::Policy => policy::told(tale, ui).await,
        Scenario::Replace => replace::told(tale, options, report, ui).await,
        Scenario::Drift => drift::told(tale, options, report, ui).await,
        Scenario::Scale => scale::told(tale, options, report, ui).await,
        Scenario::Teardown => teardown::told(tale, ui).await,
        Scenario::AcmRequest => acm::request::told(tale, options, report, ui).await,
        Scenario::AcmAccount => acm::account::told(tale, options, report, ui).await,
        Scenario::AcmRenewal
        | Scenario::AcmLostEvent
        | Scenario::AcmActionRequired
        | Scenario::AcmExpired
        | Scenario::AcmRevoked
        | Scenario::AcmPrivate => acm::told(tale, scenario, options, report, ui).await,
        Scenario::Chaos => chaos::storms(tale, options, report, ui).await,
    }
}
