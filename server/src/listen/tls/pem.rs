//! Certificates and keys in PEM files (RFC 7468), as openssl and certbot write them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;

/// More than any chain of certificates.
const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// The server's certificate, and those that follow it in its file.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| damaged(path, &error))?;
    if chain.is_empty() {
        let reason = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(_) => "holds a key and no certificate; are the two files swapped?",
            Err(_) => "holds no certificate",
        };
        return Err(content(path, reason));
    }
    Ok(chain)
}

/// The first key in a file: PKCS#1, PKCS#8 or SEC1.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    if is_encrypted(&bytes) {
        let decrypt = "is encrypted; write a plain one with `openssl pkey -in KEY -out PLAIN`";
        return Err(content(path, decrypt));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(content(path, "holds no private key")),
        // What is wrong with it is not told: it would be the key's own bytes.
        Err(_) => Err(content(path, "is damaged: it is not a PEM file")),
    }
}

/// PKCS#8 says it in the block's name, the older forms in a header.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn damaged(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "is damaged: it ends within a certificate",
        _ => "is damaged: it is not a PEM file",
    };
    content(path, reason)
}

fn content(path: &Path, reason: &str) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_PEM_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(failed(io::Error::other(format!(
            "more than {MAX_PEM_BYTES} bytes"
        ))));
    }
    Ok(bytes)
}
