//! One world's life: some specs one after another, each cut short, then one that is left in peace.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::task::Poll;

use espalier_domain::id::{HostedZoneId, VpcId};
use espalier_domain::network::{SeenGroup, Status, plan};
use espalier_domain::plan::{BlockCode, OutcomeKind};
use espalier_domain::spec::{self, AllowedDomains, Select, Spec, State, TargetKind};
use espalier_reconcile::{Clock, Limits, Report, reconcile};
use futures::executor::block_on;
use futures::future::join;
use serde_json::{Value, json};
use time::Duration;

use super::hosts::{SCALING, found};
use super::shape::{Dice, shape};
use super::stage::{Scene, Stage};
use super::trouble::{Fault, Met};
use super::world::{Group, Service, Tags, Thing, World, groups, rule};
use super::zones::Zone;

const ONE: &str = "i-0a1b2c3d4e5f60711";
const TWO: &str = "i-0a1b2c3d4e5f60712";
const THREE: &str = "i-0a1b2c3d4e5f60713";

/// Somebody else's private zone, of the name that ours has, in a VPC of theirs.
const THEIR_ZONE: &str = "ZTHEIRS";

const LOG_GROUP: &str = "arn:aws:logs:eu-west-1:111122223333:log-group:access";

/// The recipe's spec after `change`.
fn spec(change: impl FnOnce(&mut Value)) -> Spec {
    let mut document: Value = serde_json::from_str(include_str!("../../../../examples/recipe.json")).unwrap();
    change(&mut document);
    spec::parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap()).unwrap()
}

/// What is wanted, one after another.
pub(crate) static GOALS: LazyLock<Vec<Spec>> = LazyLock::new(goals);

/// Where each goal leads in a world in which nothing ever goes wrong.
static ENDS: LazyLock<Vec<BTreeSet<String>>> = LazyLock::new(|| (0..GOALS.len()).map(end_of).collect());

fn goals() -> Vec<Spec> {
    let others = "sg-0a1b2c3d4e5f60799";
    vec![
        spec(|_| {}),
        spec(|it| (it["state"], it["deletionProtection"]) = (json!("absent"), json!(false))),
        spec(|it| it["targets"]["port"] = json!(8443)),
        spec(|it| {
            it["network"]["consumers"].as_array_mut().unwrap().remove(1);
            it["healthCheck"] = json!({"enabled": true, "port": 8080});
        }),
        spec(|it| it["targets"]["select"] = json!({"instanceIds": [ONE, THREE]})),
        spec(|it| it["service"]["idleTimeoutSeconds"] = json!(300)),
        spec(|it| it["service"]["accessLogs"] = json!({"destinationArn": "arn:aws:s3:::access-logs"})),
        spec(|it| it["service"]["accessLogs"] = json!({"destinationArn": LOG_GROUP})),
        spec(|it| it["service"]["port"] = json!(8443)),
        spec(|it| it["service"]["dns"]["hostedZoneId"] = json!("Z0FFFFFFFFFFFF")),
        spec(|it| it["service"]["dns"] = json!({"privateZone": {"name": "api-service.example.com"}})),
        spec(|it| {
            it["service"]["dns"] = json!({"privateZone": {"name": "example.com"}});
            it["network"]["consumers"].as_array_mut().unwrap().remove(1);
        }),
        spec(|it| it["network"]["consumers"][1]["securityGroupIds"] = json!([others])),
        // Several target groups, of two and of one.
        spec(|it| it["targets"]["targetsPerGroup"] = json!(2)),
        spec(|it| {
            it["targets"]["targetsPerGroup"] = json!(1);
            it["targets"]["select"] = json!({"instanceIds": [ONE, THREE]});
            it["healthCheck"] = json!({"enabled": true});
        }),
        spec(|it| it["targets"]["targetsPerGroup"] = json!(1)),
        // Whatever answers at addresses, in one group and in two.
        spec(|it| it["targets"]["select"] = json!({"addresses": [{"address": "10.0.1.5"}, {"address": "10.0.2.5"}]})),
        spec(|it| {
            it["targets"]["targetsPerGroup"] = json!(2);
            it["targets"]["select"] = json!({"addresses": [
                {"address": "10.0.1.5"}, {"address": "10.0.1.6", "node": "mi-0a1b2c3d4e5f60711"}, {"address": "10.0.2.7"}]});
        }),
        spec(|it| {
            it["targets"]["port"] = json!(9443);
            it["healthCheck"] = json!({"enabled": true});
            it["targets"]["select"] = json!({"instanceIds": [TWO]});
        }),
        // Who may connect.
        spec(|it| it["service"]["authPolicy"] = policy(&["vpc-0a1b2c3d4e5f60718"])),
        spec(|it| {
            it["service"]["authPolicy"] = policy(&["vpc-0a1b2c3d4e5f60718", "vpc-1a1b2c3d4e5f60718"]);
            it["targets"]["minimumInService"] = json!(2);
        }),
        // Whom an Auto Scaling group has, in one group and in several.
        spec(|it| it["targets"]["select"] = json!({"autoScalingGroups": [SCALING]})),
        spec(|it| {
            it["targets"]["select"] = json!({"autoScalingGroups": [SCALING]});
            it["targets"]["minimumInService"] = json!(2);
            it["targets"]["targetsPerGroup"] = json!(2);
            it["healthCheck"] = json!({"enabled": true});
        }),
    ]
}

fn policy(vpcs: &[&str]) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*",
        "Action": "vpc-lattice-svcs:Invoke", "Resource": "*",
        "Condition": {"StringEquals": {"vpc-lattice-svcs:SourceVpc": vpcs}}}]})
}

/// The security groups that any goal names, open to all.
fn every_group() -> Vec<SeenGroup> {
    let all = GOALS.iter().flat_map(groups).map(|group| (group.id.clone(), group));
    let once: BTreeMap<_, _> = all.collect();
    once.into_values().map(|group| SeenGroup { open_ports: vec![(1, 65_535)], ..group }).collect()
}

pub(crate) struct Life {
    scene: Mutex<Scene>,
}

impl Life {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = World::new(&GOALS[0], &[ONE, TWO, THREE]);
        world.estate.groups = every_group();
        found(&GOALS[0], &mut world);
        strangers(&mut world);
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self { scene: Mutex::new(Scene::new(world, dice)) }
    }

    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn roll(&self, sides: usize) -> usize {
        self.scene().dice.roll(sides)
    }

    pub(crate) fn met(&self) -> Met {
        self.scene().met.clone()
    }

    pub(crate) fn story(&self) -> String {
        self.scene().story.clone()
    }

    pub(crate) fn live(&self) {
        for _ in 0..1 + self.roll(3) {
            let goal = self.roll(GOALS.len());
            self.roughly(goal);
        }
        let goal = self.roll(GOALS.len());
        self.in_peace(goal);
    }

    /// Some runs, alone or two at a time, that may be cut off anywhere.
    fn roughly(&self, goal: usize) {
        let spec = &GOALS[goal];
        self.begin(spec, &format!("goal {goal}"));
        for _ in 0..1 + self.roll(3) {
            self.meddle(spec);
            let (first, second) = (self.cut(), self.cut());
            if self.roll(3) == 0 {
                self.scene().meet(Fault::Concurrent);
                self.scene().runs = 2;
                let (_, _) = block_on(join(self.run(spec, first), self.run(spec, second)));
            } else {
                self.scene().runs = 1;
                block_on(self.run(spec, first));
            }
        }
    }

    /// Whatever was begun under another spec is over, and lists have caught up with it.
    fn begin(&self, spec: &Spec, words: &str) {
        let mut scene = self.scene();
        scene.tell(words);
        scene.looks.clear();
        scene.others_did();
        let wait = i64::try_from(scene.dice.roll(20)).unwrap();
        scene.pass(5 + wait, spec);
    }

    fn cut(&self) -> Option<(u32, bool)> {
        let call = 1 + u32::try_from(self.roll(14)).unwrap();
        (self.roll(2) == 0).then(|| (call, self.roll(2) == 0))
    }

    /// One run of the loop; `None` when it was cut off.
    async fn run(&self, spec: &Spec, cut: Option<(u32, bool)>) -> Option<Report> {
        let stage = Stage { scene: &self.scene, spec, cut, calls: Mutex::new(0), is_cut: AtomicBool::new(false) };
        self.scene().tell("  run");
        // Lambda's 15 minutes, less the reserve; a rotation that asks for membership waits for 25 seconds.
        let seconds = if self.roll(4) == 0 { 25 } else { 880 };
        let limits = Limits::until(stage.now() + Duration::seconds(seconds));
        let spread = || f64::from(u16::try_from(self.roll(1000)).unwrap()) / 1000.0;
        let report = {
            let mut run = pin!(reconcile(&stage, &stage, limits, spread));
            poll_fn(|context| match run.as_mut().poll(context) {
                Poll::Ready(report) => Poll::Ready(Some(report)),
                Poll::Pending if stage.is_cut.load(Ordering::Relaxed) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let mut scene = self.scene();
        scene.runs -= 1;
        let words = match &report {
            Some(report) => format!("  {:?} {:?} {:?}", report.outcome.outcome, report.outcome.blocks, report.failures),
            None => "  cut off".to_owned(),
        };
        scene.tell(&words);
        report
    }

    /// The schedule starts a run as often as it takes, and the hosts are well.
    fn until(&self, spec: &Spec, kind: OutcomeKind) -> Report {
        for _ in 0..24 {
            self.scene().runs = 1;
            let report = block_on(self.run(spec, None)).unwrap();
            assert!(report.failures.is_empty(), "{:?}", report.failures);
            let mut scene = self.scene();
            if report.outcome.outcome == kind && (kind == OutcomeKind::Blocked || scene.is_well(spec)) {
                return report;
            }
            scene.pass(900, spec);
            scene.live(spec);
        }
        panic!("no end in sight");
    }

    fn in_peace(&self, goal: usize) {
        let spec = &GOALS[goal];
        self.begin(spec, &format!("goal {goal}, in peace"));
        self.scene().is_rough = false;
        self.somebody_in_the_way(spec);
        self.until(spec, OutcomeKind::Converged);
        self.scene().tell("  converged");
        for _ in 0..3 {
            let mut scene = self.scene();
            scene.pass(600, spec);
            let again = plan(spec, &scene.world.look(spec));
            assert!(again.is_converged(), "planning again plans {again:?}");
        }
        let scene = self.scene();
        if spec.targets.targets_per_group == 1_000 && !is_scaled(spec) {
            assert_eq!(shape(&scene.world), ENDS[goal], "another end");
        } else {
            shared_out(spec, &scene.world);
        }
        assert!(spec.state == State::Absent || scene.world.serves(), "it does not serve");
        if spec.state == State::Absent {
            assert_eq!(scene.world.leftovers(spec), Vec::<String>::new());
        }
    }

    /// Somebody else has what we would make: it blocks, and stays as it is; when it is gone we go on.
    fn somebody_in_the_way(&self, spec: &Spec) {
        let mut scene = self.scene();
        if spec.state == State::Absent || scene.world.services.iter().any(|one| one.of.name == spec.stack.as_str()) {
            return;
        }
        scene.meet(Fault::InTheWay);
        let of = Service::new(spec.stack.as_str(), "theirs.example.com");
        scene.world.services.push(stranger("svc-0theirs", of));
        drop(scene);
        let report = self.until(spec, OutcomeKind::Blocked);
        assert!(report.outcome.blocks.iter().all(|block| block.code == BlockCode::Foreign), "{report:?}");
        self.scene().world.services.retain(|one| one.id != "svc-0theirs");
    }

    /// Somebody changes what is ours, by hand. What no longer serves for that is not our doing.
    fn meddle(&self, spec: &Spec) {
        let mut scene = self.scene();
        if scene.dice.roll(2) == 0 {
            scene.happen(spec);
        }
        if scene.dice.roll(3) > 0 {
            return;
        }
        scene.meet(Fault::Meddled);
        let pick = scene.dice.roll(14);
        let world = &mut scene.world;
        let ours = |tags: &Tags| !tags.is_empty();
        match pick {
            0 => (world.record, world.other_records) = (None, BTreeMap::new()),
            1 => world.estate.ingress.clear(),
            2 => world.listeners.clear(),
            3 => world.services.iter_mut().filter(|one| ours(&one.tags)).for_each(|one| one.of.idle = 120),
            4 => world.groups.iter_mut().filter(|one| ours(&one.tags)).for_each(|one| one.of.targets.clear()),
            5 => world.vpcs.retain(|one| !ours(&one.tags)),
            6 => world.associations.retain(|one| !ours(&one.tags)),
            8 => world.logs.clear(),
            // With a zone go its records; a private zone keeps one VPC.
            9 => {
                world.zones.retain(|zone| zone.id.as_str() == THEIR_ZONE);
                world.other_records.retain(|zone, _| !zone.as_str().starts_with("ZOWN"));
            }
            10 => {
                let ours = world.zones.iter_mut().filter(|zone| zone.id.as_str() != THEIR_ZONE);
                ours.for_each(|zone| drop(zone.vpcs.len().gt(&1).then(|| zone.vpcs.pop_last())));
            }
            7 => {
                world.services.iter_mut().for_each(|one| drop(one.tags.remove(espalier_domain::tag::SPEC_HASH)));
            }
            11 => world.services.iter_mut().filter(|one| ours(&one.tags)).for_each(|one| one.of.policy = None),
            12 => {
                world.services.iter_mut().filter(|one| ours(&one.tags)).for_each(|one| one.of.is_iam = !one.of.is_iam);
            }
            _ => world.listeners.iter_mut().for_each(|one| one.of.forwards = vec![("tg-0stranger".into(), 100)]),
        }
        world.last_clients.clear();
        scene.others_changed();
    }
}

/// Who is in which group depends on what happened before. Everybody is in one, none is without anybody, and clients come to
/// each. Lists that lag may have put more into a group than the spec says; VPC Lattice's own quota refuses more.
fn shared_out(spec: &Spec, world: &World) {
    let names = espalier_domain::network::target_group_names(spec);
    let groups: Vec<_> = world.groups.iter().filter(|group| !group.tags.is_empty()).collect();
    for group in &groups {
        assert!(names.contains(&group.of.name) && !group.of.targets.is_empty(), "{group:?}");
    }
    assert!(groups.len() == 1 || spec.targets.targets_per_group < 1_000, "{groups:?}");
    let placed: Vec<&str> = groups.iter().flat_map(|one| one.of.targets.keys().map(|(id, _)| id.as_str())).collect();
    let once: BTreeSet<&str> = placed.iter().copied().collect();
    let selected = match &spec.targets.select {
        Select::Addresses(all) => all.len(),
        // Only where nothing is Espalier's.
        Select::Hosts(_) => 0,
        Select::InstanceIds(_) | Select::Tag { .. } | Select::AutoScalingGroups(_) => {
            world.selected(spec).iter().filter(|one| one.is_running).count()
        }
    };
    assert_eq!((placed.len(), once.len()), (selected, selected), "{placed:?}");
    let weighted: BTreeSet<&str> = world.listeners[0].of.forwards.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(weighted, groups.iter().map(|group| group.id.as_str()).collect());
}

fn is_scaled(spec: &Spec) -> bool {
    matches!(spec.targets.select, Select::AutoScalingGroups(_))
}

/// Where a goal leads when nothing goes wrong.
pub(crate) fn end_of(goal: usize) -> BTreeSet<String> {
    let life = Life::new(1);
    life.scene().is_rough = false;
    life.until(&GOALS[goal], OutcomeKind::Converged);
    life.scene().pass(600, &GOALS[goal]);
    let scene = life.scene();
    shape(&scene.world)
}

/// What others have in the same account: whoever touches it ends the test.
fn strangers(world: &mut World) {
    world.networks.push(stranger("sn-0stranger", "their-network".to_owned()));
    let (name, vpc) = ("theirs".to_owned(), world.estate.vpcs[0].id.clone());
    let of = Group { name, vpc, kind: TargetKind::Instance, port: 443, check: None, targets: Default::default() };
    world.groups.push(stranger("tg-0stranger", of));
    let of = Service::new("theirs", "their.example.com");
    world.services.push(stranger("svc-0stranger", of));
    world.associations.push(stranger("snsa-0stranger", ("sn-0stranger".into(), "svc-0stranger".into())));
    world.zones.push(Zone {
        id: HostedZoneId::parse(THEIR_ZONE).unwrap(),
        name: "api-service.example.com".into(),
        comment: "theirs".into(),
        vpcs: [VpcId::parse("vpc-0fffffffffffffff1").unwrap()].into(),
        theirs: Some("a record theirs.api-service.example.com".into()),
    });
    let group = espalier_domain::id::SecurityGroupId::parse("sg-0fffffffffffffff1").unwrap();
    let source = espalier_domain::network::IngressSource::Group(group);
    world.estate.other_ingress.push(rule("sgr-0stranger".into(), source, 22));
}

fn stranger<T>(id: &str, of: T) -> Thing<T> {
    Thing { id: id.to_owned(), tags: Tags::new(), status: Status::Active, of }
}
