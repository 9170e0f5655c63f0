//! What a fresh machine lacks: the pinned Python tools, in the lab's own directory, and the function binaries.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::ui::Phase;

/// The functions, by package and binary name.
pub const FUNCTIONS: [&str; 9] =
    ["provision", "rotate", "authority", "mint", "export", "distribute", "verify", "fleet", "seal"];

/// The operator's command.
pub const COMMAND: &str = "espalier";

const REQUIREMENTS: &str = include_str!("../requirements.txt");
const REQUIREMENTS_SAM: &str = include_str!("../requirements-sam.txt");

/// Why the lab cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No Python that is new enough.
    #[error("no Python 3.11 or later found as python3, python3.13, python3.12 or python3.11; install one")]
    NoPython,
    /// A program could not be started, or a file not written.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{what} failed:\n{output}")]
    Failed {
        /// What was tried.
        what: String,
        /// The end of what it printed.
        output: String,
    },
}

/// Where the tools are.
#[derive(Debug, Clone)]
pub struct Tools {
    bin: PathBuf,
}

impl Tools {
    /// A tool's path.
    pub fn path(&self, tool: &str) -> PathBuf {
        self.bin.join(tool)
    }

    /// The directory they are in, for a `PATH`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

/// The emulators and the AWS CLI, installed at the first run.
pub async fn tools(directory: &Path, phase: &Phase) -> Result<Tools, SetupError> {
    install(&directory.join("tools"), REQUIREMENTS, phase).await
}

/// The SAM CLI and cargo-lambda, installed when `--sam` is first used.
pub async fn sam_tools(directory: &Path, phase: &Phase) -> Result<Tools, SetupError> {
    install(&directory.join("tools-sam"), REQUIREMENTS_SAM, phase).await
}

async fn install(venv: &Path, requirements: &str, phase: &Phase) -> Result<Tools, SetupError> {
    // Commands run in other directories than this one.
    let venv = std::path::absolute(venv)
        .map_err(|source| SetupError::Io { what: format!("finding {}", venv.display()), source })?;
    let tools = Tools { bin: venv.join("bin") };
    let _turn = turn(&venv.with_added_extension("lock"), phase).await?;
    let stamp = venv.join("installed.txt");
    // Written last: a run that was interrupted leaves none.
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        return Ok(tools);
    }
    let python = find_python().await?;
    phase.progress("making a virtual environment");
    let _ = std::fs::remove_dir_all(&venv);
    let mut make = Command::new(&python);
    make.args(["-m", "venv"]).arg(&venv);
    run("python -m venv", make, phase).await?;
    let list = venv.join("requirements.txt");
    write(&list, requirements)?;
    let mut pip = Command::new(tools.path("python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r"]).arg(&list);
    run("pip install", pip, phase).await?;
    write(&stamp, requirements)?;
    Ok(tools)
}

/// Waits until no other lab holds this lock, and holds it until it is dropped.
async fn turn(lock: &Path, phase: &Phase) -> Result<File, SetupError> {
    let failed = |source| SetupError::Io { what: format!("locking {}", lock.display()), source };
    if let Some(directory) = lock.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let file = File::create(lock).map_err(failed)?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    phase.progress("waiting for another lab that does the same");
    let held = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    held.map_err(std::io::Error::other).flatten().map_err(failed)
}

async fn find_python() -> Result<String, SetupError> {
    for name in ["python3", "python3.13", "python3.12", "python3.11"] {
        let mut ask = Command::new(name);
        ask.args(["-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"]);
        let status = ask.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if status.is_ok_and(|status| status.success()) {
            return Ok(name.to_owned());
        }
    }
    Err(SetupError::NoPython)
}

/// Builds these binaries as the lab runs them; the directory they are in.
pub async fn build(workspace: &Path, names: &[&str], phase: &Phase) -> Result<PathBuf, SetupError> {
    let total = count_packages(workspace, names).await;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(["build", "--profile", "lab", "--locked"]);
    cargo.arg("--message-format=json-render-diagnostics");
    // The whole workspace resolves to one set of features, whatever is built of it. Packages chosen one by one would
    // resolve to others, and `cargo test` would compile the AWS SDK a second time.
    cargo.arg("--workspace");
    for name in names {
        cargo.args(["--bin", name]);
    }
    let mut built = BTreeSet::new();
    let mut binaries = None;
    follow("cargo build", cargo, phase, |line| {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return None };
        if message["reason"] != "compiler-artifact" {
            return None;
        }
        if let Some(binary) = message["executable"].as_str() {
            binaries = Path::new(binary).parent().map(Path::to_owned);
        }
        let package = message["package_id"].as_str().unwrap_or_default().to_owned();
        let name = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        built.insert(package);
        Some(format!("compiling: {} of {total} packages, {name}", built.len()))
    })
    .await?;
    binaries.ok_or_else(|| SetupError::Failed { what: "cargo build".into(), output: "no binary was made".into() })
}

/// How many packages the build will touch, for the progress line; a guess is good enough.
async fn count_packages(workspace: &Path, names: &[&str]) -> usize {
    let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tree.current_dir(workspace).args(["tree", "--locked", "--prefix", "none", "--edges", "normal,build"]);
    tree.args(names.iter().flat_map(|name| ["--package", name]));
    let listed = tree.stderr(Stdio::null()).output().await.map(|output| output.stdout).unwrap_or_default();
    let packages: BTreeSet<String> =
        String::from_utf8_lossy(&listed).lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect();
    packages.len()
}

async fn run(what: &str, command: Command, phase: &Phase) -> Result<(), SetupError> {
    let shown = what.to_owned();
    follow(what, command, phase, move |line| Some(format!("{shown}: {}", line.trim()))).await
}

/// Runs a program, shows its progress, and keeps the end of its output for the error.
async fn follow(
    what: &str,
    mut command: Command,
    phase: &Phase,
    mut progress: impl FnMut(&str) -> Option<String>,
) -> Result<(), SetupError> {
    let io = |source| SetupError::Io { what: format!("running {what}"), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(io)?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let collect = tokio::spawn(tail(errors));
    let mut last = Vec::new();
    if let Some(out) = out {
        let mut lines = BufReader::new(out).lines();
        let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
        let mut shown = what.to_owned();
        loop {
            tokio::select! {
                line = lines.next_line() => match line.map_err(io)? {
                    None => break,
                    Some(line) => {
                        shown = progress(&line).unwrap_or(shown);
                        remember(&mut last, line);
                    }
                },
                _ = tick.tick() => {}
            }
            // Said again each second, so that a long step never looks like a dead one.
            phase.progress(&shown);
        }
    }
    finish(what, child, last, collect.await.unwrap_or_default()).await
}

async fn finish(what: &str, mut child: Child, out: Vec<String>, errors: Vec<String>) -> Result<(), SetupError> {
    let status = child.wait().await.map_err(|source| SetupError::Io { what: format!("waiting for {what}"), source })?;
    if status.success() {
        return Ok(());
    }
    let readable = out.into_iter().filter(|line| !line.starts_with('{')).chain(errors);
    Err(SetupError::Failed { what: what.to_owned(), output: readable.collect::<Vec<_>>().join("\n") })
}

async fn tail(stream: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut last = Vec::new();
    if let Some(stream) = stream {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            remember(&mut last, line);
        }
    }
    last
}

fn remember(last: &mut Vec<String>, line: String) {
    const LINES: usize = 60;
    if last.len() == LINES {
        last.remove(0);
    }
    last.push(line);
}

fn write(path: &Path, content: &str) -> Result<(), SetupError> {
    std::fs::write(path, content)
        .map_err(|source| SetupError::Io { what: format!("writing {}", path.display()), source })
}

/// `sam build`: one release build per function, by cargo-lambda. It takes each binary away from where the next build puts
/// it, so that two at once would take each other's.
pub async fn sam_build(sam: &Tools, workspace: &Path, build: &Path, phase: &Phase) -> Result<(), SetupError> {
    let _turn = turn(&workspace.join("target/sam-build.lock"), phase).await?;
    let mut command = Command::new(sam.path("sam"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = vec![sam.bin().to_owned()];
    paths.extend(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(paths) {
        command.env("PATH", path);
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let parameter = format!("ParameterKey=Architecture,ParameterValue={architecture}");
    command.current_dir(workspace).env("SAM_CLI_TELEMETRY", "0");
    command.args(["build", "--template", "template.yaml", "--build-dir"]).arg(build);
    command.args(["--parameter-overrides", &parameter]);
    run("sam build", command, phase).await
}
