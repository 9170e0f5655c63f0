//! What raises the alarms, one cause after the other, each as it would come about.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::super::judge::DOMAIN;
use super::super::repair::{ask, find, first, hosts, renew, settled};
use super::super::watch::until;
use super::super::world::Host;
use super::super::{StoryError, Tale, deploy};
use super::stage::Stage;
use super::{LIMIT, LOOK, quarter, runbook, twice};
use crate::acm::Kind;
use crate::alarms::State;
use crate::chaos::{CallFault, Fault};
use crate::ui::Phase;

/// What anybody asks of the ledger.
const LEDGER: [&str; 6] = [
    "dynamodb.GetItem",
    "dynamodb.Query",
    "dynamodb.PutItem",
    "dynamodb.UpdateItem",
    "dynamodb.DeleteItem",
    "dynamodb.TransactWriteItems",
];

/// What `provision` asks of VPC Lattice before anything else.
const LATTICE: [&str; 4] = [
    "vpc_lattice.ListServiceNetworks",
    "vpc_lattice.ListServices",
    "vpc_lattice.ListTargetGroups",
    "vpc_lattice.GetServiceNetwork",
];

/// Where leaves and roots are written to.
const LEAVES: [&str; 1] = ["ssm.PutParameter"];

/// So many hours before the end of a leaf a renewal comes too late, by `MinSlackSeconds`, if its canary bakes for so many minutes.
const TOO_LATE: (u32, u32) = (8, 120);

/// What lasts longer than this after its cause does not end.
const QUARTERS: u32 = 16;

/// The authority's records in the ledger.
const AUTHORITIES: &str = "AUTHORITIES";

/// The first turn of an authority in the ledger.
const TURN: &str = "TURN#00000001";

/// A policy is in the way of these calls from now on, and of no others.
fn deny(tale: &Tale, operations: &[&'static str]) {
    let all = |operation: &&'static str| Fault::Call { operation, first: 1, last: u32::MAX, what: CallFault::Deny };
    tale.world.chaos.arm(operations.iter().map(all).collect());
}

/// What a look finds cannot be judged: the root in the ledger is damaged.
pub(super) async fn look(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("the root in the ledger is damaged");
    let authority = authority(tale).await?;
    let mut damaged = authority.record.clone();
    damaged["rootPem"] = json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    tale.watch.write(tale.ledger()?, AUTHORITIES, &authority.key, &damaged).await?;
    ask(tale).await?;
    twice(tale, stage, "verify", phase).await?;
    stage.expect(State::Alarm, &["VerifyErrors", "WorkFails", "AuthorityBlocked"])?;
    tale.watch.write(tale.ledger()?, AUTHORITIES, &authority.key, &authority.record).await?;
    settled(tale, phase).await?;
    // What is damaged was not published, and a person was asked for it: the next sweep finds nothing wrong.
    quarter(tale, stage, phase).await
}

/// A rotation whose leaf cannot be made, while `rotate` does not fail. It is left so.
pub(super) async fn work(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("mint may not write leaves");
    deny(tale, &LEAVES);
    renew(tale).await;
    twice(tale, stage, "mint", phase).await?;
    stage.expect(State::Alarm, &["MintErrors"])?;

    stage.because("the ledger has lost the authority, and its root may not be published");
    tale.watch.forget(tale.ledger()?, AUTHORITIES, &authority(tale).await?.key).await?;
    twice(tale, stage, "authority", phase).await?;
    stage.expect(State::Alarm, &["AuthorityErrors"])?;
    stage.expect(State::Ok, &["RotateErrors", "ProvisionErrors", "RotationFailed", "LookingFails", "LettersLeft"])?;
    stage.expect_calls(&["AuthorityBlocked", "WorkFails"])
}

/// The ledger and VPC Lattice deny everybody, in the middle of that rotation.
pub(super) async fn everything(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("the ledger and VPC Lattice deny everybody");
    let machine = deploy::output(&tale.plane, "RotationStateMachine")?;
    for _ in 0..2 {
        running(tale, machine, true, phase).await?;
        deny(tale, &[&LEAVES[..], &LEDGER, &LATTICE].concat());
        running(tale, machine, false, phase).await?;
        quarter(tale, stage, phase).await?;
        deny(tale, &LEAVES);
        tale.world.router.fire_schedules().await?;
    }
    stage.expect(State::Alarm, &["RotateErrors", "ProvisionErrors", "SealErrors", "RotationFailed"])?;
    stage.expect(State::Alarm, &["LettersWaiting", "LookingFails"])?;
    stage.expect_calls(&["LookingFails"])
}

/// The rotation goes on as far as two of its commands.
pub(super) async fn commands(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("distribute may not send commands");
    // A third failure on one target would have it wait for minutes.
    let nth = |nth| Fault::Call { operation: "ssm.SendCommand", first: nth, last: nth, what: CallFault::Deny };
    tale.world.chaos.arm(vec![nth(1), nth(3)]);
    twice(tale, stage, "distribute", phase).await?;
    stage.expect(State::Alarm, &["DistributeErrors"])?;
    tale.world.chaos.disarm();
    settled(tale, phase).await
}

/// A certificate of ACM's is to be served, and may not be taken out.
pub(super) async fn export(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("export may not take the certificate out of ACM");
    let arn = tale.world.acm.issue_exportable(DOMAIN, Kind::Public, OffsetDateTime::now_utc()).await;
    let arn = arn.map_err(StoryError::io("making a certificate of ACM's"))?;
    let mut spec = tale.spec.clone();
    spec["certificate"] =
        json!({"issuer": {"kind": "acm", "certificateArn": arn}, "dnsNames": [DOMAIN], "renewBeforeHours": 336});
    deny(tale, &["acm.ExportCertificate"]);
    tale.put(&spec, true).await?;
    twice(tale, stage, "export", phase).await?;
    stage.expect(State::Alarm, &["ExportErrors", "WorkFails"])?;
    tale.put_spec(true).await?;
    tale.world.chaos.disarm();
    settled(tale, phase).await?;
    stage.expect_calls(&[])
}

/// The ledger comes from a backup that knows of a turn and not of the authority whose turn it was.
pub(super) async fn restored(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("the ledger has lost the authority that was activated");
    let turn = json!({"number": 1, "authority": "ffffffffffffffff", "turn": "activated", "at": "2026-01-01T00:00:00Z",
        "because": "it was published long before"});
    tale.watch.write(tale.ledger()?, AUTHORITIES, TURN, &turn).await?;
    quarter(tale, stage, phase).await?;
    stage.expect_raised(&["AuthorityBlocked"])?;
    stage.expect_calls(&["AuthorityBlocked"])?;
    tale.watch.forget(tale.ledger()?, AUTHORITIES, TURN).await?;
    quarter(tale, stage, phase).await?;
    stage.expect_calls(&[])
}

/// A host's security group shuts everybody out: clients, too, until they are led away from it.
pub(super) async fn shut_out(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("a target's security group shuts everybody out");
    let host = first(tale)?;
    let former = hosts::close(tale, host).await?;
    let told = failing(tale, stage, host, phase).await;
    hosts::open(tale, host, &former).await?;
    told?;
    stage.expect(State::Alarm, &["VerificationFailing"])?;
    stage.expect_calls(&["VerificationFailing"])?;
    settled(tale, phase).await?;
    // It was still seen to fail when the first of these began.
    quarter(tale, stage, phase).await?;
    quarter(tale, stage, phase).await?;
    stage.expect(State::Ok, &["VerificationFailing"])
}

/// Three quarters of an hour in each of which a host is seen to fail.
async fn failing(tale: &Tale, stage: &mut Stage, host: &Host, phase: &Phase) -> Result<(), StoryError> {
    for _ in 0..3 {
        find(tale, host, "TimedOut", phase).await?;
        quarter(tale, stage, phase).await?;
    }
    Ok(())
}

/// What needs a person: an agent is gone, a spec renews too late, ACM cannot renew what is followed, and a certificate that
/// nobody uses lapses.
pub(super) async fn person(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("an agent gone, renewals too late, a CAA record, a certificate that lapses");
    let (host, now) = (first(tale)?, OffsetDateTime::now_utc());
    tale.world.ssm.set_online(&host.id, false);
    let mut spec = tale.spec.clone();
    spec["certificate"]["renewBeforeHours"] = json!(TOO_LATE.0);
    // Which part of its life earlier a leaf is replaced depends on its generation: some would come early enough.
    spec["certificate"]["renewSpreadPercent"] = json!(0);
    spec["rollout"]["bakeMinutes"] = json!(TOO_LATE.1);
    tale.put(&spec, true).await?;
    ask(tale).await?;
    tale.world.acm.fail_renewal(&tale.certificate, "CAA_ERROR").await;
    let unused = tale.world.acm.issue_exportable("lapses.example.com", Kind::Private, now).await;
    let unused = unused.map_err(StoryError::io("making a certificate of ACM's"))?;
    tale.world.acm.expire_soon(&unused, 20, now).await;
    let told = until(LIMIT, LOOK, async || {
        phase.progress("waiting until the lapse is told");
        let log = tale.watch.log(&tale.function("rotate")).await?;
        Ok::<_, StoryError>(log.iter().any(|line| line.contains("AcmLapsing") && line.contains(&unused)).then_some(()))
    });
    told.await?.ok_or_else(|| StoryError::Unmet(format!("nobody told that {unused} lapses")))?;
    quarter(tale, stage, phase).await?;
    let calling = ["AcmBlocked", "CertificateLapsing", "RotateBlocked", "SlackShort"];
    stage.expect_raised(&calling)?;
    stage.expect_calls(&calling)?;
    tale.world.ssm.set_online(&host.id, true);
    tale.world.acm.mend(&tale.certificate);
    tale.put_spec(true).await?;
    settled(tale, phase).await
}

/// All is mended, and quarters of an hour go by until only the letters are left.
pub(super) async fn over(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    let mut quarters = 0;
    while stage.expect_calls(&["LettersLeft"]).is_err() {
        quarters += 1;
        if quarters > QUARTERS {
            return Err(StoryError::Unmet(format!("{:?} after {quarters} quarters", stage.monitor.states())));
        }
        quarter(tale, stage, phase).await?;
    }
    stage.because("its letters are deleted, as the runbook says");
    stage.show().await?;
    let said = runbook::followed(tale, phase).await?;
    for (command, wanted) in [("describe-alarms", "LettersLeft"), ("receive-message", "requestPayload")] {
        let told = said.iter().find(|(text, _)| text.contains(command)).map(|(_, told)| told.as_str());
        if !told.is_some_and(|told| told.contains(wanted)) {
            return Err(StoryError::Unmet(format!("the runbook's {command} does not say {wanted}: {told:?}")));
        }
    }
    phase.note(&format!("{} commands of the runbook, as printed, all of which ended well", said.len()));
    settled(tale, phase).await?;
    quarter(tale, stage, phase).await
}

/// For two days nobody sweeps, and for the first of them ACM has not renewed.
pub(super) async fn silence(tale: &Tale, stage: &mut Stage, phase: &Phase) -> Result<(), StoryError> {
    stage.because("nobody sweeps, and ACM has not renewed");
    let (aws, rule) = (tale.world.aws(), sweep(tale).await?);
    aws.run(&["events", "disable-rule", "--name", &rule]).await?;
    tale.world.acm.expire_soon(&tale.watched, 20, OffsetDateTime::now_utc()).await;
    stage.passes(tale, Duration::hours(13)).await?;
    stage.expect(State::Alarm, &["SweepSilent", "CertificateEnding", "LookingFails"])?;
    stage.expect_calls(&["CertificateEnding", "LookingFails"])?;
    tale.world.acm.renew(&tale.watched, OffsetDateTime::now_utc()).await;
    stage.passes(tale, Duration::hours(37)).await?;
    stage.expect(State::Ok, &["CertificateEnding"])?;
    aws.run(&["events", "enable-rule", "--name", &rule]).await?;
    quarter(tale, stage, phase).await
}

/// The rule that has `rotate` sweep.
async fn sweep(tale: &Tale) -> Result<String, StoryError> {
    let rules = tale.world.aws().run(&["events", "list-rules", "--output", "json"]).await?;
    let names = rules["Rules"].as_array().into_iter().flatten().filter(|rule| rule["ScheduleExpression"].is_string());
    let mut names = names.filter_map(|rule| rule["Name"].as_str()).filter(|name| name.contains("Rotate"));
    let name = names.next().map(str::to_owned);
    name.ok_or_else(|| StoryError::Unmet(format!("no rule has rotate sweep: {rules}")))
}

/// Waits until an execution is under way, or none is.
async fn running(tale: &Tale, machine: &str, wanted: bool, phase: &Phase) -> Result<(), StoryError> {
    let found = until(LIMIT, LOOK, async || {
        phase.progress(if wanted { "waiting for an execution" } else { "waiting for its end" });
        Ok::<_, StoryError>(((tale.watch.running(machine).await? > 0) == wanted).then_some(()))
    });
    found.await?.ok_or_else(|| StoryError::Unmet(format!("an execution is under way: {}", !wanted)))
}

/// The authority as the ledger has it.
struct Authority {
    key: String,
    record: Value,
}

async fn authority(tale: &Tale) -> Result<Authority, StoryError> {
    let found = tale.watch.partition(tale.ledger()?, AUTHORITIES, "AUTHORITY#").await?;
    match found.as_slice() {
        [record] => Ok(Authority {
            key: format!("AUTHORITY#{}", record["authority"].as_str().unwrap_or_default()),
            record: record.clone(),
        }),
        _ => Err(StoryError::Unmet(format!("not one authority is in the ledger: {found:?}"))),
    }
}
