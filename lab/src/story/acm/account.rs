//! The scenario of a certificate in another account: read and exported in sessions of that account's roles, renewed when its
//! events are forwarded; and refused, told with the remedy, as long as its owner has not let Espalier in.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::deploy::{output, workspace};
use super::super::judge::DOMAIN;
use super::super::rotation::roots;
use super::super::{Options, StoryError, Tale};
use super::{Heard, LIMIT, exported_once, exports, is_served, outcome, renewed};
use crate::acm::Kind;
use crate::aws::{EXTERNAL_ID, OTHER_ACCOUNT};
use crate::events::Event;
use crate::report::Report;
use crate::ui::{Phase, Ui};

/// Tells it. The stack goes on serving from ACM.
pub(in super::super) async fn told(
    tale: &mut Tale,
    options: &Options,
    report: &mut Report,
    ui: &Ui,
) -> Result<(), StoryError> {
    let arn = refused(tale, ui.phase("another account, before it agrees")).await?;
    admitted(tale, &arn, ui.phase("another account, tagged and trusted")).await?;
    renewed(tale, &arn, Heard::Event, options, report, ui.phase("ACM renews there")).await?;
    strangers(tale, &arn, ui.phase("a third account")).await
}

/// Named in the spec before its account has the roles, then before it has the tag: nothing is exported, and the block says
/// what is missing.
async fn refused(tale: &mut Tale, phase: Phase) -> Result<String, StoryError> {
    let now = OffsetDateTime::now_utc();
    let arn = tale.world.acm.issue_exportable_in(OTHER_ACCOUNT, DOMAIN, Kind::Private, now).await;
    let arn = arn.map_err(StoryError::io("making a certificate of ACM's"))?;
    let exports = exports(tale);
    roles(tale, "somebody-elses-id")?;
    let certificate =
        json!({"issuer": {"kind": "acm", "certificateArn": arn}, "dnsNames": [DOMAIN], "renewBeforeHours": 336});
    let former = std::mem::replace(&mut tale.spec["certificate"], certificate);
    tale.former_certificate.get_or_insert(former);
    tale.put_spec(true).await?;
    let role = format!("arn:aws:iam::{OTHER_ACCOUNT}:role/espalier-certificate-reader");
    outcome(tale, &phase, |answer| is_told(answer, &[&arn, "sts:AssumeRole", &role])).await?;
    roles(tale, EXTERNAL_ID)?;
    outcome(tale, &phase, |answer| is_told(answer, &[&arn, "acm:DescribeCertificate", "tag espalier:stack"])).await?;
    if self::exports(tale) != exports {
        return Err(StoryError::Unmet(format!("{arn} was exported although its account has not agreed")));
    }
    phase.done("under another external id and without the tag: told with role and remedy, nothing exported");
    Ok(arn)
}

/// Whether `rotate` says all of this in a block about the certificate.
fn is_told(answer: &Value, said: &[&str]) -> bool {
    let mut blocks = answer["blocks"].as_array().into_iter().flatten();
    blocks.any(|block| {
        let because = block["because"].as_str().unwrap_or_default();
        block["code"] == "AcmUnusable" && said.iter().all(|part| because.contains(part))
    })
}

/// What the other account's owner deploys.
fn roles(tale: &Tale, external_id: &str) -> Result<(), StoryError> {
    let path = workspace()?.join("examples/certificate-account.yaml");
    let template = std::fs::read_to_string(path).map_err(StoryError::io("reading the example"))?;
    let parameters: BTreeMap<String, String> = [
        ("ExternalId", external_id),
        ("RotateRoleArn", output(&tale.plane, "RotateRoleArn")?),
        ("ExportRoleArn", output(&tale.plane, "ExportRoleArn")?),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let made = tale.world.sts.deploy(&template, OTHER_ACCOUNT, &parameters);
    match made.map_err(StoryError::boxed("deploying the other account's roles"))? {
        2 => Ok(()),
        other => Err(StoryError::Unmet(format!("the example has {other} roles that are named"))),
    }
}

/// With role, external id and tag it is a certificate like any other; the next sweep finds it.
async fn admitted(tale: &mut Tale, arn: &str, phase: Phase) -> Result<(), StoryError> {
    let (before, sessions) = (exports(tale), assumed(tale));
    tale.watch.hear().await?;
    tale.world.acm.tag(arn);
    tale.world.router.fire_schedules().await?;
    tale.wait_for(&["Rotation Completed"], LIMIT, &phase).await?;
    tale.roots = roots(tale).await?;
    is_served(tale, arn).await?;
    exported_once(tale, before)?;
    let sessions = assumed(tale) - sessions;
    phase.done(&format!(
        "exported once in a session of its own role, served by every target; {sessions} sessions begun"
    ));
    Ok(())
}

fn assumed(tale: &Tale) -> u64 {
    tale.world.gateway.counts().get("sts.AssumeRole").copied().unwrap_or_default()
}

/// An account that the template does not name says that the certificate was renewed: its event is not let onto the bus.
async fn strangers(tale: &Tale, arn: &str, phase: Phase) -> Result<(), StoryError> {
    let event = |source: &str, detail_type: &str| Event {
        source: source.to_owned(),
        detail_type: detail_type.to_owned(),
        resources: vec![arn.to_owned()],
        detail: json!({"Action": "RENEWAL"}),
    };
    let router = &tale.world.router;
    let before = router.deliveries().len();
    router.forward("321098765432", event("aws.acm", "ACM Certificate Available")).await;
    // The account that is named, with what its people may make up.
    router.forward(OTHER_ACCOUNT, event("espalier", "Rotate Requested")).await;
    let heard = router.deliveries().split_off(before);
    let delivered: Vec<_> = heard.iter().filter(|one| one.failure.is_none()).map(|one| &one.rule).collect();
    if !delivered.is_empty() || heard.len() != 2 {
        return Err(StoryError::Unmet(format!(
            "events of others were delivered by {delivered:?}, {} noted",
            heard.len()
        )));
    }
    phase.done(
        "an event of an account that nobody named, and one that the named account made up: neither gets onto the bus",
    );
    Ok(())
}
