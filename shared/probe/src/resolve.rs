//! Asking for a name as a client does; optionally at a given resolver.

use std::net::{IpAddr, SocketAddr};

use espalier_domain::id::HostName;
use espalier_domain::verdict::Fault;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Addresses of one name that are dialled, at most: Route 53 answers with up to eight of them at a time (API reference,
/// `ResourceRecordSet`, `MultiValueAnswer`), for a load balancer's name, too.
const ADDRESSES: usize = 8;

/// A resolver without memory between probes.
pub struct Resolver(Option<TokioResolver>);

impl Resolver {
    /// The given resolver, or the system's.
    pub fn new(server: Option<SocketAddr>) -> Self {
        let builder = match server {
            Some(server) => {
                let mut udp = ConnectionConfig::udp();
                udp.port = server.port();
                let name_server = NameServerConfig::new(server.ip(), true, vec![udp]);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
                Some(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
            }
            None => TokioResolver::builder_tokio().ok(),
        };
        Self(builder.and_then(|mut builder| {
            let options = builder.options_mut();
            options.cache_size = 0;
            options.attempts = 2;
            options.timeout = std::time::Duration::from_secs(2);
            builder.build().ok()
        }))
    }

    /// The IPv4 addresses of a name, or those of IPv6 where it has no others; at most as many as are dialled.
    ///
    /// # Errors
    /// [`Fault::Unresolved`] when it cannot be resolved, or there is no resolver to ask.
    pub async fn addresses(&self, name: &HostName) -> Result<Vec<IpAddr>, Fault> {
        let resolver = self.0.as_ref().ok_or(Fault::Unresolved)?;
        // A trailing dot: the name is complete, no search list is tried.
        let answer = resolver.lookup_ip(format!("{name}.")).await.map_err(|_| Fault::Unresolved)?;
        let (mut addresses, others): (Vec<IpAddr>, Vec<IpAddr>) = answer.iter().partition(IpAddr::is_ipv4);
        if addresses.is_empty() {
            addresses = others;
        }
        addresses.truncate(ADDRESSES);
        Ok(addresses)
    }
}
