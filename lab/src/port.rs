//! Ports for whoever binds them later.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// An address on loopback that stays free until its server starts: an emulator's in a moment, a guest's when its first
/// certificate comes. Were it a port of the kernel's choice, another server or a client's connection could have it by then.
/// So it is one that the kernel gives to nobody (`net.ipv4.ip_local_port_range` begins at 32768) and this process to nobody
/// else; labs beside each other begin at different ones. A guest's own side is nobody's business but the forwarder's.
///
/// # Errors
/// None is free, or none may be bound.
pub fn unused() -> io::Result<SocketAddr> {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() % u32::from(PORTS / 100) * 100;
    for _ in 0..PORTS {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let place = (begin + u32::from(given)) % u32::from(PORTS);
        let port = u16::try_from(place).map_or(FIRST, |place| FIRST + place);
        match std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(free) => return free.local_addr(),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port below the kernel's own is free on 127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_given_a_port() {
        let all: Vec<SocketAddr> = (0..200).map(|_| unused().unwrap()).collect();
        let different: std::collections::BTreeSet<u16> = all.iter().map(SocketAddr::port).collect();
        assert_eq!(different.len(), 200);
        assert!(different.iter().all(|port| (10_000..30_000).contains(port)));
    }
}
