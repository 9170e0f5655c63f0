//! A real disk that is full: a small file system of memory below the host's certificates, in a mount namespace of its own.

#![allow(clippy::print_stderr, reason = "what is not run by request is said")]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bundles::{authority, minted};
use crate::host::{Host, Said};

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
    if !is_inside("disk::a_disk_without_room_changes_nothing") {
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

/// An action of generation 2 as a sender that knows of keys asks for it.
pub(crate) fn asking(host: &Host, action: &str, fingerprint: &str, key_type: &str) -> Command {
    let mut command = host.command(2, fingerprint);
    command.env("SSM_Action", action).env("SSM_KeyType", key_type).env("SSM_Nonce", "a".repeat(64));
    command.env("AWS_SSM_INSTANCE_ID", "i-0123456789abcdef0");
    command
}

/// The same of a key that the host makes, and of one that it puts beside its leaf.
#[test]
fn a_disk_without_room_makes_no_key_and_loses_none() {
    if !is_inside("disk::a_disk_without_room_makes_no_key_and_loses_none") {
        return;
    }
    let (host, authority) = (Host::new(), authority());
    let disk = Disk::mount(&host.at("certificates"), 64);
    let (first, second) = (minted(&authority, time::Duration::ZERO), minted(&authority, time::Duration::ZERO));
    assert_eq!(host.install(1, &first).code(), "installed");
    let until = |good: &str, run: &dyn Fn() -> Said| {
        let before = host.files();
        for pages in 0.. {
            disk.leave(pages);
            let said = run();
            if said.code() == good {
                return pages;
            }
            assert!(said.last["detail"].as_str().unwrap().ends_with("no room on the disk"), "{pages} pages: {said:?}");
            assert_eq!(host.files(), before, "{pages} pages: {said:?}");
            assert_eq!(host.served().as_deref(), Some(first.fingerprint.as_str()), "{pages} pages");
        }
        unreachable!("there is room in the end")
    };
    assert!(until("prepared", &|| Host::run(asking(&host, "Prepare", "", "RSA_2048"))) >= 1);
    // Of which the leaf is known.
    let [key, leaf, issuer] = second.parts();
    fs::write(host.base().join("prepared/2/key.pem"), &key).unwrap();
    host.publish(2, &(leaf + &issuer));
    assert!(until("installed", &|| Host::run(host.command(2, &second.fingerprint))) >= 4);
    assert_eq!((host.served(), host.floor().as_deref()), (Some(second.fingerprint), Some("2")));
}

/// A disk that somebody, or an error on it, has made read-only: whatever is asked for, nothing is changed and the reason is told.
#[test]
fn a_disk_that_is_read_only_is_told_and_nothing_is_half_done() {
    if !is_inside("disk::a_disk_that_is_read_only_is_told_and_nothing_is_half_done") {
        return;
    }
    let (host, authority) = (Host::new(), authority());
    let fresh = || minted(&authority, time::Duration::ZERO);
    let _disk = Disk::mount(&host.at("certificates"), 64);
    let remount = |how: &str| {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(host.at("certificates")).status();
        assert!(done.unwrap().success(), "{how}");
    };
    let told = |said: &Said| {
        let detail = said.last["detail"].as_str().unwrap();
        assert!(detail.ends_with("is on a read-only file system; mount it read-write again"), "{said:?}");
    };
    // Before anything was ever installed there, and afterwards.
    let (first, second) = (fresh(), fresh());
    host.publish(2, &second.text);
    remount("ro");
    let said = host.install(1, &first);
    assert_eq!((said.code(), host.base().exists()), ("refused", false), "{said:?}");
    told(&said);
    remount("rw");
    assert_eq!(host.install(1, &first).code(), "installed");
    let before = host.files();
    remount("ro");
    for action in ["Install", "Prepare", "Confirm"] {
        let said = Host::run(asking(&host, action, &second.fingerprint, "RSA_2048"));
        assert!(said.code() == "refused" && said.status != Some(0), "{action}: {said:?}");
        told(&said);
        assert_eq!((host.files(), host.served()), (before.clone(), Some(first.fingerprint.clone())), "{action}");
    }
    remount("rw");
    assert_eq!(host.install(2, &second).code(), "installed");

    // In the middle: the server refuses what cannot be taken back any more. It goes on with what it has, and is told nothing.
    let third = fresh();
    let test = fs::read_to_string(host.at("hooks/test")).unwrap();
    // Somebody holds a file open there, so it is covered by a mount of its own that is.
    let turns = r#"#!/bin/sh
[ "$(cat "$ESPALIER_DIRECTORY/generation")" = 3 ] || exit 0
mount --bind "$HOST/certificates" "$HOST/certificates" && mount -o remount,bind,ro "$HOST/certificates"
echo "it is no good"
exit 1
"#;
    host.executable("hooks/test", turns);
    let said = host.install(3, &third);
    assert_eq!((said.code(), host.current().as_deref()), ("configTestFailed", Some("3")), "{said:?}");
    assert!(said.last["detail"].as_str().unwrap().contains("is still in place"), "{said:?}");
    assert_eq!((host.served(), host.floor().as_deref()), (Some(second.fingerprint), Some("2")));
    // What is in place unproven is not what the next run goes back to.
    assert!(Command::new("umount").arg(host.at("certificates")).status().unwrap().success());
    host.executable("hooks/test", &test);
    fs::write(host.at("refuse-reload"), "").unwrap();
    assert_eq!((host.install(4, &fresh()).code(), host.current().as_deref()), ("reverted", Some("2")));
    fs::remove_file(host.at("refuse-reload")).unwrap();
    assert_eq!((host.install(3, &third).code(), host.served()), ("installed", Some(third.fingerprint.clone())));
}
