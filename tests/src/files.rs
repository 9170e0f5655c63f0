//! The project's own files, found from the workspace's root.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// The folders of crates that are shipped.
const PRODUCT: [&str; 3] = ["functions", "shared", "cli"];

/// A file that was read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path from the root, with forward slashes.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The workspace's root; or that of a copy of it, named by `ESPALIER_TREE`, in which `tests/planted/texts` has planted a
/// fault.
pub fn root() -> PathBuf {
    if let Some(tree) = std::env::var_os("ESPALIER_TREE") {
        return PathBuf::from(tree);
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the workspace").to_path_buf()
}

/// A file of the project, by its path from the root.
///
/// # Panics
/// When it is not there: a test that needs it has failed.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic_on(path, &error))
}

#[expect(clippy::panic, reason = "a test that cannot read the project has failed")]
fn panic_on(path: &str, error: &std::io::Error) -> String {
    panic!("{path}: {error}")
}

/// Every Rust file of the workspace.
pub fn sources() -> Vec<SourceFile> {
    under(&["functions", "shared", "cli", "tests", "lab"], "rs")
}

/// Every Rust file of the crates that are shipped.
pub fn product_sources() -> Vec<SourceFile> {
    under(&PRODUCT, "rs")
}

/// Every page of documentation.
pub fn documents() -> Vec<SourceFile> {
    let mut pages = under(&["docs", "lab", "examples"], "md");
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"] {
        pages.push(SourceFile { path: name.to_owned(), text: read(name) });
    }
    pages
}

fn under(folders: &[&str], extension: &str) -> Vec<SourceFile> {
    let root = root();
    let mut files: Vec<SourceFile> = folders
        .iter()
        .flat_map(|folder| {
            WalkDir::new(root.join(folder)).into_iter().filter_entry(|entry| entry.file_name() != "target")
        })
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|found| found == extension))
        .map(|entry| {
            let path = entry.path().strip_prefix(&root).expect("it was found under the root");
            let path = path.to_string_lossy().into_owned();
            SourceFile { text: read(&path), path }
        })
        .collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}
