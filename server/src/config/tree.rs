//! A configuration as a tree of values, each of which knows where it came from.

use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// Nobody said anything.
    Default,
    /// A line of the configuration file, counted from 1.
    File {
        /// The file.
        path: Arc<str>,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// An argument of the command line.
    Argument(&'static str),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Variable(name) => f.write_str(name),
            Self::Argument(name) => f.write_str(name),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: NodeValue,
    pub(super) origin: ValueOrigin,
}

/// What stands there. Scalars stay text until somebody knows what they should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeValue {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order in which it was written, each key once.
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(value: NodeValue, origin: ValueOrigin) -> Self {
        Self { value, origin }
    }

    /// The value under a key, where this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let NodeValue::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|(name, _)| name == key);
        entry.map(|(_, node)| node)
    }

    /// The value at a path of keys with dots between them; items of a list go by their number.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.')
            .try_fold(self, |node, key| match &node.value {
                NodeValue::List(items) => items.get(key.parse::<usize>().ok()?),
                NodeValue::Null | NodeValue::Scalar(_) | NodeValue::Map(_) => node.get(key),
            })
    }

    /// The same, for a value that is to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let NodeValue::Map(entries) = &mut self.value else {
            return None;
        };
        let entry = entries.iter_mut().find(|(name, _)| name == key);
        entry.map(|(_, node)| node)
    }

    /// `storage: filesystem` is short for `storage: {filesystem: {}}`, and `auth: htpasswd` alike.
    pub(super) fn expand_shorthand(&mut self) {
        if let NodeValue::Scalar(name) = &self.value
            && !name.is_empty()
        {
            let empty = Self::new(NodeValue::Null, self.origin.clone());
            self.value = NodeValue::Map(vec![(name.clone(), empty)]);
        }
    }

    /// All keys below it, however deep.
    pub(super) fn all_keys(&self) -> Vec<&str> {
        match &self.value {
            NodeValue::Null | NodeValue::Scalar(_) => Vec::new(),
            NodeValue::List(items) => items.iter().flat_map(Self::all_keys).collect(),
            NodeValue::Map(entries) => {
                let all = entries.iter().flat_map(|(name, node)| {
                    let below = node.all_keys();
                    std::iter::once(name.as_str()).chain(below)
                });
                all.collect()
            }
        }
    }

    /// Whether it asks for nothing: empty, or switched off.
    pub(super) fn is_empty_or_disabled(&self) -> bool {
        match &self.value {
            NodeValue::Null => true,
            NodeValue::Scalar(text) => text.is_empty(),
            NodeValue::List(items) => items.iter().all(Self::is_empty_or_disabled),
            NodeValue::Map(entries) => {
                let says = |key, word| {
                    matches!(self.get(key), Some(Self { value: NodeValue::Scalar(text), .. })
                        if super::scalars::parse_bool(text) == Ok(word))
                };
                says("enabled", false)
                    || says("disabled", true)
                    || entries.iter().all(|(_, node)| node.is_empty_or_disabled())
            }
        }
    }
}
