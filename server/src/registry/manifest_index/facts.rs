//! The lines of a manifest index: one for each manifest, and one that says when all were read.
//!
//! The lines are a format on disk: a change gets a new name. A line that does not parse counts as
//! absent. Start reading at [`ManifestFacts`].

use std::fmt::Write as _;

use imgsync_oci::referrers::{self, ReferrerDescriptor};
use imgsync_oci::{Digest, Manifest};

use crate::registry::digest_prefix::digest_prefix;

/// Longer descriptors are not stored whole.
const MAX_DESCRIPTOR_BYTES: usize = 4096;
/// Stands for a config or subject that a manifest does not have.
const NONE: &str = "-";

/// Facts from the bytes of a manifest. They never change for a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManifestFacts {
    pub(super) digest: Digest,
    /// The digest of the config of an image.
    pub(super) config: Option<Digest>,
    pub(super) referrer: Option<ReferrerFacts>,
}

/// Facts from the bytes of a manifest with a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct ReferrerFacts {
    pub(in crate::registry) subject: Digest,
    /// The descriptor for lists; `None` if it is too long, so that the manifest has to be read.
    pub(in crate::registry) descriptor: Option<ReferrerDescriptor>,
    /// Whether the descriptor lacks the annotations, because they are too long.
    pub(in crate::registry) lacks_annotations: bool,
}

impl ManifestFacts {
    /// Returns the facts about the manifest with these bytes.
    pub(super) fn of(digest: &Digest, bytes: &[u8]) -> Self {
        let manifest = Manifest::parse_bare(bytes).map(|(_, manifest)| manifest);
        let subject = manifest.as_ref().ok().and_then(Manifest::subject);
        // Most manifests have no subject. A whole one takes many times the memory of its bytes.
        let referrer = subject.map(|_| referrers::parse_referrer(bytes, digest));
        let referrer = match referrer {
            Some(Ok(Some((subject, descriptor)))) => Some(ReferrerFacts::new(subject, descriptor)),
            _ => None,
        };
        let config = match manifest {
            Ok(Manifest::Image { config, .. }) => Some(config.digest),
            _ => None,
        };
        Self {
            digest: digest.clone(),
            config,
            referrer,
        }
    }

    /// Returns the line, with its end.
    pub(super) fn to_line(&self) -> String {
        let Self {
            digest,
            config,
            referrer,
        } = self;
        let mut line = format!("{digest} ");
        let _ = match config {
            Some(config) => write!(line, "{config}"),
            None => write!(line, "{NONE}"),
        };
        if let Some(ReferrerFacts {
            subject,
            descriptor,
            lacks_annotations,
        }) = referrer
        {
            let _ = write!(line, " {subject}");
            if let Some(descriptor) = descriptor {
                let kind = if *lacks_annotations { "part" } else { "whole" };
                let _ = write!(line, " {kind} {}", serde_json::json!(descriptor));
            }
        } else {
            let _ = write!(line, " {NONE}");
        }
        line.push('\n');
        line
    }

    /// Parses a line of [`ManifestFacts::to_line`], without its end; `None` for any other line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, ' ');
        let digest = fields.next()?.parse().ok()?;
        let config = optional(fields.next()?)?;
        let subject = optional(fields.next()?)?;
        let descriptor = match (fields.next(), fields.next()) {
            (None, _) => None,
            (Some(kind @ ("part" | "whole")), Some(json)) => {
                Some((kind == "part", serde_json::from_str(json).ok()?))
            }
            _ => return None,
        };
        let referrer = match (subject, descriptor) {
            (Some(subject), None) => Some(ReferrerFacts {
                subject,
                descriptor: None,
                lacks_annotations: false,
            }),
            (Some(subject), Some((lacks_annotations, descriptor))) => Some(ReferrerFacts {
                subject,
                descriptor: Some(descriptor),
                lacks_annotations,
            }),
            (None, None) => None,
            (None, Some(_)) => return None,
        };
        Some(Self {
            digest,
            config,
            referrer,
        })
    }
}

impl ReferrerFacts {
    /// Returns about how many bytes of memory the facts take.
    pub(in crate::registry) fn memory_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 400;
        let Some(descriptor) = &self.descriptor else {
            return FIXED_BYTES;
        };
        let annotations = descriptor.annotations.iter().flatten();
        let annotations = annotations.map(|(key, value)| key.len() + value.len() + 100);
        let artifact_type = descriptor.artifact_type.as_ref().map_or(0, String::len);
        FIXED_BYTES + artifact_type + annotations.sum::<usize>()
    }

    fn new(subject: Digest, mut descriptor: ReferrerDescriptor) -> Self {
        let is_short = |descriptor: &ReferrerDescriptor| {
            serde_json::json!(descriptor).to_string().len() <= MAX_DESCRIPTOR_BYTES
        };
        let lacks_annotations = !is_short(&descriptor);
        if lacks_annotations {
            descriptor.annotations = None;
        }
        let descriptor = Some(descriptor).filter(is_short);
        Self {
            subject,
            lacks_annotations: lacks_annotations && descriptor.is_some(),
            descriptor,
        }
    }
}

/// Returns the subject in a line, without checking the rest of it.
pub(super) fn subject_of(line: &str) -> Option<&str> {
    line.split(' ').nth(2)
}

/// Returns the config in a line, without checking the rest of it.
pub(super) fn config_of(line: &str) -> Option<&str> {
    line.split(' ').nth(1)
}

/// Returns the first 128 bits of the digest at the start of a line, if the whole line parses.
pub(super) fn known_prefix(line: &str) -> Option<u128> {
    ManifestFacts::parse(line).map(|facts| digest_prefix(&facts.digest))
}

/// Parses a digest or [`NONE`]. The outer `None` means neither.
fn optional(field: &str) -> Option<Option<Digest>> {
    if field == NONE {
        return Some(None);
    }
    field.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsync_oci::media;

    fn digest(word: &str) -> Digest {
        Digest::of(word.as_bytes())
    }

    fn facts(annotation: &str, artifact_type: &str) -> ManifestFacts {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": { "mediaType": "application/x", "digest": digest("config"), "size": 6 },
            "layers": [],
            "subject": { "mediaType": media::OCI_MANIFEST, "digest": digest("s"), "size": 1 },
            "annotations": { "word": annotation },
        });
        ManifestFacts::of(&digest("manifest"), manifest.to_string().as_bytes())
    }

    #[test]
    fn lines_keep_their_format() {
        let [own, config, subject] = ["manifest", "config", "s"].map(digest);
        let whole = facts("line\nbreak ü", "a type").to_line();
        let json = format!(
            r#"{{"mediaType":"{}","digest":"{own}","size":444,"artifactType":"a type","annotations":{{"word":"line\nbreak ü"}}}}"#,
            media::OCI_MANIFEST
        );
        assert_eq!(whole, format!("{own} {config} {subject} whole {json}\n"));
        let part = facts(&"x".repeat(5000), "a type").to_line();
        assert!(part.starts_with(&format!("{own} {config} {subject} part {{\"mediaType\":")));
        let long = facts("", &"x".repeat(5000)).to_line();
        assert_eq!(long, format!("{own} {config} {subject}\n"));
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media::OCI_INDEX
        );
        let plain = ManifestFacts::of(&own, index.as_bytes()).to_line();
        assert_eq!(plain, format!("{own} - -\n"));
    }

    #[test]
    fn a_line_is_read_as_it_was_written_or_not_at_all() {
        for facts in [
            facts("word", "type"),
            facts(&"x".repeat(5000), "type"),
            facts("", &"x".repeat(5000)),
        ] {
            let line = facts.to_line();
            let line = line.trim_end();
            assert!(line.len() < crate::store::MAX_LOG_LINE_BYTES);
            assert_eq!(subject_of(line), Some(digest("s").to_string().as_str()));
            assert_eq!(config_of(line), Some(digest("config").to_string().as_str()));
            assert_eq!(ManifestFacts::parse(line), Some(facts.clone()));
            for end in 0..line.len() {
                let cut = ManifestFacts::parse(&line[..end]);
                // Without the descriptor, the manifest is read.
                let is_descriptor_lost = |cut: &ManifestFacts| {
                    cut.digest == facts.digest
                        && cut.referrer.as_ref().is_some_and(|referrer| {
                            referrer.subject == digest("s") && referrer.descriptor.is_none()
                        })
                };
                assert!(cut.is_none_or(|cut| is_descriptor_lost(&cut)), "{end}");
                // A power cut can leave zeros.
                let zeros = format!("{}{}", &line[..end], "\0".repeat(line.len() - end));
                assert_eq!(ManifestFacts::parse(&zeros), None, "{end}");
            }
        }
    }
}
