//! The end of a run: a table for a person, or the same as one JSON object for a machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::leak::Leak;
use crate::ui::PhaseRecord;
use crate::xray::trace::Trace;

/// Everything a run has to say. The JSON keys are a public contract: fields may be added, not removed.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Whether every phase ended well and nothing leaked.
    pub ok: bool,
    /// The story that was told.
    pub scenario: String,
    /// How many targets.
    pub targets: usize,
    /// Which TLS servers run on them.
    pub servers: Vec<String>,
    /// How many rotations were completed after the first installation.
    pub rotations: u32,
    /// Clients' handshakes, the refused outsider's not counted.
    pub handshakes: Handshakes,
    /// The same by way of rotating and path to the targets, for comparison.
    pub load: Vec<LoadRow>,
    /// Each reload under load, and the handshakes that were begun within 100 ms of it.
    pub swaps: Vec<Swap>,
    /// What each target served at the end of the last rotation, seen by a client on the wire.
    pub served: Vec<Served>,
    /// The phases in order.
    pub phases: Vec<PhaseRecord>,
    /// Rotations under faults, a seed each.
    pub chaos: Vec<Storm>,
    /// The rotation of a fleet, wave by wave (`--scenario rotate`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
    /// Each time an alarm was raised (`--scenario alarms`).
    pub alarms: Vec<Raised>,
    /// Calls per operation, through every endpoint of the lab.
    pub api_calls: BTreeMap<String, u64>,
    /// Calls per operation of one look of `provision` at a stack where nothing is left to do.
    pub look: BTreeMap<String, u64>,
    /// The newest rotation's trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Per function.
    pub lambda: BTreeMap<String, Lambda>,
    /// Key material found where it must not be.
    pub leaks: Vec<Leak>,
    /// What was handed to a stand-in because the emulator refuses it.
    pub handed_over: Vec<String>,
    /// Why the run failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A rotation under the faults of a seed.
#[derive(Debug, Clone, Serialize)]
pub struct Storm {
    /// The seed; it is its faults.
    pub seed: u64,
    /// The schedule.
    pub faults: Vec<String>,
    /// How many of them something ran into.
    pub met: usize,
    /// From the hint to convergence.
    pub seconds: f64,
    /// Clients' handshakes meanwhile.
    pub handshakes: u64,
    /// Those that failed.
    pub failed: u64,
    /// Leaves that were minted for it.
    pub generations: usize,
    /// Sweeps it took after the faults had ended.
    pub sweeps: u32,
}

/// An alarm that was raised. All times are of the alarms' clock (`lab/README.md`), in minutes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Raised {
    /// The alarm's name in the template.
    pub alarm: String,
    /// What caused it.
    pub cause: String,
    /// From the cause to the alarm.
    pub after_min: i64,
    /// From the alarm to its end, if it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasted_min: Option<i64>,
    /// From the alarm to its call, if it called anybody by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_min: Option<i64>,
}

/// The rotation of a fleet. All times are seconds after ACM's hint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fleet {
    /// How many targets.
    pub targets: usize,
    /// How many were given the new leaf at a time.
    pub waves: Vec<usize>,
    /// When the first target was seen to serve it, by a handshake of the prober's.
    pub first_s: f64,
    /// When half of them were.
    pub median_s: f64,
    /// When all were.
    pub last_s: f64,
    /// Half of the deliveries took longer, from the intent in the ledger to the installer's word.
    pub delivery_s: f64,
    /// Half of the targets were seen later than this after the installer's word.
    pub proof_s: f64,
    /// Where the execution's time went, by what was waited for, in seconds.
    pub spent: BTreeMap<String, f64>,
}

impl Fleet {
    /// Of when targets were given it (`begun`), had it (`installed`), and were seen to serve it (`seen`), target by target.
    pub fn of(told: &BTreeMap<String, [f64; 3]>, waves: Vec<usize>, spent: BTreeMap<String, f64>) -> Option<Self> {
        let sorted = |of: fn(&[f64; 3]) -> f64| {
            let mut all: Vec<f64> = told.values().map(of).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let middle = |all: Vec<f64>| all.get(all.len() / 2).copied();
        let seen = sorted(|[_, _, seen]| *seen);
        Some(Self {
            targets: told.len(),
            waves,
            first_s: *seen.first()?,
            last_s: *seen.last()?,
            median_s: middle(seen)?,
            delivery_s: middle(sorted(|[begun, installed, _]| installed - begun))?,
            proof_s: middle(sorted(|[_, installed, seen]| seen - installed))?,
            spent,
        })
    }
}

/// How certificates were rotated while clients were at work. Stable words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// By Espalier.
    Espalier,
    /// By Espalier, on hosts that did not take the new pair.
    Refused,
    /// By Espalier: another target group, in place of another certificate.
    Replace,
    /// By Espalier: what others changed is put right.
    Drift,
    /// By Espalier: instances of an Auto Scaling group come and go.
    Scale,
    /// Files overwritten and servers restarted, for comparison.
    Naive,
}

impl Way {
    fn text(self) -> &'static str {
        match self {
            Self::Espalier => "espalier",
            Self::Refused => "espalier, refused",
            Self::Replace => "espalier, replaced",
            Self::Drift => "espalier, drift",
            Self::Scale => "espalier, scaled",
            Self::Naive => "overwrite and restart",
        }
    }
}

/// Handshakes while certificates were rotated in one way, seen along one path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadRow {
    /// In which way.
    pub way: Way,
    /// `through` the service, `direct`, or at a server that is `reloading`.
    pub path: String,
    /// How often.
    pub rotations: u32,
    /// Begun.
    pub attempted: u64,
    /// Failed.
    pub failed: u64,
    /// Median, of the worst rotation.
    pub p50_ms: f64,
    /// 99th percentile, of the worst rotation.
    pub p99_ms: f64,
}

/// A reload under load.
#[derive(Debug, Clone, Serialize)]
pub struct Swap {
    /// The instance.
    pub target: String,
    /// What it runs.
    pub server: String,
    /// During which rotation.
    pub rotation: u32,
    /// Handshakes with this target, begun within 100 ms before or after.
    pub handshakes_in_window: usize,
}

/// Counted handshakes.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Handshakes {
    /// Begun.
    pub attempted: u64,
    /// Not ended with a verified certificate and an answer.
    pub failed: u64,
    /// Median, connect to end of handshake.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// What a target serves.
#[derive(Debug, Clone, Serialize)]
pub struct Served {
    /// The instance.
    pub target: String,
    /// Which generation of the ledger that is.
    pub generation: u32,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// End of validity, RFC 3339.
    pub not_after: String,
    /// The chain verifies against the authority's root.
    pub chain_ok: bool,
    /// The name matches.
    pub name_ok: bool,
}

/// A function's calls.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Lambda {
    /// Invocations.
    pub invocations: u64,
    /// Those that ended in an error.
    pub errors: u64,
    /// Median duration as the Lambda host reports it, in milliseconds.
    pub p50_ms: f64,
}

impl Report {
    /// One line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"ok\":false,\"error\":\"{error}\"}}"))
    }

    /// The table a person reads.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let width = self.phases.iter().map(|phase| phase.name.chars().count()).max().unwrap_or(10).max(10);
        let total: f64 = self.phases.iter().map(|phase| phase.seconds).sum();
        let rule = format!("{}\n", "\u{2500}".repeat(width + 84));
        out.push('\n');
        out += &rule;
        let _ = writeln!(out, "  {:<width$}  {:>8}  what was proven", "step", "seconds");
        out += &rule;
        for phase in &self.phases {
            let _ = writeln!(out, "  {:<width$}  {:>8.1}  {}", phase.name, phase.seconds, phase.proved);
        }
        out += &rule;
        let _ = writeln!(out, "  {:<width$}  {total:>8.1}", "all");
        self.load_table(&mut out);
        self.alarm_table(&mut out);
        self.served_table(&mut out);
        self.figures(&mut out);
        out
    }

    /// Adds to the row of the same way and path.
    pub fn add(&mut self, row: LoadRow) {
        match self.load.iter_mut().find(|one| one.way == row.way && one.path == row.path) {
            None => self.load.push(row),
            Some(one) => {
                one.rotations += row.rotations;
                one.attempted += row.attempted;
                one.failed += row.failed;
                one.p50_ms = one.p50_ms.max(row.p50_ms);
                one.p99_ms = one.p99_ms.max(row.p99_ms);
            }
        }
    }

    fn load_table(&self, out: &mut String) {
        if self.load.is_empty() {
            return;
        }
        let (way, path) = ("way of rotating", "path");
        let _ = writeln!(
            out,
            "\n  {way:<24}{path:<10}{:>9}{:>12}{:>8}{:>11}{:>9}{:>9}",
            "rotations", "handshakes", "failed", "per 1,000", "p50 ms", "p99 ms"
        );
        for row in &self.load {
            #[allow(clippy::cast_precision_loss, reason = "counts of handshakes are small")]
            let rate = row.failed as f64 * 1_000.0 / row.attempted.max(1) as f64;
            let _ = writeln!(
                out,
                "  {:<24}{:<10}{:>9}{:>12}{:>8}{rate:>11.2}{:>9.1}{:>9.1}",
                row.way.text(),
                row.path,
                row.rotations,
                row.attempted,
                row.failed,
                row.p50_ms,
                row.p99_ms
            );
        }
        let mut counts: Vec<usize> = self.swaps.iter().map(|swap| swap.handshakes_in_window).collect();
        counts.sort_unstable();
        if let (Some(least), Some(most)) = (counts.first(), counts.last()) {
            let median = counts[counts.len() / 2];
            let _ = writeln!(
                out,
                "  {} reloads; handshakes begun within 100 ms of one: least {least}, median {median}, most {most}",
                counts.len()
            );
        }
    }

    fn alarm_table(&self, out: &mut String) {
        if self.alarms.is_empty() {
            return;
        }
        let (alarm, after, lasted, calls) = ("alarm", "after", "lasted", "called");
        let _ = writeln!(out, "\n  {alarm:<20}{after:>9}{lasted:>10}{calls:>10}  cause (minutes of the alarms' clock)");
        for one in &self.alarms {
            let minutes = |minutes: Option<i64>| minutes.map_or_else(|| "-".to_owned(), |minutes| minutes.to_string());
            let (lasted, called) = (minutes(one.lasted_min), minutes(one.called_min));
            let _ = writeln!(out, "  {:<20}{:>9}{lasted:>10}{called:>10}  {}", one.alarm, one.after_min, one.cause);
        }
    }

    fn served_table(&self, out: &mut String) {
        if self.served.is_empty() {
            return;
        }
        out.push_str("\n  served at the end, seen on the wire\n");
        for one in &self.served {
            let _ = writeln!(
                out,
                "    {}  generation {}  serial {}\u{2026}  until {}  chain {}  name {}",
                one.target,
                one.generation,
                one.serial.get(..12).unwrap_or(&one.serial),
                one.not_after,
                mark(one.chain_ok),
                mark(one.name_ok),
            );
        }
    }

    fn figures(&self, out: &mut String) {
        let handshakes = &self.handshakes;
        let _ = writeln!(
            out,
            "\n  handshakes  {} attempted, {} failed, p50 {:.1} ms, p99 {:.1} ms",
            handshakes.attempted, handshakes.failed, handshakes.p50_ms, handshakes.p99_ms
        );
        for (name, lambda) in &self.lambda {
            let _ = writeln!(
                out,
                "  {name:<10}  {:>3} invocations, {} errors, p50 {:.0} ms",
                lambda.invocations, lambda.errors, lambda.p50_ms
            );
        }
        let calls: u64 = self.api_calls.values().sum();
        let _ = writeln!(out, "  api calls   {calls} over {} operations", self.api_calls.len());
        let look: u64 = self.look.values().sum();
        let _ = writeln!(out, "  one look    {look} calls of provision, where nothing is left to do");
        for handed in &self.handed_over {
            let _ = writeln!(out, "  handed over {handed}");
        }
        let _ = match self.leaks.len() {
            0 => writeln!(out, "  leaks       none"),
            n => writeln!(out, "  leaks       {n}: {:?}", self.leaks),
        };
        if let Some(error) = &self.error {
            let _ = writeln!(out, "\n  \u{2717} {error}");
        }
    }
}

fn mark(good: bool) -> &'static str {
    if good { "\u{2713}" } else { "\u{2717}" }
}
