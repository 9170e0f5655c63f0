//! Writes a fresh root, issuing and leaf certificate of every profile into a directory, for linters that are not
//! written in Rust: `cargo run --package espalier-pki --example profiles -- <directory>`.

use std::path::Path;

use espalier_domain::id::HostName;
use espalier_pki::authority::Authority;
use espalier_pki::issue;
use espalier_pki::key::PrivateKey;
use espalier_pki::pem;
use espalier_pki::profile::{LeafRequest, Serial};
use time::{Duration, OffsetDateTime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("give the directory to write to")?;
    let directory = Path::new(&directory);
    #[allow(clippy::disallowed_methods, reason = "linters judge validity by the real time")]
    let now = OffsetDateTime::now_utc();
    let serials = [Serial::random()?, Serial::random()?];
    let authority = futures::executor::block_on(Authority::ceremony(&["example.com"], now, serials))?;
    let request = LeafRequest {
        dns_names: vec![HostName::parse("api.example.com")?, HostName::parse("example.com")?],
        now,
        validity: Duration::hours(168),
        serial: Serial::random()?,
    };
    let subject = PrivateKey::generate()?.public();
    let leaf = issue::leaf(authority.signer(), authority.issuing_der(), &subject, &request);
    let leaf = futures::executor::block_on(leaf)?;
    std::fs::write(directory.join("root.pem"), authority.root_pem())?;
    std::fs::write(directory.join("issuing.pem"), authority.issuing_pem())?;
    std::fs::write(directory.join("leaf.pem"), pem::encode(pem::CERTIFICATE, leaf.der()).as_bytes())?;
    Ok(())
}
