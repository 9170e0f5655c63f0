//! Installing from a release, as somebody without Rust does: the archive that `release/build` made, and the commands of
//! `docs/install.md` as they are printed there. Nothing is staged: what is deployed is what lies in the archive.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::world::World;
use super::{StoryError, Tale, deploy, page, upgrade};
use crate::setup;
use crate::ui::Phase;

const PAGE: &str = "docs/install.md";

/// Where the page tells of it.
const SECTION: &str = "\n## Without Rust\n";

/// What the page calls the archive, and where it names what only the reader knows.
const NAME: &str = "espalier-arm64";
const PARAMETERS: &str = "--parameter-overrides ";

/// Where a person's home directory in CloudShell would be.
const HOME: &str = "cloudshell";

/// Runs the page's commands where the archive lies; the control plane's outputs.
pub(super) async fn control_plane(
    world: &World,
    workspace: &Path,
    archive: &Path,
    parameters: &[String],
    phase: &Phase,
) -> Result<BTreeMap<String, String>, StoryError> {
    let home = world.run.join(HOME);
    std::fs::create_dir_all(&home).map_err(StoryError::io("a home directory"))?;
    let name = name(archive)?;
    std::fs::copy(archive, home.join(format!("{name}.tar.gz"))).map_err(StoryError::io("uploading the archive"))?;
    let commands = meant(&page::read(workspace, PAGE)?, name, parameters)?;
    phase.progress(&format!("the commands of {PAGE}"));
    page::shell(world, &home, None)?.run(&["-euo", "pipefail", "-c", &commands]).await?;
    deploy::outputs(&world.aws(), deploy::CONTROL_PLANE).await
}

/// Every function's code is the archive's zip, byte for byte.
pub(super) async fn is_deployed(tale: &Tale, archive: &Path, phase: Phase) -> Result<(), StoryError> {
    let folder = tale.world.run.join(HOME).join(name(archive)?);
    let deployed = upgrade::code(tale).await?;
    for function in setup::FUNCTIONS {
        let zip = std::fs::read(folder.join(format!("{function}.zip"))).map_err(StoryError::io("reading a zip"))?;
        let packed = STANDARD.encode(Sha256::digest(zip));
        if deployed.get(function) != Some(&packed) {
            let other = deployed.get(function);
            return Err(StoryError::Unmet(format!("{function} runs {other:?} and its zip is {packed}")));
        }
    }
    phase.done(&format!("{} functions run the zips of the archive, byte for byte", deployed.len()));
    Ok(())
}

/// The archive's name, which is its folder's.
fn name(archive: &Path) -> Result<&str, StoryError> {
    let file = archive.file_name().and_then(|name| name.to_str());
    let name = file.and_then(|name| name.strip_suffix(".tar.gz"));
    name.ok_or_else(|| StoryError::Unmet("--release wants the archive that release/build made, a .tar.gz".to_owned()))
}

/// The page's commands with this archive's name and this world's parameters in the place of the reader's.
fn meant(page: &str, name: &str, parameters: &[String]) -> Result<String, StoryError> {
    let section = page.split_once(SECTION).map(|(_, section)| section);
    let section = section.ok_or_else(|| StoryError::Unmet(format!("{PAGE} has no section{SECTION}")))?;
    let block = page::blocks(section)?.into_iter().next();
    let block = block.ok_or_else(|| StoryError::Unmet(format!("{PAGE} prints no commands there")))?;
    let (commands, printed) = block
        .split_once(PARAMETERS)
        .ok_or_else(|| StoryError::Unmet(format!("{PAGE} names no parameters where it deploys: {block}")))?;
    for one in printed.split_whitespace() {
        let name = one.split_inclusive('=').next().unwrap_or(one);
        if !parameters.iter().any(|parameter| parameter.starts_with(name)) {
            return Err(StoryError::Unmet(format!("{PAGE} names {one}, which nobody needs to say")));
        }
    }
    // Its processor is the archive's own default.
    let own = parameters.iter().filter(|one| !one.starts_with("Architecture="));
    let own: Vec<String> = own.map(|one| format!("'{one}'")).collect();
    Ok(format!("{}{PARAMETERS}{}", commands.replace(NAME, name), own.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "A\n\n```sh\nno\n```\n\n## Without Rust\n\nText\n\n```sh\ntar -xzf espalier-arm64.tar.gz && cd espalier-arm64\n\
                        aws x \\\n    --parameter-overrides AllowedDomains=example.com\n```\n\n```sh\nnor this\n```\n";

    #[test]
    fn the_sections_first_commands_are_run_with_what_only_the_reader_knows() {
        let own = ["AllowedDomains=a.example".to_owned(), "Architecture=x86_64".to_owned(), "Other=b c".to_owned()];
        let commands = meant(TOLD, "espalier-x86_64", &own).unwrap();
        let expected = "tar -xzf espalier-x86_64.tar.gz && cd espalier-x86_64\naws x \\\n    --parameter-overrides \
                        'AllowedDomains=a.example' 'Other=b c'";
        assert_eq!(commands, expected);
        assert!(meant(TOLD, "espalier-x86_64", &own[1..]).is_err(), "the page names one that is not needed");
        assert!(meant("## Without Rust", "espalier-x86_64", &own).is_err());
    }

    #[test]
    fn a_folder_is_no_archive() {
        assert_eq!(name(Path::new("target/espalier-arm64.tar.gz")).unwrap(), "espalier-arm64");
        assert!(name(Path::new("target/release-out")).is_err());
    }
}
