//! What refers to an image: signatures, attestations and SBOMs, as referrers (OCI distribution-spec)
//! and under the tags of cosign.

use imgsync_oci::{Digest, Reference, Repository, Tag};
use maud::{Markup, html};

use super::bounded_rows::{MAX_TEXT_BYTES, bounded_rows};
use super::format::{link, short_digest, size, untrusted_time};
use super::image_reader::ImageReader;
use super::layout::Frame;
use super::texts::{Texts, fill};
use super::untrusted::Untrusted;
use crate::registry::{Error, Registry, Walk};

/// How many referrers are shown.
const ROWS: usize = 50;
const CREATED_ANNOTATION: &str = "org.opencontainers.image.created";
/// The suffixes of the tags of cosign.
const COSIGN_SUFFIXES: [(&str, ReferrerKind); 3] = [
    ("sig", ReferrerKind::Signature),
    ("att", ReferrerKind::Attestation),
    ("sbom", ReferrerKind::Sbom),
];
/// Parts of artifact types, and what they say.
const TYPE_PARTS: [(&str, ReferrerKind); 7] = [
    ("signature", ReferrerKind::Signature),
    ("notary", ReferrerKind::Signature),
    ("sigstore", ReferrerKind::Signature),
    ("spdx", ReferrerKind::Sbom),
    ("cyclonedx", ReferrerKind::Sbom),
    ("sbom", ReferrerKind::Sbom),
    ("in-toto", ReferrerKind::Attestation),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReferrerKind {
    Signature,
    Attestation,
    Sbom,
    Other,
}

/// The referrers of an image.
#[derive(Debug, Default)]
pub(super) struct ReferrerRows {
    rows: Vec<ReferrerRow>,
    is_truncated: bool,
}

#[derive(Debug)]
struct ReferrerRow {
    kind: ReferrerKind,
    /// The artifact type, or the tag of cosign.
    name: String,
    digest: Digest,
    bytes: u64,
    created: Option<String>,
}

impl ReferrerRows {
    /// Reads the referrers of an image.
    pub(super) fn gather(
        registry: &Registry,
        repository: &Repository,
        subject: &Digest,
        walk: &Walk<'_>,
        reader: &ImageReader<'_>,
    ) -> Result<Self, Error> {
        let page = registry.list_referrers(repository, subject, None, None, walk)?;
        let is_truncated = page.more_after.is_some() || page.referrers.len() > ROWS;
        let mut rows = Vec::new();
        for referrer in page.referrers.into_iter().take(ROWS) {
            let name = referrer.artifact_type.unwrap_or(referrer.media_type);
            let annotations = referrer.annotations.unwrap_or_default();
            rows.push(ReferrerRow {
                kind: kind_of(&name),
                name,
                digest: referrer.digest,
                bytes: referrer.size,
                created: annotations.get(CREATED_ANNOTATION).cloned(),
            });
        }
        for (suffix, kind) in COSIGN_SUFFIXES {
            let name = format!(
                "{}-{}.{suffix}",
                subject.algorithm().as_str(),
                subject.hex()
            );
            let Ok(tag) = name.parse::<Tag>() else {
                continue;
            };
            let read = reader.manifest(&Reference::Tag(tag))?;
            rows.extend(read.map(|read| ReferrerRow {
                kind,
                name,
                digest: read.digest,
                bytes: read.size as u64,
                created: None,
            }));
        }
        Ok(Self { rows, is_truncated })
    }

    pub(super) fn render(&self, frame: &Frame, repository: &Repository) -> Markup {
        let texts = frame.texts();
        let rows = self
            .rows
            .iter()
            .map(|row| row.render(texts, frame.now, repository));
        let bounded = bounded_rows(MAX_TEXT_BYTES, rows);
        let is_truncated = self.is_truncated || bounded.count < self.rows.len();
        html! {
            @if self.rows.is_empty() {
                p.none { (texts.no_referrers) }
            } @else {
                div.sheet { table.wide {
                    thead { tr {
                        th scope="col" { (texts.kind) }
                        th scope="col" { (texts.digest) }
                        th scope="col" { (texts.created) }
                        th.number scope="col" { (texts.size) }
                    } }
                    tbody { (bounded.rows) }
                } }
                @if is_truncated { p.trail { (fill(texts.too_many_rows, &[&bounded.count])) } }
            }
        }
    }
}

impl ReferrerRow {
    fn render(&self, texts: &Texts, now: u64, repository: &Repository) -> Markup {
        let digest = self.digest.to_string();
        let to_image = link(
            "image",
            &[("name", repository.as_str()), ("reference", &digest)],
        );
        let kind = match self.kind {
            ReferrerKind::Signature => Some(texts.signature),
            ReferrerKind::Attestation => Some(texts.attestation),
            ReferrerKind::Sbom => Some(texts.sbom),
            ReferrerKind::Other => None,
        };
        html! {
            tr {
                th scope="row" {
                    @if let Some(kind) = kind { (kind) br; }
                    span.sub.mono { (Untrusted(&self.name)) }
                }
                td.digest data-label=(texts.digest) { a href=(to_image) { (short_digest(&self.digest)) } }
                td data-label=(texts.created) {
                    span { @match &self.created { Some(created) => (untrusted_time(texts, now, created)), None => span.none { "–" } } }
                }
                td.number data-label=(texts.size) { span { (size(Some(self.bytes))) } }
            }
        }
    }
}

/// Returns what an artifact type says about its referrers.
fn kind_of(artifact_type: &str) -> ReferrerKind {
    let artifact_type = artifact_type.to_ascii_lowercase();
    let found = TYPE_PARTS
        .iter()
        .find(|(part, _)| artifact_type.contains(part));
    found.map_or(ReferrerKind::Other, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_artifact_types_are_known() {
        for (artifact_type, expected) in [
            (
                "application/vnd.cncf.notary.signature",
                ReferrerKind::Signature,
            ),
            (
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                ReferrerKind::Signature,
            ),
            ("application/spdx+json", ReferrerKind::Sbom),
            ("application/vnd.cyclonedx+json", ReferrerKind::Sbom),
            ("application/vnd.in-toto+json", ReferrerKind::Attestation),
            ("text/plain", ReferrerKind::Other),
        ] {
            assert_eq!(kind_of(artifact_type), expected, "{artifact_type}");
        }
    }
}
