//! nginx, as Debian and Amazon Linux package it.

use std::fs;
use std::io;

use super::{Guest, installed, kept};

const NGINX: &str = "/usr/sbin/nginx";

impl Guest {
    pub(super) fn nginx(self, identity: &str, stack: &str) -> io::Result<Self> {
        installed(NGINX, "nginx")?;
        fs::write(self.home.join("nginx.conf"), self.nginx_configuration(identity, stack))?;
        let nginx = format!("{NGINX} -e error.log -p {} -c nginx.conf", self.home.display());
        let start = kept(&format!("{nginx} -g \"daemon off;\""));
        let announce = self.announce().display().to_string();
        self.restarted_by("nginx.pid", &start)?;
        let control = self.control(&format!(
            "-t) exec {nginx} -t ;;\n\
             '-s reload')\n\
             if [ -s nginx.pid ] && kill -0 \"$(cat nginx.pid)\" 2>/dev/null; then '{announce}'; exec {nginx} -s reload; fi\n\
             {start}\n;;\n"
        ))?;
        self.host_conf(stack, &format!("driver=nginx\n{control}"))?;
        Ok(self)
    }

    fn nginx_configuration(&self, identity: &str, stack: &str) -> String {
        let user = if rustix::process::geteuid().is_root() { "user www-data;\n" } else { "" };
        // Compiled in are paths that belong to the machine's own nginx.
        let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {name}_temp;\n"))
            .collect();
        let (pair, listen) = (self.pair(stack), self.listen);
        let pair = pair.display();
        format!(
            "{user}pid nginx.pid;\nworker_processes 2;\nevents {{ worker_connections 256; }}\n\
             http {{\naccess_log off;\nkeepalive_timeout 0;\n{scratch}\
             server {{\nlisten {listen} ssl;\n\
             include {pair}/pair.conf;\n\
             ssl_protocols TLSv1.2 TLSv1.3;\nssl_session_tickets off;\nssl_session_cache off;\n\
             location / {{ default_type text/plain; return 200 '{identity}'; }}\n}}\n}}\n"
        )
    }
}
