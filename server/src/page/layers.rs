//! The layers of an image with the instructions that made them.

use imgsync_oci::dockerfile_instruction;
use maud::{Markup, html};

use super::bounded_rows::{MAX_LAYERS_BYTES, bounded_rows};
use super::config_facts::History;
use super::format::{short_digest, size};
use super::image_facts::MAX_ENTRIES;
use super::manifest_facts::BlobFacts;
use super::texts::{Texts, fill};
use super::untrusted::Untrusted;

/// A layer, or a step that made no layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LayerRow<'a> {
    layer: Option<&'a BlobFacts>,
    /// The instruction; `None` if the config does not say so.
    created_by: Option<&'a str>,
}

/// The first layers and steps of an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LayerRows<'a> {
    rows: Vec<LayerRow<'a>>,
    /// Whether there are more.
    is_truncated: bool,
}

/// Joins layers, the lowest first, and the history of the config. If they do not belong together, the
/// layers have no instructions.
pub(super) fn layer_rows<'a>(layers: &'a [BlobFacts], history: &'a History) -> LayerRows<'a> {
    if history.layer_count != layers.len() {
        let rows = layers.iter().take(MAX_ENTRIES);
        let row = |layer| LayerRow {
            layer: Some(layer),
            created_by: None,
        };
        return LayerRows {
            rows: rows.map(row).collect(),
            is_truncated: layers.len() > MAX_ENTRIES,
        };
    }
    let mut remaining = layers.iter();
    let rows = history.entries.iter().map(|entry| LayerRow {
        layer: if entry.is_empty {
            None
        } else {
            remaining.next()
        },
        created_by: Some(entry.created_by.as_str()),
    });
    LayerRows {
        rows: rows.collect(),
        is_truncated: history.count > history.entries.len(),
    }
}

/// Renders the layers as a table.
pub(super) fn render_layers(texts: &Texts, layers: &LayerRows<'_>) -> Markup {
    let rendered = layers.rows.iter().enumerate();
    let rendered = rendered.map(|(number, row)| row.render(texts, number + 1));
    let bounded = bounded_rows(MAX_LAYERS_BYTES, rendered);
    let is_truncated = layers.is_truncated || bounded.count < layers.rows.len();
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
    use serde_json::json;

    use super::super::config_facts::ConfigFacts;
    use super::super::texts::Language;
    use super::*;

    fn layer(text: &str) -> BlobFacts {
        BlobFacts {
            digest: Digest::of(text.as_bytes()),
            size: 1_500_000,
        }
    }

    fn history(steps: &[(&str, bool)]) -> History {
        let steps = steps.iter().map(
            |(created_by, is_empty)| json!({"created_by": created_by, "empty_layer": is_empty}),
        );
        let config = json!({"history": steps.collect::<Vec<_>>()});
        ConfigFacts::parse(config.to_string().as_bytes()).history
    }

    #[test]
    fn steps_without_a_layer_stay_between_the_layers() {
        let layers = [layer("a"), layer("b")];
        let history = history(&[("ADD a", false), ("ENV x", true), ("COPY b", false)]);
        let rows = layer_rows(&layers, &history).rows;
        let rows: Vec<_> = rows.iter().map(|row| (row.created_by, row.layer)).collect();
        let expected = [
            (Some("ADD a"), Some(&layers[0])),
            (Some("ENV x"), None),
            (Some("COPY b"), Some(&layers[1])),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_long_history_keeps_its_instructions() {
        let layers = [layer("a"), layer("b")];
        let mut steps = vec![("ADD a", false)];
        steps.extend([("ENV x", true); MAX_ENTRIES]);
        steps.push(("COPY b", false));
        let history = history(&steps);
        let rows = layer_rows(&layers, &history);
        assert_eq!((rows.rows.len(), rows.is_truncated), (MAX_ENTRIES, true));
        assert_eq!(rows.rows[0].created_by, Some("ADD a"));
    }

    #[test]
    fn a_history_of_other_layers_is_not_used() {
        let layers = [layer("a"), layer("b")];
        let history = history(&[("ADD a", false)]);
        let rows = layer_rows(&layers, &history).rows;
        assert!(
            rows.iter()
                .all(|row| row.created_by.is_none() && row.layer.is_some())
        );
    }

    #[test]
    fn hostile_commands_are_text() {
        let layers = [layer("a")];
        let history = history(&[("RUN </code><script>\u{202e}", false)]);
        let rows = layer_rows(&layers, &history);
        let table = render_layers(Language::English.texts(), &rows).into_string();
        assert!(table.contains("RUN &lt;/code&gt;&lt;script&gt;<span class=\"mark\">U+202E"));
        assert!(table.contains("1.5 MB"));
    }
}
