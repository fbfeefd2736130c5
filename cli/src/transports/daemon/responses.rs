//! The responses of the Docker Engine API that describe an image and the daemon.

use imgsync_oci::Digest;
use imgsync_oci::manifest::Platform;
use serde::Deserialize;

/// The response that describes an image.
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
    /// The manifest or index, with containerd's image store, since API 1.48.
    pub(super) descriptor: Option<InspectDescriptor>,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) variant: Option<String>,
    /// The manifests and attestations of an index, with containerd's image store, if requested.
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

/// The response that describes the daemon.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SystemInfo {
    #[serde(default)]
    pub(super) driver_status: Option<Vec<Vec<String>>>,
    /// The registries of Docker; podman has another type here, or nothing.
    #[serde(default)]
    pub(super) registry_config: serde_json::Value,
}

impl SystemInfo {
    /// Returns whether images are in containerd's image store.
    pub(super) fn has_containerd_store(&self) -> bool {
        let mark = ["driver-type", "io.containerd.snapshotter.v1"];
        self.driver_status
            .iter()
            .flatten()
            .any(|pair| *pair == mark)
    }

    /// Returns the registries without TLS verification, in the form of `insecure-registries` in the
    /// daemon's configuration.
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
