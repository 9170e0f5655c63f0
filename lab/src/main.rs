//! `cargo lab`: Espalier's whole story on one machine, without root, containers or an AWS account.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum as _};
use espalier_domain::failure::chain;
use espalier_lab::chaos::Seeds;
use espalier_lab::simulate::Simulate;
use espalier_lab::story::{Options, Scenario, Server};
use espalier_lab::ui::Ui;
use espalier_lab::{story, target};

/// Runs Espalier's own functions and its own template against a local world, and shows what they do.
///
/// The run provisions the recipe's VPC Lattice TLS-passthrough stack, mints and installs the targets' certificates,
/// proves them with real handshakes, rotates them because ACM announced a renewal, plans again to show that nothing
/// is left to do, looks for leaked key material, and tears everything down.
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// End with one line of JSON on standard output (progress goes to standard error in any case)
    #[arg(long)]
    json: bool,

    /// Build and deploy with the real SAM CLI and cargo-lambda (over 800 MB of tools, release builds) in place of
    /// plain cargo and `aws cloudformation package` + `deploy`
    #[arg(long)]
    sam: bool,

    /// Deploy this archive of a release (`target/espalier-….tar.gz`, by release/build) with the commands of docs/install.md as they
    /// are printed there, as somebody without Rust does; only the operator's command is built
    #[arg(long, value_name = "ARCHIVE", conflicts_with = "sam")]
    release: Option<PathBuf>,

    /// Where the authority's keys are kept: the template's parameter `CustodyOfAuthority`
    #[arg(long, value_name = "WHERE", default_value = "kms", value_parser = ["kms", "secretsManager"])]
    custody: String,

    /// What to show once the stack stands and serves, in one world: `recipe` (ACM renews, under client load; the default
    /// without `--chaos`), `rotate` (thirty targets, in waves, under client load),
    /// `per-target` (a certificate and a key for each target, under client load), `chaos` (the same under faults, see there), `repair` (what breaks is found and put right),
    /// `canary-fails` (nobody else is touched until it is mended), `agent-dies` (in the middle of an installation), `outage`
    /// (what a rotation depends on is out, one thing after the other), `expired` (every target serves what has ended),
    /// `upgrade` (the same again changes nothing; the next release is deployed in the middle of a rotation),
    /// `alarms` (each alarm is raised by what causes it, and ends when that is over), `ca-rotation` (a new authority takes
    /// over when the slowest client has its root, under client load), `ca-compromise` (an authority's key is stolen, and what
    /// it signed is replaced under client load),
    /// `emergency` (in a freeze, somebody declares what is served unsafe, and it is replaced under client load),
    /// `others-install` (somebody else installs: it is judged and told, and nothing is touched),
    /// `another-vpc` (a second stack in a VPC that only a prober of its own reaches, and a spec that names one that there is not),
    /// `evidence` (what the ledger remembers is sealed, copied and judged, and each change of a copy is named),
    /// `policy` (an auth policy by VPC lets one client in and keeps another out), `replace` (another target port, under
    /// client load), `drift` (what others change is found and repaired, or told), `scale` (instances of an Auto Scaling
    /// group come and go, under client load), `teardown` (a half-deleted stack is torn down under faults, and made again),
    /// `acm-renewal`, `acm-lost-event`, `acm-action-required`, `acm-expired`, `acm-revoked` and `acm-private` (the stack
    /// serves a certificate exported from ACM, and what becomes of it there), `leaks` (a key planted in every place that
    /// is searched is found), `input` (mistakes, nonsense, strangers and dangerous wishes change nothing), `tour`
    /// (the recipe with `--keep`), or `all` of these but the last
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = choice)]
    scenario: Vec<Choice>,

    /// Rotations under faults, one for each seed (`7`, `1,5,9`, `1..20`): functions and installers are killed, calls
    /// and events delayed, dropped, repeated. A seed is its faults; after each the stack must have converged
    #[arg(long, value_name = "SEEDS")]
    chaos: Option<Seeds>,

    /// TLS servers on the targets, spread over them in turn: `lab` (a small rustls server, nothing to install),
    /// `apache` (the machine's own apache2 with mod_ssl), `nginx`, `haproxy` (the machine's own, too)
    #[arg(long, value_enum, value_delimiter = ',', default_value = "lab")]
    servers: Vec<Server>,

    /// Clients that keep opening new connections while certificates rotate: so many through the passthrough data plane
    /// and so many directly to the targets, each with full verification and no resumption
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,

    /// How often ACM announces a renewal
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    rotations: u16,

    /// After the rotations do as many by overwriting the files and restarting the servers, to show the difference
    #[arg(long)]
    naive: bool,

    /// End with the newest rotation's trace as a tree: what was inside what, when it began, how long it took
    #[arg(long)]
    trace: bool,

    /// Leave the world running after the rotations, print how to talk to it and where its dashboard is, and tear down at
    /// Ctrl-C
    #[arg(long)]
    keep: bool,

    /// Use the function binaries in this directory in place of building them
    #[arg(long, value_name = "DIR", conflicts_with = "sam")]
    binaries: Option<PathBuf>,

    /// Where the lab keeps its tools and its last run (logs of every process included)
    #[arg(long, value_name = "DIR", default_value = ".lab")]
    directory: PathBuf,
}

/// One scenario by name, or every one.
#[derive(Clone)]
struct Choice(Vec<Scenario>);

fn choice(text: &str) -> Result<Choice, String> {
    if text == "all" {
        // All that end by themselves.
        let ending = Scenario::value_variants().iter().filter(|one| **one != Scenario::Tour);
        return Ok(Choice(ending.copied().collect()));
    }
    Scenario::from_str(text, false).map(|one| Choice(vec![one])).map_err(|_| {
        let names = Scenario::value_variants().iter().filter_map(Scenario::to_possible_value);
        let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
        format!("there is no such scenario; name one of {} or all", names.join(", "))
    })
}

#[derive(Subcommand)]
enum Command {
    /// Live a fleet's life on a virtual clock instead, thousands of times: the real rotation planner in a seeded world in
    /// which everything goes wrong that can, its promises looked at after every step
    Simulate(Simulate),
    /// Only install SAM and cargo-lambda and have them build the functions, which takes most of a first run with `--sam`
    SamBuild,
    /// The lab's own TLS server, started by the lab on each of its targets
    #[command(hide = true)]
    TargetServer {
        /// The server's configuration, JSON
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            Ui::default().line(&format!("the asynchronous runtime did not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(cli))
}

async fn run(cli: Cli) -> ExitCode {
    let ui = Ui::default();
    match cli.command {
        Some(Command::TargetServer { config }) => return serve(&config, &ui).await,
        Some(Command::Simulate(simulate)) => return live(&simulate, &ui),
        Some(Command::SamBuild) => return sam_build(&cli.directory, &ui).await,
        None => {}
    }
    let scenarios = scenarios(&cli);
    let keep = cli.keep || scenarios.contains(&Scenario::Tour);
    let options = Options {
        sam: cli.sam,
        release: cli.release,
        custody: cli.custody,
        scenarios,
        chaos: cli.chaos.map_or_else(|| vec![1], |seeds| seeds.0),
        servers: cli.servers,
        clients: usize::from(cli.clients),
        rotations: u32::from(cli.rotations),
        naive: cli.naive,
        keep,
        binaries: cli.binaries,
        directory: cli.directory,
    };
    let report = story::run(&options, &ui).await;
    ui.line(&report.table());
    if let Some(trace) = report.trace.as_ref().filter(|_| cli.trace) {
        ui.line(&trace.told());
    }
    if cli.json {
        print(&report.json());
    }
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn serve(config: &Path, ui: &Ui) -> ExitCode {
    match target::serve_file(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.line(&format!("target server: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn sam_build(directory: &Path, ui: &Ui) -> ExitCode {
    match story::sam_build(directory, ui).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui.line(&format!("sam build: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn live(simulate: &Simulate, ui: &Ui) -> ExitCode {
    if simulate.scale {
        let is_well = simulate.rotate_at_scale(|line| ui.line(line));
        return if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match simulate.run() {
        Ok(lives) => {
            ui.line(&lives.told());
            if lives.grief.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            ui.line(&chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// What was asked for by name; else by its own option; else the recipe.
fn scenarios(cli: &Cli) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = cli.scenario.iter().flat_map(|choice| choice.0.clone()).collect();
    if cli.chaos.is_some() && !scenarios.contains(&Scenario::Chaos) {
        scenarios.push(Scenario::Chaos);
    }
    if scenarios.is_empty() {
        scenarios.push(Scenario::Recipe);
    }
    scenarios
}

#[allow(clippy::print_stdout, reason = "the machine's answer, on the one line promised")]
fn print(line: &str) {
    println!("{line}");
}
