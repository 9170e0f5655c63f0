//! The runbook's commands, run as they are printed: every block, and every `aws` and `espalier` in a sentence. Names that stand
//! for others (`payments`, `ARN`, `LEDGER`, `FILE`) are filled in, as a reader would.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use futures::{StreamExt as _, TryStreamExt as _};
use regex::Regex;

use super::super::cli::Cli;
use super::super::{STACK, StoryError, Tale, deploy};
use crate::ui::Phase;

/// Several at a time: each spends most of its time with Python's start.
const AT_ONCE: usize = 3;

/// What replaces every certificate has a scenario of its own (`emergency`), which runs it with the same arguments.
const ELSEWHERE: &str = "espalier emergency ";

static BLOCK: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?s)\n```sh\n(.*?)\n```").ok());
static SPAN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"`((?:aws|espalier) [^`\n]+)`").ok());
static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(payments|ARN|LEDGER|FILE)\b").ok());

/// Runs them all; what each printed.
pub(super) async fn followed(tale: &Tale, phase: &Phase) -> Result<Vec<(String, String)>, StoryError> {
    let page = deploy::workspace()?.join("docs/runbook.md");
    let page = std::fs::read_to_string(page).map_err(StoryError::io("reading the runbook"))?;
    let commands = printed(&page)?;
    phase.progress(&format!("{} commands of the runbook", commands.len()));
    let shell = shell(tale)?;
    let run = |command: String| {
        let shell = &shell;
        async move {
            let said = shell.run(&["-euo", "pipefail", "-c", &meant(tale, &command)?]).await;
            let said = said.map_err(|error| StoryError::Unmet(format!("the runbook's `{command}`: {error}")))?;
            Ok::<_, StoryError>((command, said.as_str().map_or_else(|| said.to_string(), str::to_owned)))
        }
    };
    futures::stream::iter(commands.into_iter().map(run)).buffer_unordered(AT_ONCE).try_collect().await
}

/// The commands of a page: blocks as a whole, then what stands in sentences, each once.
fn printed(page: &str) -> Result<Vec<String>, StoryError> {
    let all = |pattern: &Option<Regex>| -> Option<BTreeSet<String>> {
        Some(pattern.as_ref()?.captures_iter(page).map(|found| found[1].to_owned()).collect())
    };
    let broken = || StoryError::Unmet("a pattern for commands is none".to_owned());
    let blocks = all(&BLOCK).ok_or_else(broken)?.into_iter().map(|block| {
        let lines = block.lines().filter(|line| !line.starts_with(ELSEWHERE));
        lines.collect::<Vec<_>>().join("\n")
    });
    let spans = all(&SPAN).ok_or_else(broken)?.into_iter().filter(|span| !span.starts_with(ELSEWHERE));
    let spans: Vec<String> = spans.filter(|span| span.trim() != ELSEWHERE.trim()).collect();
    Ok(blocks.chain(spans).collect())
}

/// A command with the names of this world.
fn meant(tale: &Tale, command: &str) -> Result<String, StoryError> {
    let (ledger, file) = (tale.ledger()?, tale.world.run.join("stack.json"));
    let file = file.to_string_lossy();
    let name = NAME.as_ref().ok_or_else(|| StoryError::Unmet("a pattern for names is none".to_owned()))?;
    let filled = name.replace_all(command, |found: &regex::Captures<'_>| {
        let meant = match &found[1] {
            "payments" => STACK,
            "ARN" => &tale.certificate,
            "LEDGER" => ledger,
            _ => &*file,
        };
        meant.to_owned()
    });
    Ok(filled.into_owned())
}

/// A shell in which `aws` and `espalier` are found, and find this world.
fn shell(tale: &Tale) -> Result<Cli, StoryError> {
    let bin = tale.world.run.join("bin");
    std::fs::create_dir_all(&bin).map_err(StoryError::io("a directory for commands"))?;
    // The CLI follows no endpoint variable for SQS.
    let aws = format!(
        "#!/bin/sh\n[ \"$1\" = sqs ] && set -- --endpoint-url \"$AWS_ENDPOINT_URL_SQS\" \"$@\"\nexec '{}' \"$@\"\n",
        tale.world.tools.path("aws").display()
    );
    let program = bin.join("aws");
    std::fs::write(&program, aws).map_err(StoryError::io("writing the shell's aws"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).map_err(StoryError::io("writing the shell's aws"))?;
    let ours = tale.command.parent().unwrap_or(Path::new("/")).display();
    let path = format!("{}:{ours}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    Ok(Cli::new(Path::new("bash"), &tale.world.run, tale.world.gateway.endpoints())
        .with("PATH", &path)
        .with("AWS_ENDPOINT_URL_CLOUDWATCH", &tale.world.ministack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks_and_in_sentences_and_the_emergency_is_left_out() {
        let page = "A\n\n```sh\nespalier emergency payments --reason x\nespalier status payments   # EMERGENCY\n```\n\nSay `espalier plan payments`, \
                    not `espalier`, nor `espalier emergency payments`; `awscli` is none. Say `espalier plan payments` again.\n";
        let found = printed(page).unwrap();
        assert_eq!(found, ["espalier status payments   # EMERGENCY", "espalier plan payments"]);
    }
}
