//! The runbook's commands, run as they are printed: every block, and every `aws` and `espalier` in a sentence. Names that stand
//! for others (`payments`, `ARN`, `LEDGER`, `FILE`) are filled in, as a reader would.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use futures::{StreamExt as _, TryStreamExt as _};
use regex::Regex;

use super::super::{STACK, StoryError, Tale, deploy, page};
use crate::ui::Phase;

/// Several at a time: each spends most of its time with Python's start.
const AT_ONCE: usize = 3;

/// What replaces every certificate has a scenario of its own (`emergency`), which runs it with the same arguments.
const ELSEWHERE: &str = "espalier emergency ";

static SPAN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"`((?:aws|espalier) [^`\n]+)`").ok());
static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\b(payments|ARN|LEDGER|FILE)\b").ok());

/// Runs them all; what each printed.
pub(super) async fn followed(tale: &Tale, phase: &Phase) -> Result<Vec<(String, String)>, StoryError> {
    let commands = printed(&page::read(&deploy::workspace()?, "docs/runbook.md")?)?;
    phase.progress(&format!("{} commands of the runbook", commands.len()));
    let shell = page::shell(&tale.world, &tale.world.run, tale.command.parent())?;
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
    let each: BTreeSet<String> = page::blocks(page)?.into_iter().collect();
    let blocks = each.into_iter().map(|block| {
        let lines = block.lines().filter(|line| !line.starts_with(ELSEWHERE));
        lines.collect::<Vec<_>>().join("\n")
    });
    let pattern = SPAN.as_ref().ok_or_else(|| StoryError::Unmet("a pattern for commands is none".to_owned()))?;
    let each: BTreeSet<String> = pattern.captures_iter(page).map(|found| found[1].to_owned()).collect();
    let spans = each.into_iter().filter(|span| !span.starts_with(ELSEWHERE));
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
