//! A power cut: what was written and never flushed is lost, in either of the two ways that disks have. Contents: a name without
//! what it should hold. Names: what was made, renamed or removed in a directory since that was flushed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::Host;

/// Flushes, and writes down what, and of a directory the names in it.
pub(crate) const SYNC: &str = r#"#!/bin/sh
PATH=${PATH#*:}
sync "$@" || exit
stat -c '%i %s %.9Y' "$@" >>"$HOST/flushed"
for place; do
    if [ -d "$place" ]; then find "$place" -maxdepth 1 -printf '%d %i %f\n' >>"$HOST/names"; fi
done
"#;

/// A directory's names, each with its inode.
type Names = BTreeMap<String, u64>;

/// Everything that is there now is on the disk.
pub(crate) fn flushed(host: &Host) {
    let lines: String = host.files().iter().filter_map(|file| known(host, file)).map(|line| line + "\n").collect();
    fs::write(host.at("flushed"), lines).unwrap();
    let mut names = String::new();
    for (inode, place) in directories(host) {
        writeln!(names, "0 {inode} .").unwrap();
        for (name, inode) in now(&place) {
            writeln!(names, "1 {inode} {name}").unwrap();
        }
    }
    fs::write(host.at("names"), names).unwrap();
}

/// What a power cut does.
pub(crate) enum Lost {
    /// A file is there, and empty.
    Contents(PathBuf),
    /// A name is not there.
    Name(PathBuf),
    /// What was replaced or removed is there again: a copy, and where.
    Former(PathBuf, PathBuf),
}

impl Lost {
    pub(crate) fn befalls(self) {
        match self {
            Self::Contents(file) => fs::write(file, "").unwrap(),
            Self::Name(name) => match fs::symlink_metadata(&name) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(name).unwrap(),
                Ok(_) => fs::remove_file(name).unwrap(),
                // Its directory is gone.
                Err(_) => {}
            },
            Self::Former(copy, place) => {
                let copied = Command::new("cp").arg("-aT").args([copy, place]).status();
                assert!(copied.unwrap().success());
            }
        }
    }
}

/// What a power cut now may lose, in either way.
pub(crate) struct Losses {
    pub(crate) contents: Vec<Lost>,
    pub(crate) names: Vec<Lost>,
}

/// Of what was removed or replaced, `kept` is a copy as it was in the beginning, and `beginning` says where every directory was then.
pub(crate) fn losses(host: &Host, kept: &Path, beginning: &BTreeMap<u64, PathBuf>) -> Losses {
    Losses { contents: contents(host), names: names(host, kept, beginning) }
}

fn contents(host: &Host) -> Vec<Lost> {
    let flushed = fs::read_to_string(host.at("flushed")).unwrap();
    let flushed: BTreeSet<&str> = flushed.lines().collect();
    let lost = |file: &String| known(host, file).is_some_and(|line| !flushed.contains(line.as_str()));
    host.files().into_iter().filter(lost).map(|file| Lost::Contents(host.base().join(file))).collect()
}

/// What the disk holds and the server shows, but for when it was written.
pub(crate) fn found(host: &Host) -> String {
    let tell = |file: String| {
        let place = host.base().join(&file);
        let text =
            fs::read_link(&place).map_or_else(|_| fs::read(&place).unwrap(), |to| to.display().to_string().into());
        format!("{file} {}\n", crate::bundles::fingerprint(&text))
    };
    let directories: Vec<PathBuf> = directories(host).into_values().collect();
    let files: String = host.files().into_iter().map(tell).collect();
    format!("{:?} {:?}\n{files}", host.served(), BTreeSet::from_iter(directories))
}

/// A file as `stat` names its contents; links have none.
fn known(host: &Host, file: &str) -> Option<String> {
    let found = fs::symlink_metadata(host.base().join(file)).unwrap();
    let (inode, size, seconds, rest) = (found.ino(), found.size(), found.mtime(), found.mtime_nsec());
    (found.is_file() && size > 0).then(|| format!("{inode} {size} {seconds}.{rest:09}"))
}

/// Every directory of the host's certificates, by its inode: a rename changes its place only.
fn directories(host: &Host) -> BTreeMap<u64, PathBuf> {
    let all = walkdir::WalkDir::new(host.at("certificates")).into_iter().filter_map(Result::ok);
    let directories = all.filter(|entry| entry.file_type().is_dir());
    directories.map(|entry| (entry.metadata().unwrap().ino(), entry.into_path())).collect()
}

fn now(place: &Path) -> Names {
    let entries = fs::read_dir(place).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino())).collect()
}

fn names(host: &Host, kept: &Path, beginning: &BTreeMap<u64, PathBuf>) -> Vec<Lost> {
    let mut flushed: BTreeMap<u64, Names> = BTreeMap::new();
    let mut of = 0;
    for line in fs::read_to_string(host.at("names")).unwrap().lines() {
        let [depth, inode, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let inode = inode.parse().unwrap();
        if depth == "0" {
            of = inode;
            flushed.insert(of, Names::new());
        } else {
            flushed.entry(of).or_default().insert(name.to_owned(), inode);
        }
    }
    let mut lost = Vec::new();
    for (inode, place) in directories(host) {
        let (known, there) = (flushed.remove(&inode).unwrap_or_default(), now(&place));
        let is_lost = |name: &String| known.get(name) != there.get(name);
        lost.extend(there.keys().filter(|name| is_lost(name)).map(|name| Lost::Name(place.join(name))));
        let Some(before) = beginning.get(&inode) else { continue };
        let before = kept.join(before.strip_prefix(host.at("certificates")).unwrap());
        let former = known.keys().filter(|name| is_lost(name)).map(|name| (before.join(name), place.join(name)));
        lost.extend(
            former.filter(|(copy, _)| fs::symlink_metadata(copy).is_ok()).map(|(copy, to)| Lost::Former(copy, to)),
        );
    }
    lost
}

/// Where every directory is, before anything is done.
pub(crate) fn beginning(host: &Host) -> BTreeMap<u64, PathBuf> {
    directories(host)
}
