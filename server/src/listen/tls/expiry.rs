//! Tells until when certificates are valid.

use std::time::SystemTime;

use imgsync_oci::certificate::CertificateInfo;

use super::{TlsError, pem};
use crate::config::TlsConfig;

/// Returns until when each certificate of the configured chain is valid, the server's own first;
/// `None` for one that cannot be parsed.
///
/// # Errors
/// If the file cannot be read, or is not PEM.
pub(crate) fn certificate_expiries(
    settings: &TlsConfig,
) -> Result<Vec<Option<SystemTime>>, TlsError> {
    let chain = pem::read_chain(&settings.certificate)?;
    let expiry = |certificate: &[u8]| Some(CertificateInfo::parse(certificate)?.not_after);
    Ok(chain
        .iter()
        .map(|certificate| expiry(certificate))
        .collect())
}
