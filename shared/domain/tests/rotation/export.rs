//! Stacks that serve a certificate out of ACM: the same rollout, and what only ACM can end is told and changes nothing.

use espalier_domain::acm::{AcmEvidence, AcmKind, AcmStatus};
use espalier_domain::id::Scope;
use espalier_domain::plan::BlockCode;
use espalier_domain::record::{ExportRecord, GenerationRecord};
use espalier_domain::rotation::execution::LONGEST_WAIT_S;
use espalier_domain::rotation::policy::SourcePolicy;
use espalier_domain::spec::AllowedDomains;
use espalier_domain::work::{ExportItem, WorkItem};
use time::Duration;

use crate::world::{Ill, START, World, acm, instance};

impl World {
    /// What `export` does: the certificate that ACM has now, if it is the one that was planned with.
    pub(crate) fn export(&mut self, item: &ExportItem) {
        let seen = self.acm.as_ref().expect("there is a certificate");
        let serial = seen.serial.as_deref().unwrap_or_default().replace(':', "").trim_start_matches('0').to_owned();
        if serial != item.serial || self.generations.iter().any(|record| record.generation == item.generation) {
            return;
        }
        let anchor = format!("-----BEGIN CERTIFICATE-----\nabove {serial}\n-----END CERTIFICATE-----\n");
        self.generations.push(GenerationRecord {
            scope: Scope::shared(),
            generation: item.generation,
            parameter: format!("/espalier-leaf/payments/shared/{}", item.generation),
            serial,
            fingerprint: format!("{:064x}", item.generation.0),
            dns_names: seen.names.clone(),
            not_before: self.now,
            not_after: seen.not_after.expect("it ends"),
            minted_at: self.now,
            authority: "feedfeedfeedfeed".into(),
            follows: None,
            export: Some(ExportRecord { certificate: seen.certificate.clone(), trust_pem: anchor }),
            spec: None,
            key_type: None,
            custody: espalier_domain::spec::Custody::default(),
            because: item.because.clone(),
        });
    }
}

/// An exportable public certificate that ACM keeps renewing.
fn public(serial: &str, life: Duration) -> AcmEvidence {
    AcmEvidence {
        kind: AcmKind::Public,
        export_enabled: true,
        names: vec!["pay.example.com".into(), "*.pay.example.com".into()],
        eligible: Some(true),
        ..acm(serial, START + life)
    }
}

fn world(hosts: u32) -> World {
    let mut world = World::new(hosts);
    let follow = world.policy.follow.take().expect("the world follows a certificate");
    let allowed = AllowedDomains::parse("example.com").unwrap();
    let source = SourcePolicy { certificate: Some(follow.certificate), is_requested: false, allowed };
    (world.policy.source, world.policy.renew_before_hours) = (Some(source), 336);
    world.policy.validity_hours = 198 * 24;
    world.acm = Some(public("0a:01", Duration::days(198)));
    // No authority of our own was ever made.
    world.authorities.clear();
    world
}

/// Runs to the end; what is left to tell.
fn told(world: &mut World) -> Vec<BlockCode> {
    world.run().blocks.into_iter().map(|block| block.code).collect()
}

fn exports(world: &World) -> Vec<&str> {
    world.generations.iter().map(|record| record.serial.as_str()).collect()
}

#[test]
fn a_renewal_in_acm_is_exported_once_and_rolled_out() {
    let mut world = world(4);
    assert_eq!(told(&mut world), []);
    assert!(world.look().is_converged(), "planning again plans something");
    world.now += Duration::days(153);
    world.note("ACM renews the certificate");
    world.acm = Some(public("0a:02", Duration::days(351)));
    assert_eq!(told(&mut world), []);
    assert!(world.look().is_converged(), "planning again plans something");
    assert_eq!(exports(&world), ["a01", "a02"]);
    assert!(world.hosts.values().all(|host| host.serves == Some(world.generations[1].generation)));
    let path = format!("{}/tests/golden/rotation/exported.txt", env!("CARGO_MANIFEST_DIR"));
    expectorate::assert_contents(path, &world.trace);
}

#[test]
fn a_prober_trusts_what_the_exports_lead_to() {
    let mut world = world(1);
    world.run();
    world.acm = Some(public("0a:02", Duration::days(351)));
    world.run();
    let trust = world.evidence().trust();
    let (newer, older) = (trust.find("above a02").unwrap(), trust.find("above a01").unwrap());
    assert!(newer < older && trust.matches("BEGIN").count() == 2, "{trust}");
}

#[test]
fn what_acm_cannot_give_is_told_and_targets_keep_what_they_serve() {
    let good = || public("0a:02", Duration::days(351));
    let days = |days| Some(START + Duration::days(days));
    for (seen, code) in [
        (AcmEvidence { status: AcmStatus::Revoked, ..good() }, BlockCode::AcmRevoked),
        (AcmEvidence { status: AcmStatus::Expired, ..good() }, BlockCode::AcmExpired),
        (AcmEvidence { not_after: days(0), ..good() }, BlockCode::AcmExpired),
        (AcmEvidence { export_enabled: false, ..good() }, BlockCode::AcmUnusable),
        (AcmEvidence { kind: AcmKind::Imported, ..good() }, BlockCode::AcmUnusable),
        (AcmEvidence { names: vec!["www.example.com".into()], ..good() }, BlockCode::AcmUnusable),
        (
            AcmEvidence { names: vec!["pay.example.com".into(), "*.example.net".into()], ..good() },
            BlockCode::DomainNotAllowed,
        ),
        (AcmEvidence { not_after: days(13), ..public("0a:01", Duration::ZERO) }, BlockCode::AcmExpiring),
    ] {
        let mut world = world(2);
        world.run();
        world.acm = Some(seen);
        assert_eq!(told(&mut world), [code]);
        assert_eq!(exports(&world), ["a01"]);
    }
}

/// Its account's role may refuse: what keeps ACM from answering is told as it was said, whoever obtained the certificate, and
/// nobody is advised to request another.
#[test]
fn a_certificate_that_cannot_be_read_is_told_with_what_was_said() {
    for is_requested in [false, true] {
        let mut world = world(2);
        world.run();
        world.policy.source.as_mut().unwrap().is_requested = is_requested;
        let certificate = world.acm.take().unwrap().certificate;
        world.acm = Some(AcmEvidence::unread(certificate, "sts:AssumeRole failed: AccessDenied"));
        let blocks = world.look().blocks;
        assert_eq!(blocks.iter().map(|block| block.code).collect::<Vec<_>>(), [BlockCode::AcmUnusable]);
        assert!(
            blocks[0].because.ends_with("could not be read from ACM: sts:AssumeRole failed: AccessDenied"),
            "{blocks:?}"
        );
        assert_eq!(exports(&world), ["a01"]);
    }
}

/// Without a first certificate there is nothing to serve, and nothing is made up for it.
#[test]
fn a_certificate_that_is_not_there_yet_is_awaited_by_a_person() {
    let mut world = world(2);
    world.acm = Some(AcmEvidence { status: AcmStatus::PendingValidation, serial: None, ..public("", Duration::ZERO) });
    assert_eq!(told(&mut world), [BlockCode::AcmUnusable]);
    assert!(world.generations.is_empty());
    world.acm = Some(public("0a:01", Duration::days(198)));
    assert_eq!(told(&mut world), []);
}

/// What is requested needs time and nobody: neither before anybody knows its ARN, nor before ACM has issued it.
#[test]
fn a_certificate_that_was_requested_is_awaited_without_a_word() {
    let mut world = world(2);
    let certificate = world.policy.source.as_mut().and_then(|source| {
        source.is_requested = true;
        source.certificate.take()
    });
    let is_waiting = |world: &mut World| {
        let plan = world.look();
        let waits: Vec<_> = plan.waits.iter().map(|wait| wait.on.as_str()).collect();
        assert_eq!(waits, ["the certificate that was requested of ACM"]);
        assert!(plan.blocks.is_empty() && plan.steps.is_empty(), "{plan:?}");
        assert!(plan.waits[0].retry_after_s > LONGEST_WAIT_S, "no execution sleeps over it");
    };
    is_waiting(&mut world);
    world.policy.source.as_mut().unwrap().certificate = certificate;
    for status in [AcmStatus::PendingValidation, AcmStatus::Missing] {
        world.acm = Some(AcmEvidence { status, serial: None, not_after: None, ..public("", Duration::ZERO) });
        is_waiting(&mut world);
    }
    let requested = |minutes| AcmEvidence {
        status: AcmStatus::PendingValidation,
        serial: None,
        not_after: None,
        requested_at: Some(START - Duration::minutes(minutes)),
        ..public("", Duration::ZERO)
    };
    world.acm = Some(requested(59));
    is_waiting(&mut world);
    // A zone that is not delegated would be waited for in vain, for three days.
    world.acm = Some(requested(60));
    let blocks = world.look().blocks;
    assert_eq!(blocks.iter().map(|block| block.code).collect::<Vec<_>>(), [BlockCode::AcmUnusable]);
    for word in ["delegated", "CAA", "72 hours"] {
        assert!(blocks[0].because.contains(word), "{}", blocks[0]);
    }
    let failed =
        AcmEvidence { status: AcmStatus::Failed, failure: Some("CAA_ERROR".into()), ..public("", Duration::ZERO) };
    world.acm = Some(failed);
    let blocks = world.look().blocks;
    assert_eq!(blocks[0].code, BlockCode::AcmUnusable);
    for word in ["CAA_ERROR", "amazon.com", "delete it in ACM, and another one is requested"] {
        assert!(blocks[0].because.contains(word), "{}", blocks[0]);
    }
    world.acm = Some(public("0a:01", Duration::days(198)));
    assert_eq!(told(&mut world), []);
    assert_eq!(exports(&world), ["a01"]);
    // While another one is on its way, the targets keep what they serve.
    world.policy.source.as_mut().unwrap().certificate = None;
    is_waiting(&mut world);
}

/// A host that reverted is given the same certificate once more, as another generation, at the pace of all retries.
#[test]
fn a_reverted_export_is_exported_again_and_not_in_a_hurry() {
    let mut world = world(2);
    world.run();
    world.hosts.get_mut(&instance(1)).unwrap().ill = Ill::RevertsAll;
    world.acm = Some(public("0a:02", Duration::days(351)));
    let _ = told(&mut world);
    let tried = exports(&world).len();
    assert!((2..=5).contains(&tried), "{:?}", exports(&world));
    world.hosts.get_mut(&instance(1)).unwrap().ill = Ill::Well;
    world.now += Duration::days(1);
    assert_eq!(told(&mut world), []);
    assert!(exports(&world).len() <= tried + 1 && exports(&world).iter().skip(1).all(|serial| *serial == "a02"));
}

#[test]
fn the_source_may_change_both_ways() {
    let mut world = world(1);
    world.run();
    let certificate = world.policy.source.take();
    world.authorities = World::new(1).authorities;
    (world.policy.validity_hours, world.policy.renew_before_hours) = (168, 56);
    assert_eq!(told(&mut world), []);
    assert!(world.generations[1].export.is_none(), "{:?}", world.generations[1]);
    world.policy.source = certificate;
    assert_eq!(told(&mut world), []);
    assert!(world.generations[2].export.is_some() && world.generations.len() == 3);
}

#[test]
fn nothing_is_exported_for_a_stack_that_is_only_watched() {
    let mut world = world(1);
    world.run();
    world.policy.observes = true;
    world.acm = Some(public("0a:02", Duration::days(351)));
    let plan = world.look();
    assert!(plan.steps.iter().all(|step| !matches!(step.action, WorkItem::Export(_))), "{plan:?}");
    assert_eq!(plan.blocks[0].code, BlockCode::Drifted);
}
