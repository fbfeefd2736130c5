//! Records the certificates of a handshake, for messages about them.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;

use crate::certificate::CertificateInfo;

/// The most certificates of a chain that are read.
const MAX_CHAIN_LENGTH: usize = 10;

/// Records the certificates that a server presents, whether they are accepted or not.
#[derive(Debug, Clone, Default)]
pub struct ChainRecorder(Arc<Mutex<Vec<CertificateInfo>>>);

impl ChainRecorder {
    /// Returns the chain of the last handshake, the server's own certificate first. It is empty if
    /// there was no handshake, or if the certificate is malformed.
    pub fn chain(&self) -> Vec<CertificateInfo> {
        let chain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chain.clone()
    }

    pub(super) fn record(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) {
        let all = std::iter::once(own).chain(others).take(MAX_CHAIN_LENGTH);
        let parsed = all.map_while(|certificate| CertificateInfo::parse(certificate));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = parsed.collect();
    }
}
