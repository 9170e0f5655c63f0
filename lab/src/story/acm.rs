//! The scenarios of ACM as a source: the stack serves a certificate that is exported from there, and takes over what becomes
//! of it, under client load; with and without the events that should announce it. What only ACM's owner can end is told
//! under its code, and targets keep what they serve.

pub(super) mod account;
pub(super) mod request;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::judge::{self, DOMAIN};
use super::load::Clients;
use super::rotation::{roots, unharmed};
use super::watch::until;
use super::{Options, PROBER, STACK, Scenario, StoryError, Tale};
use crate::acm::Kind;
use crate::report::{Report, Way};
use crate::ui::{Phase, Ui};

const LIMIT: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(300);

/// Tells one of the scenarios. The stack goes on serving from ACM; [`left`] ends that.
pub(super) async fn told(
    tale: &mut Tale,
    scenario: Scenario,
    options: &Options,
    report: &mut Report,
    ui: &Ui,
) -> Result<(), StoryError> {
    let kind = if scenario == Scenario::AcmPrivate { Kind::Private } else { Kind::Public };
    let arn = served_from(tale, kind, ui.phase("served from ACM")).await?;
    match scenario {
        Scenario::AcmRenewal | Scenario::AcmPrivate => {
            renewed(tale, &arn, Heard::Event, options, report, ui.phase("ACM renews")).await
        }
        Scenario::AcmLostEvent => {
            renewed(tale, &arn, Heard::Sweep, options, report, ui.phase("the event is lost")).await
        }
        Scenario::AcmActionRequired => {
            let phase = ui.phase("action required");
            let trouble = tale.world.acm.clone();
            kept(tale, &arn, "AcmActionRequired", trouble.fail_renewal(&arn, "CAA_ERROR"), options, report, phase).await
        }
        Scenario::AcmExpired => {
            let trouble = tale.world.acm.clone();
            kept(tale, &arn, "AcmExpired", trouble.expire(&arn), options, report, ui.phase("expired")).await
        }
        Scenario::AcmRevoked => {
            let trouble = tale.world.acm.clone();
            kept(tale, &arn, "AcmRevoked", trouble.revoke(&arn), options, report, ui.phase("revoked")).await
        }
        Scenario::Recipe
        | Scenario::Rotate
        | Scenario::PerTarget
        | Scenario::Csr
        | Scenario::Leaks
        | Scenario::Input
        | Scenario::Repair
        | Scenario::CommitConfirm
        | Scenario::CanaryFails
        | Scenario::AgentDies
        | Scenario::Outage
        | Scenario::Expired
        | Scenario::Alarms
        | Scenario::Upgrade
        | Scenario::Emergency
        | Scenario::Evidence
        | Scenario::CaRotation
        | Scenario::CaCompromise
        | Scenario::OthersInstall
        | Scenario::AnotherVpc
        | Scenario::Policy
        | Scenario::AcmRequest
        | Scenario::AcmAccount
        | Scenario::Replace
        | Scenario::Drift
        | Scenario::Scale
        | Scenario::Teardown
        | Scenario::Chaos
        | Scenario::Tour => Ok(()),
    }
}

/// The stack goes back to its own authority, if it was served from ACM.
pub(super) async fn left(tale: &mut Tale, ui: &Ui) -> Result<(), StoryError> {
    let Some(former) = tale.former_certificate.take() else { return Ok(()) };
    let phase = ui.phase("own authority again");
    tale.spec["certificate"] = former;
    rolled_out(tale, &phase).await?;
    phase.done("the spec names no ACM certificate as issuer any more: a leaf was minted and proven everywhere");
    Ok(())
}

/// The stack serves an ACM certificate of this kind.
async fn served_from(tale: &mut Tale, kind: Kind, phase: Phase) -> Result<String, StoryError> {
    if let Some(arn) = tale.spec["certificate"]["issuer"]["certificateArn"].as_str().map(str::to_owned)
        && tale.world.acm.kind(&arn) == Some(kind)
    {
        is_served(tale, &arn).await?;
        phase.done("it does already");
        return Ok(arn);
    }
    let arn = tale.world.acm.issue_exportable(DOMAIN, kind, OffsetDateTime::now_utc()).await;
    let arn = arn.map_err(StoryError::io("making a certificate of ACM's"))?;
    let certificate =
        json!({"issuer": {"kind": "acm", "certificateArn": arn}, "dnsNames": [DOMAIN], "renewBeforeHours": 336});
    let former = std::mem::replace(&mut tale.spec["certificate"], certificate);
    tale.former_certificate.get_or_insert(former);
    let exports = exports(tale);
    rolled_out(tale, &phase).await?;
    // What clients trust has grown by what the export leads to.
    tale.roots = roots(tale).await?;
    is_served(tale, &arn).await?;
    exported_once(tale, exports)?;
    phase.done("named as issuer in the spec: exported once, checked, installed and proven on every target");
    Ok(arn)
}

async fn rolled_out(tale: &mut Tale, phase: &Phase) -> Result<(), StoryError> {
    tale.watch.hear().await?;
    tale.put_spec(true).await?;
    tale.wait_for(&["Rotation Completed"], LIMIT, phase).await.map(drop)
}

/// What brings a renewal to Espalier's ears.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// ACM's event.
    Event,
    /// The deployed schedules: nothing else was sent.
    Sweep,
}

/// ACM renews: the new certificate is exported once and served everywhere, and no client notices.
async fn renewed(
    tale: &Tale,
    arn: &str,
    heard: Heard,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let renewal = async {
        let now = OffsetDateTime::now_utc();
        match heard {
            Heard::Event => tale.world.acm.renew(arn, now).await,
            Heard::Sweep => {
                if !tale.world.acm.renew_quietly(arn, now).await {
                    return Err(StoryError::Unmet("ACM did not renew".to_owned()));
                }
                tale.world.router.fire_schedules().await?;
            }
        }
        Ok(())
    };
    let (seconds, attempted) = served_anew(tale, arn, renewal, options, report, &phase).await?;
    let from = if heard == Heard::Event { "ACM's event" } else { "a sweep, no event," };
    phase.done(&format!(
        "{from} to verified handshakes on every target in {seconds:.1} s; one export; {attempted} handshakes meanwhile, 0 failed"
    ));
    Ok(())
}

/// What a renewal comes to under client load: exported once, served everywhere, no handshake failed. How long it took, and how
/// many handshakes there were.
async fn served_anew(
    tale: &Tale,
    arn: &str,
    renewal: impl Future<Output = Result<(), StoryError>>,
    options: &Options,
    report: &mut Report,
    phase: &Phase,
) -> Result<(f64, u64), StoryError> {
    let exports = exports(tale);
    let clients = Clients::start(tale, options.clients)?;
    let begun = Instant::now();
    let told = async {
        renewal.await?;
        tale.wait_for(&["Rotation Completed"], LIMIT, phase).await.map(drop)
    };
    let told = told.await;
    let seconds = begun.elapsed().as_secs_f64();
    let seen = clients.stop().await;
    let attempted = unharmed(Way::Espalier, 1, &seen, report);
    told?;
    is_served(tale, arn).await?;
    exported_once(tale, exports)?;
    Ok((seconds, attempted.map_err(StoryError::Unmet)?))
}

/// Something befalls the certificate that Espalier cannot end: it is told, nothing is exported or changed, and when it is
/// over nothing is left to do.
async fn kept(
    tale: &Tale,
    arn: &str,
    code: &str,
    befalls: impl Future<Output = ()>,
    options: &Options,
    report: &mut Report,
    phase: Phase,
) -> Result<(), StoryError> {
    let exports = exports(tale);
    let clients = Clients::start(tale, options.clients)?;
    befalls.await;
    let blocked = outcome(tale, &phase, |answer| {
        let mut blocks = answer["blocks"].as_array().into_iter().flatten();
        blocks.any(|block| block["code"] == code && block["because"].as_str().is_some_and(|text| text.contains(arn)))
    });
    let blocked = blocked.await;
    let seen = clients.stop().await;
    let attempted = unharmed(Way::Refused, 1, &seen, report);
    blocked?;
    is_served(tale, arn).await?;
    if self::exports(tale) != exports {
        return Err(StoryError::Unmet(format!("it was exported although it is {code}")));
    }
    tale.world.acm.mend(arn);
    outcome(tale, &phase, |answer| answer["outcome"] == "converged").await?;
    let attempted = attempted.map_err(StoryError::Unmet)?;
    phase.done(&format!("told as {code}; targets keep the certificate, {attempted} handshakes meanwhile, 0 failed"));
    Ok(())
}

/// Waits until `rotate` would answer like this.
async fn outcome(tale: &Tale, phase: &Phase, is_it: impl Fn(&Value) -> bool) -> Result<(), StoryError> {
    let mut last = Value::Null;
    let found = until(LIMIT, LOOK, async || {
        phase.progress("waiting for rotate's answer");
        tale.watch.hear().await?;
        last = tale.would_do("rotate", None).await?;
        Ok::<_, StoryError>(is_it(&last).then_some(()))
    })
    .await?;
    found.ok_or_else(|| StoryError::Unmet(format!("rotate does not answer as expected: {last}")))
}

/// Every target serves the certificate that ACM has now.
async fn is_served(tale: &Tale, arn: &str) -> Result<(), StoryError> {
    let serial = tale.world.acm.serial(arn).unwrap_or_default().replace(':', "");
    let serial = serial.trim_start_matches('0');
    let generations = tale.watch.generations(tale.ledger()?, STACK).await?;
    for one in judge::served(&tale.world, PROBER, &tale.roots, &generations).await? {
        if one.serial.trim_start_matches('0') != serial {
            return Err(StoryError::Unmet(format!("{} serves {}, ACM has {serial}", one.target, one.serial)));
        }
    }
    Ok(())
}

fn exports(tale: &Tale) -> u64 {
    tale.world.gateway.counts().get("acm.ExportCertificate").copied().unwrap_or_default()
}

fn exported_once(tale: &Tale, before: u64) -> Result<(), StoryError> {
    match exports(tale) - before {
        1 => Ok(()),
        times => Err(StoryError::Unmet(format!("{times} exports for one certificate"))),
    }
}
