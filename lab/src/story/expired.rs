//! The scenario of a fleet past expiry: the control plane was not there for eight days, in a freeze, and every target serves a
//! certificate that has ended. `espalier emergency` needs neither a certificate nor clients who get through: every target serves
//! a new leaf, and clients are back.

use serde_json::{Value, json};
use sha2::Digest as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::Pem;

use super::emergency::{freeze, thaw};
use super::judge::{self, DOMAIN};
use super::repair::{hosts, settled};
use super::{CLIENT, PROBER, STACK, StoryError, Tale, command, deploy, look};
use crate::ui::{Phase, Ui};

/// How long ago they ended.
const ENDED: time::Duration = time::Duration::hours(1);

/// The authority that the ledger knows them by.
const AUTHORITY: &str = "00000000000000ed";

const REASON: &str = "every certificate has ended";

/// For `openssl ca`: nothing of the machine's own.
const CONFIG: &str = "[ca]\ndefault_ca = c\n[c]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n\
    default_md = sha256\npolicy = p\nx509_extensions = e\n[p]\ncommonName = supplied\n[e]\nsubjectAltName = DNS:NAME\n\
    basicConstraints = critical,CA:FALSE\n";

/// A pair that is no good any more, and what is known of it.
struct Ended {
    key: String,
    leaf: String,
    fingerprint: String,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, ui: &Ui) -> Result<(), StoryError> {
    let phase = ui.phase("expired");
    let former = freeze(tale).await?;
    settled(tale, &phase).await?;
    let saved = everybody_ends(tale).await;
    let proved = match saved {
        Ok(()) => saved_by_hand(tale, &phase).await,
        Err(error) => Err(error),
    };
    thaw(tale, former, &phase).await?;
    tale.watch.forget(tale.ledger()?, "AUTHORITIES", &format!("AUTHORITY#{AUTHORITY}")).await?;
    phase.done(&proved?);
    Ok(())
}

/// Eight days pass: every target serves a leaf that has ended, and the ledger says the same of it.
async fn everybody_ends(tale: &Tale) -> Result<(), StoryError> {
    let ended = made(tale).await?;
    for host in &tale.world.hosts {
        hosts::put_pair(tale, host, ended.key.as_bytes(), ended.leaf.as_bytes()).await?;
    }
    let table = tale.ledger()?;
    let client = judge::client(&tale.world, CLIENT, &ended.leaf)?;
    let seen = judge::client(&tale.world, PROBER, &ended.leaf)?;
    for host in &tale.world.hosts {
        let address = std::net::SocketAddr::new(host.address, deploy::PORT);
        match seen.get_at(address, DOMAIN, "/").await {
            // The alert's own word is among the causes.
            Err(error) if format!("{error:?}").contains("Expired") => {}
            other => return Err(StoryError::Unmet(format!("{} was to show what has ended: {other:?}", host.id))),
        }
    }
    if client.get(DOMAIN, deploy::PORT, "/").await.is_ok() {
        return Err(StoryError::Unmet("a client takes a certificate that has ended".to_owned()));
    }
    let at = |at: OffsetDateTime| at.format(&Rfc3339).map_err(StoryError::boxed("writing a time"));
    let authority = json!({"authority": AUTHORITY, "rootPem": ended.leaf, "issuingPem": ended.leaf, "notAfter": at(ended.until)?,
        "publishedAt": at(OffsetDateTime::now_utc())?});
    tale.watch.write(table, "AUTHORITIES", &format!("AUTHORITY#{AUTHORITY}"), &authority).await?;
    let last = tale.watch.generations(table, STACK).await?.pop();
    let number = last.map(|last| last.generation).unwrap_or_default();
    let (pk, sk) = (format!("STACK#{STACK}"), format!("GENERATION#shared#{number:08}"));
    let records = tale.watch.records(table, STACK, &sk).await?;
    let mut record = records.into_iter().next().unwrap_or(Value::Null);
    record["fingerprint"] = ended.fingerprint.clone().into();
    record["authority"] = AUTHORITY.into();
    (record["notBefore"], record["mintedAt"]) = (at(ended.from)?.into(), at(ended.from)?.into());
    record["notAfter"] = at(ended.until)?.into();
    tale.watch.write(table, &pk, &sk, &record).await?;
    Ok(())
}

/// A certificate of its own for the service's name, eight days old, by OpenSSL: `ca` alone of its commands takes dates.
async fn made(tale: &Tale) -> Result<Ended, StoryError> {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let (from, until) = (now - time::Duration::days(8), now - ENDED);
    let folder = tale.world.run.join("ended");
    let in_it = StoryError::io("making a certificate that has ended");
    std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join("index.txt"), "")).map_err(in_it)?;
    let config = CONFIG.replace("NAME", DOMAIN);
    std::fs::write(folder.join("ca.cnf"), config).map_err(StoryError::io("making a certificate that has ended"))?;
    let make = async |line: &str| {
        let mut openssl = tokio::process::Command::new("openssl");
        openssl.args(line.split(' ')).current_dir(&folder);
        hosts::run(openssl, "openssl").await
    };
    make("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ended -keyout key.pem -out csr.pem")
        .await?;
    let (start, end) = (generalized(from)?, generalized(until)?);
    make(&format!(
        "ca -batch -notext -selfsign -config ca.cnf -keyfile key.pem -in csr.pem -out leaf.pem -startdate {start} -enddate {end}"
    ))
    .await?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(StoryError::io("reading a pair"));
    let leaf = read("leaf.pem")?;
    let pem = Pem::iter_from_buffer(leaf.as_bytes()).next().and_then(Result::ok);
    let der =
        pem.ok_or_else(|| StoryError::Unmet("openssl made something that is no certificate".to_owned()))?.contents;
    let fingerprint = sha2::Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Ended { key: read("key.pem")?, leaf, fingerprint, from, until })
}

/// As OpenSSL takes a time (`openssl-ca(1)`, `-startdate`).
fn generalized(at: OffsetDateTime) -> Result<String, StoryError> {
    let form = time::macros::format_description!("[year][month][day][hour][minute][second]Z");
    at.format(&form).map_err(StoryError::boxed("writing a time"))
}

async fn saved_by_hand(tale: &Tale, phase: &Phase) -> Result<String, StoryError> {
    let espalier = command::espalier(tale);
    let begun = std::time::Instant::now();
    let text = command::text(&espalier, &["emergency", STACK, "--reason", REASON]).await?;
    command::expect(&["emergency"], &text, "! Emergency, generation")?;
    look::serves(tale).await?;
    settled(tale, phase).await?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(format!(
        "every target served what had ended; by one command, in a freeze, all serve a new leaf after {seconds:.0} s"
    ))
}
