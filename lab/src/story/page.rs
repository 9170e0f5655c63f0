//! Commands as the project's own pages print them, and a shell of this world to run them in.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::StoryError;
use super::cli::Cli;
use super::world::World;

static BLOCK: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?s)\n```sh\n(.*?)\n```").ok());

/// A page of the project.
pub(super) fn read(workspace: &Path, name: &str) -> Result<String, StoryError> {
    std::fs::read_to_string(workspace.join(name)).map_err(StoryError::io("reading a page"))
}

/// The blocks of commands in it, in their order.
pub(super) fn blocks(page: &str) -> Result<Vec<String>, StoryError> {
    let pattern = BLOCK.as_ref().ok_or_else(|| StoryError::Unmet("a pattern for commands is none".to_owned()))?;
    Ok(pattern.captures_iter(page).map(|found| found[1].to_owned()).collect())
}

/// A shell in which `aws` is found and finds this world, and the programs of another directory, if there are any.
pub(super) fn shell(world: &World, at: &Path, programs: Option<&Path>) -> Result<Cli, StoryError> {
    let bin = world.run.join("bin");
    std::fs::create_dir_all(&bin).map_err(StoryError::io("a directory for commands"))?;
    // The CLI follows no endpoint variable for SQS.
    let aws = format!(
        "#!/bin/sh\n[ \"$1\" = sqs ] && set -- --endpoint-url \"$AWS_ENDPOINT_URL_SQS\" \"$@\"\nexec '{}' \"$@\"\n",
        world.tools.path("aws").display()
    );
    let program = bin.join("aws");
    std::fs::write(&program, aws).map_err(StoryError::io("writing the shell's aws"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).map_err(StoryError::io("writing the shell's aws"))?;
    let further = programs.map(|programs| format!("{}:", programs.display())).unwrap_or_default();
    let path = format!("{}:{further}{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    Ok(Cli::new(Path::new("bash"), at, world.gateway.endpoints())
        .with("PATH", &path)
        .with("AWS_ENDPOINT_URL_CLOUDWATCH", &world.ministack))
}
