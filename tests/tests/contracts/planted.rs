//! Faults to be planted still fit the code they are planted in: CI plants one in a few of them, and one that no longer
//! applies would be found out days after the change that moved its lines.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use espalier_tests::root;

/// What `tests/planted/run` does with a patch, without doing it.
fn refusal(patch: &Path) -> Option<String> {
    let output = Command::new("patch")
        .args(["--dry-run", "--force", "--strip", "1", "--directory"])
        .arg(root())
        .stdin(File::open(patch).unwrap())
        .output()
        .expect("tests/run installs patch");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn every_planted_fault_still_applies() {
    let entries = fs::read_dir(root().join("tests/planted")).unwrap().map(|entry| entry.unwrap().path());
    let patches: Vec<_> = entries.filter(|path| path.extension() == Some(OsStr::new("patch"))).collect();
    assert!(patches.len() > 80, "only {} patches were found", patches.len());
    let refused: Vec<_> = patches.iter().filter_map(|patch| Some((patch, refusal(patch)?))).collect();
    assert!(refused.is_empty(), "make these again: {refused:#?}");
}
