//! Reads typed values from the merged tree, and records each effective setting with its origin.
//!
//! Methods that return `Option` report a problem to the diagnostics and return `None`. Start reading
//! at [`ConfigReader`].

use std::fmt;

use super::diagnostics::Diagnostics;
use super::keys::join_path;
use super::scalars::parse_bool;
use super::tree::{Node, NodeValue, ValueOrigin};
use super::types::Secret;

/// An effective setting, for the output of `imgsync-server config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EffectiveSetting {
    /// The keys from the top of the file to the value.
    pub(super) path: Vec<String>,
    pub(super) value: ShownValue,
    pub(super) origin: ValueOrigin,
}

/// A value as it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ShownValue {
    Scalar(String),
    List(Vec<String>),
    /// A value that is not printed, only that it is set.
    Secret,
}

/// Reads values by key, and collects the effective settings and the diagnostics.
pub(super) struct ConfigReader<'a> {
    pub(super) tree: &'a Node,
    pub(super) settings: Vec<EffectiveSetting>,
    pub(super) diagnostics: &'a mut Diagnostics,
}

impl ConfigReader<'_> {
    /// Reads a value; parses `default` when the key is not set.
    pub(super) fn value<T>(
        &mut self,
        path: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, origin) = self
            .text(path)?
            .unwrap_or_else(|| (default.to_owned(), ValueOrigin::Default));
        self.parse(path, text, origin, parse)
    }

    /// Reads a key that disables something that is enabled by default. Returns whether it is enabled.
    pub(super) fn enabled(&mut self, path: &str) -> Option<bool> {
        let is_disabled = self.value(path, "false", parse_bool)?;
        Some(!is_disabled)
    }

    /// Reads a value; `Some(None)` when the key is not set.
    pub(super) fn optional<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match self.text(path)? {
            Some((text, origin)) => self.parse(path, text, origin, parse).map(Some),
            None => Some(None),
        }
    }

    /// Reads a value whose text can contain secrets; `Some(None)` when the key is not set. The parsed
    /// value is recorded as it is displayed.
    pub(super) fn redacted<T: fmt::Display>(
        &mut self,
        path: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let value = self.optional(path, parse)?;
        if let (Some(value), Some(setting)) = (&value, self.settings.last_mut()) {
            setting.value = ShownValue::Scalar(value.to_string());
        }
        Some(value)
    }

    /// Reads a list; parses `default` when the key is not set. A single value is a list with one
    /// item.
    pub(super) fn list<T>(
        &mut self,
        path: &str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let node = self
            .tree
            .at(path)
            .filter(|node| node.value != NodeValue::Null);
        let (texts, origin) = match node {
            Some(node) => (self.list_texts(path, node)?, node.origin.clone()),
            None => (
                default.iter().map(ToString::to_string).collect(),
                ValueOrigin::Default,
            ),
        };
        match texts.iter().map(|text| parse(text)).collect() {
            Ok(values) => {
                if node.is_some() || !texts.is_empty() {
                    self.record(path, ShownValue::List(texts), origin);
                }
                Some(values)
            }
            Err(text) => {
                self.diagnostics.error(&origin, path, text);
                None
            }
        }
    }

    /// Reads a value, and reports an error when it is not set. `section` is the section that lacks
    /// it then.
    pub(super) fn required<T>(
        &mut self,
        path: &str,
        section: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.optional(path, parse)?;
        if value.is_none() {
            self.must_be_set(path, section);
        }
        value
    }

    /// Reports that a key of a section is not set.
    pub(super) fn must_be_set(&mut self, path: &str, section: &str) {
        let origin = self.origin(section).unwrap_or(ValueOrigin::Default);
        self.diagnostics.error(&origin, path, "must be set");
    }

    /// Returns the number of entries of a list of sections; 0 when it is not set. `expected` is the
    /// error for anything else.
    pub(super) fn count_entries(&mut self, path: &str, expected: &str) -> Option<usize> {
        let Some(node) = self.tree.at(path) else {
            return Some(0);
        };
        match &node.value {
            NodeValue::Null => Some(0),
            NodeValue::List(items) => Some(items.len()),
            NodeValue::Scalar(_) | NodeValue::Map(_) => {
                self.diagnostics.error(&node.origin, path, expected);
                None
            }
        }
    }

    /// Returns the keys of a section and their nodes; empty when the key is no section.
    pub(super) fn map_entries(&self, path: &str) -> Vec<(String, Node)> {
        match self.tree.at(path).map(|node| &node.value) {
            Some(NodeValue::Map(entries)) => entries.clone(),
            _ => Vec::new(),
        }
    }

    /// Returns whether a key is set to anything but an empty or disabled value.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.tree
            .at(path)
            .is_some_and(|node| !node.is_empty_or_disabled())
    }

    /// Returns where a key is set; `None` when it is not.
    pub(super) fn origin(&self, path: &str) -> Option<ValueOrigin> {
        self.tree.at(path).map(|node| node.origin.clone())
    }

    /// Reads a secret, which is recorded without its text.
    pub(super) fn secret(&mut self, path: &str) -> Option<Option<Secret>> {
        let value = self.text(path)?;
        Some(value.map(|(text, origin)| {
            self.record(path, ShownValue::Secret, origin);
            Secret(text)
        }))
    }

    fn record(&mut self, path: &str, value: ShownValue, origin: ValueOrigin) {
        let path = path.split('.').map(str::to_owned).collect();
        self.settings.push(EffectiveSetting {
            path,
            value,
            origin,
        });
    }

    /// Reads the texts of a list; a single value is a list with one item.
    pub(super) fn list_texts(&mut self, path: &str, node: &Node) -> Option<Vec<String>> {
        let items = match &node.value {
            NodeValue::Null => return Some(Vec::new()),
            NodeValue::Scalar(text) => return Some(vec![text.clone()]),
            NodeValue::List(items) => items.as_slice(),
            NodeValue::Map(_) => &[],
        };
        let texts = items.iter().map(|item| match &item.value {
            NodeValue::Scalar(text) => Some(text.clone()),
            _ => None,
        });
        let texts: Option<Vec<_>> = texts.collect();
        if texts.is_none() || matches!(node.value, NodeValue::Map(_)) {
            let text = "must be a list of single values";
            self.diagnostics.error(&node.origin, path, text);
            return None;
        }
        texts
    }

    fn text(&mut self, path: &str) -> Option<Option<(String, ValueOrigin)>> {
        let Some(node) = self.tree.at(path) else {
            return Some(None);
        };
        match &node.value {
            NodeValue::Null => Some(None),
            NodeValue::Scalar(text) if text.is_empty() => Some(None),
            NodeValue::Scalar(text) => Some(Some((text.clone(), node.origin.clone()))),
            NodeValue::List(_) | NodeValue::Map(_) => {
                let text = "must be a single value";
                self.diagnostics.error(&node.origin, path, text);
                None
            }
        }
    }

    fn parse<T>(
        &mut self,
        path: &str,
        text: String,
        origin: ValueOrigin,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&text) {
            Ok(value) => {
                self.record(path, ShownValue::Scalar(text), origin);
                Some(value)
            }
            Err(text) => {
                self.diagnostics.error(&origin, path, text);
                None
            }
        }
    }

    /// Reads a section with any keys, each with a single value: `log.fields`.
    pub(super) fn string_map(&mut self, path: &str) -> Option<Vec<(String, String)>> {
        let mut pairs = Vec::new();
        for (key, node) in self.map_entries(path) {
            let text = match &node.value {
                NodeValue::Null => String::new(),
                NodeValue::Scalar(text) => text.clone(),
                NodeValue::List(_) | NodeValue::Map(_) => {
                    let text = "must be a single value";
                    self.diagnostics
                        .error(&node.origin, &join_path(path, &key), text);
                    return None;
                }
            };
            self.record_map_entry(path, &key, ShownValue::Scalar(text.clone()), node.origin);
            pairs.push((key, text));
        }
        Some(pairs)
    }

    /// Records a setting whose last key may contain dots.
    pub(super) fn record_map_entry(
        &mut self,
        path: &str,
        key: &str,
        value: ShownValue,
        origin: ValueOrigin,
    ) {
        self.record(path, value, origin);
        if let Some(setting) = self.settings.last_mut() {
            setting.path.push(key.to_owned());
        }
    }
}
