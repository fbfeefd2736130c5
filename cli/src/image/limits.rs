//! The bounds of an image that is read. Each is far above what real images need; without them a
//! hostile archive or registry could fill the memory.

use super::Error;

/// The largest manifest, config or list of images that is read, in bytes. A larger entry of an
/// archive can only be a layer.
pub(crate) const MAX_METADATA_BYTES: u64 = 4 * 1024 * 1024;
/// The most layers of one image. Docker itself accepts 127.
const MAX_LAYERS: usize = 1000;
/// The greatest depth of an index within an index below the root, which is at depth 0.
pub(crate) const MAX_INDEX_DEPTH: usize = 4;

/// The most manifests below one index, the index included.
pub(crate) const MAX_MANIFESTS: usize = 1000;
/// The most bytes of all manifests of one image together.
pub(crate) const MAX_TOTAL_MANIFEST_BYTES: u64 = 32 * 1024 * 1024;

/// Checks the number of layers of an image.
///
/// # Errors
/// Returns [`Error::TooLarge`].
pub(crate) fn check_layer_count(from: &str, count: usize) -> Result<(), Error> {
    if count <= MAX_LAYERS {
        return Ok(());
    }
    let what = format!("an image of {count} layers");
    Err(Error::too_large(from, what, format!("{MAX_LAYERS} layers")))
}
