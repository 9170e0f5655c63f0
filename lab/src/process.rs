//! The lab's child processes: started with a marker in their environment, ended by that marker.
//!
//! Everything a child starts inherits the marker, so that a run (or the next one, should this one be killed) finds
//! every process of its world without keeping a list: emulators, function processes, TLS servers, installers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The variable every process of a lab carries; its value is the lab's directory.
pub const MARKER: &str = "ESPALIER_LAB_DIRECTORY";

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
#[error("starting {name} ({program})")]
pub struct ProcessError {
    /// What it is to the lab.
    pub name: String,
    /// The program.
    pub program: String,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What it is to the lab; also the name of its log.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment, but for `PATH` and the marker.
    pub environment: BTreeMap<String, String>,
}

/// The processes of one lab.
#[derive(Debug, Clone)]
pub struct Processes {
    marker: String,
    logs: PathBuf,
}

impl Processes {
    /// The processes of the lab in `directory`; whatever an earlier run left behind is ended first.
    pub async fn of(directory: &Path, logs: &Path) -> io::Result<Self> {
        fs::create_dir_all(logs)?;
        let marker = directory.canonicalize()?.to_string_lossy().into_owned();
        let processes = Self { marker, logs: logs.to_owned() };
        processes.end_all().await;
        Ok(processes)
    }

    /// The marker, for processes that are started by somebody else with an environment of their own.
    pub fn marker(&self) -> (String, String) {
        (MARKER.to_owned(), self.marker.clone())
    }

    /// Starts a process; what it prints goes to its log.
    pub fn start(&self, launch: &Launch) -> Result<tokio::process::Child, ProcessError> {
        let failed =
            |source| ProcessError { name: launch.name.clone(), program: launch.program.display().to_string(), source };
        let log = File::create(self.logs.join(format!("{}.log", launch.name))).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        tokio::process::Command::new(&launch.program)
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env(MARKER, &self.marker)
            .envs(&launch.environment)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)
    }

    /// Ends every process that carries the marker: politely, then not.
    pub async fn end_all(&self) {
        self.signal_all(Signal::TERM);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.living().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.signal_all(Signal::KILL);
    }

    /// The living processes of this lab.
    pub fn living(&self) -> Vec<i32> {
        let wanted = format!("{MARKER}={}", self.marker);
        let own = std::process::id().to_string();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own)
            .filter(|name| carries(name, wanted.as_bytes()))
            .filter_map(|name| name.parse().ok())
            .collect()
    }

    fn signal_all(&self, signal: Signal) {
        for pid in self.living().into_iter().filter_map(Pid::from_raw) {
            // It may have ended in the meantime: nothing to do then.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Whether a process has exactly this entry in its environment. A process that has ended has none.
fn carries(pid: &str, entry: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|one| one == entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_and_its_children_end_with_the_lab() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes::of(directory.path(), &directory.path().join("logs")).await.unwrap();
        let launch = Launch {
            name: "sleeper".into(),
            program: "/bin/sh".into(),
            // The inner one leaves the process group, as some emulators' children do.
            arguments: vec!["-c".into(), "setsid sleep 60 & exec sleep 60".into()],
            environment: BTreeMap::new(),
        };
        let mut child = processes.start(&launch).unwrap();
        while processes.living().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        processes.end_all().await;
        let _ = child.wait().await;
        assert_eq!(processes.living(), Vec::<i32>::new());
    }
}
