//! A prepared target, the real installer on it, and clients that never stop asking.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use espalier_lab::target::{Guest, Kind};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;

pub(crate) const STACK: &str = "api-service";
pub(crate) const NAME: &str = "api-service.example.com";
pub(crate) const IDENTITY: &str = "i-0000000000000000a";

/// Hands out `bundles/<generation>`.
pub(crate) const AWS: &str = "#!/bin/sh\nexec cat \"$BUNDLES/${5##*/}\"\n";

/// The root of one test's certificates.
pub(crate) struct Authority {
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf, its key and its issuer.
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) chain: String,
    pub(crate) fingerprint: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "targets");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pair(&self) -> Pair {
        self.lasting(time::Duration::hours(1))
    }

    /// A pair whose end is that far away.
    pub(crate) fn lasting(&self, left: time::Duration) -> Pair {
        self.made_of(&KeyPair::generate().unwrap(), left)
    }

    /// A pair with this key.
    pub(crate) fn made_of(&self, key: &KeyPair, left: time::Duration) -> Pair {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = time::OffsetDateTime::now_utc() - time::Duration::hours(2);
        params.not_after = time::OffsetDateTime::now_utc() + left;
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        Pair {
            key: key.serialize_pem(),
            chain: leaf.pem() + &self.pem,
            fingerprint: Sha256::digest(leaf.der()).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    pub(crate) fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// A prepared guest whose server runs, or would start with its first certificate.
pub(crate) struct Host {
    pub(crate) kind: Kind,
    pub(crate) guest: Guest,
    pub(crate) authority: Authority,
    pub(crate) directory: tempfile::TempDir,
    _server: Option<Child>,
}

impl Host {
    pub(crate) fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Apache's workers read the documents as somebody else.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let guest = Guest::prepare(kind, &directory.path().join("guest"), IDENTITY, STACK).unwrap();
        for name in ["bin", "bundles"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let aws = directory.path().join("bin/aws");
        fs::write(&aws, AWS).unwrap();
        fs::set_permissions(&aws, Permissions::from_mode(0o755)).unwrap();
        let server = guest.server.as_ref().map(|arguments| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_espalier-lab"));
            command.args(arguments).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap()
        });
        Self { kind, guest, authority: Authority::new(), directory, _server: server }
    }

    /// Puts a bundle where `aws` finds it; the real installer, as the agent would run it.
    pub(crate) fn command(&self, generation: u32, fingerprint: &str, bundle: &str) -> Command {
        let bundles = self.directory.path().join("bundles");
        fs::write(bundles.join(generation.to_string()), bundle).unwrap();
        let path = format!("{}:{}", self.directory.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../documents/installer.sh"))
            .env("PATH", path)
            .env("BUNDLES", bundles)
            .env("ESPALIER_CONF", &self.guest.host_conf)
            .env("CONTROL", self.path("control"))
            .env("SSM_Action", "Install")
            .env("SSM_Stack", STACK)
            .env("SSM_Generation", generation.to_string())
            .env("SSM_ParameterName", format!("/espalier-leaf/{STACK}/shared/{generation}"))
            .env("SSM_Fingerprint", fingerprint)
            .env("SSM_StartSeconds", "0")
            .env("SSM_WindowSeconds", "0")
            .env("SSM_ConfirmSeconds", "0")
            .env("SSM_MarginHours", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end; the last line.
    pub(crate) async fn install(&self, generation: u32, fingerprint: &str, bundle: &str) -> Value {
        let output = self.command(generation, fingerprint, bundle).output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("PRIVATE KEY"), "{said}");
        serde_json::from_str(said.lines().last().unwrap()).unwrap()
    }

    pub(crate) async fn installed(&self, generation: u32) -> Pair {
        let pair = self.authority.pair();
        let said = self.install(generation, &pair.fingerprint, &format!("{}{}", pair.key, pair.chain)).await;
        assert_eq!(said["code"], "installed", "{:?}: {said}", self.kind);
        pair
    }

    /// The fingerprint and the identity that a new connection shows.
    pub(crate) async fn ask(&self) -> Result<(String, String), String> {
        ask(self.guest.listen, &self.authority.client()).await
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.guest.home.join(name)
    }

    pub(crate) async fn run(&self, name: &str, arguments: &[&str]) -> bool {
        let stacks = self.guest.certificates.join(STACK).join("current");
        let mut command = Command::new(self.path(name));
        command.args(arguments).env("ESPALIER_DIRECTORY", stacks).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().await.unwrap().success()
    }

    /// Where a server that the installer started writes its process id.
    pub(crate) fn pid_file(&self) -> Option<PathBuf> {
        match self.kind {
            Kind::Lab => None,
            Kind::Apache => Some(self.path("httpd.pid")),
            Kind::Nginx => Some(self.path("nginx.pid")),
            Kind::Haproxy => Some(self.path("haproxy.pid")),
        }
    }

    /// Tells such a server to end; whether there was one.
    pub(crate) fn end(&self) -> bool {
        let first = |text: String| text.lines().next().map(str::to_owned);
        let Some(pid) = self.pid_file().and_then(|path| fs::read_to_string(path).ok()).and_then(first) else {
            return false;
        };
        std::process::Command::new("kill").arg(pid).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Ends the server and waits until nobody answers any more.
    pub(crate) async fn stop(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.end() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A reload by somebody else.
    pub(crate) async fn reload(&self) -> bool {
        match self.kind {
            Kind::Lab => self.run("hooks/reload", &[]).await,
            Kind::Apache => self.run("control", &["-k", "graceful"]).await,
            Kind::Nginx => self.run("control", &["-s", "reload"]).await,
            Kind::Haproxy => self.run("control", &["reload"]).await,
        }
    }
}

impl Pair {
    /// As `mint` writes it.
    pub(crate) fn bundle(&self) -> String {
        format!("{}{}", self.key, self.chain)
    }
}

impl Drop for Host {
    /// Also when a test fails half-way.
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) async fn ask(address: std::net::SocketAddr, client: &TlsConnector) -> Result<(String, String), String> {
    let attempt = async {
        let tcp = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
        let name = ServerName::try_from(NAME).unwrap();
        let mut tls = client.connect(name, tcp).await.map_err(|error| format!("shaking hands: {error}"))?;
        let leaf = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        tls.write_all(request.as_bytes()).await.map_err(|error| format!("asking: {error}"))?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.map_err(|error| format!("reading: {error}"))?;
        let fingerprint = Sha256::digest(&leaf).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((fingerprint, answer.rsplit("\r\n").next().unwrap_or_default().to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(10), attempt).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// What one connection showed, or why it failed.
pub(crate) type Seen = Result<(String, String), String>;

/// Clients that open one connection after the other until they are told to stop.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Clients {
    pub(crate) fn start(host: &Host) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let tasks = (0..4)
            .map(|_| {
                let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
                let (address, client) = (host.guest.listen, host.authority.client());
                tokio::spawn(async move {
                    while !stop.load(Ordering::SeqCst) {
                        let answer = ask(address, &client).await;
                        seen.lock().unwrap().push(answer);
                    }
                })
            })
            .collect();
        Self { stop, tasks, seen }
    }

    /// Everything they saw.
    pub(crate) async fn end(self) -> Vec<Result<(String, String), String>> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Nothing failed, every generation was seen, and nothing else was.
pub(crate) fn assert_unbroken(seen: &[Result<(String, String), String>], generations: &[&Pair]) {
    let failures: Vec<_> = seen.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failures.is_empty(), "{} of {} failed: {:?}", failures.len(), seen.len(), failures.first());
    let count = |pair: &Pair| seen.iter().flatten().filter(|(shown, _)| *shown == pair.fingerprint).count();
    let counts: Vec<_> = generations.iter().map(|pair| count(pair)).collect();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), seen.len());
    assert!(seen.iter().flatten().all(|(_, identity)| identity == IDENTITY), "{:?}", seen.first());
}
