//! Judges the lab did not write, and clients that verify everything.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::StoryError;
use super::deploy::PORT;
use super::watch::LedgerGeneration;
use super::world::World;
use crate::client::{Client, Served};
use crate::report;

/// The service's name in the recipe.
pub const DOMAIN: &str = "api-service.example.com";

const PATIENCE: Duration = Duration::from_secs(5);

/// A client at `source` that trusts `roots` and asks the lab's resolver.
pub fn client(world: &World, source: IpAddr, roots: &str) -> Result<Client, StoryError> {
    Client::new(source, world.dns.address(), roots, PATIENCE).map_err(StoryError::boxed("making a client"))
}

/// `openssl verify -x509_strict` over the pair as it lies on a target's disk: the chain to the root, the purpose, the
/// name.
pub async fn openssl(world: &World, roots: &str) -> Result<(), StoryError> {
    let root = world.run.join("root.pem");
    std::fs::write(&root, roots).map_err(StoryError::io("writing the root"))?;
    for host in &world.hosts {
        let pair = host.guest.certificates.join("api-service/current");
        let (chain, leaf) = (pair.join("chain.pem"), pair.join("leaf.pem"));
        let mut verify = vec!["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", DOMAIN, "-CAfile"];
        let (root, chain, leaf) = (text(&root), text(&chain), text(&leaf));
        verify.extend([root.as_str(), "-untrusted", &chain, &leaf]);
        run("openssl", &verify).await?;
    }
    Ok(())
}

/// Whether a certificate's key and its signature are on this curve, as openssl names them.
pub async fn is_on_curve(world: &World, pem: &str, (curve, signature): (&str, &str)) -> Result<(), StoryError> {
    let file = world.run.join("curve.pem");
    std::fs::write(&file, pem).map_err(StoryError::io("writing a certificate"))?;
    let told = run("openssl", &["x509", "-noout", "-text", "-in", &text(&file)]).await?;
    match told.contains(&format!("ASN1 OID: {curve}\n")) && told.contains(&format!("Algorithm: {signature}\n")) {
        true => Ok(()),
        false => Err(StoryError::Unmet(format!("on {curve} was to be: {told}"))),
    }
}

/// What each target serves, dialled directly from the prober's place, against the ledger.
pub async fn served(
    world: &World,
    prober: IpAddr,
    roots: &str,
    generations: &[LedgerGeneration],
) -> Result<Vec<report::Served>, StoryError> {
    let client = client(world, prober, roots)?;
    let mut all = Vec::new();
    for host in &world.hosts {
        let address = SocketAddr::new(host.address, PORT);
        // Chain, dates and name are verified by the client: an answer is a proof of all three.
        let seen: Served = client
            .get_at(address, DOMAIN, "/")
            .await
            .map_err(|error| StoryError::Unmet(format!("{} at {address} does not prove itself: {error}", host.id)))?;
        let of_ledger = generations.iter().find(|one| one.fingerprint == seen.fingerprint);
        let generation = of_ledger.map(|one| one.generation).ok_or_else(|| {
            StoryError::Unmet(format!("{} serves {}, which is in no ledger", host.id, seen.fingerprint))
        })?;
        all.push(report::Served {
            target: host.id.clone(),
            generation,
            serial: seen.serial,
            not_after: seen.not_after.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
            chain_ok: true,
            name_ok: true,
        });
    }
    Ok(all)
}

async fn run(program: &str, arguments: &[&str]) -> Result<String, StoryError> {
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(StoryError::io("starting openssl; install it"))?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(told);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &told;
    Err(StoryError::Unmet(format!("{program} {} says: {said}", arguments.join(" "))))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
