//! Dials targets (four connections each) until it has made as many as it is told, for `benches/processes.py`: full handshakes with a TLS server on a thread of its own,
//! each judged as `verify` judges it. Prints the wall-clock seconds they took.
//!
//! `probe COUNT`
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark"
)]
#![allow(dead_code, reason = "the tests' servers do more than is needed here")]

#[path = "../tests/servers/mod.rs"]
mod servers;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

use espalier_domain::id::{Generation, HostName, StackName, TargetId};
use espalier_domain::work::{VerifyItem, VerifyTarget, WorkResult};
use espalier_probe::{CONNECTIONS, probe};
use servers::{Authority, NAME, serve};
use time::OffsetDateTime;

/// What one `verify` item may hold.
const ITEM: u64 = 50;

#[allow(clippy::print_stdout, reason = "the script reads it")]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let authority = Authority::new("benchmark");
    let trust = authority.root_pem.clone();
    let (address, fingerprint) = server(authority);
    let begun = Instant::now();
    for _ in 0..count / (ITEM * CONNECTIONS as u64) {
        let targets = (0..ITEM).map(|number| target(number, address, &fingerprint)).collect();
        let item = VerifyItem {
            stack: StackName::parse("api-service").unwrap(),
            server_name: HostName::parse(NAME).unwrap(),
            trust: trust.clone(),
            targets,
            through: None,
            resolver: None,
            others: None,
            prober: None,
        };
        let WorkResult::Seen { sightings, .. } = probe(&item, OffsetDateTime::now_utc).await.unwrap() else {
            panic!("the prober answers with what it saw");
        };
        assert!(sightings.iter().all(|seen| seen.verdict.faults.is_empty()), "{:?}", sightings.first());
    }
    println!("{}", begun.elapsed().as_secs_f64());
}

fn server(authority: Authority) -> (SocketAddr, String) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pair = authority.good_leaf();
            let address = serve(&pair.chain, &pair.key, &rustls::version::TLS13).await;
            tell.send((address, pair.fingerprint())).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().unwrap()
}

fn target(number: u64, address: SocketAddr, fingerprint: &str) -> VerifyTarget {
    VerifyTarget {
        target: TargetId::parse(format!("i-{number:017x}")).unwrap(),
        address: address.into(),
        generation: Generation(1),
        fingerprint: fingerprint.to_owned(),
    }
}
