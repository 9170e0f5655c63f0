//! The scenario of replacement: the targets' port is changed, and changed back with the targets selected by address, in target
//! groups of one each; then they are instances again. Clients come meanwhile, others stay connected. No handshake fails, and
//! nobody who is connected is cut off.

mod addresses;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::deploy::PORT;
use super::judge::{self, DOMAIN};
use super::load::PAUSE;
use super::rotation::{merge, row};
use super::{CLIENT, Options, STACK, StoryError, Tale};
use crate::client::Client;
use crate::client::load::{Aim, Load, Pace};
use crate::eni::Eni;
use crate::lattice::Lattice;
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

/// The other port on which the targets serve.
const OTHER_PORT: u16 = 9443;

/// VPC Lattice's ten minutes take ten seconds.
const PACE: u8 = 60;

/// As long as somebody stays connected: eight of the ten minutes that a connection lives.
const STAY: Duration = Duration::from_secs(8);

/// Clients that stay.
const STAYING: usize = 3;

/// How long a change may take; two slow cores fit into this several times.
const LIMIT: Duration = Duration::from_secs(300);

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    // The hosts serve on a second port: a second interface of each, to the same server.
    let mut interfaces = Vec::new();
    for host in &tale.world.hosts {
        let listen = SocketAddr::new(host.address, OTHER_PORT);
        let interface = Eni::start(tale.world.fabric.clone(), &host.id, listen, host.guest.listen).await;
        interfaces.push(interface.map_err(StoryError::boxed("opening a target's second port"))?);
    }
    tale.world.lattice.quicken(PACE);
    let moved = async {
        tale.spec["targets"]["port"] = OTHER_PORT.into();
        changed(tale, OTHER_PORT, options, report, ui.phase("target port")).await?;
        let recipe = addresses::select(tale);
        changed(tale, PORT, options, report, ui.phase("back by address")).await?;
        addresses::rotated(tale, options, report, ui.phase("one is only looked at")).await?;
        tale.spec["targets"] = recipe;
        changed(tale, PORT, options, report, ui.phase("instances again")).await?;
        addresses::at_rest(tale).await
    }
    .await;
    tale.world.lattice.quicken(1);
    moved
}

async fn changed(
    tale: &mut Tale,
    port: u16,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let aim = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
    let load = Load::start(&client, &aim, options.clients, &Pace::new(PAUSE));
    let staying = Staying::start(&client);
    let drained = drained(tale);
    let begun = Instant::now();
    tale.put_spec(true).await?;
    let sampling = Sampling::start(&tale.world.lattice);
    let settled = settle(tale, &phase).await;
    let (seen, (stayed, cut)) = (load.stop().await, staying.stop().await);
    let most_at_once = sampling.stop();
    settled?;
    merge(&mut report.handshakes, &seen);
    report.add(row(Way::Replace, "through", 0, &seen));
    if seen.failed > 0 || cut > 0 || drained != self::drained(tale) {
        return Err(StoryError::Unmet(format!(
            "{} of {} handshakes failed ({:?}), {cut} of {stayed} who stayed were cut off, {} cut by draining; the data \
             plane noted {:?} and {:?}",
            seen.failed,
            seen.attempted,
            seen.first_failures,
            self::drained(tale) - drained,
            tale.world.lattice.event_counts(),
            tale.world.lattice.connections()
        )));
    }
    if most_at_once < 2 || !tale.world.lattice.connections().iter().all(|one| one.port == port && one.opened > 0) {
        let connections = tale.world.lattice.connections();
        return Err(StoryError::Unmet(format!("clients did not move from one group to the other: {connections:?}")));
    }
    // What the runs said on the way is not awaited.
    while !tale.watch.hear().await?.is_empty() {}
    phase.done(&format!(
        "to {port} in {:.0} s (ten minutes told as ten seconds); {} handshakes meanwhile, 0 failed; {stayed} stayed \
         connected for {} s, 0 cut off",
        begun.elapsed().as_secs_f64(),
        seen.attempted,
        STAY.as_secs()
    ));
    Ok(())
}

/// Has `provision` look, as the schedule would, until nothing is left to do.
async fn settle(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let plan = tale.would_do("provision", None).await?;
        let next = plan["plan"].as_str().and_then(|text| text.lines().next()).unwrap_or_default().to_owned();
        phase.progress(&next);
        match plan["outcome"].as_str() {
            Some("converged") => return Ok(()),
            Some("blocked") => return Err(StoryError::Unmet(format!("the change is blocked: {plan}"))),
            Some(_) | None => {}
        }
        // What waits takes its time; what can be done is done at the next look, the schedule's here.
        if plan["steps"].as_array().is_some_and(|steps| !steps.is_empty()) {
            phase.note(&next);
            let answer: Value = tale.watch.invoke(&tale.function("provision"), &json!({"stack": STACK})).await?;
            if answer["errorType"].is_string() {
                return Err(StoryError::Unmet(format!("provision failed: {answer}")));
            }
        }
        if Instant::now() > deadline {
            return Err(StoryError::Unmet(format!("not settled within {} s: {plan}", LIMIT.as_secs())));
        }
    }
}

fn drained(tale: &Tale) -> u64 {
    tale.world.lattice.event_counts().get("Drained").copied().unwrap_or_default()
}

/// Watches how many target groups have clients at once.
struct Sampling {
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Sampling {
    fn start(lattice: &Lattice) -> Self {
        let (lattice, most) = (lattice.clone(), Arc::<AtomicU64>::default());
        let seen = Arc::clone(&most);
        let task = tokio::spawn(async move {
            loop {
                seen.fetch_max(lattice.groups_in_use() as u64, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Self { most, task }
    }

    fn stop(self) -> u64 {
        self.task.abort();
        self.most.load(Ordering::Relaxed)
    }
}

/// Clients that stay connected, one connection after the other.
struct Staying {
    stopping: Arc<AtomicBool>,
    stayed: Arc<AtomicU64>,
    cut: Arc<AtomicU64>,
    workers: JoinSet<()>,
}

impl Staying {
    fn start(client: &Client) -> Self {
        let mut all =
            Self { stopping: Arc::default(), stayed: Arc::default(), cut: Arc::default(), workers: JoinSet::new() };
        for _ in 0..STAYING {
            let (client, stopping) = (client.clone(), Arc::clone(&all.stopping));
            let (stayed, cut) = (Arc::clone(&all.stayed), Arc::clone(&all.cut));
            all.workers.spawn(async move {
                while !stopping.load(Ordering::Relaxed) {
                    let is_open = client.hold(DOMAIN, PORT, STAY).await.unwrap_or(false);
                    stayed.fetch_add(1, Ordering::Relaxed);
                    cut.fetch_add(u64::from(!is_open), Ordering::Relaxed);
                }
            });
        }
        all
    }

    /// How many stayed, and how many of them were cut off.
    async fn stop(mut self) -> (u64, u64) {
        self.stopping.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        (self.stayed.load(Ordering::Relaxed), self.cut.load(Ordering::Relaxed))
    }
}
