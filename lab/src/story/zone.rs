//! The service's name moves into a private hosted zone of the stack's own, and back: clients resolve it there, in the
//! consumers' VPCs and nowhere else; a zone that holds somebody else's record stays until that is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::deploy;
use super::judge::DOMAIN;
use super::look::{LIMIT, PAUSE, converged, forget, provision, serves, steps};
use super::watch::until;
use super::{OUTSIDER, StoryError, Tale};
use crate::dns;
use crate::ui::Phase;

/// What somebody else keeps in the stack's zone.
const THEIRS: &str = "_theirs";

/// The zone is made, and clients are served through it.
pub(super) async fn made(tale: &mut Tale, phase: &Phase) -> Result<(), StoryError> {
    tale.spec["service"]["dns"] = json!({"privateZone": {"name": DOMAIN}});
    tale.put_spec(true).await?;
    // The spec's own change event has `provision` look, too: who of the two takes which step is open.
    converged(tale, phase).await?;
    let zone = zone(tale).await?.ok_or_else(|| StoryError::Unmet("the stack has no zone".to_owned()))?;
    let seen = tale.world.aws().run(&["route53", "get-hosted-zone", "--id", &zone, "--output", "json"]).await?;
    let vpcs: BTreeSet<&str> =
        seen["VPCs"].as_array().into_iter().flatten().filter_map(|vpc| vpc["VPCId"].as_str()).collect();
    let wanted = ["VpcId", "ConsumerVpcId"].map(|name| deploy::output(&tale.network, name));
    let [targets, consumers] = wanted;
    if vpcs != BTreeSet::from([targets?, consumers?]) {
        return Err(StoryError::Unmet(format!("the zone is not in the consumers' VPCs: {seen}")));
    }
    phase.note(&format!("{zone} in {vpcs:?}"));
    serves(tale).await?;
    let found = resolved(tale, OUTSIDER).await;
    if !matches!(found, Err(dns::ResolveError::Refused(_))) {
        return Err(StoryError::Unmet(format!("{DOMAIN} resolves outside the consumers' VPCs: {found:?}")));
    }
    Ok(())
}

/// The record goes back where the recipe has it, and the zone goes when it is empty.
pub(super) async fn given_up(tale: &mut Tale, former: &Value, phase: &Phase) -> Result<(), StoryError> {
    let zone = zone(tale).await?.ok_or_else(|| StoryError::Unmet("the stack has no zone".to_owned()))?;
    record(tale, &zone, "CREATE").await?;
    tale.spec["service"]["dns"] = former.clone();
    tale.put_spec(true).await?;
    let mut last = Value::Null;
    let named = until(LIMIT, PAUSE, async || {
        phase.progress("waiting until only somebody else's record is in the way");
        last = provision(tale).await?;
        let mut blocks = last["blocks"].as_array().into_iter().flatten();
        let named = blocks.any(|block| block["code"] == "Foreign" && block["because"].to_string().contains(THEIRS));
        Ok::<_, StoryError>((named && steps(&last).next().is_none()).then_some(()))
    });
    named.await?.ok_or_else(|| StoryError::Unmet(format!("nobody names the record {THEIRS}: {last}")))?;
    serves(tale).await?;
    record(tale, &zone, "DELETE").await?;
    converged(tale, phase).await?;
    if let Some(zone) = self::zone(tale).await? {
        return Err(StoryError::Unmet(format!("{zone} is still there")));
    }
    serves(tale).await?;
    forget(tale).await
}

/// What the service's name leads to from this address.
async fn resolved(tale: &Tale, from: IpAddr) -> Result<Vec<std::net::Ipv4Addr>, dns::ResolveError> {
    dns::resolve(from, tale.world.dns.address(), DOMAIN).await
}

/// The id of the zone whose comment says that it is a stack's.
pub(super) async fn zone(tale: &Tale) -> Result<Option<String>, StoryError> {
    let list = tale.world.aws().run(&["route53", "list-hosted-zones", "--output", "json"]).await?;
    let mut zones = list["HostedZones"].as_array().into_iter().flatten();
    let ours = |zone: &&Value| zone["Config"]["Comment"].as_str().is_some_and(|text| text.starts_with("espalier:"));
    Ok(zones.find(ours).and_then(|zone| zone["Id"].as_str()).map(str::to_owned))
}

/// Somebody writes or removes a record of theirs in it.
async fn record(tale: &Tale, zone: &str, action: &str) -> Result<(), StoryError> {
    let batch = json!({"Changes": [{"Action": action, "ResourceRecordSet": {"Name": format!("{THEIRS}.{DOMAIN}"),
        "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": "\"kept\""}]}}]});
    let batch = batch.to_string();
    let change = ["route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch", &batch];
    tale.world.aws().run(&change).await?;
    Ok(())
}
