//! Referrers: manifests whose `subject` is another manifest, such as signatures, attestations and
//! SBOMs (OCI distribution-spec, "Listing Referrers").

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Manifest, ParseError, media};

/// A referrer, as the list of its subject's referrers describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrerDescriptor {
    /// The media type of the manifest.
    pub media_type: String,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The size of the manifest in bytes.
    pub size: u64,
    /// The `artifactType` of the manifest, or else the media type of its config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// The fields of a manifest that only lists of referrers show. A field of another type counts as
/// missing, because such manifests exist and these fields are not essential. Of a field that is
/// there twice, the last one counts, as in the parser of Go.
#[derive(Default)]
struct ReferrerFields {
    artifact_type: Value,
    annotations: Value,
}

impl<'de> Deserialize<'de> for ReferrerFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = ReferrerFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a manifest")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = ReferrerFields::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "artifactType" => fields.artifact_type = map.next_value()?,
                        "annotations" => fields.annotations = map.next_value()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Parses a manifest, and returns its subject with the descriptor for the subject's list of
/// referrers; `None` for a manifest without subject.
///
/// # Errors
/// Fails on bytes that are no manifest.
pub fn parse_referrer(
    bytes: &[u8],
    digest: &Digest,
) -> Result<Option<(Digest, ReferrerDescriptor)>, ParseError> {
    let (media_type, manifest) = Manifest::parse(bytes, None)?;
    let (subject, config) = match manifest {
        Manifest::Image {
            config, subject, ..
        } => (
            subject,
            Some(config.media_type).filter(|media_type| !media_type.is_empty()),
        ),
        Manifest::Index { subject, .. } => (subject, None),
    };
    let Some(subject) = subject else {
        return Ok(None);
    };
    let fields: ReferrerFields = serde_json::from_slice(bytes)
        .map_err(|error| ParseError::new("manifest", &error.to_string()))?;
    let own = fields
        .artifact_type
        .as_str()
        .filter(|text| !text.is_empty());
    let referrer = ReferrerDescriptor {
        media_type,
        digest: digest.clone(),
        size: bytes.len() as u64,
        artifact_type: own.map(str::to_owned).or(config),
        annotations: serde_json::from_value(fields.annotations).unwrap_or_default(),
    };
    Ok(Some((subject.digest, referrer)))
}

/// The list of a manifest's referrers, which is an OCI index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrersIndex {
    schema_version: u64,
    media_type: String,
    /// The referrers.
    pub manifests: Vec<ReferrerDescriptor>,
}

impl ReferrersIndex {
    /// Returns the list of these referrers.
    pub fn of(manifests: Vec<ReferrerDescriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media::OCI_INDEX.to_owned(),
            manifests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(media_type: &str, content: &[u8]) -> Value {
        json!({ "mediaType": media_type, "digest": Digest::of(content), "size": content.len() })
    }

    fn image(change: impl FnOnce(&mut Value)) -> Option<(Digest, ReferrerDescriptor)> {
        let mut image = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": descriptor("application/x.config", b"{}"),
            "layers": [],
            "subject": descriptor(media::OCI_MANIFEST, b"subject"),
        });
        change(&mut image);
        let bytes = image.to_string();
        parse_referrer(bytes.as_bytes(), &Digest::of(bytes.as_bytes())).unwrap()
    }

    /// The parser of Go, and the one of manifests, accept it.
    #[test]
    fn of_a_repeated_field_the_last_one_counts() {
        let image = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": descriptor("application/x.config", b"{}"),
            "layers": [],
            "subject": descriptor(media::OCI_MANIFEST, b"subject"),
            "annotations": { "a": "first" },
        });
        let text = image.to_string();
        let text = text.replacen(
            '{',
            r#"{"annotations": {"a": "0"}, "artifactType": "x", "#,
            1,
        );
        let end = text.rfind('}').unwrap();
        let bytes = format!(r#"{}, "artifactType": "application/y"}}"#, &text[..end]);
        let parsed = parse_referrer(bytes.as_bytes(), &Digest::of(bytes.as_bytes()));
        let (_, referrer) = parsed.unwrap().unwrap();
        assert_eq!(referrer.artifact_type.as_deref(), Some("application/y"));
        assert_eq!(referrer.annotations.unwrap()["a"], "first");
    }

    #[test]
    fn the_descriptor_of_a_referrer() {
        let (subject, plain) = image(|_| {}).unwrap();
        assert_eq!(subject, Digest::of(b"subject"));
        assert_eq!(plain.artifact_type.as_deref(), Some("application/x.config"));
        assert_eq!(plain.annotations, None);
        let (_, signature) = image(|image| {
            image["artifactType"] = "application/x.sig".into();
            image["annotations"] = json!({ "a": "b" });
        })
        .unwrap();
        assert_eq!(
            signature.artifact_type.as_deref(),
            Some("application/x.sig")
        );
        assert_eq!(signature.annotations.unwrap()["a"], "b");
        let (_, malformed) = image(|image| {
            image["artifactType"] = "".into();
            image["annotations"] = json!({ "a": 1 });
        })
        .unwrap();
        assert_eq!(
            malformed.artifact_type.as_deref(),
            Some("application/x.config")
        );
        assert_eq!(malformed.annotations, None);
        assert_eq!(image(|image| image["subject"] = json!(null)), None);
    }

    #[test]
    fn an_index_has_no_config_to_fall_back_on() {
        let index = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
            "subject": descriptor(media::OCI_MANIFEST, b"subject"),
        })
        .to_string();
        let (_, referrer) = parse_referrer(index.as_bytes(), &Digest::of(b"x"))
            .unwrap()
            .unwrap();
        assert_eq!(referrer.artifact_type, None);
        let json = serde_json::to_value(ReferrersIndex::of(vec![referrer])).unwrap();
        let listed = json!({
            "mediaType": media::OCI_INDEX, "digest": Digest::of(b"x"), "size": index.len(),
        });
        assert_eq!(
            json,
            json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [listed] })
        );
    }
}
