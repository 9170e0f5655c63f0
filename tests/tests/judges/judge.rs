//! The judges. One that is missing fails the test: `bash tests/run --tools` installs them.

use std::process::Command;
use std::sync::Arc;

use espalier_pki::profile::Purpose;
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

use crate::made::{Folder, Leaf};

/// `openssl verify` in its strict mode, with the checks that a peer makes.
pub(crate) fn openssl(folder: &Folder, leaf: &Leaf, purpose: Purpose) -> Result<(), String> {
    let file = folder.path().join("judged");
    std::fs::write(&file, espalier_pki::pem::encode(espalier_pki::pem::CERTIFICATE, &leaf.der).as_bytes()).unwrap();
    let mut command = Command::new("openssl");
    command.current_dir(folder.path()).args(["verify", "-x509_strict", "-CAfile", "root.pem"]);
    command.args(["-untrusted", "issuing.pem", "-attime", &leaf.at.unix_timestamp().to_string()]);
    match purpose {
        Purpose::Server => command.args(["-purpose", "sslserver", "-verify_hostname", &leaf.name]),
        Purpose::Client => command.args(["-purpose", "sslclient"]),
    };
    let output = command.arg("judged").output().expect("the openssl command is installed");
    if output.status.success() {
        return Ok(());
    }
    // `error 47 at 0 depth lookup: permitted subtree violation`
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let reason = said.lines().find_map(|line| line.split_once("lookup: ")).map(|(_, reason)| reason.to_owned());
    Err(reason.unwrap_or(said))
}

/// rustls and its webpki, as our prober uses them.
pub(crate) fn webpki(folder: &Folder, leaf: &Leaf, purpose: Purpose) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(folder.authority.root_der())).unwrap();
    let issuing = [CertificateDer::from(folder.authority.issuing_der())];
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(leaf.at.unix_timestamp() as u64));
    let der = CertificateDer::from(leaf.der.as_slice());
    let provider = Arc::new(default_provider());
    let said = |error: rustls::Error| {
        // The reason's name is enough, and stays the same when a name or a date is another.
        let text = format!("{error:?}");
        let wrappers = ["", "InvalidCertificate", "Other", "OtherError"];
        text.split(['(', ')', ' ', '{']).find(|word| !wrappers.contains(word)).unwrap_or("refused").to_owned()
    };
    match purpose {
        Purpose::Server => {
            let parsed = ParsedCertificate::try_from(&der).map_err(said)?;
            let algorithms = provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &issuing, at, algorithms).map_err(said)?;
            verify_server_name(&parsed, &ServerName::try_from(leaf.name.as_str()).unwrap()).map_err(said)
        }
        Purpose::Client => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            verifier.verify_client_cert(&der, &issuing, at).map(drop).map_err(said)
        }
    }
}

/// One thing that pkilint says of one file.
pub(crate) struct Linted {
    pub(crate) file: String,
    pub(crate) judge: String,
    pub(crate) severity: String,
    pub(crate) code: String,
}

/// What pkilint says to every certificate of a folder.
pub(crate) fn pkilint(folder: &Folder) -> Vec<Linted> {
    let root = espalier_tests::root();
    let python = root.join("target/judges/bin/python");
    let output = Command::new(&python).arg(root.join("tests/judges/lint.py")).arg(folder.path()).output();
    let output = output.unwrap_or_else(|_| panic!("{} is missing: bash tests/run --tools", python.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<[String; 4]>(line).unwrap());
    assert_eq!(lines.next().map(|first| first[1].clone()), Some("pkilint".to_owned()));
    lines.map(|[file, judge, severity, code]| Linted { file, judge, severity, code }).collect()
}
