//! Apache httpd with mod_ssl, as Debian packages it.

use std::fs;
use std::io;
use std::path::Path;

use super::{Guest, installed, script};

const APACHE: &str = "/usr/sbin/apache2";
const MODULES: &str = "/usr/lib/apache2/modules";

impl Guest {
    pub(super) fn apache(self, identity: &str, stack: &str) -> io::Result<Self> {
        installed(APACHE, "apache2")?;
        let documents = self.home.join("documents");
        fs::create_dir_all(&documents)?;
        fs::write(documents.join("index.html"), identity)?;
        fs::write(self.home.join("httpd.conf"), self.apache_configuration(&documents, &self.pair(stack)))?;
        // As `apachectl`: a graceful reload of a running server, a start where none runs.
        let control = self.home.join("control");
        let (announce, home) = (self.announce().display().to_string(), self.home.display());
        let announced = format!("if [ \"$*\" = '-k graceful' ]; then '{announce}'; fi\n");
        script(&control, &format!("{announced}exec {APACHE} -d '{home}' -f httpd.conf \"$@\"\n"))?;
        self.restarted_by("httpd.pid", &format!("exec {APACHE} -d '{home}' -f httpd.conf -k start"))?;
        self.host_conf(stack, &format!("driver=httpd\ncontrol={}\n", control.display()))?;
        Ok(self)
    }

    fn apache_configuration(&self, documents: &Path, pair: &Path) -> String {
        let modules: String = ["mpm_event", "authz_core", "dir", "mime", "ssl"]
            .iter()
            .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
            .collect();
        let user = if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let (home, documents, pair) = (self.home.display(), documents.display(), pair.display());
        format!(
            "{modules}{user}ServerName localhost\nServerRoot {home}\nPidFile httpd.pid\nErrorLog error.log\n\
             DefaultRuntimeDir {home}\nMutex file:{home} default\nStartServers 2\nThreadsPerChild 16\n\
             MaxRequestWorkers 64\nThreadLimit 16\nListen {listen}\nTypesConfig /dev/null\nDirectoryIndex index.html\n\
             SSLSessionCache none\nSSLSessionTickets off\nKeepAlive off\n\
             <VirtualHost *:{port}>\nDocumentRoot {documents}\nSSLEngine on\nSSLProtocol TLSv1.2 TLSv1.3\n\
             Include {pair}/pair.conf\n</VirtualHost>\n\
             <Directory {documents}>\nRequire all granted\n</Directory>\n",
            listen = self.listen,
            port = self.listen.port(),
        )
    }
}
