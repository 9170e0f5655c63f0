//! Every action of the installer, killed wherever it can be, before a power cut: a whole pair is served, and a later run completes.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use crate::bundles::{Bundle, authority};
use crate::disk::asking;
use crate::fresh;
use crate::host::Host;
use crate::points::{self, Scenario, Share, Told};

/// A host that serves generation 1, and generation 2.
fn ready(driver: &'static str) -> (Host, Bundle, Bundle) {
    let (host, authority) = (Host::with(driver), authority());
    let (first, second) = (fresh(&authority), fresh(&authority));
    assert_eq!(host.install(1, &first).code(), "installed");
    host.publish(2, &second.text);
    (host, first, second)
}

/// Somebody else's reload at this moment, or the server's start: one of these is served, whole.
fn assert_served(host: &Host, pairs: &[&Bundle], context: &str) {
    fs::write(host.at("served"), context).unwrap();
    let served = host.served();
    assert!(!host.is_dead(), "{context}");
    assert!(pairs.iter().any(|pair| served.as_ref() == Some(&pair.fingerprint)), "{context}: {served:?}");
}

/// It stands at this generation and nothing is left of what was begun.
fn assert_done(host: &Host, generation: u32, pair: &Bundle, keys: usize, context: &str) {
    assert_eq!(host.served().as_ref(), Some(&pair.fingerprint), "{context}");
    let stands = Some(generation.to_string());
    assert_eq!((host.current(), host.floor()), (stands.clone(), stands), "{context}");
    let files = host.files();
    assert!(!files.iter().any(|file| file.starts_with('.')), "{context}: {files:?}");
    assert!(files.iter().filter(|file| file.ends_with("/key.pem")).count() <= keys, "{context}: {files:?}");
}

fn acting(host: &Host, action: &str, generation: u32, pair: &Bundle) -> Command {
    let mut command = host.command(generation, &pair.fingerprint);
    command.env("SSM_Action", action);
    command
}

/// An installation that follows another.
fn next(driver: &'static str, share: Share) -> Told {
    let (host, first, second) = ready(driver);
    let scenario = Scenario {
        name: &format!("{driver}, the next generation"),
        command: &|host| acting(host, "Install", 2, &second),
        code: "installed",
        holds: &|host, context| assert_served(host, &[&first, &second], context),
        share,
        completes: &|host, context| {
            let said = Host::run(acting(host, "Install", 2, &second));
            assert!(["installed", "unchanged"].contains(&said.code()), "{context}: {said:?}");
            assert_done(host, 2, &second, 2, context);
        },
    };
    points::killed(&host, &scenario)
}

/// The first of all.
fn first(driver: &'static str, share: Share) -> Told {
    let (host, pair) = (Host::with(driver), fresh(&authority()));
    host.publish(1, &pair.text);
    let scenario = Scenario {
        name: &format!("{driver}, the first generation"),
        command: &|host| acting(host, "Install", 1, &pair),
        code: "installed",
        holds: &|host, context| {
            // A server that never ran is not harmed by a pair that is not there; by half of one it is.
            if fs::symlink_metadata(host.base().join("current")).is_ok() {
                assert_served(host, &[&pair], context);
            }
        },
        share,
        completes: &|host, context| {
            let said = Host::run(acting(host, "Install", 1, &pair));
            assert!(["installed", "unchanged"].contains(&said.code()), "{context}: {said:?}");
            assert_done(host, 1, &pair, 1, context);
        },
    };
    points::killed(&host, &scenario)
}

/// One that awaits confirmation, with a key that was made on the host, a timer and a unit, a fetch that is throttled at first, and
/// a pair before it that another server's driver installed.
fn arming(driver: &'static str, share: Share) -> Told {
    let (host, first, second) = ready(driver);
    host.configure(&host.usual().replace("units=none", &format!("units={}", host.at("units").display())));
    host.executable("bin/systemd-run", "#!/bin/sh\n");
    host.executable("bin/sleep", "#!/bin/sh\n");
    let _ = fs::remove_file(host.base().join("generations/1/pair.conf"));
    let [key, leaf, issuer] = second.parts();
    fs::create_dir_all(host.base().join("prepared/2")).unwrap();
    fs::File::create(host.base().join("prepared/2/key.pem")).unwrap().write_all(key.as_bytes()).unwrap();
    host.publish(2, &(leaf + &issuer));
    let armed = |host: &Host| {
        let mut command = acting(host, "Install", 2, &second);
        command.env("SSM_ConfirmSeconds", "600").env("SSM_MarginHours", "1");
        command
    };
    let scenario = Scenario {
        name: &format!("{driver}, one that awaits confirmation"),
        command: &|host| {
            fs::write(host.at("throttled"), "").unwrap();
            armed(host)
        },
        code: "armed",
        holds: &|host, context| assert_served(host, &[&first, &second], context),
        share,
        completes: &|host, context| {
            let said = Host::run(armed(host));
            assert!(["armed", "unchanged"].contains(&said.code()), "{context}: {said:?}");
            assert_eq!(Host::run(acting(host, "Confirm", 2, &second)).code(), "confirmed", "{context}");
            assert_done(host, 2, &second, 2, context);
        },
    };
    points::killed(&host, &scenario)
}

/// A host whose deadline has passed.
fn awaiting(driver: &'static str) -> (Host, Bundle, Bundle) {
    let (host, first, second) = ready(driver);
    let mut command = acting(&host, "Install", 2, &second);
    command.env("SSM_ConfirmSeconds", "600").env("SSM_MarginHours", "1");
    assert_eq!(Host::run(command).code(), "armed");
    fs::write(host.base().join("deadline"), "1 1 1\n").unwrap();
    (host, first, second)
}

fn confirming(driver: &'static str, share: Share) -> Told {
    let (host, _, second) = awaiting(driver);
    let scenario = Scenario {
        name: &format!("{driver}, a confirmation"),
        command: &|host| acting(host, "Confirm", 2, &second),
        code: "confirmed",
        holds: &|host, context| assert_served(host, &[&second], context),
        share,
        completes: &|host, context| {
            assert_eq!(Host::run(acting(host, "Confirm", 2, &second)).code(), "confirmed", "{context}");
            assert_done(host, 2, &second, 2, context);
        },
    };
    points::killed(&host, &scenario)
}

fn going_back(driver: &'static str, share: Share) -> Told {
    let (host, first, second) = awaiting(driver);
    let scenario = Scenario {
        name: &format!("{driver}, going back"),
        command: &|host| acting(host, "Expire", 9, &second),
        code: "unconfirmed",
        holds: &|host, context| assert_served(host, &[&first, &second], context),
        share,
        completes: &|host, context| {
            // As at the next boot.
            Host::run(acting(host, "Expire", 9, &second));
            assert_served(host, &[&first], context);
            assert_done(host, 1, &first, 2, context);
        },
    };
    points::killed(&host, &scenario)
}

fn preparing(driver: &'static str, share: Share) -> Told {
    let (host, first, second) = ready(driver);
    let prepare = |host: &Host| asking(host, "Prepare", &second.fingerprint, "EC_prime256v1");
    let scenario = Scenario {
        name: &format!("{driver}, making a key"),
        command: &prepare,
        code: "prepared",
        holds: &|host, context| assert_served(host, &[&first], context),
        share,
        completes: &|host, context| {
            // Once it has its name it is whole, and made once: its leaf may be signed by now.
            let key = || fs::read_to_string(host.base().join("prepared/2/key.pem")).ok();
            let made = key();
            assert_eq!(Host::run(prepare(host)).code(), "prepared", "{context}");
            assert!(made.is_none() || made == key(), "{context}");
            assert_served(host, &[&first], context);
            assert_done(host, 1, &first, 2, context);
        },
    };
    points::killed(&host, &scenario)
}

/// What is killed: an action, the driver it is of, and in which of its states.
type Killed = (fn(&'static str, Share) -> Told, &'static str, Share, &'static str);

const fn each(after: usize, every: usize) -> Share {
    Share { after, every }
}

/// Installing is killed for every driver, in every state by one of them; the rest, of which nothing but the server's test and reload is any
/// driver's own, for one each. Most states of an installation that awaits confirmation are those of any other.
const KILLED: [Killed; 9] = [
    (next, "hook", each(0, 4), "installing the next generation"),
    (next, "httpd", each(1, 4), "installing the next generation"),
    (next, "nginx", each(2, 4), "installing the next generation"),
    (next, "haproxy", each(3, 4), "installing the next generation"),
    (first, "hook", each(0, 3), "installing the first generation"),
    (arming, "nginx", each(0, 6), "installing one that awaits confirmation"),
    (confirming, "httpd", each(0, 1), "confirming"),
    (going_back, "haproxy", each(0, 2), "going back"),
    (preparing, "hook", each(0, 1), "making a key"),
];

#[test]
fn wherever_it_is_killed_before_a_power_cut_a_whole_pair_is_served_and_a_later_run_completes() {
    let begun = std::time::Instant::now();
    let told: Vec<Told> = std::thread::scope(|scope| {
        let all: Vec<_> =
            KILLED.map(|(kill, driver, share, _)| scope.spawn(move || kill(driver, share))).into_iter().collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut text = String::new();
    for ((_, driver, share, name), told) in KILLED.iter().zip(&told) {
        let Told { commands, redirections, states, kills, runs, lost, .. } = told;
        text += &format!(
            "crash points, {driver}, {name}: {commands} before and after commands, {redirections} before and after redirections; \
             {states} states, killed {kills} times; {lost} files or names lost to power cuts, {runs} later runs\n"
        );
        assert!(
            *commands > 100 && *redirections >= 2 && *states >= 4 && (share.every + 1) * *kills >= *states,
            "the shims count: {text}"
        );
    }
    assert!(told.iter().map(|told| told.lost).sum::<usize>() > 20, "{text}");
    text += &format!("crash points: in {:.0} s\n", begun.elapsed().as_secs_f64());
    // Past what the harness captures of tests that pass: a count that nobody sees is none.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    points::assert_all_met(&told);
}
