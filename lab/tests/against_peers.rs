//! What breaks the nearest peers' installers, done to ours with the real servers: docs/benchmarks-installing.md has the
//! figures of both.
//!
//! `ESPALIER_TRIES=full` tries as often as the peers were tried; without it each abuse is tried a few times.
//! `ESPALIER_SERVERS=haproxy` tries it on these servers only. `ESPALIER_WITHOUT_MOUNT=1` leaves out what mounts a disk of
//! its own; else a machine that lets nobody mount fails the test.

#![allow(clippy::print_stderr, reason = "figures for docs/benchmarks-installing.md")]

mod target_world;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use espalier_lab::target::Kind;
use target_world::{Clients, Host, Pair, STACK, assert_unbroken};

/// Every server, or those that were asked for.
fn kinds() -> Vec<Kind> {
    let asked = std::env::var("ESPALIER_SERVERS").unwrap_or_else(|_| "apache,nginx,haproxy".to_owned());
    let kinds = [("apache", Kind::Apache), ("nginx", Kind::Nginx), ("haproxy", Kind::Haproxy)];
    kinds.into_iter().filter(|(name, _)| asked.split(',').any(|one| one == *name)).map(|(_, kind)| kind).collect()
}

/// How often an abuse is tried on each server.
fn tries(usual: u32, full: u32) -> u32 {
    if std::env::var("ESPALIER_TRIES").is_ok_and(|tries| tries == "full") { full } else { usual }
}

/// A command put before the system's own on the installer's `PATH`.
fn shim(host: &Host, name: &str, body: &str) {
    let path = host.directory.path().join("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

fn unshim(host: &Host, name: &str) {
    fs::remove_file(host.directory.path().join("bin").join(name)).unwrap();
}

/// What a server is told when somebody else reloads it.
fn reload_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Apache => "-k graceful",
        Kind::Nginx => "-s reload",
        Kind::Lab | Kind::Haproxy => "reload",
    }
}

/// Nothing of an unfinished run, and at most two generations.
fn assert_tidy(host: &Host) {
    let base = host.guest.certificates.join(STACK);
    let names = |path| -> Vec<String> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let (all, kept) = (names(base.clone()), names(base.join("generations")));
    assert!(!all.iter().any(|name| name.starts_with('.')), "{:?}: {all:?}", host.kind);
    assert!(kept.len() <= 2, "{:?}: {kept:?}", host.kind);
}

/// Somebody else's reload before and after each rename the installer makes, while clients ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_reload_at_every_rename_does_no_harm() {
    for kind in kinds() {
        let host = Host::new(kind);
        let first = host.installed(1).await;
        let reload = format!("\"$CONTROL\" {} >/dev/null 2>&1 9>&-", reload_words(kind));
        shim(&host, "mv", &format!("{reload}\n/bin/mv \"$@\" || exit\n{reload}\nsleep 0.3 9>&-"));
        let clients = Clients::start(&host);
        let mut pairs = vec![first];
        for generation in 2..2 + tries(2, 20) {
            pairs.push(host.installed(generation).await);
        }
        let seen = clients.end().await;
        let shown: Vec<&Pair> = pairs.iter().collect();
        assert_unbroken(&seen, &shown);
        eprintln!("{kind:?}: {} installations, {} handshakes, 0 failed", pairs.len() - 1, seen.len());
        host.stop().await;
    }
}

/// Somebody else reloads whenever they like.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_reloads_at_any_time_do_no_harm() {
    for kind in kinds() {
        let host = Host::new(kind);
        host.installed(1).await;
        for generation in 2..2 + tries(2, 150) {
            let pair = host.authority.pair();
            let mut run = host.command(generation, &pair.fingerprint, &pair.bundle()).spawn().unwrap();
            while run.try_wait().unwrap().is_none() {
                assert!(host.reload().await, "{kind:?}: refused a reload");
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            assert!(run.wait().await.unwrap().success(), "{kind:?}");
            // Reloads on top of each other leave several workers of before, each with connections to take to their end.
            let begun = Instant::now();
            while host.ask().await.unwrap().0 != pair.fingerprint {
                assert!(begun.elapsed() < Duration::from_secs(30), "{kind:?}: an older pair is served all the time");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        assert_tidy(&host);
        host.stop().await;
    }
}

/// What one rename in a rotation meets once in a very long time, all the time: a server that opened certificate and key one after
/// the other, each through the link, would hold two that do not match.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_never_rests_leads_no_reload_to_two_halves() {
    for kind in kinds() {
        let host = Host::new(kind);
        let pairs = [host.installed(1).await, host.installed(2).await];
        let base = host.guest.certificates.join(STACK);
        let (resting, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
        let reloads = tries(20, 150);
        // HAProxy's master starts itself anew; theirs stays, and one that died would be started by the next reload unnoticed.
        let master =
            || (kind != Kind::Haproxy).then(|| fs::read_to_string(host.pid_file().unwrap()).unwrap_or_default());
        let first = master();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !resting.load(Ordering::SeqCst) {
                    let generation = swaps.fetch_add(1, Ordering::SeqCst) % 2 + 1;
                    symlink(format!("generations/{generation}"), base.join("next")).unwrap();
                    fs::rename(base.join("next"), base.join("current")).unwrap();
                }
            });
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    for number in 1..=reloads {
                        let reloaded = host.reload().await;
                        // The signal comes first, and reading the pair after it.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        let shown = host.ask().await;
                        let whole = matches!(&shown, Ok((leaf, _)) if pairs.iter().any(|pair| pair.fingerprint == *leaf))
                            && master() == first;
                        if !reloaded || !whole {
                            resting.store(true, Ordering::SeqCst);
                        }
                        assert!(reloaded && whole, "{kind:?}: reload {number} ({reloaded}) led to {shown:?}");
                    }
                });
            });
            resting.store(true, Ordering::SeqCst);
        });
        eprintln!("{kind:?}: {reloads} reloads while the link was swapped {swaps:?} times, none to two halves");
        host.stop().await;
    }
}

/// `kill -9` at any moment, then somebody else's reload: what is served is a pair we meant, and the next run converges.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_at_any_moment_leaves_a_pair_that_serves() {
    for kind in kinds() {
        let host = Host::new(kind);
        let begun = Instant::now();
        let mut proven = host.installed(1).await;
        let whole = u32::try_from(begun.elapsed().as_millis()).unwrap();
        let mut killed = 0;
        let tries = tries(8, 230);
        for (attempt, generation) in (2..2 + tries).enumerate() {
            let pair = host.authority.pair();
            let mut command = host.command(generation, &pair.fingerprint, &pair.bundle());
            command.process_group(0).stdout(std::process::Stdio::null());
            let mut run = command.spawn().unwrap();
            // Spread over a whole run, in an order that is not theirs.
            let slot = (u32::try_from(attempt).unwrap() * 37) % tries;
            tokio::time::sleep(Duration::from_millis(u64::from(whole * slot / tries))).await;
            if let Some(pid) = run.id() {
                let group = format!("-{pid}");
                killed += u32::from(
                    tokio::process::Command::new("kill").args(["-9", "--", &group]).status().await.unwrap().success(),
                );
            }
            run.wait().await.unwrap();
            assert!(host.reload().await, "{kind:?}: the server takes what is there");
            let shown = host.ask().await.unwrap().0;
            assert!(shown == proven.fingerprint || shown == pair.fingerprint, "{kind:?}: killed in slot {slot}");
            let said = host.install(generation, &pair.fingerprint, &pair.bundle()).await;
            assert!(["installed", "unchanged"].contains(&said["code"].as_str().unwrap()), "{kind:?}: {said}");
            assert_eq!(host.ask().await.unwrap().0, pair.fingerprint, "{kind:?}");
            assert_tidy(&host);
            proven = pair;
        }
        eprintln!("{kind:?}: {killed} of {tries} killed");
        assert!(killed > 0, "{kind:?}: nothing was killed");
        host.stop().await;
    }
}

/// What must not be installed is refused before anything is swapped, and nothing is reloaded.
#[tokio::test(flavor = "multi_thread")]
async fn mismatched_and_expired_pairs_are_refused() {
    for kind in kinds() {
        let host = Host::new(kind);
        let first = host.installed(1).await;
        let clients = Clients::start(&host);
        let (other, ended) = (host.authority.pair(), host.authority.lasting(time::Duration::hours(-1)));
        for (bundle, announced) in [(format!("{}{}", first.key, other.chain), &other), (ended.bundle(), &ended)] {
            let said = host.install(2, &announced.fingerprint, &bundle).await;
            assert_eq!(said["code"], "invalidBundle", "{kind:?}: {said}");
        }
        assert_unbroken(&clients.end().await, &[&first]);
        assert_tidy(&host);
        host.stop().await;
    }
}

/// A reload that fails, and one that says it succeeded and did nothing: found, taken back, nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_and_a_lying_reload_are_found_and_taken_back() {
    for kind in kinds() {
        let host = Host::new(kind);
        let first = host.installed(1).await;
        let control = fs::read_to_string(host.path("control")).unwrap();
        let clients = Clients::start(&host);
        for (generation, answer, cause) in [(2, "exit 1", "reloadFailed"), (3, "exit 0", "servedOther")] {
            let lie = format!("#!/bin/sh\ncase \"$*\" in -t | -c) ;; *) {answer} ;; esac\n");
            fs::write(host.path("control"), control.replacen("#!/bin/sh\n", &lie, 1)).unwrap();
            let pair = host.authority.pair();
            let said = host.install(generation, &pair.fingerprint, &pair.bundle()).await;
            assert_eq!(said["code"], "reverted", "{kind:?}: {said}");
            assert!(said["detail"].as_str().unwrap().starts_with(cause), "{kind:?}: {said}");
        }
        fs::write(host.path("control"), control).unwrap();
        assert!(host.reload().await);
        assert_unbroken(&clients.end().await, &[&first]);
        host.installed(4).await;
        assert_tidy(&host);
        host.stop().await;
    }
}

/// A real disk that is full, with a page more of room each time, while real servers serve: nothing changes and nothing
/// stays until there is room enough; then the same generation is installed. Needs root, who may mount.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_changes_nothing() {
    if std::env::var_os(INSIDE).is_none() {
        return again_where_one_may_mount("a_disk_without_room_changes_nothing");
    }
    for kind in kinds() {
        let host = Host::new(kind);
        let disk = &host.guest.certificates;
        let mount = ["-t", "tmpfs", "-o", "size=256k,mode=0755", "tmpfs"];
        assert!(std::process::Command::new("mount").args(mount).arg(disk).status().unwrap().success());
        let first = host.installed(1).await;
        let pair = host.authority.pair();
        let clients = Clients::start(&host);
        let mut codes = Vec::new();
        for pages in 0_u64.. {
            leave_room(&disk.join("filler"), pages);
            let said = host.install(2, &pair.fingerprint, &pair.bundle()).await;
            if said["code"] == "installed" {
                break;
            }
            assert!(said["detail"].as_str().unwrap().ends_with("no room on the disk"), "{kind:?}: {said}");
            codes.push(said["code"].as_str().unwrap().to_owned());
            assert_eq!(host.ask().await.unwrap().0, first.fingerprint, "{kind:?}: {pages} pages");
            assert!(!disk.join(STACK).join("generations/2").exists(), "{kind:?}: {pages} pages");
            assert_tidy(&host);
        }
        assert!(codes.len() >= 4 && codes[0] == "fetchFailed", "{kind:?}: {codes:?}");
        assert_unbroken(&clients.end().await, &[&first, &pair]);
        assert_tidy(&host);
        eprintln!("{kind:?}: {} installations without room, then one with it", codes.len());
        host.stop().await;
    }
}

/// Set for a test that has a mount namespace of its own.
const INSIDE: &str = "ESPALIER_TEST_INSIDE";

/// Set by whoever wants to do without it.
const LEFT_OUT: &str = "ESPALIER_WITHOUT_MOUNT";

fn again_where_one_may_mount(test: &str) {
    let unshare = || {
        let mut command = std::process::Command::new("unshare");
        command.arg("--mount");
        command
    };
    if !unshare().arg("true").output().unwrap().status.success() {
        // What was not run must not look like a success.
        assert!(
            std::env::var_os(LEFT_OUT).is_some(),
            "{test} needs a file system of its own, and nobody may mount one here: run it as root with CAP_SYS_ADMIN; \
             {LEFT_OUT}=1 leaves it out"
        );
        return eprintln!("{test}: left out, as {LEFT_OUT} says");
    }
    let mut again = unshare();
    again.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(again.status().unwrap().success(), "{test}, in a namespace of its own");
}

/// Fills the disk up to this many pages.
fn leave_room(filler: &std::path::Path, pages: u64) {
    use std::io::Write as _;
    let mut file = fs::File::create(filler).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    file.set_len(file.metadata().unwrap().len().saturating_sub(pages * 4096)).unwrap();
}

/// The disk is full when the pair is taken apart, or refuses to keep what was written: nothing changes, nothing stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_changes_nothing() {
    for kind in kinds() {
        let host = Host::new(kind);
        let first = host.installed(1).await;
        let pair = host.authority.pair();
        for writer in ["awk", "sync"] {
            // Writes end as on a full disk, and what cannot be flushed is not there.
            shim(&host, writer, "ulimit -f 0\n[ \"${0##*/}\" = awk ] || exit 1\nexec /usr/bin/awk \"$@\"");
            let said = host.install(2, &pair.fingerprint, &pair.bundle()).await;
            assert!(["invalidBundle", "refused"].contains(&said["code"].as_str().unwrap()), "{kind:?}: {said}");
            unshim(&host, writer);
            assert!(host.reload().await);
            assert_eq!(host.ask().await.unwrap().0, first.fingerprint, "{kind:?}: {writer}");
        }
        let said = host.install(2, &pair.fingerprint, &pair.bundle()).await;
        assert_eq!(said["code"], "installed", "{kind:?}: {said}");
        assert_tidy(&host);
        host.stop().await;
    }
}
