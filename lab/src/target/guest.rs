//! What the owner of a host prepares: `host.conf`, a TLS server, and the means to reload it.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::server::Config;
use crate::port::unused;

mod apache;
mod haproxy;
mod nginx;

/// Which server a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The lab's own.
    Lab,
    /// Apache httpd with mod_ssl.
    Apache,
    /// nginx.
    Nginx,
    /// HAProxy in master-worker mode.
    Haproxy,
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
        let listen = unused()?;
        let host_conf = home.join("host.conf");
        let guest = Self { listen, host_conf, certificates, server: None, home };
        // A little before a reload, and when it comes: in between the crowd begins, so that its first connections are around it.
        let soon_and_now = "echo \"soon $(date +%s%N)\" >>reloads\nsleep 0.05\necho \"now $(date +%s%N)\" >>reloads\n";
        script(&guest.announce(), &format!("cd '{}'\n{soon_and_now}", guest.home.display()))?;
        match kind {
            Kind::Lab => guest.lab(identity, stack),
            Kind::Apache => guest.apache(identity, stack),
            Kind::Nginx => guest.nginx(identity, stack),
            Kind::Haproxy => guest.haproxy(identity, stack),
        }
    }

    /// The program that tells the lab of a reload.
    fn announce(&self) -> PathBuf {
        self.home.join("announce")
    }

    /// Where the server's reloads are told: lines of `soon` or `now` and the time in nanoseconds since 1970.
    pub fn reloads(&self) -> PathBuf {
        self.home.join("reloads")
    }

    /// What many do by hand after they have overwritten the files: stops the server and starts it.
    pub fn restart(&self) -> PathBuf {
        self.home.join("restart")
    }

    fn restarted_by(&self, pid_file: &str, start: &str) -> io::Result<()> {
        let (home, announce) = (self.home.display(), self.announce().display().to_string());
        // Announced before the server stops: nothing is to add to the time without one.
        let body = format!(
            "cd '{home}'\n'{announce}'\npid=$(head -n 1 {pid_file})\nkill \"$pid\"\n\
             # One that has ended and that nobody has waited for is gone, too.\n\
             while grep -qs '^State:.[^Z]' \"/proc/$pid/status\"; do sleep 0.02; done\n{start}\n"
        );
        script(&self.restart(), &body)
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
        let reload = format!("'{}'\nkill -HUP \"$(cat '{}')\"\n", self.announce().display(), pid_file.display());
        script(&hooks.join("reload"), &reload)?;
        let start = format!("'{}' target-server --config server.json", std::env::current_exe()?.display());
        self.restarted_by("server.pid", &kept(&start))?;
        self.host_conf(stack, &format!("driver=hook\nhooks={}\n", hooks.display()))?;
        let config = path.display().to_string();
        self.server = Some(vec!["target-server".to_owned(), "--config".to_owned(), config]);
        Ok(self)
    }

    /// Writes the owner's `control` program: `cases` are the arms of a `case` over its arguments, run in the home.
    fn control(&self, cases: &str) -> io::Result<String> {
        let control = self.home.join("control");
        script(&control, &format!("cd '{}'\ncase \"$*\" in\n{cases}*) exit 64 ;;\nesac\n", self.home.display()))?;
        Ok(format!("control={}\n", control.display()))
    }

    fn host_conf(&self, stack: &str, driver: &str) -> io::Result<()> {
        let user = |id: u32| if id == 0 { "root".to_owned() } else { id.to_string() };
        let owner = user(rustix::process::geteuid().as_raw());
        let group = user(rustix::process::getegid().as_raw());
        let text = format!(
            "stacks={stack}\n{driver}directory={}\nunits=none\ncheck={}\nowner={owner}\ngroup={group}\n",
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

/// Whether the machine has a server's program, and which package has it otherwise.
fn installed(program: &str, package: &str) -> io::Result<()> {
    if Path::new(program).exists() {
        return Ok(());
    }
    let message = format!("there is no {program}: install the package {package}, or leave it out of --servers");
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// Shell that starts a server in the foreground under a keeper that carries the lab's marker: when the keeper ends, so
/// does the server, even one that (as nginx does) writes over its own environment.
fn kept(command: &str) -> String {
    format!("setsid sh -c 'setpriv --pdeathsig TERM {command} & wait' </dev/null >>server.log 2>&1 &")
}
