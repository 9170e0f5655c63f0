//! What ACM exports, made by OpenSSL: opened with its passphrase, checked, and put together for a target.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "OpenSSL is another program")]

use std::path::Path;
use std::process::Command;

use espalier_domain::id::HostName;
use espalier_domain::spec::AllowedDomains;
use espalier_pki::BadSealed;
use espalier_pki::bundle::{ADVANCED_TIER, BundleError};
use espalier_pki::export::{ExportError, Exported, Passphrase, Sealed, Wanted, open};
use espalier_pki::inspect::facts;
use espalier_pki::key::SecretText;
use espalier_pki::pem;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

const NAME: &str = "api.example.com";
const PASSPHRASE: &str = "correct horse_battery-staple";

fn openssl(folder: &Path, line: &str) {
    let output = Command::new("openssl").current_dir(folder).args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn new_key(kind: &str) -> String {
    match kind.strip_prefix("rsa") {
        Some(bits) => format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}"),
        None => format!("-algorithm EC -pkeyopt ec_paramgen_curve:{kind}"),
    }
}

/// A root, so many authorities below it, and a leaf: the newest first in `chain.pem`.
fn made(kind: &str, authorities: usize, leaf: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("ca.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n").unwrap();
    std::fs::write(at.join("leaf.ext"), leaf).unwrap();
    let key = |name: &str| openssl(at, &format!("genpkey {} -out {name}.key", new_key(kind)));
    key("ca0");
    openssl(at, "req -new -key ca0.key -subj /CN=root -out ca0.csr");
    openssl(at, "x509 -req -in ca0.csr -key ca0.key -days 3650 -extfile ca.ext -out ca0.pem");
    for n in 1..=authorities {
        let above = n - 1;
        key(&format!("ca{n}"));
        openssl(at, &format!("req -new -key ca{n}.key -subj /CN=authority{n} -out ca{n}.csr"));
        openssl(
            at,
            &format!(
                "x509 -req -in ca{n}.csr -CA ca{above}.pem -CAkey ca{above}.key -days 3650 -extfile ca.ext -out ca{n}.pem"
            ),
        );
    }
    key("leaf");
    openssl(at, "req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
    openssl(
        at,
        &format!(
            "x509 -req -in leaf.csr -CA ca{authorities}.pem -CAkey ca{authorities}.key -days 198 -extfile leaf.ext -out leaf.pem"
        ),
    );
    let chain: String = (0..=authorities).rev().map(|n| text(at, &format!("ca{n}.pem"))).collect();
    std::fs::write(at.join("chain.pem"), chain).unwrap();
    folder
}

fn server(names: &str) -> String {
    format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// As ACM answers, the key encrypted as asked.
fn sealed(folder: &Path, cipher: &str) -> Sealed {
    openssl(folder, &format!("pkcs8 -topk8 -in leaf.key -out sealed.key {cipher} -passout file:passphrase"));
    Sealed {
        certificate: text(folder, "leaf.pem"),
        chain: text(folder, "chain.pem"),
        key: SecretText::new(text(folder, "sealed.key")),
    }
}

/// What Java's libraries write when nothing is said: PBKDF2 with HMAC-SHA-1.
const ACM: &str = "-v2 aes-256-cbc -v2prf hmacWithSHA1";

fn exported(folder: &TempDir) -> Sealed {
    std::fs::write(folder.path().join("passphrase"), PASSPHRASE).unwrap();
    sealed(folder.path(), ACM)
}

fn opened_at(sealed: &Sealed, names: &[&str], now: OffsetDateTime) -> Result<Exported, ExportError> {
    let names: Vec<HostName> = names.iter().map(|name| HostName::parse(*name).unwrap()).collect();
    let allowed = AllowedDomains::parse("example.com").unwrap();
    let wanted = Wanted { names: &names, allowed: &allowed, now };
    open(sealed, &Passphrase::new(PASSPHRASE.to_owned()), &wanted)
}

fn opened(sealed: &Sealed) -> Result<Exported, ExportError> {
    opened_at(sealed, &[NAME], OffsetDateTime::now_utc())
}

fn error(outcome: Result<Exported, ExportError>) -> ExportError {
    match outcome {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

#[test]
fn an_export_becomes_a_bundle_that_the_installer_takes_and_an_anchor_that_is_not_in_it() {
    for kind in ["P-256", "P-384", "rsa2048"] {
        let folder = made(kind, 1, &server("DNS:api.example.com,DNS:*.example.com"));
        let exported = opened(&exported(&folder)).unwrap();
        let (bundle, anchor) = exported.assemble().unwrap();
        let blocks = pem::decode(bundle.expose()).unwrap();
        let labels: Vec<&str> = blocks.iter().map(|block| block.label.as_str()).collect();
        assert_eq!(labels, [pem::PRIVATE_KEY, pem::CERTIFICATE, pem::CERTIFICATE], "{kind}");
        assert_eq!(espalier_pki::bundle::inspect(&bundle).unwrap(), *exported.facts());
        let root = pem::certificates(&text(folder.path(), "ca0.pem")).unwrap().remove(0);
        assert_eq!(anchor.id, facts(&root).unwrap().fingerprint[..16]);
        assert_eq!(pem::certificates(&anchor.pem).unwrap(), [root]);
    }
}

#[test]
fn keys_are_opened_however_openssl_encrypts_them_with_aes() {
    let folder = made("P-256", 0, &server("DNS:api.example.com"));
    std::fs::write(folder.path().join("passphrase"), PASSPHRASE).unwrap();
    for cipher in ["128", "192", "256"] {
        for digest in ["hmacWithSHA1", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"] {
            let sealed = sealed(folder.path(), &format!("-v2 aes-{cipher}-cbc -v2prf {digest} -iter 4096"));
            assert!(opened(&sealed).is_ok(), "{cipher} {digest}");
        }
    }
    for weak in ["-v2 des3", "-scrypt"] {
        let error = error(opened(&sealed(folder.path(), weak)));
        assert!(matches!(error, ExportError::Sealed(BadSealed::Algorithm)), "{weak}: {error:?}");
    }
    // One authority and no more: it is served and trusted.
    let (bundle, anchor) = opened(&sealed(folder.path(), ACM)).unwrap().assemble().unwrap();
    assert!(bundle.expose().ends_with(&anchor.pem));
}

#[test]
fn another_passphrase_and_any_changed_octet_of_the_key_are_refused_without_a_panic() {
    let folder = made("P-256", 0, &server("DNS:api.example.com"));
    std::fs::write(folder.path().join("passphrase"), "another").unwrap();
    let other = sealed(folder.path(), ACM);
    assert!(matches!(error(opened(&other)), ExportError::Sealed(_) | ExportError::Key(_)));

    let good = exported(&folder);
    let der = pem::decode(good.key.expose()).unwrap().remove(0).der;
    for at in 0..der.len() {
        for changed in [0, 0x80, 0xff, der[at] ^ 1].into_iter().filter(|octet| *octet != der[at]) {
            let mut bad = der.to_vec();
            bad[at] = changed;
            let key = SecretText::new(pem::encode("ENCRYPTED PRIVATE KEY", &bad).to_string());
            let bad = Sealed { certificate: good.certificate.clone(), chain: good.chain.clone(), key };
            // The number of rounds may be spelled in ways that mean the same, and little else.
            if let Ok(exported) = opened(&bad) {
                assert_eq!(exported.facts(), opened(&good).unwrap().facts());
            }
        }
        let short = SecretText::new(pem::encode("ENCRYPTED PRIVATE KEY", &der[..at]).to_string());
        let cut = Sealed { certificate: good.certificate.clone(), chain: good.chain.clone(), key: short };
        assert!(opened(&cut).is_err(), "cut after {at}");
    }
}

#[test]
fn what_does_not_fit_together_or_is_not_wanted_is_refused_by_name() {
    let folder = made("P-256", 1, &server("DNS:api.example.com,DNS:www.api.example.com"));
    let other = made("P-256", 1, &server("DNS:api.example.com"));
    let (good, wrong) = (exported(&folder), exported(&other));
    let with = |certificate: &Sealed, chain: String, key: &Sealed| {
        let key = SecretText::new(key.key.expose().to_owned());
        error(opened(&Sealed { certificate: certificate.certificate.clone(), chain, key })).to_string()
    };
    assert_eq!(with(&good, good.chain.clone(), &wrong), "its key is not the certificate's");
    let unsigned = "its chain does not build: certificate 1 above the leaf did not sign the one below";
    assert_eq!(with(&good, text(other.path(), "chain.pem"), &good), unsigned);
    assert_eq!(with(&good, text(folder.path(), "ca0.pem"), &good), unsigned, "one is left out");
    let itself = "its chain does not build: certificate 1 above the leaf is not an authority's";
    assert_eq!(with(&good, good.certificate.clone(), &good), itself);
    assert_eq!(with(&good, String::new(), &good), "its chain is not PEM as expected");

    let now = OffsetDateTime::now_utc();
    assert!(matches!(error(opened_at(&good, &["other.example.com"], now)), ExportError::Names(..)));
    assert!(matches!(error(opened_at(&good, &[NAME], now + Duration::days(199))), ExportError::Dates(..)));
    let late = error(opened_at(&good, &[NAME], now + Duration::days(3_651)));
    assert!(matches!(late, ExportError::Chain(1, "is not valid now")), "{late:?}");

    let foreign = exported(&made("P-256", 0, &server("DNS:api.example.com,DNS:*.example.org")));
    assert!(matches!(error(opened(&foreign)), ExportError::NotAllowed(name) if name == "*.example.org"));
    let address = exported(&made("P-256", 0, &server("DNS:api.example.com,IP:10.0.0.1")));
    assert!(matches!(error(opened(&address)), ExportError::NotAllowed(_)));
    let client = made("P-256", 0, "subjectAltName=DNS:api.example.com\nextendedKeyUsage=clientAuth\n");
    assert!(matches!(error(opened(&exported(&client))), ExportError::Purpose));
}

/// An RSA key with a public chain, as long as Amazon's: it fits a parameter, and the issuing certificate is in it.
#[test]
fn a_bundle_that_would_be_too_long_leaves_out_the_top_of_the_chain() {
    let folder = made("rsa3072", 3, &server("DNS:api.example.com"));
    let (bundle, anchor) = opened(&exported(&folder)).unwrap().assemble().unwrap();
    let above = pem::decode(bundle.expose()).unwrap().len() - 2;
    assert!(
        bundle.expose().len() <= ADVANCED_TIER && (1..3).contains(&above),
        "{} bytes, {above}",
        bundle.expose().len()
    );
    let chain = pem::certificates(&text(folder.path(), "chain.pem")).unwrap();
    assert_eq!(pem::certificates(&anchor.pem).unwrap(), [chain[above].clone()]);

    let long: Vec<String> = (0..400).map(|n| format!("DNS:n{n}.api.example.com")).collect();
    let endless = made("rsa2048", 1, &server(&format!("DNS:api.example.com,{}", long.join(","))));
    let outcome = opened(&exported(&endless)).unwrap().assemble();
    assert!(matches!(outcome, Err(BundleError::TooLong { .. })));
}

#[test]
fn a_passphrase_is_long_random_and_of_letters_that_acm_takes() {
    let [one, other] = [0, 1].map(|_| Passphrase::random().unwrap());
    assert_ne!(one.expose(), other.expose());
    assert!(one.expose().len() == 43 && one.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
}
