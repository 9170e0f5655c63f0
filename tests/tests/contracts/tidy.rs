//! What a linter does not see: how long files are, that each module says what it is for, and words that have no place.

use espalier_tests::{SourceFile, product_sources, read, sources};
use regex::Regex;

/// Lines of a file, at most. One that needs more is two modules.
const LINES: usize = 600;

/// Lines from which a file is worth a second look.
const SECOND_LOOK: usize = 400;

/// Lines of a function, at most, its head and comments included.
const FUNCTION_LINES: usize = 75;

/// The part of a file before its tests.
fn code(file: &SourceFile) -> &str {
    file.text.split("#[cfg(test)]").next().unwrap_or_default()
}

fn is_test(path: &str) -> bool {
    let folders = ["/tests/", "/benches/", "/examples/"];
    folders.iter().any(|folder| path.contains(folder)) || path.ends_with("/tests.rs") || path.starts_with("tests/")
}

#[test]
fn no_file_is_too_long_to_be_held_in_the_head() {
    for file in sources() {
        let lines = file.text.lines().count();
        assert!(lines <= LINES, "{} has {lines} lines", file.path);
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    let all = sources();
    assert!(all.len() > 50, "only {} files were found", all.len());
    // A module's unit tests are the module's, even where they fill a file.
    for file in all.into_iter().filter(|file| !file.path.ends_with("/tests.rs")) {
        let first = file.text.lines().next().unwrap_or_default();
        let says = first.strip_prefix("//! ").is_some_and(|text| text.len() > 10 && text != "placeholder");
        assert!(says, "{} does not begin with what it owns", file.path);
    }
}

#[test]
fn the_product_does_not_know_that_it_can_be_run_locally() {
    let word = Regex::new(r"(?i)\b(lab|ministack|moto|localhost)\b").unwrap();
    let mut files = product_sources();
    let others =
        ["template.yaml", "prober.yaml", "workflows/rotation.asl.yaml", "documents/installer.sh", "samconfig.toml"];
    let manifests: Vec<String> = product_manifests();
    assert!(manifests.len() > 10, "{manifests:?}");
    for path in others.into_iter().chain(manifests.iter().map(String::as_str)) {
        files.push(SourceFile { path: path.to_owned(), text: read(path) });
    }
    for file in files {
        if let Some(found) = word.find(&file.text) {
            let line = file.text[..found.start()].lines().count();
            assert!(is_test(&file.path), "{}:{line} says {:?}", file.path, found.as_str());
        }
    }
}

/// The manifests of the crates that are shipped.
fn product_manifests() -> Vec<String> {
    let crates = product_sources().into_iter().filter_map(|file| Some(file.path.split_once("/src/")?.0.to_owned()));
    let crates: std::collections::BTreeSet<String> = crates.collect();
    crates.into_iter().map(|folder| format!("{folder}/Cargo.toml")).collect()
}

#[test]
fn no_function_is_too_long_to_be_held_in_the_head() {
    // The linter counts lines of code where it is run; this counts every line, everywhere.
    assert!(read("clippy.toml").contains("too-many-lines-threshold = 70"), "the linter's limit");
    assert!(read("Cargo.toml").contains("too_many_lines = "), "the lint table lost it");
    let head = Regex::new(r"^( *)(?:pub(?:\([a-z]+\))? )?(?:const )?(?:async )?(?:unsafe )?fn (\w+)").unwrap();
    let mut functions = 0;
    for file in sources() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(found) = head.captures(line) else { continue };
            functions += 1;
            let is_excused = at > 0 && lines[at - 1].contains("allow(clippy::too_many_lines, reason = ");
            if is_excused && is_test(&file.path) {
                continue;
            }
            // Formatted code closes a function at the indentation of its head; one on a single line has no such end.
            let ends = |line: &&str| line.strip_prefix(&found[1]).is_some_and(|rest| rest == "}" || rest == "};");
            let is_whole = line.ends_with('}') || line.ends_with(';');
            let length = if is_whole { 1 } else { lines[at..].iter().position(&ends).unwrap_or(0) + 1 };
            assert!(length <= FUNCTION_LINES, "{}:{}: {} has {length} lines", file.path, at + 1, &found[2]);
        }
    }
    assert!(functions > 1_500, "only {functions} functions were measured");
}

#[test]
fn few_files_are_worth_a_second_look() {
    let all = sources();
    let long: Vec<String> = all
        .iter()
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > SECOND_LOOK)
        .map(|(lines, path)| format!("{path} ({lines})"))
        .collect();
    assert!(long.len() * 15 <= all.len(), "of {} files these are long, which is too many: {long:#?}", all.len());
}

#[test]
fn nothing_is_left_for_later() {
    let word = Regex::new(r"\b(TODO|FIXME|XXX|HACK)\b|unimplemented!|todo!\(").unwrap();
    // This file has to name them.
    for file in sources().into_iter().filter(|file| !file.path.ends_with("contracts/tidy.rs")) {
        let found = word.find(&file.text).map(|found| found.as_str());
        assert_eq!(found, None, "{}", file.path);
    }
}

#[test]
fn nothing_shipped_panics_on_bad_luck() {
    let call = Regex::new(r"\.unwrap\(\)|\bpanic!\(|\bunreachable!\(").unwrap();
    for file in product_sources().into_iter().filter(|file| !is_test(&file.path)) {
        let found = call.find(code(&file)).map(|found| found.as_str());
        assert_eq!(found, None, "{}", file.path);
    }
}

#[test]
fn enums_are_matched_to_the_last_variant_in_the_domain() {
    // Elsewhere the linter sees to it; here even `_` over a tuple of our own enums hides a case that is new tomorrow.
    let lint = read("Cargo.toml");
    assert!(lint.contains("wildcard_enum_match_arm = "), "the lint table lost it");
    for file in product_sources() {
        let silenced = file.text.contains("allow(clippy::wildcard_enum_match_arm");
        assert!(!silenced, "{} silences it", file.path);
    }
}
