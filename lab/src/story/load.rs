//! Clients at work while certificates change: through the service and directly, and what they saw at each reload.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::deploy::PORT;
use super::judge::{self, DOMAIN};
use super::{CLIENT, PROBER, StoryError, Tale};
use crate::client::LoadReport;
use crate::client::load::{Aim, Handshake, Load, Pace};
use crate::client::press::Press;
use crate::fabric::lock;

/// Between two connections of one client: enough to leave the two cores to everybody else.
pub(super) const PAUSE: Duration = Duration::from_millis(80);

/// The same where the way of rotating is what is measured: some 500 handshakes a second of eight clients, and room for everybody else.
pub(super) const BUSY: Duration = Duration::from_millis(20);

/// Before and after a reload: what begins within it can meet the change.
const WINDOW: Duration = Duration::from_millis(100);

/// How often a host's announcements are looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Connections kept under way around a reload, for each client: with eight clients that is 208, all begun within the window,
/// so that every queue of the server holds some.
const PRESSING: usize = 26;

/// A crowd waits for itself: this long, before what is only slow counts as failed.
const CROWDED: Duration = Duration::from_secs(20);

/// Clients at both ways to the targets.
pub(super) struct Clients {
    through: Load,
    direct: Load,
    press: Arc<Press>,
    reloads: Reloads,
}

/// What they saw.
pub(super) struct Seen {
    /// Through the passthrough data plane, by name.
    pub(super) through: LoadReport,
    /// Dialling each target's address.
    pub(super) direct: LoadReport,
    /// At a server that is being reloaded.
    pub(super) pressed: LoadReport,
    /// Each reload, with the handshakes around it.
    pub(super) reloads: Vec<(Reload, usize)>,
}

impl Seen {
    /// Each path with its name.
    pub(super) fn paths(&self) -> [(&'static str, &LoadReport); 3] {
        [("through", &self.through), ("direct", &self.direct), ("reloading", &self.pressed)]
    }
}

impl Clients {
    /// Starts `number` clients each way, who press every server that is about to be reloaded.
    pub(super) fn start(tale: &Tale, number: usize) -> Result<Self, StoryError> {
        Self::pressing(tale, number, PAUSE, number * PRESSING)
    }

    /// The same, in haste.
    pub(super) fn start_busy(tale: &Tale, number: usize) -> Result<Self, StoryError> {
        Self::pressing(tale, number, BUSY, number * PRESSING)
    }

    /// The same without the press: a server that is gone for a while would fail as many as it is pressed with.
    pub(super) fn start_even(tale: &Tale, number: usize, pause: Duration) -> Result<Self, StoryError> {
        Self::pressing(tale, number, pause, 0)
    }

    fn pressing(tale: &Tale, number: usize, pause: Duration, connections: usize) -> Result<Self, StoryError> {
        let pace = Pace::new(pause);
        let hosts = &tale.world.hosts;
        let targets = hosts.iter().map(|host| SocketAddr::new(host.address, PORT)).collect();
        let told = hosts.iter().map(|host| Told::by(&host.id, host.guest.reloads())).collect();
        // Where the servers themselves listen.
        let servers: Vec<SocketAddr> = hosts.iter().map(|host| host.guest.listen).collect();
        let (inside, prober) =
            (judge::client(&tale.world, CLIENT, &tale.roots)?, judge::client(&tale.world, PROBER, &tale.roots)?);
        let through = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
        let direct = Aim::Direct { host: DOMAIN.to_owned(), targets };
        let press = Arc::new(Press::new(&prober.clone().patient(CROWDED), DOMAIN, &servers, connections));
        Ok(Self {
            through: Load::start(&inside, &through, number, &pace),
            direct: Load::start(&prober, &direct, number, &pace),
            reloads: Reloads::watch(told, pace, Arc::clone(&press)),
            press,
        })
    }

    /// Lets what is under way finish.
    pub(super) async fn stop(self) -> Seen {
        // A little longer, so that connections after the last reload are counted, too.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (through, direct) = (self.through.stop().await, self.direct.stop().await);
        let reloads = self.reloads.stop();
        let pressed = tokio::task::spawn_blocking(move || self.press.stop()).await.unwrap_or_default();
        let mut seen = Seen { through, direct, pressed, reloads: Vec::new() };
        let around = |reload: &Reload| seen.paths().iter().map(|(_, load)| count(reload, &load.handshakes)).sum();
        seen.reloads = reloads.into_iter().map(|reload| (around(&reload), reload)).map(|(n, r)| (r, n)).collect();
        seen
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

/// What a host announces, and where.
struct Told {
    target: String,
    path: PathBuf,
    /// How many lines were read.
    read: usize,
}

impl Told {
    /// Whatever was announced before is of no interest.
    fn by(target: &str, path: PathBuf) -> Self {
        let read = lines(&path).len();
        Self { target: target.to_owned(), path, read }
    }
}

/// Reads what hosts announce, and has the clients look there. A thread of its own: it must not wait for the clients' turns.
struct Reloads {
    seen: Arc<Mutex<Vec<Reload>>>,
    over: Arc<AtomicBool>,
}

impl Reloads {
    #[allow(clippy::disallowed_methods, reason = "a plain thread: there is no runtime to block")]
    fn watch(mut hosts: Vec<Told>, pace: Arc<Pace>, press: Arc<Press>) -> Self {
        let reloads = Self { seen: Arc::default(), over: Arc::default() };
        let (told, over) = (Arc::clone(&reloads.seen), Arc::clone(&reloads.over));
        std::thread::spawn(move || {
            let mut watching = Watching { pace, press, cooling: Vec::new() };
            while !over.load(Ordering::Relaxed) {
                for (number, host) in hosts.iter_mut().enumerate() {
                    let lines = lines(&host.path);
                    for line in lines.iter().skip(host.read) {
                        watching.follow(line, number, &host.target, &told);
                    }
                    host.read = lines.len();
                }
                watching.cool();
                std::thread::sleep(LOOK);
            }
        });
        reloads
    }

    fn stop(self) -> Vec<Reload> {
        lock(&self.seen).clone()
    }
}

impl Drop for Reloads {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The whole lines of a host's announcements.
fn lines(path: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// Whom the clients look at, and until when.
struct Watching {
    pace: Arc<Pace>,
    press: Arc<Press>,
    cooling: Vec<(Instant, usize)>,
}

impl Watching {
    fn follow(&mut self, line: &str, number: usize, target: &str, told: &Mutex<Vec<Reload>>) {
        match line.split_once(' ') {
            Some(("soon", _)) => {
                self.cooling.retain(|(_, cooling)| *cooling != number);
                self.pace.heat(number);
                self.press.begin(number);
            }
            Some(("now", at)) => {
                lock(told).push(Reload { target: target.to_owned(), at_ns: at.parse().unwrap_or_default() });
                self.cooling.push((Instant::now() + WINDOW, number));
            }
            Some(_) | None => {}
        }
    }

    fn cool(&mut self) {
        let now = Instant::now();
        for (_, number) in self.cooling.extract_if(.., |(until, _)| *until <= now) {
            self.pace.cool(number);
            self.press.end(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    #[test]
    fn handshakes_count_that_begin_around_the_reload_of_their_target() {
        let reload = Reload { target: "i-1".into(), at_ns: 1_000_000_000 };
        let begun = |ms: u128, target: &str| Handshake { begun_ns: ms * 1_000_000, target: target.into(), took_us: 1 };
        let all = [begun(899, "i-1"), begun(900, "i-1"), begun(1_000, "i-2"), begun(1_100, "i-1"), begun(1_101, "i-1")];
        assert_eq!(count(&reload, &all), 2);
    }

    #[test]
    fn an_announcement_heats_until_a_little_after_the_reload_which_is_remembered() {
        let root = rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).unwrap().cert.pem();
        let any = SocketAddr::from(([127, 0, 0, 1], 1));
        let client = Client::new(any.ip(), any, &root, WINDOW).unwrap();
        let (pace, press) = (Pace::new(Duration::ZERO), Arc::new(Press::new(&client, DOMAIN, &[any, any], 2)));
        let (mut watching, told) = (Watching { pace, press, cooling: Vec::new() }, Mutex::default());
        watching.follow("soon 5", 1, "i-1", &told);
        watching.cool();
        assert_eq!((watching.pace.choose(0, 3), watching.cooling.len()), (1, 0));
        watching.follow("now 7", 1, "i-1", &told);
        watching.follow("nonsense", 1, "i-1", &told);
        assert_eq!(*lock(&told), [Reload { target: "i-1".into(), at_ns: 7 }]);
        while !watching.cooling.is_empty() {
            std::thread::sleep(LOOK);
            watching.cool();
        }
        assert_eq!(watching.pace.choose(0, 3), 0);
        // Nothing listens there; what was tried is counted.
        let seen = watching.press.stop();
        assert!(seen.attempted > 0 && seen.attempted == seen.failed, "{seen:?}");
    }
}
