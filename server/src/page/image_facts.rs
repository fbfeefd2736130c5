//! What the page tells of an image: from its manifest, and from its config, which is read leniently.

use std::collections::BTreeMap;

use imgsync_oci::Digest;
use imgsync_oci::manifest::{Descriptor, Platform};
use serde::Deserialize as _;
use serde_json::Value;

use super::text_pairs::TextPairs;

/// How many images of an index are read.
pub(super) const MAX_READ_CHILDREN: usize = 32;
/// How many entries of a list in a config are kept.
pub(super) const MAX_ENTRIES: usize = 200;

/// The config of an image (OCI image-spec, "Image Configuration"). A field of another type counts as
/// missing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ConfigFacts {
    pub(super) platform: Option<String>,
    /// In the form that the builder wrote.
    pub(super) created: Option<String>,
    pub(super) history: Vec<HistoryEntry>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) user: Option<String>,
    pub(super) working_dir: Option<String>,
    pub(super) entrypoint: Option<String>,
    pub(super) cmd: Option<String>,
    pub(super) ports: Option<String>,
}

/// A step that made an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HistoryEntry {
    pub(super) created_by: String,
    /// Whether the step made no layer.
    pub(super) is_empty: bool,
}

/// What a list tells of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageSummary {
    pub(super) platforms: Vec<String>,
    /// The size of its content in bytes, each blob once.
    pub(super) bytes: u64,
}

impl ConfigFacts {
    /// Parses a config; nothing is known of one that is not JSON.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let config: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let run = &config["config"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let filled = |value: &Value| text(value).filter(|text| !text.is_empty());
        let platform = Platform {
            os: text(&config["os"]).unwrap_or_default(),
            architecture: text(&config["architecture"]).unwrap_or_default(),
            variant: text(&config["variant"]),
        };
        let history = config["history"].as_array().into_iter().flatten();
        let history = history.take(MAX_ENTRIES).map(|entry| HistoryEntry {
            created_by: text(&entry["created_by"]).unwrap_or_default(),
            is_empty: entry["empty_layer"].as_bool().unwrap_or_default(),
        });
        let ports = run["ExposedPorts"].as_object().into_iter().flatten();
        let ports: Vec<&str> = ports
            .map(|(port, _)| port.as_str())
            .take(MAX_ENTRIES)
            .collect();
        Self {
            platform: platform_text(&platform),
            created: filled(&config["created"]),
            history: history.collect(),
            labels: TextPairs::deserialize(&run["Labels"]).unwrap_or_default().0,
            user: filled(&run["User"]),
            working_dir: filled(&run["WorkingDir"]),
            entrypoint: command(&run["Entrypoint"]),
            cmd: command(&run["Cmd"]),
            ports: (!ports.is_empty()).then(|| ports.join(", ")),
        }
    }
}

/// Formats a command as Docker does: `["/app","--verbose"]`.
fn command(value: &Value) -> Option<String> {
    match value {
        Value::Array(words) if !words.is_empty() => serde_json::to_string(words).ok(),
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// Formats a platform: `linux/arm64/v8`; `None` if it is unknown, as that of attestations.
pub(super) fn platform_text(platform: &Platform) -> Option<String> {
    let is_known = |text: &str| !text.is_empty() && text != "unknown";
    if !is_known(&platform.os) && !is_known(&platform.architecture) {
        return None;
    }
    let mut text = format!("{}/{}", platform.os, platform.architecture);
    if let Some(variant) = platform.variant.as_deref().filter(|text| !text.is_empty()) {
        text = format!("{text}/{variant}");
    }
    Some(text)
}

/// Returns the known platforms of an index, each once.
pub(super) fn index_platforms(manifests: &[Descriptor]) -> Vec<String> {
    let platforms = manifests.iter().filter_map(|child| child.platform.as_ref());
    let mut texts: Vec<String> = Vec::new();
    for text in platforms.filter_map(platform_text) {
        if !texts.contains(&text) && texts.len() < MAX_READ_CHILDREN {
            texts.push(text);
        }
    }
    texts
}

/// Returns the size of blobs in bytes, each counted once.
pub(super) fn total_bytes<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> u64 {
    let sizes: BTreeMap<&Digest, u64> = blobs
        .into_iter()
        .map(|blob| (&blob.digest, blob.size))
        .collect();
    sizes
        .values()
        .fold(0, |sum, size| sum.saturating_add(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_leniently() {
        let config = br#"{"os": "linux", "architecture": "arm64", "variant": "v8", "created": 5,
            "history": [{"created_by": "ADD root /"}, {"empty_layer": true, "created_by": null}, 7],
            "config": {"Labels": {"b": "2", "a": "1", "c": 3}, "Entrypoint": ["/app", "-v"],
                "Cmd": [], "User": "", "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}}}"#;
        let facts = ConfigFacts::parse(config);
        assert_eq!(facts.platform.as_deref(), Some("linux/arm64/v8"));
        assert_eq!((facts.created, facts.cmd, facts.user), (None, None, None));
        let labels: Vec<_> = facts.labels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(labels, ["a", "b"]);
        assert_eq!(facts.entrypoint.as_deref(), Some(r#"["/app","-v"]"#));
        assert_eq!(facts.ports.as_deref(), Some("80/tcp, 443/tcp"));
        let empty: Vec<bool> = facts.history.iter().map(|entry| entry.is_empty).collect();
        assert_eq!(empty, [false, true, false]);
        for bytes in [&b""[..], b"[]", b"\"x\"", b"{\"config\": []}", b"null"] {
            assert_eq!(ConfigFacts::parse(bytes), ConfigFacts::default());
        }
    }

    #[test]
    fn a_blob_counts_once_and_attestations_have_no_platform() {
        let blob = |text: &[u8], size| Descriptor::new("layer", Digest::of(text), size);
        let blobs = [blob(b"a", 5), blob(b"b", 7), blob(b"a", 5)];
        assert_eq!(total_bytes(&blobs), 12);
        let unknown = Platform {
            os: "unknown".to_owned(),
            architecture: "unknown".to_owned(),
            variant: None,
        };
        assert_eq!(platform_text(&unknown), None);
    }
}
