//! A configuration as a tree of values, each of which knows where it came from.

use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
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

impl fmt::Display for Origin {
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
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What stands there. Scalars stay text until somebody knows what they should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order in which it was written, each key once.
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// The value under a key, where this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|(name, _)| name == key);
        entry.map(|(_, node)| node)
    }

    /// The value at a path of keys with dots between them; items of a list go by their number.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.')
            .try_fold(self, |node, key| match &node.value {
                Value::List(items) => items.get(key.parse::<usize>().ok()?),
                Value::Null | Value::Scalar(_) | Value::Map(_) => node.get(key),
            })
    }

    /// The same, for a value that is to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let entry = entries.iter_mut().find(|(name, _)| name == key);
        entry.map(|(_, node)| node)
    }

    /// `storage: filesystem` is short for `storage: {filesystem: {}}`, and `auth: htpasswd` alike.
    pub(super) fn unfold(&mut self) {
        if let Value::Scalar(name) = &self.value
            && !name.is_empty()
        {
            let empty = Self::new(Value::Null, self.origin.clone());
            self.value = Value::Map(vec![(name.clone(), empty)]);
        }
    }

    /// All keys below it, however deep.
    pub(super) fn keys(&self) -> Vec<&str> {
        match &self.value {
            Value::Null | Value::Scalar(_) => Vec::new(),
            Value::List(items) => items.iter().flat_map(Self::keys).collect(),
            Value::Map(entries) => {
                let all = entries.iter().flat_map(|(name, node)| {
                    let below = node.keys();
                    std::iter::once(name.as_str()).chain(below)
                });
                all.collect()
            }
        }
    }

    /// Whether it asks for nothing: empty, or switched off.
    pub(super) fn is_silent(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Scalar(text) => text.is_empty(),
            Value::List(items) => items.iter().all(Self::is_silent),
            Value::Map(entries) => {
                let says = |key, word| {
                    matches!(self.get(key), Some(Self { value: Value::Scalar(text), .. })
                        if super::words::boolean(text) == Ok(word))
                };
                says("enabled", false)
                    || says("disabled", true)
                    || entries.iter().all(|(_, node)| node.is_silent())
            }
        }
    }
}
