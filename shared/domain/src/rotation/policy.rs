//! What the spec asks of the rotation, and the times the rotation keeps of its own accord.

use std::net::SocketAddr;

use time::Duration;

use crate::id::{AcmArn, HostName, ProberName, Scope, StackName};
use crate::record::GenerationRecord;
use crate::rotation::calendar::Calendar;
use crate::spec::{AcmSource, AllowedDomains, Confirm, Custody, Manage, Others, Sharing, Spec};
use crate::token::short_hash;

/// The part of a spec that decides about certificates on targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The stack.
    pub stack: StackName,
    /// The name clients ask for, which every target has to answer for.
    pub server_name: HostName,
    /// The service's listener port, which a probe through the service dials.
    pub service_port: u16,
    /// Where targets serve TLS.
    pub target_port: u16,
    /// The names a leaf carries, as the spec lists them; order and repetition do not matter.
    pub dns_names: Vec<HostName>,
    /// How long a leaf lives, in hours. Its authority may end sooner; then the leaf does, too. ACM decides for itself.
    pub validity_hours: u32,
    /// How long before its end a leaf is replaced, in hours.
    pub renew_before_hours: u32,
    /// Up to which part of its life earlier, in percent.
    pub renew_spread_percent: u32,
    /// Whether the targets share one leaf, or each has its own.
    pub scope: Scope,
    /// Where the key of each leaf is made and kept.
    pub custody: Custody,
    /// The ACM certificate that the targets serve, in place of leaves of our own.
    pub source: Option<SourcePolicy>,
    /// The ACM certificate whose renewal or approaching expiry makes the leaves due.
    pub follow: Option<FollowPolicy>,
    /// How many targets prove a generation before the first wave; 0 for none.
    pub canary: u32,
    /// How long the canary has to have served it before others follow, in minutes.
    pub bake_minutes: u32,
    /// How many targets are changed at a time.
    pub wave: Wave,
    /// How many percent of the targets have to be well, untouched, while others are changed.
    pub minimum_healthy_percent: Option<u32>,
    /// When a rollout may begin and go on.
    pub calendar: Calendar,
    /// How long before the end of what is served the calendar no longer counts, in hours.
    pub safety_margin_hours: u32,
    /// How many targets may fail in a rollout before nothing new starts.
    pub failure_budget: u32,
    /// Which targets go back by themselves unless they are told that the new leaf was seen.
    pub confirm: Confirm,
    /// After how long they do, in seconds.
    pub confirm_s: u32,
    /// Which prober verifies; absent for the control plane's own.
    pub prober: Option<ProberName>,
    /// How many connections through the service are sampled; 0 for none.
    pub samples: u32,
    /// Targets are only dialled: no leaf is minted, none is delivered (`manage: nothing`).
    pub observes: bool,
    /// Others install what the targets serve, and how it is judged; there only where targets are only dialled.
    pub others: Option<Others>,
    /// A resolver that is asked for names in place of the VPC's own.
    pub resolver: Option<SocketAddr>,
}

/// How many targets are changed at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// So many.
    Targets(u32),
    /// So many of a hundred, at least one.
    Percent(u32),
}

impl Wave {
    /// How many of this many targets.
    pub fn of(self, targets: usize) -> usize {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        match self {
            Self::Targets(number) => count(number),
            Self::Percent(percent) => targets.saturating_mul(count(percent)).div_ceil(100),
        }
        .max(1)
    }
}

/// An ACM certificate that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePolicy {
    /// The certificate; absent while the one that is requested for the stack does not exist.
    pub certificate: Option<AcmArn>,
    /// `provision` requests it, and another one when it is gone.
    pub is_requested: bool,
    /// The only domains that may be in it at all.
    pub allowed: AllowedDomains,
}

impl SourcePolicy {
    fn of(source: &AcmSource, allowed: &AllowedDomains) -> Self {
        let (certificate, is_requested) = match source {
            AcmSource::CertificateArn(named) => (Some(named.clone()), false),
            // Which one it is stands in the ledger.
            AcmSource::Request(_) => (None, true),
        };
        Self { certificate, is_requested, allowed: allowed.clone() }
    }
}

/// An ACM certificate that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowPolicy {
    /// The certificate.
    pub certificate: AcmArn,
    /// How many days before its end it counts as expiring.
    pub expiring_days: u32,
}

impl Policy {
    /// Whether nothing new is started when so many targets have failed.
    pub(crate) fn halts_at(&self, failed: usize) -> bool {
        failed > usize::try_from(self.failure_budget).unwrap_or(usize::MAX)
    }

    /// How many of this many targets have to be well while others are changed, rounded down: it never keeps a well fleet from
    /// being changed, however small.
    pub(crate) fn minimum_healthy(&self, targets: usize) -> Option<usize> {
        let percent = usize::try_from(self.minimum_healthy_percent?).unwrap_or(usize::MAX);
        Some(targets.saturating_mul(percent) / 100)
    }

    /// How many targets have to be proven before the first wave.
    pub(crate) fn canary(&self) -> usize {
        usize::try_from(self.canary).unwrap_or(usize::MAX)
    }

    /// What a spec asks for, where only these domains may be certified.
    pub fn from_spec(spec: &Spec, allowed: &AllowedDomains) -> Self {
        Self {
            stack: spec.stack.clone(),
            server_name: spec.service.domain_name.clone(),
            service_port: spec.service.port,
            target_port: spec.targets.port,
            dns_names: spec.certificate.dns_names.clone(),
            validity_hours: spec.certificate.validity_hours,
            renew_before_hours: spec.certificate.renew_before_hours,
            renew_spread_percent: spec.certificate.renew_spread_percent,
            scope: match spec.certificate.scope {
                Sharing::Shared => Scope::shared(),
                Sharing::Target => Scope::target(),
            },
            custody: spec.certificate.custody(),
            source: spec.certificate.source().map(|source| SourcePolicy::of(source, allowed)),
            follow: spec.certificate.follow.as_ref().map(|follow| FollowPolicy {
                certificate: follow.certificate_arn.clone(),
                expiring_days: follow.expiring_days,
            }),
            canary: spec.rollout.canary,
            bake_minutes: spec.rollout.bake_minutes,
            wave: spec.rollout.wave_percent.map_or(Wave::Targets(spec.rollout.wave_size), Wave::Percent),
            minimum_healthy_percent: spec.rollout.minimum_healthy_percent,
            calendar: Calendar { windows: spec.rollout.windows.clone(), freezes: spec.rollout.freezes.clone() },
            safety_margin_hours: spec
                .rollout
                .safety_margin_hours
                .unwrap_or_else(|| spec.certificate.renew_before_hours.div_ceil(2)),
            failure_budget: spec.rollout.failure_budget,
            confirm: spec.rollout.confirm,
            confirm_s: spec.rollout.confirm_seconds,
            prober: spec.prober.name.clone(),
            samples: spec.prober.samples,
            observes: spec.manage == Manage::Nothing,
            others: spec.certificate.others().cloned(),
            resolver: spec.prober.resolver,
        }
    }

    /// The names as they stand in a leaf and in the ledger: sorted, each once.
    pub fn leaf_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.dns_names.iter().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// How long a leaf lives when nothing clips it.
    pub fn validity(&self) -> Duration {
        Duration::hours(i64::from(self.validity_hours))
    }

    /// How long before its end a leaf is replaced, without its spread.
    pub fn renew_before(&self) -> Duration {
        Duration::hours(i64::from(self.renew_before_hours))
    }

    /// How long before the end of what is served the calendar no longer counts.
    pub fn safety_margin(&self) -> Duration {
        Duration::hours(i64::from(self.safety_margin_hours))
    }

    /// How much earlier this generation is replaced: a part of the allowed part of its life that is always the same for
    /// it, so that neither stacks nor a stack's certificates that were made together come due together.
    pub fn renew_spread(&self, record: &GenerationRecord) -> Duration {
        // Asked for each target's leaf in each look; a hash costs more than all the rest of it.
        if self.renew_spread_percent == 0 {
            return Duration::ZERO;
        }
        let digits = short_hash(&[self.stack.as_str(), &record.scope.to_string(), &record.generation.to_string()], 4);
        let part = i32::from_str_radix(&digits, 16).unwrap_or_default();
        let life = (record.not_after - record.not_before).max(Duration::ZERO);
        let percent = i32::try_from(self.renew_spread_percent).unwrap_or_default();
        life / 100_i32 * percent / 0x1_0000_i32 * part
    }
}

/// A delivery whose command id was never learnt is lost after this long: `distribute` writes the id within seconds.
pub const LOST_AFTER: Duration = Duration::seconds(60);

/// A command that has not ended by then is given up. Longer than the document's own `executionTimeout` (600 s) and the
/// delivery timeout `distribute` asks for together, so that two installers are not told different things.
pub const COMMAND_DEADLINE: Duration = Duration::minutes(20);

/// How long a target that reports `installed` may take until the wire agrees; a graceful reload drains old workers.
pub const PROOF_GRACE: Duration = Duration::seconds(60);

/// How many times in a row a delivery to a target may fail before the target counts as failed.
pub const ATTEMPTS: u32 = 3;

/// The pause after the first failed delivery; four times as long after each further one.
pub const BACKOFF: Duration = Duration::seconds(10);

/// The longest pause after deliveries that failed for no fault of the certificate (host busy, asleep, command lost).
pub const BACKOFF_CAP: Duration = Duration::minutes(10);

/// How long a target that counts as failed is left alone before one more attempt; also the pace at which a stack
/// whose deliveries were all reverted mints anew.
pub const STUCK_RETRY: Duration = Duration::hours(6);

/// How long until a target whose owner had not opted in is asked again.
pub const CONSENT_RETRY: Duration = Duration::hours(1);

/// How long until a target whose server was broken without us is tried again: whoever breaks a configuration may be about to mend it.
pub const MENDING_RETRY: Duration = Duration::minutes(30);

/// The longest bake time in an emergency: short enough for an execution to wait for it
/// ([`LONGEST_WAIT_S`](crate::rotation::execution::LONGEST_WAIT_S)), and not to leave it to the next sweep.
pub const EMERGENCY_BAKE: Duration = Duration::seconds(20);

/// A sighting older than this is made anew.
pub const REVERIFY: Duration = Duration::hours(6);

/// How long whoever installs by himself may take with ACM's newest certificate: AWS's agent on hosts looks once a day.
pub const OTHERS_PATIENCE: Duration = Duration::days(2);

/// How long an instance that was just started may take until its agent has registered.
pub const ARRIVAL: Duration = Duration::minutes(10);

/// How soon to look whether it has.
pub const ARRIVAL_POLL_S: u32 = 5;

/// Shortest and longest pause between two looks at something that was seen to be wrong; between them, half as long as
/// it has been wrong.
pub const LOOK_AGAIN: (Duration, Duration) = (Duration::seconds(5), Duration::minutes(10));
