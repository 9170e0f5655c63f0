//! The drivers as they are where the owner names no program of their own: Amazon Linux 2023 and Debian, played by
//! programs of the system's names that write down how they were called.

use std::fs;
use std::path::Path;

use crate::bundles::{authority, minted};
use crate::host::Host;

/// A configuration test by another name each.
const TEST: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>"$HOST/calls"
[ ! -e "$HOST/refuse-test" ] || [ "$(cat "$HOST/certificates/api-service/current/generation")" != 3 ]
"#;

/// Knows one unit, which is not running at first and cannot be reloaded then. Who asks for anything but a start or a reload is refused.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "systemctl $*" >>"$HOST/calls"
case "$1" in
is-active) [ -e "$HOST/active" ] ;;
cat) [ "$2" = my-server.service ] ;;
start) touch "$HOST/active"; date +%s%N >"$HOST/served" ;;
reload) [ -e "$HOST/active" ] && date +%s%N >"$HOST/served" ;;
*) exit 64 ;;
esac
"#;

/// What was called since the last time.
fn called(host: &Host) -> Vec<String> {
    let calls = fs::read_to_string(host.at("calls")).unwrap();
    fs::remove_file(host.at("calls")).unwrap();
    calls.lines().map(str::to_owned).collect()
}

#[test]
fn a_systems_own_programs_test_start_and_reload_its_own_unit() {
    // Amazon Linux's unit reads a directory, too.
    let more = if Path::new("/etc/haproxy/conf.d").is_dir() { " -f /etc/haproxy/conf.d" } else { "" };
    let haproxy = format!("haproxy -c -f /etc/haproxy/haproxy.cfg{more}");
    for (driver, test, unit) in [
        ("httpd", "httpd -t", "httpd"),
        ("httpd", "apache2ctl configtest", "apache2"),
        ("nginx", "nginx -t", "nginx"),
        ("haproxy", &haproxy, "haproxy"),
    ] {
        let (host, authority) = (Host::new(), authority());
        host.configure(&host.usual().replace("driver=hook", &format!("driver={driver}")));
        host.executable(&format!("bin/{}", test.split(' ').next().unwrap()), TEST);
        host.executable("bin/systemctl", SYSTEMCTL);
        let active = format!("systemctl is-active --quiet {unit}");
        for (generation, verb) in [(1, "start"), (2, "reload")] {
            let pair = minted(&authority, time::Duration::ZERO);
            let said = host.install(generation, &pair);
            assert_eq!((said.code(), host.served()), ("installed", Some(pair.fingerprint)), "{test}: {said:?}");
            assert_eq!(called(&host), [test, test, &active, &format!("systemctl {verb} {unit}")], "{test}");
        }
        fs::write(host.at("refuse-test"), "").unwrap();
        let said = host.install(3, &minted(&authority, time::Duration::ZERO));
        assert!(said.last["detail"].as_str().unwrap().starts_with("configTestFailed"), "{test}: {said:?}");
        let back = format!("systemctl reload {unit}");
        assert_eq!(called(&host), [test, test, test, &active, &back], "before, with it, and with the one before again");
    }
}

/// The example's hooks, as they are: the first pair starts a server that could not run without it, the next is reloaded.
#[test]
fn the_example_hooks_start_a_server_that_does_not_run_and_reload_one_that_does() {
    let (host, authority) = (Host::new(), authority());
    for hook in ["test", "reload"] {
        let text = fs::read_to_string(espalier_tests::root().join("examples/hooks").join(hook)).unwrap();
        host.executable(&format!("hooks/{hook}"), &text);
    }
    host.executable("bin/systemctl", SYSTEMCTL);
    let calls =
        |verb| ["cat", "cat", "is-active --quiet", verb].map(|call| format!("systemctl {call} my-server.service"));
    for (generation, verb) in [(1, "start"), (2, "reload")] {
        let pair = minted(&authority, time::Duration::ZERO);
        let said = host.install(generation, &pair);
        assert_eq!((said.code(), host.served()), ("installed", Some(pair.fingerprint)), "{verb}: {said:?}");
        assert_eq!(called(&host), calls(verb));
    }
}
