//! An authority of our own in a folder, and leaves below it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use espalier_domain::id::HostName;
use espalier_domain::spec::{AllowedDomains, KeyType};
use espalier_pki::authority::Authority;
use espalier_pki::issue;
use espalier_pki::key::{PrivateKey, PublicKey};
use espalier_pki::lint::Policy;
use espalier_pki::pem;
use espalier_pki::profile::{LeafRequest, Purpose, Serial};
use time::{Duration, OffsetDateTime};

/// The name that leaves are made for.
pub(crate) const NAME: &str = "api.example.com";

/// A folder with `root.pem` and `issuing.pem`.
pub(crate) struct Folder {
    directory: tempfile::TempDir,
    /// The authority.
    pub(crate) authority: Authority,
    /// When everything here is made.
    pub(crate) now: OffsetDateTime,
}

/// A leaf and the question that a judge is asked about it.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) der: Vec<u8>,
    pub(crate) name: String,
    pub(crate) at: OffsetDateTime,
}

impl Leaf {
    pub(crate) fn asked_as(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    pub(crate) fn after(&self, time: Duration) -> Self {
        Self { at: self.at + time, ..self.clone() }
    }
}

impl Folder {
    pub(crate) fn with_authority(curve: KeyType) -> Self {
        // OpenSSL, which makes the careless ones, signs by the real time.
        let now = OffsetDateTime::now_utc();
        let serials = [Serial::random().unwrap(), Serial::random().unwrap()];
        let authority = ready(Authority::ceremony(curve, &["example.com"], now, serials)).unwrap();
        let folder = Self { directory: tempfile::tempdir().unwrap(), authority, now };
        folder.keep("root", folder.authority.root_der());
        folder.keep("issuing", folder.authority.issuing_der());
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a certificate to `<name>.pem`.
    pub(crate) fn keep(&self, name: &str, der: &[u8]) -> PathBuf {
        let path = self.path().join(format!("{name}.pem"));
        std::fs::write(&path, pem::encode(pem::CERTIFICATE, der).as_bytes()).unwrap();
        path
    }

    pub(crate) fn leaf(&self, purpose: Purpose, key_type: KeyType) -> Leaf {
        let key = public_key(key_type);
        let request = request(purpose, self.now, Serial::random().unwrap());
        let policy = policy();
        let leaf = issue::leaf(self.authority.signer(), self.authority.issuing_der(), key, &request, &policy);
        Leaf { der: ready(leaf).unwrap().der().to_vec(), name: NAME.to_owned(), at: self.now }
    }
}

/// One key of each kind for the whole run: an RSA key of 4096 bits takes seconds.
fn public_key(key_type: KeyType) -> &'static PublicKey {
    static KEYS: OnceLock<Vec<PublicKey>> = OnceLock::new();
    let make = |kind| PrivateKey::generate(kind).unwrap().public().clone();
    let keys = KEYS.get_or_init(|| KeyType::ALL.map(make).to_vec());
    keys.iter().find(|key| key.key_type() == key_type).unwrap()
}

pub(crate) fn request(purpose: Purpose, now: OffsetDateTime, serial: Serial) -> LeafRequest {
    LeafRequest {
        purpose,
        dns_names: vec![HostName::parse(NAME).unwrap()],
        now,
        validity: Duration::hours(168),
        serial,
    }
}

pub(crate) fn policy() -> Policy {
    Policy {
        domains: AllowedDomains::parse("example.com").unwrap(),
        names: vec![HostName::parse(NAME).unwrap()],
        key_types: KeyType::ALL.to_vec(),
        longest: Duration::hours(168),
    }
}

pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a signer held in memory does not wait"),
    }
}
