//! A repository with its tags, the latest push first.

use imgsync_oci::units::format_bytes;
use imgsync_oci::{Digest, Repository, Tag};
use maud::{Markup, html};
use std::time::Duration;

use super::deleted_tags::deleted_tags;
use super::format::{age, day, duration_words, link, short_digest, size};
use super::image_facts::ImageSummary;
use super::image_reader::ImageReader;
use super::layout::{Frame, Section, search_form};
use super::repositories::measured_line;
use super::texts::{Texts, fill};
use super::untrusted::ShortUntrusted;
use crate::registry::{DeletedTag, Error, Registry, RepositoryUsage, Walk};
use crate::status::StorageMeasurement;

/// How many tags are on a page.
const ROWS: usize = 25;
/// How many platforms of a tag are shown, so that a page stays small.
const SHOWN_PLATFORMS: usize = 12;

/// The part of a repository that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryQuery {
    pub(crate) repository: Repository,
    /// The number of the page, from 1.
    pub(crate) page: usize,
    /// A part of the names of tags; empty for all.
    pub(crate) search: String,
    /// How long a deletion can be undone; `None` if the visitor may not delete.
    pub(crate) undo: Option<Duration>,
}

/// A repository with its tags.
#[derive(Debug)]
pub(crate) struct RepositoryView {
    query: RepositoryQuery,
    rows: Vec<TagRow>,
    /// The number of tags that match the search.
    tags: usize,
    /// Whether there are more tags than are sorted.
    is_truncated: bool,
    /// Empty if the visitor may not delete.
    deleted: Vec<DeletedTag>,
}

#[derive(Debug)]
struct TagRow {
    tag: Tag,
    digest: Option<Digest>,
    pushed_at: Option<u64>,
    /// The day of the last pull, in days since 1970; `None` if there was none.
    pulled_on: Option<u64>,
    summary: Option<ImageSummary>,
}

impl RepositoryView {
    /// Reads a page of the tags.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] if there is no such repository; the errors of the store and of the walk.
    pub(crate) fn gather(
        registry: &Registry,
        query: &RepositoryQuery,
        walk: &Walk<'_>,
    ) -> Result<Self, Error> {
        let repository = &query.repository;
        let listed = registry.recent_tags(repository, &query.search, walk)?;
        let start = (query.page - 1).saturating_mul(ROWS);
        let shown = listed.tags.iter().skip(start).take(ROWS).cloned();
        let facts = registry.facts_of_tags(repository, shown.collect());
        let pulls = registry.known_pulls(repository, &facts).unwrap_or_default();
        let reader = ImageReader::new(registry, repository, walk);
        let rows = facts.into_iter().map(|facts| {
            let summary = match &facts.digest {
                Some(digest) => reader.summarize(digest)?,
                None => None,
            };
            Ok(TagRow {
                pulled_on: facts
                    .digest
                    .as_ref()
                    .and_then(|digest| pulls.get(digest).copied()),
                tag: facts.tag,
                digest: facts.digest,
                pushed_at: facts.pushed_at,
                summary,
            })
        });
        let deleted = match query.undo {
            Some(undo) => registry.deleted_tags(repository, undo, walk)?,
            None => Vec::new(),
        };
        Ok(Self {
            query: query.clone(),
            rows: rows.collect::<Result<_, Error>>()?,
            tags: listed.tags.len(),
            is_truncated: listed.is_truncated,
            deleted,
        })
    }

    /// Renders the repository, with its size in the last measurement.
    pub(crate) fn render(&self, frame: &Frame, measured: Option<&StorageMeasurement>) -> String {
        let texts = frame.texts();
        let name = self.query.repository.as_str();
        let view = html! {
            p.trail { a href="." { (texts.repositories) } }
            div.row-head {
                div {
                    h1 { (name) }
                    p.lead { (fill(texts.tags_summary, &[&self.tags])) (self.sizes(frame, measured)) }
                }
                (search_form(texts, texts.search_tags, &self.query.search, &[("name", name)]))
            }
            @if self.is_truncated {
                p.lead { (fill(texts.too_many_tags, &[&self.tags])) }
            }
            (self.table(frame))
            (self.pages(texts))
            (deleted_tags(frame, &self.query.repository, &self.deleted))
            @if let Some(undo) = self.query.undo { (delete_form(frame, &self.query.repository, undo)) }
        };
        frame.page(name, Some(Section::Repositories), &view)
    }

    fn sizes(&self, frame: &Frame, measured: Option<&StorageMeasurement>) -> Markup {
        let texts = frame.texts();
        let usage = measured.and_then(|measured| {
            let mut listed = measured.usage.largest.iter();
            listed.find(|usage| usage.repository == self.query.repository)
        });
        html! {
            @if let (Some(measured), Some(RepositoryUsage { bytes, shared_bytes, .. })) = (measured, usage) {
                " · " (texts.size) " " (format_bytes(*bytes))
                " · " span title=(texts.shared_hint) { (texts.shared) " " (format_bytes(*shared_bytes)) }
                " · " (measured_line(frame, measured))
            }
        }
    }

    fn table(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        if self.rows.is_empty() {
            let is_search = !self.query.search.is_empty() || self.query.page > 1;
            let text = if is_search {
                texts.no_match
            } else {
                texts.no_tags
            };
            return html! { div.sheet.empty { (text) } };
        }
        html! {
            div.sheet { table.wide {
                thead { tr {
                    th scope="col" { (texts.tag) }
                    th scope="col" { (texts.digest) }
                    th scope="col" { (texts.platforms) }
                    th.number scope="col" { (texts.size) }
                    th scope="col" { (texts.pushed) }
                    th scope="col" { (texts.pulled) }
                } }
                tbody { @for row in &self.rows { (row.render(frame, self.query.repository.as_str())) } }
            } }
        }
    }

    fn pages(&self, texts: &Texts) -> Markup {
        let (page, pages) = (self.query.page, self.tags.div_ceil(ROWS));
        let to = |page: usize| {
            let name = ("name", self.query.repository.as_str());
            let search = ("search", self.query.search.as_str());
            link("repository", &[name, search, ("page", &page.to_string())])
        };
        html! {
            @if pages > 1 {
                nav.pages aria-label=(texts.tags) {
                    @if page > 1 { a.button rel="prev" href=(to(page - 1)) { (texts.previous_page) } } @else { span {} }
                    span { (fill(texts.page_of, &[&page, &pages])) }
                    @if page < pages { a.button rel="next" href=(to(page + 1)) { (texts.next_page) } } @else { span {} }
                }
            }
        }
    }
}

impl TagRow {
    fn render(&self, frame: &Frame, name: &str) -> Markup {
        let texts = frame.texts();
        let to_image = link("image", &[("name", name), ("reference", self.tag.as_str())]);
        let platforms = self.summary.iter().flat_map(|summary| &summary.platforms);
        html! {
            tr {
                th scope="row" { a href=(to_image) { (self.tag) } }
                td.digest data-label=(texts.digest) {
                    span { @match &self.digest { Some(digest) => (short_digest(digest)), None => span.none { "–" } } }
                }
                td data-label=(texts.platforms) { span {
                    @for platform in platforms.clone().take(SHOWN_PLATFORMS) {
                        span.tag { (ShortUntrusted(platform)) }
                    }
                    @if platforms.count() > SHOWN_PLATFORMS { "…" }
                } }
                td.number data-label=(texts.size) {
                    span { (size(self.summary.as_ref().map(|summary| summary.bytes))) }
                }
                td.time data-label=(texts.pushed) { span { (age(texts, frame.now, self.pushed_at)) } }
                td.time data-label=(texts.pulled) {
                    span {
                        @match self.pulled_on {
                            Some(pulled_on) => (day(texts, frame.now, pulled_on)),
                            None => span.none { (texts.never_pulled) },
                        }
                    }
                }
            }
        }
    }
}

fn delete_form(frame: &Frame, repository: &Repository, undo: Duration) -> Markup {
    let texts = frame.texts();
    html! {
        details.risky {
            summary { (texts.delete_repository) }
            div.sheet.pad {
                p { (fill(texts.delete_repository_text, &[repository, &duration_words(texts, undo)])) }
                form method="post" action="delete" {
                    (frame.token_field())
                    input type="hidden" name="name" value=(repository);
                    button.danger type="submit" { (texts.delete_repository_button) }
                }
            }
        }
    }
}
