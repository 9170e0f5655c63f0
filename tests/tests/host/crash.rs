//! Ending the script, and everything it started, just before a chosen one of its steps.

use std::process::Command;

use crate::host::{Host, Said};

/// The commands by which the script changes the host, and some between.
const STEPS: [&str; 10] = ["mkdir", "chmod", "rm", "aws", "awk", "cat", "date", "sync", "mv", "ln"];

/// Stands before each of these commands and both hooks. Counts their calls in one file, one at a time; at the chosen
/// one it kills the script's whole process group, and its own (`timeout` makes one).
const SHIM: &str = r#"#!/bin/sh
name=${0##*/}
PATH="$HOST/real:${PATH#*:}"
export PATH
if [ -e "$HOST/countdown" ]; then
    exec 8>"$HOST/counting"
    flock 8
    read -r left <"$HOST/countdown"
    left=$((left - 1))
    echo "$left" >"$HOST/countdown"
    if [ "$left" = 0 ]; then
        kill -9 "-$(head -n 1 "$HOST/group")"
        kill -9 0
    fi
    exec 8>&-
fi
exec "$name" "$@"
"#;

/// Puts the shims before the real commands.
pub(crate) fn prepare(host: &Host) {
    std::fs::create_dir(host.at("real")).unwrap();
    for real in ["bin/aws", "hooks/test", "hooks/reload"] {
        let name = real.rsplit('/').next().unwrap_or(real);
        std::fs::rename(host.at(real), host.at("real").join(name)).unwrap();
    }
    for hook in ["hooks/test", "hooks/reload"] {
        host.executable(hook, SHIM);
    }
    before(host, &STEPS);
}

/// Puts shims before these commands, too.
pub(crate) fn before(host: &Host, steps: &[&str]) {
    for step in steps {
        host.executable(&format!("bin/{step}"), SHIM);
    }
}

/// Runs the script and kills it at the given call, counted from 1; whether it came that far.
pub(crate) fn killed_at(host: &Host, call: u32, command: &Command) -> (bool, Said) {
    std::fs::write(host.at("countdown"), call.to_string()).unwrap();
    let said = Host::run_known(command, &host.at("group"));
    let _ = std::fs::remove_file(host.at("countdown"));
    (said.status.is_none(), said)
}
