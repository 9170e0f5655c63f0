//! What many do by hand, under the same clients: the files are overwritten where they lie and the server is restarted.
//!
//! For comparison only. The pairs are the stack's own last two generations, so whatever fails fails because of the way.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::load::{self, Clients, Seen};
use super::rotation::row;
use super::{Options, STACK, StoryError, Tale};
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

/// The files that a server may read of a pair.
pub(super) const FILES: [&str; 5] = ["key.pem", "leaf.pem", "chain.pem", "fullchain.pem", "haproxy.pem"];

/// As many rotations as the product just did; then everything is put back.
pub(super) async fn restarts(tale: &Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("naive");
    let kept: Vec<Vec<(PathBuf, Vec<u8>)>> =
        tale.world.hosts.iter().map(|host| files(&host.guest.certificates)).collect();
    let clients = Clients::start_even(tale, options.clients, load::BUSY)?;
    let done = rounds(tale, options.rotations, &phase).await;
    let seen = clients.stop().await;
    // Put back, whatever happened: what follows is about the product again.
    for (host, kept) in tale.world.hosts.iter().zip(&kept) {
        overwrite(kept)?;
        restart(tale, &host.guest.restart()).await?;
    }
    done?;
    let Seen { through, direct, .. } = seen;
    let failed = through.failed + direct.failed;
    let attempted = through.attempted + direct.attempted;
    report.add(row(Way::Naive, "through", options.rotations, &through));
    report.add(row(Way::Naive, "direct", options.rotations, &direct));
    phase.done(&format!("for comparison: overwriting and restarting failed {failed} of {attempted} handshakes"));
    Ok(())
}

async fn rounds(tale: &Tale, rotations: u32, phase: &Phase) -> Result<(), StoryError> {
    for host in &tale.world.hosts {
        keep_for_later(&host.guest.certificates.join(STACK))?;
    }
    for number in 1..=rotations {
        for host in &tale.world.hosts {
            phase.progress(&format!("round {number}: {}", host.id));
            let base = host.guest.certificates.join(STACK);
            // By turns the generation before and the newest: both are valid.
            let from = base.join(if number % 2 == 1 { "previous" } else { "naive" });
            let current = base.join("current");
            overwrite(&read(&from).into_iter().map(|(name, bytes)| (current.join(name), bytes)).collect::<Vec<_>>())?;
            restart(tale, &host.guest.restart()).await?;
        }
    }
    for host in &tale.world.hosts {
        let _ = std::fs::remove_dir_all(host.guest.certificates.join(STACK).join("naive"));
    }
    Ok(())
}

/// A copy of the newest pair, for every second round.
fn keep_for_later(base: &Path) -> Result<(), StoryError> {
    let copy = base.join("naive");
    std::fs::create_dir_all(&copy).map_err(StoryError::io("copying a pair"))?;
    let pair = read(&base.join("current")).into_iter().map(|(name, bytes)| (copy.join(name), bytes));
    overwrite(&pair.collect::<Vec<_>>())
}

fn read(pair: &Path) -> Vec<(&'static str, Vec<u8>)> {
    FILES.iter().filter_map(|name| Some((*name, std::fs::read(pair.join(name)).ok()?))).collect()
}

pub(super) fn files(certificates: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let current = certificates.join(STACK).join("current");
    read(&current).into_iter().map(|(name, bytes)| (current.join(name), bytes)).collect()
}

fn overwrite(files: &[(PathBuf, Vec<u8>)]) -> Result<(), StoryError> {
    files.iter().try_for_each(|(path, bytes)| std::fs::write(path, bytes).map_err(StoryError::io("overwriting a pair")))
}

pub(super) async fn restart(tale: &Tale, program: &Path) -> Result<(), StoryError> {
    let (marker, value) = tale.world.processes.marker();
    let mut command = tokio::process::Command::new(program);
    command.env(marker, value).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), command.kill_on_drop(true).status()).await;
    let ended = ended.map_err(|_| StoryError::Unmet(format!("{} does not end", program.display())))?;
    let ended = ended.map_err(StoryError::io("restarting a target's server"))?;
    if !ended.success() {
        return Err(StoryError::Unmet(format!("{} ended with {ended}", program.display())));
    }
    // Until it answers again: the next one only then, as a careful person would.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    Ok(())
}
