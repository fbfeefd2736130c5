//! The manifests that imgsync writes.

use imgsync_oci::Descriptor;

use super::{Error, ManifestBytes, Single};

/// The manifest of an image that has none: a Docker one of schema 2, as `docker push` writes; an
/// OCI one where a layer is compressed with zstd, which Docker's cannot say. The same
/// descriptors yield the same bytes.
pub fn build(config: &Descriptor, layers: &[Descriptor]) -> ManifestBytes {
    todo!()
}

impl Single {
    /// The image's manifest, now that every layer's blob is known: `layers` has one descriptor a
    /// layer, in their order; `config_size` is the size of the config in bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] where a raw layer is of a type that has no compressed form.
    pub fn manifest(
        &self,
        config_size: u64,
        layers: &[Descriptor],
    ) -> Result<ManifestBytes, Error> {
        todo!()
    }
}
