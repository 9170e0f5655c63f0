//! What is wrong with a host before we come: a server that is broken or does not run, a clock that is off, tools that are missing.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use time::Duration;

use crate::bundles::{Bundle, authority, minted};
use crate::host::{Host, Said};
use crate::{fresh, started};

const DRIVERS: [&str; 4] = ["hook", "httpd", "nginx", "haproxy"];

/// As nginx puts it, with a number that differs each time.
const BROKEN: &str =
    "nginx: [warn] 7#7: that is deprecated\nnginx: [emerg] 7#7: unknown directive \"foo\" in /etc/web.conf:12\n";
const SAYS: &str = "nginx: emerg 7#7: unknown directive foo in /etc/web.conf:12";

/// What the server says without its quotes and brackets.
fn detail(said: &Said) -> &str {
    said.last["detail"].as_str().unwrap()
}

fn says() -> String {
    SAYS.replace('#', "")
}

/// Changed by nothing, and told under a code of its own.
fn assert_left_alone(host: &Host, said: &Said, before: &[String], served: &Bundle, context: &str) {
    assert_eq!((said.code(), said.status), ("serverBroken", Some(1)), "{context}: {said:?}");
    assert_eq!(host.files(), before, "{context}");
    assert_eq!(host.served().as_deref(), Some(served.fingerprint.as_str()), "{context}");
}

#[test]
fn a_server_that_was_broken_before_is_told_nothing_and_left_alone() {
    std::thread::scope(|scope| {
        for driver in DRIVERS {
            scope.spawn(move || broken_before(driver));
        }
    });
}

fn broken_before(driver: &'static str) {
    let (host, authority) = (Host::with(driver), authority());
    let (first, second) = (fresh(&authority), fresh(&authority));
    assert_eq!(host.install(1, &first).code(), "installed");
    let (before, told) = (host.files(), fs::read(host.at("served")).unwrap());
    fs::write(host.at("broken"), BROKEN).unwrap();
    let said = host.install(2, &second);
    assert_left_alone(&host, &said, &before, &first, driver);
    assert!(detail(&said).contains(&says()) && !detail(&said).contains("deprecated"), "{driver}: {said:?}");
    // Whatever is wrong may not be said.
    fs::write(host.at("broken"), "").unwrap();
    let said = host.install(2, &second);
    assert_left_alone(&host, &said, &before, &first, driver);
    assert!(detail(&said).ends_with("it does not say why"), "{driver}: {said:?}");
    assert_eq!(fs::read(host.at("served")).unwrap(), told, "{driver}: it was not told to reload");
    fs::remove_file(host.at("broken")).unwrap();
    assert_eq!(host.install(2, &second).code(), "installed", "{driver}");
    // Nor is what was confirmed asserted again in vain: somebody has it serve another, and breaks it.
    for leads_to in ["generations/1", "generations/2"] {
        fs::remove_file(host.base().join("current")).unwrap();
        symlink(leads_to, host.base().join("current")).unwrap();
        if leads_to == "generations/1" {
            fs::write(host.at("served"), "by somebody").unwrap();
            assert_eq!(host.served(), Some(first.fingerprint.clone()));
        }
    }
    let before = host.files();
    fs::write(host.at("broken"), BROKEN).unwrap();
    let said = host.install(2, &second);
    assert_left_alone(&host, &said, &before, &first, driver);
}

/// Nothing leads to a pair yet, or to a damaged one: that may be what is wrong. If it is not, the server says the same again.
#[test]
fn a_server_whose_pair_may_be_what_is_wrong_is_given_another() {
    let (host, authority) = (Host::new(), authority());
    let (first, second) = (fresh(&authority), fresh(&authority));
    fs::write(host.at("broken"), BROKEN).unwrap();
    let said = host.install(1, &first);
    assert_eq!(
        (said.code(), host.files(), host.current()),
        ("serverBroken", vec!["lock".to_owned()], None),
        "{said:?}"
    );
    assert!(detail(&said).contains(&says()), "{said:?}");
    fs::remove_file(host.at("broken")).unwrap();
    assert_eq!(host.install(1, &first).code(), "installed");

    let refuse = |when: &str| {
        let text = format!(
            "#!/bin/sh\nat=$HOST/certificates/api-service/current\nif {when}; then exit 0; fi\necho \"$$: cannot load $at/key.pem\" >&2\nexit 1\n"
        );
        host.executable("hooks/test", &text);
    };
    // Damaged on disk: it is refused until it is replaced.
    fs::write(host.base().join("current/key.pem"), "gone").unwrap();
    refuse("[ \"$(cat \"$at/generation\")\" = 2 ]");
    assert_eq!(host.install(2, &second).code(), "installed");
    // Whole, and not to the server's liking any more, as it says.
    refuse("[ \"$(cat \"$at/generation\")\" = 3 ]");
    let third = fresh(&authority);
    assert_eq!(host.install(3, &third).code(), "installed");
    // Neither the pair of before nor the new one: both are to blame.
    refuse("false");
    let said = host.install(4, &fresh(&authority));
    assert_eq!((said.code(), host.current().as_deref()), ("reverted", Some("3")), "{said:?}");
    assert!(detail(&said).contains("cannot load"), "{said:?}");
    // Damaged, and something else is wrong as well: the same words as before, but for their numbers.
    fs::write(host.base().join("current/key.pem"), "gone").unwrap();
    host.executable("hooks/test", "#!/bin/sh\necho \"$$: unknown directive foo\" >&2\nexit 1\n");
    let said = host.install(4, &fresh(&authority));
    assert_eq!((said.code(), host.current().as_deref()), ("serverBroken", Some("3")), "{said:?}");
}

/// A test that shows what it looks at, on both ways out.
#[test]
fn no_word_of_the_servers_tells_a_key() {
    let (host, authority, _) = started();
    host.executable(
        "hooks/test",
        "#!/bin/sh\nat=$HOST/certificates/api-service/current\nopenssl pkey -in \"$at/key.pem\"\n\
         openssl pkey -in \"$at/key.pem\" >&2\nsed -n 2p \"$at/key.pem\" >&2\necho unknown directive foo >&2\nexit 1\n",
    );
    let said = host.install(2, &fresh(&authority));
    assert_eq!(said.code(), "serverBroken", "{said:?}");
    assert!(detail(&said).contains("unknown directive foo"), "{said:?}");
    let key = fs::read_to_string(host.base().join("current/key.pem")).unwrap();
    let told = format!("{said:?}");
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        let parts: Vec<_> = line.split('/').filter(|part| part.len() >= 16).collect();
        assert!(parts.iter().all(|part| !told.contains(part)), "{told}");
    }
}

/// Somebody breaks it while we are at work: it is refused with the pair of before as well.
#[test]
fn a_server_that_is_broken_meanwhile_is_not_broken_by_the_generation() {
    for words in ["", "echo unknown directive foo >&2"] {
        let (host, authority, first) = started();
        let text = format!(
            "#!/bin/sh\necho x >>\"$HOST/tests\"\n[ \"$(wc -l <\"$HOST/tests\")\" -gt 1 ] || exit 0\n{words}\nexit 1\n"
        );
        host.executable("hooks/test", &text);
        let before = host.files();
        let said = host.install(2, &fresh(&authority));
        let after: Vec<_> = host.files().into_iter().filter(|file| file != "previous").collect();
        assert_eq!((said.code(), after), ("serverBroken", before), "{said:?}");
        assert_eq!((host.current().as_deref(), host.served()), (Some("1"), Some(first.fingerprint)));
    }
}

/// What was put in place unproven may be what the server refuses, whole as it is: it is not what others have to wait for.
#[test]
fn what_was_never_proven_is_no_reason_to_leave_a_server_alone() {
    let (host, authority, _) = started();
    let second = fresh(&authority);
    host.publish(2, &second.text);
    let reload = fs::read_to_string(host.at("hooks/reload")).unwrap();
    host.executable("hooks/reload", "#!/bin/sh\nkill -9 \"-$(head -n 1 \"$HOST/group\")\"\n");
    let said = Host::run_known(&host.command(2, &second.fingerprint), &host.at("group"));
    assert_eq!((said.status, host.current().as_deref()), (None, Some("2")));
    host.executable("hooks/reload", &reload);
    fs::write(host.at("refuse-test"), "2").unwrap();
    assert_eq!(host.install(3, &fresh(&authority)).code(), "installed");
}

/// A real server of openssl's, which the reload hook starts.
const STARTS: &str = r#"#!/bin/sh
at=$HOST/certificates/api-service/current
[ ! -e "$HOST/refuse-reload" ] || exit 1
[ ! -e "$HOST/pid" ] || kill "$(cat "$HOST/pid")"
read -r port <"$HOST/port"
openssl s_server -quiet -accept "$port" -cert "$at/fullchain.pem" -key "$at/key.pem" </dev/null >/dev/null 2>&1 &
echo $! >"$HOST/pid"
"#;

#[test]
fn a_server_that_does_not_run_is_started_and_told_or_blamed_on_nobody() {
    let (host, authority) = (Host::new(), authority());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(host.at("port"), format!("{port}\n")).unwrap();
    let usual = host.usual();
    let checked = usual.lines().map(|line| match line.starts_with("check=") {
        true => format!("check=127.0.0.1:{port}\n"),
        false => format!("{line}\n"),
    });
    host.configure(&checked.collect::<String>());
    host.executable("hooks/reload", STARTS);
    let stop = || {
        let pid = fs::read_to_string(host.at("pid")).unwrap();
        assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
        fs::remove_file(host.at("pid")).unwrap();
    };
    let first = fresh(&authority);
    assert_eq!(host.install(1, &first).code(), "installed");
    stop();
    let said = host.install(2, &fresh(&authority));
    assert_eq!(
        (said.code(), detail(&said)),
        ("installed", "served by a server that did not answer before"),
        "{said:?}"
    );
    stop();
    // It does not start, with whatever pair.
    fs::write(host.at("refuse-reload"), "").unwrap();
    let said = host.install(3, &fresh(&authority));
    assert_eq!(
        (said.code(), host.current().as_deref(), host.floor().as_deref()),
        ("serverBroken", Some("2"), Some("2"))
    );
    assert!(detail(&said).starts_with("reloadFailed: it did not answer before"), "{said:?}");
    fs::remove_file(host.at("refuse-reload")).unwrap();
    assert_eq!(host.install(3, &fresh(&authority)).code(), "installed");
    stop();
}

/// The host's clock, so many hours off.
const DATE: &str = r#"#!/bin/sh
PATH=${PATH#*:}
if [ "$1" = -d ]; then exec date "$@"; fi
exec date -d "@$(($(date +%s) + 3600 * $(cat "$HOST/hours")))" "$@"
"#;

fn set_clock(host: &Host, hours: i32) {
    fs::write(host.at("hours"), hours.to_string()).unwrap();
    host.executable("bin/date", DATE);
}

#[test]
fn a_clock_that_is_off_keeps_no_good_pair_out_and_lets_no_worse_one_in() {
    let year = 8_760;
    // How old the pair in place is, how old the new one, how far the clock is off, and what comes of it. A leaf lives for 168 hours.
    for (before, new, hours, code) in [
        // Proven on the wire, so it had begun: the clock is behind.
        (Some(10), 0, -year, "installed"),
        // Both are over by this clock, so nothing is lost.
        (Some(10), 0, year, "installed"),
        (Some(10), 0, 0, "installed"),
        // The one that is served lasts longer, or nobody can tell.
        (Some(0), 10, year, "invalidBundle"),
        (Some(0), 10, -year, "invalidBundle"),
        (Some(0), 100, 80, "invalidBundle"),
        (Some(100), 0, -50, "invalidBundle"),
        (None, 0, -year, "invalidBundle"),
        (None, 0, year, "invalidBundle"),
    ] {
        let (host, authority) = (Host::new(), authority());
        let mut serves = None;
        if let Some(age) = before {
            let pair = minted(&authority, Duration::hours(age));
            assert_eq!(host.install(1, &pair).code(), "installed");
            serves = Some(pair.fingerprint);
        }
        set_clock(&host, hours);
        let pair = minted(&authority, Duration::hours(new));
        let (said, context) = (host.install(2, &pair), format!("{before:?} {new} {hours}"));
        assert_eq!(said.code(), code, "{context}: {said:?}");
        if code == "installed" {
            assert_eq!(host.served(), Some(pair.fingerprint.clone()), "{context}");
            // Seen on disk and on the wire, whatever the clock says.
            assert_eq!(host.install(2, &pair).code(), "unchanged", "{context}");
            let mut confirming = host.command(2, &pair.fingerprint);
            confirming.env("SSM_Action", "Confirm");
            assert_eq!(Host::run(confirming).code(), "confirmed", "{context}");
        } else {
            assert!(detail(&said).contains("this host's clock says".replace('\'', "").as_str()), "{context}: {said:?}");
            assert_eq!((host.served(), host.current().is_some()), (serves, before.is_some()), "{context}");
        }
    }
}

/// A pair that will be over in ten hours is none to go back to with a margin of twenty, however early the clock says it is.
#[test]
fn a_clock_that_was_set_back_does_not_make_a_pair_last() {
    for (hours, stays) in [(-20, true), (0, true), (0, false)] {
        let (host, authority) = (Host::new(), authority());
        assert_eq!(host.install(1, &minted(&authority, Duration::hours(158))).code(), "installed");
        let second = fresh(&authority);
        host.publish(2, &second.text);
        let mut arming = host.command(2, &second.fingerprint);
        arming.env("SSM_ConfirmSeconds", "600").env("SSM_MarginHours", "1");
        assert_eq!(Host::run(arming).code(), "armed");
        fs::write(host.base().join("deadline"), if stays { "1 1 20\n" } else { "1 1 1\n" }).unwrap();
        set_clock(&host, hours);
        let mut expiring = host.command(9, "not for it");
        expiring.env("SSM_Action", "Expire");
        let said = Host::run(expiring);
        let expected = if stays { ("unchanged", Some("2")) } else { ("unconfirmed", Some("1")) };
        assert_eq!((said.code(), host.current().as_deref()), expected, "{hours}: {said:?}");
    }
}

#[test]
fn a_clock_that_aws_does_not_accept_is_told() {
    let (host, authority, first) = started();
    for words in
        ["Signature expired: 20261123T053234Z is now earlier than 20261123T060000Z", "Signature not yet current: x"]
    {
        let error =
            format!("An error occurred (InvalidSignatureException) when calling the GetParameter operation: {words}");
        host.executable("bin/aws", &format!("#!/bin/sh\necho '{error}' >&2\nexit 254\n"));
        let before = host.files();
        let said = host.install(2, &fresh(&authority));
        assert_eq!((said.code(), host.files()), ("fetchFailed", before), "{said:?}");
        assert!(detail(&said).contains("this hosts clock") && detail(&said).ends_with("is wrong: set it"), "{said:?}");
        assert_eq!(host.served().as_deref(), Some(first.fingerprint.as_str()));
    }
}

/// Every command that the script says it needs, from its own list.
pub(crate) fn tools() -> Vec<String> {
    let script = espalier_tests::read("documents/installer.sh");
    let (_, list) = script.split_once("    for tool in awk ").unwrap();
    let (list, _) = list.split_once("; do").unwrap();
    let tools = std::iter::once("awk").chain(list.split_whitespace().filter(|word| *word != "\\"));
    tools.map(str::to_owned).collect()
}

/// A host on which nothing is installed but these.
fn with_only(host: &Host, tools: &[String]) {
    let _ = fs::remove_dir_all(host.at("only"));
    fs::create_dir(host.at("only")).unwrap();
    for tool in tools.iter().map(String::as_str).chain(["sh"]) {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        let real =
            if tool == "aws" { host.at("bin/aws") } else { String::from_utf8(found.stdout).unwrap().trim().into() };
        symlink(real, host.at("only").join(tool)).unwrap();
    }
}

fn run_with_only(host: &Host, tools: &[String], bundle: &Bundle) -> Said {
    with_only(host, tools);
    host.publish(1, &bundle.text);
    let mut command = host.command(1, &bundle.fingerprint);
    command.env("PATH", host.at("only"));
    Host::run(command)
}

/// One after the other is not there: it is named, and nothing is done. With all of them, and nothing else, it installs.
#[test]
fn a_tool_that_is_missing_is_named_and_nothing_is_done() {
    let (host, authority, tools) = (Host::new(), authority(), tools());
    let bundle = fresh(&authority);
    assert!(tools.len() > 20, "{tools:?}");
    for missing in &tools {
        let others: Vec<String> = tools.iter().filter(|tool| *tool != missing).cloned().collect();
        let said = run_with_only(&host, &others, &bundle);
        assert_eq!((said.code(), said.status), ("refused", Some(1)), "{missing}: {said:?}");
        assert_eq!(detail(&said), format!("{missing} is not installed on this host"));
        assert_eq!((said.last["stack"].as_str(), said.last["generation"].as_u64()), (Some("api-service"), Some(1)));
        assert!(!host.at("certificates").exists(), "{missing}");
    }
    let said = run_with_only(&host, &tools, &bundle);
    assert_eq!((said.code(), host.served()), ("installed", Some(bundle.fingerprint)), "{said:?}");
}

#[test]
fn what_a_driver_calls_is_there_or_nothing_is_done() {
    let (host, authority, tools) = (Host::with("nginx"), authority(), tools());
    let bundle = fresh(&authority);
    fs::remove_file(host.at("control")).unwrap();
    let said = run_with_only(&host, &tools, &bundle);
    assert!(said.code() == "refused" && detail(&said).ends_with("control is not an executable file"), "{said:?}");
    // Without a program of the owner's it is the system's, of which there is no systemctl here.
    let usual = host.usual();
    host.configure(
        &usual
            .lines()
            .filter(|line| !line.starts_with("control="))
            .map(|line| line.to_owned() + "\n")
            .collect::<String>(),
    );
    let said = run_with_only(&host, &tools, &bundle);
    assert_eq!(
        (said.code(), detail(&said)),
        ("refused", "systemctl is not installed on this host, and host.conf names no control")
    );
    assert!(!host.at("certificates").exists());
}
