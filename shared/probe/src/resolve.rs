//! Asking for a name as a client does; optionally at a given resolver.

use std::net::{IpAddr, SocketAddr};

use espalier_domain::id::HostName;
use espalier_domain::verdict::Fault;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

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

    /// The first IPv4 address of a name.
    ///
    /// # Errors
    /// [`Fault::Unresolved`] when there is none, or no resolver to ask.
    pub async fn lookup(&self, name: &HostName) -> Result<IpAddr, Fault> {
        let resolver = self.0.as_ref().ok_or(Fault::Unresolved)?;
        // A trailing dot: the name is complete, no search list is tried.
        let answer = resolver.lookup_ip(format!("{name}.")).await.map_err(|_| Fault::Unresolved)?;
        answer.iter().find(IpAddr::is_ipv4).ok_or(Fault::Unresolved)
    }
}
