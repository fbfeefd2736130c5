//! Manifests that speak about another manifest: signatures, attestations, lists of parts (OCI
//! distribution-spec, "Listing Referrers").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Manifest, ParseError, media};

/// A manifest as the list of its subject's referrers shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrerDescriptor {
    /// The type of the manifest.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is: its own `artifactType`, else the type of its config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What is read of a manifest beside its edges. Fields of another shape count as none: such
/// manifests exist, and nothing hangs on them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerFields {
    #[serde(default)]
    artifact_type: serde_json::Value,
    #[serde(default)]
    annotations: serde_json::Value,
}

/// Reads which manifest these bytes speak about, and how that one's list shows them; `None` where
/// they speak about none.
///
/// # Errors
/// Bytes that are no manifest.
pub fn parse_referrer(
    bytes: &[u8],
    digest: &Digest,
) -> Result<Option<(Digest, ReferrerDescriptor)>, ParseError> {
    let (media_type, manifest) = Manifest::parse(bytes, None)?;
    let (subject, config) = match manifest {
        Manifest::Image {
            config, subject, ..
        } => (subject, Some(config.media_type).filter(|it| !it.is_empty())),
        Manifest::Index { subject, .. } => (subject, None),
    };
    let Some(subject) = subject else {
        return Ok(None);
    };
    let remarks: ReferrerFields = serde_json::from_slice(bytes)
        .map_err(|error| ParseError::new("manifest", &error.to_string()))?;
    let own = remarks
        .artifact_type
        .as_str()
        .filter(|text| !text.is_empty());
    let referrer = ReferrerDescriptor {
        media_type,
        digest: digest.clone(),
        size: bytes.len() as u64,
        artifact_type: own.map(str::to_owned).or(config),
        annotations: serde_json::from_value(remarks.annotations).unwrap_or_default(),
    };
    Ok(Some((subject.digest, referrer)))
}

/// The index that lists referrers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrersIndex {
    schema_version: u64,
    media_type: String,
    /// The referrers.
    pub manifests: Vec<ReferrerDescriptor>,
}

impl ReferrersIndex {
    /// The index over these.
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

    fn descriptor(media_type: &str, content: &[u8]) -> serde_json::Value {
        json!({ "mediaType": media_type, "digest": Digest::of(content), "size": content.len() })
    }

    fn image(change: impl FnOnce(&mut serde_json::Value)) -> Option<(Digest, ReferrerDescriptor)> {
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

    #[test]
    fn what_is_listed_of_a_manifest() {
        let (subject, plain) = image(|_| {}).unwrap();
        assert_eq!(subject, Digest::of(b"subject"));
        assert_eq!(plain.artifact_type.as_deref(), Some("application/x.config"));
        assert_eq!(plain.annotations, None);
        let (_, rich) = image(|image| {
            image["artifactType"] = "application/x.sig".into();
            image["annotations"] = json!({ "a": "b" });
        })
        .unwrap();
        assert_eq!(rich.artifact_type.as_deref(), Some("application/x.sig"));
        assert_eq!(rich.annotations.unwrap()["a"], "b");
        let (_, odd) = image(|image| {
            image["artifactType"] = "".into();
            image["annotations"] = json!({ "a": 1 });
        })
        .unwrap();
        assert_eq!(odd.artifact_type.as_deref(), Some("application/x.config"));
        assert_eq!(odd.annotations, None);
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
