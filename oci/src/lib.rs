//! The words both ends of imgsync speak, and a client of any registry.
//!
//! Outside [`client`] nothing here does I/O: strings are parsed into these types once, at the edge.

pub mod api_error;
pub mod client;
pub mod digest;
pub mod endpoint;
pub mod ext;
pub mod manifest;
pub mod media;
pub mod name;
mod parse_error;
pub mod range;
pub mod referrers;

pub use api_error::{ApiError, ErrorCode};
pub use digest::{Algorithm, Digest, Hasher};
pub use endpoint::Endpoint;
pub use manifest::{Descriptor, Manifest};
pub use name::{LocalName, Reference, Registry, RemoteName, Repository, Tag};
pub use parse_error::ParseError;

/// The largest manifest that either end takes, in bytes (OCI distribution-spec, "Pushing
/// Manifests", asks for at least 4 MiB; the stock registry takes no more).
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
