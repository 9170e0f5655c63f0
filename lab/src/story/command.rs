//! The chapter about `espalier`, the operator's command: run as an operator runs it, with a real AWS CLI in PATH.

use super::cli::{Cli, CliError};
use super::{STACK, StoryError, Tale, deploy};
use crate::ui::Phase;

/// What it says of a stack that was just provisioned, and how it ends.
pub(super) async fn told(tale: &Tale, phase: Phase) -> Result<(), StoryError> {
    let espalier = espalier(tale);
    let status = text(&espalier, &["status"]).await?;
    for line in status.lines() {
        phase.note(line);
    }
    for host in &tale.world.hosts {
        let is_told = status.lines().any(|line| line.contains(&host.id) && line.contains("current"));
        if !is_told {
            return Err(StoryError::Unmet(format!("`espalier status` does not call {} current", host.id)));
        }
    }
    for (arguments, said) in [
        (&["check", "--min-slack", "1"][..], "at least 1 day of slack"),
        (&["plan", STACK], "provision: nothing to do\nrotate: nothing to do"),
    ] {
        expect(arguments, &text(&espalier, arguments).await?, said)?;
    }
    // What needs somebody has an exit code of its own.
    for (arguments, said) in
        [(&["check", "--min-slack", "3650"][..], "SlackTooShort"), (&["diagnose", STACK], "no-access-logs")]
    {
        match espalier.run(arguments).await {
            Err(CliError::Failed { status, output, .. }) if status.ends_with(": 1") => {
                expect(arguments, &output, said)?;
            }
            other => return Err(StoryError::Unmet(format!("`espalier {}`: {other:?}", arguments.join(" ")))),
        }
    }
    phase.done("status, check, plan and diagnose, through the AWS CLI, with their exit codes");
    Ok(())
}

pub(super) fn espalier(tale: &Tale) -> Cli {
    let path = format!("{}:{}", tale.world.tools.bin().display(), std::env::var("PATH").unwrap_or_default());
    Cli::new(&tale.command, &tale.world.run, tale.world.gateway.endpoints())
        .with("PATH", &path)
        .with("ESPALIER_CONTROL_PLANE", deploy::CONTROL_PLANE)
}

pub(super) async fn text(espalier: &Cli, arguments: &[&str]) -> Result<String, StoryError> {
    Ok(espalier.run(arguments).await?.as_str().unwrap_or_default().to_owned())
}

pub(super) fn expect(arguments: &[&str], said: &str, wanted: &str) -> Result<(), StoryError> {
    if said.contains(wanted) {
        return Ok(());
    }
    Err(StoryError::Unmet(format!("`espalier {}` does not say {wanted:?}: {said}", arguments.join(" "))))
}
