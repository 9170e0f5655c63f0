//! Clients at work while certificates change: through the service and directly, and what they saw at each reload.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::deploy::PORT;
use super::judge::{self, DOMAIN};
use super::{CLIENT, PROBER, StoryError, Tale};
use crate::client::LoadReport;
use crate::client::load::{Aim, Handshake, Load, Pace};
use crate::fabric::lock;

/// Between two connections of one client: enough to leave the two cores to everybody else.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// Before and after a reload: what begins within it can meet the change.
const WINDOW: Duration = Duration::from_millis(100);

/// How often a host's announcements are looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Clients at both ways to the targets.
pub(super) struct Clients {
    through: Load,
    direct: Load,
    reloads: Reloads,
}

/// What they saw.
pub(super) struct Seen {
    /// Through the passthrough data plane, by name.
    pub(super) through: LoadReport,
    /// Dialling each target's address.
    pub(super) direct: LoadReport,
    /// Each reload, with the handshakes around it.
    pub(super) reloads: Vec<(Reload, usize)>,
}

impl Clients {
    /// Starts `number` clients each way.
    pub(super) fn start(tale: &Tale, number: usize) -> Result<Self, StoryError> {
        let pace = Pace::new(PAUSE);
        let hosts = &tale.world.hosts;
        let targets = hosts.iter().map(|host| SocketAddr::new(host.address, PORT)).collect();
        let told = hosts.iter().map(|host| (host.id.clone(), host.guest.reloads())).collect();
        let (inside, prober) =
            (judge::client(&tale.world, CLIENT, &tale.roots)?, judge::client(&tale.world, PROBER, &tale.roots)?);
        let through = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
        let direct = Aim::Direct { host: DOMAIN.to_owned(), targets };
        Ok(Self {
            through: Load::start(&inside, &through, number, &pace),
            direct: Load::start(&prober, &direct, number, &pace),
            reloads: Reloads::watch(told, pace),
        })
    }

    /// Lets what is under way finish.
    pub(super) async fn stop(self) -> Seen {
        // A little longer, so that connections after the last reload are counted, too.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (through, direct) = (self.through.stop().await, self.direct.stop().await);
        let around = |reload: &Reload| count(reload, &through.handshakes) + count(reload, &direct.handshakes);
        let reloads = self.reloads.stop().into_iter().map(|reload| (around(&reload), reload));
        let reloads = reloads.map(|(count, reload)| (reload, count)).collect();
        Seen { through, direct, reloads }
    }
}

/// A server was told to take its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reload {
    /// The instance.
    pub(super) target: String,
    /// In nanoseconds since 1970.
    pub(super) at_ns: u128,
}

/// The handshakes with the reloaded target that were begun within [`WINDOW`] of it.
fn count(reload: &Reload, handshakes: &[Handshake]) -> usize {
    let near = |one: &&Handshake| one.begun_ns.abs_diff(reload.at_ns) <= WINDOW.as_nanos();
    handshakes.iter().filter(|one| one.target == reload.target).filter(near).count()
}

/// Reads what hosts announce, and has the clients look there.
struct Reloads {
    seen: Arc<Mutex<Vec<Reload>>>,
    task: JoinHandle<()>,
}

impl Reloads {
    fn watch(hosts: Vec<(String, PathBuf)>, pace: Arc<Pace>) -> Self {
        let seen: Arc<Mutex<Vec<Reload>>> = Arc::default();
        let told = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut read: Vec<usize> = hosts.iter().map(|(_, path)| lines(path).len()).collect();
            loop {
                for (number, (target, path)) in hosts.iter().enumerate() {
                    let lines = lines(path);
                    for line in lines.iter().skip(read[number]) {
                        follow(line, number, target, &pace, &told);
                    }
                    read[number] = lines.len();
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Self { seen, task }
    }

    fn stop(self) -> Vec<Reload> {
        self.task.abort();
        lock(&self.seen).clone()
    }
}

/// The whole lines of a host's announcements.
fn lines(path: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

fn follow(line: &str, number: usize, target: &str, pace: &Arc<Pace>, told: &Mutex<Vec<Reload>>) {
    match line.split_once(' ') {
        Some(("soon", _)) => pace.heat(number),
        Some(("now", at)) => {
            lock(told).push(Reload { target: target.to_owned(), at_ns: at.parse().unwrap_or_default() });
            let pace = Arc::clone(pace);
            tokio::spawn(async move {
                tokio::time::sleep(WINDOW).await;
                pace.cool(number);
            });
        }
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_count_that_begin_around_the_reload_of_their_target() {
        let reload = Reload { target: "i-1".into(), at_ns: 1_000_000_000 };
        let begun = |ms: u128, target: &str| Handshake { begun_ns: ms * 1_000_000, target: target.into(), took_us: 1 };
        let all = [begun(899, "i-1"), begun(900, "i-1"), begun(1_000, "i-2"), begun(1_100, "i-1"), begun(1_101, "i-1")];
        assert_eq!(count(&reload, &all), 2);
    }

    #[tokio::test]
    async fn an_announcement_heats_and_a_reload_is_remembered() {
        let (pace, told) = (Pace::new(Duration::from_millis(1)), Mutex::default());
        follow("soon 5", 1, "i-1", &pace, &told);
        assert_eq!(pace.choose(0, 3), 1);
        follow("now 7", 1, "i-1", &pace, &told);
        follow("nonsense", 1, "i-1", &pace, &told);
        assert_eq!(*lock(&told), [Reload { target: "i-1".into(), at_ns: 7 }]);
    }
}
