//! Which function holds the other end of a connection. All processes of the lab connect from one address, so it is told by the
//! process that has the socket.

use std::fs;
use std::net::SocketAddr;

use crate::process::Processes;

/// How often the kernel's table is read for one connection. It changes between two reads of its pages, and a row that
/// moves is not shown: an answer that is cut while its caller lives would have the SDK ask again.
const READINGS: usize = 20;

/// By this a Lambda host tells a process which function it is.
const FUNCTION: &str = "AWS_LAMBDA_FUNCTION_NAME=";

/// The function's process that holds the other end of a connection, and the function's name.
pub fn of(processes: &Processes, peer: SocketAddr) -> Option<(i32, String)> {
    let inode = (0..READINGS).find_map(|_| inode(peer))?;
    let socket = format!("socket:[{inode}]");
    let functions = processes.living().into_iter().filter_map(|pid| Some((pid, function_of(pid)?)));
    functions.into_iter().find(|(pid, _)| holds(*pid, &socket))
}

/// Which function a process is, if it is one.
pub fn function_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entries = environment.split(|byte| *byte == 0);
    let mut names = entries.filter_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(FUNCTION));
    names.next().map(str::to_owned)
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
    use std::net::{IpAddr, TcpListener, TcpStream};

    use super::*;
    use crate::fabric::{Fabric, Network};
    use crate::process::Launch;

    #[tokio::test]
    async fn a_function_that_stands_elsewhere_comes_from_there_and_another_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes::of(directory.path(), &directory.path().join("logs")).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut children = Vec::new();
        let mut caller = |function: &str| {
            let environment = BTreeMap::from([("AWS_LAMBDA_FUNCTION_NAME".to_owned(), function.to_owned())]);
            let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r -u 3 -t 60");
            let arguments = vec!["-c".into(), script];
            let launch = Launch { name: function.into(), program: "/bin/bash".into(), arguments, environment };
            children.push(processes.start(&launch).unwrap());
            listener.accept().unwrap()
        };
        let (_far, far) = caller("espalier-prober-east");
        let (_own, own) = caller("espalier-verify");
        let (fabric, there) = (Fabric::fixed(Network::default()), IpAddr::from([127, 4, 1, 250]));
        assert_eq!(fabric.whence(far), far.ip(), "nobody stands elsewhere yet");
        fabric.place(&processes, "espalier-prober-east", there);
        assert_eq!(of(&processes, far).unwrap().1, "espalier-prober-east");
        assert_eq!((fabric.whence(far), fabric.whence(own)), (there, own.ip()));
        fabric.displace("espalier-prober-east");
        assert_eq!(fabric.whence(far), far.ip());
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
