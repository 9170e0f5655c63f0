//! HAProxy in master-worker mode: a reload hands the listening sockets to the next worker, so that none is ever closed.

use std::fs;
use std::io;

use super::{Guest, installed, kept};

const HAPROXY: &str = "/usr/sbin/haproxy";

impl Guest {
    pub(super) fn haproxy(self, identity: &str, stack: &str) -> io::Result<Self> {
        installed(HAPROXY, "haproxy")?;
        fs::write(self.home.join("haproxy.cfg"), self.haproxy_configuration(identity, stack))?;
        let start = format!(": >started\n{}", kept(&format!("{HAPROXY} -W -p haproxy.pid -f haproxy.cfg")));
        let announce = self.announce().display().to_string();
        self.restarted_by("haproxy.pid", &start)?;
        // A master whose new configuration is bad lives on with its old worker. One that is starting its next worker has
        // removed its file and not yet written it again (systemd need not ask the file, so this is ours to wait for): a
        // second master would share the port, and answer with what it was started with for good.
        let control = self.control(&format!(
            "-c) exec {HAPROXY} -c -q -f haproxy.cfg ;;\n\
             reload)\n\
             pid='' tries=0\n\
             while [ -e started ] && [ -z \"$pid\" ] && [ $tries -lt 50 ]; do\n\
             pid=$(head -n 1 haproxy.pid 2>/dev/null) || true\n\
             [ -n \"$pid\" ] || sleep 0.1\ntries=$((tries + 1))\ndone\n\
             if [ -n \"$pid\" ] && kill -0 \"$pid\" 2>/dev/null; then\n\
             '{announce}'\nexec kill -USR2 \"$pid\"\nfi\n\
             {start}\n;;\n"
        ))?;
        self.host_conf(stack, &format!("driver=haproxy\n{control}"))?;
        Ok(self)
    }

    fn haproxy_configuration(&self, identity: &str, stack: &str) -> String {
        let user = if rustix::process::geteuid().is_root() { "user www-data\ngroup www-data\n" } else { "" };
        let (pair, listen) = (self.pair(stack), self.listen);
        let pair = pair.display();
        format!(
            "global\n{user}nbthread 2\nmaxconn 1000\ntune.ssl.cachesize 0\n\
             ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets\n\
             defaults\nmode http\noption httpclose\n\
             timeout connect 5s\ntimeout client 30s\ntimeout server 30s\n\
             frontend targets\nbind {listen} ssl crt {pair}/haproxy.pem\n\
             http-request return status 200 content-type text/plain string {identity}\n"
        )
    }
}
