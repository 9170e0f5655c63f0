//! What a person sees while the lab runs: a line per phase with its progress, never a silent minute.
//!
//! Everything goes to standard error, so that `--json` leaves standard output to the machine.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How long a phase without a terminal stays quiet before it says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A finished phase, for the report.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PhaseRecord {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// What it proved, in a sentence.
    #[serde(default)]
    pub proved: String,
}

/// The person's side of a run.
#[derive(Debug, Clone)]
pub struct Ui {
    terminal: bool,
    phases: Arc<Mutex<Vec<PhaseRecord>>>,
}

impl Default for Ui {
    fn default() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), phases: Arc::default() }
    }
}

impl Ui {
    /// Begins a phase; it is on the screen until it is [done](Phase::done) or dropped.
    pub fn phase(&self, name: &str) -> Phase {
        let bar = if self.terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_style(
            ProgressStyle::with_template("  {spinner:.cyan} {prefix:<22} {elapsed:>5}  {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if !self.terminal {
            say(&format!("  > {name}"));
        }
        Phase {
            ui: self.clone(),
            name: name.to_owned(),
            begun: Instant::now(),
            bar,
            spoken: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// A line outside any phase.
    pub fn line(&self, text: &str) {
        say(text);
    }

    /// The phases that ended well, in order.
    pub fn phases(&self) -> Vec<PhaseRecord> {
        self.phases.lock().map(|phases| phases.clone()).unwrap_or_default()
    }
}

/// A phase in progress.
#[derive(Debug, Clone)]
pub struct Phase {
    ui: Ui,
    name: String,
    begun: Instant,
    bar: ProgressBar,
    spoken: Arc<Mutex<Instant>>,
}

impl Phase {
    /// What is being done right now; replaces the last message, and is printed now and then without a terminal.
    pub fn progress(&self, message: &str) {
        self.bar.set_message(message.to_owned());
        if self.ui.terminal {
            return;
        }
        let Ok(mut spoken) = self.spoken.lock() else { return };
        if spoken.elapsed() >= HEARTBEAT {
            *spoken = Instant::now();
            say(&format!("    {:>4.0} s  {message}", self.begun.elapsed().as_secs_f64()));
        }
    }

    /// Something worth keeping on the screen.
    pub fn note(&self, text: &str) {
        if let Ok(mut spoken) = self.spoken.lock() {
            *spoken = Instant::now();
        }
        self.bar.suspend(|| say(&format!("      {text}")));
    }

    /// Ends the phase well.
    pub fn done(self, proved: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        say(&format!("  \u{2713} {:<22} {seconds:>6.1} s  {proved}", self.name));
        if let Ok(mut phases) = self.ui.phases.lock() {
            phases.push(PhaseRecord { name: self.name.clone(), seconds, proved: proved.to_owned() });
        }
    }
}

/// The one place that writes for a person.
#[allow(clippy::print_stderr, reason = "the lab's screen")]
fn say(text: &str) {
    eprintln!("{text}");
}
