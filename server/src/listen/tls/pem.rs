//! Reads certificates and keys from PEM files (RFC 7468), as openssl and certbot write them.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;
use crate::bounded_file;

/// The largest PEM file that is read; certificate chains are a few KiB.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// Reads the server's certificate and the intermediate certificates after it.
///
/// # Errors
/// When the file cannot be read, is not PEM, or contains no certificate.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read("http.tls.certificate", path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| damaged_error(path, &error))?;
    if chain.is_empty() {
        let reason = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(_) => "contains a key and no certificate; are the two files swapped?",
            Err(_) => "contains no certificate",
        };
        return Err(content_error(path, reason));
    }
    Ok(chain)
}

/// Reads the first private key of a file: PKCS#1, PKCS#8 or SEC1.
///
/// # Errors
/// When the file cannot be read, is not PEM, contains no key, or the key is encrypted.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read("http.tls.key", path)?;
    if is_encrypted(&bytes) {
        let reason = "is encrypted; decrypt the key with `openssl pkey -in KEY -out PLAIN`";
        return Err(content_error(path, reason));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(content_error(path, "contains no private key")),
        // The parser's message may quote bytes of the key, so the error does not include it.
        Err(_) => Err(content_error(path, "is damaged: not a PEM file")),
    }
}

/// Returns whether a key is encrypted: PKCS#8 has its own label for that, PKCS#1 and SEC1 have a
/// header.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn damaged_error(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "is damaged: the file ends within a certificate",
        _ => "is damaged: not a PEM file",
    };
    content_error(path, reason)
}

fn content_error(path: &Path, reason: &str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    bounded_file::read(path, MAX_PEM_BYTES).map_err(|source| TlsError::Read {
        key,
        path: path.to_owned(),
        source,
    })
}
