//! Finds the processes of functions and installers, and kills them without a word.
//!
//! Only processes of this lab are looked at ([`Processes::living`]), whatever else runs on the machine.

use std::fs;
use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::process::Processes;

/// How often the kernel's table is read for one connection. It changes between two reads of its pages, and a row that
/// moves is not shown: an answer that is cut while its caller lives would have the SDK ask again.
const READINGS: usize = 20;

/// By this a Lambda host tells a process which function it is.
const FUNCTION: &str = "AWS_LAMBDA_FUNCTION_NAME=";

/// Kills every process of a function; how many there were.
pub fn function(processes: &Processes, function: &str) -> usize {
    let ending = format!("-{function}");
    let all =
        processes.living().into_iter().filter(|pid| function_of(*pid).is_some_and(|name| name.ends_with(&ending)));
    all.filter(|pid| kill(*pid)).count()
}

/// Kills the function process that holds the other end of a connection; whether there was one.
pub fn caller(processes: &Processes, peer: SocketAddr) -> bool {
    let Some(inode) = (0..READINGS).find_map(|_| inode(peer)) else { return false };
    let socket = format!("socket:[{inode}]");
    let holder = processes.living().into_iter().find(|pid| function_of(*pid).is_some() && holds(*pid, &socket));
    holder.is_some_and(kill)
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

fn function_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entries = environment.split(|byte| *byte == 0);
    let mut names = entries.filter_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(FUNCTION));
    names.next().map(str::to_owned)
}

/// The script's own shell leads its process group; its children have the same command line for a moment.
fn is_script(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    let shell = words.next() == Some("/bin/sh");
    let script = words.next().is_some_and(|word| word.contains("/commands/") && word.ends_with(".sh"));
    shell && script && Pid::from_raw(pid).is_some_and(|pid| rustix::process::getpgid(Some(pid)) == Ok(pid))
}

fn holds(pid: i32, socket: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.to_str() == Some(socket))
}

/// The inode of the socket whose own address is `address`, from the kernel's table.
fn inode(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    // The kernel prints the address's four bytes as one number in its own byte order.
    let wanted = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1) == Some(&wanted.as_str()))?;
    row.get(9).map(|inode| (*inode).to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{TcpListener, TcpStream};
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
        processes.end_all().await;
    }

    #[test]
    fn a_connection_is_traced_to_the_process_that_holds_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = format!("socket:[{}]", inode(stream.local_addr().unwrap()).unwrap());
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(holds(own, &socket));
        drop(stream);
        assert!(!holds(own, &socket));
    }
}
