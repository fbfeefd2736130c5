//! An image, or an index of images: how to pull it, its layers, labels and referrers.

use std::time::Duration;

use imgsync_oci::units::format_bytes;
use imgsync_oci::{Reference, Repository};
use maud::{Markup, html};

use super::bounded_rows::{MAX_LAYERS_BYTES, MAX_TEXT_BYTES, bounded_rows};
use super::config_facts::{ConfigFacts, History};
use super::format::{digest_start, duration_words, link, short_digest, size, untrusted_time};
use super::image_facts::total_bytes;
use super::image_reader::{ImageReader, ReadManifest};
use super::layers::{layer_rows, render_layers};
use super::layout::{Frame, Section};
use super::manifest_facts::{ChildFacts, ManifestContent};
use super::referrer_rows::ReferrerRows;
use super::text_pairs::TextPairs;
use super::texts::{Texts, fill};
use super::untrusted::{ShortUntrusted, Untrusted};
use crate::registry::{Error, Registry, Walk};

/// An image or an index.
#[derive(Debug)]
pub(crate) struct ImageView {
    repository: Repository,
    reference: Reference,
    manifest: ReadManifest,
    /// `None` if the config is not here.
    config: Option<ConfigFacts>,
    /// The size of the content of each image of an index in bytes; `None` if it is not here.
    child_sizes: Vec<Option<u64>>,
    referrers: ReferrerRows,
}

impl ImageView {
    /// Reads an image.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`] if there is no such image, or it is damaged; the errors of the store
    /// and of the walk.
    pub(crate) fn gather(
        registry: &Registry,
        repository: &Repository,
        reference: &Reference,
        walk: &Walk<'_>,
    ) -> Result<Self, Error> {
        let reader = ImageReader::new(registry, repository, walk);
        let read = reader.manifest(reference)?;
        let manifest = read.ok_or_else(|| Error::ManifestUnknown(reference.clone()))?;
        let (mut config, mut child_sizes) = (None, Vec::new());
        match &manifest.facts.content {
            ManifestContent::Image {
                config: described, ..
            } => config = reader.config(&described.digest)?,
            ManifestContent::Index { children, .. } => {
                for child in children {
                    let blobs = reader.child_blobs(&child.digest)?;
                    child_sizes.push((!blobs.is_empty()).then(|| total_bytes(&blobs)));
                }
            }
        }
        let referrers =
            ReferrerRows::gather(registry, repository, &manifest.digest, walk, &reader)?;
        Ok(Self {
            repository: repository.clone(),
            reference: reference.clone(),
            manifest,
            config,
            child_sizes,
            referrers,
        })
    }

    /// Renders the image. `undo` is how long a deletion can be undone; `None` if the caller may not
    /// delete.
    pub(crate) fn render(&self, frame: &Frame, undo: Option<Duration>) -> String {
        let texts = frame.texts();
        let title = self.title();
        let view = html! {
            p.trail {
                a href="." { (texts.repositories) } " / "
                a href=(link("repository", &[("name", self.repository.as_str())])) { (self.repository) }
            }
            h1 { (title) }
            (self.facts(frame))
            h2 { (texts.pull) }
            (self.pull_commands(frame))
            @match &self.manifest.facts.content {
                ManifestContent::Index { children, count } => (self.child_table(frame, children, *count)),
                ManifestContent::Image { layers, .. } => {
                    h2 { (texts.layers) }
                    p.trail { (texts.layers_hint) }
                    @let unknown = History::default();
                    @let history = self.config.as_ref().map_or(&unknown, |config| &config.history);
                    (render_layers(texts, &layer_rows(layers, history)))
                    (self.settings(frame))
                }
            }
            (pairs(texts, texts.annotations, &self.manifest.facts.annotations))
            h2 { (texts.referrers) }
            (self.referrers.render(frame, &self.repository))
            @if let (Some(undo), Reference::Tag(_)) = (undo, &self.reference) { (self.delete_form(frame, undo)) }
        };
        frame.page(&title, Some(Section::Repositories), &view)
    }

    fn title(&self) -> String {
        match &self.reference {
            Reference::Tag(tag) => format!("{}:{tag}", self.repository),
            Reference::Digest(digest) => {
                let algorithm = digest.algorithm().as_str();
                format!("{}@{algorithm}:{}…", self.repository, digest_start(digest))
            }
        }
    }

    fn facts(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        let manifest = &self.manifest;
        let bytes = match &manifest.facts.content {
            ManifestContent::Image { config, layers } => total_bytes(layers.iter().chain([config])),
            ManifestContent::Index { .. } => self
                .child_sizes
                .iter()
                .flatten()
                .fold(0, |sum: u64, size| sum.saturating_add(*size)),
        };
        let config = self.config.as_ref();
        html! {
            div.sheet { table.pairs { tbody {
                tr { th scope="row" { (texts.digest) } td { code { (manifest.digest) } } }
                tr { th scope="row" { (texts.size) } td { (format_bytes(bytes)) } }
                @if let Some(platform) = config.and_then(|config| config.platform.as_deref()) {
                    tr { th scope="row" { (texts.platform) } td { (Untrusted(platform)) } }
                }
                @if let Some(created) = config.and_then(|config| config.created.as_deref()) {
                    tr { th scope="row" { (texts.created) } td { (untrusted_time(texts, frame.now, created)) } }
                }
                tr { th scope="row" { (texts.media_type) } td { code { (Untrusted(&manifest.media_type)) } } }
            } } }
        }
    }

    fn pull_commands(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        let name = match frame.host.as_str() {
            "" => self.repository.to_string(),
            host => format!("{host}/{}", self.repository),
        };
        let by_digest = format!("docker pull {name}@{}", self.manifest.digest);
        html! {
            @if let Reference::Tag(tag) = &self.reference {
                (command(frame, "pull", &format!("docker pull {name}:{tag}")))
                p.trail { (texts.pull_by_digest) }
            }
            (command(frame, "pull-digest", &by_digest))
        }
    }

    fn child_table(&self, frame: &Frame, children: &[ChildFacts], count: usize) -> Markup {
        let texts = frame.texts();
        let rows = children
            .iter()
            .zip(&self.child_sizes)
            .map(|(child, bytes)| self.child_row(frame, child, *bytes));
        let bounded = bounded_rows(MAX_LAYERS_BYTES, rows);
        html! {
            h2 { (texts.images) }
            div.sheet { table.wide {
                thead { tr {
                    th scope="col" { (texts.platform) }
                    th scope="col" { (texts.digest) }
                    th.number scope="col" { (texts.size) }
                } }
                tbody { (bounded.rows) }
            } }
            @if bounded.count < count {
                p.trail { (fill(texts.too_many_rows, &[&bounded.count])) }
            }
        }
    }

    fn child_row(&self, frame: &Frame, child: &ChildFacts, bytes: Option<u64>) -> Markup {
        let texts = frame.texts();
        let digest = child.digest.to_string();
        let to_image = link(
            "image",
            &[("name", self.repository.as_str()), ("reference", &digest)],
        );
        html! {
            tr {
                th scope="row" {
                    @match child.platform() {
                        Some(platform) => (ShortUntrusted(platform)),
                        None if child.is_attestation() => span.none { (texts.attestation) },
                        None => span.none { (texts.unknown) },
                    }
                }
                td.digest data-label=(texts.digest) { a href=(to_image) { (short_digest(&child.digest)) } }
                td.number data-label=(texts.size) { span { (size(bytes)) } }
            }
        }
    }

    fn settings(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        let Some(config) = &self.config else {
            return html! { p.none { (texts.missing_config) } };
        };
        let settings = [
            (texts.entrypoint, &config.entrypoint),
            (texts.cmd, &config.cmd),
            (texts.user, &config.user),
            (texts.working_dir, &config.working_dir),
            (texts.exposed_ports, &config.ports),
        ];
        let settings = settings.into_iter();
        let settings = TextPairs {
            pairs: settings
                .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
                .collect(),
            is_truncated: false,
        };
        html! {
            (pairs(texts, texts.settings, &settings))
            (pairs(texts, texts.labels, &config.labels))
        }
    }

    fn delete_form(&self, frame: &Frame, undo: Duration) -> Markup {
        let (texts, tag) = (frame.texts(), self.reference.to_string());
        html! {
            details.risky {
                summary { (texts.delete_tag) }
                div.sheet.pad {
                    p { (fill(texts.delete_tag_text, &[&self.title(), &duration_words(texts, undo)])) }
                    form method="post" action="delete" {
                        (frame.token_field())
                        input type="hidden" name="name" value=(self.repository);
                        input type="hidden" name="tag" value=(tag);
                        button.danger type="submit" { (texts.delete_tag_button) }
                    }
                }
            }
        }
    }
}

/// A command with a button that copies it. The button appears with the script.
fn command(frame: &Frame, id: &str, text: &str) -> Markup {
    let texts = frame.texts();
    html! {
        div.copy {
            code id=(id) { (text) }
            button type="button" data-copy=(id) data-done=(texts.copied) aria-describedby=(id) hidden { (texts.copy) }
        }
    }
}

/// A table of names and values that others wrote; nothing if there are none.
fn pairs(
    texts: &Texts,
    title: &str,
    TextPairs {
        pairs,
        is_truncated,
    }: &TextPairs,
) -> Markup {
    let rows = pairs.iter().map(|(name, value)| {
        html! { tr { th scope="row" { (Untrusted(name)) } td.mono { (Untrusted(value)) } } }
    });
    let bounded = bounded_rows(MAX_TEXT_BYTES, rows);
    let is_truncated = *is_truncated || bounded.count < pairs.len();
    html! {
        @if !pairs.is_empty() {
            h2 { (title) }
            div.sheet { table.pairs { tbody { (bounded.rows) } } }
            @if is_truncated { p.trail { (fill(texts.too_many_rows, &[&bounded.count])) } }
        }
    }
}
