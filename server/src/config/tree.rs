//! The untyped configuration: a tree of values, each with its origin. Start reading at [`Node`].

use std::fmt;
use std::sync::Arc;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    /// The built-in default.
    Default,
    /// The configuration file.
    File {
        /// The path of the file.
        path: Arc<str>,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A command-line option, by its name.
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

/// A value and its origin.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: NodeValue,
    pub(super) origin: ValueOrigin,
}

/// An untyped value. Scalars stay text until a reader parses them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeValue {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the file; each key occurs once.
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(value: NodeValue, origin: ValueOrigin) -> Self {
        Self { value, origin }
    }

    /// Returns the value of a key; `None` when this is not a map or the key is missing.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let NodeValue::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|(name, _)| name == key);
        entry.map(|(_, node)| node)
    }

    /// Returns the node at a dotted path; a number is the index of a list item.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.')
            .try_fold(self, |node, key| match &node.value {
                NodeValue::List(items) => items.get(key.parse::<usize>().ok()?),
                _ => node.get(key),
            })
    }

    /// Returns the value of a key for changing it; `None` as in [`Node::get`].
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let NodeValue::Map(entries) = &mut self.value else {
            return None;
        };
        let entry = entries.iter_mut().find(|(name, _)| name == key);
        entry.map(|(_, node)| node)
    }

    /// Expands `storage: filesystem`, which is short for `storage: {filesystem: {}}`; also for `auth`.
    pub(super) fn expand_shorthand(&mut self) {
        if let NodeValue::Scalar(name) = &self.value
            && !name.is_empty()
        {
            let empty = Self::new(NodeValue::Null, self.origin.clone());
            self.value = NodeValue::Map(vec![(name.clone(), empty)]);
        }
    }

    /// Returns all keys below this node, at any depth.
    pub(super) fn all_keys(&self) -> Vec<&str> {
        match &self.value {
            NodeValue::Null | NodeValue::Scalar(_) => Vec::new(),
            NodeValue::List(items) => items.iter().flat_map(Self::all_keys).collect(),
            NodeValue::Map(entries) => {
                let keys = entries
                    .iter()
                    .flat_map(|(name, node)| std::iter::once(name.as_str()).chain(node.all_keys()));
                keys.collect()
            }
        }
    }

    /// Returns whether the node is empty, or a section with `enabled: false` or `disabled: true`.
    pub(super) fn is_empty_or_disabled(&self) -> bool {
        match &self.value {
            NodeValue::Null => true,
            NodeValue::Scalar(text) => text.is_empty(),
            NodeValue::List(items) => items.iter().all(Self::is_empty_or_disabled),
            NodeValue::Map(entries) => {
                let has_flag = |key, expected| {
                    matches!(self.get(key), Some(Self { value: NodeValue::Scalar(text), .. })
                        if super::scalars::parse_bool(text) == Ok(expected))
                };
                has_flag("enabled", false)
                    || has_flag("disabled", true)
                    || entries.iter().all(|(_, node)| node.is_empty_or_disabled())
            }
        }
    }
}
