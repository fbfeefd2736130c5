//! Leaves platforms out of an index, which makes another index with another digest.
//!
//! Annotations name the original index and the requested platforms, so that a later run finds out
//! without reading the original again that nothing has changed. An index with one platform left
//! stays an index, since attestations refer to it.

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Digest, Manifest};
use serde_json::Value;

use crate::image::Platforms;
use crate::image::platform::text;
use crate::transports::VerifiedManifest;

/// The annotation with the digest of the original index.
const INDEX_ANNOTATION: &str = "imgsync.mirror.index";
/// The annotation with the requested platforms.
const PLATFORMS_ANNOTATION: &str = "imgsync.mirror.platforms";
/// The annotation by which BuildKit names the image of an attestation.
const ATTESTATION_SUBJECT_ANNOTATION: &str = "vnd.docker.reference.digest";

/// An index without some platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilteredIndex {
    /// The index; the original where nothing was left out.
    pub(super) index: VerifiedManifest,
    /// The platforms that were left out.
    pub(super) left_out: Vec<String>,
}

/// Leaves out the manifests of other platforms, and their attestations. Manifests without a platform
/// stay.
///
/// # Errors
/// Returns a text where the index cannot be parsed, or has none of the platforms.
pub(super) fn filter_index(
    whole: &VerifiedManifest,
    platforms: &Platforms,
) -> Result<FilteredIndex, String> {
    let parsed = Manifest::parse(&whole.bytes, Some(&whole.media_type));
    let (_, manifest) = parsed.map_err(|error| error.to_string())?;
    let Manifest::Index { manifests, .. } = manifest else {
        let index = whole.clone();
        return Ok(FilteredIndex {
            index,
            left_out: Vec::new(),
        });
    };
    let own: Vec<Option<Platform>> = manifests.iter().map(own_platform).collect();
    let wanted = platforms.matching(&own);
    if wanted.is_empty() {
        let names: Vec<String> = own.iter().flatten().map(text).collect();
        return Err(if names.is_empty() {
            format!("it names no platforms, so none of {platforms}")
        } else {
            format!("it has nothing for {platforms}, but {}", names.join(", "))
        });
    }
    let is_kept = |position: usize| own[position].is_none() || wanted.contains(&position);
    let removed: Vec<&Digest> = (0..manifests.len())
        .filter(|position| !is_kept(*position))
        .map(|position| &manifests[position].digest)
        .collect();
    let is_attestation_of_removed = |child: &Descriptor| {
        let about = child.annotation(ATTESTATION_SUBJECT_ANNOTATION);
        about.is_some_and(|about| removed.iter().any(|removed| removed.to_string() == about))
    };
    let keep: Vec<bool> = manifests
        .iter()
        .enumerate()
        .map(|(position, child)| is_kept(position) && !is_attestation_of_removed(child))
        .collect();
    if keep.iter().all(|keep| *keep) {
        let index = whole.clone();
        return Ok(FilteredIndex {
            index,
            left_out: Vec::new(),
        });
    }
    let left_out = (0..manifests.len()).filter(|position| !is_kept(*position));
    let left_out = left_out.filter_map(|position| own[position].as_ref().map(text));
    Ok(FilteredIndex {
        left_out: left_out.collect(),
        index: without(whole, &keep, platforms)?,
    })
}

/// Returns the digest of the original index, if exactly these platforms were requested for this one.
pub(super) fn unfiltered_digest(index: &VerifiedManifest, platforms: &Platforms) -> Option<Digest> {
    let value: Value = serde_json::from_slice(&index.bytes).ok()?;
    let annotation = |name| value.get("annotations")?.get(name)?.as_str();
    if annotation(PLATFORMS_ANNOTATION)? != platforms.to_string() {
        return None;
    }
    annotation(INDEX_ANNOTATION)?.parse().ok()
}

/// Returns the platform of a manifest in an index; `None` for an attestation.
fn own_platform(child: &Descriptor) -> Option<Platform> {
    let platform = child.platform.clone()?;
    let is_known = platform.os != "unknown" && !platform.os.is_empty();
    (is_known && child.annotation(ATTESTATION_SUBJECT_ANNOTATION).is_none()).then_some(platform)
}

/// Returns the index with only some of its manifests, and all other fields unchanged.
fn without(
    whole: &VerifiedManifest,
    keep: &[bool],
    platforms: &Platforms,
) -> Result<VerifiedManifest, String> {
    let read = serde_json::from_slice(&whole.bytes);
    let mut value: Value = read.map_err(|error| error.to_string())?;
    if let Some(Value::Array(children)) = value.get_mut("manifests") {
        let mut keep = keep.iter();
        children.retain(|_| keep.next().copied().unwrap_or(false));
    }
    let Value::Object(fields) = &mut value else {
        return Err("it is not an object".to_owned());
    };
    let annotations = fields.entry("annotations").or_insert(Value::Null);
    if !annotations.is_object() {
        *annotations = Value::Object(serde_json::Map::new());
    }
    annotations[INDEX_ANNOTATION] = Value::String(whole.digest.to_string());
    annotations[PLATFORMS_ANNOTATION] = Value::String(platforms.to_string());
    let bytes = serde_json::to_vec(&value).map_err(|error| error.to_string())?;
    Ok(VerifiedManifest {
        digest: Digest::of_with(whole.digest.algorithm(), &bytes),
        media_type: whole.media_type.clone(),
        bytes: bytes.into(),
    })
}

#[cfg(test)]
mod tests {
    use imgsync_oci::media;
    use serde_json::json;

    use super::*;

    fn child(name: &str, platform: Option<&str>) -> Value {
        let digest = Digest::of(name.as_bytes());
        let mut child = json!({ "mediaType": media::OCI_MANIFEST, "digest": digest, "size": 5 });
        if let Some((os, architecture)) = platform.and_then(|text| text.split_once('/')) {
            child["platform"] = json!({ "architecture": architecture, "os": os });
        }
        child
    }

    fn attestation(of: &str) -> Value {
        let mut child = child(&format!("attests {of}"), Some("unknown/unknown"));
        let about = Digest::of(of.as_bytes());
        child["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about,
        });
        child
    }

    fn index(children: Vec<Value>) -> VerifiedManifest {
        let bytes = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children,
            "x-own": 1, "annotations": { "a": "b" },
        }))
        .unwrap();
        VerifiedManifest {
            digest: Digest::of(&bytes),
            media_type: media::OCI_INDEX.to_owned(),
            bytes: bytes.into(),
        }
    }

    fn wanted(words: &[&str]) -> Platforms {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Platforms::parse(&words).unwrap()
    }

    fn three() -> VerifiedManifest {
        index(vec![
            child("amd", Some("linux/amd64")),
            child("arm", Some("linux/arm64")),
            child("z", Some("linux/s390x")),
            attestation("amd"),
            attestation("arm"),
            child("plain", None),
        ])
    }

    #[test]
    fn other_platforms_go_with_their_attestations() {
        let whole = three();
        let platforms = wanted(&["linux/arm64", "linux/riscv64"]);
        let filtered = filter_index(&whole, &platforms).unwrap();
        assert_eq!(filtered.left_out, ["linux/amd64", "linux/s390x"]);
        let value: Value = serde_json::from_slice(&filtered.index.bytes).unwrap();
        let left = [
            child("arm", Some("linux/arm64")),
            attestation("arm"),
            child("plain", None),
        ];
        assert_eq!(value["manifests"], json!(left));
        assert_eq!(
            (&value["x-own"], &value["annotations"]["a"]),
            (&json!(1), &json!("b"))
        );
        assert_eq!(filtered.index.digest, Digest::of(&filtered.index.bytes));
        assert_eq!(
            unfiltered_digest(&filtered.index, &platforms),
            Some(whole.digest.clone())
        );
        assert_eq!(
            unfiltered_digest(&filtered.index, &wanted(&["linux/arm64"])),
            None
        );
        assert_eq!(unfiltered_digest(&whole, &platforms), None);
        assert_eq!(filter_index(&whole, &platforms), Ok(filtered));
    }

    #[test]
    fn an_index_that_loses_nothing_stays_the_same() {
        let whole = three();
        let all = wanted(&["linux/amd64", "linux/arm64", "linux/s390x"]);
        let filtered = filter_index(&whole, &all).unwrap();
        assert_eq!(
            (filtered.index, filtered.left_out.len()),
            (whole.clone(), 0)
        );
        let error = filter_index(&whole, &wanted(&["windows/amd64"])).unwrap_err();
        assert!(error.contains("windows/amd64, but linux/amd64"), "{error}");
    }
}
