//! Every point at which the installer can be killed: before and after each external command, and before and after each redirection
//! has made or emptied its file. The script is the one that ships; only the words after its `>` are wrapped, and its commands
//! looked up among shims.
//!
//! Between two points at which disk and server are the same a kill leaves the same behind. So one run writes down what each point
//! finds, and the script is killed, really, at the first point of a state, when the least of it is flushed; then the power is cut,
//! in both ways. Of many states some are chosen; `ESPALIER_TRIES=states` kills it in all of them, and `full` at every point.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use regex::Regex;

use crate::host::{Host, Said};
use crate::power;

/// Counts a point and kills the script's process group, and its own (`timeout` makes one), at the chosen one. A run that is
/// recorded also has written down what the disk and the server's trigger look like there.
const POINT: &str = r#"
point() {
    [ -e "$HOST/points" ] || return 0
    printf x >>"$HOST/points"
    read -r reached <"$HOST/points" || :
    read -r chosen <"$HOST/chosen"
    if [ "$chosen" = 0 ]; then
        seen=$({ cd "$HOST" && find certificates units -printf '%P %y %m %s %l %i %T@\n'; cat served; } 2>/dev/null | cksum)
        echo "${#reached} ${seen%% *} $1" >>"$HOST/states"
    elif [ "${#reached}" -ge "$chosen" ]; then
        read -r group <"$HOST/group"
        kill -9 "-$group"
        kill -9 0
    fi
}
"#;

/// Stands before a command.
const SHIM: &str = r#"
name=${0##*/}
case ":$PATH" in ":$HOST/shims:"*) PATH=${PATH#*:} ;; esac
point "before $name"
if [ -e "$HOST/real/$name" ]; then "$HOST/real/$name" "$@"; else "$name" "$@"; fi
status=$?
point "after $name"
exit $status
"#;

/// Stands for the name of a file that is about to be made or emptied, in the place called $1.
const REDIRECTION: &str = r#"
PATH=${PATH#*:}
point "before > $1"
: >"$2"
point "after > $1"
printf '%s' "$2"
"#;

/// The script with every redirection to a file among the points, and what each is called.
fn instrumented() -> (String, BTreeSet<String>) {
    let redirection = Regex::new(r#"([0-9]?>)("\$[^"]+")"#).unwrap();
    let any = Regex::new(r#"[0-9]?>+\s*([^&=\s]\S*)"#).unwrap();
    let (mut text, mut places) = (String::new(), BTreeSet::new());
    for (number, line) in (1..).zip(espalier_tests::read("documents/installer.sh").lines()) {
        let mut line = line.to_owned();
        if !line.trim_start().starts_with('#') {
            let mut found = 0;
            let wrapped = redirection.replace_all(&line, |captures: &regex::Captures<'_>| {
                found += 1;
                let place = format!("{number}.{found}");
                let wrapped = format!("{}\"$(redirection {place} {})\"", &captures[1], &captures[2]);
                places.insert(place);
                wrapped
            });
            line = wrapped.into_owned();
            // The one that is awk's.
            if line.contains("{ print > out }") {
                let place = format!("{number}.1");
                let met = format!(
                    "{{ if (!(out in met)) {{ met[out] = 1; printf \"\" > out; fflush(out); system(ENVIRON[\"HOST\"] \"/shims/redirection {place} \" out \" >&2\") }} print > out }}"
                );
                line = line.replace("{ print > out }", &met);
                places.insert(place);
            }
            for target in any.captures_iter(&line).map(|captures| captures[1].to_owned()) {
                let known = target.starts_with("/dev/null") || target.starts_with("\"$(redirection") || target == "out";
                assert!(
                    known || line.contains("fflush(out)"),
                    "line {number} of the script writes to {target}, which is no point"
                );
            }
        }
        text.push_str(&line);
        text.push('\n');
    }
    (text, places)
}

/// What is told of one scenario.
pub(crate) struct Told {
    /// Points before and after commands.
    pub(crate) commands: usize,
    /// Points before and after redirections.
    pub(crate) redirections: usize,
    /// States of disk and server.
    pub(crate) states: usize,
    /// Kills.
    pub(crate) kills: usize,
    /// Later runs that completed, each from something else on the disk.
    pub(crate) runs: usize,
    /// What power cuts lost.
    pub(crate) lost: usize,
    /// The redirections that were met.
    met: BTreeSet<String>,
}

/// What is to be killed, and what is demanded of whoever comes afterwards.
pub(crate) struct Scenario<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: &'a dyn Fn(&Host) -> Command,
    /// What the command says when nobody kills it.
    pub(crate) code: &'a str,
    /// After the kill, and after the power cut: what is served is whole.
    pub(crate) holds: &'a dyn Fn(&Host, &str),
    /// The states in which it is killed, unless more is asked for.
    pub(crate) share: Share,
    /// A later run completes.
    pub(crate) completes: &'a dyn Fn(&Host, &str),
}

/// Every so many of the states, after so many that are left out.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) after: usize,
    pub(crate) every: usize,
}

impl Share {
    /// Of these, or of all points if `ESPALIER_TRIES` says so.
    fn of(self, states: &[(usize, String, String)]) -> Vec<usize> {
        match std::env::var("ESPALIER_TRIES").as_deref() {
            Ok("full") => (1..=states.len()).collect(),
            Ok("states") => begin(states),
            _ => begin(states).into_iter().skip(self.after).step_by(self.every).collect(),
        }
    }
}

/// A host that is put back to where it was before each kill.
struct Stage<'a> {
    host: &'a Host,
    beginning: BTreeMap<u64, PathBuf>,
}

impl<'a> Stage<'a> {
    fn set(host: &'a Host) -> (Self, BTreeSet<String>) {
        let (script, places) = instrumented();
        fs::write(host.at("script"), script).unwrap();
        for directory in ["shims", "real", "kept", "certificates"] {
            let _ = fs::create_dir(host.at(directory));
        }
        copy(host, "certificates", "kept");
        for tool in crate::trouble::tools().iter().map(String::as_str).chain(["systemd-run"]) {
            host.executable(&format!("shims/{tool}"), &format!("#!/bin/sh{POINT}{SHIM}"));
        }
        host.executable("shims/redirection", &format!("#!/bin/sh{POINT}{REDIRECTION}"));
        for real in ["hooks/test", "hooks/reload", "control"] {
            fs::rename(host.at(real), host.at("real").join(real.rsplit('/').next().unwrap())).unwrap();
            host.executable(real, &format!("#!/bin/sh{POINT}{SHIM}"));
        }
        host.executable("real/sync", power::SYNC);
        (Self { host, beginning: BTreeMap::new() }, places)
    }

    /// As it was in the beginning, all of it on the disk, served by who has just started.
    fn again(&mut self, context: &str) {
        fs::remove_dir_all(self.host.at("certificates")).unwrap();
        copy(self.host, "kept", "certificates");
        let _ = fs::remove_dir_all(self.host.at("units"));
        fs::create_dir(self.host.at("units")).unwrap();
        fs::set_permissions(self.host.at("units"), fs::Permissions::from_mode(0o755)).unwrap();
        power::flushed(self.host);
        self.beginning = power::beginning(self.host);
        if self.host.base().join("current").exists() {
            fs::write(self.host.at("served"), context).unwrap();
            self.host.served();
        }
    }

    /// Runs the command up to this point; to its end if that is 0, telling what each point finds.
    fn run(&self, point: usize, command: &Command) -> Said {
        fs::write(self.host.at("points"), "").unwrap();
        fs::write(self.host.at("chosen"), format!("{point}\n")).unwrap();
        let mut instrumented = Command::new(command.get_program());
        let script = self.host.at("script");
        let is_script = |argument: &std::ffi::OsStr| argument.to_str().unwrap().ends_with("documents/installer.sh");
        instrumented.args(command.get_args().map(|one| if is_script(one) { script.as_os_str() } else { one }));
        instrumented.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let path = format!(
            "{}:{}:{}",
            self.host.at("shims").display(),
            self.host.at("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let said = Host::run_known(instrumented.env("PATH", path), &self.host.at("group"));
        fs::remove_file(self.host.at("points")).unwrap();
        said
    }
}

fn copy(host: &Host, from: &str, to: &str) {
    let _ = fs::create_dir(host.at(to));
    let copied = Command::new("cp").arg("-aT").args([host.at(from), host.at(to)]).status().unwrap();
    assert!(copied.success());
}

/// The first point of every state: as little as ever was flushed by then.
fn begin(states: &[(usize, String, String)]) -> Vec<usize> {
    let changes = states.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    std::iter::once(1).chain(changes.map(|pair| pair[1].0)).collect()
}

/// Kills the command of a host that is ready for it.
pub(crate) fn killed(host: &Host, scenario: &Scenario<'_>) -> Told {
    let (mut stage, places) = Stage::set(host);
    stage.again("the record");
    let said = stage.run(0, &(scenario.command)(host));
    assert_eq!(said.code(), scenario.code, "{}: {said:?}", scenario.name);
    assert!(
        power::losses(host, &host.at("kept"), &stage.beginning).contents.is_empty(),
        "what is answered is on the disk"
    );
    let states = fs::read_to_string(host.at("states")).unwrap();
    let mut states: Vec<(usize, String, String)> = states
        .lines()
        .map(|line| {
            let [number, state, label] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            (number.parse().unwrap(), state.to_owned(), label.to_owned())
        })
        .collect();
    states.sort();
    let redirections = states.iter().filter(|(_, _, label)| label.contains(" > ")).count();
    let met = states.iter().filter_map(|(_, _, label)| Some(label.split_once(" > ")?.1.to_owned())).collect();
    let mut told = Told {
        commands: states.len() - redirections,
        redirections,
        states: states.iter().map(|(_, state, _)| state).collect::<BTreeSet<_>>().len(),
        kills: 0,
        runs: 0,
        lost: 0,
        met,
    };
    assert!(told.met.is_subset(&places));
    let mut completed = BTreeSet::new();
    for point in scenario.share.of(&states) {
        let context = format!("{}, killed at point {point}, {}", scenario.name, states[point - 1].2);
        stage.again(&context);
        let said = stage.run(point, &(scenario.command)(host));
        // Waiting for a server takes a look more or less.
        assert!(said.status.is_none() || point + 40 > states.len(), "{context}: {said:?}");
        told.kills += usize::from(said.status.is_none());
        (scenario.holds)(host, &context);
        let losses = power::losses(host, &host.at("kept"), &stage.beginning);
        copy(host, "certificates", "killed");
        for (what, lost) in [("nothing", Vec::new()), ("contents", losses.contents), ("names", losses.names)] {
            let context = format!("{context}, and a power cut that loses {what}");
            fs::remove_dir_all(host.at("certificates")).unwrap();
            copy(host, "killed", "certificates");
            told.lost += lost.len();
            lost.into_iter().for_each(|lost| lost.befalls());
            // Whoever has completed from the very same, does so again.
            if completed.insert(power::found(host)) {
                (scenario.holds)(host, &context);
                (scenario.completes)(host, &context);
                told.runs += 1;
            }
        }
        fs::remove_dir_all(host.at("killed")).unwrap();
    }
    told
}

/// Demands that every redirection of the script was met by one of these.
pub(crate) fn assert_all_met(told: &[Told]) {
    let (_, mut places) = instrumented();
    assert!(places.len() > 15, "{places:?}");
    places.retain(|place| !told.iter().any(|told| told.met.contains(place)));
    assert!(places.is_empty(), "redirections of the script that nobody was killed at (line and number): {places:?}");
}
