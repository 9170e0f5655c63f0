//! A target's network interface: what stands between the network and the server of a lab instance.
//!
//! The guest listens on a private loopback port; the interface listens on the instance's own address, asks the fabric
//! whether the caller is admitted, and passes bytes. Who is not admitted hears nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::fabric::{Fabric, pipe};

/// The interface could not listen.
#[derive(Debug, thiserror::Error)]
#[error("the interface of {instance} cannot listen on {address}")]
pub struct EniError {
    /// The instance.
    pub instance: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

#[derive(Debug, Default)]
struct Counters {
    admitted: AtomicU64,
    refused: AtomicU64,
    unreachable: AtomicU64,
}

/// A listening interface; closed when dropped. Connections that are open stay until their ends close them.
#[derive(Debug)]
pub struct Eni {
    address: SocketAddr,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Eni {
    /// Listens on `listen` (the instance's private address and the traffic port) for the guest server at `guest`.
    pub async fn start(
        fabric: Fabric,
        instance: &str,
        listen: SocketAddr,
        guest: SocketAddr,
    ) -> Result<Self, EniError> {
        let failed = |source| EniError { instance: instance.to_owned(), address: listen, source };
        let socket = TcpListener::bind(listen).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let counters = Arc::new(Counters::default());
        let interface = Interface { fabric, instance: instance.to_owned(), port: address.port(), guest };
        let task = tokio::spawn(accept(Arc::new(interface), socket, counters.clone()));
        Ok(Self { address, counters, task })
    }

    /// Where the interface listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections passed on to the guest.
    pub fn admitted(&self) -> u64 {
        self.counters.admitted.load(Ordering::Relaxed)
    }

    /// Connections held in silence.
    pub fn refused(&self) -> u64 {
        self.counters.refused.load(Ordering::Relaxed)
    }

    /// Admitted connections that the guest did not take.
    pub fn unreachable(&self) -> u64 {
        self.counters.unreachable.load(Ordering::Relaxed)
    }
}

impl Drop for Eni {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Interface {
    fabric: Fabric,
    instance: String,
    port: u16,
    guest: SocketAddr,
}

async fn accept(interface: Arc<Interface>, socket: TcpListener, counters: Arc<Counters>) {
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                let from = interface.fabric.whence(peer);
                tokio::spawn(serve(interface.clone(), stream, from, counters.clone()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(interface: Arc<Interface>, mut stream: TcpStream, from: IpAddr, counters: Arc<Counters>) {
    if interface.fabric.admits(from, &interface.instance, interface.port).await.is_err() {
        counters.refused.fetch_add(1, Ordering::Relaxed);
        return pipe::hold(stream).await;
    }
    // The guest is on the same host: an ordinary loopback connection. Dropping the stream tells the caller that
    // nothing listens, as a closed port would.
    let Ok(mut guest) = pipe::dial(Ipv4Addr::LOCALHOST.into(), interface.guest).await else {
        counters.unreachable.fetch_add(1, Ordering::Relaxed);
        return;
    };
    counters.admitted.fetch_add(1, Ordering::Relaxed);
    pipe::splice(&mut stream, &mut guest, None).await;
}
