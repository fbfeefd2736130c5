//! Why connections cannot be encrypted.

use std::io;
use std::path::PathBuf;

/// What is wrong with certificate, key or settings; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, after the file's name.
        reason: String,
    },
    /// A certificate that cannot be served.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
    /// A key that cannot be signed with.
    #[error("the key in {} is of a kind that is not supported", .0.display())]
    KeyKind(PathBuf),
    /// Two files that do not belong together.
    #[error("the key in {} does not match the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The configuration leaves nothing to encrypt with.
    #[error("none of the cipher suites in http.tls.ciphersuites is supported")]
    NoSuite,
}

impl TlsError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some("let the server's user read it"),
                io::ErrorKind::IsADirectory => {
                    Some("Docker makes a folder where a file to be mounted is missing")
                }
                _ => None,
            },
            Self::Content { .. } => Some("both files are PEM, as openssl and certbot write it"),
            Self::Certificate { .. } => {
                Some("make one of X.509 version 3, with the server's name in subjectAltName")
            }
            Self::KeyKind(_) => Some(
                "RSA from 2048 to 8192 bits, ECDSA (P-256, P-384, P-521) and Ed25519 keys are known",
            ),
            Self::Mismatch { .. } => Some(
                "the server's own certificate stands first in its file, those above it follow; \
                 compare `openssl x509 -noout -pubkey -in CERTIFICATE` with `openssl pkey -pubout -in KEY`",
            ),
            Self::NoSuite => Some("leave http.tls.ciphersuites out: the defaults are good"),
        }
    }
}
