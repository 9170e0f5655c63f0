//! Mints as often as it is told, for `benches/processes.py`: prints how long the first leaf of this process took, in
//! microseconds, with the key, the checks and the bundle. The authority is made by an earlier process, as in `mint`.
//!
//! `mint make` prints an authority; `mint COUNT [KIND OF KEY]` reads it from standard input.

use std::io::Read as _;
use std::time::Instant;

use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue;
use espalier_pki::key::{PrivateKey, SecretText};
use espalier_pki::lint::Policy;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use futures::executor::block_on;
use time::{Duration, OffsetDateTime};

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stdout, clippy::disallowed_macros, reason = "the script reads it")]
fn main() -> Result<(), Failure> {
    let what = std::env::args().nth(1).ok_or("say `make` or how many")?;
    #[allow(clippy::disallowed_methods, reason = "a benchmark's clock")]
    let now = OffsetDateTime::now_utc();
    if what == "make" {
        let authority = block_on(Authority::ceremony(
            KeyType::EcPrime256v1,
            &["example.com"],
            now,
            [Serial::random()?, Serial::random()?],
        ))?;
        print!("{}", authority.to_secret().expose());
        return Ok(());
    }
    let count: u64 = what.parse()?;
    let kind = std::env::args().nth(2).unwrap_or_else(|| KeyType::default().name().to_owned());
    let key_type = KeyType::ALL.into_iter().find(|known| known.name() == kind).ok_or("no such kind of key")?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let authority = Authority::from_secret(&SecretText::new(text))?;
    let begun = Instant::now();
    mint(&authority, key_type, now)?;
    println!("{}", begun.elapsed().as_micros());
    for _ in 1..count {
        mint(&authority, key_type, now)?;
    }
    Ok(())
}

fn mint(authority: &Authority, key_type: KeyType, now: OffsetDateTime) -> Result<(), Failure> {
    let key = PrivateKey::generate(key_type)?;
    let dns_names = vec![HostName::parse("api.example.com")?];
    let validity = Duration::hours(168);
    let policy = Policy {
        domains: AllowedDomains::parse("example.com")?,
        names: dns_names.clone(),
        key_types: vec![key_type],
        longest: validity,
    };
    let request = LeafRequest { purpose: Purpose::Server, dns_names, now, validity, serial: Serial::random()? };
    let leaf = issue::leaf(authority.signer(), authority.issuing_der(), key.public(), &request, &policy);
    let leaf = block_on(leaf)?;
    bundle::assemble(&key, &leaf)?;
    Ok(())
}
