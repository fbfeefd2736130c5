//! The layer record: the file that stores whether a blob is a layer, and its diffID.
//!
//! Start reading at [`LayerRecord`].

use imgsync_oci::media::Compression;
use imgsync_oci::{Digest, Repository};
use serde::{Deserialize, Serialize};

/// Format of the file, and version of the rules by which a blob counts as a layer. A record in
/// another format counts as absent.
const LAYER_RECORD_FORMAT: &str = "imgsync-layer-1";
/// Maximum number of repositories recorded for a blob.
const MAX_RECORDED_REPOSITORIES: usize = 100;
/// Size limit when reading a record. Real records are shorter, because names have at most 255
/// characters.
pub(super) const MAX_RECORD_BYTES: usize = 64 * 1024;

/// The facts about one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerRecord {
    /// The layer; `None` if the blob is not a layer, or its diffID cannot be computed.
    pub(super) layer: Option<ComputedLayer>,
    /// Repositories that link or linked the blob, the latest last; not necessarily all.
    pub(super) repositories: Vec<Repository>,
}

/// A blob that is a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ComputedLayer {
    pub(super) diff_id: Digest,
    pub(super) compression: Compression,
    /// The size of the blob in bytes.
    pub(super) size: u64,
    /// The size of the tar in bytes; `None` in a record of an earlier version.
    pub(super) raw_size: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredLayerRecord {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<StoredLayer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    repositories: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredLayer {
    #[serde(rename = "diffID")]
    diff_id: Digest,
    compression: String,
    size: u64,
    #[serde(rename = "rawSize", default, skip_serializing_if = "Option::is_none")]
    raw_size: Option<u64>,
}

impl LayerRecord {
    /// Adds a repository. Returns whether the record has changed. If the list is full, first
    /// removes the repositories for which `is_live` is false.
    pub(super) fn add_repository(
        &mut self,
        repository: &Repository,
        is_live: impl Fn(&Repository) -> bool,
    ) -> bool {
        if self.repositories.contains(repository) {
            return false;
        }
        if self.repositories.len() >= MAX_RECORDED_REPOSITORIES {
            self.repositories.retain(is_live);
        }
        if self.repositories.len() >= MAX_RECORDED_REPOSITORIES {
            return false;
        }
        self.repositories.push(repository.clone());
        true
    }

    /// Returns the content of the record's file.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let layer = self.layer.as_ref().map(|layer| StoredLayer {
            diff_id: layer.diff_id.clone(),
            compression: compression_name(layer.compression).to_owned(),
            size: layer.size,
            raw_size: layer.raw_size,
        });
        let names = self
            .repositories
            .iter()
            .map(|name| name.as_str().to_owned());
        let record = serde_json::json!(StoredLayerRecord {
            format: LAYER_RECORD_FORMAT.to_owned(),
            layer,
            repositories: names.collect(),
        });
        format!("{record}\n").into_bytes()
    }

    /// Reads the output of [`LayerRecord::to_json`]. Returns `None` for anything else.
    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        let record: StoredLayerRecord = serde_json::from_slice(json).ok()?;
        if record.format != LAYER_RECORD_FORMAT {
            return None;
        }
        let layer = match record.layer {
            Some(layer) => Some(ComputedLayer {
                diff_id: layer.diff_id,
                compression: parse_compression(&layer.compression)?,
                size: layer.size,
                raw_size: layer.raw_size,
            }),
            None => None,
        };
        let names = record.repositories.iter().map(|name| name.parse().ok());
        Some(Self {
            layer,
            repositories: names.collect::<Option<_>>()?,
        })
    }
}

fn compression_name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

fn parse_compression(name: &str) -> Option<Compression> {
    let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
    compressions
        .into_iter()
        .find(|compression| compression_name(*compression) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LayerRecord {
        LayerRecord {
            layer: Some(ComputedLayer {
                diff_id: Digest::of(b"tar"),
                compression: Compression::Zstd,
                size: 7,
                raw_size: Some(1024),
            }),
            repositories: vec!["team/app".parse().unwrap()],
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let json = record().to_json();
        assert_eq!(LayerRecord::from_json(&json), Some(record()));
        for len in 0..json.len() - 2 {
            assert_eq!(LayerRecord::from_json(&json[..len]), None);
        }
        let none = LayerRecord {
            layer: None,
            repositories: Vec::new(),
        };
        assert_eq!(LayerRecord::from_json(&none.to_json()), Some(none));
    }

    #[test]
    fn a_record_of_an_earlier_version_has_no_raw_size() {
        let json = String::from_utf8(record().to_json()).unwrap();
        let earlier = json.replace(",\"rawSize\":1024", "");
        assert_ne!(earlier, json);
        let layer = LayerRecord::from_json(earlier.as_bytes()).unwrap().layer;
        assert_eq!(layer.unwrap().raw_size, None);
    }

    #[test]
    fn repositories_are_bounded_and_stale_ones_are_replaced() {
        let mut record = record();
        for number in 1..MAX_RECORDED_REPOSITORIES {
            let name = format!("r{number}").parse().unwrap();
            assert!(record.add_repository(&name, |_| true));
            assert!(!record.add_repository(&name, |_| true));
        }
        let another = "another".parse().unwrap();
        assert!(!record.add_repository(&another, |_| true));
        assert!(record.add_repository(&another, |name| name.as_str() != "r1"));
        assert_eq!(record.repositories.len(), MAX_RECORDED_REPOSITORIES);
        assert!(record.to_json().len() < MAX_RECORD_BYTES);
    }
}
