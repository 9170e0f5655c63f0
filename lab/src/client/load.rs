//! Closed-loop load: each worker makes one connection after the other, so that a swap of certificates meets as many new
//! handshakes as the machine can make.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use super::{Client, ClientError, Served};
use crate::fabric::lock;

/// Whom the load connects to, always verifying for `host`.
#[derive(Debug, Clone)]
pub enum Aim {
    /// Whatever the name resolves to.
    Through {
        /// The name to resolve.
        host: String,
        /// The port.
        port: u16,
    },
    /// Each of these addresses in turn, or those only that [`Pace`] calls for.
    Direct {
        /// The name to verify.
        host: String,
        /// At most 64.
        targets: Vec<SocketAddr>,
    },
}

/// How hard the clients try: a pause between two connections of one client; and where the direct ones look.
#[derive(Debug)]
pub struct Pace {
    pause: Duration,
    /// One bit per target that all clients should look at now.
    hot: AtomicU64,
}

impl Pace {
    /// A pause between two connections of one client.
    pub fn new(pause: Duration) -> Arc<Self> {
        Arc::new(Self { pause, hot: AtomicU64::new(0) })
    }

    /// From now on direct clients look at this target.
    pub fn heat(&self, target: usize) {
        self.hot.fetch_or(1 << target, Ordering::Relaxed);
    }

    /// No longer.
    pub fn cool(&self, target: usize) {
        self.hot.fetch_and(!(1 << target), Ordering::Relaxed);
    }

    /// The target for a client's `turn`, of `all`.
    pub fn choose(&self, turn: usize, all: usize) -> usize {
        let hot = self.hot.load(Ordering::Relaxed);
        let called: Vec<usize> = (0..all).filter(|target| hot & (1 << target) != 0).collect();
        if called.is_empty() { turn % all } else { called[turn % called.len()] }
    }
}

/// A handshake that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// When the connection was begun, in nanoseconds since 1970.
    pub begun_ns: u128,
    /// Who answered: the body of the answer.
    pub target: String,
    /// From the first packet to the end of the handshake, in microseconds.
    pub took_us: u32,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadReport {
    /// Connections tried.
    pub attempted: u64,
    /// Connections that ended in any error, or in a status other than 200.
    pub failed: u64,
    /// Median time from the first packet to the end of the handshake, of those that succeeded, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of the same.
    pub p99_ms: f64,
    /// Failures by [`super::ClientError::code`] (or `Status`).
    pub failures: BTreeMap<String, u64>,
    /// The text of the first failures, for a reader.
    pub first_failures: Vec<String>,
    /// Handshakes by the serial number served.
    pub serials: BTreeMap<String, u64>,
    /// Answers by body: which targets answered.
    pub bodies: BTreeMap<String, u64>,
    /// Those that succeeded, in the order in which they ended.
    pub handshakes: Vec<Handshake>,
}

/// Load that is being made; stop it with [`Load::stop`], or drop it.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<LoadReport>>,
    stopping: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Starts `workers` loops of requests.
    pub fn start(client: &Client, aim: &Aim, workers: usize, pace: &Arc<Pace>) -> Self {
        let tally: Arc<Mutex<LoadReport>> = Arc::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for number in 0..workers {
            let worker = Worker { client: client.clone(), aim: aim.clone(), pace: Arc::clone(pace), turn: number };
            set.spawn(worker.work(tally.clone(), stopping.clone()));
        }
        Self { tally, stopping, workers: set }
    }

    /// What came of it so far.
    pub fn report(&self) -> LoadReport {
        summarize(&lock(&self.tally))
    }

    /// Lets the requests under way finish and reports.
    pub async fn stop(mut self) -> LoadReport {
        self.stopping.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.report()
    }
}

struct Worker {
    client: Client,
    aim: Aim,
    pace: Arc<Pace>,
    turn: usize,
}

impl Worker {
    async fn work(mut self, tally: Arc<Mutex<LoadReport>>, stopping: Arc<AtomicBool>) {
        while !stopping.load(Ordering::Relaxed) {
            let begun_ns = now_ns();
            let result = self.connect().await;
            let failed = lock(&tally).count(begun_ns, result);
            // A failing service is not hammered.
            let pause = self.pace.pause;
            tokio::time::sleep(if failed { pause.max(Duration::from_millis(20)) } else { pause }).await;
        }
    }

    async fn connect(&mut self) -> Result<Served, ClientError> {
        self.turn += 1;
        match &self.aim {
            Aim::Through { host, port } => self.client.get(host, *port, "/").await,
            Aim::Direct { host, targets } => {
                let target = targets[self.pace.choose(self.turn, targets.len())];
                self.client.get_at(target, host, "/").await
            }
        }
    }
}

impl LoadReport {
    /// Counts one connection; whether it failed.
    pub(super) fn count(&mut self, begun_ns: u128, result: Result<Served, ClientError>) -> bool {
        self.attempted += 1;
        match result {
            Ok(served) if served.status == 200 => {
                let target = served.body.trim().to_owned();
                *self.serials.entry(served.serial).or_default() += 1;
                *self.bodies.entry(target.clone()).or_default() += 1;
                let took_us = u32::try_from(served.handshake.as_micros()).unwrap_or(u32::MAX);
                self.handshakes.push(Handshake { begun_ns, target, took_us });
                false
            }
            Ok(served) => self.fail("Status", &format!("HTTP {}", served.status)),
            Err(error) => self.fail(error.code(), &chain(&error)),
        }
    }

    fn fail(&mut self, code: &str, text: &str) -> bool {
        self.failed += 1;
        *self.failures.entry(code.to_owned()).or_default() += 1;
        if self.first_failures.len() < 5 {
            self.first_failures.push(text.to_owned());
        }
        true
    }
}

/// In nanoseconds since 1970.
pub(super) fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// The error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// With the figures that only the whole has.
pub(super) fn summarize(tally: &LoadReport) -> LoadReport {
    let mut sorted: Vec<u32> = tally.handshakes.iter().map(|handshake| handshake.took_us).collect();
    sorted.sort_unstable();
    let percentile = |percent: usize| {
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).map_or(0.0, |us| f64::from(*us) / 1000.0)
    };
    LoadReport { p50_ms: percentile(50), p99_ms: percentile(99), ..tally.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_handshakes_that_succeeded() {
        let handshake = |ms: u32| Handshake { begun_ns: 0, target: "i-1".into(), took_us: ms * 1000 };
        let mut tally = LoadReport { handshakes: (1..=100).rev().map(handshake).collect(), ..LoadReport::default() };
        tally.fail("Connect", "refused");
        let report = summarize(&tally);
        assert_eq!((report.p50_ms, report.p99_ms, report.failed), (50.0, 99.0, 1));
        assert_eq!(summarize(&LoadReport::default()).p99_ms, 0.0);
    }

    #[test]
    fn a_target_that_is_about_to_change_gets_all_direct_clients() {
        let pace = Pace::new(Duration::from_millis(10));
        let chosen = |pace: &Pace| (0..6).map(|turn| pace.choose(turn, 3)).collect::<Vec<_>>();
        assert_eq!(chosen(&pace), [0, 1, 2, 0, 1, 2]);
        pace.heat(2);
        assert_eq!(chosen(&pace), [2; 6]);
        pace.heat(0);
        assert_eq!(chosen(&pace), [0, 2, 0, 2, 0, 2]);
        pace.cool(0);
        pace.cool(2);
        assert_eq!(chosen(&pace), [0, 1, 2, 0, 1, 2]);
    }
}
