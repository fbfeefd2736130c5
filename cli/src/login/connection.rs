//! The choice of a connection and a login, and its reasons.
//!
//! This module decides nothing; see [`super::RegistryAccess`].

use imgsync_oci::client::{Credentials, TlsOptions, UrlScheme};

/// How to connect to a registry, and why.
#[derive(Debug)]
pub struct ConnectionChoice {
    /// HTTP or HTTPS. At an insecure registry, HTTPS is tried first.
    pub scheme: UrlScheme,
    /// The trusted certificates, and the client certificate.
    pub tls: TlsOptions,
    /// The reason for the scheme, and for skipping the verification of certificates.
    pub reason: ConnectionReason,
}

/// The settings that determine how to connect to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionReason {
    /// The user asks for plain HTTP.
    PlainHttpRequested,
    /// The user asks for HTTPS.
    HttpsRequested,
    /// The user asks for HTTPS without certificate verification.
    VerificationSkipped,
    /// Certificates are configured for the registry.
    CertificatesConfigured,
    /// The registry is on this machine.
    Loopback,
    /// The registry is listed in `insecure-registries` of the local engine.
    InsecureRegistry,
    /// HTTPS is the default.
    Default,
}

impl ConnectionReason {
    /// Returns whether certificates are verified.
    pub fn verifies(self) -> bool {
        !matches!(self, Self::VerificationSkipped | Self::InsecureRegistry)
    }
}

/// The credentials for a registry, and where they were found.
#[derive(Debug, Clone)]
pub struct FoundLogin {
    /// The credentials.
    pub credentials: Credentials,
    /// The option, the variables, the file or the helper that has them.
    pub place: String,
}
