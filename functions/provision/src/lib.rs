//! `provision`: brings the Lattice stack of each spec to what the spec wants, keeps it there, tears it down.
//!
//! It reads the user's VPCs, subnets, groups and instances, and owns the Lattice resources, the alias record, the
//! target registration and its own ingress rules. It never reads a key and sends no command. What to do is
//! [`espalier_domain::network::plan`]'s decision; here is only which stacks to look at and what to answer.

mod answer;
mod certificate;
mod estate;
mod zones;

use std::sync::Mutex;
use std::time::Duration;

use espalier_aws::SdkConfig;
use espalier_aws::acm::Certificates;
use espalier_aws::bus::{About, Bus, Event};
use espalier_aws::lattice::Lattice;
use espalier_aws::ledger::{Ledger, Teller, Told};
use espalier_aws::route53::Route53;
use espalier_aws::specs::{Found, Specs};
use espalier_aws_autoscaling::AutoScaling;
use espalier_aws_ec2::Ec2;
use espalier_domain::acm::request;
use espalier_domain::failure::{Failure as _, chain};
use espalier_domain::id::{StackName, TargetId, spec_parameter};
use espalier_domain::network::{TargetHealth, diagnose, plan};
use espalier_domain::plan::{BlockCode, Outcome, OutcomeKind, Plan};
use espalier_domain::spec::{AllowedDomains, Drift, Manage, Select, Spec, State, parse};
use espalier_domain::told::{self, News};
use espalier_domain::work::WorkItem;
use espalier_edge::metric::{self, Unit};
use espalier_edge::{Direct, EdgeError, Env, Function, Hint, HintKind, Invocation, Mode, Trigger};
use espalier_reconcile::{Clock, FailedStep, Limits, SystemClock, World, jitter, reconcile};
use futures::{StreamExt, join, stream};

pub use answer::{Answer, StackAnswer, Teardown};
use certificate::Requested;
use estate::{Hands, Network};

/// Stacks looked at side by side in a sweep; one that waits for AWS must not keep the others waiting.
const STACKS_AT_A_TIME: usize = 4;

/// No step begins later than this before Lambda ends the invocation: a call may take its time.
const RESERVE: Duration = Duration::from_secs(20);

/// A rotation waits for the answer to its work item: whatever takes longer is left to the sweep, or the next item.
const JOIN: Duration = Duration::from_secs(25);

/// What had a stack looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompt {
    /// Somebody asked, or put a spec: they want to hear what is in the way, also when it is the same again.
    Person,
    /// A schedule or an event.
    Look,
}

/// The function with its clients.
#[derive(Debug, Clone)]
pub struct Provision<C = SystemClock> {
    specs: Specs,
    lattice: Lattice,
    ec2: Ec2,
    route53: Route53,
    certificates: Certificates,
    scaling: AutoScaling,
    ledger: Ledger,
    bus: Bus,
    allowed: AllowedDomains,
    clock: C,
}

/// Which specs an event may concern.
type Filter<'a> = &'a (dyn Fn(&Spec) -> bool + Sync);

/// Whether a spec selects this Auto Scaling group.
fn selects(spec: &Spec, group: &str) -> bool {
    match &spec.targets.select {
        Select::AutoScalingGroups(names) => names.iter().any(|name| name == group),
        Select::InstanceIds(_) | Select::Tag { .. } | Select::Addresses(_) | Select::Hosts(_) => false,
    }
}

impl Function for Provision {
    const NAME: &'static str = "provision";
    type Request = Trigger;
    type Answer = Answer;

    async fn start(env: &Env) -> Result<Self, EdgeError> {
        let allowed = env.parsed("ESPALIER_ALLOWED_DOMAINS", AllowedDomains::parse)?;
        let table = env.required("ESPALIER_LEDGER_TABLE")?;
        Ok(Self::new(&espalier_aws::sdk().await, allowed, table, SystemClock))
    }

    async fn handle(&self, request: Trigger, invocation: &Invocation) -> Result<Answer, EdgeError> {
        let limits = Limits::until(invocation.deadline - RESERVE);
        self.answer(request, limits).await
    }
}

impl<C: Clock> Provision<C> {
    /// Builds the clients; `table` is the ledger's.
    pub fn new(sdk: &SdkConfig, allowed: AllowedDomains, table: impl Into<String>, clock: C) -> Self {
        Self {
            specs: Specs::new(sdk),
            lattice: Lattice::new(sdk),
            ec2: Ec2::new(sdk),
            route53: Route53::new(sdk),
            certificates: Certificates::new(sdk),
            scaling: AutoScaling::new(sdk),
            ledger: Ledger::new(sdk, table),
            bus: Bus::new(sdk),
            allowed,
            clock,
        }
    }

    /// Answers a request within the limits.
    ///
    /// # Errors
    /// `Invalid` for a request that is not for this function; else the word of the failure that time alone will not
    /// end, when there was one. Every other stack of a sweep has been brought as far as it goes before.
    pub async fn answer(&self, request: Trigger, limits: Limits) -> Result<Answer, EdgeError> {
        match request {
            Trigger::Direct(Direct { stack, mode, spec }) => {
                if matches!(mode, Mode::Verify | Mode::Status | Mode::Check { .. } | Mode::Emergency(_)) {
                    let text = "direct request, field `mode`: `verify`, `status`, `check` and `emergency` are for `rotate`; \
                                `provision` takes `apply`, `plan` and `diagnose`";
                    return Err(EdgeError::invalid(text));
                }
                let text = match spec {
                    Some(inline) => Some(inline.to_string()),
                    None => self.specs.get(&stack).await?,
                };
                let one = match mode {
                    Mode::Plan => self.plan_only(&stack, text).await?,
                    Mode::Diagnose => self.diagnose(&stack, text).await?,
                    Mode::Apply | Mode::Verify | Mode::Status | Mode::Check { .. } | Mode::Emergency(_) => {
                        self.converge(&stack, text, limits, Prompt::Person).await
                    }
                };
                Answer::one(one)
            }
            Trigger::Hint(hint) => self.hint(&hint, limits).await,
            Trigger::Work(WorkItem::Membership(item)) => {
                let text = self.specs.get(&item.stack).await?;
                let limits = Limits { deadline: limits.deadline.min(self.clock.now() + JOIN), ..limits };
                Answer::one(self.converge(&item.stack, text, limits, Prompt::Look).await)
            }
            Trigger::Pass(_) | Trigger::Work(_) => Err(EdgeError::invalid(
                "`provision` takes hints, direct requests and work items of the kind `membership`, and no passes",
            )),
        }
    }

    /// Looks at the stack the hint names, or at every stack when it may concern any.
    async fn hint(&self, hint: &Hint, limits: Limits) -> Result<Answer, EdgeError> {
        match (hint.kind, &hint.stack) {
            (HintKind::Spec | HintKind::Own, Some(stack)) => {
                let text = self.specs.get(stack).await?;
                let prompt = if hint.kind == HintKind::Spec { Prompt::Person } else { Prompt::Look };
                Answer::one(self.converge(stack, text, limits, prompt).await)
            }
            (HintKind::Instance, _) if hint.scaling_group.is_none() && !hint.instances.is_empty() => {
                self.those_of(&hint.instances, limits).await
            }
            (HintKind::Sweep | HintKind::Spec | HintKind::Own | HintKind::Instance, _) => {
                let selects = hint.scaling_group.as_deref().map(|group| move |spec: &Spec| selects(spec, group));
                self.sweep(selects.as_ref().map(|selects| selects as Filter<'_>), limits).await
            }
            // Whose validation records may be gone is not said: whoever requests a certificate is looked at.
            (HintKind::Certificate, _) => self.sweep(Some(&|spec| request::wanted(spec).is_some()), limits).await,
            // Commands and other parameters change nothing about the network.
            (HintKind::Command | HintKind::Parameter | HintKind::Health, _) => Answer::several(Vec::new()),
        }
    }

    /// Looks at the stacks that were last seen to have one of these instances: most that leave an account are nobody's target.
    async fn those_of(&self, instances: &[TargetId], limits: Limits) -> Result<Answer, EdgeError> {
        let mut concerned = Vec::new();
        for found in self.specs.all().await? {
            let Ok(stack) = StackName::parse(found.name.as_str()) else { continue };
            let is_concerned = match self.ledger.membership(&stack).await {
                Ok(known) => known.is_some_and(|known| {
                    instances.iter().filter_map(|one| known.members.get(one)).any(|member| member.registered)
                }),
                // A look finds it out, or says why it cannot.
                Err(error) => {
                    tracing::warn!(%stack, error = chain(&error), "it is not known whose targets they were");
                    true
                }
            };
            if is_concerned {
                concerned.push(found);
            }
        }
        self.look_at(concerned, limits).await
    }

    /// Looks at every stack, or at those that pass the filter, which no spec does that cannot be read.
    async fn sweep(&self, filter: Option<Filter<'_>>, limits: Limits) -> Result<Answer, EdgeError> {
        let mut concerned = self.specs.all().await?;
        if let Some(passes) = filter {
            concerned.retain(|found| parse(&found.text, &self.allowed).is_ok_and(|spec| passes(&spec)));
        }
        self.look_at(concerned, limits).await
    }

    async fn look_at(&self, concerned: Vec<Found>, limits: Limits) -> Result<Answer, EdgeError> {
        let answers = stream::iter(concerned)
            .map(|found| async move {
                match StackName::parse(found.name.as_str()) {
                    Ok(stack) => self.converge(&stack, Some(found.text), limits, Prompt::Look).await,
                    Err(error) => StackAnswer::blocked(found.name, BlockCode::SpecInvalid, error.to_string()),
                }
            })
            .buffered(STACKS_AT_A_TIME)
            .collect()
            .await;
        Answer::several(answers)
    }

    /// The whole loop for one stack, and the event about it.
    async fn converge(&self, stack: &StackName, text: Option<String>, limits: Limits, prompt: Prompt) -> StackAnswer {
        let (about, answer, found) = match self.spec(stack, text) {
            Err(blocked) => (About { stack: stack.clone(), owner: None, notify: Vec::new() }, *blocked, Vec::new()),
            Ok(spec) if spec.manage == Manage::Nothing => return self.observe_only(&spec).await,
            Ok(spec) => {
                let network = self.network(&spec, Hands::Writing);
                let requested = self.requested(&spec);
                let (report, certificate) = join!(
                    reconcile(&network, &self.clock, limits, jitter),
                    reconcile(&requested, &self.clock, limits, jitter)
                );
                let report = answer::both(report, certificate);
                if let Some(health) = network.health.into_inner().unwrap_or_default() {
                    self.count(stack, health);
                }
                let about =
                    About { stack: stack.clone(), owner: Some(spec.owner.clone()), notify: spec.notify.clone() };
                let found = network.drift.into_inner().unwrap_or_default();
                let drift = Event::StackDrifted { repaired: spec.drift == Drift::Repair, found };
                let unproven = network.unproven.into_inner().unwrap_or_default();
                let targets = (unproven > 0).then_some(Event::TargetsUnproven { unproven });
                let is_torn_down = spec.state == State::Absent && !spec.deletion_protection;
                let teardown = is_torn_down.then(|| Teardown {
                    deleted: network.gone.into_inner().unwrap_or_default(),
                    left: network.left.into_inner().unwrap_or_default(),
                });
                (about, StackAnswer::of(stack, report, teardown), targets.into_iter().chain([drift]).collect())
            }
        };
        self.tell(&about, &answer, found, prompt).await;
        answer
    }

    /// Writes what VPC Lattice said of the stack's targets: it has no such metric, and alarms need one.
    fn count(&self, stack: &StackName, TargetHealth { serving, unhealthy, in_transit }: TargetHealth) {
        let (now, dimensions) = (self.clock.now(), [("Stack", stack.as_str())]);
        metric::emit(
            now,
            &dimensions,
            &[
                ("TargetsServing", Unit::Count, f64::from(serving)),
                ("TargetsUnhealthy", Unit::Count, f64::from(unhealthy)),
                ("TargetsInTransit", Unit::Count, f64::from(in_transit)),
            ],
        );
    }

    /// A stack of which nothing is ours. `rotate` finds its targets by itself, but for those of Auto Scaling groups.
    async fn observe_only(&self, spec: &Spec) -> StackAnswer {
        let mut answer = StackAnswer::untouched(&spec.stack);
        if let Select::AutoScalingGroups(groups) = &spec.targets.select
            && let Err(error) = self.network(spec, Hands::Writing).note_members(groups).await
        {
            let (wave, action) = (0, "look".to_owned());
            answer.failures.push(FailedStep { wave, action, word: error.word(), text: chain(&error) });
        }
        answer
    }

    /// Sends what happened. What was done stays done whether the bus hears of it or not.
    async fn tell(&self, about: &About, answer: &StackAnswer, mut events: Vec<Event>, prompt: Prompt) {
        events.retain(|event| !matches!(event, Event::StackDrifted { found, .. } if found.is_empty()));
        for event in &events {
            if let Event::StackDrifted { found, .. } = event {
                let dimensions = [("Function", "provision"), ("Stack", about.stack.as_str())];
                #[expect(clippy::cast_precision_loss, reason = "a plan has few steps")]
                metric::emit(self.clock.now(), &dimensions, &[("Drift", Unit::Count, found.len() as f64)]);
            }
        }
        events.extend(answer.events());
        let found = self.news(&about.stack, &answer.outcome).await;
        if prompt == Prompt::Look && found.as_ref().is_some_and(|(_, news)| news.repeated) {
            events.retain(|event| !matches!(event, Event::StackBlocked { .. }));
        }
        if !events.is_empty()
            && let Err(error) = self.bus.put(about, &events).await
        {
            tracing::warn!(stack = %about.stack, error = chain(&error), "the event was not sent");
            return;
        }
        // Noted only now: what nobody heard is told again.
        if let Some((told, news)) = found
            && let Err(error) = self.ledger.note_told(Teller::Provision, &about.stack, &told, &news.record).await
        {
            tracing::warn!(stack = %about.stack, error = chain(&error), "it was not noted what was told");
        }
    }

    /// What was told last, and what of the outcome's blocks is news; nothing where none is, or the ledger cannot be read.
    async fn news(&self, stack: &StackName, outcome: &Outcome) -> Option<(Told, News)> {
        if outcome.outcome != OutcomeKind::Blocked {
            return None;
        }
        match self.ledger.told(Teller::Provision, stack).await {
            Ok(told) => {
                let news = told::news(told.record(), &outcome.blocks, None, self.clock.now());
                Some((told, news))
            }
            Err(error) => {
                tracing::warn!(%stack, error = chain(&error), "it is not known what was told, so that it is told");
                None
            }
        }
    }

    /// What would be done, changing nothing.
    async fn plan_only(&self, stack: &StackName, text: Option<String>) -> Result<StackAnswer, EdgeError> {
        let spec = match self.spec(stack, text) {
            Ok(spec) => spec,
            Err(blocked) => return Ok(*blocked),
        };
        if spec.manage == Manage::Nothing {
            return Ok(StackAnswer::planned(stack, &Plan::default(), &Plan::default()));
        }
        let plan = plan(&spec, &self.network(&spec, Hands::Tied).observe().await?);
        let certificate = request::plan(&spec, &self.requested(&spec).observe().await?);
        Ok(StackAnswer::planned(stack, &plan, &certificate))
    }

    /// What is wrong with a running stack, changing nothing.
    async fn diagnose(&self, stack: &StackName, text: Option<String>) -> Result<StackAnswer, EdgeError> {
        let spec = match self.spec(stack, text) {
            Ok(spec) => spec,
            Err(blocked) => return Ok(*blocked),
        };
        let network = self.network(&spec, Hands::Tied);
        let observed = network.observe().await?;
        let checkup = network.checkup(&observed).await?;
        Ok(StackAnswer::diagnosed(stack, diagnose(&spec, &observed, &checkup)))
    }

    /// The stack's spec, or the block that stands in its place. A spec that cannot be read is never a teardown.
    fn spec(&self, stack: &StackName, text: Option<String>) -> Result<Box<Spec>, Box<StackAnswer>> {
        let blocked = |code, because: String| Box::new(StackAnswer::blocked(stack.to_string(), code, because));
        let Some(text) = text else {
            let because = format!("there is no parameter {}; write the spec there", spec_parameter(stack));
            return Err(blocked(BlockCode::SpecMissing, because));
        };
        let spec = parse(&text, &self.allowed).map_err(|errors| blocked(BlockCode::SpecInvalid, errors.to_string()))?;
        if spec.stack != *stack {
            let because = format!("/stack: the spec of {stack} says it is the spec of {}", spec.stack);
            return Err(blocked(BlockCode::SpecInvalid, because));
        }
        Ok(Box::new(spec))
    }

    fn requested<'a>(&'a self, spec: &'a Spec) -> Requested<'a> {
        let Self { certificates, route53, ledger, .. } = self;
        Requested { certificates, route53, ledger, spec }
    }

    fn network<'a>(&'a self, spec: &'a Spec, hands: Hands) -> Network<'a, C> {
        let Self { lattice, ec2, route53, scaling, ledger, clock, .. } = self;
        let (drift, unproven, health) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (gone, left) = (Mutex::default(), Mutex::default());
        Network { lattice, ec2, route53, scaling, ledger, clock, spec, drift, hands, unproven, health, gone, left }
    }
}
