//! Closed-loop load: each worker makes one connection after the other, so that a swap of certificates meets as many new
//! handshakes as the machine can make.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::Client;
use crate::fabric::lock;

/// What the load asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The name to resolve and verify.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The HTTP path.
    pub path: String,
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
}

#[derive(Debug, Default)]
struct Tally {
    report: LoadReport,
    handshakes_us: Vec<u32>,
}

/// Load that is being made; stop it with [`Load::stop`], or drop it.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stopping: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Starts `workers` loops of requests; each waits `pause` between two of them.
    pub fn start(client: &Client, request: &Request, workers: usize, pause: Duration) -> Self {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for _ in 0..workers {
            set.spawn(work(client.clone(), request.clone(), pause, tally.clone(), stopping.clone()));
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

async fn work(client: Client, request: Request, pause: Duration, tally: Arc<Mutex<Tally>>, stopping: Arc<AtomicBool>) {
    while !stopping.load(Ordering::Relaxed) {
        let result = client.get(&request.host, request.port, &request.path).await;
        let failed = {
            let mut tally = lock(&tally);
            tally.report.attempted += 1;
            match result {
                Ok(served) if served.status == 200 => {
                    tally.handshakes_us.push(u32::try_from(served.handshake.as_micros()).unwrap_or(u32::MAX));
                    *tally.report.serials.entry(served.serial).or_default() += 1;
                    *tally.report.bodies.entry(served.body.trim().to_owned()).or_default() += 1;
                    false
                }
                Ok(served) => tally.fail("Status", &format!("HTTP {}", served.status)),
                Err(error) => tally.fail(error.code(), &chain(&error)),
            }
        };
        // A failing service is not hammered.
        tokio::time::sleep(if failed { pause.max(Duration::from_millis(20)) } else { pause }).await;
    }
}

impl Tally {
    fn fail(&mut self, code: &str, text: &str) -> bool {
        self.report.failed += 1;
        *self.report.failures.entry(code.to_owned()).or_default() += 1;
        if self.report.first_failures.len() < 5 {
            self.report.first_failures.push(text.to_owned());
        }
        true
    }
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

fn summarize(tally: &Tally) -> LoadReport {
    let mut sorted = tally.handshakes_us.clone();
    sorted.sort_unstable();
    let percentile = |percent: usize| {
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).map_or(0.0, |us| f64::from(*us) / 1000.0)
    };
    LoadReport { p50_ms: percentile(50), p99_ms: percentile(99), ..tally.report.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_handshakes_that_succeeded() {
        let handshakes_us = (1..=100).rev().map(|ms| ms * 1000).collect();
        let mut tally = Tally { handshakes_us, ..Tally::default() };
        tally.fail("Connect", "refused");
        let report = summarize(&tally);
        assert_eq!((report.p50_ms, report.p99_ms, report.failed), (50.0, 99.0, 1));
        assert_eq!(summarize(&Tally::default()).p99_ms, 0.0);
    }
}
