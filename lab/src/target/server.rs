//! A small TLS server with graceful reload, driven through the installer's hook directory like any foreign server.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

/// How the server is told what to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Where it answers.
    pub listen: SocketAddr,
    /// Where `fullchain.pem` and `key.pem` are.
    pub pair: PathBuf,
    /// What it answers with: the instance's id.
    pub identity: String,
    /// Where it writes its process id, for the reload hook.
    pub pid_file: PathBuf,
}

/// Why the server ended, or did not take a pair.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// A file could not be read or written, or the port not bound.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The configuration is not what it should be.
    #[error("the configuration of the target server")]
    Config(#[source] serde_json::Error),
    /// The pair cannot be served.
    #[error("the pair in {directory} cannot be served: {problem}")]
    Pair {
        /// Where it is.
        directory: String,
        /// What is wrong with it.
        problem: String,
    },
}

type Current = Arc<RwLock<Arc<ServerConfig>>>;

/// Serves as the configuration file says, until killed.
pub async fn serve_file(path: &Path) -> Result<(), TargetError> {
    let text = std::fs::read_to_string(path).map_err(io_error("reading the configuration"))?;
    let config: Config = serde_json::from_str(&text).map_err(TargetError::Config)?;
    let mut hangups = signal(SignalKind::hangup()).map_err(io_error("listening for SIGHUP"))?;
    let pid = std::process::id().to_string();
    std::fs::write(&config.pid_file, pid).map_err(io_error("writing the process id"))?;
    // Without a certificate there is nothing to serve: the port stays closed, as a server's that was never started.
    let current: Current = Arc::new(RwLock::new(first_pair(&config, &mut hangups).await));
    let listener = TcpListener::bind(config.listen).await.map_err(io_error("binding the port"))?;
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((tcp, _)) = accepted {
                tokio::spawn(answer(tcp, serving(&current), config.identity.clone()));
            },
            _ = hangups.recv() => match load(&config.pair) {
                Ok(pair) => if let Ok(mut serving) = current.write() {
                    *serving = pair;
                },
                // The old pair stays: a bad reload must not take the service away.
                Err(error) => complain(&error),
            },
        }
    }
}

/// Waits for a reload after which there is a pair.
async fn first_pair(config: &Config, hangups: &mut tokio::signal::unix::Signal) -> Arc<ServerConfig> {
    loop {
        if let Ok(pair) = load(&config.pair) {
            return pair;
        }
        tokio::select! {
            _ = hangups.recv() => {}
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

fn serving(current: &Current) -> Option<Arc<ServerConfig>> {
    current.read().map(|pair| Arc::clone(&pair)).ok()
}

fn load(directory: &Path) -> Result<Arc<ServerConfig>, TargetError> {
    let problem = |problem: String| TargetError::Pair { directory: directory.display().to_string(), problem };
    let chain = CertificateDer::pem_file_iter(directory.join("fullchain.pem"))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).map_err(|error| problem(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(error.to_string()))?
        .with_no_client_auth()
        // Refuses a key that does not match the leaf.
        .with_single_cert(chain, key)
        .map_err(|error| problem(error.to_string()))?;
    // A resumed session would show no certificate to a client that wants to see one.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

async fn answer(tcp: TcpStream, config: Option<Arc<ServerConfig>>, identity: String) {
    let Some(config) = config else { return };
    let Ok(mut tls) = TlsAcceptor::from(config).accept(tcp).await else { return };
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match tls.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
        if request.len() > 16 * 1024 {
            return;
        }
    }
    let length = identity.len();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{identity}");
    // A client that has gone needs no answer.
    let _ = tls.write_all(response.as_bytes()).await;
    let _ = tls.shutdown().await;
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> TargetError + use<> {
    let what = what.to_owned();
    move |source| TargetError::Io { what, source }
}

#[allow(clippy::print_stderr, reason = "the server's log")]
fn complain(error: &TargetError) {
    eprintln!("{error}");
}
