//! Typed values out of a tree, and a record of each: what it is and where it came from.

use super::diagnostics::Diagnostics;
use super::keys::join_path;
use super::tree::{Node, NodeValue, ValueOrigin};
use super::types::Secret;

/// A value that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EffectiveSetting {
    /// The keys that lead to it.
    pub(super) path: Vec<String>,
    pub(super) value: ShownValue,
    pub(super) origin: ValueOrigin,
}

/// What is told of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ShownValue {
    Scalar(String),
    List(Vec<String>),
    /// That there is one.
    Secret,
}

/// Takes values out of a tree. What cannot be taken is told, and yields nothing.
pub(super) struct ConfigReader<'a> {
    pub(super) tree: &'a Node,
    pub(super) settings: Vec<EffectiveSetting>,
    pub(super) diagnostics: &'a mut Diagnostics,
}

impl ConfigReader<'_> {
    /// A value, the default where nothing is said.
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

    /// A value that need not be there.
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

    /// Values, in the order in which they stand, the default where nothing is said. One value alone
    /// is taken as a list of it.
    pub(super) fn list<T>(
        &mut self,
        path: &str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let said = self
            .tree
            .at(path)
            .filter(|node| node.value != NodeValue::Null);
        let (texts, origin) = match said {
            Some(node) => (self.list_texts(path, node)?, node.origin.clone()),
            None => (
                default.iter().map(ToString::to_string).collect(),
                ValueOrigin::Default,
            ),
        };
        match texts.iter().map(|text| parse(text)).collect() {
            Ok(values) => {
                if said.is_some() || !texts.is_empty() {
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

    /// The keys below a section that are free, each with what it holds.
    pub(super) fn map_entries(&self, path: &str) -> Vec<(String, Node)> {
        match self.tree.at(path).map(|node| &node.value) {
            Some(NodeValue::Map(entries)) => entries.clone(),
            Some(NodeValue::Null | NodeValue::Scalar(_) | NodeValue::List(_)) | None => Vec::new(),
        }
    }

    /// Where a key stands, if it does.
    pub(super) fn origin(&self, path: &str) -> Option<ValueOrigin> {
        self.tree.at(path).map(|node| node.origin.clone())
    }

    /// What a key says, and a record without its words.
    pub(super) fn secret(&mut self, path: &str) -> Option<Option<Secret>> {
        let said = self.text(path)?;
        Some(said.map(|(text, origin)| {
            self.record(path, ShownValue::Secret, origin);
            Secret(text)
        }))
    }

    pub(super) fn record(&mut self, path: &str, shown: ShownValue, origin: ValueOrigin) {
        let path = path.split('.').map(str::to_owned).collect();
        self.settings.push(EffectiveSetting {
            path,
            value: shown,
            origin,
        });
    }

    /// The words of a list.
    pub(super) fn list_texts(&mut self, path: &str, node: &Node) -> Option<Vec<String>> {
        let items = match &node.value {
            NodeValue::Null => return Some(Vec::new()),
            NodeValue::Scalar(text) => return Some(vec![text.clone()]),
            NodeValue::List(items) => items.as_slice(),
            NodeValue::Map(_) => &[],
        };
        let words = items.iter().map(|item| match &item.value {
            NodeValue::Scalar(text) => Some(text.clone()),
            NodeValue::Null | NodeValue::List(_) | NodeValue::Map(_) => None,
        });
        let words: Option<Vec<_>> = words.collect();
        if words.is_none() || matches!(node.value, NodeValue::Map(_)) {
            let text = "must be a list of single values";
            self.diagnostics.error(&node.origin, path, text);
            return None;
        }
        words
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

    /// Free keys whose values are words: `log.fields`.
    pub(super) fn string_map(&mut self, path: &str) -> Option<Vec<(String, String)>> {
        let mut words = Vec::new();
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
            words.push((key, text));
        }
        Some(words)
    }

    /// The same record, for a key that may have dots in it.
    pub(super) fn record_map_entry(
        &mut self,
        path: &str,
        key: &str,
        shown: ShownValue,
        origin: ValueOrigin,
    ) {
        let mut path: Vec<_> = path.split('.').map(str::to_owned).collect();
        path.push(key.to_owned());
        self.settings.push(EffectiveSetting {
            path,
            value: shown,
            origin,
        });
    }
}
