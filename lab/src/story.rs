//! The story `cargo lab` tells: a stack is provisioned, gets certificates, rotates them, and is torn down, with every
//! claim proven on the wire.

mod acm;
mod agent;
mod alarms;
mod canary;
mod chaos;
pub mod cli;
mod command;
mod compromise;
mod confirm;
mod csr;
pub mod deploy;
mod drift;
mod elsewhere;
mod emergency;
mod evidence;
mod expired;
mod fleet;
mod input;
pub mod judge;
mod leaks;
mod load;
mod look;
mod naive;
mod others;
mod outage;
mod page;
mod per_target;
mod policy;
mod release;
mod repair;
mod replace;
mod requests;
mod rotate;
mod rotation;
mod scale;
mod scenario;
mod stack;
mod succession;
mod teardown;
pub mod timeline;
mod traced;
mod upgrade;
pub mod watch;
pub mod world;
mod zone;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::aws::CallError;
use crate::process::Processes;
use crate::report::Report;
use crate::setup::{self, SetupError};
use crate::ui::{Phase, Ui};
use cli::CliError;
use leaks::Clean;
pub use scenario::Scenario;
use watch::{Heard, Watch, until};
use world::World;

/// What a run is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Through the real SAM CLI.
    pub sam: bool,
    /// Of this archive of a release, by the commands that are printed for it.
    pub release: Option<PathBuf>,
    /// The template's parameter `CustodyOfAuthority`.
    pub custody: String,
    /// What is told once the stack stands, in this order.
    pub scenarios: Vec<Scenario>,
    /// The targets' TLS servers, in turn.
    pub servers: Vec<Server>,
    /// Clients during rotations.
    pub clients: usize,
    /// Rotations after the first installation.
    pub rotations: u32,
    /// Afterwards as many by overwriting and restarting, for comparison.
    pub naive: bool,
    /// Seeds of rotations under faults.
    pub chaos: Vec<u64>,
    /// Stay until Ctrl-C.
    pub keep: bool,
    /// Function binaries to use in place of building.
    pub binaries: Option<PathBuf>,
    /// The lab's directory.
    pub directory: PathBuf,
}

impl Options {
    /// Fails where the control plane was not deployed of the lab's own stage, which this needs.
    fn staged(&self, what: &str) -> Result<(), StoryError> {
        if self.sam || self.release.is_some() {
            return Err(StoryError::Unmet(format!("{what} what was staged without --sam and --release")));
        }
        Ok(())
    }
}

/// A TLS server on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Server {
    /// The lab's own small rustls server, driven through the hook directory.
    Lab,
    /// Apache httpd with mod_ssl.
    Apache,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Apache => "apache",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// Something that was to be proven is not so.
    #[error("{0}")]
    Unmet(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A file, a port or a process.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A part of the world.
    #[error("{what}")]
    Part {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Setting up.
    #[error("setting up")]
    Setup(#[from] SetupError),
    /// A command line tool.
    #[error("a command of the user")]
    Cli(#[from] CliError),
    /// Looking.
    #[error("looking at the lab")]
    Call(#[from] CallError),
}

impl StoryError {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    fn boxed<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Part { what, source: Box::new(source) }
    }

    /// The error and its causes, one line each.
    fn lines(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}\n    because: {error}");
            cause = error.source();
        }
        text
    }
}

/// The stack's name in the recipe.
pub const STACK: &str = "api-service";

/// Where `verify` connects from: the kernel's choice for a process that binds nothing.
const PROBER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 1, 10));
const OUTSIDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 2, 0, 10));

/// Tells the whole story; always answers, and leaves no process behind.
pub async fn run(options: &Options, ui: &Ui) -> Report {
    let servers = options.servers.iter().map(|server| server.name().to_owned()).collect();
    let scenarios: Vec<&str> = options.scenarios.iter().map(|scenario| scenario.name()).collect();
    let mut report = Report { scenario: scenarios.join(","), servers, ..Report::default() };
    // While the world is kept, Ctrl-C means "go on and tear down".
    let kept = AtomicBool::new(false);
    let told = tokio::select! {
        told = tell(options, ui, &mut report, &kept) => told,
        () = interrupted_unless(&kept) => Err(StoryError::Interrupted),
    };
    if let Err(error) = told {
        report.error = Some(error.lines());
    }
    if let Err(error) = Processes::of(&options.directory, &options.directory.join("logs")).await {
        ui.line(&format!("ending the lab's processes: {error}"));
    }
    report.phases = ui.phases();
    report.ok = report.error.is_none() && report.leaks.is_empty();
    report
}

async fn interrupted_unless(kept: &AtomicBool) {
    loop {
        interrupted().await;
        if !kept.load(Ordering::Relaxed) {
            return;
        }
    }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

/// What the phases share.
struct Tale {
    world: World,
    watch: Watch,
    /// The control plane's outputs.
    plane: BTreeMap<String, String>,
    /// What the control plane was deployed with.
    parameters: Vec<String>,
    /// The network's outputs.
    network: BTreeMap<String, String>,
    /// The operator's command, built.
    command: PathBuf,
    /// A VPC that has nothing to do with the stack.
    outsider: String,
    /// The followed ACM certificate.
    certificate: String,
    /// The one that the control plane has an alarm for.
    watched: String,
    /// The spec as it was put.
    spec: Value,
    /// The spec's certificate from before it came out of ACM, while it does.
    former_certificate: Option<Value>,
    /// What clients trust.
    roots: String,
}

async fn tell(options: &Options, ui: &Ui, report: &mut Report, kept: &AtomicBool) -> Result<(), StoryError> {
    ui.line("Espalier's lab: the real functions, template and installer in a world on this machine\n");
    let mut tale = set_up(options, ui, report).await?;
    let told = chapters(&mut tale, options, ui, report, kept).await;
    // Figures of a run that failed are worth as much.
    let functions: BTreeMap<String, String> =
        setup::FUNCTIONS.iter().map(|name| ((*name).to_owned(), tale.function(name))).collect();
    report.api_calls = tale.world.gateway.counts();
    report.lambda = tale.watch.lambda(&functions).await.unwrap_or_default();
    report.handed_over = tale.world.handed_over.lock().map(|said| said.clone()).unwrap_or_default();
    if told.is_err() {
        tale.keep_traces(&functions).await;
    }
    tale.world.stop().await;
    told
}

async fn chapters(
    tale: &mut Tale,
    options: &Options,
    ui: &Ui,
    report: &mut Report,
    kept: &AtomicBool,
) -> Result<(), StoryError> {
    if let Some(archive) = &options.release {
        release::is_deployed(tale, archive, ui.phase("release")).await?;
    }
    stack::plan(tale, ui.phase("plan")).await?;
    stack::provision(tale, ui.phase("provision")).await?;
    rotation::first(tale, ui.phase("first certificates")).await?;
    rotation::end_to_end(tale, ui.phase("end to end")).await?;
    command::told(tale, ui.phase("command")).await?;
    fleet::drawn(tale, ui.phase("dashboard")).await?;
    look::counted(tale, report, ui.phase("one look")).await?;
    let mut clean = Clean::default();
    for scenario in &options.scenarios {
        if !scenario.name().starts_with("acm-") {
            acm::left(tale, ui).await?;
        }
        // Told at the end, when everything else has left its traces.
        if *scenario == Scenario::Leaks {
            continue;
        }
        scenario::told(*scenario, tale, options, report, ui).await?;
        stack::again(tale, ui.phase("plan again")).await?;
        searched(tale, &mut clean, scenario.name(), report, ui).await?;
    }
    if options.keep {
        kept.store(true, Ordering::Relaxed);
        let looked_at = keep(tale, ui).await;
        kept.store(false, Ordering::Relaxed);
        looked_at?;
    }
    searched(tale, &mut Clean::default(), "the run", report, ui).await?;
    if options.scenarios.contains(&Scenario::Leaks) {
        leaks::planted::all(tale, ui.phase("planted leaks")).await?;
    }
    traced::taken(tale)?;
    stack::tear_down(tale, ui.phase("tear down")).await?;
    requests::check(tale, ui.phase("requests")).await
}

/// Looks for key material in what is not known to be clean, and blames the scenario that was told last.
async fn searched(tale: &Tale, clean: &mut Clean, after: &str, report: &mut Report, ui: &Ui) -> Result<(), StoryError> {
    report.leaks = leaks::check(tale, clean, ui.phase("leaks")).await?;
    match report.leaks.first() {
        None => Ok(()),
        Some(leak) => Err(StoryError::Unmet(format!(
            "after {after}, {} leaks: {} as {} in {}",
            report.leaks.len(),
            leak.secret,
            leak.form,
            leak.place
        ))),
    }
}

/// The part of a run with `--sam` that needs no world: its tools, and the release builds.
pub async fn sam_build(directory: &Path, ui: &Ui) -> Result<(), StoryError> {
    let workspace = deploy::workspace()?;
    std::fs::create_dir_all(directory).map_err(StoryError::io("the lab's directory"))?;
    // Commands run in other directories than this one.
    let directory = std::path::absolute(directory).map_err(StoryError::io("the lab's directory"))?;
    let phase = ui.phase("sam build");
    let sam = setup::sam_tools(&directory, &phase).await?;
    setup::sam_build(&sam, &workspace, &directory.join("sam"), &phase).await?;
    phase.done("every function built as a release by cargo-lambda");
    Ok(())
}

async fn set_up(options: &Options, ui: &Ui, report: &mut Report) -> Result<Tale, StoryError> {
    let workspace = deploy::workspace()?;
    std::fs::create_dir_all(&options.directory).map_err(StoryError::io("the lab's directory"))?;
    let phase = ui.phase("tools");
    let tools = setup::tools(&options.directory, &phase).await?;
    let sam = if options.sam { Some(setup::sam_tools(&options.directory, &phase).await?) } else { None };
    phase.done("pinned emulators and AWS CLI in the lab's own directory");

    let binaries = functions(options, &workspace, ui.phase("functions")).await?;

    let phase = ui.phase("world");
    let mut world = World::start(options, tools).await?;
    phase.done("emulators and strict stand-ins answer on loopback");

    let phase = ui.phase("network");
    let network = deploy::network(&world, &workspace).await?;
    // The recipe has two instances; every server that was asked for gets one of its own.
    if let Some(more) = options.servers.len().checked_sub(2).filter(|more| *more > 0) {
        deploy::instances(&world, &network, STACK, more).await?;
    }
    let outsider = stack::outsider_vpc(&world).await?;
    world.attach(PROBER, deploy::output(&network, "VpcId")?, &groups(&network, "ProberGroupId")?);
    world.attach(CLIENT, deploy::output(&network, "ConsumerVpcId")?, &groups(&network, "ClientGroupId")?);
    world.attach(OUTSIDER, &outsider, &[]);
    phase.done("examples/recipe-network.yaml deployed: two VPCs, groups, instances, private zone");

    let phase = ui.phase("control plane");
    let now = OffsetDateTime::now_utc();
    let (certificate, watched) = (world.acm.issue(judge::DOMAIN, now), world.acm.issue("watched.example.com", now));
    deploy::bucket(&world, deploy::CLIENTS_BUCKET).await?;
    let parameters = deploy::parameters(&network, &options.custody, &watched)?;
    let plane = match (&sam, &options.release) {
        (Some(sam), _) => deploy::control_plane_by_sam(&world, &workspace, sam, &parameters, &phase).await?,
        (None, Some(archive)) => release::control_plane(&world, &workspace, archive, &parameters, &phase).await?,
        (None, None) => deploy::control_plane(&world, &workspace, &binaries, &parameters).await?,
    };
    deploy::lock_evidence(&world, &plane).await?;
    let watch = Watch::new(&world.ministack);
    watch.subscribe().await?;
    watch.read_along(deploy::output(&plane, "NotificationTopic")?).await?;
    tell_handed_over(&world, &phase);
    phase.done("template.yaml deployed through CloudFormation, unchanged");

    let phase = ui.phase("hosts");
    world.hosts(&options.servers, STACK, deploy::PORT).await?;
    report.targets = world.hosts.len();
    phase.done(&format!(
        "{} targets with host.conf, TLS server and SSM Agent; none has a certificate",
        world.hosts.len()
    ));

    let spec = deploy::spec(&world, &workspace, &network, &certificate)?;
    let command = std::path::absolute(binaries.join(setup::COMMAND)).map_err(StoryError::io("finding the command"))?;
    Ok(Tale {
        world,
        watch,
        plane,
        parameters,
        network,
        command,
        outsider,
        certificate,
        watched,
        spec,
        former_certificate: None,
        roots: String::new(),
    })
}

/// Builds what is not built elsewhere; where it is.
async fn functions(options: &Options, workspace: &Path, phase: Phase) -> Result<PathBuf, StoryError> {
    let (ours, done): (&[&str], _) = match (options.sam, &options.release) {
        (true, _) => (&[], "left to `sam build`"),
        (false, Some(_)) => (&[], "those of the release; the command built"),
        (false, None) => (&setup::FUNCTIONS, "the Lambda binaries built, and the command"),
    };
    let binaries = match &options.binaries {
        Some(directory) => directory.clone(),
        None => setup::build(workspace, &[ours, &[setup::COMMAND]].concat(), &phase).await?,
    };
    phase.done(done);
    Ok(binaries)
}

/// What of the template somebody else than the emulator serves.
fn tell_handed_over(world: &World, phase: &Phase) {
    if let Ok(mut said) = world.handed_over.lock() {
        said.push(
            "the state machine's definition, as JSON: MiniStack keeps YAML as it comes and cannot run it".to_owned(),
        );
    }
    for handed in world.handed_over.lock().map(|said| said.clone()).unwrap_or_default() {
        phase.note(&format!("handed over: {handed}"));
    }
}

fn groups(network: &BTreeMap<String, String>, name: &str) -> Result<Vec<String>, StoryError> {
    Ok(vec![deploy::output(network, name)?.to_owned()])
}

async fn keep(tale: &Tale, ui: &Ui) -> Result<(), StoryError> {
    ui.line("\n  the world stays until Ctrl-C; to talk to it:\n");
    for (name, value) in tale.world.gateway.endpoints() {
        ui.line(&format!("    export {name}={value}"));
    }
    ui.line("    export AWS_ACCESS_KEY_ID=lab AWS_SECRET_ACCESS_KEY=lab AWS_REGION=eu-west-1\n");
    let page = fleet::serve(tale).await?;
    ui.line(&format!("  and its dashboard to look at: {page} (?theme=dark)\n"));
    interrupted().await;
    Ok(())
}

impl Tale {
    /// A function's deployed name.
    fn function(&self, name: &str) -> String {
        format!("{}-{name}", deploy::CONTROL_PLANE)
    }

    /// The ledger's table.
    fn ledger(&self) -> Result<&str, StoryError> {
        deploy::output(&self.plane, "LedgerTable")
    }

    /// Puts the spec as its writer would: with the AWS CLI.
    async fn put_spec(&self, overwrite: bool) -> Result<(), StoryError> {
        self.put(&self.spec, overwrite).await
    }

    async fn put(&self, spec: &Value, overwrite: bool) -> Result<(), StoryError> {
        let file = self.world.run.join("stack.json");
        std::fs::write(&file, spec.to_string()).map_err(StoryError::io("writing the spec"))?;
        let (name, value) = (format!("/espalier-spec/{STACK}"), format!("file://{}", file.display()));
        let mut put =
            vec!["ssm", "put-parameter", "--name", &name, "--type", "String", "--tier", "Intelligent-Tiering"];
        put.extend(["--value", &value]);
        if overwrite {
            put.push("--overwrite");
        }
        self.world.aws().run(&put).await?;
        Ok(())
    }

    /// Asks a function what it would do for the stack.
    async fn would_do(&self, function: &str, spec: Option<&Value>) -> Result<Value, StoryError> {
        let mut ask = json!({"stack": STACK, "mode": "plan"});
        if let Some(spec) = spec {
            ask["spec"] = spec.clone();
        }
        let answer = self.watch.invoke(&self.function(function), &ask).await?;
        if answer["errorType"].is_string() {
            return Err(StoryError::Unmet(format!("{function} failed: {answer}")));
        }
        Ok(answer)
    }

    /// Listens until one of `kinds` is heard; Espalier's calls for a person end the story unless they are awaited.
    async fn wait_for(&self, kinds: &[&str], limit: Duration, phase: &Phase) -> Result<Heard, StoryError> {
        let begun = tokio::time::Instant::now();
        let heard = until(limit, Duration::from_millis(200), async || {
            phase.progress(&format!("waiting for {} ({} s)", kinds.join(" or "), begun.elapsed().as_secs()));
            let mut all = self.watch.hear().await?.into_iter();
            while let Some(heard) = all.next() {
                if kinds.contains(&heard.kind.as_str()) {
                    self.watch.put_back(all);
                    return Ok(Some(heard));
                }
                if ["Stack Blocked", "Rotation Halted"].contains(&heard.kind.as_str()) {
                    return Err(StoryError::Unmet(format!("{}: {}", heard.kind, heard.detail)));
                }
            }
            Ok(None)
        })
        .await?;
        heard.ok_or_else(|| {
            StoryError::Unmet(format!("no {} within {} s; see the logs", kinds.join(" or "), limit.as_secs()))
        })
    }

    /// The functions' logs and the executions' histories, beside the other logs.
    async fn keep_traces(&self, functions: &BTreeMap<String, String>) {
        let logs = self.world.run.join("traces");
        // Traces of a failure: what cannot be had is simply not there.
        let _ = std::fs::create_dir_all(&logs);
        for (short, name) in functions {
            let lines = self.watch.log(name).await.unwrap_or_default();
            let _ = std::fs::write(logs.join(format!("{short}.log")), lines.join("\n"));
        }
        if let Ok(machine) = deploy::output(&self.plane, "RotationStateMachine") {
            for (name, status, arn) in self.watch.executions(machine).await.unwrap_or_default() {
                let history = self.watch.history(&arn).await.unwrap_or_default();
                let _ = std::fs::write(logs.join(format!("{name}-{status}.json")), history);
            }
        }
        let events: Vec<String> =
            self.world.router.deliveries().iter().map(|delivery| format!("{delivery:?}")).collect();
        let _ = std::fs::write(logs.join("events.log"), events.join("\n"));
        let passed: Vec<String> = self
            .world
            .gateway
            .passed()
            .iter()
            .filter(|passed| passed.status >= 400)
            .map(|passed| format!("{} {} {:?} {:?}", passed.operation, passed.status, passed.request, passed.answer))
            .collect();
        let _ = std::fs::write(logs.join("refused.log"), passed.join("\n"));
    }
}
