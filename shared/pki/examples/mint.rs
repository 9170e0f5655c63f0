//! Mints as often as it is told, for `benches/processes.py`: prints how long the first leaf of this process took, in
//! microseconds, with the key, the checks and the bundle. The authority is made by an earlier process, as in `mint`.
//!
//! `mint make` prints an authority; `mint COUNT` reads it from standard input.

use std::io::Read as _;
use std::time::Instant;

use espalier_domain::id::HostName;
use espalier_pki::authority::Authority;
use espalier_pki::bundle;
use espalier_pki::issue;
use espalier_pki::key::{PrivateKey, SecretText};
use espalier_pki::profile::{LeafRequest, Serial};
use futures::executor::block_on;
use time::{Duration, OffsetDateTime};

type Failure = Box<dyn std::error::Error>;

#[allow(clippy::print_stdout, clippy::disallowed_macros, reason = "the script reads it")]
fn main() -> Result<(), Failure> {
    let what = std::env::args().nth(1).ok_or("say `make` or how many")?;
    #[allow(clippy::disallowed_methods, reason = "a benchmark's clock")]
    let now = OffsetDateTime::now_utc();
    if what == "make" {
        let authority = block_on(Authority::ceremony(&["example.com"], now, [Serial::random()?, Serial::random()?]))?;
        print!("{}", authority.to_secret().expose());
        return Ok(());
    }
    let count: u64 = what.parse()?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let authority = Authority::from_secret(&SecretText::new(text))?;
    let begun = Instant::now();
    mint(&authority, now)?;
    println!("{}", begun.elapsed().as_micros());
    for _ in 1..count {
        mint(&authority, now)?;
    }
    Ok(())
}

fn mint(authority: &Authority, now: OffsetDateTime) -> Result<(), Failure> {
    let key = PrivateKey::generate()?;
    let dns_names = vec![HostName::parse("api.example.com")?];
    let request = LeafRequest { dns_names, now, validity: Duration::hours(168), serial: Serial::random()? };
    let leaf = block_on(issue::leaf(authority.signer(), authority.issuing_der(), &key.public(), &request))?;
    bundle::assemble(&key, &leaf)?;
    Ok(())
}
