//! Leaves platforms out of an index, which makes another index with another digest.
//!
//! Annotations name the original index and the requested platforms, so that a later run finds out
//! without reading the original again that nothing has changed. An index with one platform left
//! stays an index, since attestations refer to it.

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Digest, Manifest};
use serde_json::Value;

use super::plan::parse_manifest;
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

/// Leaves out the manifests of other platforms, and their attestations. Manifests without a
/// platform stay.
///
/// # Errors
/// Returns a text where the index cannot be parsed, or has none of the platforms.
pub(super) fn filter_index(
    whole: &VerifiedManifest,
    platforms: &Platforms,
) -> Result<FilteredIndex, String> {
    let parsed = parse_manifest(whole).map_err(|error| error.to_string())?;
    let Manifest::Index { manifests, .. } = parsed else {
        let (index, left_out) = (whole.clone(), Vec::new());
        return Ok(FilteredIndex { index, left_out });
    };
    let available: Vec<Option<Platform>> = manifests.iter().map(own_platform).collect();
    let matching = platforms.matching(&available);
    if matching.is_empty() {
        let names: Vec<String> = available.iter().flatten().map(text).collect();
        return Err(if names.is_empty() {
            format!("the index names no platforms, so it has no image for {platforms}")
        } else {
            format!(
                "the index has no image for {platforms}, only for {}",
                names.join(", ")
            )
        });
    }
    let is_kept = |position: usize| available[position].is_none() || matching.contains(&position);
    let (kept, removed): (Vec<usize>, Vec<usize>) =
        (0..manifests.len()).partition(|position| is_kept(*position));
    let is_attestation_of_removed = |child: &Descriptor| {
        let subject = child.annotation(ATTESTATION_SUBJECT_ANNOTATION);
        let mut removed = removed
            .iter()
            .map(|position| manifests[*position].digest.to_string());
        subject.is_some_and(|subject| removed.any(|digest| digest == subject))
    };
    let kept = kept.into_iter();
    let kept: Vec<usize> = kept
        .filter(|position| !is_attestation_of_removed(&manifests[*position]))
        .collect();
    let left_out = removed.iter();
    let left_out = left_out.filter_map(|position| available[*position].as_ref().map(text));
    let index = if kept.len() == manifests.len() {
        whole.clone()
    } else {
        without(whole, &kept, platforms)?
    };
    Ok(FilteredIndex {
        left_out: left_out.collect(),
        index,
    })
}

/// Returns the digest of the original index, if exactly these platforms were requested for this
/// one.
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

/// Returns the index with only the manifests at these positions, and all other fields unchanged.
fn without(
    whole: &VerifiedManifest,
    kept: &[usize],
    platforms: &Platforms,
) -> Result<VerifiedManifest, String> {
    let parsed = serde_json::from_slice(&whole.bytes);
    let mut value: Value = parsed.map_err(|error| error.to_string())?;
    if let Some(Value::Array(children)) = value.get_mut("manifests") {
        let mut positions = 0..;
        children.retain(|_| {
            positions
                .next()
                .is_some_and(|position| kept.contains(&position))
        });
    }
    let Value::Object(fields) = &mut value else {
        return Err("the index is not a JSON object".to_owned());
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

    fn platforms(words: &[&str]) -> Platforms {
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
    fn other_platforms_are_removed_with_their_attestations() {
        let whole = three();
        let requested = platforms(&["linux/arm64", "linux/riscv64"]);
        let filtered = filter_index(&whole, &requested).unwrap();
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
            unfiltered_digest(&filtered.index, &requested),
            Some(whole.digest.clone())
        );
        assert_eq!(
            unfiltered_digest(&filtered.index, &platforms(&["linux/arm64"])),
            None
        );
        assert_eq!(unfiltered_digest(&whole, &requested), None);
        assert_eq!(filter_index(&whole, &requested), Ok(filtered));
    }

    #[test]
    fn an_index_without_other_platforms_is_not_changed() {
        let whole = three();
        let all = platforms(&["linux/amd64", "linux/arm64", "linux/s390x"]);
        let filtered = filter_index(&whole, &all).unwrap();
        assert_eq!(
            (filtered.index, filtered.left_out.len()),
            (whole.clone(), 0)
        );
        let error = filter_index(&whole, &platforms(&["windows/amd64"])).unwrap_err();
        assert!(
            error.contains("windows/amd64, only for linux/amd64"),
            "{error}"
        );
    }
}
