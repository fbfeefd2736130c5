//! Typed values out of a tree, and a record of each: what it is and where it came from.

use super::known::join;
use super::problem::Findings;
use super::tree::{Node, Origin, Value};
use super::types::Secret;

/// A value that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The keys that lead to it.
    pub(super) path: Vec<String>,
    pub(super) shown: Shown,
    pub(super) origin: Origin,
}

/// What is told of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    One(String),
    Items(Vec<String>),
    /// That there is one.
    Secret,
}

/// Takes values out of a tree. What cannot be taken is told, and yields nothing.
pub(super) struct Reader<'a> {
    pub(super) tree: &'a Node,
    pub(super) entries: Vec<Entry>,
    pub(super) findings: &'a mut Findings,
}

impl Reader<'_> {
    /// A value, the default where nothing is said.
    pub(super) fn value<T>(
        &mut self,
        path: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, origin) = self
            .text(path)?
            .unwrap_or_else(|| (default.to_owned(), Origin::Default));
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
        let said = self.tree.at(path).filter(|node| node.value != Value::Null);
        let (texts, origin) = match said {
            Some(node) => (self.texts(path, node)?, node.origin.clone()),
            None => (
                default.iter().map(ToString::to_string).collect(),
                Origin::Default,
            ),
        };
        match texts.iter().map(|text| parse(text)).collect() {
            Ok(values) => {
                if said.is_some() || !texts.is_empty() {
                    self.record(path, Shown::Items(texts), origin);
                }
                Some(values)
            }
            Err(text) => {
                self.findings.problem(&origin, path, text);
                None
            }
        }
    }

    /// The keys below a section that are free, each with what it holds.
    pub(super) fn free(&self, path: &str) -> Vec<(String, Node)> {
        match self.tree.at(path).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.clone(),
            Some(Value::Null | Value::Scalar(_) | Value::List(_)) | None => Vec::new(),
        }
    }

    /// Where a key stands, if it does.
    pub(super) fn origin(&self, path: &str) -> Option<Origin> {
        self.tree.at(path).map(|node| node.origin.clone())
    }

    /// What a key says, and a record without its words.
    pub(super) fn secret(&mut self, path: &str) -> Option<Option<Secret>> {
        let said = self.text(path)?;
        Some(said.map(|(text, origin)| {
            self.record(path, Shown::Secret, origin);
            Secret(text)
        }))
    }

    pub(super) fn record(&mut self, path: &str, shown: Shown, origin: Origin) {
        let path = path.split('.').map(str::to_owned).collect();
        self.entries.push(Entry {
            path,
            shown,
            origin,
        });
    }

    /// The words of a list.
    pub(super) fn texts(&mut self, path: &str, node: &Node) -> Option<Vec<String>> {
        let items = match &node.value {
            Value::Null => return Some(Vec::new()),
            Value::Scalar(text) => return Some(vec![text.clone()]),
            Value::List(items) => items.as_slice(),
            Value::Map(_) => &[],
        };
        let words = items.iter().map(|item| match &item.value {
            Value::Scalar(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        });
        let words: Option<Vec<_>> = words.collect();
        if words.is_none() || matches!(node.value, Value::Map(_)) {
            let text = "must be a list of single values";
            self.findings.problem(&node.origin, path, text);
            return None;
        }
        words
    }

    fn text(&mut self, path: &str) -> Option<Option<(String, Origin)>> {
        let Some(node) = self.tree.at(path) else {
            return Some(None);
        };
        match &node.value {
            Value::Null => Some(None),
            Value::Scalar(text) if text.is_empty() => Some(None),
            Value::Scalar(text) => Some(Some((text.clone(), node.origin.clone()))),
            Value::List(_) | Value::Map(_) => {
                let text = "must be a single value";
                self.findings.problem(&node.origin, path, text);
                None
            }
        }
    }

    fn parse<T>(
        &mut self,
        path: &str,
        text: String,
        origin: Origin,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&text) {
            Ok(value) => {
                self.record(path, Shown::One(text), origin);
                Some(value)
            }
            Err(text) => {
                self.findings.problem(&origin, path, text);
                None
            }
        }
    }

    /// Free keys whose values are words: `log.fields`.
    pub(super) fn words(&mut self, path: &str) -> Option<Vec<(String, String)>> {
        let mut words = Vec::new();
        for (key, node) in self.free(path) {
            let text = match &node.value {
                Value::Null => String::new(),
                Value::Scalar(text) => text.clone(),
                Value::List(_) | Value::Map(_) => {
                    let text = "must be a single value";
                    self.findings.problem(&node.origin, &join(path, &key), text);
                    return None;
                }
            };
            self.free_entry(path, &key, Shown::One(text.clone()), node.origin);
            words.push((key, text));
        }
        Some(words)
    }

    /// The same record, for a key that may have dots in it.
    pub(super) fn free_entry(&mut self, path: &str, key: &str, shown: Shown, origin: Origin) {
        let mut path: Vec<_> = path.split('.').map(str::to_owned).collect();
        path.push(key.to_owned());
        self.entries.push(Entry {
            path,
            shown,
            origin,
        });
    }
}
