//! What a daemon answers when asked for an image, and for itself.

use imgsync_oci::Digest;
use imgsync_oci::manifest::Platform;
use serde::Deserialize;

/// Of an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageInspect {
    pub(super) id: Digest,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) repo_digests: Option<Vec<String>>,
    #[serde(rename = "RootFS", default)]
    pub(super) root_fs: InspectRootFs,
    #[serde(default)]
    pub(super) size: Option<u64>,
    /// Of the manifest or index: in containerd's store, since API 1.48.
    pub(super) descriptor: Option<InspectDescriptor>,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) variant: Option<String>,
    /// Of each platform, and what is attested: in containerd's store, when asked for.
    #[serde(default)]
    pub(super) manifests: Option<Vec<ManifestSummary>>,
}

/// One manifest of an image's index.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ManifestSummary {
    pub(super) descriptor: InspectDescriptor,
    #[serde(default)]
    pub(super) available: bool,
    pub(super) image_data: Option<ImageData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageData {
    pub(super) platform: Platform,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectRootFs {
    #[serde(default)]
    pub(super) layers: Option<Vec<Digest>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InspectDescriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
}

/// Of the daemon itself.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SystemInfo {
    #[serde(default)]
    pub(super) driver_status: Option<Vec<Vec<String>>>,
    /// Docker's; podman's answer has something else there, or nothing.
    #[serde(default)]
    pub(super) registry_config: serde_json::Value,
}

impl SystemInfo {
    /// Whether it keeps images in containerd's store.
    pub(super) fn has_containerd_store(&self) -> bool {
        let mark = ["driver-type", "io.containerd.snapshotter.v1"];
        self.driver_status
            .iter()
            .flatten()
            .any(|pair| *pair == mark)
    }

    /// In the words of `insecure-registries` in the daemon's own configuration.
    pub(super) fn insecure_registries(&self) -> Vec<String> {
        let networks = self.registry_config["InsecureRegistryCIDRs"].as_array();
        let networks = networks.into_iter().flatten();
        let networks = networks.filter_map(|network| network.as_str().map(str::to_owned));
        let names = self.registry_config["IndexConfigs"].as_object();
        let names = names.into_iter().flatten();
        let names = names.filter(|(_, index)| index["Secure"] == false);
        networks
            .chain(names.map(|(name, _)| name.clone()))
            .collect()
    }
}
