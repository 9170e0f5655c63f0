//! What the owner of a host prepares: `host.conf`, a TLS server, and the means to reload it.

use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::server::Config;

/// Debian's Apache httpd, which the lab uses where it is installed.
const APACHE: &str = "/usr/sbin/apache2";
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// Which server a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The lab's own.
    Lab,
    /// Apache httpd with mod_ssl.
    Apache,
}

/// A prepared host.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Where its server answers, on the guest's own side.
    pub listen: SocketAddr,
    /// Its directory.
    pub home: PathBuf,
    /// The owner's configuration (`ESPALIER_CONF`).
    pub host_conf: PathBuf,
    /// Where certificates are kept.
    pub certificates: PathBuf,
    /// The server to start now, if it does not wait for its first certificate to be started: arguments of the lab's own
    /// binary.
    pub server: Option<Vec<String>>,
}

impl Guest {
    /// Prepares a host for `stack` in `home`.
    pub fn prepare(kind: Kind, home: &Path, identity: &str, stack: &str) -> io::Result<Self> {
        fs::create_dir_all(home)?;
        let home = home.canonicalize()?;
        let certificates = home.join("certificates");
        fs::create_dir_all(&certificates)?;
        // A port the machine has free; the guest's side is nobody's business but the forwarder's.
        let listen = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let host_conf = home.join("host.conf");
        let guest = Self { listen, host_conf, certificates, server: None, home };
        match kind {
            Kind::Lab => guest.lab(identity, stack),
            Kind::Apache => guest.apache(identity, stack),
        }
    }

    fn pair(&self, stack: &str) -> PathBuf {
        self.certificates.join(stack).join("current")
    }

    fn lab(mut self, identity: &str, stack: &str) -> io::Result<Self> {
        let pid_file = self.home.join("server.pid");
        let (listen, pair) = (self.listen, self.pair(stack));
        let config = Config { listen, pair, identity: identity.to_owned(), pid_file: pid_file.clone() };
        let path = self.home.join("server.json");
        fs::write(&path, serde_json::to_string(&config).map_err(io::Error::other)?)?;
        let hooks = self.home.join("hooks");
        fs::create_dir_all(&hooks)?;
        // The server checks its pair when it loads it; a configuration test of its own it has none.
        script(&hooks.join("test"), "test -s \"$ESPALIER_DIRECTORY/fullchain.pem\"\n")?;
        script(&hooks.join("reload"), &format!("kill -HUP \"$(cat '{}')\"\n", pid_file.display()))?;
        self.host_conf(stack, &format!("driver=hook\nhooks={}\n", hooks.display()))?;
        let config = path.display().to_string();
        self.server = Some(vec!["target-server".to_owned(), "--config".to_owned(), config]);
        Ok(self)
    }

    fn apache(self, identity: &str, stack: &str) -> io::Result<Self> {
        if !Path::new(APACHE).exists() {
            let message = "no Apache httpd at /usr/sbin/apache2: install the package apache2, or leave --servers out";
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let documents = self.home.join("documents");
        fs::create_dir_all(&documents)?;
        fs::write(documents.join("index.html"), identity)?;
        fs::write(self.home.join("httpd.conf"), self.apache_configuration(&documents, &self.pair(stack)))?;
        // As `apachectl`: a graceful reload of a running server, a start where none runs.
        let control = self.home.join("control");
        script(&control, &format!("exec {APACHE} -d '{home}' -f httpd.conf \"$@\"\n", home = self.home.display()))?;
        self.host_conf(stack, &format!("driver=httpd\ncontrol={}\n", control.display()))?;
        Ok(self)
    }

    fn apache_configuration(&self, documents: &Path, pair: &Path) -> String {
        let modules: String = ["mpm_event", "authz_core", "dir", "mime", "ssl"]
            .iter()
            .map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"))
            .collect();
        let user = if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let (home, documents, pair) = (self.home.display(), documents.display(), pair.display());
        format!(
            "{modules}{user}ServerName localhost\nServerRoot {home}\nPidFile httpd.pid\nErrorLog error.log\n\
             DefaultRuntimeDir {home}\nMutex file:{home} default\nStartServers 2\nThreadsPerChild 16\n\
             MaxRequestWorkers 64\nThreadLimit 16\nListen {listen}\nTypesConfig /dev/null\nDirectoryIndex index.html\n\
             SSLSessionCache none\nSSLSessionTickets off\nKeepAlive off\n\
             <VirtualHost *:{port}>\nDocumentRoot {documents}\nSSLEngine on\nSSLProtocol TLSv1.2 TLSv1.3\n\
             SSLCertificateFile {pair}/fullchain.pem\nSSLCertificateKeyFile {pair}/key.pem\n</VirtualHost>\n\
             <Directory {documents}>\nRequire all granted\n</Directory>\n",
            listen = self.listen,
            port = self.listen.port(),
        )
    }

    fn host_conf(&self, stack: &str, driver: &str) -> io::Result<()> {
        let user = |id: u32| if id == 0 { "root".to_owned() } else { id.to_string() };
        let owner = user(rustix::process::geteuid().as_raw());
        let group = user(rustix::process::getegid().as_raw());
        let text = format!(
            "stacks={stack}\n{driver}directory={}\ncheck={}\nowner={owner}\ngroup={group}\n",
            self.certificates.display(),
            self.listen
        );
        fs::write(&self.host_conf, text)?;
        fs::set_permissions(&self.host_conf, Permissions::from_mode(0o644))
    }
}

fn script(path: &Path, body: &str) -> io::Result<()> {
    fs::write(path, format!("#!/bin/sh\nset -eu\n{body}"))?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}
