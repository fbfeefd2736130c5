//! Reads the layer that a delta describes.
//!
//! This module does not check the diffID. Start reading at [`DeltaReader`].

mod base;
mod content;
pub(super) mod read;

pub use base::DecodedBase;
pub use read::DeltaReader;
