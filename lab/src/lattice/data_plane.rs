//! The data plane: TLS passthrough on real sockets.
//!
//! For each service with a TLS listener one socket listens on the service's address. A connection is judged (is the
//! client's VPC associated, do the association's security groups admit it), its ClientHello is read for the server
//! name, a target is chosen, and bytes are passed without being looked at. Connections end after ten minutes and after
//! the service's idle timeout (UG tls-listeners; API CreateService idleTimeoutSeconds).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Lattice;
use super::hello::{self, Hello};
use super::listeners::{Door, Gatekeeping};
use crate::fabric::{Fabric, Network, Party, Refusal, admission, pipe};

/// The address that targets see as their client.
pub(super) const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 171, 0, 1);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const HELLO_BYTES_MAX: usize = 32 * 1024;

/// The sockets that are open.
#[derive(Debug, Default)]
pub(super) struct Doors(BTreeMap<Door, AbortHandle>);

impl Doors {
    /// Opens what should be open and closes the rest. What cannot be opened is returned and tried again next time.
    pub(super) async fn sync(&mut self, lattice: &Lattice, wanted: &[Door]) -> Vec<String> {
        self.0.retain(|door, task| {
            let stays = wanted.contains(door) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        let mut problems = Vec::new();
        for door in wanted {
            if self.0.contains_key(door) {
                continue;
            }
            match TcpListener::bind((door.address, door.port)).await {
                Ok(socket) => {
                    let task = tokio::spawn(accept(lattice.clone(), door.clone(), socket));
                    self.0.insert(door.clone(), task.abort_handle());
                }
                Err(error) => problems.push(format!("{}:{} cannot listen: {error}", door.address, door.port)),
            }
        }
        problems
    }
}

async fn accept(lattice: Lattice, door: Door, socket: TcpListener) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let from = lattice.fabric().whence(peer);
                tokio::spawn(Box::pin(serve(lattice.clone(), door.clone(), stream, from)));
            }
            // Out of file descriptors, most likely: let some connections end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(lattice: Lattice, door: Door, mut stream: TcpStream, from: IpAddr) {
    let Some(gate) = lattice.gatekeeping(&door.listener) else { return };
    if let Err(refusal) = admit(lattice.fabric(), from, &door, &gate).await {
        // What a denied caller sees is not documented; a policy is not a firewall, so the connection is closed.
        if matches!(refusal, Refusal::Denied { .. }) {
            return lattice.note("NotAuthorized", &refusal.to_string());
        }
        lattice.note("NotAdmitted", &refusal.to_string());
        return pipe::hold(stream).await;
    }
    let greeting = match timeout(gate.idle, read_hello(&mut stream)).await {
        Ok(Ok(greeting)) => greeting,
        Ok(Err(why)) => return lattice.note("NoHello", &why),
        Err(_) => return lattice.note("IdleTimeout", "no ClientHello came"),
    };
    let Greeting { bytes, name } = greeting;
    if !name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&gate.custom_domain)) {
        // What AWS does with a name that matches no service is not documented; nothing is routed, so it is closed.
        return lattice.note("WrongName", &format!("{name:?} is not {}", gate.custom_domain));
    }
    let Some(route) = lattice.route(&door.listener).await else {
        return lattice.note("NoTarget", "no target takes connections");
    };
    let to = SocketAddr::new(route.address, route.port);
    let target = match timeout(DIAL_TIMEOUT, pipe::dial(SOURCE.into(), to)).await {
        Ok(Ok(mut target)) => target.write_all(&bytes).await.map(|()| target).ok(),
        Ok(Err(_)) | Err(_) => None,
    };
    let Some(mut target) = target else {
        route.tally.fail();
        return lattice.note("TargetUnreachable", &to.to_string());
    };
    let _counted = route.tally.open();
    tokio::select! {
        ended = pipe::splice(&mut stream, &mut target, Some(gate.idle)) => match ended {
            pipe::Ended::Done => {}
            pipe::Ended::Idle => lattice.note("IdleTimeout", &to.to_string()),
        },
        () = tokio::time::sleep(lattice.options().connection_max) => lattice.note("MaxDuration", &to.to_string()),
        () = route.tally.until_closed() => lattice.note("Drained", &to.to_string()),
    }
}

/// May this client use this listener?
async fn admit(fabric: &Fabric, from: IpAddr, door: &Door, gate: &Gatekeeping) -> Result<(), Refusal> {
    let network = fabric.recent_network().await.map_err(|error| Refusal::Unknown(error.to_string()))?;
    admit_in(&network, &fabric.party(&network, from), door, gate)
}

fn admit_in(network: &Network, party: &Party, door: &Door, gate: &Gatekeeping) -> Result<(), Refusal> {
    let vpc = match party {
        Party::Interface { vpc, .. } => vpc,
        // The addresses are link-local: nobody outside a VPC reaches them.
        Party::Lattice(address) | Party::Nowhere(address) => return Err(Refusal::Nowhere(*address)),
    };
    let way = gate.vpcs.iter().find(|way| way.vpc == *vpc);
    let way = way.ok_or_else(|| Refusal::NotAssociated { vpc: vpc.clone() })?;
    admission::out(network, party, door.address.into(), &[], door.port)?;
    // An association without security groups admits everyone in the VPC (UG security-groups).
    if !way.groups.is_empty() {
        admission::into(network, party, &way.groups, door.port)?;
    }
    gate.authorize(way, door.port).map_err(|whose| Refusal::Denied { vpc: vpc.clone(), whose })
}

struct Greeting {
    bytes: Vec<u8>,
    name: Option<String>,
}

async fn read_hello(stream: &mut TcpStream) -> Result<Greeting, String> {
    let mut bytes = Vec::with_capacity(2048);
    loop {
        match stream.read_buf(&mut bytes).await {
            Ok(0) => return Err("the client closed the connection first".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        match hello::read(&bytes) {
            Hello::Complete(name) => return Ok(Greeting { bytes, name }),
            Hello::Nonsense => return Err("not a TLS ClientHello".into()),
            Hello::Incomplete if bytes.len() > HELLO_BYTES_MAX => return Err("the ClientHello has no end".into()),
            Hello::Incomplete => {}
        }
    }
}
