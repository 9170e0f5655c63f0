//! Strangers: resources with the names a second stack would use, made by somebody else. They block, by name, and stay.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::watch::until;
use super::super::{StoryError, Tale, deploy};
use super::{Since, ask, blocked, write_spec};
use crate::aws::{CallError, Endpoint, REGION};
use crate::ui::Phase;

/// The second stack: in the recipe's VPCs, with a name and a domain of its own.
const SECOND: &str = "second-service";
const DOMAIN: &str = "second-service.example.com";

/// Another address than any of ours: what the foreign record says.
const ELSEWHERE: &str = "127.0.1.250";

/// Makes the strangers, lets the second stack run into them, and takes both away again.
pub(super) async fn all(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let group = group_of_its_own(tale).await?;
    let spec = second_spec(tale, &group);
    let zone = zone(tale).await?;
    write_spec(tale, SECOND, Some(&spec.to_string())).await?;
    record(tale, &zone, "CREATE").await?;
    phase.progress("somebody else's service network, target group and service");
    let foreign = resources_of_others(tale, &spec).await?;
    in_the_way(tale, &foreign, &phase).await?;
    for id in foreign.values() {
        remove(tale, id).await?;
    }
    phase.progress("somebody else's record and service network");
    record_in_the_way(tale, &phase).await?;
    phase.progress("taking the second stack down");
    taken_down(tale, spec).await?;
    if !record_is(tale, &zone, ELSEWHERE).await? {
        return Err(StoryError::Unmet(format!("somebody else's record {DOMAIN} is not what it was")));
    }
    record(tale, &zone, "DELETE").await?;
    tale.world.aws().run(&["route53", "delete-hosted-zone", "--id", &zone, "--output", "json"]).await?;
    tale.world.aws().run(&["ec2", "delete-security-group", "--group-id", &group]).await?;
    write_spec(tale, SECOND, None).await?;
    phase.done("a foreign network, group, service, record and VPC association block, by name, and stay as they are");
    Ok(())
}

/// A security group whose owner lets the second stack write rules; the recipe's is the first one's.
async fn group_of_its_own(tale: &Tale) -> Result<String, StoryError> {
    let vpc = deploy::output(&tale.network, "VpcId")?;
    let tags = format!("ResourceType=security-group,Tags=[{{Key=espalier:stack,Value={SECOND}}}]");
    let create = ["ec2", "create-security-group", "--group-name", SECOND, "--description", SECOND, "--vpc-id", vpc];
    let made =
        tale.world.aws().run(&[&create[..], &["--tag-specifications", &tags, "--output", "json"]].concat()).await?;
    let id = made["GroupId"].as_str().map(str::to_owned);
    id.ok_or_else(|| StoryError::Unmet(format!("no security group was made: {made}")))
}

fn second_spec(tale: &Tale, group: &str) -> Value {
    let mut spec = tale.spec.clone();
    spec["stack"] = json!(SECOND);
    // The emulator makes a template's zones public: this one is made by hand, and found by its name.
    spec["service"]["dns"] = json!({"hostedZoneName": DOMAIN});
    spec["service"]["domainName"] = json!(DOMAIN);
    spec["certificate"]["dnsNames"] = json!([DOMAIN]);
    spec["targets"]["securityGroupId"] = json!(group);
    spec["targets"]["select"] = json!({"tag": {"key": "espalier:stack", "value": SECOND}});
    spec
}

/// While all three names are taken, each is named with its id, and nothing is made but rules in its own group.
async fn in_the_way(tale: &Tale, foreign: &BTreeMap<&str, String>, phase: &Phase) -> Result<(), StoryError> {
    // Its own group's rules are its own to make, whoever has its other names.
    ask(tale, "provision", &json!({"stack": SECOND})).await?;
    let (before, since) = (tale.world.lattice.resources(), Since::now(tale));
    for mode in ["plan", "apply"] {
        let answer = ask(tale, "provision", &json!({"stack": SECOND, "mode": mode})).await?;
        blocked(&answer, "Foreign")?;
        let said = foreign_blocks(&answer);
        for (what, id) in foreign {
            let Some(block) = said.iter().find(|block| block.contains(id.as_str()) && block.starts_with(what)) else {
                return Err(StoryError::Unmet(format!("no block names the foreign {what} {id}: {answer}")));
            };
            if mode == "plan" {
                phase.note(block);
            }
        }
    }
    since.nothing_changed(tale, "names that are taken")?;
    let after = tale.world.lattice.resources();
    if before != after {
        return Err(StoryError::Unmet(format!("strangers were {before:?} and are {after:?}")));
    }
    Ok(())
}

/// With the names free the stack is built, as far as the VPCs' own network and the record leave it room.
async fn record_in_the_way(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    let answer = until(Duration::from_secs(120), Duration::from_millis(500), async || {
        let answer = ask(tale, "provision", &json!({"stack": SECOND})).await?;
        Ok::<_, StoryError>((answer["outcome"] == "blocked").then_some(answer))
    });
    let answer = answer.await?.unwrap_or_default();
    let said = foreign_blocks(&answer);
    for named in [format!("A record {DOMAIN} exists"), "is associated with service network".to_owned()] {
        let Some(block) = said.iter().find(|block| block.contains(&named)) else {
            return Err(StoryError::Unmet(format!("no block says {named:?}: {answer}")));
        };
        phase.note(block);
    }
    Ok(())
}

fn foreign_blocks(answer: &Value) -> Vec<String> {
    let blocks = answer["blocks"].as_array().into_iter().flatten();
    blocks
        .filter(|block| block["code"] == "Foreign")
        .filter_map(|block| block["because"].as_str())
        .map(str::to_owned)
        .collect()
}

/// Only what is the second stack's own goes.
async fn taken_down(tale: &Tale, mut spec: Value) -> Result<(), StoryError> {
    spec["state"] = json!("absent");
    spec["deletionProtection"] = json!(false);
    write_spec(tale, SECOND, Some(&spec.to_string())).await?;
    let down = until(Duration::from_secs(120), Duration::from_millis(500), async || {
        let answer = ask(tale, "provision", &json!({"stack": SECOND})).await?;
        Ok::<_, StoryError>((answer["outcome"] == "converged").then_some(()))
    });
    down.await?.ok_or_else(|| StoryError::Unmet("the second stack did not come down".to_owned()))
}

/// Made by hand, without our tag; what it is and its id.
async fn resources_of_others(tale: &Tale, spec: &Value) -> Result<BTreeMap<&'static str, String>, StoryError> {
    let lattice = Endpoint::new("vpc-lattice", &format!("http://{}", tale.world.lattice.address()));
    let plan = ask(tale, "provision", &json!({"stack": SECOND, "mode": "plan"})).await?;
    let group = planned_group(&plan).ok_or_else(|| StoryError::Unmet(format!("no target group is planned: {plan}")))?;
    let network = json!({"name": format!("{SECOND}-network")});
    let group = json!({"name": group, "type": "INSTANCE", "config": {
        "port": spec["targets"]["port"], "protocol": "TCP", "vpcIdentifier": spec["network"]["vpcId"]}});
    let service = json!({"name": SECOND, "tags": {"espalier:stack": "somebody-else"}});
    let mut made = BTreeMap::new();
    for (what, path, body) in [
        ("service network", "/servicenetworks", network),
        ("target group", "/targetgroups", group),
        ("service", "/services", service),
    ] {
        let answer = lattice.post("Create", path, &body).await?;
        made.insert(what, answer["id"].as_str().unwrap_or_default().to_owned());
    }
    Ok(made)
}

/// The name the second stack would give its target group.
fn planned_group(plan: &Value) -> Option<String> {
    let steps = plan["steps"].as_array()?.iter().filter_map(|step| step["action"].as_str());
    steps.filter_map(|action| action.strip_prefix("+ TargetGroup ")).map(str::to_owned).next()
}

async fn remove(tale: &Tale, id: &str) -> Result<(), StoryError> {
    let lattice = Endpoint::new("vpc-lattice", &format!("http://{}", tale.world.lattice.address()));
    let path = match id.split('-').next() {
        Some("sn") => "/servicenetworks/",
        Some("tg") => "/targetgroups/",
        _ => "/services/",
    };
    let gone = until(Duration::from_secs(30), Duration::from_millis(200), async || {
        if !tale.world.lattice.resources().keys().any(|arn| arn.ends_with(id)) {
            return Ok(Some(()));
        }
        match lattice.delete("Delete", &format!("{path}{id}")).await {
            // Not yet active, or already going.
            Ok(_) | Err(CallError::Refused { status: 404 | 409, .. }) => Ok(None),
            Err(error) => Err(StoryError::from(error)),
        }
    });
    gone.await?.ok_or_else(|| StoryError::Unmet(format!("{id} did not go")))
}

/// A private zone of somebody else's in the consumers' VPC; its id.
async fn zone(tale: &Tale) -> Result<String, StoryError> {
    let vpc = format!("VPCRegion={REGION},VPCId={}", deploy::output(&tale.network, "ConsumerVpcId")?);
    let create = ["route53", "create-hosted-zone", "--name", DOMAIN, "--caller-reference", "theirs", "--vpc", &vpc];
    let config = ["--hosted-zone-config", "PrivateZone=true,Comment=theirs", "--output", "json"];
    let made = tale.world.aws().run(&[&create[..], &config].concat()).await?;
    let id = made["HostedZone"]["Id"].as_str().map(str::to_owned);
    id.ok_or_else(|| StoryError::Unmet(format!("no zone was made: {made}")))
}

/// Writes or removes the foreign record, as its owner would.
async fn record(tale: &Tale, zone: &str, action: &str) -> Result<(), StoryError> {
    let batch = json!({"Changes": [{"Action": action, "ResourceRecordSet": {
        "Name": DOMAIN, "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": ELSEWHERE}]}}]});
    let batch = batch.to_string();
    let change = ["route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch", &batch];
    tale.world.aws().run(&change).await?;
    Ok(())
}

async fn record_is(tale: &Tale, zone: &str, address: &str) -> Result<bool, StoryError> {
    let list = ["route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--output", "json"];
    let answer = tale.world.aws().run(&list).await?;
    let mut records = answer["ResourceRecordSets"].as_array().into_iter().flatten();
    Ok(records.any(|record| {
        let name = record["Name"].as_str().unwrap_or_default().trim_end_matches('.');
        name == DOMAIN && record["ResourceRecords"][0]["Value"] == address
    }))
}
