//! The Server Name Indication of a TLS ClientHello, without taking part in the handshake.

use rustls::server::Acceptor;

/// What the bytes read so far say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hello {
    /// Not a whole ClientHello yet.
    Incomplete,
    /// A ClientHello with or without a server name.
    Complete(Option<String>),
    /// Not TLS.
    Nonsense,
}

/// Looks for a ClientHello in the first bytes of a connection. The bytes stay the caller's: they are passed on.
pub(super) fn read(bytes: &[u8]) -> Hello {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Hello::Nonsense,
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Hello::Complete(name);
            }
            Ok(None) => {}
            Err(_) => return Hello::Nonsense,
        }
    }
    Hello::Incomplete
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_is_found_once_the_hello_is_whole() {
        let bytes = hello("api.example.com");
        assert_eq!(read(&bytes), Hello::Complete(Some("api.example.com".into())));
        for length in [0, 1, 5, 60, bytes.len() - 1] {
            assert_eq!(read(&bytes[..length]), Hello::Incomplete, "{length}");
        }
    }

    #[test]
    fn a_client_that_dials_an_address_sends_no_name() {
        assert_eq!(read(&hello("127.0.0.1")), Hello::Complete(None));
    }

    #[test]
    fn plain_http_is_nonsense() {
        assert_eq!(read(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"), Hello::Nonsense);
    }
}
