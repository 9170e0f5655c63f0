//! The scenario of a certificate that the spec asks to be requested: nobody but Espalier and ACM has a hand in it, and a
//! validation record that somebody deletes is written again when ACM needs it.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::judge::DOMAIN;
use super::super::rotation::roots;
use super::super::watch::until;
use super::super::{Options, StoryError, Tale};
use super::{LIMIT, LOOK, exported_once, exports, is_served, rolled_out, served_anew};
use crate::acm::Kind;
use crate::dns::public_cnames;
use crate::report::Report;
use crate::ui::{Phase, Ui};

/// A second name, so that there are two records.
const OTHER: &str = "www.example.com";

/// Tells it. The stack goes on serving from ACM.
pub(in super::super) async fn told(
    tale: &mut Tale,
    options: &Options,
    report: &mut Report,
    ui: &Ui,
) -> Result<(), StoryError> {
    lapsing(tale, ui.phase("a certificate nobody uses")).await?;
    let zone = public_zone(tale).await?;
    let arn = requested(tale, &zone, ui.phase("requested of ACM")).await?;
    repaired(tale, &zone, &arn, options, report, ui.phase("a validation record is gone")).await
}

/// A certificate that no stack uses comes to its end, and ACM says so every day: it is told once, and nothing else happens.
async fn lapsing(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let (acm, now) = (&tale.world.acm, OffsetDateTime::now_utc());
    let arn = acm.issue_exportable("unused.example.com", Kind::Private, now).await;
    let arn = arn.map_err(StoryError::io("making a certificate of ACM's"))?;
    let exports = exports(tale);
    for day in 1..=2 {
        let before = described(tale);
        acm.expire_soon(&arn, 20, now).await;
        let looked = until(LIMIT, LOOK, async || {
            phase.progress(&format!("day {day}"));
            let is_told = told_lapsing(tale, &arn).await? >= 1;
            Ok::<_, StoryError>((described(tale) > before && is_told).then_some(()))
        });
        looked.await?.ok_or_else(|| StoryError::Unmet(format!("nobody told that {arn} lapses")))?;
    }
    // Time for a second line that should not come.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    match (told_lapsing(tale, &arn).await?, self::exports(tale) - exports) {
        (1, 0) => {
            phase.done("two days' events about it: told once, with why and what to do; nothing was exported");
            Ok(())
        }
        (lines, exports) => Err(StoryError::Unmet(format!("{arn} was told {lines} times, {exports} exports"))),
    }
}

/// How many lines of `rotate`'s log tell that it lapses.
async fn told_lapsing(tale: &Tale, arn: &str) -> Result<usize, StoryError> {
    let lines = tale.watch.log_group(&format!("/aws/lambda/{}", tale.function("rotate"))).await?;
    Ok(lines.iter().filter(|line| line.contains("AcmLapsing") && line.contains(arn)).count())
}

fn described(tale: &Tale) -> u64 {
    tale.world.gateway.counts().get("acm.DescribeCertificate").copied().unwrap_or_default()
}

/// A public zone of the private one's name, as its owner would have one.
async fn public_zone(tale: &Tale) -> Result<String, StoryError> {
    let name = DOMAIN.split_once('.').map_or(DOMAIN, |(_, zone)| zone);
    let create =
        ["route53", "create-hosted-zone", "--name", name, "--caller-reference", "lab-public", "--output", "json"];
    let made = tale.world.aws().run(&create).await?;
    let id = made["HostedZone"]["Id"].as_str().and_then(|id| id.rsplit('/').next());
    id.map(str::to_owned).ok_or_else(|| StoryError::Unmet(format!("no public zone was made: {made}")))
}

async fn requested(tale: &mut Tale, zone: &str, phase: Phase) -> Result<String, StoryError> {
    let certificate = json!({"issuer": {"kind": "acm", "request": {"hostedZoneId": zone}},
        "dnsNames": [DOMAIN, OTHER], "renewBeforeHours": 336});
    let former = std::mem::replace(&mut tale.spec["certificate"], certificate);
    tale.former_certificate.get_or_insert(former);
    let (before, begun) = (exports(tale), Instant::now());
    rolled_out(tale, &phase).await?;
    tale.roots = roots(tale).await?;
    let arns = tale.world.acm.requested();
    let [arn] = arns.as_slice() else {
        return Err(StoryError::Unmet(format!("{} certificates were requested: {arns:?}", arns.len())));
    };
    is_served(tale, arn).await?;
    exported_once(tale, before)?;
    let (records, wanted) = (written(tale).await?, tale.world.acm.validation_names(arn));
    if records != wanted || wanted.len() != 2 {
        return Err(StoryError::Unmet(format!("validation records {records:?}, ACM wants {wanted:?}")));
    }
    // As after a crash: whoever looks again requests nothing more.
    tale.watch.invoke(&tale.function("provision"), &json!({"stack": super::super::STACK})).await?;
    if tale.world.acm.requested().len() != 1 {
        return Err(StoryError::Unmet("a second certificate was requested".to_owned()));
    }
    let seconds = begun.elapsed().as_secs_f64();
    phase.done(&format!(
        "from the spec to verified handshakes in {seconds:.1} s: one certificate requested, 2 validation records written, one export"
    ));
    Ok(arn.clone())
}

/// Somebody deletes a validation record, ACM wants to renew and cannot: it is written again, and the renewal is served.
async fn repaired(
    tale: &Tale,
    zone: &str,
    arn: &str,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let names = tale.world.acm.validation_names(arn);
    let gone = names.first().cloned().unwrap_or_default();
    delete(tale, zone, &gone).await?;
    if written(tale).await?.contains(&gone) {
        return Err(StoryError::Unmet(format!("{gone} is still there")));
    }
    let renewal = async {
        tale.watch.hear().await?;
        tale.world.acm.renew_when_validated(arn).await;
        Ok(())
    };
    let (seconds, attempted) = served_anew(tale, arn, renewal, options, report, &phase).await?;
    let is_back =
        until(LIMIT, LOOK, async || Ok::<_, StoryError>((written(tale).await? == names).then_some(()))).await?;
    is_back.ok_or_else(|| StoryError::Unmet(format!("{gone} was not written again")))?;
    phase.done(&format!(
        "written again by ACM's event, renewed and served in {seconds:.1} s; {attempted} handshakes meanwhile, 0 failed"
    ));
    Ok(())
}

/// The validation records that the public zone has.
async fn written(tale: &Tale) -> Result<BTreeSet<String>, StoryError> {
    let records = public_cnames(&tale.world.moto).await.map_err(StoryError::boxed("reading the public zone"))?;
    Ok(records.into_keys().filter(|name| name.starts_with('_')).collect())
}

async fn delete(tale: &Tale, zone: &str, name: &str) -> Result<(), StoryError> {
    let list = ["route53", "list-resource-record-sets", "--hosted-zone-id", zone, "--output", "json"];
    let listed = tale.world.aws().run(&list).await?;
    let mut sets = listed["ResourceRecordSets"].as_array().into_iter().flatten();
    let is_it = |set: &&Value| set["Name"].as_str().is_some_and(|held| held.trim_end_matches('.') == name);
    let set = sets.find(is_it).ok_or_else(|| StoryError::Unmet(format!("{name} is not in {listed}")))?;
    let batch = json!({"Changes": [{"Action": "DELETE", "ResourceRecordSet": set}]}).to_string();
    let change = ["route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch", &batch];
    tale.world.aws().run(&change).await?;
    Ok(())
}
