//! Keys that a host makes for itself: made once, asked a certificate for, installed beside it, and never anywhere else.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests set up their own world")]

mod bundles;
mod host;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundles::{Bundle, authority, certified, minted};
use espalier_domain::id::{Generation, NodeId, Nonce, StackName};
use espalier_domain::spec::KeyType;
use espalier_pki::authority::Authority;
use espalier_pki::bundle::without_key;
use espalier_pki::key::{PrivateKey, PublicKey};
use espalier_pki::request::{self, Asked};
use host::{Host, Said};
use time::Duration;

const NODE: &str = "i-0123456789abcdef0";
const P256: KeyType = KeyType::EcPrime256v1;
const DRIVERS: [&str; 4] = ["hook", "httpd", "nginx", "haproxy"];

/// A word of this digit.
fn nonce(digit: &str) -> String {
    digit.repeat(64)
}

/// The command as the document's defaults and a sender that knows of keys make it.
fn preparing(host: &Host, generation: u32, key_type: KeyType, digit: &str) -> Command {
    let mut command = host.command(generation, "");
    command.env("SSM_Action", "Prepare").env("SSM_ParameterName", "").env("AWS_SSM_INSTANCE_ID", NODE);
    command.env("SSM_KeyType", key_type.to_string()).env("SSM_Nonce", nonce(digit));
    command
}

/// What `mint` makes of the answer.
fn accepted(said: &Said, generation: u32, key_type: KeyType, digit: &str) -> PublicKey {
    assert_eq!((said.code(), said.status), ("prepared", Some(0)), "{said:?}");
    assert_eq!((&said.last["fingerprint"], &said.last["serial"]), (&"".into(), &"".into()));
    let (stack, node) = (StackName::parse("api-service").unwrap(), NodeId::parse(NODE).unwrap());
    let nonce = Nonce::parse(nonce(digit)).unwrap();
    let asked = Asked { stack: &stack, generation: Generation(generation), node: &node, nonce: &nonce, key_type };
    request::accept(said.last["request"].as_str().unwrap(), &asked).unwrap()
}

fn prepared(host: &Host, generation: u32, key_type: KeyType, digit: &str) -> PublicKey {
    accepted(&Host::run(preparing(host, generation, key_type, digit)), generation, key_type, digit)
}

/// A leaf and its issuers, and no key.
fn keyless(authority: &Authority, key: &PublicKey) -> Bundle {
    let leaf = certified(authority, key, Duration::ZERO);
    let text = without_key(&leaf).unwrap().expose().to_owned();
    assert!(!text.contains("PRIVATE"));
    Bundle { text, fingerprint: bundles::fingerprint(leaf.der()), serial: leaf.facts().serial.clone() }
}

/// A host that serves generation 1, and a leaf for the key that it made for generation 2.
fn started(driver: &'static str) -> (Host, Authority, Bundle, Bundle) {
    let (host, authority) = (Host::with(driver), authority());
    let first = minted(&authority, Duration::ZERO);
    assert_eq!(host.install(1, &first).code(), "installed");
    let second = keyless(&authority, &prepared(&host, 2, P256, "a"));
    host.publish(2, &second.text);
    (host, authority, first, second)
}

/// What lies below the directory of prepared keys, but for the word whose each is.
fn waiting(host: &Host) -> Vec<String> {
    let files = host.files().into_iter();
    files.filter(|file| file.starts_with("prepared/") && !file.ends_with("/node")).collect()
}

fn openssl(arguments: &[&str], host: &Host) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).current_dir(host.at("")).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

/// The places of these in a text, in this order and as often as given.
fn stand_in_order(text: &str, words: &[&str]) -> bool {
    let mut rest = text;
    words.iter().all(|word| rest.split_once(word).map(|(_, after)| rest = after).is_some())
}

#[test]
fn every_kind_of_key_is_made_certified_and_served() {
    for (at, key_type) in KeyType::ALL.into_iter().enumerate() {
        let (host, authority) = (Host::with(DRIVERS[at % DRIVERS.len()]), authority());
        let said = Host::run(preparing(&host, 1, key_type, "e"));
        let public = accepted(&said, 1, key_type, "e");
        assert!(said.output.len() <= 2_500, "{key_type}: Run Command shows no more, and this is {}", said.output.len());
        // Openssl's own word on it.
        fs::write(host.at("request"), STANDARD.decode(said.last["request"].as_str().unwrap()).unwrap()).unwrap();
        let read = ["req", "-inform", "DER", "-in", "request", "-verify", "-noout", "-text"];
        let (good, text) = openssl(&[&read[..], &["-subject", "-nameopt", "RFC2253"]].concat(), &host);
        assert!(good && text.contains("verify OK"), "{key_type}: {text}");
        assert!(text.contains(&format!("subject=CN={NODE},OU=1,O=api-service")), "{key_type}: {text}");
        let (challenge, digest) =
            (format!(":{}\n", nonce("e")), if key_type == KeyType::EcSecp384r1 { "384" } else { "256" });
        assert!(text.contains("challengePassword") && text.contains(&challenge), "{text}");
        assert!(key_type == KeyType::Ed25519 || text.to_lowercase().contains(&format!("sha{digest}")), "{text}");
        let (_, parts) = openssl(&["asn1parse", "-inform", "DER", "-in", "request"], &host);
        let objects = ["organizationName", "organizationalUnitName", "commonName", "challengePassword"];
        assert!(stand_in_order(&parts, &objects.map(|name| [name, "UTF8STRING"]).concat()), "{parts}");
        assert!(parts.matches("UTF8STRING").count() == 4 && !parts.contains("xtension"), "{parts}");

        let bundle = keyless(&authority, &public);
        let installed = host.install(1, &bundle);
        assert_eq!(
            (installed.code(), host.served()),
            ("installed", Some(bundle.fingerprint.clone())),
            "{key_type}: {installed:?}"
        );
        assert_eq!(installed.last["serial"], bundle.serial.as_str());
        assert_eq!(waiting(&host), [""; 0], "it has its key beside its leaf");
    }
}

#[test]
fn a_key_is_made_once_and_asked_a_certificate_for_as_often_as_need_be() {
    let (host, ..) = started("hook");
    let mode = |name: &str| fs::metadata(host.base().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("prepared"), mode("prepared/2"), mode("prepared/2/key.pem")), (0o700, 0o700, 0o600));
    let key = || fs::read(host.base().join("prepared/2/key.pem")).unwrap();
    let (before, public) = (key(), prepared(&host, 2, P256, "b"));
    assert_eq!(public, prepared(&host, 2, P256, "c"), "its leaf may be signed already");
    let said = Host::run(preparing(&host, 2, KeyType::Rsa2048, "d"));
    assert_eq!((said.code(), said.status), ("refused", Some(1)), "{said:?}");
    assert!(
        said.last["detail"].as_str().unwrap().ends_with("its type is EC_prime256v1")
            && said.last.get("request").is_none()
    );
    assert_eq!(key(), before);
    // What is broken is no key.
    fs::write(host.base().join("prepared/2/key.pem"), "").unwrap();
    assert_ne!(public, prepared(&host, 2, P256, "e"));
    // Of no use are those of before, and of use those to come.
    let third = prepared(&host, 3, KeyType::Rsa2048, "f");
    assert_eq!(waiting(&host), ["prepared/3/key.pem"]);
    prepared(&host, 2, P256, "0");
    assert_eq!((waiting(&host).len(), prepared(&host, 3, KeyType::Rsa2048, "1")), (2, third));
    assert_eq!(waiting(&host), ["prepared/3/key.pem"]);
}

#[test]
fn a_key_comes_before_the_first_certificate_and_nothing_is_told_of_it() {
    let host = Host::new();
    host.executable("hooks/reload", "#!/bin/sh\ntouch \"$HOST/told\"\n");
    host.executable("bin/aws", "#!/bin/sh\ntouch \"$HOST/told\"\n");
    prepared(&host, 1, P256, "a");
    assert_eq!(
        (host.files(), host.current()),
        (["lock", "prepared/1/key.pem", "prepared/1/node"].map(str::to_owned).to_vec(), None)
    );
    assert!(!host.at("told").exists());
}

#[test]
fn what_is_not_asked_for_properly_makes_no_key() {
    let (host, authority, _, second) = started("hook");
    assert_eq!(host.install(2, &second).code(), "installed");
    let before = host.files();
    let attack = format!("$(touch {0})", host.at("canary").display());
    let short = &nonce("a")[1..];
    let cases: [(&str, Option<&str>, &str); 20] = [
        ("SSM_Nonce", None, "refused"),
        ("SSM_Nonce", Some(""), "refused"),
        ("SSM_Nonce", Some(short), "refused"),
        ("SSM_Nonce", Some(&nonce("A")), "refused"),
        ("SSM_Nonce", Some(&format!("{}\n{}", nonce("a"), nonce("a"))), "refused"),
        ("SSM_Nonce", Some(&attack), "refused"),
        ("SSM_KeyType", None, "refused"),
        ("SSM_KeyType", Some(""), "refused"),
        ("SSM_KeyType", Some("RSA_1024"), "refused"),
        ("SSM_KeyType", Some("ec_prime256v1"), "refused"),
        ("SSM_KeyType", Some(&attack), "refused"),
        ("AWS_SSM_INSTANCE_ID", None, "refused"),
        ("AWS_SSM_INSTANCE_ID", Some(""), "refused"),
        ("AWS_SSM_INSTANCE_ID", Some("i-1"), "refused"),
        ("AWS_SSM_INSTANCE_ID", Some("i-0123456789abcdef0, OU=1"), "refused"),
        ("SSM_Stack", Some("payments"), "notOptedIn"),
        ("SSM_Stack", Some("API"), "refused"),
        ("SSM_Generation", Some("0"), "refused"),
        ("SSM_Generation", Some("1"), "belowFloor"),
        ("ESPALIER_CONF", Some("/nowhere"), "notOptedIn"),
    ];
    for (name, value, code) in cases {
        let mut command = preparing(&host, 3, P256, "a");
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
        let said = Host::run(command);
        assert_eq!((said.code(), said.status), (code, Some(1)), "{name}={value:?}: {said:?}");
        assert!(said.last.get("request").is_none(), "{said:?}");
        assert_eq!(host.files(), before, "{name}={value:?}");
    }
    assert!(!host.at("canary").exists());
    // Nor while a later one awaits confirmation, or somebody else is at work.
    let fourth = minted(&authority, Duration::ZERO);
    host.publish(4, &fourth.text);
    let mut arming = host.command(4, &fourth.fingerprint);
    assert_eq!(Host::run_known(arming.env("SSM_ConfirmSeconds", "600"), &host.at("group")).code(), "armed");
    assert_eq!(Host::run(preparing(&host, 3, P256, "a")).code(), "belowFloor");
    let lock = fs::File::open(host.base().join("lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(Host::run(preparing(&host, 5, P256, "a")).code(), "busy");
    drop(lock);
    assert_eq!(waiting(&host), [""; 0]);
    prepared(&host, 5, P256, "a");
}

#[test]
fn a_leaf_without_its_key_changes_nothing() {
    let (host, authority, first, second) = started("hook");
    let other = keyless(&authority, PrivateKey::generate(P256).unwrap().public());
    let key = host.base().join("prepared/2/key.pem");
    let kept = fs::read(&key).unwrap();
    let cases: [(&str, &Bundle, Option<&[u8]>, &str); 4] = [
        ("another's leaf", &other, Some(&kept), "noKey"),
        ("no key", &second, None, "noKey"),
        ("a key cut short", &second, Some(&kept[..kept.len() / 2]), "noKey"),
        ("nothing", &second, Some(b""), "noKey"),
    ];
    for (case, bundle, text, code) in cases {
        let _ = fs::remove_file(&key);
        if let Some(text) = text {
            fs::write(&key, text).unwrap();
        }
        let before = host.files();
        let said = host.install(2, bundle);
        assert_eq!((said.code(), said.status), (code, Some(1)), "{case}: {said:?}");
        assert_eq!((host.files(), host.served()), (before, Some(first.fingerprint.clone())), "{case}");
    }
    fs::write(&key, &kept).unwrap();
    assert_eq!(host.install(2, &second).code(), "installed");
    // A bundle that has its key needs no other, though there is one.
    prepared(&host, 3, P256, "a");
    let third = minted(&authority, Duration::ZERO);
    assert_eq!((host.install(3, &third).code(), waiting(&host)), ("installed", Vec::new()));
    assert_eq!(fs::read_to_string(host.base().join("current/key.pem")).unwrap(), third.parts()[0]);
}

/// The key lies beside its leaf once it is installed: a pair that somebody damaged, or that another server wants otherwise, needs no new one.
#[test]
fn a_damaged_pair_is_put_together_again_with_the_key_that_is_there() {
    let (host, _, _, second) = started("hook");
    assert_eq!(host.install(2, &second).code(), "installed");
    let key = fs::read(host.base().join("current/key.pem")).unwrap();
    for file in ["fullchain.pem", "leaf.pem", "generation"] {
        fs::write(host.base().join("current").join(file), "").unwrap();
        let said = host.install(2, &second);
        assert_eq!((said.code(), host.served()), ("installed", Some(second.fingerprint.clone())), "{file}: {said:?}");
        assert_eq!(fs::read(host.base().join("current/key.pem")).unwrap(), key, "{file}");
    }
}

/// The disk of one host, copied while a key was prepared, starts as another node.
#[test]
fn a_copy_of_a_host_makes_a_key_of_its_own() {
    let (host, _, _, _) = started("hook");
    let key = fs::read(host.base().join("prepared/2/key.pem")).unwrap();
    let mut other = preparing(&host, 2, P256, "b");
    other.env("AWS_SSM_INSTANCE_ID", "i-0fedcba9876543210");
    assert_eq!(Host::run(other).code(), "prepared");
    assert_ne!(fs::read(host.base().join("prepared/2/key.pem")).unwrap(), key);
}

/// One that is to be confirmed, from a document that has these parameters and leaves them empty.
fn arming(host: &Host, bundle: &Bundle) -> Command {
    let mut command = host.command(2, &bundle.fingerprint);
    command.env("SSM_ConfirmSeconds", "600").env("SSM_MarginHours", "1").env("SSM_KeyType", "").env("SSM_Nonce", "");
    command
}

/// The deadline passes at once: what the host then does by itself.
fn expiring(host: &Host) -> Command {
    let deadline = host.base().join("deadline");
    if deadline.exists() {
        fs::write(deadline, "1 1 1\n").unwrap();
    }
    let mut command = host.command(9, "not for it");
    command.env("SSM_Action", "Expire");
    command
}

fn confirming(host: &Host, bundle: &Bundle) -> Command {
    let mut command = arming(host, bundle);
    command.env("SSM_Action", "Confirm");
    command
}

#[test]
fn what_is_taken_back_comes_again_with_the_same_key() {
    for driver in DRIVERS {
        let (host, _, first, second) = started(driver);
        fs::write(host.at("refuse-reload"), "").unwrap();
        let said = Host::run(host.command(2, &second.fingerprint));
        assert_eq!((said.code(), waiting(&host).len()), ("reverted", 1), "{driver}: {said:?}");
        fs::remove_file(host.at("refuse-reload")).unwrap();
        assert_eq!(Host::run(arming(&host, &second)).code(), "armed", "{driver}");
        assert_eq!((host.served(), waiting(&host).len()), (Some(second.fingerprint.clone()), 1), "{driver}");
        assert_eq!(Host::run(expiring(&host)).code(), "unconfirmed", "{driver}");
        assert_eq!((host.served(), waiting(&host).len()), (Some(first.fingerprint), 1), "{driver}");
        assert_eq!(Host::run(arming(&host, &second)).code(), "armed", "{driver}");
        assert_eq!(Host::run(confirming(&host, &second)).code(), "confirmed", "{driver}");
        assert_eq!((host.served(), waiting(&host)), (Some(second.fingerprint), Vec::new()), "{driver}");
        assert!(!host.is_dead() && host.floor().as_deref() == Some("2"), "{driver}");
    }
}

/// Notes what each command is given, and what of a key anybody could read at that moment.
const NOTING: &str = r#"#!/bin/sh
PATH=${PATH#*:}
printf '%s\n' "${0##*/} $*" >>"$HOST/arguments"
find "$HOST/certificates" -type f -perm /007 -exec grep -l PRIVATE {} + >>"$HOST/readable" 2>/dev/null
find "$HOST/certificates" -path '*prepared*' -perm /077 >>"$HOST/readable" 2>/dev/null
exec "${0##*/}" "$@"
"#;

#[test]
fn a_key_that_was_made_here_is_nowhere_else() {
    let (host, authority) = (Host::with("haproxy"), authority());
    for command in ["openssl", "cat", "mv", "mkdir", "rm", "sync", "sed", "awk", "grep", "tr", "cut", "chmod", "tail"] {
        host.executable(&format!("bin/{command}"), NOTING);
    }
    for (generation, key_type) in [(1, P256), (2, KeyType::Rsa2048)] {
        let said = Host::run(preparing(&host, generation, key_type, "a"));
        let public = accepted(&said, generation, key_type, "a");
        let key = fs::read_to_string(host.base().join(format!("prepared/{generation}/key.pem"))).unwrap();
        let installed = host.install(generation, &keyless(&authority, &public));
        assert_eq!(installed.code(), "installed", "{installed:?}");
        let arguments = fs::read_to_string(host.at("arguments")).unwrap();
        assert!(arguments.contains("openssl genpkey") && arguments.contains("openssl req -new"), "{arguments}");
        // A modulus comes first and is public.
        let public_lines = if key_type == P256 { 0 } else { 8 };
        let secret = key.lines().skip(1 + public_lines).filter(|line| !line.starts_with('-') && line.len() > 20);
        let secret: Vec<&str> = secret.collect();
        assert!(!secret.is_empty());
        for text in [&said.output, &installed.output, &arguments] {
            assert!(secret.iter().all(|line| !text.contains(line)), "{key_type}: {text}");
        }
        assert_eq!(fs::read_to_string(host.at("readable")).unwrap(), "", "{key_type}");
    }
}
