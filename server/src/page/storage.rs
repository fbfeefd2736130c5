//! How the disk is used: over time, by what, and what a collection would free.

use std::time::Duration;

use imgsync_oci::units::format_bytes;
use maud::{Markup, html};

use super::chart::disk_chart;
use super::format::{age, duration_words, figure, link, size};
use super::layout::{Frame, Section};
use super::repositories::{free_figure, measured_line, measuring, stored_figures};
use super::texts::fill;
use super::untrusted::Untrusted;
use crate::registry::{CollectionRecord, DiskSample, Error, Registry};
use crate::status::{StorageMeasurement, recent_samples};
use crate::upstream::UpstreamOutcome;

/// How many repositories are listed.
const LARGEST: usize = 10;

/// What the configuration says about collections, and the next one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CollectionPlan {
    pub(crate) is_enabled: bool,
    /// In Unix seconds; `None` if none is planned.
    pub(crate) next: Option<u64>,
    /// Whether a rule removes images without a tag.
    pub(crate) removes_untagged: bool,
    /// How long removed content can be restored.
    pub(crate) undo: Duration,
}

/// How the disk is used.
#[derive(Debug)]
pub(crate) struct StorageView {
    samples: Vec<DiskSample>,
    last_collection: Option<CollectionRecord>,
    plan: CollectionPlan,
    /// The name and address of each upstream, with the outcome of the last request.
    upstreams: Vec<(String, String, Option<UpstreamOutcome>)>,
}

impl StorageView {
    /// Reads the history of the disk.
    ///
    /// # Errors
    /// The errors of the store.
    pub(crate) fn gather(
        registry: &Registry,
        now: u64,
        plan: CollectionPlan,
        upstreams: Vec<(String, String, Option<UpstreamOutcome>)>,
    ) -> Result<Self, Error> {
        Ok(Self {
            samples: recent_samples(registry.disk_history()?, now),
            last_collection: registry.last_collection()?,
            plan,
            upstreams,
        })
    }

    /// Renders the view, with the sizes of the last measurement.
    pub(crate) fn render(&self, frame: &Frame, measured: Option<&StorageMeasurement>) -> String {
        let texts = frame.texts();
        let view = html! {
            h1 { (texts.storage) }
            @match measured {
                Some(measured) => {
                    p.lead { (measured_line(frame, measured)) }
                    (self.figures(frame, measured))
                }
                None => (measuring(texts)),
            }
            h2 { (texts.disk_use) }
            div.sheet.pad {
                @match disk_chart(texts, &self.samples) {
                    Some(chart) => (chart),
                    None => p.none { (texts.no_history) },
                }
            }
            p.trail { (texts.disk_use_hint) }
            h2 { (texts.collection) }
            (self.collection(frame, measured))
            @if let Some(measured) = measured { (largest(frame, measured)) }
            @if !self.upstreams.is_empty() { (self.upstream_table(frame)) }
        };
        frame.page(texts.storage, Some(Section::Storage), &view)
    }

    fn figures(&self, frame: &Frame, measured: &StorageMeasurement) -> Markup {
        let texts = frame.texts();
        let (sample, undo) = (&measured.sample, duration_words(texts, self.plan.undo));
        let trash_hint = fill(texts.trash_hint, &[&undo]);
        html! {
            dl.figures {
                (stored_figures(texts, &measured.usage))
                (figure(texts.trash, &format_bytes(sample.trash), &trash_hint))
                (free_figure(texts, sample))
            }
        }
    }

    fn collection(&self, frame: &Frame, measured: Option<&StorageMeasurement>) -> Markup {
        let texts = frame.texts();
        html! {
            div.sheet { table.pairs { tbody {
                @if let Some(measured) = measured {
                    @let usage = &measured.usage;
                    tr {
                        th scope="row" { (texts.collectable) }
                        td {
                            (format_bytes(collectable_bytes(usage.unlinked_bytes, usage.untagged_bytes, &self.plan)))
                            div.sub.none { (texts.collectable_hint) }
                        }
                    }
                    tr {
                        th scope="row" { (texts.untagged) }
                        td {
                            (format_bytes(usage.untagged_bytes))
                            div.sub.none { (fill(texts.untagged_hint, &[&usage.untagged_manifests])) }
                        }
                    }
                }
                tr { th scope="row" { (texts.last_collection) } td { (self.last_collection_text(frame)) } }
                tr {
                    th scope="row" { (texts.next_collection) }
                    td {
                        @if !self.plan.is_enabled { (texts.collection_disabled) }
                        @else { (age(texts, frame.now, self.plan.next)) }
                    }
                }
            } } }
        }
    }

    fn last_collection_text(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        let Some(last) = &self.last_collection else {
            return html! { span.none { (texts.none_yet) } };
        };
        let text = if last.is_failed {
            texts.last_collection_failed
        } else {
            texts.last_collection_result
        };
        let (before, after) = text.split_once("{}").unwrap_or((text, ""));
        let moved = format_bytes(last.stats.bytes);
        html! {
            (before) (age(texts, frame.now, Some(last.ended_at))) (fill(after, &[&moved]))
        }
    }

    fn upstream_table(&self, frame: &Frame) -> Markup {
        let texts = frame.texts();
        html! {
            h2 { (texts.upstreams) }
            div.sheet { table.wide {
                thead { tr {
                    th scope="col" { (texts.upstream) }
                    th scope="col" { (texts.address) }
                    th scope="col" { (texts.state) }
                } }
                tbody {
                    @for (name, address, last) in &self.upstreams {
                        tr {
                            th scope="row" { (name) }
                            td data-label=(texts.address) { span.mono { (address) } }
                            td data-label=(texts.state) { span { (state(frame, last.as_ref())) } }
                        }
                    }
                }
            } }
        }
    }
}

/// Returns what the next collection would free, in bytes, if nothing is too recent.
fn collectable_bytes(unlinked: u64, untagged: u64, plan: &CollectionPlan) -> u64 {
    let untagged = if plan.removes_untagged { untagged } else { 0 };
    unlinked.saturating_add(untagged)
}

fn state(frame: &Frame, last: Option<&UpstreamOutcome>) -> Markup {
    let texts = frame.texts();
    let Some(UpstreamOutcome { at, error }) = last else {
        return html! { span.none { (texts.upstream_unused) } };
    };
    let (class, text) = match error {
        Some(_) => ("state-bad", texts.upstream_bad),
        None => ("state-good", texts.upstream_good),
    };
    let (before, after) = text.split_once("{}").unwrap_or((text, ""));
    html! {
        span class=(class) { (before) (age(texts, frame.now, Some(*at))) (after) }
        @if let Some(error) = error { (Untrusted(error)) }
    }
}

fn largest(frame: &Frame, measured: &StorageMeasurement) -> Markup {
    let texts = frame.texts();
    let listed = measured.usage.largest.iter().take(LARGEST);
    html! {
        @if !measured.usage.largest.is_empty() {
            h2 { (texts.largest) }
            div.sheet { table.wide {
                thead { tr {
                    th scope="col" { (texts.repository) }
                    th.number scope="col" { (texts.size) }
                    th.number scope="col" title=(texts.shared_hint) { (texts.shared) }
                } }
                tbody {
                    @for usage in listed {
                        tr {
                            th scope="row" {
                                a href=(link("repository", &[("name", usage.repository.as_str())])) { (usage.repository) }
                            }
                            td.number data-label=(texts.size) { span { (size(Some(usage.bytes))) } }
                            td.number data-label=(texts.shared) { span { (size(Some(usage.shared_bytes))) } }
                        }
                    }
                }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::test_frame;
    use super::*;

    fn plan(removes_untagged: bool) -> CollectionPlan {
        CollectionPlan {
            is_enabled: true,
            next: None,
            removes_untagged,
            undo: Duration::from_secs(3600),
        }
    }

    #[test]
    fn untagged_images_count_only_if_a_rule_removes_them() {
        assert_eq!(collectable_bytes(3, 4, &plan(false)), 3);
        assert_eq!(collectable_bytes(3, 4, &plan(true)), 7);
    }

    #[test]
    fn the_error_of_an_upstream_is_text() {
        let failed = UpstreamOutcome {
            at: 1_000_000_000,
            error: Some("<b>\u{202e}".to_owned()),
        };
        let shown = state(&test_frame(), Some(&failed)).into_string();
        assert!(shown.contains("failed <time"), "{shown}");
        assert!(
            shown.contains("&lt;b&gt;<span class=\"mark\">U+202E"),
            "{shown}"
        );
    }
}
