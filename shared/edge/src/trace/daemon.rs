//! The X-Ray daemon: one datagram for each document (X-Ray developer guide, "Sending segment documents to the X-Ray
//! daemon").

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

const HEADER: &str = "{\"format\":\"json\",\"version\":1}\n";

/// Where documents go.
#[derive(Debug)]
pub(super) struct Daemon(UdpSocket);

impl Daemon {
    /// The daemon at this address; none when there is no socket to be had, for a function without a trace still works.
    pub(super) fn at(address: SocketAddr) -> Option<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.connect(address).ok()?;
        Some(Self(socket))
    }

    /// Sends a document. One that cannot be sent is lost, as it would be if the daemon were not there.
    pub(super) fn send(&self, document: &str) {
        let _ = self.0.send([HEADER, document].concat().as_bytes());
    }
}
