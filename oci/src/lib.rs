//! The types of the OCI specifications, and a registry client: the part that the tool and the
//! server share.
//!
//! Names, digests, manifests and requests are parsed into these types once, where they come in. No
//! module outside [`client`] does I/O. Start at [`Endpoint`] for the API, at [`client::Client`] for
//! a registry, and at [`Manifest`] for an image.

pub mod api_error;
pub mod certificate;
pub mod client;
pub mod delta;
mod der;
pub mod digest;
pub mod endpoint;
pub mod ext;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod graph;
mod instruction;
pub mod layer;
pub mod manifest;
pub mod media;
pub mod name;
mod parse_error;
pub mod range;
pub mod referrers;
mod text_file;
pub mod units;

pub use api_error::{ApiError, ErrorCode};
pub use digest::{Algorithm, Digest, Hasher};
pub use endpoint::Endpoint;
pub use instruction::dockerfile_instruction;
pub use manifest::{Descriptor, Manifest};
pub use name::{DOCKER_HUB, LocalName, Reference, Registry, RemoteName, Repository, Tag};
pub use parse_error::{ParseError, quoted};
pub use text_file::decode_text_file;

/// The largest manifest that the client and the server accept, in bytes. OCI distribution-spec,
/// "Pushing Manifests", asks for at least 4 MiB, and the stock registry accepts no more.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
