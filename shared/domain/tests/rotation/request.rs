//! A certificate that a spec asks to be requested: one at a time, its records written and kept, whatever is lost on the way.

use std::collections::BTreeMap;

use espalier_domain::acm::request::{self, Action, Seen, Zone};
use espalier_domain::acm::{AcmEvidence, AcmStatus, ValidationRecord};
use espalier_domain::id::AcmArn;
use espalier_domain::network::render;
use espalier_domain::plan::BlockCode;
use espalier_domain::record::RequestedRecord;
use espalier_domain::spec::{self, AllowedDomains, Spec};
use serde_json::{Value, json};

fn spec(change: impl FnOnce(&mut Value)) -> Spec {
    let mut document: Value = serde_json::from_str(include_str!("../../../../examples/acm.json")).unwrap();
    document["certificate"]["issuer"] = json!({"kind": "acm", "request": {"hostedZoneId": "Z0PUBLIC"}});
    change(&mut document);
    spec::parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap()).unwrap()
}

/// ACM, one zone and the ledger, as far as requests go.
#[derive(Clone)]
struct World {
    zone: Option<Zone>,
    records: BTreeMap<String, Option<String>>,
    /// With the tags and the token they were requested with.
    certificates: Vec<(AcmEvidence, BTreeMap<String, String>, String)>,
    /// Whether ACM's list shows what was just made.
    is_listed: bool,
    remembered: Option<RequestedRecord>,
    requests: u32,
    trace: String,
}

/// What becomes of the effects of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Luck {
    Good,
    /// The caller dies after the call to ACM and before it has written anything down.
    Killed,
}

impl World {
    fn new() -> Self {
        let zone = Some(Zone { name: "example.com".into(), is_private: false });
        let (records, certificates) = Default::default();
        Self { zone, records, certificates, is_listed: true, remembered: None, requests: 0, trace: String::new() }
    }

    fn find(&self, arn: &AcmArn) -> Option<&AcmEvidence> {
        self.certificates.iter().map(|(one, ..)| one).find(|one| one.certificate == *arn)
    }

    fn look(&self, spec: &Spec) -> Seen {
        let mark = request::mark(spec);
        let known = self.remembered.as_ref().filter(|known| known.request == mark);
        let tagged = || {
            let all = self.certificates.iter().filter(|(_, tags, _)| self.is_listed && *tags == request::tags(spec));
            request::choose(all.map(|(one, ..)| one.clone()).collect())
        };
        let certificate = known.and_then(|known| self.find(&known.certificate).cloned()).or_else(tagged);
        let records = certificate.iter().flat_map(|one| &one.validation);
        let answers = records.filter_map(|one| Some((one.name.clone(), self.records.get(&one.name)?.clone())));
        let answers = answers.collect();
        Seen { remembered: self.remembered.clone(), certificate, zone: self.zone.clone(), answers }
    }

    fn take(&mut self, spec: &Spec, action: &Action, luck: Luck) {
        match action {
            Action::Request(wish) => {
                self.requests += 1;
                let same = self.certificates.iter().find(|(.., token)| *token == wish.token);
                let same = same.map(|(one, ..)| one.certificate.clone());
                let certificate = same.unwrap_or_else(|| self.make(wish));
                if luck == Luck::Good {
                    self.remembered = Some(RequestedRecord { certificate, request: request::mark(spec) });
                }
            }
            Action::Remember(record) => self.remembered = Some(record.clone()),
            Action::WriteRecord { record, .. } => {
                self.records.insert(record.name.clone(), Some(record.value.clone()));
            }
        }
    }

    fn make(&mut self, wish: &request::Wish) -> AcmArn {
        let number = self.certificates.len() + 1;
        let arn = format!("arn:aws:acm:eu-west-1:111122223333:certificate/{number:08}");
        let arn = AcmArn::parse(arn).unwrap();
        let names = std::iter::once(&wish.domain_name).chain(&wish.other_names);
        let names = names.map(ToString::to_string).collect();
        let made = AcmEvidence { status: AcmStatus::PendingValidation, names, ..AcmEvidence::missing(arn.clone()) };
        self.certificates.push((made, wish.tags.clone(), wish.token.clone()));
        arn
    }

    /// ACM goes on: makes up records, then issues what they are there for.
    fn acm_goes_on(&mut self) {
        for (one, ..) in &mut self.certificates {
            if one.validation.is_empty() {
                let record = |name: &String| ValidationRecord {
                    name: format!("_a.{name}"),
                    value: format!("_b.{name}.acm-validations.aws"),
                };
                one.validation = one.names.iter().map(record).collect();
            } else if one.status == AcmStatus::PendingValidation {
                let is_there =
                    |record: &ValidationRecord| self.records.get(&record.name) == Some(&Some(record.value.clone()));
                if one.validation.iter().all(is_there) {
                    one.status = AcmStatus::Issued;
                }
            }
        }
    }

    fn told(&mut self, spec: &Spec) -> Vec<BlockCode> {
        let plan = request::plan(spec, &self.look(spec));
        self.trace.push_str(&render(&plan));
        plan.blocks.iter().map(|block| block.code).collect()
    }

    /// Looks, acts and lets ACM go on until nothing is left to do; how many steps that took.
    fn run(&mut self, spec: &Spec, luck: &mut dyn FnMut() -> Luck) -> u32 {
        let mut steps = 0;
        for _ in 0..20 {
            let plan = request::plan(spec, &self.look(spec));
            self.trace.push_str(&render(&plan));
            if plan.is_converged() || (plan.steps.is_empty() && plan.waits.is_empty()) {
                return steps;
            }
            for step in &plan.steps {
                steps += 1;
                self.take(spec, &step.action, luck());
            }
            if plan.steps.is_empty() {
                self.acm_goes_on();
            }
        }
        panic!("no end in sight:\n{}", self.trace);
    }

    fn runs_well(&mut self, spec: &Spec) -> u32 {
        self.run(spec, &mut || Luck::Good)
    }

    fn note(&mut self, what: &str) {
        self.trace.push_str(&format!("-- {what}\n"));
    }
}

#[test]
fn a_certificate_is_requested_once_and_its_records_are_kept() {
    let names = json!(["api-service.example.com", "www.example.com"]);
    let spec = spec(|document| {
        let domain = document["service"]["domainName"].clone();
        document["certificate"]["dnsNames"] = json!([names[1], domain]);
    });
    let mut world = World::new();
    world.runs_well(&spec);
    assert_eq!((world.requests, world.runs_well(&spec)), (1, 0), "planning again plans something");
    world.note("somebody deletes a validation record");
    world.records.pop_first();
    world.runs_well(&spec);
    world.note("somebody deletes the certificate in ACM");
    let first = world.certificates.pop().unwrap();
    world.runs_well(&spec);
    assert!(world.requests == 2 && first.2 != world.certificates[0].2, "the former one's token would bring it back");
    world.note("the spec is rewritten with the same names in another order");
    let same = self::spec(|document| {
        document["certificate"]["dnsNames"] = json!([document["service"]["domainName"], names[1]]);
    });
    assert_eq!(world.runs_well(&same), 0);
    world.note("the spec asks for another key");
    let other = self::spec(|document| {
        document["certificate"]["dnsNames"] = json!([document["service"]["domainName"], names[1]]);
        document["certificate"]["keyType"] = json!("RSA_2048");
    });
    world.runs_well(&other);
    assert_eq!((world.requests, world.certificates.len()), (3, 2), "and the former certificate stays");
    let path = format!("{}/tests/golden/rotation/requested.txt", env!("CARGO_MANIFEST_DIR"));
    expectorate::assert_contents(path, &world.trace);
}

/// Killed after any step, once or again and again, with ACM's list up to date or not: there is one certificate.
#[test]
fn whoever_is_killed_on_the_way_is_taken_over_from() {
    let spec = spec(|_| {});
    for is_listed in [true, false] {
        for killed in 0..4_u32 {
            let mut world = World { is_listed, ..World::new() };
            let mut left = killed;
            world.run(&spec, &mut || {
                left = left.saturating_sub(1);
                if left > 0 { Luck::Killed } else { Luck::Good }
            });
            assert_eq!(
                (world.certificates.len(), world.look(&spec).certificate.unwrap().status),
                (1, AcmStatus::Issued)
            );
            assert_eq!(world.runs_well(&spec), 0);
            let known = world.remembered.as_ref().map(|known| &known.certificate);
            assert_eq!(known, Some(&world.certificates[0].0.certificate), "rotate and export read the ledger alone");
        }
    }
}

#[test]
fn two_at_once_get_the_same_certificate() {
    let spec = spec(|_| {});
    let mut world = World::new();
    let plan = request::plan(&spec, &world.look(&spec));
    for _ in 0..2 {
        world.take(&spec, &plan.steps[0].action, Luck::Good);
    }
    world.runs_well(&spec);
    assert_eq!((world.requests, world.certificates.len()), (2, 1));
}

#[test]
fn a_zone_in_which_acm_finds_nothing_blocks_before_anything_is_requested() {
    let good = spec(|_| {});
    let cases = [
        (None, BlockCode::NotFound, "Z0PUBLIC"),
        (Some(Zone { name: "example.com".into(), is_private: true }), BlockCode::Unsupported, "private"),
        (Some(Zone { name: "ple.com".into(), is_private: false }), BlockCode::Unsupported, "is not in hosted zone"),
        (
            Some(Zone { name: "other.example.com".into(), is_private: false }),
            BlockCode::Unsupported,
            "is not in hosted zone",
        ),
    ];
    for (zone, code, word) in cases {
        let mut world = World { zone, ..World::new() };
        assert_eq!((world.told(&good), world.runs_well(&good)), (vec![code], 0));
        assert!(world.trace.contains(word) && world.certificates.is_empty(), "{}", world.trace);
    }
}

#[test]
fn what_is_not_ours_at_a_records_name_stays_and_is_told() {
    let spec = spec(|_| {});
    let name = format!("_a.{}", spec.service.domain_name);
    for held in [None, Some("elsewhere.example.net".to_owned())] {
        let mut world = World::new();
        world.records.insert(name.clone(), held.clone());
        world.runs_well(&spec);
        assert_eq!(world.told(&spec), [BlockCode::Foreign]);
        assert_eq!(world.records[&name], held);
    }
}

/// `rotate` tells those; here nothing is done about them, and least of all another one requested, which would cost again.
#[test]
fn a_certificate_that_failed_is_not_requested_again_by_itself() {
    let spec = spec(|_| {});
    for status in [AcmStatus::Failed, AcmStatus::ValidationTimedOut, AcmStatus::Revoked, AcmStatus::Expired] {
        let mut world = World::new();
        world.runs_well(&spec);
        world.certificates[0].0.status = status;
        assert_eq!((world.runs_well(&spec), world.told(&spec), world.requests), (0, vec![], 1));
    }
}

#[test]
fn nothing_is_requested_for_a_stack_that_is_not_to_be() {
    let absent = spec(|document| {
        document["state"] = json!("absent");
        document["deletionProtection"] = json!(false);
    });
    assert_eq!(World::new().runs_well(&absent), 0);
    let named = spec(|document| {
        let arn = "arn:aws:acm:eu-west-1:111122223333:certificate/61f50cd4-45b9-4259-b049-d0a53682fa4b";
        document["certificate"]["issuer"] = json!({"kind": "acm", "certificateArn": arn});
    });
    assert_eq!(World::new().runs_well(&named), 0);
}

/// ACM takes 1 to 32 word characters (API reference, `RequestCertificate`).
#[test]
fn the_token_is_one_that_acm_takes() {
    let token = request::wish(&spec(|_| {}), None).token;
    assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
}
