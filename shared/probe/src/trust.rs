//! The roots to trust, and whether a presented chain leads to one of them.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use time::OffsetDateTime;

use crate::ProbeError;

/// The roots of one item and the cryptography to check with.
pub struct Trust {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Reads concatenated PEM certificates.
    ///
    /// # Errors
    /// When there is no certificate in it, or one that cannot be a trust anchor.
    pub fn from_pem(pem: &str) -> Result<Self, ProbeError> {
        let roots = read(pem)?;
        if roots.is_empty() {
            return Err(ProbeError::Trust { problem: "holds no certificate".to_owned() });
        }
        Ok(Self::of(roots))
    }

    /// The public authorities that the platform trusts (on Lambda the runtime's store, which AWS keeps), and these
    /// certificates, if any.
    ///
    /// # Errors
    /// When one of these cannot be a trust anchor, or the platform trusts nobody.
    pub fn public_and(pem: &str) -> Result<Self, ProbeError> {
        let mut roots = read(pem)?;
        let stored = rustls_native_certs::load_native_certs();
        // A store may hold what webpki does not take; the others count.
        let (taken, _) = roots.add_parsable_certificates(stored.certs);
        if taken == 0 {
            let problems: Vec<String> = stored.errors.iter().map(ToString::to_string).collect();
            return Err(ProbeError::Platform(problems.join("; ")));
        }
        Ok(Self::of(roots))
    }

    fn of(roots: RootCertStore) -> Self {
        Self { roots, provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()) }
    }

    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Whether the chain leads to a root: signatures, name constraints, usages, the authorities' validity. `at` lies
    /// inside the leaf's own validity, so that an expired leaf is not taken for an untrusted one.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        at: OffsetDateTime,
    ) -> Result<(), String> {
        let leaf = ParsedCertificate::try_from(leaf).map_err(|error| error.to_string())?;
        let seconds = u64::try_from(at.unix_timestamp()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, at, algorithms)
            .map_err(|error| error.to_string())
    }
}

fn read(pem: &str) -> Result<RootCertStore, ProbeError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| ProbeError::Trust { problem: error.to_string() })?;
        roots.add(certificate).map_err(|error| ProbeError::Trust { problem: error.to_string() })?;
    }
    Ok(roots)
}
