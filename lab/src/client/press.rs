//! The press around a reload: many connections at once at one server, a new one begun whenever one ends.
//!
//! Each makes what every client of the lab makes: a full handshake, chain, name and dates verified, and one request. It
//! dials the server itself, not the interface in front of it, from a plain thread: what the clients leave of a small
//! machine is what the server can answer with.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::load::{LoadReport, now_ns, summarize};
use super::{Client, ClientError, RESPONSE_BYTES_MAX, Served, broken, request, whole};
use crate::fabric::lock;

/// A reload that was announced and never came is not waited for longer.
const LONGEST: Duration = Duration::from_secs(2);

/// After a failure: what fails is not hammered.
const AFTER_A_FAILURE: Duration = Duration::from_millis(20);

/// Its stack holds no buffer larger than a record.
const STACK_BYTES: usize = 512 * 1024;

/// The servers that may be pressed, a crowd of clients before each, and what they saw so far.
#[derive(Debug)]
pub struct Press {
    tally: Arc<Mutex<LoadReport>>,
    gates: Vec<Arc<Gate>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Press {
    /// Has so many clients wait before each server, who verify for `host`.
    pub fn new(client: &Client, host: &str, servers: &[SocketAddr], clients: usize) -> Self {
        let mut press = Self { tally: Arc::default(), gates: Vec::new(), threads: Mutex::default() };
        press.gates = servers.iter().map(|server| press.crowd(client, host, *server, clients)).collect();
        press
    }

    fn crowd(&self, client: &Client, host: &str, server: SocketAddr, clients: usize) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        for _ in 0..clients {
            let (client, host, tally) = (client.clone(), host.to_owned(), Arc::clone(&self.tally));
            let (builder, gate) = (std::thread::Builder::new().stack_size(STACK_BYTES), Arc::clone(&gate));
            // A machine that has no thread left presses less hard, and the count says so.
            if let Ok(thread) =
                builder.name("press".to_owned()).spawn(move || work(&client, &host, server, &tally, &gate))
            {
                lock(&self.threads).push(thread);
            }
        }
        gate
    }

    /// From now on the server of this number is pressed.
    pub fn begin(&self, server: usize) {
        self.turn(server, State::Open(Instant::now()));
    }

    /// No connection to it is begun after this.
    pub fn end(&self, server: usize) {
        self.turn(server, State::Shut);
    }

    fn turn(&self, server: usize, state: State) {
        if let Some(gate) = self.gates.get(server) {
            gate.turn(state);
        }
    }

    /// What came of it so far.
    pub fn report(&self) -> LoadReport {
        summarize(&lock(&self.tally))
    }

    /// Sends everybody home, waits for what is under way, and reports.
    pub fn stop(&self) -> LoadReport {
        self.gates.iter().for_each(|gate| gate.turn(State::Over));
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // One that panicked has counted what it had seen.
            drop(thread.join());
        }
        self.report()
    }
}

impl Drop for Press {
    fn drop(&mut self) {
        self.gates.iter().for_each(|gate| gate.turn(State::Over));
    }
}

/// What a crowd waits at. It is there beforehand, so that nothing but connecting is left to do when it opens.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    turned: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Shut,
    Open(Instant),
    /// For good.
    Over,
}

impl Gate {
    fn turn(&self, state: State) {
        *lock(&self.state) = state;
        self.turned.notify_all();
    }

    /// Waits until the server is to be pressed; `false` when it never will be again.
    fn pass(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            match *state {
                State::Over => return false,
                State::Open(since) if since.elapsed() < LONGEST => return true,
                State::Open(_) | State::Shut => {
                    state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a plain thread: there is no runtime to block")]
fn work(client: &Client, host: &str, server: SocketAddr, tally: &Mutex<LoadReport>, gate: &Gate) {
    while gate.pass() {
        let begun_ns = now_ns();
        let result = client.get_blocking(server, host);
        if lock(tally).count(begun_ns, result) {
            std::thread::sleep(AFTER_A_FAILURE);
        }
    }
}

impl Client {
    /// [`Client::get_at`] from a thread of its own, from whatever source address the system chooses.
    fn get_blocking(&self, address: SocketAddr, host: &str) -> Result<Served, ClientError> {
        let started = Instant::now();
        let mut tcp = self.dial(address)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| ClientError::Setup(error.to_string()))?;
        let tls = ClientConnection::new(Arc::clone(&self.config), name);
        let mut tls = tls.map_err(|error| ClientError::Setup(error.to_string()))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).map_err(|error| late(error, "handshake", ClientError::Handshake))?;
        }
        let handshake = started.elapsed();
        let super::Leaf { serial, fingerprint, not_after } = self.leaves.first_of(tls.peer_certificates())?;
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        stream
            .write_all(request(host, "/").as_bytes())
            .map_err(|error| late(error, "answer", |error| broken(&error)))?;
        let mut answer = Vec::new();
        let end = stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut answer);
        let (status, body) = whole(end, &answer)?;
        Ok(Served { address, serial, fingerprint, not_after, status, body, handshake, total: started.elapsed() })
    }

    fn dial(&self, address: SocketAddr) -> Result<TcpStream, ClientError> {
        let failed = |error| late(error, "connecting", ClientError::Connect);
        let tcp = TcpStream::connect_timeout(&address, self.limit).map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        tcp.set_read_timeout(Some(self.limit)).map_err(failed)?;
        tcp.set_write_timeout(Some(self.limit)).map_err(failed)?;
        Ok(tcp)
    }
}

/// A socket's own limit is told as `WouldBlock`.
fn late(
    error: std::io::Error,
    during: &'static str,
    otherwise: impl FnOnce(std::io::Error) -> ClientError,
) -> ClientError {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return ClientError::TimedOut(during);
    }
    otherwise(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(limit: Duration) -> Client {
        let root = rcgen::generate_simple_self_signed(["api.example.com".to_owned()]).unwrap().cert.pem();
        Client::new([127, 0, 0, 1].into(), "127.0.0.1:53".parse().unwrap(), &root, limit).unwrap()
    }

    fn press(server: SocketAddr, limit: Duration, clients: usize) -> Press {
        Press::new(&client(limit), "api.example.com", &[server], clients)
    }

    /// Nothing that fails is left out of the count.
    #[test]
    fn a_server_that_says_nothing_fails_every_connection() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let press = press(silent.local_addr().unwrap(), Duration::from_millis(50), 3);
        press.begin(0);
        while press.report().attempted < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let seen = press.stop();
        assert!(seen.attempted >= 3 && seen.failed == seen.attempted, "{seen:?}");
        assert_eq!(seen.failures.keys().collect::<Vec<_>>(), ["TimedOut"]);
    }

    #[test]
    fn nobody_passes_a_gate_that_is_shut_or_was_forgotten() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let press = press(closed, Duration::from_secs(5), 1);
        press.begin(1);
        press.end(0);
        let long_ago = Instant::now().checked_sub(LONGEST).unwrap();
        press.turn(0, State::Open(long_ago));
        assert_eq!(press.stop().attempted, 0);
    }
}
