//! The scenario of drift: somebody with an administrator's rights changes what is Espalier's, one property at a time, with
//! the AWS CLI. Each change is found and repaired; with `"drift": "report"` it is told and stays. What is not Espalier's
//! stays in any case.

pub(super) mod strangers;

use serde_json::{Value, json};

use super::deploy::{self, PORT};
use super::judge::{self, DOMAIN};
use super::load;
use super::look::{LIMIT, PAUSE, converged, forget, lattice, ours, provision, serves, steps};
use super::rotation::unharmed_through;
use super::watch::until;
use super::{CLIENT, Options, STACK, StoryError, Tale, look};
use crate::client::load::{Aim, Load, Pace};
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};
use strangers::Strangers;

/// Tells the scenario.
pub(super) async fn told(tale: &mut Tale, options: &Options, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    let strangers = Strangers::make(tale).await?;
    logged(tale, ui.phase("access logs")).await?;
    forget(tale).await?;
    unnoticed(tale, &strangers, options, report, ui.phase("drift under load")).await?;
    noticed(tale, ui.phase("drift that cuts")).await?;
    disowned(tale, ui.phase("a tag taken away")).await?;
    only_told(tale, ui.phase("drift only told")).await?;
    let phase = ui.phase("what is not ours");
    strangers.untouched(tale).await?;
    strangers.remove(tale).await?;
    converged(tale, &phase).await?;
    forget(tale).await?;
    phase.done("somebody else's target group and rule are as they were");
    Ok(())
}

/// What clients need not notice: they come all the while, and no handshake fails.
async fn unnoticed(
    tale: &Tale,
    strangers: &Strangers,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let client = judge::client(&tale.world, CLIENT, &tale.roots)?;
    let aim = Aim::Through { host: DOMAIN.to_owned(), port: PORT };
    let load = Load::start(&client, &aim, options.clients, &Pace::new(load::PAUSE));
    let drifted = quiet(tale, strangers, &phase).await;
    let seen = load.stop().await;
    let count = drifted?;
    unharmed_through(tale, Way::Drift, &seen, report)?;
    phase.done(&format!("{count} properties changed, found and repaired; {} handshakes, 0 failed", seen.attempted));
    Ok(())
}

async fn quiet(tale: &Tale, strangers: &Strangers, phase: &Phase) -> Result<usize, StoryError> {
    let (service, group) = (ours(tale, "svc-")?, ours(tale, "tg-")?);
    let (listener, vpc) = (ours(tale, "listener-")?, consumer(tale).await?);
    let forward = json!({"forward": {"targetGroups": [
        {"targetGroupIdentifier": group, "weight": 100},
        {"targetGroupIdentifier": strangers.group, "weight": 0}]}});
    let forward = forward.to_string();
    let check = json!({"enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1"}).to_string();
    let groups = deploy::output(&tale.network, "ConsumerAssociationGroupId")?;
    let more = deploy::output(&tale.network, "ClientGroupId")?;
    let target = tale.world.hosts.first().map(|host| format!("id={},port={PORT}", host.id)).unwrap_or_default();
    let of_service = ["--service-identifier", &service];
    let of_group = ["--target-group-identifier", &group];
    let of_listener = ["--listener-identifier", &listener, "--default-action", &forward];
    let of_vpc = ["--service-network-vpc-association-identifier", &vpc, "--security-group-ids", groups, more];
    let meddling: [(&str, Vec<&str>); 5] = [
        ("~ Service", [&["update-service"], &of_service[..], &["--idle-timeout-seconds", "300"]].concat()),
        ("~ Listener", [&["update-listener"], &of_service[..], &of_listener].concat()),
        ("~ TargetGroup", [&["update-target-group"], &of_group[..], &["--health-check", &check]].concat()),
        ("~ VpcAssociation", [&["update-service-network-vpc-association"], &of_vpc[..]].concat()),
        ("+ Targets", [&["deregister-targets"], &of_group[..], &["--targets", &target]].concat()),
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
    strangers::delete_record(tale).await?;
    repaired(tale, "+ Record", &phase).await?;
    serves(tale).await?;
    strangers::close_targets(tale).await?;
    repaired(tale, "+ Ingress", &phase).await?;
    serves(tale).await?;
    let of_service = ["--service-network-service-association-identifier", &association];
    let of_vpc = ["--service-network-vpc-association-identifier", &vpc];
    let of_listener = ["--service-identifier", &service, "--listener-identifier", &listener];
    let meddling: [(&str, Vec<&str>); 3] = [
        ("+ Listener", [&["delete-listener"], &of_listener[..]].concat()),
        ("+ ServiceAssociation", [&["delete-service-network-service-association"], &of_service[..]].concat()),
        ("+ VpcAssociation", [&["delete-service-network-vpc-association"], &of_vpc[..]].concat()),
    ];
    for (undone_by, arguments) in &meddling {
        lattice(tale, arguments).await?;
        repaired(tale, undone_by, &phase).await?;
        serves(tale).await?;
    }
    heard(tale, true, 2 + meddling.len()).await?;
    phase.done("record, rules, listener and both associations deleted by hand: made again, and clients served again");
    Ok(())
}

/// The spec wants access logs, somebody unsubscribes, the spec wants them elsewhere, and none again.
async fn logged(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    tale.spec["service"]["accessLogs"] = json!({"destinationArn": "arn:aws:s3:::espalier-access-logs"});
    tale.put_spec(true).await?;
    converged(tale, &phase).await?;
    let made = subscriptions(tale).await?;
    let [(id, _)] = made.as_slice() else { return Err(StoryError::Unmet(format!("not subscribed once: {made:?}"))) };
    lattice(tale, &["delete-access-log-subscription", "--access-log-subscription-identifier", id]).await?;
    repaired(tale, "+ AccessLogs", &phase).await?;
    let made = subscriptions(tale).await?;
    tale.spec["service"]["accessLogs"] = json!({"destinationArn": "arn:aws:s3:::espalier-more-access-logs"});
    tale.put_spec(true).await?;
    converged(tale, &phase).await?;
    // Not by whose hands: the event of the spec's change has `provision` look, too.
    let now = subscriptions(tale).await?;
    let is_led_elsewhere = match (made.as_slice(), now.as_slice()) {
        ([(id, _)], [(same, destination)]) => id == same && destination.ends_with("espalier-more-access-logs"),
        _ => false,
    };
    if !is_led_elsewhere {
        return Err(StoryError::Unmet(format!("not led elsewhere: {made:?}, and now {now:?}")));
    }
    if let Some(service) = tale.spec["service"].as_object_mut() {
        service.remove("accessLogs");
    }
    tale.put_spec(true).await?;
    converged(tale, &phase).await?;
    let left = subscriptions(tale).await?;
    if !left.is_empty() {
        return Err(StoryError::Unmet(format!("nobody wants them any more: {left:?}")));
    }
    phase.done("subscribed, subscribed again when somebody ended it, led elsewhere, and ended when the spec says so");
    Ok(())
}

/// The service's access-log subscriptions.
/// The service's subscriptions to access logs, each with where it leads.
async fn subscriptions(tale: &Tale) -> Result<Vec<(String, String)>, StoryError> {
    let service = ours(tale, "svc-")?;
    let list = lattice(tale, &["list-access-log-subscriptions", "--resource-identifier", &service]).await?;
    let items = list["items"].as_array().into_iter().flatten();
    let told = |one: &Value| Some((one["id"].as_str()?.to_owned(), one["destinationArn"].as_str()?.to_owned()));
    Ok(items.filter_map(told).collect())
}

/// Without our tag a resource is not ours any more: it blocks by name and is not touched.
async fn disowned(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let arn = look::arn(tale, "tg-")?;
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
    forget(tale).await?;
    phase.done("blocked as Foreign, untouched; ours again with its tag");
    Ok(())
}

/// With `report` the change is told and stays; with `repair` it goes.
async fn only_told(tale: &mut Tale, phase: Phase) -> Result<(), StoryError> {
    tale.spec["drift"] = "report".into();
    tale.put_spec(true).await?;
    converged(tale, &phase).await?;
    forget(tale).await?;
    let service = ours(tale, "svc-")?;
    let wanted = idle_timeout(tale, &service).await?;
    lattice(tale, &["update-service", "--service-identifier", &service, "--idle-timeout-seconds", "300"]).await?;
    let answer = provision(tale).await?;
    let mut blocks = answer["blocks"].as_array().into_iter().flatten();
    let told = blocks.any(|block| block["code"] == "Drifted" && block.to_string().contains("idle timeout"));
    let still = idle_timeout(tale, &service).await?;
    if !told || steps(&answer).next().is_some() || still != 300 {
        return Err(StoryError::Unmet(format!("the drift was not only told: {answer}; {still} s")));
    }
    heard(tale, false, 1).await?;
    metric(tale).await?;
    tale.spec["drift"] = "repair".into();
    tale.put_spec(true).await?;
    converged(tale, &phase).await?;
    let now = idle_timeout(tale, &service).await?;
    if now != wanted {
        return Err(StoryError::Unmet(format!("with repair the drift is still there: {now} s")));
    }
    phase.done("event, metric and block name it, nothing is changed; with repair it is put right");
    Ok(())
}

async fn idle_timeout(tale: &Tale, service: &str) -> Result<u64, StoryError> {
    let seen = lattice(tale, &["get-service", "--service-identifier", service]).await?;
    Ok(seen["idleTimeoutSeconds"].as_u64().unwrap_or_default())
}

/// Has `provision` look; what others did is undone by a step that begins so, and nothing is left to do.
async fn repaired(tale: &Tale, undone_by: &str, phase: &Phase) -> Result<(), StoryError> {
    phase.progress(&format!("waiting for {undone_by}"));
    let done = converged(tale, phase).await?;
    let Some(step) = done.iter().find(|step| step.starts_with(undone_by)) else {
        return Err(StoryError::Unmet(format!("nothing begins with {undone_by:?}: {done:?}")));
    };
    phase.note(step);
    Ok(())
}

/// Waits until `Stack Drifted` was heard so often.
async fn heard(tale: &Tale, repaired: bool, times: usize) -> Result<(), StoryError> {
    let mut count = 0;
    let all = until(LIMIT, PAUSE, async || {
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
    let said = until(LIMIT, PAUSE, async || {
        let log = tale.watch.log(&function).await?;
        let mut lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_it = |line: &Value| line["_aws"].is_object() && line["Stack"].is_string() && line["Drift"].is_number();
        Ok::<_, StoryError>(lines.any(|line| is_it(&line)).then_some(()))
    });
    said.await?.ok_or_else(|| StoryError::Unmet("the metric Drift is in no log".to_owned()))
}

/// The id of the consumers' VPC association.
async fn consumer(tale: &Tale) -> Result<String, StoryError> {
    let vpc = deploy::output(&tale.network, "ConsumerVpcId")?;
    let list = lattice(tale, &["list-service-network-vpc-associations", "--vpc-identifier", vpc]).await?;
    let id = list["items"][0]["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| StoryError::Unmet(format!("no association: {list}")))
}
