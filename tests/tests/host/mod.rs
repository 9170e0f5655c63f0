//! A host to install on: a TLS server that only a reload changes, its hooks, and an `aws` that hands out bundles.
//!
//! The script, openssl and the shell are the real ones. The server runs in the test and takes a pair only when its
//! reload hook says so, as a real one does; a pair that does not match stops it for good, as it does Apache.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use espalier_tests::root;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use serde_json::Value;
use tempfile::TempDir;

use crate::bundles::Bundle;

/// What the script said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// The exit status; none when a signal ended it.
    pub(crate) status: Option<i32>,
    /// The object in the last line; null when there is none.
    pub(crate) last: Value,
    /// Everything it printed, both streams.
    pub(crate) output: String,
}

impl Said {
    /// The code in the last line.
    pub(crate) fn code(&self) -> &str {
        self.last["code"].as_str().unwrap_or("nothing")
    }
}

/// One host in a temporary directory.
pub(crate) struct Host {
    directory: TempDir,
    /// Environment for the next runs.
    pub(crate) environment: Vec<(String, String)>,
    /// The shell that runs the script.
    pub(crate) shell: &'static [&'static str],
    driver: &'static str,
    server: Server,
}

impl Host {
    /// Nothing installed yet; the server listens and has no certificate.
    pub(crate) fn new() -> Self {
        Self::with("hook")
    }

    /// The same, driven as this kind of server.
    pub(crate) fn with(driver: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["bin", "hooks", "bundles"] {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let server = Server::start(at("certificates/api-service/current"), at("served"));
        let host = Self { environment: Vec::new(), shell: &["sh"], driver, server, directory };
        host.executable("bin/aws", AWS);
        host.executable("hooks/test", TEST);
        host.executable("hooks/reload", RELOAD);
        host.executable("control", CONTROL);
        // Nobody waits for deadlines here; it is written down who would.
        host.executable("bin/setsid", "#!/bin/sh\necho \"$SSM_Action $SSM_Stack $*\" >>\"$HOST/waiting\"\n");
        host.configure(&host.usual());
        host
    }

    /// A path on the host.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The stack's own directory.
    pub(crate) fn base(&self) -> PathBuf {
        self.at("certificates/api-service")
    }

    /// The usual `host.conf`.
    pub(crate) fn usual(&self) -> String {
        let (directory, hooks, control) = (self.at("certificates"), self.at("hooks"), self.at("control"));
        let driven = match self.driver {
            "hook" => format!("driver=hook\ndirectory={}\nhooks={}", directory.display(), hooks.display()),
            other => format!("driver={other}\ndirectory={}\ncontrol={}", directory.display(), control.display()),
        };
        format!(
            "# by the owner\nstacks=web,api-service\n\n{driven}\nunits=none\ncheck={}\nowner={}\ngroup={}\n",
            self.server.address,
            whoami("-un"),
            whoami("-gn"),
        )
    }

    /// Writes `host.conf`.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.at("host.conf"), text).unwrap();
        fs::set_permissions(self.at("host.conf"), fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Writes an executable.
    pub(crate) fn executable(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts a bundle where `aws` finds it.
    pub(crate) fn publish(&self, generation: u32, bundle: &str) {
        fs::write(self.at(&format!("bundles/{generation}")), bundle).unwrap();
    }

    /// The script as it would be run for this generation.
    pub(crate) fn command(&self, generation: u32, fingerprint: &str) -> Command {
        let mut command = Command::new(self.shell[0]);
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        command
            .args(&self.shell[1..])
            .arg(root().join("documents/installer.sh"))
            .env_clear()
            .env("PATH", path)
            .env("ESPALIER_CONF", self.at("host.conf"))
            .env("HOST", self.directory.path())
            .env("SSM_Action", "Install")
            .env("SSM_Stack", "api-service")
            .env("SSM_Generation", generation.to_string())
            .env("SSM_ParameterName", format!("/espalier-leaf/api-service/shared/{generation}"))
            .env("SSM_Fingerprint", fingerprint)
            .env("SSM_StartSeconds", "0")
            .env("SSM_WindowSeconds", "0")
            .env("SSM_ConfirmSeconds", "0")
            .env("SSM_MarginHours", "0")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(mut command: Command) -> Said {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let said = text(&output.stdout);
        let last = said.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        Said { status: output.status.code(), last, output: said + &text(&output.stderr) }
    }

    /// The same, with its process group written to a file before anything runs that would look for it there.
    pub(crate) fn run_known(command: &Command, group: &Path) -> Said {
        let mut known = Command::new("sh");
        known.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(group).arg(command.get_program());
        known.args(command.get_args()).env_clear().stdin(Stdio::null()).process_group(0);
        known.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::run(known)
    }

    /// Publishes a bundle and installs it.
    pub(crate) fn install(&self, generation: u32, bundle: &Bundle) -> Said {
        self.publish(generation, &bundle.text);
        Self::run(self.command(generation, &bundle.fingerprint))
    }

    /// The generation `current` leads to.
    pub(crate) fn current(&self) -> Option<String> {
        fs::read_to_string(self.base().join("current/generation")).ok().map(|text| text.trim().to_owned())
    }

    /// The confirmed floor.
    pub(crate) fn floor(&self) -> Option<String> {
        fs::read_to_string(self.base().join("floor")).ok().map(|text| text.trim().to_owned())
    }

    /// SHA-256 of what a new connection is shown.
    pub(crate) fn served(&self) -> Option<String> {
        self.server.shown()
    }

    /// Whether a mismatched pair has ended the server.
    pub(crate) fn is_dead(&self) -> bool {
        self.server.dead.load(Ordering::SeqCst)
    }

    /// Every file below the stack's directory, relative to it.
    pub(crate) fn files(&self) -> Vec<String> {
        let base = self.base();
        let mut files: Vec<_> = walkdir::WalkDir::new(&base)
            .into_iter()
            .filter_map(Result::ok)
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| entry.path().strip_prefix(&base).unwrap().display().to_string())
            .collect();
        files.sort();
        files
    }
}

/// The caller's own user (`-un`) or group (`-gn`).
pub(crate) fn whoami(flag: &str) -> String {
    String::from_utf8(Command::new("id").arg(flag).output().unwrap().stdout).unwrap().trim().to_owned()
}

/// What `control` of a host whose server is not the system's does.
const CONTROL: &str = r#"#!/bin/sh
ESPALIER_DIRECTORY="$HOST/certificates/api-service/current"
export ESPALIER_DIRECTORY
case "$*" in
-t | -c) exec "$HOST/hooks/test" ;;
"-k graceful" | "-s reload" | reload) exec "$HOST/hooks/reload" ;;
*) exit 64 ;;
esac
"#;

/// Hands out `bundles/<generation>`; refuses anything but the one call the installer makes.
const AWS: &str = r#"#!/bin/sh
case "$*" in
"ssm get-parameter --with-decryption --name /espalier-leaf/$SSM_Stack/"*" --query Parameter.Value --output text"*) ;;
*) echo "unexpected: $*" >&2; exit 252 ;;
esac
echo "$*" >>"$HOST/asked"
if [ -e "$HOST/throttled" ]; then
    rm "$HOST/throttled"
    echo "An error occurred (ThrottlingException) when calling the GetParameter operation: Rate exceeded" >&2
    exit 254
fi
exec cat "$HOST/bundles/${5##*/}"
"#;

/// Like `apachectl -t`: it does not notice a pair that does not match. It refuses one generation, or what is broken beside any.
const TEST: &str = r#"#!/bin/sh
cat "$HOST/broken" >&2 2>/dev/null && exit 1
[ ! -e "$HOST/refuse-test" ] || [ "$(cat "$HOST/refuse-test")" != "$(cat "$ESPALIER_DIRECTORY/generation")" ] || exit 1
[ -s "$ESPALIER_DIRECTORY/key.pem" ]
"#;

/// Tells the server and waits for nothing.
const RELOAD: &str = "#!/bin/sh\n[ -e \"$HOST/refuse-reload\" ] && exit 1\n\
    [ -e \"$HOST/ignore-reload\" ] || date +%s%N >\"$HOST/served\"\n";

struct Server {
    address: SocketAddr,
    dead: Arc<AtomicBool>,
    shown: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Server {
    fn start(pair: PathBuf, trigger: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (dead, shown) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let server = Self { address, dead: Arc::clone(&dead), shown: Arc::clone(&shown) };
        std::thread::spawn(move || {
            let mut reloaded = Vec::new();
            let mut config = None;
            for tcp in listener.incoming().map_while(Result::ok) {
                let now = fs::read(&trigger).unwrap_or_default();
                if now != reloaded {
                    reloaded = now;
                    match load(&pair) {
                        Some((leaf, loaded)) => {
                            config = Some(loaded);
                            *shown.lock().unwrap() = Some(leaf);
                        }
                        None => {
                            dead.store(true, Ordering::SeqCst);
                            *shown.lock().unwrap() = None;
                            return;
                        }
                    }
                }
                if let Some(config) = &config {
                    answer(tcp, Arc::clone(config));
                }
            }
        });
        server
    }

    fn shown(&self) -> Option<String> {
        // Any connection makes it look whether it was told to reload.
        if let Ok(mut tcp) = TcpStream::connect(self.address) {
            let _ = tcp.write_all(b"hello\n");
            let _ = tcp.read(&mut [0; 64]);
        }
        self.shown.lock().unwrap().as_deref().map(crate::bundles::fingerprint)
    }
}

fn load(pair: &Path) -> Option<(Vec<u8>, Arc<ServerConfig>)> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(pair.join("fullchain.pem")).ok()?.collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_file(pair.join("key.pem")).ok()?;
    let leaf = chain.first()?.to_vec();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .ok()?;
    Some((leaf, Arc::new(config)))
}

fn answer(mut tcp: TcpStream, config: Arc<ServerConfig>) {
    let _ = tcp.set_read_timeout(Some(std::time::Duration::from_secs(2)));
    let Ok(mut tls) = ServerConnection::new(config) else { return };
    while tls.is_handshaking() {
        if tls.complete_io(&mut tcp).is_err() {
            return;
        }
    }
    tls.send_close_notify();
    let _ = tls.complete_io(&mut tcp);
}
