//! Finds the processes of functions and installers, and kills them without a word.
//!
//! Only processes of this lab are looked at ([`Processes::living`]), whatever else runs on the machine.

use std::fs;
use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::caller::{self, function_of};
use crate::process::Processes;

/// Kills every process of a function; how many there were.
pub fn function(processes: &Processes, function: &str) -> usize {
    let ending = format!("-{function}");
    those(processes, |name| name.ends_with(&ending))
}

/// Kills every process of every function; how many there were.
pub fn functions(processes: &Processes) -> usize {
    those(processes, |_| true)
}

fn those(processes: &Processes, meant: impl Fn(&str) -> bool) -> usize {
    let all = processes.living().into_iter().filter(|pid| function_of(*pid).is_some_and(|name| meant(&name)));
    all.filter(|pid| kill(*pid)).count()
}

/// Kills the function process that holds the other end of a connection; whether there was one.
pub fn caller(processes: &Processes, peer: SocketAddr) -> bool {
    caller::of(processes, peer).is_some_and(|(pid, _)| kill(pid))
}

/// Kills the process group of every script that Run Command runs; how many there were.
pub fn installers(processes: &Processes) -> usize {
    let groups = processes.living().into_iter().filter(|pid| is_script(*pid)).filter_map(Pid::from_raw);
    groups.filter(|group| kill_process_group(*group, Signal::KILL).is_ok()).count()
}

fn kill(pid: i32) -> bool {
    // It may have ended by itself meanwhile.
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

/// The script's own shell leads its process group; its children have the same command line for a moment.
fn is_script(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    let shell = words.next() == Some("/bin/sh");
    let script = words.next().is_some_and(|word| word.contains("/commands/") && word.ends_with(".sh"));
    shell && script && Pid::from_raw(pid).is_some_and(|pid| rustix::process::getpgid(Some(pid)) == Ok(pid))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;
    use crate::process::Launch;

    fn sleeper(name: &str, environment: &[(&str, &str)]) -> Launch {
        let environment: BTreeMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Launch { name: name.into(), program: "/bin/sleep".into(), arguments: vec!["60".into()], environment }
    }

    #[tokio::test]
    async fn kills_the_function_meant_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes::of(directory.path(), &directory.path().join("logs")).await.unwrap();
        let start = |name: &str| {
            let named = format!("espalier-{name}");
            processes.start(&sleeper(name, &[("AWS_LAMBDA_FUNCTION_NAME", &named)])).unwrap()
        };
        let (mut mint, mut rotate) = (start("mint"), start("rotate"));
        while processes.living().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(function(&processes, "mint"), 1);
        assert_eq!(mint.wait().await.unwrap().signal(), Some(9));
        assert!(rotate.try_wait().unwrap().is_none());
        let mut server = processes.start(&sleeper("server", &[])).unwrap();
        while processes.living().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(functions(&processes), 1);
        assert_eq!(rotate.wait().await.unwrap().signal(), Some(9));
        assert!(server.try_wait().unwrap().is_none());
        processes.end_all().await;
    }
}
