//! The reasons for which TLS cannot be set up.

use std::io;
use std::path::PathBuf;

/// The certificate, the key or the TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    Read {
        /// The key of the configuration that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file has the wrong content.
    #[error("{} {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem. The message has the path before it.
        reason: String,
    },
    /// The TLS library rejects the certificate.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The reason of the TLS library.
        reason: String,
    },
    /// The type or the size of the key is not supported.
    #[error("unsupported type or size of the key in {}", .0.display())]
    KeyKind(PathBuf),
    /// The key is not the one of the certificate.
    #[error("the key in {} does not match the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// No configured cipher suite is supported.
    #[error("none of the cipher suites in http.tls.ciphersuites is supported")]
    NoSuite,
}

impl TlsError {
    /// Returns what the operator can do about it, in the imperative.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("let the user that runs the server read the file")
                }
                io::ErrorKind::IsADirectory => {
                    Some("mount an existing file: Docker creates a folder when the file is missing")
                }
                _ => None,
            },
            Self::Content { .. } => Some("use PEM files, as openssl and certbot write them"),
            Self::Certificate { .. } => Some(
                "create an X.509 version 3 certificate with the server's name in subjectAltName",
            ),
            Self::KeyKind(_) => Some(
                "use an RSA key of 2048 to 8192 bits, an ECDSA key (P-256, P-384 or P-521), or Ed25519",
            ),
            Self::Mismatch { .. } => Some(
                "put the server's own certificate first in its file, intermediate certificates after \
                 it; compare `openssl x509 -noout -pubkey -in CERTIFICATE` with `openssl pkey -pubout -in KEY`",
            ),
            Self::NoSuite => Some("remove http.tls.ciphersuites to use the defaults"),
        }
    }
}
