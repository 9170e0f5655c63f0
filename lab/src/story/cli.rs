//! The AWS CLI, as a user would call it, pointed at the lab's endpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::aws::REGION;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It could not be started.
    #[error("starting {command}")]
    Start {
        /// Program and first arguments.
        command: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("{command} ended with {status}:\n{output}")]
    Failed {
        /// Program and first arguments.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
}

/// A command line tool with its environment: nothing of the caller's AWS configuration gets in.
#[derive(Debug, Clone)]
pub struct Cli {
    program: PathBuf,
    environment: BTreeMap<String, String>,
    directory: PathBuf,
}

impl Cli {
    /// The tool at `program`, run in `directory` with the lab's endpoints.
    pub fn new(program: &Path, directory: &Path, endpoints: &BTreeMap<String, String>) -> Self {
        let mut environment = credentials(directory);
        environment.extend(endpoints.clone());
        Self { program: program.to_owned(), environment, directory: directory.to_owned() }
    }

    /// The same with one variable set otherwise.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs the tool; its standard output, parsed if it is JSON.
    pub async fn run(&self, arguments: &[&str]) -> Result<Value, CliError> {
        let shown: Vec<&str> = arguments.iter().take(2).copied().collect();
        let name = self.program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let command = format!("{name} {}", shown.join(" "));
        let output = tokio::process::Command::new(&self.program)
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.environment)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| CliError::Start { command: command.clone(), source })?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let all = format!("{printed}{}", String::from_utf8_lossy(&output.stderr));
            let tail: Vec<&str> = all.lines().rev().take(25).collect();
            let output_text = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            return Err(CliError::Failed { command, status: output.status.to_string(), output: output_text });
        }
        Ok(serde_json::from_str(&printed).unwrap_or(Value::String(printed)))
    }
}

/// Dummy credentials and no way to find others: a lab command can never reach a real account.
pub fn credentials(home: &Path) -> BTreeMap<String, String> {
    let nowhere = home.join("no-such-file").to_string_lossy().into_owned();
    [
        ("AWS_ACCESS_KEY_ID", "lab"),
        ("AWS_SECRET_ACCESS_KEY", "lab"),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", nowhere.as_str()),
        ("AWS_SHARED_CREDENTIALS_FILE", nowhere.as_str()),
        ("AWS_PAGER", ""),
        ("SAM_CLI_TELEMETRY", "0"),
        ("LANG", "C.UTF-8"),
        ("HOME", &home.to_string_lossy()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
