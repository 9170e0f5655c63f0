//! X-Ray: the daemon that functions send their spans to, and what a trace looks like in the end.
//!
//! No emulator takes a trace. What X-Ray or its daemon would throw away is refused here, by the rule that it breaks
//! (`rules`), and fails the run.

mod rules;
pub mod trace;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Starts MiniStack so that Lambda and Step Functions hand traces on.
pub const MINISTACK: &str = include_str!("xray/start.py");

/// The largest datagram there is.
const LARGEST: usize = 65_536;

/// Sends a document as a function does.
///
/// # Errors
/// There is no socket.
pub fn send(daemon: SocketAddr, document: &Value) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let datagram = format!("{{\"format\": \"json\", \"version\": 1}}\n{document}");
    socket.send_to(datagram.as_bytes(), daemon).map(|_| ())
}

/// The daemon.
#[derive(Debug, Clone)]
pub struct Daemon {
    address: SocketAddr,
    got: Arc<Mutex<Got>>,
}

#[derive(Debug, Default)]
struct Got {
    documents: Vec<Value>,
    refused: Vec<String>,
}

impl Daemon {
    /// Starts to listen; until the process ends.
    ///
    /// # Errors
    /// There is no socket.
    pub fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let daemon = Self { address: socket.local_addr()?, got: Arc::default() };
        let got = Arc::clone(&daemon.got);
        // A thread of its own: what comes while nobody reads is lost.
        std::thread::Builder::new().name("x-ray".to_owned()).spawn(move || {
            let mut datagram = vec![0; LARGEST];
            while let Ok(length) = socket.recv(&mut datagram) {
                let read = rules::read(datagram.get(..length).unwrap_or_default());
                let Ok(mut got) = got.lock() else { return };
                match read {
                    Ok(document) => got.documents.push(document),
                    Err(problem) => got.refused.push(problem),
                }
            }
        })?;
        Ok(daemon)
    }

    /// For `AWS_XRAY_DAEMON_ADDRESS`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was taken.
    pub fn documents(&self) -> Vec<Value> {
        self.got.lock().map(|got| got.documents.clone()).unwrap_or_default()
    }

    /// What was not, and why.
    pub fn refused(&self) -> Vec<String> {
        self.got.lock().map(|got| got.refused.clone()).unwrap_or_default()
    }
}
