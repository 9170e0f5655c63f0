//! A pair that awaits confirmation: it stays when it is confirmed, the host goes back by itself when it is not, never
//! toward a worse pair, and wherever either is killed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests set up their own world")]
#![allow(clippy::print_stdout, clippy::disallowed_macros, reason = "a test tells how often it killed")]

mod bundles;
#[path = "host/crash.rs"]
mod crash;
mod host;

use std::fs;
use std::process::Command;

use bundles::{Bundle, authority, minted};
use espalier_pki::authority::Authority;
use host::{Host, Said};
use time::Duration;

fn fresh(authority: &Authority) -> Bundle {
    minted(authority, Duration::ZERO)
}

/// A host that serves generation 1, and the bundle of generation 2.
fn started(driver: &'static str) -> (Host, Authority, Bundle, Bundle) {
    let (host, authority) = (Host::with(driver), authority());
    let (first, second) = (fresh(&authority), fresh(&authority));
    let said = host.install(1, &first);
    assert_eq!(said.code(), "installed", "{said:?}");
    host.publish(2, &second.text);
    (host, authority, first, second)
}

/// An installation that is to be confirmed within so many seconds, with this margin.
fn arming(host: &Host, generation: u32, bundle: &Bundle, seconds: u32, margin_hours: u32) -> Command {
    let mut command = host.command(generation, &bundle.fingerprint);
    command.env("SSM_ConfirmSeconds", seconds.to_string()).env("SSM_MarginHours", margin_hours.to_string());
    command
}

fn confirming(host: &Host, generation: u32, bundle: &Bundle) -> Command {
    let mut command = host.command(generation, &bundle.fingerprint);
    command.env("SSM_Action", "Confirm");
    command
}

/// The deadline passes at once: what the host then does by itself, if there is one.
fn expiring(host: &Host) -> Command {
    let deadline = host.base().join("deadline");
    if let Ok(text) = fs::read_to_string(&deadline) {
        let margin = text.trim().rsplit(' ').next().unwrap().to_owned();
        fs::write(deadline, format!("1 1 {margin}\n")).unwrap();
    }
    let mut command = host.command(9, "not for it");
    command.env("SSM_Action", "Expire");
    command
}

fn armed(host: &Host, generation: u32, bundle: &Bundle) -> Said {
    host.publish(generation, &bundle.text);
    Host::run(arming(host, generation, bundle, 600, 1))
}

/// What the host stands at: the generation on disk, its floor, what is served, whether something is awaited.
fn stands(host: &Host) -> (Option<String>, Option<String>, Option<String>, bool) {
    (host.current(), host.floor(), host.served(), host.base().join("deadline").exists())
}

fn at(
    current: &str,
    floor: &str,
    bundle: &Bundle,
    awaits: bool,
) -> (Option<String>, Option<String>, Option<String>, bool) {
    (Some(current.into()), Some(floor.into()), Some(bundle.fingerprint.clone()), awaits)
}

#[test]
fn what_is_confirmed_stays() {
    for driver in ["hook", "httpd", "nginx", "haproxy"] {
        let (host, _, _, second) = started(driver);
        // The command may come twice.
        for _ in 0..2 {
            let said = armed(&host, 2, &second);
            assert_eq!((said.code(), said.status), ("armed", Some(0)), "{driver}: {said:?}");
            assert_eq!(stands(&host), at("2", "1", &second, true));
            let [key, ..] = second.parts();
            let mut secret = key.lines().filter(|line| line.len() > 20);
            assert!(!secret.any(|line| said.output.contains(line)), "{said:?}");
        }
        let waiting = fs::read_to_string(host.at("waiting")).unwrap();
        let line = format!("Expire api-service sh {}/installer\n", host.base().display());
        assert_eq!(waiting, line.repeat(2), "somebody looks at the deadline");
        for _ in 0..2 {
            let said = Host::run(confirming(&host, 2, &second));
            assert_eq!((said.code(), said.status), ("confirmed", Some(0)), "{said:?}");
            assert_eq!(
                (said.last["generation"].as_u64(), said.last["serial"].as_str()),
                (Some(2), Some(&*second.serial))
            );
        }
        assert_eq!(stands(&host), at("2", "2", &second, false));
        assert_eq!(Host::run(expiring(&host)).code(), "unchanged", "the deadline was not heard of");
        assert_eq!(armed(&host, 2, &second).code(), "unchanged", "what was confirmed is not armed again");
        assert_eq!(stands(&host), at("2", "2", &second, false));
    }
}

#[test]
fn what_nobody_confirms_is_taken_back_and_the_late_confirmation_hears_of_it() {
    let (host, _, first, second) = started("hook");
    assert_eq!(armed(&host, 2, &second).code(), "armed");
    let said = Host::run(expiring(&host));
    assert_eq!((said.code(), said.last["generation"].as_u64()), ("unconfirmed", Some(2)), "{said:?}");
    assert_eq!(stands(&host), at("1", "1", &first, false));
    assert_eq!(Host::run(expiring(&host)).code(), "unchanged", "once");
    let late = Host::run(confirming(&host, 2, &second));
    assert_eq!((late.code(), late.status), ("unconfirmed", Some(1)), "{late:?}");
    assert!(
        late.last["detail"].as_str().unwrap().starts_with("nobody confirmed it in time: taken back at 2"),
        "{late:?}"
    );
    assert_eq!(stands(&host), at("1", "1", &first, false), "a late confirmation changes nothing");
    // It is to blame for nothing: it may come again.
    assert_eq!(armed(&host, 2, &second).code(), "armed");
    assert_eq!(Host::run(confirming(&host, 2, &second)).code(), "confirmed");
    assert_eq!(stands(&host), at("2", "2", &second, false));
}

#[test]
fn a_confirmation_is_of_what_is_in_place() {
    let (host, authority, first, second) = started("hook");
    assert_eq!(Host::run(confirming(&host, 2, &second)).code(), "refused", "it never was");
    assert_eq!(armed(&host, 2, &second).code(), "armed");
    assert_eq!(Host::run(confirming(&host, 2, &first)).code(), "refused", "another certificate");
    assert_eq!(Host::run(confirming(&host, 3, &second)).code(), "refused", "another generation");
    assert_eq!(stands(&host), at("2", "1", &second, true));
    // A command of before that comes late does not replace what awaits confirmation.
    assert_eq!(armed(&host, 1, &first).code(), "belowFloor");
    assert_eq!(stands(&host), at("2", "1", &second, true));
    assert_eq!(Host::run(confirming(&host, 2, &second)).code(), "confirmed");
    assert_eq!(Host::run(confirming(&host, 1, &first)).code(), "belowFloor");
    // The next one with no need for confirmation ends a deadline of before.
    let (third, fourth) = (fresh(&authority), fresh(&authority));
    assert_eq!(armed(&host, 3, &third).code(), "armed");
    assert_eq!(host.install(4, &fourth).code(), "installed");
    assert_eq!(stands(&host), at("4", "4", &fourth, false));
}

#[test]
fn nothing_is_armed_without_a_pair_that_is_good_to_go_back_to() {
    // The first one of all.
    let (host, authority) = (Host::new(), authority());
    let first = minted(&authority, Duration::hours(100));
    let said = armed(&host, 1, &first);
    assert_eq!(said.code(), "installed", "{said:?}");
    assert_eq!(stands(&host), at("1", "1", &first, false));
    // One that ends in 68 hours, within the margin.
    let second = fresh(&authority);
    host.publish(2, &second.text);
    let said = Host::run(arming(&host, 2, &second, 600, 70));
    assert_eq!(said.code(), "installed", "{said:?}");
    assert_eq!(stands(&host), at("2", "2", &second, false));
    // One that is broken.
    fs::write(host.base().join("current/key.pem"), "gone").unwrap();
    let third = fresh(&authority);
    assert_eq!(armed(&host, 3, &third).code(), "installed");
    assert_eq!(stands(&host), at("3", "3", &third, false));
    // A good one.
    assert_eq!(armed(&host, 4, &fresh(&authority)).code(), "armed");
}

#[test]
fn a_host_never_goes_back_to_a_worse_pair() {
    for harm in ["ends within the margin", "broken", "gone", "never confirmed"] {
        let (host, _, _, second) = started("hook");
        assert_eq!(armed(&host, 2, &second).code(), "armed");
        let previous = host.base().join("previous");
        let command = expiring(&host);
        match harm {
            "ends within the margin" => fs::write(host.base().join("deadline"), "1 1 169\n").unwrap(),
            "broken" => fs::write(previous.join("key.pem"), "gone").unwrap(),
            "gone" => fs::remove_file(previous).unwrap(),
            _ => fs::remove_file(host.base().join("floor")).unwrap(),
        }
        let said = Host::run(command);
        assert_eq!((said.code(), said.status), ("unchanged", Some(0)), "{harm}: {said:?}");
        fs::write(host.at("served"), harm).unwrap();
        assert_eq!((host.current().as_deref(), host.served()), (Some("2"), Some(second.fingerprint.clone())), "{harm}");
        assert_eq!(Host::run(confirming(&host, 2, &second)).code(), "confirmed", "{harm}");
        assert_eq!(stands(&host), at("2", "2", &second, false), "{harm}");
    }
}

/// What was never confirmed is not what a later one goes back to, nor what a failure does.
#[test]
fn going_back_means_to_what_was_confirmed() {
    let (host, authority, first, second) = started("hook");
    assert_eq!(armed(&host, 2, &second).code(), "armed");
    let third = fresh(&authority);
    assert_eq!(armed(&host, 3, &third).code(), "armed");
    assert_eq!(Host::run(expiring(&host)).code(), "unconfirmed");
    assert_eq!(stands(&host), at("1", "1", &first, false));
    assert_eq!(armed(&host, 3, &third).code(), "armed");
    fs::write(host.at("refuse-reload"), "").unwrap();
    assert_eq!(armed(&host, 4, &fresh(&authority)).code(), "reverted");
    fs::remove_file(host.at("refuse-reload")).unwrap();
    fs::write(host.at("served"), "somebody reloads").unwrap();
    assert_eq!(stands(&host), at("1", "1", &first, false), "nothing is awaited when nothing was installed");
}

/// Where there is no systemd a process waits, and outlives the run.
#[test]
fn a_process_waits_for_the_deadline() {
    let (host, _, first, second) = started("hook");
    fs::remove_file(host.at("bin/setsid")).unwrap();
    let said = Host::run(arming(&host, 2, &second, 2, 1));
    assert_eq!((said.code(), host.current().as_deref()), ("armed", Some("2")), "{said:?}");
    for _ in 0..1_200 {
        if stands(&host) == at("1", "1", &first, false) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{:?}", stands(&host));
}

/// Played by a stand-in that writes down what it is asked.
#[test]
fn a_timer_of_systemds_waits_for_the_deadline_and_a_unit_at_boot() {
    let (host, _, _, second) = started("hook");
    let (units, base) = (host.at("units"), host.base().display().to_string());
    fs::create_dir(&units).unwrap();
    host.configure(&host.usual().replace("units=none", &format!("units={}", units.display())));
    host.executable("bin/systemd-run", "#!/bin/sh\necho \"$*\" >>\"$HOST/asked\"\n[ ! -e \"$HOST/no-systemd\" ]\n");
    assert_eq!(armed(&host, 2, &second).code(), "armed");
    let asked = fs::read_to_string(host.at("asked")).unwrap();
    let deadline = fs::read_to_string(host.base().join("deadline")).unwrap();
    let unit = format!("--unit=espalier-deadline-api-service-{} --on-active=600 ", deadline.split(' ').next().unwrap());
    assert!(asked.contains(&unit), "{asked}");
    assert!(asked.ends_with(&format!(" /bin/sh {base}/installer\n")), "{asked}");
    assert!(!host.at("waiting").exists());
    let text = fs::read_to_string(units.join("espalier-deadline-api-service.service")).unwrap();
    assert!(text.contains(&format!("\nConditionPathExists={base}/deadline\n")), "{text}");
    assert!(
        text.contains(&format!(
            "\nEnvironment=SSM_Action=Expire SSM_Stack=api-service ESPALIER_CONF={}\n",
            host.at("host.conf").display()
        )),
        "{text}"
    );
    let wanted = units.join("multi-user.target.wants/espalier-deadline-api-service.service");
    assert_eq!(fs::read_to_string(wanted).unwrap(), text, "it is enabled");
    // Systemd does not want to: a process waits.
    fs::write(host.at("no-systemd"), "").unwrap();
    assert_eq!(armed(&host, 2, &second).code(), "armed");
    assert!(fs::read_to_string(host.at("waiting")).unwrap().starts_with("Expire api-service "));
}

/// `kill -9` before steps of each of the three; then the control plane is heard of no more. The drivers differ in two steps only, so one
/// is killed at every ninth and the others at every thirtieth; at every state of the disk `installer` kills them.
#[test]
fn wherever_it_is_killed_a_whole_pair_is_served_and_the_host_finds_its_way() {
    std::thread::scope(|scope| {
        for (first, driver) in (1..).zip(["hook", "httpd", "nginx", "haproxy"]) {
            scope.spawn(move || {
                let (first, stride) = if driver == "hook" { (1, 9) } else { (first, 30) };
                let arming = killed_while_arming(driver, first, stride);
                let confirming = killed_while_confirming(driver, first, stride);
                let back = killed_while_going_back(driver, first, stride);
                println!("{driver}: {arming} steps of arming, {back} of going back, {confirming} of confirming");
                assert!(arming > 40 && back > 15 && confirming > 5, "the shims count: {arming} {back} {confirming}");
            });
        }
    });
}

/// One host that is put back to where it was before each kill, with the shims before its commands.
struct Stage {
    host: Host,
    first: Bundle,
    second: Bundle,
}

impl Stage {
    /// It serves generation 1, and if that is wanted generation 2 awaits confirmation.
    fn set(driver: &'static str, awaits: bool) -> Self {
        let (host, _, first, second) = started(driver);
        if awaits {
            assert_eq!(armed(&host, 2, &second).code(), "armed");
        }
        copy(&host, "certificates", "kept");
        crash::prepare(&host);
        Self { host, first, second }
    }

    fn again(&self, call: u32) -> &Host {
        fs::remove_dir_all(self.host.at("certificates")).unwrap();
        copy(&self.host, "kept", "certificates");
        fs::write(self.host.at("served"), format!("before {call}")).unwrap();
        self.host.served();
        &self.host
    }

    /// Somebody else's reload, at the worst moment: a whole pair is served all the same.
    fn reload(&self, context: &str) {
        fs::write(self.host.at("served"), context).unwrap();
        let served = self.host.served();
        assert!(!self.host.is_dead(), "{context}");
        assert!([&self.first.fingerprint, &self.second.fingerprint].contains(&&served.unwrap()), "{context}");
    }

    /// The control plane is back: the same generation is installed and confirmed, and nothing is left behind.
    fn try_again(&self, context: &str) {
        let (host, second) = (&self.host, &self.second);
        let again = armed(host, 2, second);
        assert!(matches!(again.code(), "armed" | "unchanged"), "{context}: {again:?}");
        assert_eq!(Host::run(confirming(host, 2, second)).code(), "confirmed", "{context}");
        assert_eq!(stands(host), at("2", "2", second, false), "{context}");
        let files = host.files();
        assert!(!files.iter().any(|file| file.starts_with('.')), "{context}: {files:?}");
        assert_eq!(files.iter().filter(|file| file.ends_with("/key.pem")).count(), 2, "{context}: {files:?}");
    }
}

fn copy(host: &Host, from: &str, to: &str) {
    let copied = Command::new("cp").arg("-a").args([host.at(from), host.at(to)]).status().unwrap();
    assert!(copied.success());
}

fn killed_while_arming(driver: &'static str, first: u32, stride: usize) -> u32 {
    let stage = Stage::set(driver, false);
    for call in (first..).step_by(stride) {
        let host = stage.again(call);
        let (killed, said) = crash::killed_at(host, call, &arming(host, 2, &stage.second, 600, 1));
        if !killed {
            assert_eq!(said.code(), "armed", "{said:?}");
            return call;
        }
        let context = format!("{driver}, arming, killed at call {call}");
        stage.reload(&context);
        // Nobody comes back: the host does it alone.
        Host::run(expiring(host));
        fs::write(host.at("served"), context.clone() + " again").unwrap();
        assert_eq!(stands(host), at("1", "1", &stage.first, false), "{context}");
        if call % 2 == 0 {
            stage.try_again(&context);
        }
    }
    unreachable!("a run ends")
}

fn killed_while_going_back(driver: &'static str, first: u32, stride: usize) -> u32 {
    let stage = Stage::set(driver, true);
    for call in (first..).step_by(stride) {
        let host = stage.again(call);
        let (killed, said) = crash::killed_at(host, call, &expiring(host));
        if !killed {
            assert_eq!(said.code(), "unconfirmed", "{said:?}");
            return call;
        }
        let context = format!("{driver}, going back, killed at call {call}");
        stage.reload(&context);
        // As at the next boot.
        Host::run(expiring(host));
        assert_eq!(stands(host), at("1", "1", &stage.first, false), "{context}");
        let late = Host::run(confirming(host, 2, &stage.second));
        assert_eq!(late.code(), "unconfirmed", "{context}: {late:?}");
        if call % 2 == 0 {
            stage.try_again(&context);
        }
    }
    unreachable!("a run ends")
}

fn killed_while_confirming(driver: &'static str, first: u32, stride: usize) -> u32 {
    let stage = Stage::set(driver, true);
    for call in (first..).step_by(stride) {
        let host = stage.again(call);
        let (killed, said) = crash::killed_at(host, call, &confirming(host, 2, &stage.second));
        if !killed {
            assert_eq!(said.code(), "confirmed", "{said:?}");
            return call;
        }
        let context = format!("{driver}, confirming, killed at call {call}");
        stage.reload(&context);
        let stays = host.floor().as_deref() == Some("2");
        Host::run(expiring(host));
        let expected = if stays { at("2", "2", &stage.second, false) } else { at("1", "1", &stage.first, false) };
        assert_eq!(stands(host), expected, "{context}");
        let again = Host::run(confirming(host, 2, &stage.second));
        assert_eq!(again.code(), if stays { "confirmed" } else { "unconfirmed" }, "{context}: {again:?}");
    }
    unreachable!("a run ends")
}
