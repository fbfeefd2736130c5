//! The responses of the Docker Engine API that describe an image and the daemon.

use imgsync_oci::Digest;
use imgsync_oci::manifest::Platform;
use serde::Deserialize;

/// The response that describes an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageInspect {
    pub(super) id: Digest,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) repo_digests: Option<Vec<String>>,
    #[serde(rename = "RootFS", default)]
    root_fs: InspectRootFs,
    pub(super) size: Option<u64>,
    /// The manifest or index, with containerd's image store, since API 1.48.
    pub(super) descriptor: Option<InspectDescriptor>,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
    /// The manifests and attestations of an index, with containerd's image store, if requested.
    pub(super) manifests: Option<Vec<ManifestSummary>>,
}

impl ImageInspect {
    /// Returns the diffIDs, lowest layer first.
    pub(super) fn diff_ids(&self) -> &[Digest] {
        self.root_fs.layers.as_deref().unwrap_or_default()
    }
}

/// One image in the list of all images.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageSummary {
    pub(super) id: Digest,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) repo_digests: Option<Vec<String>>,
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
struct InspectRootFs {
    layers: Option<Vec<Digest>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InspectDescriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
}

/// The response that describes the daemon.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SystemInfo {
    pub(super) driver_status: Option<Vec<Vec<String>>>,
    /// The registries of Docker; podman has another type here, or nothing.
    #[serde(default)]
    pub(super) registry_config: serde_json::Value,
}

impl SystemInfo {
    /// Returns whether images are in containerd's image store.
    pub(super) fn has_containerd_store(&self) -> bool {
        let driver = ["driver-type", "io.containerd.snapshotter.v1"];
        let mut pairs = self.driver_status.iter().flatten();
        pairs.any(|pair| *pair == driver)
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
        let names = names.map(|(name, _)| name.clone());
        networks.chain(names).collect()
    }
}

/// The response with the version of the daemon.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VersionResponse {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) arch: String,
    components: Option<Vec<serde_json::Value>>,
}

impl VersionResponse {
    /// Returns whether the daemon is podman.
    pub(super) fn is_podman(&self) -> bool {
        let components = self.components.iter().flatten();
        let mut names = components.filter_map(|component| component["Name"].as_str());
        names.any(|name| name.starts_with("Podman"))
    }
}

/// The response to a request that failed.
#[derive(Deserialize)]
pub(super) struct DaemonErrorResponse {
    pub(super) message: String,
}

/// The kind of a daemon, as far as loading differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DaemonKind {
    /// Docker with its classic store, which accepts an archive without the layers that it has.
    Classic,
    /// Docker with containerd's image store.
    Containerd,
    /// podman.
    Podman,
}

/// The kind and platform of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DaemonInfo {
    /// The kind.
    pub(super) kind: DaemonKind,
    /// Whether the daemon loads layers that are compressed with zstd.
    pub(super) reads_zstd: bool,
    /// The platform, such as `linux/amd64`.
    pub(super) platform: String,
}

/// The result of loading an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LoadOutcome {
    /// The image is loaded.
    Loaded,
    /// The archive was rejected, with the daemon's message.
    Rejected(String),
}

/// One line of the response to an archive.
#[derive(Deserialize)]
struct LoadMessage {
    error: Option<String>,
    stream: Option<String>,
}

/// The start of the line with which Docker 28 reports that it loaded an image whose layers it
/// cannot unpack. It has no error otherwise.
const UNPACK_ERROR: &str = "Error unpacking image";

/// Parses the response to an archive: a sequence of JSON objects. The status is 200 even if one of
/// them reports an error.
pub(super) fn parse_load_response(body: &[u8]) -> LoadOutcome {
    for message in serde_json::Deserializer::from_slice(body).into_iter::<LoadMessage>() {
        match message {
            Ok(LoadMessage {
                error: Some(error), ..
            }) => return LoadOutcome::Rejected(error),
            Ok(LoadMessage {
                stream: Some(line), ..
            }) if line.starts_with(UNPACK_ERROR) => {
                return LoadOutcome::Rejected(line.trim_end().to_owned());
            }
            Ok(_) => {}
            Err(_) => return LoadOutcome::Rejected(excerpt(body)),
        }
    }
    LoadOutcome::Loaded
}

/// Returns the start of a response that is not the expected JSON, for a message.
pub(super) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_the_middle_of_a_good_answer_is_one() {
        let refused = |text: &str| LoadOutcome::Rejected(text.to_owned());
        for (body, expected) in [
            (
                "{\"stream\":\"Loaded image: a:b\\n\"}\r\n",
                LoadOutcome::Loaded,
            ),
            ("", LoadOutcome::Loaded),
            (
                "{\"status\":\"Loading layer\",\"progressDetail\":{}}\r\n\
                 {\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n",
                refused("no space"),
            ),
            (
                "{\"stream\":\"Loaded image: a:b\\n\"}\n\
                 {\"stream\":\"Error unpacking image a:b: no space\\n\"}\n",
                refused("Error unpacking image a:b: no space"),
            ),
            ("<html>", refused("<html>")),
        ] {
            assert_eq!(parse_load_response(body.as_bytes()), expected, "{body}");
        }
    }
}
