//! Runs commands on their instances: delivery, concurrency, the error budget, the script itself, and the events.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};

use super::command::{Invocation, Plugin, Status};
use super::documents::{Parsed, Step};
use super::{ManagedInstance, Ssm};

/// How often an unheard agent is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// The first agent that knows `ENV_VAR` (UG documents-syntax-data-elements-parameters.html).
const ENV_VAR_AGENT: [u32; 4] = [3, 3, 2746, 0];
/// The longest output read back, in bytes.
const KEPT: usize = 4 << 20;

/// How a script ended.
enum Ended {
    Exited(i32),
    TimedOut,
    Cancelled,
}

impl Ssm {
    /// Runs a command in the background.
    pub(super) fn drive(&self, id: &str) {
        let state = self.state();
        let Some(command) = state.commands.get(id) else { return };
        let gate = Arc::new(Semaphore::new(command.concurrency));
        for instance in command.invocations.keys() {
            let (ssm, id, instance) = (self.clone(), id.to_owned(), instance.clone());
            let (gate, cancel) = (Arc::clone(&gate), command.cancel.subscribe());
            tokio::spawn(async move { ssm.invoke(&id, &instance, &gate, cancel).await });
        }
    }

    async fn invoke(&self, id: &str, instance: &str, gate: &Semaphore, mut cancel: watch::Receiver<bool>) {
        let host = match self.delivered(id, instance, &cancel).await {
            Ok(host) => host,
            Err((status, details)) => return self.settle(id, instance, status, details),
        };
        let permit = tokio::select! {
            permit = gate.acquire() => permit,
            _ = cancel.wait_for(|cancelled| *cancelled) => return self.settle(id, instance, Status::Cancelled, "Cancelled"),
        };
        let Ok(_permit) = permit else { return };
        let Some((parsed, values)) = self.start_unless_over(id, instance) else {
            return self.settle(id, instance, Status::Cancelled, "Terminated");
        };
        for (index, step) in parsed.steps.iter().enumerate() {
            let plugin = self.step(id, &host, (index, step), (&parsed, &values), cancel.clone()).await;
            let (status, details) = (plugin.status, plugin.details);
            self.change(id, instance, |seen| seen.plugins.push(plugin));
            if status != Status::Success {
                return self.settle(id, instance, status, details);
            }
        }
        self.settle(id, instance, Status::Success, "Success");
    }

    /// Waits until the agent is heard.
    async fn delivered(
        &self,
        id: &str,
        instance: &str,
        cancel: &watch::Receiver<bool>,
    ) -> Result<ManagedInstance, (Status, &'static str)> {
        loop {
            {
                let state = self.state();
                let Some(command) = state.commands.get(id) else { return Err((Status::Failed, "Undeliverable")) };
                let Some(host) = state.instances.get(instance) else { return Err((Status::Failed, "Undeliverable")) };
                if *cancel.borrow() {
                    return Err((Status::Cancelled, "Cancelled"));
                }
                if host.online {
                    return Ok(host.clone());
                }
                let seconds = u32::try_from(command.delivery_s).unwrap_or(u32::MAX);
                let patience = self.inner.options.delivery_second.saturating_mul(seconds);
                if command.sent.elapsed() >= patience {
                    return Err((Status::TimedOut, "Delivery Timed Out"));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `None`: the error budget is used up.
    fn start_unless_over(&self, id: &str, instance: &str) -> Option<(Parsed, BTreeMap<String, Vec<String>>)> {
        let what = {
            let state = self.state();
            let command = state.commands.get(id)?;
            if command.errors() > command.errors_max {
                return None;
            }
            (command.parsed.clone(), command.values.clone())
        };
        self.settle(id, instance, Status::InProgress, "InProgress");
        Some(what)
    }

    async fn step(
        &self,
        id: &str,
        host: &ManagedInstance,
        (index, step): (usize, &Step),
        (parsed, values): (&Parsed, &BTreeMap<String, Vec<String>>),
        cancel: watch::Receiver<bool>,
    ) -> Plugin {
        let started = OffsetDateTime::now_utc();
        let modern = knows_env_var(&host.agent_version);
        let mut environment = BTreeMap::from([("PATH".to_owned(), self.inner.options.path.clone())]);
        environment.extend(host.environment.clone());
        let passed = parsed.parameters.iter().filter(|(_, parameter)| modern && parameter.env_var);
        for (name, _) in passed {
            let value = values.get(name).map(|values| values.join(",")).unwrap_or_default();
            environment.insert(format!("SSM_{name}"), value);
        }
        let script = substitute(&step.lines.join("\n"), parsed, values, modern) + "\n";
        let timeout = substitute(&step.timeout, parsed, values, false).trim().parse().unwrap_or(3_600);
        let base = self.inner.options.scratch.join(format!("{id}-{}-{index}", host.id));
        let run = run(&base, &script, &environment, &host.directory, Duration::from_secs(timeout), cancel).await;
        let (ended, stdout, mut stderr) =
            run.unwrap_or_else(|error| (Ended::Exited(-1), String::new(), error.to_string()));
        let (status, details, code) = match ended {
            Ended::Exited(0) => (Status::Success, "Success", 0),
            Ended::Exited(code) => {
                if !stderr.is_empty() && !stderr.ends_with('\n') {
                    stderr.push('\n');
                }
                // The agent's own words.
                stderr.push_str(&format!("failed to run commands: exit status {code}"));
                (Status::Failed, "Failed", code)
            }
            Ended::TimedOut => (Status::TimedOut, "Execution Timed Out", -1),
            Ended::Cancelled => (Status::Cancelled, "Cancelled", -1),
        };
        let (started, ended) = (Some(started), Some(OffsetDateTime::now_utc()));
        Plugin { name: step.name.clone(), status, details, code, stdout, stderr, started, ended }
    }

    fn change(&self, id: &str, instance: &str, change: impl FnOnce(&mut Invocation)) {
        let mut state = self.state();
        if let Some(seen) = state.commands.get_mut(id).and_then(|command| command.invocations.get_mut(instance)) {
            change(seen);
        }
    }

    /// Gives an invocation its status and tells everyone.
    fn settle(&self, id: &str, instance: &str, status: Status, details: &'static str) {
        self.change(id, instance, |seen| {
            seen.status = status;
            seen.details = details;
        });
        let mut state = self.state();
        let Some(command) = state.commands.get_mut(id) else { return };
        let mut events = Vec::new();
        if let Some(word) = status.event() {
            let mut detail = command.event(word);
            detail["instance-id"] = instance.into();
            if let Some(detail) = detail.as_object_mut() {
                detail.retain(|key, _| !matches!(key.as_str(), "parameters" | "expire-after"));
            }
            events.push(("EC2 Command Invocation Status-change Notification", vec![self.arn(instance)], detail));
        }
        let whole = command.status().0;
        if command.announced != Some(whole) {
            command.announced = Some(whole);
            if let Some(word) = whole.event() {
                let resources = command.invocations.keys().map(|id| self.arn(id)).collect();
                events.push(("EC2 Command Status-change Notification", resources, command.event(word)));
            }
        }
        drop(state);
        for (kind, resources, detail) in events {
            self.emit(kind, resources, detail);
        }
    }

    fn arn(&self, instance: &str) -> String {
        format!("arn:aws:ec2:{}:{}:instance/{instance}", self.inner.options.region, self.inner.options.account)
    }
}

fn knows_env_var(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version: [u32; 4] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    version >= ENV_VAR_AGENT
}

/// Puts values in place of `{{ Name }}`; agents that know `ENV_VAR` put the variable there instead.
fn substitute(text: &str, parsed: &Parsed, values: &BTreeMap<String, Vec<String>>, modern: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        let name = name.trim();
        out.push_str(before);
        let by_variable = modern && parsed.parameters.get(name).is_some_and(|parameter| parameter.env_var);
        if by_variable {
            out.push_str(&format!("$SSM_{name}"));
        } else {
            out.push_str(&values.get(name).map(|values| values.join(" ")).unwrap_or_default());
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Output goes to files: a pipe would stay open as long as a server that the script started.
async fn run(
    base: &Path,
    script: &str,
    environment: &BTreeMap<String, String>,
    directory: &Path,
    timeout: Duration,
    mut cancel: watch::Receiver<bool>,
) -> io::Result<(Ended, String, String)> {
    let path = |ending: &str| -> PathBuf { base.with_extension(ending) };
    tokio::fs::write(path("sh"), script).await?;
    let (stdout, stderr) = (std::fs::File::create(path("out"))?, std::fs::File::create(path("err"))?);
    let mut child = tokio::process::Command::new("/bin/sh")
        .arg(path("sh"))
        .env_clear()
        .envs(environment)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let ended = tokio::select! {
        status = child.wait() => Ended::Exited(status?.code().unwrap_or(-1)),
        () = tokio::time::sleep(timeout) => Ended::TimedOut,
        _ = cancel.wait_for(|cancelled| *cancelled) => Ended::Cancelled,
    };
    if !matches!(ended, Ended::Exited(_)) {
        // The group is the script's own; it may have ended by itself meanwhile.
        if let Some(group) = group {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        child.wait().await?;
    }
    let (stdout, stderr) = (read(&path("out")).await?, read(&path("err")).await?);
    for ending in ["sh", "out", "err"] {
        tokio::fs::remove_file(path(ending)).await?;
    }
    Ok((ended, stdout, stderr))
}

async fn read(path: &Path) -> io::Result<String> {
    let mut bytes = tokio::fs::read(path).await?;
    bytes.truncate(KEPT);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
