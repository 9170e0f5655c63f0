//! A real disk that is full: a small file system of memory below the host's certificates, in a mount namespace of its own.

#![allow(clippy::print_stderr, reason = "what is not run by request is said")]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Host;
use crate::bundles::{authority, minted};

/// What the file system hands out at a time.
const PAGE: usize = 4096;

/// Set for the test that runs in the namespace.
const INSIDE: &str = "ESPALIER_TEST_INSIDE";

/// Set by whoever wants to do without these tests.
const LEFT_OUT: &str = "ESPALIER_WITHOUT_MOUNT";

/// Runs the test of this name again where it may mount, unless this is that run already; whether it is. A machine that lets
/// nobody mount fails the test, unless somebody asked to leave it out: what was not run must not look like a success.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let allowed = |way: &&&[&str]| Command::new("unshare").args(**way).arg("true").output().unwrap().status.success();
    let Some(way) = ways.iter().find(allowed) else {
        assert!(
            std::env::var_os(LEFT_OUT).is_some(),
            "{test} needs a file system of its own, and this machine lets nobody mount one: run it as root with \
             CAP_SYS_ADMIN, or where user namespaces are allowed; {LEFT_OUT}=1 leaves it out"
        );
        eprintln!("{test}: left out, as {LEFT_OUT} says");
        return false;
    };
    let mut again = Command::new("unshare");
    again.args(*way).arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(again.status().unwrap().success(), "{test}, in a namespace of its own");
    false
}

/// A mounted disk.
struct Disk {
    filler: PathBuf,
}

impl Disk {
    /// Mounts one of this many pages there.
    fn mount(at: &Path, pages: usize) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={},mode=0755", pages * PAGE);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status().unwrap();
        assert!(mounted.success());
        Self { filler: at.join("filler") }
    }

    /// Fills it up to this many free pages.
    fn leave(&self, pages: usize) {
        let mut filler = File::create(&self.filler).unwrap();
        let mut full = 0;
        while filler.write_all(&[b'x'; PAGE]).is_ok() {
            full += 1;
        }
        let length = u64::try_from((full - pages) * PAGE).unwrap();
        OpenOptions::new().write(true).open(&self.filler).unwrap().set_len(length).unwrap();
    }
}

/// A real full disk, with a little more room each time: wherever it ends, the old pair is served, the code is clear and
/// nothing stays; the first run that finds room enough completes.
#[test]
fn a_disk_without_room_changes_nothing() {
    if !is_inside("host::disk::a_disk_without_room_changes_nothing") {
        return;
    }
    let (host, authority) = (Host::new(), authority());
    let fresh = || minted(&authority, time::Duration::ZERO);
    let disk = Disk::mount(&host.at("certificates"), 64);
    let first = fresh();
    assert_eq!(host.install(1, &first).code(), "installed");
    let (before, second) = (host.files(), fresh());
    let mut codes = Vec::new();
    for pages in 0.. {
        disk.leave(pages);
        let said = host.install(2, &second);
        if said.code() == "installed" {
            break;
        }
        assert!(said.last["detail"].as_str().unwrap().ends_with("no room on the disk"), "{pages} pages: {said:?}");
        assert_eq!((host.files(), host.current().as_deref()), (before.clone(), Some("1")), "{pages} pages: {said:?}");
        assert_eq!(host.served().as_deref(), Some(first.fingerprint.as_str()), "{pages} pages");
        codes.push(said.code().to_owned());
    }
    assert_eq!(codes.first().map(String::as_str), Some("fetchFailed"));
    assert!(codes.len() >= 4 && codes.iter().skip(1).all(|code| code == "refused"), "{codes:?}");
    assert_eq!((host.served(), host.floor().as_deref()), (Some(second.fingerprint), Some("2")));
}
