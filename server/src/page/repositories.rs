//! The list of repositories.

use std::collections::HashMap;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::Pagination;
use imgsync_oci::units::format_bytes;
use maud::{Markup, html};

use super::format::{age, figure, link, size};
use super::layout::{Frame, Section, search_form};
use super::texts::{Texts, fill};
use crate::registry::{DiskSample, Error, Registry, StorageUsage, Walk};
use crate::status::StorageMeasurement;

/// How many repositories are on a page.
const ROWS: usize = 50;
/// How often the script loads a page again whose sizes are not measured yet, in milliseconds.
const RELOAD_INTERVAL: u32 = 2000;
/// How many names are read at a time by a search.
const NAMES_PER_READ: usize = 1000;

/// The part of the list that is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct RepositoriesQuery {
    /// The name after which the page begins; empty for the first page.
    pub(crate) after: String,
    /// A part of the names; empty for all.
    pub(crate) search: String,
}

/// The list of repositories.
#[derive(Debug)]
pub(crate) struct RepositoriesView {
    query: RepositoriesQuery,
    rows: Vec<RepositoryRow>,
    /// The last name on this page, if there is a next one.
    next_after: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct RepositoryRow {
    name: String,
    tags: Option<usize>,
}

impl RepositoriesView {
    /// Reads a page of the list.
    ///
    /// # Errors
    /// The errors of the store and of the walk.
    pub(crate) fn gather(
        registry: &Registry,
        query: &RepositoriesQuery,
        walk: &Walk<'_>,
    ) -> Result<Self, Error> {
        let mut names = find_names(registry, query, walk)?;
        let has_more = names.len() > ROWS;
        names.truncate(ROWS);
        let next_after = names.last().filter(|_| has_more).cloned();
        let rows = names.into_iter().map(|name| {
            let tags = match name.parse::<Repository>() {
                Ok(repository) => registry.count_tags(&repository, walk)?,
                Err(_) => None,
            };
            Ok(RepositoryRow { name, tags })
        });
        Ok(Self {
            query: query.clone(),
            rows: rows.collect::<Result<_, Error>>()?,
            next_after,
        })
    }

    /// Renders the list, with the sizes of the last measurement.
    pub(crate) fn render(&self, frame: &Frame, measured: Option<&StorageMeasurement>) -> String {
        let texts = frame.texts();
        let sizes = measured.map(sizes).unwrap_or_default();
        let view = html! {
            div.row-head {
                h1 { (texts.repositories) }
                (search_form(texts, texts.search_repositories, &self.query.search, &[]))
            }
            (summary(texts, measured, self.count()))
            @if self.rows.is_empty() {
                (self.empty(frame))
            } @else {
                div.sheet { table.wide {
                    thead { tr {
                        th scope="col" { (texts.repository) }
                        th.number scope="col" { (texts.tags) }
                        th.number scope="col" { (texts.size) }
                        th.number scope="col" title=(texts.shared_hint) { (texts.shared) }
                    } }
                    tbody {
                        @for row in &self.rows { (row.render(texts, sizes.get(row.name.as_str()))) }
                    }
                } }
            }
            (self.pages(texts))
            @if let Some(measured) = measured {
                p.trail { (measured_line(frame, measured)) }
            }
        };
        frame.page(texts.repositories, Some(Section::Repositories), &view)
    }

    /// Returns the number of repositories, if all of them are on this page.
    fn count(&self) -> Option<usize> {
        let query = &self.query;
        let is_whole =
            query.after.is_empty() && query.search.is_empty() && self.next_after.is_none();
        is_whole.then_some(self.rows.len())
    }

    fn empty(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        html! {
            div.sheet.empty {
                @if self.query.search.is_empty() && self.query.after.is_empty() {
                    p { (texts.no_repositories) }
                    p { (texts.push_first) " " code { "imgsync push app:v1 " (frame.host) } }
                } @else {
                    p { (texts.no_match) }
                }
            }
        }
    }

    fn pages(&self, texts: &Texts) -> Markup {
        let search = ("search", self.query.search.as_str());
        html! {
            @if self.next_after.is_some() || !self.query.after.is_empty() {
                nav.pages aria-label=(texts.repositories) {
                    @if self.query.after.is_empty() { span {} } @else {
                        a.button href=(link(".", &[search])) { (texts.first_page) }
                    }
                    @if let Some(after) = &self.next_after {
                        a.button rel="next" href=(link(".", &[search, ("after", after)])) { (texts.next_page) }
                    }
                }
            }
        }
    }
}

impl RepositoryRow {
    fn render(&self, texts: &Texts, bytes: Option<&(u64, u64)>) -> Markup {
        html! {
            tr {
                th scope="row" { a href=(link("repository", &[("name", &self.name)])) { (self.name) } }
                td.number data-label=(texts.tags) {
                    span { @match self.tags { Some(tags) => (tags), None => "–" } }
                }
                td.number data-label=(texts.size) { span { (size(bytes.map(|(bytes, _)| *bytes))) } }
                td.number data-label=(texts.shared) { span { (size(bytes.map(|(_, shared)| *shared))) } }
            }
        }
    }
}

/// Returns one name more than fits on the page.
fn find_names(
    registry: &Registry,
    query: &RepositoriesQuery,
    walk: &Walk<'_>,
) -> Result<Vec<String>, Error> {
    let mut page = Pagination {
        limit: Some(if query.search.is_empty() {
            ROWS + 1
        } else {
            NAMES_PER_READ
        }),
        last: Some(query.after.clone()),
    };
    let mut names = Vec::new();
    loop {
        let read = registry.list_repositories(&page, walk)?;
        names.extend(
            read.names
                .into_iter()
                .filter(|name| name.contains(&query.search)),
        );
        match read.next {
            Some(next) if names.len() <= ROWS => page = next,
            _ => return Ok(names),
        }
    }
}

/// Returns the size and the shared size of repositories by their names.
fn sizes(measured: &StorageMeasurement) -> HashMap<&str, (u64, u64)> {
    let listed = measured.usage.largest.iter();
    listed
        .map(|usage| (usage.repository.as_str(), (usage.bytes, usage.shared_bytes)))
        .collect()
}

/// Tells that nothing is measured yet. The script loads the page again until it is.
pub(super) fn measuring(texts: &Texts) -> Markup {
    html! { p.lead data-reload=(RELOAD_INTERVAL) { (texts.measuring) } }
}

fn summary(texts: &Texts, measured: Option<&StorageMeasurement>, count: Option<usize>) -> Markup {
    let Some(StorageMeasurement { usage, sample, .. }) = measured else {
        return measuring(texts);
    };
    // What was measured may have changed since then.
    let (count, hint) = match count {
        Some(count) => (count.to_string(), ""),
        None => (usage.repositories.to_string(), texts.last_measurement),
    };
    html! {
        dl.figures {
            (figure(texts.repositories, &count, hint))
            (stored_figures(texts, usage))
            (free_figure(texts, sample))
        }
    }
}

/// Tells how much is stored, and what sharing saves.
pub(super) fn stored_figures(texts: &Texts, usage: &StorageUsage) -> Markup {
    let objects = fill(texts.stored_objects, &[&usage.blobs]);
    let saved = format_bytes(usage.saved_bytes());
    html! {
        (figure(texts.stored, &format_bytes(usage.blob_bytes), &objects))
        (figure(texts.saved_by_sharing, &saved, texts.saved_hint))
    }
}

/// Tells how much of the disk is free.
pub(super) fn free_figure(texts: &Texts, sample: &DiskSample) -> Markup {
    let total = fill(texts.of_total, &[&format_bytes(sample.total)]);
    figure(texts.free_on_disk, &format_bytes(sample.free), &total)
}

/// Tells how old the sizes are.
pub(super) fn measured_line(frame: &Frame, measured: &StorageMeasurement) -> Markup {
    let texts = frame.texts();
    let (before, after) = texts
        .measured
        .split_once("{}")
        .unwrap_or((texts.measured, ""));
    html! { (before) (age(texts, frame.now, Some(measured.sample.time))) (after) }
}
