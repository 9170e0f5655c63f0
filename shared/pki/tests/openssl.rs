//! OpenSSL as the judge: it shares no code with what made the certificates. Without it these tests fail.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and OpenSSL signs by the real time"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{NOW, authority, key, leaf, ready, request, rules, serial, try_leaf};
use espalier_domain::record::AuthorityRecord;
use espalier_domain::spec::KeyType;
use espalier_pki::bundle;
use espalier_pki::issue::{IssueError, Leaf};
use espalier_pki::key::{PrivateKey, SecretText};
use espalier_pki::pem;
use espalier_pki::profile::{LeafRequest, ProfileError};
use time::{Duration, OffsetDateTime};

fn openssl(directory: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).current_dir(directory).output().expect("the openssl command is installed")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `openssl verify` in its strict mode, at the moment `at`, with the checks a client makes.
fn verify(directory: &Path, name: &str, at: OffsetDateTime) -> Result<(), String> {
    let at = at.unix_timestamp().to_string();
    let output = openssl(
        directory,
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            name,
            "-attime",
            &at,
            "-CAfile",
            "root.pem",
            "-untrusted",
            "issuing.pem",
            "leaf.pem",
        ],
    );
    if output.status.success() { Ok(()) } else { Err(text(&output)) }
}

#[test]
fn a_leaf_verifies_for_its_names_while_it_is_valid_and_never_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let authority = authority(&["example.com"], NOW);
    let key = key();
    let leaf = leaf(&authority, &key, &request(&["api.example.com", "example.com", "api.example.com"]));
    std::fs::write(at.join("root.pem"), authority.root_pem()).unwrap();
    std::fs::write(at.join("issuing.pem"), authority.issuing_pem()).unwrap();
    std::fs::write(at.join("leaf.pem"), pem::encode(pem::CERTIFICATE, leaf.der()).as_bytes()).unwrap();

    for name in ["api.example.com", "example.com"] {
        verify(at, name, NOW).unwrap();
        verify(at, name, NOW - Duration::minutes(4)).unwrap();
        verify(at, name, NOW + Duration::hours(167)).unwrap();
        assert_eq!(leaf.shortened(), None);
    }
    for (name, when) in [
        ("other.example.com", NOW),
        ("api.example.com", NOW - Duration::minutes(6)),
        ("api.example.com", NOW + Duration::hours(168)),
    ] {
        assert!(verify(at, name, when).is_err(), "{name} at {when}");
    }
}

#[test]
fn another_root_of_the_same_make_does_not_verify_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let (ours, theirs) = (authority(&["example.com"], NOW), authority(&["example.com"], NOW));
    let key = key();
    let leaf = leaf(&ours, &key, &request(&["api.example.com"]));
    std::fs::write(at.join("root.pem"), theirs.root_pem()).unwrap();
    std::fs::write(at.join("issuing.pem"), ours.issuing_pem()).unwrap();
    std::fs::write(at.join("leaf.pem"), pem::encode(pem::CERTIFICATE, leaf.der()).as_bytes()).unwrap();
    assert!(verify(at, "api.example.com", NOW).is_err());
}

#[test]
fn a_bundle_is_what_the_installer_can_take_apart() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let authority = authority(&["example.com"], NOW);
    for (key_type, bytes_max) in KeyType::ALL.into_iter().zip([1_900, 2_100, 4_000, 5_000, 6_000, 1_800]) {
        let key = PrivateKey::generate(key_type).unwrap();
        let leaf = leaf(&authority, &key, &request(&["api.example.com"]));
        let bundle = bundle::assemble(&key, &leaf).unwrap();
        let bytes = bundle.expose().len();
        assert!(bytes <= bytes_max, "{key_type}: {bytes} bytes");
        take_apart(at, &bundle, &leaf);
    }
}

fn take_apart(at: &Path, bundle: &SecretText, leaf: &Leaf) {
    std::fs::write(at.join("bundle.pem"), bundle.expose()).unwrap();
    let of_key = openssl(at, &["pkey", "-in", "bundle.pem", "-pubout"]);
    let of_leaf = openssl(at, &["x509", "-in", "bundle.pem", "-noout", "-pubkey"]);
    assert!(of_key.status.success() && of_leaf.status.success(), "{}{}", text(&of_key), text(&of_leaf));
    assert_eq!(of_key.stdout, of_leaf.stdout, "the key is the leaf's");
    let fingerprint = text(&openssl(at, &["x509", "-in", "bundle.pem", "-noout", "-fingerprint", "-sha256"]));
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(fingerprint, leaf.facts().fingerprint);
    let serial = text(&openssl(at, &["x509", "-in", "bundle.pem", "-noout", "-serial"]));
    assert_eq!(serial.trim().to_lowercase(), format!("serial={}", leaf.facts().serial));
    assert_eq!(bundle::inspect(bundle).unwrap(), *leaf.facts());
}

#[test]
fn a_bundle_never_holds_another_leafs_key() {
    let authority = authority(&["example.com"], NOW);
    let leaf = leaf(&authority, &key(), &request(&["api.example.com"]));
    let refused = bundle::assemble(&key(), &leaf).err();
    assert!(matches!(refused, Some(bundle::BundleError::Mismatch("the key is not the leaf's"))), "{refused:?}");
}

/// Everything of `openssl x509 -text` but what differs in each run: keys, their hashes and signatures.
#[test]
fn the_profiles_are_the_ones_that_were_reviewed() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let authority = authority(&["example.com", "internal.corp"], NOW);
    let key = key();
    let leaf = leaf(&authority, &key, &request(&["pay.internal.corp", "api.example.com"]));
    let mut all = String::new();
    for (name, der) in [("root", authority.root_der()), ("issuing", authority.issuing_der()), ("leaf", leaf.der())] {
        std::fs::write(at.join(name), pem::encode(pem::CERTIFICATE, der).as_bytes()).unwrap();
        let output = openssl(at, &["x509", "-in", name, "-noout", "-text"]);
        assert!(output.status.success(), "{}", text(&output));
        all.push_str(&format!("== {name}\n"));
        let mut serial = false;
        for line in text(&output).lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let octets = line.trim_start().trim_end_matches(':').split(':');
            let hex = octets.into_iter().all(|o| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit()));
            if serial || !hex {
                // Since OpenSSL 3.2 there are no spaces around the equals sign.
                all.push_str(&mask(line).replace(" = ", "="));
                all.push('\n');
            }
            serial = line.ends_with("Serial Number:");
        }
    }
    expectorate::assert_contents(format!("{}/tests/golden/profiles.txt", env!("CARGO_MANIFEST_DIR")), &all);
}

/// Hides the part of an authority's name that is made of its key.
fn mask(line: &str) -> String {
    for role in ["Espalier root ", "Espalier issuing "] {
        if let Some((before, _)) = line.split_once(role) {
            return format!("{before}{role}<key>");
        }
    }
    line.to_owned()
}

#[test]
fn a_name_outside_the_constraint_is_refused_here_and_by_openssl() {
    let authority = authority(&["example.com"], NOW);
    let key = key();
    for name in ["api.example.org", "badexample.com", "example.com.evil.org"] {
        assert_eq!(rules(try_leaf(&authority, key.public(), &request(&[name]))), ["a name its issuer may not certify"]);
    }
    // OpenSSL holds the same view of the issuing certificate: signed with its key by another tool, nobody accepts it.
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    std::fs::write(at.join("root.pem"), authority.root_pem()).unwrap();
    std::fs::write(at.join("issuing.pem"), authority.issuing_pem()).unwrap();
    std::fs::write(at.join("secret.pem"), authority.to_secret().expose()).unwrap();
    for (name, accepted) in [("api.example.com", true), ("api.example.org", false)] {
        std::fs::write(at.join("ext"), format!("subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")).unwrap();
        let made = openssl(
            at,
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                "k.pem",
                "-subj",
                "/O=x",
                "-out",
                "r.pem",
            ],
        );
        assert!(made.status.success(), "{}", text(&made));
        let signed = openssl(
            at,
            &[
                "x509",
                "-req",
                "-in",
                "r.pem",
                "-CA",
                "issuing.pem",
                "-CAkey",
                "secret.pem",
                "-extfile",
                "ext",
                "-days",
                "1",
                "-set_serial",
                "0x4142434445464748494a4b4c4d4e4f50",
                "-out",
                "leaf.pem",
            ],
        );
        assert!(signed.status.success(), "{}", text(&signed));
        let verdict = verify(at, name, OffsetDateTime::now_utc().max(NOW));
        assert_eq!(verdict.is_ok(), accepted, "{name}: {verdict:?}");
        if !accepted {
            assert!(verdict.unwrap_err().contains("permitted subtree violation"));
        }
    }
}

#[test]
fn a_leaf_never_outlives_its_issuer() {
    let begun = NOW - Duration::days(5 * 365) + Duration::hours(30);
    let authority = authority(&["example.com"], begun);
    let key = key();
    let clipped = leaf(&authority, &key, &request(&["api.example.com"]));
    assert_eq!(clipped.facts().not_after, authority.issuing_facts().not_after);
    assert!(clipped.shortened().is_some_and(|cut| cut > Duration::hours(136)), "and it says so");
    assert!(clipped.facts().not_after < NOW + Duration::hours(30));
    let late = LeafRequest { now: NOW + Duration::hours(30), ..request(&["api.example.com"]) };
    let outcome = try_leaf(&authority, key.public(), &late);
    let refused = outcome.unwrap_err();
    assert!(matches!(refused, IssueError::Profile(ProfileError::IssuerEnded { .. })), "{refused:?}");
}

#[test]
fn serials_are_sixteen_octets_whatever_the_entropy() {
    let authority = authority(&["example.com"], NOW);
    let key = key();
    for entropy in [[0; 16], [0xff; 16], [0x80; 16]] {
        let serial = espalier_pki::profile::Serial::from_entropy(entropy);
        let leaf = leaf(&authority, &key, &LeafRequest { serial, ..request(&["api.example.com"]) });
        assert_eq!(leaf.facts().serial.len(), 32, "{}", leaf.facts().serial);
        assert_eq!(leaf.facts().serial, serial.text());
    }
    let seen: std::collections::BTreeSet<String> =
        (0..1_000).map(|_| espalier_pki::profile::Serial::random().unwrap().text()).collect();
    assert_eq!(seen.len(), 1_000);
}

#[test]
fn an_authority_survives_its_secret_and_nothing_else_does() {
    let authority = authority(&["example.com"], NOW);
    let secret = authority.to_secret();
    let again = espalier_pki::authority::Authority::from_secret(&secret).unwrap();
    assert_eq!(again.record(None), authority.record(None));
    assert_eq!(again.domains(), ["example.com"]);
    assert_eq!(again.id().len(), 16);
    let key = key();
    let _ = leaf(&again, &key, &request(&["api.example.com"]));

    let other = common::authority(&["example.com"], NOW);
    let (ours, theirs) = (secret.expose(), other.to_secret());
    let cut = |text: &str, n: usize| {
        let ends: Vec<usize> = text.match_indices("-----BEGIN").map(|(at, _)| at).chain([text.len()]).collect();
        text[ends[n]..ends[n + 1]].to_owned()
    };
    let part = |n: usize| cut(ours, n);
    let foreign = |n: usize| cut(theirs.expose(), n);
    for (what, text) in [
        ("nothing", String::new()),
        ("no key", part(1) + &part(2)),
        ("another order", part(0) + &part(2) + &part(1)),
        ("another key", foreign(0) + &part(1) + &part(2)),
        ("another root", part(0) + &part(1) + &foreign(2)),
        ("a word before it", format!("hello\n{ours}")),
        ("a certificate more", format!("{ours}{}", part(2))),
        ("half of it", ours[..ours.len() / 2].to_owned()),
    ] {
        let refused = espalier_pki::authority::Authority::from_secret(&SecretText::new(text));
        let refused = refused.err().unwrap_or_else(|| panic!("{what} was taken"));
        let said = espalier_domain::failure::chain(&refused);
        assert!(
            !said.contains("PRIVATE") && !ours.lines().any(|line| line.len() > 20 && said.contains(line)),
            "{said}"
        );
    }
}

#[test]
fn a_record_is_what_was_founded_or_is_refused() {
    let authority = authority(&["example.com"], NOW);
    let (record, other) = (authority.record(None), common::authority(&["example.com"], NOW).record(None));
    espalier_pki::authority::check(&record).unwrap();
    let spoilt = |der: &[u8]| {
        let mut der = der.to_vec();
        *der.last_mut().unwrap() ^= 1;
        pem::encode(pem::CERTIFICATE, &der).to_string()
    };
    for (what, damaged) in [
        ("another id", AuthorityRecord { authority: other.authority.clone(), ..record.clone() }),
        ("another root", AuthorityRecord { root_pem: other.root_pem.clone(), ..record.clone() }),
        ("another root and its id", AuthorityRecord { issuing_pem: record.issuing_pem.clone(), ..other }),
        ("no certificate", AuthorityRecord { root_pem: String::new(), ..record.clone() }),
        ("the root in its place", AuthorityRecord { issuing_pem: record.root_pem.clone(), ..record.clone() }),
        ("a spoilt signature", AuthorityRecord { issuing_pem: spoilt(authority.issuing_der()), ..record.clone() }),
        ("a spoilt root", AuthorityRecord { root_pem: spoilt(authority.root_der()), ..record }),
    ] {
        assert!(espalier_pki::authority::check(&damaged).is_err(), "{what} was taken");
    }
}

#[test]
fn a_ceremony_without_domains_is_refused() {
    let refused =
        ready(espalier_pki::authority::Authority::ceremony(KeyType::EcPrime256v1, &[], NOW, [serial(1), serial(2)]));
    assert!(refused.is_err());
    for name in ["*.example.com", "", "exa mple.com", "Example.com"] {
        let refused = ready(espalier_pki::authority::Authority::ceremony(
            KeyType::EcPrime256v1,
            &[name],
            NOW,
            [serial(1), serial(2)],
        ));
        assert!(refused.is_err(), "{name:?}");
    }
}
