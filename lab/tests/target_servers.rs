//! The lab's targets as their owner prepared them, with the real installer on them: new connections all the while,
//! and none that fails.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
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

const STACK: &str = "api-service";
const NAME: &str = "api-service.example.com";
const IDENTITY: &str = "i-0000000000000000a";

/// Hands out `bundles/<generation>`.
const AWS: &str = "#!/bin/sh\nexec cat \"$BUNDLES/${5##*/}\"\n";

/// The root of one test's certificates.
struct Authority {
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf, its key and its issuer.
struct Pair {
    key: String,
    chain: String,
    fingerprint: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "targets");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn pair(&self) -> Pair {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            key: key.serialize_pem(),
            chain: leaf.pem() + &self.pem,
            fingerprint: Sha256::digest(leaf.der()).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// A prepared guest whose server runs, or would start with its first certificate.
struct Host {
    kind: Kind,
    guest: Guest,
    authority: Authority,
    directory: tempfile::TempDir,
    _server: Option<Child>,
}

impl Host {
    fn new(kind: Kind) -> Self {
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

    /// The real installer, as the agent would run it.
    async fn install(&self, generation: u32, fingerprint: &str, bundle: &str) -> Value {
        let bundles = self.directory.path().join("bundles");
        fs::write(bundles.join(generation.to_string()), bundle).unwrap();
        let path = format!("{}:{}", self.directory.path().join("bin").display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../documents/installer.sh"))
            .env("PATH", path)
            .env("BUNDLES", bundles)
            .env("ESPALIER_CONF", &self.guest.host_conf)
            .env("SSM_Action", "Install")
            .env("SSM_Stack", STACK)
            .env("SSM_Generation", generation.to_string())
            .env("SSM_ParameterName", format!("/espalier-leaf/{STACK}/shared/{generation}"))
            .env("SSM_Fingerprint", fingerprint)
            .env("SSM_WindowSeconds", "0")
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("PRIVATE KEY"), "{said}");
        serde_json::from_str(said.lines().last().unwrap()).unwrap()
    }

    async fn installed(&self, generation: u32) -> Pair {
        let pair = self.authority.pair();
        let said = self.install(generation, &pair.fingerprint, &format!("{}{}", pair.key, pair.chain)).await;
        assert_eq!(said["code"], "installed", "{:?}: {said}", self.kind);
        pair
    }

    /// The fingerprint and the identity that a new connection shows.
    async fn ask(&self) -> Result<(String, String), String> {
        ask(self.guest.listen, &self.authority.client()).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.guest.home.join(name)
    }

    async fn run(&self, name: &str, arguments: &[&str]) -> bool {
        let stacks = self.guest.certificates.join(STACK).join("current");
        let mut command = Command::new(self.path(name));
        command.args(arguments).env("ESPALIER_DIRECTORY", stacks).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().await.unwrap().success()
    }

    /// Where a server that the installer started writes its process id.
    fn pid_file(&self) -> Option<PathBuf> {
        match self.kind {
            Kind::Lab => None,
            Kind::Apache => Some(self.path("httpd.pid")),
            Kind::Nginx => Some(self.path("nginx.pid")),
            Kind::Haproxy => Some(self.path("haproxy.pid")),
        }
    }

    /// Tells such a server to end; whether there was one.
    fn end(&self) -> bool {
        let first = |text: String| text.lines().next().map(str::to_owned);
        let Some(pid) = self.pid_file().and_then(|path| fs::read_to_string(path).ok()).and_then(first) else {
            return false;
        };
        std::process::Command::new("kill").arg(pid).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Ends the server and waits until nobody answers any more.
    async fn stop(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.end() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A reload by somebody else.
    async fn reload(&self) -> bool {
        match self.kind {
            Kind::Lab => self.run("hooks/reload", &[]).await,
            Kind::Apache => self.run("control", &["-k", "graceful"]).await,
            Kind::Nginx => self.run("control", &["-s", "reload"]).await,
            Kind::Haproxy => self.run("control", &["reload"]).await,
        }
    }
}

impl Drop for Host {
    /// Also when a test fails half-way.
    fn drop(&mut self) {
        self.end();
    }
}

async fn ask(address: std::net::SocketAddr, client: &TlsConnector) -> Result<(String, String), String> {
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
type Seen = Result<(String, String), String>;

/// Clients that open one connection after the other until they are told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Clients {
    fn start(host: &Host) -> Self {
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
    async fn end(self) -> Vec<Result<(String, String), String>> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

/// Nothing failed, every generation was seen, and nothing else was.
fn assert_unbroken(seen: &[Result<(String, String), String>], generations: &[&Pair]) {
    let failures: Vec<_> = seen.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failures.is_empty(), "{} of {} failed: {:?}", failures.len(), seen.len(), failures.first());
    let count = |pair: &Pair| seen.iter().flatten().filter(|(shown, _)| *shown == pair.fingerprint).count();
    let counts: Vec<_> = generations.iter().map(|pair| count(pair)).collect();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), seen.len());
    assert!(seen.iter().flatten().all(|(_, identity)| identity == IDENTITY), "{:?}", seen.first());
}

async fn changes_over_without_a_failed_connection(kind: Kind) {
    let host = Host::new(kind);
    assert!(host.ask().await.unwrap_err().starts_with("connecting"), "nothing is served without a certificate");
    let first = host.installed(1).await;
    assert_eq!(host.ask().await.unwrap(), (first.fingerprint.clone(), IDENTITY.to_owned()));

    let clients = Clients::start(&host);
    let (second, third) = (host.installed(2).await, host.installed(3).await);
    // Apache would end at the next reload of a pair that does not match.
    let other = host.authority.pair();
    let said = host.install(4, &other.fingerprint, &format!("{}{}", first.key, other.chain)).await;
    assert_eq!(said["code"], "invalidBundle", "{said}");
    let seen = clients.end().await;
    assert_unbroken(&seen, &[&first, &second, &third]);
    assert_eq!(host.ask().await.unwrap().0, third.fingerprint);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labs_own_server_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Apache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_changes_over_without_a_failed_connection() {
    changes_over_without_a_failed_connection(Kind::Haproxy).await;
}

/// A server of its own must not fall for what the installer would not have let through.
#[tokio::test(flavor = "multi_thread")]
async fn the_labs_own_server_keeps_its_pair_when_told_to_load_a_bad_one() {
    let host = Host::new(Kind::Lab);
    let first = host.installed(1).await;
    let clients = Clients::start(&host);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let base = host.guest.certificates.join(STACK);
    let mismatched = base.join("mismatched");
    fs::create_dir(&mismatched).unwrap();
    fs::write(mismatched.join("fullchain.pem"), host.authority.pair().chain).unwrap();
    fs::write(mismatched.join("key.pem"), &first.key).unwrap();
    for bad in ["mismatched", "nowhere"] {
        symlink(bad, base.join("next")).unwrap();
        fs::rename(base.join("next"), base.join("current")).unwrap();
        assert!(host.run("hooks/reload", &[]).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_unbroken(&clients.end().await, &[&first]);
    symlink("generations/1", base.join("next")).unwrap();
    fs::rename(base.join("next"), base.join("current")).unwrap();
    let second = host.installed(2).await;
    assert_eq!(host.ask().await.unwrap().0, second.fingerprint, "and takes the next good one");
}

/// A configuration that is broken for another reason: nothing is reloaded, and what runs goes on.
async fn a_broken_configuration_keeps_serving(kind: Kind, configuration: &str, nonsense: &str) {
    let host = Host::new(kind);
    let first = host.installed(1).await;
    let clients = Clients::start(&host);
    let good = fs::read_to_string(host.path(configuration)).unwrap();
    fs::write(host.path(configuration), format!("{good}{nonsense}\n")).unwrap();
    let pair = host.authority.pair();
    let bundle = format!("{}{}", pair.key, pair.chain);
    let said = host.install(2, &pair.fingerprint, &bundle).await;
    assert_eq!(said["code"], "reverted", "{said}");
    assert!(said["detail"].as_str().unwrap().starts_with("configTestFailed"), "{said}");
    assert_unbroken(&clients.end().await, &[&first]);
    fs::write(host.path(configuration), good).unwrap();
    let second = host.installed(3).await;
    assert_eq!(host.ask().await.unwrap().0, second.fingerprint);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_with_a_broken_configuration_keeps_serving() {
    a_broken_configuration_keeps_serving(Kind::Apache, "httpd.conf", "NoSuchDirective on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_with_a_broken_configuration_keeps_serving() {
    a_broken_configuration_keeps_serving(Kind::Nginx, "nginx.conf", "no_such_directive on;").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_with_a_broken_configuration_keeps_serving() {
    a_broken_configuration_keeps_serving(Kind::Haproxy, "haproxy.cfg", "nosuchkeyword on").await;
}

/// Somebody stopped it in between: the next installation starts it with the new pair.
async fn one_that_was_stopped_is_started(kind: Kind) {
    let host = Host::new(kind);
    host.installed(1).await;
    host.stop().await;
    assert!(host.ask().await.is_err());
    let second = host.installed(2).await;
    assert_eq!(host.ask().await.unwrap().0, second.fingerprint);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_that_was_stopped_is_started_with_the_next_generation() {
    one_that_was_stopped_is_started(Kind::Apache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_that_was_stopped_is_started_with_the_next_generation() {
    one_that_was_stopped_is_started(Kind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_that_was_stopped_is_started_with_the_next_generation() {
    one_that_was_stopped_is_started(Kind::Haproxy).await;
}
