//! What an image's config says of its layers.

use imgsync_oci::Digest;
use imgsync_oci::manifest::Platform;
use serde::Deserialize;

#[derive(Deserialize)]
struct ImageConfigFields {
    rootfs: ConfigRootFs,
}

#[derive(Deserialize)]
struct ConfigRootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// The diffIDs of an image's layers, lowest first (OCI image-spec, "rootfs").
///
/// # Errors
/// The JSON's, in words.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, String> {
    serde_json::from_slice::<ImageConfigFields>(config)
        .map(|fields| fields.rootfs.diff_ids)
        .map_err(|error| format!("the image's config cannot be read: {error}"))
}

/// The platform that an image's config names (OCI image-spec, "architecture", "os", "variant").
pub(crate) fn platform(config: &[u8]) -> Option<Platform> {
    serde_json::from_slice(config).ok()
}
