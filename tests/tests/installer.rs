//! The installer as it runs on a host: the real script, shell and openssl, and a TLS server that shows what happened.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests set up their own world")]

mod bundles;
#[path = "host/disk.rs"]
mod disk;
#[path = "host/drivers.rs"]
mod drivers;
mod host;
#[path = "host/killed.rs"]
mod killed;
#[path = "host/points.rs"]
mod points;
#[path = "host/power.rs"]
mod power;
#[path = "host/trouble.rs"]
mod trouble;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use bundles::{Bundle, authority, minted, minted_with};
use espalier_domain::spec::KeyType;
use host::{Host, Said};
use time::Duration;

fn fresh(authority: &espalier_pki::authority::Authority) -> Bundle {
    minted(authority, Duration::ZERO)
}

/// A host that serves generation 1.
fn started() -> (Host, espalier_pki::authority::Authority, Bundle) {
    let (host, authority) = (Host::new(), authority());
    let first = fresh(&authority);
    let said = host.install(1, &first);
    assert_eq!(said.code(), "installed", "{said:?}");
    (host, authority, first)
}

/// A bundle of every kind of key, as `mint` makes it: taken apart, checked, served.
#[test]
fn every_kind_of_key_is_installed_and_served() {
    let (host, authority) = (Host::new(), authority());
    for (generation, key_type) in (1..).zip(KeyType::ALL) {
        let bundle = minted_with(&authority, key_type, Duration::ZERO);
        let said = host.install(generation, &bundle);
        assert_eq!(
            (said.code(), host.served()),
            ("installed", Some(bundle.fingerprint.clone())),
            "{key_type}: {said:?}"
        );
        assert_discreet(&said, &bundle);
    }
}

/// Nothing of a key in what was said, and one line of JSON at the end.
fn assert_discreet(said: &Said, bundle: &Bundle) {
    assert_eq!(said.last["espalier"], 1, "{}", said.output);
    for line in bundle.parts()[0].lines().filter(|line| line.len() > 20) {
        assert!(!said.output.contains(line), "{}", said.output);
    }
}

#[test]
fn the_script_passes_shellcheck() {
    let script = espalier_tests::root().join("documents/installer.sh");
    let output = Command::new("shellcheck").args(["-s", "sh"]).arg(script).output().expect("shellcheck is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn generations_follow_each_other_and_the_same_one_again_changes_nothing() {
    for shell in [&["dash"][..], &["bash", "--posix"]] {
        let (mut host, authority) = (Host::new(), authority());
        host.shell = shell;
        for generation in 1..=4 {
            let bundle = fresh(&authority);
            let said = host.install(generation, &bundle);
            assert_eq!((said.code(), said.status), ("installed", Some(0)), "{shell:?}: {said:?}");
            assert_eq!(said.last["generation"], generation);
            assert_eq!(said.last["serial"], bundle.serial);
            assert_eq!(said.last["fingerprint"], bundle.fingerprint);
            assert_discreet(&said, &bundle);
            assert_eq!(host.served(), Some(bundle.fingerprint.clone()));
            assert_eq!((host.current(), host.floor()), (Some(generation.to_string()), Some(generation.to_string())));
            // What a run killed while it tidied up leaves: the next one finds nothing to do but that.
            fs::create_dir(host.base().join("generations/left")).unwrap();
            let again = host.install(generation, &bundle);
            assert_eq!((again.code(), again.status), ("unchanged", Some(0)), "{again:?}");
        }
        let kept: Vec<_> =
            fs::read_dir(host.base().join("generations")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(kept.len(), 2, "the current one and the one before: {kept:?}");
    }
}

#[test]
fn keys_are_for_their_owner_and_group_and_nobody_else() {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    for driver in ["hook", "haproxy"] {
        let (host, authority) = (Host::with(driver), authority());
        for generation in [1, 2] {
            assert_eq!(host.install(generation, &fresh(&authority)).code(), "installed");
        }
        let is_link = |file: &String| ["current", "previous"].contains(&file.as_str());
        let (links, files): (Vec<_>, Vec<_>) = host.files().into_iter().partition(is_link);
        assert_eq!((links.len(), files.len()), (2, if driver == "haproxy" { 14 } else { 12 }), "{files:?}");
        for file in &files {
            // The pair for its owner and group; what is the installer's own for nobody else.
            let wanted = if file.starts_with("generations/") { 0o640 } else { 0o600 };
            assert_eq!(mode(&host.base().join(file)), wanted, "{driver}, {file}: {:o}", mode(&host.base().join(file)));
        }
        for directory in ["..", "", "generations", "generations/1", "generations/2"] {
            assert_eq!(mode(&host.base().join(directory)), 0o751, "{driver}, {directory}");
        }
    }
    let (host, _, _) = started();
    let link = fs::read_link(host.base().join("current")).unwrap();
    assert_eq!(link.to_str(), Some("generations/1"), "relative, so that the directory can be moved");
}

/// What cannot be right is refused while the old pair is served, and leaves no key behind.
#[test]
fn a_bundle_that_does_not_fit_together_changes_nothing() {
    let (host, authority, first) = started();
    let before = host.files();
    let (good, other) = (fresh(&authority), fresh(&authority));
    let ([key, leaf, issuer], [other_key, ..]) = (good.parts(), other.parts());
    let stranger = bundles::authority();
    let stranger = fresh(&stranger).parts()[2].clone();
    let (old, early) = (minted(&authority, Duration::hours(200)), minted(&authority, Duration::hours(-5)));
    let cases = [
        ("another key", format!("{other_key}{leaf}{issuer}"), &good),
        ("another issuer", format!("{key}{leaf}{stranger}"), &good),
        ("no issuer", format!("{key}{leaf}"), &good),
        ("its own issuer", format!("{key}{leaf}{leaf}"), &good),
        ("two keys", format!("{key}{other_key}{leaf}{issuer}"), &good),
        ("cut short", good.text[..good.text.len() / 2].to_owned(), &good),
        ("no bundle", "hello\n".to_owned(), &good),
        ("nothing", String::new(), &good),
        ("another leaf than announced", good.text.clone(), &other),
        ("ended", old.text.clone(), &old),
        ("not begun", early.text.clone(), &early),
    ];
    for (case, text, announced) in cases {
        host.publish(2, &text);
        let said = Host::run(host.command(2, &announced.fingerprint));
        assert_eq!((said.code(), said.status), ("invalidBundle", Some(1)), "{case}: {said:?}");
        assert_discreet(&said, &good);
        assert_eq!(host.files(), before, "{case}");
        assert_eq!(host.served().as_deref(), Some(first.fingerprint.as_str()), "{case}");
    }
    assert_eq!(host.install(2, &good).code(), "installed", "the same number later, with a good bundle");
}

#[test]
fn what_the_server_does_not_take_is_taken_back() {
    let (host, authority, first) = started();
    for (generation, flag, cause) in [
        (2, "refuse-test", "configTestFailed"),
        (3, "refuse-reload", "reloadFailed"),
        (4, "ignore-reload", "servedOther"),
    ] {
        fs::write(host.at(flag), generation.to_string()).unwrap();
        let said = host.install(generation, &fresh(&authority));
        assert_eq!((said.code(), said.status), ("reverted", Some(1)), "{said:?}");
        assert!(said.last["detail"].as_str().unwrap().starts_with(cause), "{said:?}");
        assert_eq!(host.served().as_deref(), Some(first.fingerprint.as_str()), "{flag}");
        assert_eq!((host.current().as_deref(), host.floor().as_deref()), (Some("1"), Some("1")));
        assert!(!host.files().iter().any(|file| file.starts_with(&format!("generations/{generation}/"))));
        fs::remove_file(host.at(flag)).unwrap();
    }
    assert_eq!(host.install(5, &fresh(&authority)).code(), "installed");
}

/// The server never ran without a certificate: the host is left as it was, and the next attempt is like the first.
#[test]
fn a_first_installation_that_fails_leaves_nothing() {
    let (host, authority) = (Host::new(), authority());
    fs::write(host.at("refuse-test"), "1").unwrap();
    let bundle = fresh(&authority);
    let said = host.install(1, &bundle);
    assert_eq!((said.code(), said.status), ("configTestFailed", Some(1)), "{said:?}");
    assert_eq!((host.current(), host.floor()), (None, None));
    assert_eq!(host.files(), ["lock"]);
    fs::remove_file(host.at("refuse-test")).unwrap();
    assert_eq!(host.install(1, &bundle).code(), "installed");
}

#[test]
fn never_backwards_and_a_server_that_lost_the_pair_gets_it_again() {
    let (host, authority, first) = started();
    let second = fresh(&authority);
    assert_eq!(host.install(2, &second).code(), "installed");
    let said = host.install(1, &first);
    assert_eq!((said.code(), said.status), ("belowFloor", Some(1)), "{said:?}");
    assert_eq!(host.served(), Some(second.fingerprint.clone()));
    // Somebody damages the key on disk: the same generation is fetched again.
    fs::write(host.base().join("current/key.pem"), "gone").unwrap();
    assert_eq!(host.install(2, &second).code(), "installed");
    assert_eq!(host.served(), Some(second.fingerprint));
    assert!(!host.is_dead());
}

#[test]
fn a_throttled_fetch_is_tried_again() {
    let (host, authority, _) = started();
    fs::write(host.at("throttled"), "").unwrap();
    let said = host.install(2, &fresh(&authority));
    assert_eq!(said.code(), "installed", "{said:?}");
    assert!(!host.at("throttled").exists());
}

#[test]
fn two_runs_never_interleave() {
    let (host, authority, _) = started();
    let bundle = fresh(&authority);
    host.publish(2, &bundle.text);
    let lock = host.base().join("lock");
    let mut holder = Command::new("flock")
        .arg(&lock)
        .args(["-c", "echo held; exec sleep 60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line).unwrap();
    let said = Host::run(host.command(2, &bundle.fingerprint));
    assert_eq!((said.code(), said.status), ("busy", Some(1)), "{said:?}");
    assert_eq!(host.current().as_deref(), Some("1"));
    holder.kill().unwrap();
    holder.wait().unwrap();
}

#[test]
fn only_a_host_whose_owner_said_so_takes_part() {
    let (host, authority) = (Host::new(), authority());
    let bundle = fresh(&authority);
    fs::remove_file(host.at("host.conf")).unwrap();
    assert_eq!(host.install(1, &bundle).code(), "notOptedIn");
    for (text, code) in [
        (host.usual().replace("web,api-service", "web,api-services"), "notOptedIn"),
        (host.usual().replace("stacks=web,api-service\n", ""), "notOptedIn"),
        (host.usual() + "colour=red\n", "refused"),
        (host.usual() + "driver=hook\n", "refused"),
        (host.usual() + "owner root\n", "refused"),
        (host.usual().replace("owner=", "owner=$(touch /dev/null)"), "refused"),
        (host.usual().replace("driver=hook", "driver=iis"), "refused"),
        (host.usual().replace("directory=", "directory=relative"), "refused"),
        (host.usual().replace("/certificates", "/bin/../certificates"), "refused"),
        (host.usual().replace("check=", "check=https://"), "refused"),
        (host.usual().replace("/hooks", "/bundles"), "refused"),
        (host.usual().replace("units=none", "units=somewhere"), "refused"),
        (host.usual().replace("units=none", "units=/etc/../tmp"), "refused"),
    ] {
        host.configure(&text);
        let said = host.install(1, &bundle);
        assert_eq!((said.code(), said.status), (code, Some(1)), "{text}\n{said:?}");
        assert!(!host.base().exists(), "{text}");
    }
    // Root would run what anybody can write.
    for name in ["host.conf", "hooks/reload", "hooks"] {
        host.configure(&host.usual());
        let mode = fs::metadata(host.at(name)).unwrap().permissions();
        fs::set_permissions(host.at(name), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(host.install(1, &bundle).code(), "refused", "{name}");
        fs::set_permissions(host.at(name), mode).unwrap();
    }
    assert_eq!(host.install(1, &bundle).code(), "installed");
}

/// One command for several hosts, each of which has a leaf of its own.
fn own(host: &Host, node: Option<&str>, generation: u32, leaves: &[(&str, &str)]) -> Said {
    let list: Vec<String> = leaves.iter().map(|(node, fingerprint)| format!("{node}={fingerprint}")).collect();
    let mut command = host.command(generation, &list.join(","));
    command.env("SSM_ParameterName", format!("/espalier-leaf/api-service/target/{generation}"));
    command.envs(node.map(|node| ("AWS_SSM_INSTANCE_ID", node)));
    Host::run(command)
}

#[test]
fn of_leaves_for_many_a_host_takes_the_one_that_is_its_own() {
    let (host, authority) = (Host::new(), authority());
    let (mine, theirs) = (fresh(&authority), fresh(&authority));
    let (me, other, longer) = ("i-0000000a", "mi-0123456789abcdef0", "i-0000000a0");
    let leaves = [(other, theirs.fingerprint.as_str()), (longer, &theirs.fingerprint), (me, &mine.fingerprint)];
    host.publish(1, &mine.text);
    let said = own(&host, Some(me), 1, &leaves);
    assert_eq!((said.code(), host.served()), ("installed", Some(mine.fingerprint.clone())), "{said:?}");
    assert_eq!(said.last["fingerprint"], mine.fingerprint.as_str());
    assert!(fs::read_to_string(host.at("asked")).unwrap().contains(&format!("/espalier-leaf/api-service/{me}/1 ")));
    assert_eq!(own(&host, Some(me), 1, &leaves).code(), "unchanged");
    // What is stored under its name is not what was announced for it.
    host.publish(2, &theirs.text);
    assert_eq!(own(&host, Some(me), 2, &leaves).code(), "invalidBundle");
    // A person put another host's there: the same number, and another leaf.
    for part in ["key.pem", "leaf.pem", "chain.pem", "fullchain.pem"] {
        let [key, leaf, chain] = &theirs.parts()[..] else { panic!("a bundle has three parts") };
        let text = match part {
            "key.pem" => key.clone(),
            "leaf.pem" => leaf.clone(),
            "chain.pem" => chain.clone(),
            _ => format!("{leaf}{chain}"),
        };
        fs::write(host.base().join("current").join(part), text).unwrap();
    }
    let said = own(&host, Some(me), 1, &leaves);
    assert_eq!((said.code(), host.served()), ("installed", Some(mine.fingerprint.clone())), "{said:?}");
    assert_eq!(host.floor().as_deref(), Some("1"));
}

#[test]
fn a_stack_may_be_called_like_what_its_leaves_are() {
    for stack in ["target", "shared"] {
        let (host, bundle) = (Host::new(), fresh(&authority()));
        host.configure(&host.usual().replace("api-service", stack));
        host.publish(1, &bundle.text);
        let mut command = host.command(1, &bundle.fingerprint);
        command.env("SSM_Stack", stack).env("SSM_ParameterName", format!("/espalier-leaf/{stack}/shared/1"));
        let said = Host::run(command);
        // The server of these tests reads another stack's pair: that this one's was put in place and tried is enough.
        assert_eq!(said.code(), "servedOther", "{stack}: {said:?}");
    }
}

#[test]
fn whose_leaf_is_meant_is_said_or_nothing_happens() {
    let (host, authority) = (Host::new(), authority());
    let mine = fresh(&authority);
    host.publish(1, &mine.text);
    let leaves = [("i-0000000a", mine.fingerprint.as_str())];
    for node in [
        None,
        Some(""),
        Some("i-0000000b"),
        Some("i-0000000"),
        Some("i-0000000a,i-0000000a"),
        Some("*"),
        Some("i-0000000a="),
    ] {
        let said = own(&host, node, 1, &leaves);
        assert_eq!((said.code(), said.status), ("refused", Some(1)), "{node:?}: {said:?}");
    }
    // One for all under the name of one for each, and the other way round.
    for (scope, fingerprint) in
        [("target", mine.fingerprint.clone()), ("shared", format!("i-0000000a={}", mine.fingerprint))]
    {
        let mut command = host.command(1, &fingerprint);
        command.env("SSM_ParameterName", format!("/espalier-leaf/api-service/{scope}/1"));
        command.env("AWS_SSM_INSTANCE_ID", "i-0000000a");
        assert_eq!(Host::run(command).code(), "refused", "{scope}");
    }
    assert!(!host.base().exists() && !host.at("asked").exists());
}

/// Even from an agent that would pass anything on.
#[test]
fn parameters_are_identifiers_or_nothing_happens() {
    let (host, authority) = (Host::new(), authority());
    let bundle = fresh(&authority);
    host.publish(1, &bundle.text);
    let canary = host.at("canary");
    let attack = format!("$(touch {0})`touch {0}`;touch {0}", canary.display());
    let names = [
        "SSM_Action",
        "SSM_Stack",
        "SSM_Generation",
        "SSM_ParameterName",
        "SSM_Fingerprint",
        "SSM_StartSeconds",
        "SSM_WindowSeconds",
        "SSM_ConfirmSeconds",
        "SSM_MarginHours",
    ];
    for name in names {
        for value in
            ["", &attack, "../../etc", "api-service\nx", "-1", "007", "/espalier-leaf/api-service/shared/2", "é"]
        {
            let mut command = host.command(1, &bundle.fingerprint);
            command.env(name, value);
            let said = Host::run(command);
            assert_eq!((said.code(), said.status), ("refused", Some(1)), "{name}={value:?}: {said:?}");
        }
        let mut command = host.command(1, &bundle.fingerprint);
        command.env_remove(name);
        assert_eq!(Host::run(command).code(), "refused", "{name} is not set");
    }
    // Two that find nothing to do here, and one that does not know for which key.
    for action in ["Confirm", "Expire", "Prepare"] {
        let mut command = host.command(1, &bundle.fingerprint);
        command.env("SSM_Action", action);
        assert_eq!(Host::run(command).code(), "refused");
    }
    assert!(!canary.exists() && !host.base().exists());
}

/// What a killed run put in place was never proven: it is not what a later failure goes back to.
#[test]
fn going_back_means_to_what_was_proven() {
    let (host, authority, first) = started();
    let (unproven, newer) = (fresh(&authority), fresh(&authority));
    let reload = fs::read_to_string(host.at("hooks/reload")).unwrap();
    host.executable("hooks/reload", "#!/bin/sh\nkill -9 \"-$(head -n 1 \"$HOST/group\")\"\n");
    host.publish(2, &unproven.text);
    let said = Host::run_known(&host.command(2, &unproven.fingerprint), &host.at("group"));
    assert_eq!((said.status, host.current().as_deref()), (None, Some("2")), "{said:?}");
    host.executable("hooks/reload", &reload);
    fs::write(host.at("ignore-reload"), "").unwrap();
    let said = host.install(3, &newer);
    assert_eq!(said.code(), "reverted", "{said:?}");
    assert_eq!(host.current().as_deref(), Some("1"));
    fs::remove_file(host.at("ignore-reload")).unwrap();
    fs::write(host.at("served"), "somebody else reloads").unwrap();
    assert_eq!(host.served(), Some(first.fingerprint));
    assert_eq!(host.install(4, &newer).code(), "installed");
}

/// SELinux, played by stand-ins that write down what they are asked: the first pair gets the policy's labels, a later
/// one its predecessor's, before anything leads to it; a host without SELinux is asked nothing.
#[test]
fn labels_follow_the_pair_before() {
    let (host, authority) = (Host::new(), authority());
    host.executable("bin/restorecon", &note("restorecon"));
    host.executable("bin/chcon", &note("chcon"));
    host.executable("bin/selinuxenabled", "#!/bin/sh\nexit 1\n");
    assert_eq!(host.install(1, &fresh(&authority)).code(), "installed");
    assert!(!host.at("labels").exists(), "SELinux is off");

    let host = Host::new();
    host.executable("bin/restorecon", &note("restorecon"));
    // A failure of theirs is no failure of the installation.
    host.executable("bin/chcon", &(note("chcon") + "exit 1\n"));
    host.executable("bin/selinuxenabled", "#!/bin/sh\n");
    host.executable("bin/mv", &(note("mv") + "PATH=${PATH#*:}\nexec mv \"$@\"\n"));
    let base = host.base().display().to_string();
    assert_eq!(host.install(1, &fresh(&authority)).code(), "installed");
    let asked = noted(&host);
    assert_eq!(asked.iter().filter(|line| line.starts_with("ch")).count(), 0, "{asked:?}");
    let labelled = place(&asked, &format!("restorecon -R {base}"));
    assert_eq!(asked.iter().filter(|line| line.starts_with("restorecon")).count(), 1, "{asked:?}");
    assert!(place(&asked, &placed(&base, 1)) < labelled && labelled < place(&asked, &led_to(&base)), "{asked:?}");
    assert_eq!(host.install(2, &fresh(&authority)).code(), "installed");
    let asked = noted(&host);
    let (placed, led_to) = (place(&asked, &placed(&base, 2)), place(&asked, &led_to(&base)));
    for (from, to) in [(".", ""), ("key.pem", "/key.pem"), ("fullchain.pem", "/fullchain.pem")] {
        let labelled = place(&asked, &format!("chcon --reference={base}/current/{from} {base}/generations/2{to}"));
        assert!(placed < labelled && labelled < led_to, "{from}: {asked:?}");
    }
    assert!(asked[led_to..].iter().all(|line| !line.starts_with("chcon")), "{asked:?}");
}

/// Files for a server that runs as somebody else: all of a pair is its owner's before anything leads there, and the
/// directory, where root writes, is not. What cannot be given away is not installed.
#[test]
fn a_foreign_owner_gets_the_files_of_a_pair_before_anything_leads_to_them() {
    let (me, mine) = (host::whoami("-un"), host::whoami("-gn"));
    for (owner, group) in [("webserver", "tls"), (me.as_str(), "tls"), ("webserver", mine.as_str())] {
        let (host, authority) = (Host::new(), authority());
        let usual = host.usual().replace(&format!("owner={me}\ngroup={mine}\n"), "");
        host.configure(&format!("{usual}owner={owner}\ngroup={group}\n"));
        host.executable("bin/chown", &note("chown"));
        host.executable("bin/chmod", &(note("chmod") + "PATH=${PATH#*:}\nexec chmod \"$@\"\n"));
        host.executable("bin/mv", &(note("mv") + "PATH=${PATH#*:}\nexec mv \"$@\"\n"));
        let base = host.base().display().to_string();
        for generation in [1, 2] {
            assert_eq!(host.install(generation, &fresh(&authority)).code(), "installed");
            let asked = noted(&host);
            let new = format!("{base}/.new-{generation}");
            let files =
                ["chain.pem", "fullchain.pem", "generation", "key.pem", "leaf.pem"].map(|file| format!("{new}/{file}"));
            let given = place(&asked, &format!("chown -h {owner}:{group} {}", files.join(" ")));
            assert_eq!(asked.iter().filter(|line| line.starts_with("chown")).count(), 1, "{asked:?}");
            assert!(place(&asked, &format!("chmod 0640 {}", files.join(" "))) < given, "{asked:?}");
            assert!(given < place(&asked, &placed(&base, generation)), "{asked:?}");
            assert!(place(&asked, &placed(&base, generation)) < place(&asked, &led_to(&base)), "{asked:?}");
        }
        let before = host.files();
        host.executable("bin/chown", "#!/bin/sh\nexit 1\n");
        let said = host.install(3, &fresh(&authority));
        assert_eq!((said.code(), said.status, host.files()), ("refused", Some(1), before), "{said:?}");
    }
}

/// Who opens certificate and key one after the other includes one file that names both where they lie for good; also of pairs
/// that a former version, or another driver, installed.
#[test]
fn a_pair_is_named_for_servers_that_open_two_files() {
    let apache = |place: &str| {
        format!("SSLCertificateFile \"{place}/fullchain.pem\"\nSSLCertificateKeyFile \"{place}/key.pem\"\n")
    };
    let nginx =
        |place: &str| format!("ssl_certificate \"{place}/fullchain.pem\";\nssl_certificate_key \"{place}/key.pem\";\n");
    for (driver, other, named, otherwise) in [
        ("httpd", "nginx", &apache as &dyn Fn(&str) -> String, &nginx as &dyn Fn(&str) -> String),
        ("nginx", "httpd", &nginx, &apache),
    ] {
        let (host, authority) = (Host::with(driver), authority());
        let newest = fresh(&authority);
        assert_eq!(host.install(1, &fresh(&authority)).code(), "installed");
        assert_eq!(host.install(2, &newest).code(), "installed");
        let of = |generation: &str| host.base().join("generations").join(generation);
        let assert_named = |named: &dyn Fn(&str) -> String| {
            for generation in ["1", "2"] {
                let text = fs::read_to_string(of(generation).join("pair.conf")).unwrap();
                assert_eq!(text, named(&of(generation).display().to_string()), "{driver}");
                let mode = fs::metadata(of(generation).join("pair.conf")).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o640, "{driver}");
            }
        };
        assert_named(named);
        for generation in ["1", "2"] {
            fs::remove_file(of(generation).join("pair.conf")).unwrap();
        }
        assert_eq!(host.install(2, &newest).code(), "unchanged");
        assert_named(named);
        host.configure(&host.usual().replace(&format!("driver={driver}"), &format!("driver={other}")));
        assert_eq!(host.install(2, &newest).code(), "unchanged");
        assert_named(otherwise);
    }
    for driver in ["haproxy", "hook"] {
        let (host, authority) = (Host::with(driver), authority());
        assert_eq!(host.install(1, &fresh(&authority)).code(), "installed");
        assert!(!host.base().join("current/pair.conf").exists(), "{driver} reads one file, or whatever it likes");
    }
}

/// A stand-in that writes down what it is asked, beside what the others are.
fn note(name: &str) -> String {
    format!("#!/bin/sh\necho \"{name} $*\" >>\"$HOST/labels\"\n")
}

/// What the stand-ins were asked since the last time, in order.
fn noted(host: &Host) -> Vec<String> {
    let asked = fs::read_to_string(host.at("labels")).unwrap();
    fs::remove_file(host.at("labels")).unwrap();
    asked.lines().map(str::to_owned).collect()
}

/// Where among them this stands.
fn place(asked: &[String], line: &str) -> usize {
    asked.iter().position(|one| one == line).unwrap_or_else(|| panic!("{line} is not among {asked:#?}"))
}

/// How a generation comes to its place.
fn placed(base: &str, generation: u32) -> String {
    format!("mv -T {base}/.new-{generation} {base}/generations/{generation}")
}

/// How something leads to it.
fn led_to(base: &str) -> String {
    format!("mv -T {base}/.current.new {base}/current")
}
