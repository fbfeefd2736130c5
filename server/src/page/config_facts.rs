//! Facts from the config of an image, which is read leniently.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::image_facts::{MAX_ENTRIES, platform_text};
use super::lenient::{Lenient, Leniently, lenient, parse_leniently};
use super::text_pairs::TextPairs;

/// The config of an image (OCI image-spec, "Image Configuration"). A field of another type counts as
/// missing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ConfigFacts {
    pub(super) platform: Option<String>,
    /// In the form that the builder wrote.
    pub(super) created: Option<String>,
    pub(super) history: History,
    pub(super) labels: TextPairs,
    pub(super) user: Option<String>,
    pub(super) working_dir: Option<String>,
    pub(super) entrypoint: Option<String>,
    pub(super) cmd: Option<String>,
    pub(super) ports: Option<String>,
}

/// The steps that made an image.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct History {
    /// The first [`MAX_ENTRIES`] steps.
    pub(super) entries: Vec<HistoryEntry>,
    /// The number of all steps.
    pub(super) count: usize,
    /// The number of all steps that made a layer.
    pub(super) layer_count: usize,
}

/// A step that made an image.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct HistoryEntry {
    #[serde(deserialize_with = "text")]
    pub(super) created_by: String,
    /// Whether the step made no layer.
    #[serde(rename = "empty_layer", deserialize_with = "lenient")]
    pub(super) is_empty: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConfig {
    #[serde(deserialize_with = "text")]
    os: String,
    #[serde(deserialize_with = "text")]
    architecture: String,
    #[serde(deserialize_with = "text")]
    variant: String,
    #[serde(deserialize_with = "text")]
    created: String,
    #[serde(deserialize_with = "lenient")]
    history: History,
    #[serde(deserialize_with = "lenient")]
    config: RunConfig,
}

/// How containers of an image run.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RunConfig {
    #[serde(deserialize_with = "lenient")]
    labels: TextPairs,
    #[serde(deserialize_with = "text")]
    user: String,
    #[serde(deserialize_with = "text")]
    working_dir: String,
    #[serde(deserialize_with = "lenient")]
    entrypoint: Command,
    #[serde(deserialize_with = "lenient")]
    cmd: Command,
    #[serde(deserialize_with = "lenient")]
    exposed_ports: Ports,
}

/// A command as Docker shows it: `["/app","--verbose"]`, or a text.
#[derive(Default)]
struct Command(String);

/// The names of ports, such as `80/tcp`, with commas.
#[derive(Default)]
struct Ports(String);

/// Adds the objects that are read into the fields of a type.
macro_rules! lenient_objects {
    ($($type:ty),*) => {
        $(impl Lenient for $type {
            fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
                Self::deserialize(MapAccessDeserializer::new(object))
            }
        })*
    };
}

lenient_objects!(RawConfig, RunConfig, HistoryEntry);

impl Lenient for History {
    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut history = Self::default();
        while let Some(Leniently(entry)) = list.next_element::<Leniently<HistoryEntry>>()? {
            history.count += 1;
            history.layer_count += usize::from(!entry.is_empty);
            if history.entries.len() < MAX_ENTRIES {
                history.entries.push(entry);
            }
        }
        Ok(history)
    }
}

impl Lenient for Command {
    fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut text = String::new();
        while let Some(Leniently(word)) = list.next_element::<Leniently<Option<String>>>()? {
            let Some(word) = word.and_then(|word| serde_json::to_string(&word).ok()) else {
                continue;
            };
            text.push_str(if text.is_empty() { "[" } else { "," });
            text.push_str(&word);
        }
        if !text.is_empty() {
            text.push(']');
        }
        Ok(Self(text))
    }
}

impl Lenient for Ports {
    fn from_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let (mut text, mut count) = (String::new(), 0);
        while let Some((port, _)) = object.next_entry::<String, IgnoredAny>()? {
            if count < MAX_ENTRIES {
                text.push_str(if count > 0 { ", " } else { "" });
                text.push_str(&port);
            }
            count += 1;
        }
        Ok(Self(text))
    }
}

/// Reads a text; an empty one for any other value.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    lenient::<Option<String>, D>(deserializer).map(Option::unwrap_or_default)
}

impl ConfigFacts {
    /// Parses a config; nothing is known of one that is not JSON.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let config: RawConfig = parse_leniently(bytes);
        let run = config.config;
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            platform: platform_text(&config.os, &config.architecture, &config.variant),
            created: filled(config.created),
            history: config.history,
            labels: run.labels,
            user: filled(run.user),
            working_dir: filled(run.working_dir),
            entrypoint: filled(run.entrypoint.0),
            cmd: filled(run.cmd.0),
            ports: filled(run.exposed_ports.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_leniently() {
        let config = br#"{"os": "linux", "architecture": "arm64", "variant": "v8", "created": 5,
            "history": [{"created_by": "ADD root /"}, {"empty_layer": true, "created_by": null}, 7],
            "config": {"Labels": {"b": "2", "a": "1", "c": 3}, "Entrypoint": ["/app", 1, "-\"v"],
                "Cmd": [], "User": "", "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}}}"#;
        let facts = ConfigFacts::parse(config);
        assert_eq!(facts.platform.as_deref(), Some("linux/arm64/v8"));
        assert_eq!((facts.created, facts.cmd, facts.user), (None, None, None));
        let labels = facts.labels.pairs.iter().map(|(name, _)| name.as_str());
        assert_eq!(labels.collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(facts.entrypoint.as_deref(), Some(r#"["/app","-\"v"]"#));
        assert_eq!(facts.ports.as_deref(), Some("80/tcp, 443/tcp"));
        let entries = facts.history.entries.iter();
        let empty: Vec<bool> = entries.map(|entry| entry.is_empty).collect();
        assert_eq!(empty, [false, true, false]);
        for bytes in [
            &b""[..],
            b"[]",
            b"\"x\"",
            b"{\"config\": []}",
            b"null",
            b"{\"os\": \"linux\"",
        ] {
            assert_eq!(ConfigFacts::parse(bytes), ConfigFacts::default());
        }
    }
}
