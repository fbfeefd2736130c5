//! Reads the parts of an image's config that imgsync needs.

use imgsync_oci::Digest;
use imgsync_oci::manifest::Platform;
use serde::Deserialize;

// Programs in Go write `null` for an empty list.
#[derive(Deserialize)]
struct ImageConfigFields {
    rootfs: ConfigRootFs,
}

#[derive(Deserialize)]
struct ConfigRootFs {
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize)]
struct ConfigHistory {
    history: Option<Vec<HistoryEntry>>,
}

#[derive(Deserialize)]
struct HistoryEntry {
    #[serde(default)]
    empty_layer: bool,
}

/// Returns for each step of the build, the first one first, whether it made a layer (OCI image-spec,
/// "history"). Returns nothing if the config does not say so.
pub(crate) fn steps_with_layer(config: &[u8]) -> Vec<bool> {
    let parsed: Result<ConfigHistory, _> = serde_json::from_slice(config);
    let history = parsed.ok().and_then(|config| config.history);
    let history = history.unwrap_or_default();
    history.iter().map(|entry| !entry.empty_layer).collect()
}

/// Returns the diffIDs of the layers, lowest first (OCI image-spec, "rootfs").
///
/// # Errors
/// Returns a message if the JSON is invalid.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>, String> {
    serde_json::from_slice::<ImageConfigFields>(config)
        .map(|fields| fields.rootfs.diff_ids.unwrap_or_default())
        .map_err(|error| format!("the image's config cannot be read: {error}"))
}

/// Returns the platform of the config (OCI image-spec, "architecture", "os", "variant").
pub(crate) fn platform(config: &[u8]) -> Option<Platform> {
    serde_json::from_slice(config).ok()
}
