//! Writes a fresh root, issuing and leaf certificate of every profile and kind of key into a directory, for judges that
//! are not written in Rust: `cargo run --workspace --example profiles -- <directory>`.

use std::path::Path;

use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_pki::authority::Authority;
use espalier_pki::issue;
use espalier_pki::key::PrivateKey;
use espalier_pki::lint::Policy;
use espalier_pki::pem;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use futures::executor::block_on;
use time::{Duration, OffsetDateTime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("give the directory to write to")?;
    let directory = Path::new(&directory);
    #[allow(clippy::disallowed_methods, reason = "linters judge validity by the real time")]
    let now = OffsetDateTime::now_utc();
    for curve in [KeyType::EcPrime256v1, KeyType::EcSecp384r1] {
        let serials = [Serial::random()?, Serial::random()?];
        let authority = block_on(Authority::ceremony(curve, &["example.com"], now, serials))?;
        std::fs::write(directory.join(format!("{curve}-root.pem")), authority.root_pem())?;
        std::fs::write(directory.join(format!("{curve}-issuing.pem")), authority.issuing_pem())?;
        for (purpose, name) in [(Purpose::Server, "server"), (Purpose::Client, "client")] {
            for key_type in KeyType::ALL {
                let request = LeafRequest {
                    purpose,
                    dns_names: vec![HostName::parse("api.example.com")?, HostName::parse("example.com")?],
                    now,
                    validity: Duration::hours(168),
                    serial: Serial::random()?,
                };
                let policy = Policy {
                    domains: AllowedDomains::parse("example.com")?,
                    names: request.dns_names.clone(),
                    key_types: vec![key_type],
                    longest: request.validity,
                };
                let key = PrivateKey::generate(key_type)?;
                let leaf = issue::leaf(authority.signer(), authority.issuing_der(), key.public(), &request, &policy);
                let text = pem::encode(pem::CERTIFICATE, block_on(leaf)?.der());
                std::fs::write(directory.join(format!("{curve}-{name}-{key_type}.pem")), text.as_bytes())?;
            }
        }
    }
    Ok(())
}
