//! The scenario of drift: somebody with an administrator's rights changes what is Espalier's, one property at a time, with
//! the AWS CLI. Each change is found and repaired; with `"drift": "report"` it is told and stays. What is not Espalier's
//! stays in any case.

use std::time::Duration;

use serde_json::{Value, json};

use super::deploy::{self, PORT};
use super::judge::{self, DOMAIN};
use super::load::PAUSE;
use super::rotation::{merge, row};
use super::watch::until;
use super::{CLIENT, Options, STACK, StoryError, Tale};
use crate::client::load::{Aim, Load, Pace};
use crate::report::Report;
use crate::ui::{Phase, Ui};

const LIMIT: Duration = Duration::from_secs(120);

const LOOK: Duration = Duration::from_millis(300);

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let foreign = foreign_group(tale).await?;
    let rule = foreign_rule(tale).await?;
    unnoticed(tale, &foreign, options, report, ui.phase("drift under load")).await?;
    noticed(tale, ui.phase("drift that cuts")).await?;
    disowned(tale, ui.phase("a tag taken away")).await?;
    only_told(tale, ui.phase("drift only told")).await?;
    untouched(tale, &foreign, &rule, ui.phase("what is not ours")).await
}

/// What clients need not notice: they come all the while, and no handshake fails.
async fn unnoticed(
    tale: &Tale,
    foreign: &str,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let aim = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
    let load = Load::start(&client, &aim, options.clients, &Pace::new(PAUSE));
    let drifted = quiet(tale, foreign, &phase).await;
    let seen = load.stop().await;
    let count = drifted?;
    merge(&mut report.handshakes, &seen);
    report.add(row("drift", "through", 0, &seen));
    if seen.failed > 0 {
        return Err(StoryError::Unmet(format!(
            "{} of {} handshakes failed: {:?}",
            seen.failed, seen.attempted, seen.first_failures
        )));
    }
    phase.done(&format!("{count} properties changed, found and repaired; {} handshakes, 0 failed", seen.attempted));
    Ok(())
}

async fn quiet(tale: &Tale, foreign: &str, phase: &Phase) -> Result<usize, StoryError> {
    let (service, group) = (ours(tale, "svc-")?, ours(tale, "tg-")?);
    let (listener, vpc) = (ours(tale, "listener-")?, consumer(tale).await?);
    let forward = json!({"forward": {"targetGroups": [
        {"targetGroupIdentifier": group, "weight": 100}, {"targetGroupIdentifier": foreign, "weight": 0}]}});
    let forward = forward.to_string();
    let check = json!({"enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1"}).to_string();
    let groups = deploy::output(&tale.network, "ConsumerAssociationGroupId")?;
    let more = deploy::output(&tale.network, "ProberAssociationGroupId")?;
    let target = tale.world.hosts.first().map(|host| format!("id={},port={PORT}", host.id)).unwrap_or_default();
    let meddling: [(&str, Vec<&str>); 5] = [
        ("~ Service", vec!["update-service", "--service-identifier", &service, "--idle-timeout-seconds", "300"]),
        (
            "~ Listener",
            vec![
                "update-listener",
                "--service-identifier",
                &service,
                "--listener-identifier",
                &listener,
                "--default-action",
                &forward,
            ],
        ),
        ("~ TargetGroup", vec!["update-target-group", "--target-group-identifier", &group, "--health-check", &check]),
        (
            "~ VpcAssociation",
            vec![
                "update-service-network-vpc-association",
                "--service-network-vpc-association-identifier",
                &vpc,
                "--security-group-ids",
                groups,
                more,
            ],
        ),
        ("+ Targets", vec!["deregister-targets", "--target-group-identifier", &group, "--targets", &target]),
    ];
    for (undone_by, arguments) in &meddling {
        lattice(tale, arguments).await?;
        repaired(tale, undone_by, phase).await?;
    }
    // The fleet is no drift: four of the five are told.
    heard(tale, true, meddling.len() - 1).await?;
    Ok(meddling.len())
}

/// What cuts clients off: the service is there again afterwards.
async fn noticed(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let (service, listener) = (ours(tale, "svc-")?, ours(tale, "listener-")?);
    let (association, vpc) = (ours(tale, "snsa-")?, consumer(tale).await?);
    record(tale).await?;
    repaired(tale, "+ Record", &phase).await?;
    serves(tale).await?;
    revoke(tale).await?;
    repaired(tale, "+ Ingress", &phase).await?;
    serves(tale).await?;
    let delete_service = "delete-service-network-service-association";
    let delete_vpc = "delete-service-network-vpc-association";
    let meddling: [(&str, Vec<&str>); 3] = [
        ("+ Listener", vec!["delete-listener", "--service-identifier", &service, "--listener-identifier", &listener]),
        (
            "+ ServiceAssociation",
            vec![delete_service, "--service-network-service-association-identifier", &association],
        ),
        ("+ VpcAssociation", vec![delete_vpc, "--service-network-vpc-association-identifier", &vpc]),
    ];
    for (undone_by, arguments) in &meddling {
        lattice(tale, arguments).await?;
        repaired(tale, undone_by, &phase).await?;
        serves(tale).await?;
    }
    heard(tale, true, 2 + meddling.len()).await?;
    phase.done("record, rule, listener and both associations deleted by hand: made again, and clients served again");
    Ok(())
}

/// Without our tag a resource is not ours any more: it blocks by name and is not touched.
async fn disowned(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let arn = format!("arn:aws:vpc-lattice:eu-west-1:000000000000:targetgroup/{}", ours(tale, "tg-")?);
    lattice(tale, &["untag-resource", "--resource-arn", &arn, "--tag-keys", "espalier:stack"]).await?;
    let answer = provision(tale).await?;
    let mut blocks = answer["blocks"].as_array().into_iter().flatten();
    if !blocks.any(|block| block["code"] == "Foreign") || steps(&answer).next().is_some() {
        return Err(StoryError::Unmet(format!("a group without our tag is not foreign: {answer}")));
    }
    let tag = format!("espalier:stack={STACK}");
    lattice(tale, &["tag-resource", "--resource-arn", &arn, "--tags", &tag]).await?;
    converged(tale, &phase).await?;
    serves(tale).await?;
    phase.done("blocked as Foreign, untouched; ours again with its tag");
    Ok(())
}

/// With `report` the change is told and stays; with `repair` it goes.
async fn only_told(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    tale.spec["drift"] = "report".into();
    tale.put_spec(true).await?;
    converged(tale, &phase).await?;
    let service = ours(tale, "svc-")?;
    let update = ["update-service", "--service-identifier", &service, "--idle-timeout-seconds", "300"];
    lattice(tale, &update).await?;
    let answer = provision(tale).await?;
    let mut blocks = answer["blocks"].as_array().into_iter().flatten();
    let told = blocks.any(|block| block["code"] == "Drifted" && block.to_string().contains("idle timeout"));
    let still = lattice(tale, &["get-service", "--service-identifier", &service]).await?;
    if !told || steps(&answer).next().is_some() || still["idleTimeoutSeconds"] != 300 {
        return Err(StoryError::Unmet(format!("the drift was not only told: {answer}; {still}")));
    }
    heard(tale, false, 1).await?;
    metric(tale).await?;
    tale.spec.as_object_mut().map(|spec| spec.remove("drift"));
    tale.put_spec(true).await?;
    converged(tale, &phase).await?;
    let now = lattice(tale, &["get-service", "--service-identifier", &service]).await?;
    if now["idleTimeoutSeconds"] != 60 {
        return Err(StoryError::Unmet(format!("with repair the drift is still there: {now}")));
    }
    phase.done("event, metric and block name it, nothing is changed; with repair it is put right");
    Ok(())
}

/// What others made is as they made it.
async fn untouched(tale: &Tale, foreign: &str, rule: &str, phase: Phase) -> Result<(), StoryError> {
    let list = ["ec2", "describe-security-group-rules", "--security-group-rule-ids", rule, "--output", "json"];
    let seen = tale.world.aws().run(&list).await?;
    let group = lattice(tale, &["get-target-group", "--target-group-identifier", foreign]).await?;
    if group["status"] != "ACTIVE" || seen["SecurityGroupRules"][0]["CidrIpv4"] != "127.9.9.0/24" {
        return Err(StoryError::Unmet(format!("what is not ours was touched: {group}, {seen}")));
    }
    lattice(tale, &["delete-target-group", "--target-group-identifier", foreign]).await?;
    let targets = deploy::output(&tale.network, "TargetGroupId")?;
    let revoke = ["ec2", "revoke-security-group-ingress", "--group-id", targets, "--security-group-rule-ids", rule];
    tale.world.aws().run(&revoke).await?;
    converged(tale, &phase).await?;
    // What was told on the way is not awaited.
    while !tale.watch.hear().await?.is_empty() {}
    phase.done("somebody else's target group and rule are as they were");
    Ok(())
}

/// Has `provision` look; what others did is undone by a step that begins so, and nothing is left to do.
async fn repaired(tale: &Tale, undone_by: &str, phase: &Phase) -> Result<(), StoryError> {
    phase.progress(&format!("waiting for {undone_by}"));
    let answer = provision(tale).await?;
    let Some(step) = steps(&answer).find(|step| step.starts_with(undone_by)) else {
        return Err(StoryError::Unmet(format!("nothing begins with {undone_by:?}: {answer}")));
    };
    phase.note(&step);
    converged(tale, phase).await
}

async fn converged(tale: &Tale, phase: &Phase) -> Result<(), StoryError> {
    let mut last = Value::Null;
    let found = until(LIMIT, LOOK, async || {
        phase.progress("waiting until nothing is left to do");
        last = provision(tale).await?;
        Ok::<_, StoryError>((last["outcome"] == "converged").then_some(()))
    });
    let found = found.await?;
    found.ok_or_else(|| StoryError::Unmet(format!("not settled within {} s: {last}", LIMIT.as_secs())))
}

async fn provision(tale: &Tale) -> Result<Value, StoryError> {
    let answer = tale.watch.invoke(&tale.function("provision"), &json!({"stack": STACK})).await?;
    if answer["errorType"].is_string() {
        return Err(StoryError::Unmet(format!("provision failed: {answer}")));
    }
    Ok(answer)
}

fn steps(answer: &Value) -> impl Iterator<Item = String> {
    let list = answer["steps"].as_array().into_iter().flatten();
    list.filter_map(|step| step["action"].as_str().map(str::to_owned))
}

/// Waits until `Stack Drifted` was heard so often.
async fn heard(tale: &Tale, repaired: bool, times: usize) -> Result<(), StoryError> {
    let mut count = 0;
    let all = until(LIMIT, LOOK, async || {
        let heard = tale.watch.hear().await?;
        let is_it = |kind: &str, detail: &Value| kind == "Stack Drifted" && detail["repaired"] == repaired;
        count += heard.iter().filter(|heard| is_it(&heard.kind, &heard.detail)).count();
        Ok::<_, StoryError>((count >= times).then_some(()))
    });
    let all = all.await?;
    all.ok_or_else(|| StoryError::Unmet(format!("Stack Drifted was heard {count} times, not {times}")))
}

/// The log has the metric in CloudWatch's embedded format.
async fn metric(tale: &Tale) -> Result<(), StoryError> {
    let function = tale.function("provision");
    let said = until(LIMIT, LOOK, async || {
        let log = tale.watch.log(&function).await?;
        let mut lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_it = |line: &Value| line["_aws"].is_object() && line["Stack"] == STACK && line["Drift"].is_number();
        Ok::<_, StoryError>(lines.any(|line| is_it(&line)).then_some(()))
    });
    said.await?.ok_or_else(|| StoryError::Unmet("the metric Drift is in no log".to_owned()))
}

async fn serves(tale: &Tale) -> Result<(), StoryError> {
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let mut last = String::new();
    let reached = until(LIMIT, LOOK, async || {
        let tried = client.get(DOMAIN, PORT, "/").await;
        Ok::<_, StoryError>(tried.map_err(|error| last = error.to_string()).ok())
    });
    let reached = reached.await?.map(|_| ());
    reached.ok_or_else(|| StoryError::Unmet(format!("clients do not reach the service again: {last}")))
}

async fn lattice(tale: &Tale, arguments: &[&str]) -> Result<Value, StoryError> {
    let mut all = vec!["vpc-lattice"];
    all.extend(arguments);
    all.extend(["--output", "json"]);
    Ok(tale.world.aws().run(&all).await?)
}

/// The id of the stack's resource of a kind.
fn ours(tale: &Tale, prefix: &str) -> Result<String, StoryError> {
    let tagged = tale.world.lattice.resources().into_iter();
    let tagged = tagged.filter(|(_, tags)| tags.get("espalier:stack").is_some_and(|stack| stack == STACK));
    let mut ids = tagged.filter_map(|(arn, _)| arn.rsplit('/').next().map(str::to_owned));
    ids.find(|id| id.starts_with(prefix)).ok_or_else(|| StoryError::Unmet(format!("the stack has no {prefix}...")))
}

/// The id of the consumers' VPC association.
async fn consumer(tale: &Tale) -> Result<String, StoryError> {
    let vpc = deploy::output(&tale.network, "ConsumerVpcId")?;
    let list = lattice(tale, &["list-service-network-vpc-associations", "--vpc-identifier", vpc]).await?;
    list["items"][0]["id"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| StoryError::Unmet(format!("no association: {list}")))
}

async fn foreign_group(tale: &Tale) -> Result<String, StoryError> {
    let vpc = deploy::output(&tale.network, "VpcId")?;
    let config = json!({"port": PORT, "protocol": "TCP", "vpcIdentifier": vpc}).to_string();
    let create = ["create-target-group", "--name", "somebody-elses", "--type", "INSTANCE", "--config", &config];
    let made = lattice(tale, &create).await?;
    let id = made["id"].as_str().unwrap_or_default().to_owned();
    let active = until(LIMIT, LOOK, async || {
        let seen = lattice(tale, &["get-target-group", "--target-group-identifier", &id]).await?;
        Ok::<_, StoryError>((seen["status"] == "ACTIVE").then_some(()))
    });
    active.await?.ok_or_else(|| StoryError::Unmet(format!("{id} does not become active")))?;
    Ok(id)
}

async fn foreign_rule(tale: &Tale) -> Result<String, StoryError> {
    let group = deploy::output(&tale.network, "TargetGroupId")?;
    let rule = ["--protocol", "tcp", "--port", "9999", "--cidr", "127.9.9.0/24", "--output", "json"];
    let mut all = vec!["ec2", "authorize-security-group-ingress", "--group-id", group];
    all.extend(rule);
    let made = tale.world.aws().run(&all).await?;
    let id = made["SecurityGroupRules"][0]["SecurityGroupRuleId"].as_str();
    id.map(str::to_owned).ok_or_else(|| StoryError::Unmet(format!("no rule was made: {made}")))
}

/// Deletes the service's record.
async fn record(tale: &Tale) -> Result<(), StoryError> {
    let zone = deploy::output(&tale.network, "ZoneId")?;
    let list = ["route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--output", "json"];
    let records = tale.world.aws().run(&list).await?;
    let mut records = records["ResourceRecordSets"].as_array().into_iter().flatten();
    let record = records.find(|one| one["Name"].as_str().is_some_and(|name| name.trim_end_matches('.') == DOMAIN));
    let batch = json!({"Changes": [{"Action": "DELETE", "ResourceRecordSet": record}]}).to_string();
    let change = ["route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch", &batch];
    tale.world.aws().run(&change).await?;
    Ok(())
}

/// Closes the targets' port to VPC Lattice.
async fn revoke(tale: &Tale) -> Result<(), StoryError> {
    let group = deploy::output(&tale.network, "TargetGroupId")?;
    let filter = format!("Name=group-id,Values={group}");
    let list = ["ec2", "describe-security-group-rules", "--filters", &filter, "--output", "json"];
    let rules = tale.world.aws().run(&list).await?;
    let mut rules = rules["SecurityGroupRules"].as_array().into_iter().flatten();
    let rule = rules.find(|rule| rule["PrefixListId"].is_string() && rule["IsEgress"] != true);
    let id = rule.and_then(|rule| rule["SecurityGroupRuleId"].as_str()).unwrap_or_default().to_owned();
    let revoke = ["ec2", "revoke-security-group-ingress", "--group-id", group, "--security-group-rule-ids", &id];
    tale.world.aws().run(&revoke).await?;
    Ok(())
}
