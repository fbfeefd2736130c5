//! The layers of an image with the instructions that made them.

use imgsync_oci::dockerfile_instruction;
use imgsync_oci::manifest::Descriptor;
use maud::{Markup, html};

use super::bounded_rows::{MAX_LAYERS_BYTES, bounded_rows};
use super::format::{short_digest, size};
use super::image_facts::{HistoryEntry, MAX_ENTRIES};
use super::texts::{Texts, fill};
use super::untrusted::Untrusted;

/// A layer, or a step that made no layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LayerRow<'a> {
    layer: Option<&'a Descriptor>,
    /// The instruction; `None` if the config does not say so.
    created_by: Option<&'a str>,
}

/// Joins layers, the lowest first, and the history of the config. If they do not belong together, the
/// layers have no instructions.
pub(super) fn layer_rows<'a>(
    layers: &'a [Descriptor],
    history: &'a [HistoryEntry],
) -> Vec<LayerRow<'a>> {
    let made = history.iter().filter(|entry| !entry.is_empty).count();
    if made != layers.len() {
        let rows = layers.iter().take(MAX_ENTRIES);
        let row = |layer| LayerRow {
            layer: Some(layer),
            created_by: None,
        };
        return rows.map(row).collect();
    }
    let mut remaining = layers.iter();
    let rows = history.iter().map(|entry| LayerRow {
        layer: if entry.is_empty {
            None
        } else {
            remaining.next()
        },
        created_by: Some(entry.created_by.as_str()),
    });
    rows.collect()
}

/// Renders the layers as a table. `count` is the number of layers of the image.
pub(super) fn render_layers(texts: &Texts, rows: &[LayerRow<'_>], count: usize) -> Markup {
    let rendered = rows.iter().enumerate();
    let rendered = rendered.map(|(number, row)| row.render(texts, number + 1));
    let bounded = bounded_rows(MAX_LAYERS_BYTES, rendered);
    let shown = rows.iter().take(bounded.count);
    let shown = shown.filter(|row| row.layer.is_some()).count();
    let is_truncated = shown < count || bounded.count < rows.len();
    html! {
        div.sheet { table.wide.layers {
            thead { tr {
                th.number scope="col" { "#" }
                th scope="col" { (texts.command) }
                th scope="col" { (texts.digest) }
                th.number scope="col" { (texts.size) }
            } }
            tbody { (bounded.rows) }
        } }
        @if is_truncated { p.trail { (fill(texts.too_many_rows, &[&bounded.count])) } }
    }
}

impl LayerRow<'_> {
    fn render(&self, texts: &Texts, number: usize) -> Markup {
        let created_by = self.created_by.filter(|text| !text.trim().is_empty());
        html! {
            tr.step[self.layer.is_none()] {
                td.number { (number) }
                td.command {
                    @match created_by {
                        Some(created_by) => code { (Untrusted(&dockerfile_instruction(created_by))) },
                        None => span.none { (texts.no_command) },
                    }
                }
                td.digest data-label=[self.layer.map(|_| texts.digest)] {
                    @if let Some(layer) = self.layer { span { (short_digest(&layer.digest)) } }
                }
                td.number data-label=[self.layer.map(|_| texts.size)] {
                    @if let Some(layer) = self.layer { span { (size(Some(layer.size))) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use imgsync_oci::Digest;

    use super::super::texts::Language;
    use super::*;

    fn layer(text: &str) -> Descriptor {
        Descriptor::new("layer", Digest::of(text.as_bytes()), 1_500_000)
    }

    fn step(created_by: &str, is_empty: bool) -> HistoryEntry {
        HistoryEntry {
            created_by: created_by.to_owned(),
            is_empty,
        }
    }

    #[test]
    fn steps_without_a_layer_stay_between_the_layers() {
        let layers = [layer("a"), layer("b")];
        let history = [
            step("ADD a", false),
            step("ENV x", true),
            step("COPY b", false),
        ];
        let rows = layer_rows(&layers, &history);
        let rows: Vec<_> = rows.iter().map(|row| (row.created_by, row.layer)).collect();
        let expected = [
            (Some("ADD a"), Some(&layers[0])),
            (Some("ENV x"), None),
            (Some("COPY b"), Some(&layers[1])),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_history_of_other_layers_is_not_used() {
        let layers = [layer("a"), layer("b")];
        let history = [step("ADD a", false)];
        let rows = layer_rows(&layers, &history);
        assert!(
            rows.iter()
                .all(|row| row.created_by.is_none() && row.layer.is_some())
        );
    }

    #[test]
    fn hostile_commands_are_text() {
        let (layers, history) = ([layer("a")], [step("RUN </code><script>\u{202e}", false)]);
        let rows = layer_rows(&layers, &history);
        let table = render_layers(Language::English.texts(), &rows, 1).into_string();
        assert!(table.contains("RUN &lt;/code&gt;&lt;script&gt;<span class=\"mark\">U+202E"));
        assert!(table.contains("1.5 MB"));
    }
}
