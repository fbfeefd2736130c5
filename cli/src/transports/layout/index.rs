//! The `index.json` of a layout: its entries, and how they are added and removed. Pure: it reads
//! and writes no files.

use imgsync_oci::{Descriptor, Digest, Manifest, Tag, media, referrers};
use serde_json::{Map, Value, json};

use crate::image::name;
use crate::transports::{ManifestRole, VerifiedManifest};

/// The annotation that names an entry (OCI image-spec, "Image Layout", "index.json").
pub(super) const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// The annotation in which containerd and Docker store the whole name of an image.
pub(super) const IMAGE_NAME_ANNOTATION: &str = "io.containerd.image.name";

/// The entries of an `index.json`. Fields and entries that are not understood stay unchanged.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LayoutIndex {
    /// The fields other than `manifests`.
    other_fields: Map<String, Value>,
    entries: Vec<IndexEntry>,
}

#[derive(Debug, Clone, PartialEq)]
struct IndexEntry {
    descriptor: Descriptor,
    /// The entry as it is in the file.
    raw: Value,
}

impl LayoutIndex {
    /// Parses an `index.json`.
    ///
    /// # Errors
    /// Returns a message if it is invalid.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (_, parsed) = Manifest::parse(bytes, None).map_err(|error| error.to_string())?;
        let value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let (Manifest::Index { manifests, .. }, Value::Object(mut other_fields)) = (parsed, value)
        else {
            return Err("it is not an index".to_owned());
        };
        let raw = match other_fields.remove("manifests") {
            Some(Value::Array(raw)) => raw,
            _ => Vec::new(),
        };
        let entries = manifests.into_iter().zip(raw);
        let entries = entries.map(|(descriptor, raw)| IndexEntry { descriptor, raw });
        Ok(Self {
            entries: entries.collect(),
            other_fields,
        })
    }

    /// Returns the content of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut whole = self.other_fields.clone();
        whole.entry("schemaVersion").or_insert(json!(2));
        whole.entry("mediaType").or_insert(json!(media::OCI_INDEX));
        let raw = self.entries.iter().map(|entry| entry.raw.clone());
        whole.insert("manifests".to_owned(), raw.collect());
        Value::Object(whole).to_string().into_bytes()
    }

    /// Returns the entries, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Descriptor> {
        self.entries.iter().map(|entry| &entry.descriptor)
    }

    /// Returns all tags, each once, in order. For an entry with a full name, as podman and Docker
    /// write it, this is the tag of the name.
    pub(crate) fn tags(&self) -> Vec<Tag> {
        let mut seen = std::collections::HashSet::new();
        let tags = self.entries().filter_map(tag);
        tags.filter(|tag| seen.insert(tag.clone())).collect()
    }

    /// Returns the entry of a tag: the one that is named by just the tag, otherwise the one whose
    /// full name has the tag.
    ///
    /// # Errors
    /// Returns the names, if several have the tag and differ in content.
    pub(crate) fn resolve_tag(&self, requested: &Tag) -> Result<Option<&Descriptor>, Vec<&str>> {
        if let Some(exact) = self.find_tagged(requested) {
            return Ok(Some(exact));
        }
        let matching = self
            .entries()
            .filter(|entry| tag(entry).as_ref() == Some(requested));
        let matching: Vec<_> = matching.collect();
        match &matching[..] {
            [first, others @ ..] if others.iter().any(|other| other.digest != first.digest) => {
                let names = matching.iter();
                Err(names
                    .filter_map(|entry| entry.annotation(REF_NAME_ANNOTATION))
                    .collect())
            }
            matching => Ok(matching.first().copied()),
        }
    }

    /// Returns the entry that is named by just this tag.
    pub(crate) fn find_tagged(&self, tag: &Tag) -> Option<&Descriptor> {
        self.find_named(tag.as_str())
    }

    /// Returns the entry of exactly this name.
    pub(crate) fn find_named(&self, name: &str) -> Option<&Descriptor> {
        self.entries().find(|entry| is_named(entry, name))
    }

    /// Returns whether an entry has this digest.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.entries().any(|entry| entry.digest == *digest)
    }

    /// Adds a manifest in its role. A tag moves away from the manifest that it named before; the
    /// manifest of an index needs no entry. `image` is the full name without the tag, for Docker
    /// and podman. Returns whether anything changed.
    pub(crate) fn add_manifest(
        &mut self,
        manifest: &VerifiedManifest,
        role: &ManifestRole,
        image: Option<&str>,
    ) -> bool {
        let mut raw = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.bytes.len(),
        });
        match role {
            ManifestRole::Child => return false,
            ManifestRole::Tagged(tag) => {
                let named = self.find_tagged(tag);
                if named.is_some_and(|named| named.digest == manifest.digest) {
                    return false;
                }
                raw["annotations"] = json!({ REF_NAME_ANNOTATION: tag.as_str() });
                if let Some(image) = image {
                    raw["annotations"][IMAGE_NAME_ANNOTATION] = format!("{image}:{tag}").into();
                }
                self.remove(tag);
            }
            _ if self.contains(&manifest.digest) => return false,
            ManifestRole::Untagged => {}
            ManifestRole::Referrer { .. } => {
                let referrer = referrers::parse_referrer(&manifest.bytes, &manifest.digest);
                let referrer = referrer.ok().flatten();
                if let Some(artifact_type) = referrer.and_then(|(_, own)| own.artifact_type) {
                    raw["artifactType"] = artifact_type.into();
                }
            }
        }
        let size = manifest.bytes.len() as u64;
        let mut descriptor = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
        descriptor.annotations = serde_json::from_value(raw["annotations"].clone()).ok();
        self.entries.push(IndexEntry { descriptor, raw });
        true
    }

    /// Removes a tag. The manifest stays if other entries list it. Returns whether the tag existed.
    pub(crate) fn remove(&mut self, tag: &Tag) -> bool {
        let before = self.entries.len();
        self.entries
            .retain(|entry| !is_named(&entry.descriptor, tag.as_str()));
        self.entries.len() != before
    }

    /// Sorts the entries by name, then by digest, so that the order does not depend on the order of
    /// adding.
    pub(crate) fn sort(&mut self) {
        self.entries
            .sort_by_cached_key(|IndexEntry { descriptor, .. }| {
                let name = descriptor
                    .annotation(REF_NAME_ANNOTATION)
                    .map(str::to_owned);
                (name.is_none(), name, descriptor.digest.clone())
            });
    }
}

fn is_named(entry: &Descriptor, name: &str) -> bool {
    entry.annotation(REF_NAME_ANNOTATION) == Some(name)
}

/// Returns the tag of an entry; `None` if its name has none.
pub(super) fn tag(entry: &Descriptor) -> Option<Tag> {
    let name = entry.annotation(REF_NAME_ANNOTATION)?;
    match name.parse() {
        Ok(tag) => Some(tag),
        Err(_) => name::familiar(name)?.tag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(content: &str) -> VerifiedManifest {
        VerifiedManifest {
            digest: Digest::of(content.as_bytes()),
            media_type: media::OCI_MANIFEST.to_owned(),
            bytes: content.to_owned().into(),
        }
    }

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    fn tagged(text: &str) -> ManifestRole {
        ManifestRole::Tagged(tag(text))
    }

    #[test]
    fn a_tag_leaves_what_it_named_and_the_rest_stays() {
        let foreign = json!({
            "schemaVersion": 2, "x": {"b": 1, "a": 2}, "annotations": {"k": "v"},
            "manifests": [{"mediaType": media::OCI_MANIFEST, "digest": Digest::of(b"0"),
                           "size": 1, "y": 7, "annotations": {REF_NAME_ANNOTATION: "v1"}}],
        });
        let mut index = LayoutIndex::parse(foreign.to_string().as_bytes()).unwrap();
        assert!(index.add_manifest(&manifest("a"), &tagged("v2"), None));
        assert!(!index.add_manifest(&manifest("a"), &tagged("v2"), None));
        assert!(index.add_manifest(&manifest("b"), &tagged("v2"), Some("ghcr.io/o/app")));
        assert!(!index.add_manifest(&manifest("b"), &ManifestRole::Untagged, None));
        assert!(!index.add_manifest(&manifest("c"), &ManifestRole::Child, None));
        assert_eq!(index.tags(), [tag("v1"), tag("v2")]);
        let written: Value = serde_json::from_slice(&index.to_bytes()).unwrap();
        assert_eq!(written["x"], foreign["x"]);
        assert_eq!(written["manifests"][0], foreign["manifests"][0]);
        assert_eq!(
            written["manifests"][1]["annotations"][IMAGE_NAME_ANNOTATION],
            "ghcr.io/o/app:v2"
        );
        assert_eq!(written["manifests"].as_array().unwrap().len(), 2);
        assert!(index.remove(&tag("v1")) && !index.remove(&tag("v1")));
        assert_eq!(
            LayoutIndex::parse(&index.to_bytes()).unwrap().tags(),
            [tag("v2")]
        );
    }

    #[test]
    fn whole_names_have_tags_and_bare_ones_go_before_them() {
        let entry = |content: &str, name: &str| {
            json!({"mediaType": media::OCI_MANIFEST, "digest": Digest::of(content.as_bytes()),
                   "size": 1, "annotations": {REF_NAME_ANNOTATION: name}})
        };
        let index = |entries: Vec<Value>| {
            let text = json!({"schemaVersion": 2, "manifests": entries}).to_string();
            LayoutIndex::parse(text.as_bytes()).unwrap()
        };
        let two = index(vec![
            entry("a", "localhost/app:v1"),
            entry("b", "ghcr.io/app:v1"),
        ]);
        assert_eq!(two.tags(), [tag("v1")]);
        assert_eq!(two.resolve_tag(&tag("v1")).unwrap_err().len(), 2);
        assert_eq!(two.resolve_tag(&tag("v2")), Ok(None));
        assert_eq!(two.find_tagged(&tag("v1")), None);
        let bare = index(vec![entry("a", "localhost/app:v1"), entry("b", "v1")]);
        let found = bare.resolve_tag(&tag("v1")).unwrap().unwrap();
        assert_eq!(found.digest, Digest::of(b"b"));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":2,"config":{},"layers":[]}"#,
            r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:x","size":1}]}"#,
        ] {
            assert!(LayoutIndex::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
