//! Parses YAML into a tree of values with their lines. Start reading at [`parse`].

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::tree::{Node, NodeValue, ValueOrigin};

const MAX_YAML_DEPTH: usize = 64;
/// The most values in one document. Values that aliases repeat count each time, against documents
/// that expand without bound.
const MAX_YAML_NODES: usize = 20_000;

/// The text is not YAML, or uses YAML that a configuration cannot contain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    /// The line, counted from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

/// The sections of the stock registry whose second occurrence replaces the first. It merges the
/// other ones.
const REPLACED_SECTIONS: [&str; 2] = ["storage", "auth"];

/// Parses the first document of a text. Anchors, aliases and merge keys are supported. Duplicate
/// keys are treated as in the stock registry, and `on_duplicate` is called: mappings are merged,
/// except for [`REPLACED_SECTIONS`], and of other values the last one is used.
///
/// # Errors
/// When the text is not YAML, nested more than 64 levels deep, or has more than 20,000 values.
pub(super) fn parse(
    text: &str,
    origin: &dyn Fn(usize) -> ValueOrigin,
    on_duplicate: &mut dyn FnMut(&str, ValueOrigin),
) -> Result<Node, YamlError> {
    let mut builder = TreeBuilder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        origin,
        on_duplicate,
    };
    loop {
        match builder.next()? {
            (Event::Nothing | Event::StreamStart | Event::DocumentStart(_), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, span) => {
                return Ok(Node::new(NodeValue::Null, origin(span.start.line())));
            }
            (event, span) => return builder.node(event, span, span.start.line(), 0),
        }
    }
}

struct TreeBuilder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    origin: &'a dyn Fn(usize) -> ValueOrigin,
    on_duplicate: &'a mut dyn FnMut(&str, ValueOrigin),
}

impl<'a> TreeBuilder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next() {
            Some(next) => next.map_err(YamlError::from),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn count_nodes(&mut self, nodes: usize, line: usize, depth: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > MAX_YAML_NODES || depth > MAX_YAML_DEPTH {
            return Err(yaml_error(line, "too many values, or nested too deep"));
        }
        Ok(())
    }

    /// Builds the value that starts with an event. `line` is the line of its key, or of the value
    /// itself without a key.
    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        line: usize,
        depth: usize,
    ) -> Result<Node, YamlError> {
        self.count_nodes(1, line, depth)?;
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| yaml_error(line, "the alias refers to no anchor"))?;
                self.count_nodes(count_values(&node), line, depth)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, _) => (scalar(text.into_owned(), style), anchor),
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(yaml_error(span.start.line(), "a value is missing"));
            }
        };
        let node = Node::new(value, (self.origin)(line));
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<NodeValue, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(NodeValue::List(items)),
                (event, span) => {
                    items.push(self.node(event, span, span.start.line(), depth + 1)?);
                }
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<NodeValue, YamlError> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(key, ..), span) => (key.into_owned(), span.start.line()),
                (_, span) => {
                    return Err(yaml_error(
                        span.start.line(),
                        "a key must be a single value",
                    ));
                }
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, line, depth + 1)?;
            if key == "<<" {
                merged.push((node, line));
            } else if let Some((_, old)) = entries.iter_mut().find(|(name, _)| *name == key) {
                (self.on_duplicate)(&key, node.origin.clone());
                if depth == 0 && REPLACED_SECTIONS.contains(&&*key) {
                    *old = node;
                } else {
                    merge_duplicate(old, node);
                }
            } else {
                entries.push((key, node));
            }
        }
        for (node, line) in merged {
            merge(&mut entries, node, line)?;
        }
        Ok(NodeValue::Map(entries))
    }
}

/// Merges the second value of a duplicate key into the first one.
fn merge_duplicate(old: &mut Node, new: Node) {
    match (&mut old.value, new.value) {
        (NodeValue::Map(old), NodeValue::Map(entries)) => {
            for (key, node) in entries {
                match old.iter_mut().find(|(name, _)| *name == key) {
                    Some((_, before)) => merge_duplicate(before, node),
                    None => old.push((key, node)),
                }
            }
        }
        (_, value) => {
            *old = Node::new(value, new.origin);
        }
    }
}

/// Adds the keys of a merge key (`<<`) that the section does not set itself.
fn merge(entries: &mut Vec<(String, Node)>, node: Node, line: usize) -> Result<(), YamlError> {
    match node.value {
        NodeValue::Map(merged) => {
            for (key, node) in merged {
                if !entries.iter().any(|(name, _)| *name == key) {
                    entries.push((key, node));
                }
            }
            Ok(())
        }
        NodeValue::List(items) => items
            .into_iter()
            .try_for_each(|item| merge(entries, item, line)),
        NodeValue::Null | NodeValue::Scalar(_) => Err(yaml_error(
            line,
            "the value of << must be a mapping, or a list of mappings",
        )),
    }
}

fn scalar(text: String, style: ScalarStyle) -> NodeValue {
    let is_null = matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
    if style == ScalarStyle::Plain && is_null {
        NodeValue::Null
    } else {
        NodeValue::Scalar(text)
    }
}

fn count_values(node: &Node) -> usize {
    1 + match &node.value {
        NodeValue::Null | NodeValue::Scalar(_) => 0,
        NodeValue::List(items) => items.iter().map(count_values).sum(),
        NodeValue::Map(entries) => entries.iter().map(|(_, node)| count_values(node)).sum(),
    }
}

fn yaml_error(line: usize, text: &str) -> YamlError {
    YamlError {
        line,
        text: text.to_owned(),
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        yaml_error(error.marker().line(), error.info())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, YamlError> {
        let origin = |line| ValueOrigin::File {
            path: "f".into(),
            line,
        };
        parse(text, &origin, &mut |_, _| {})
    }

    fn text(node: &Node, path: &str) -> String {
        let node = node.at(path).unwrap();
        format!("{:?} {}", node.value, node.origin)
    }

    #[test]
    fn values_keep_their_lines() {
        let node = read(
            "# talk\nhttp:\n  addr: :5000\n  debug: {addr: ':5001', empty: }\n  headers:\n    \
             X-Content-Type-Options: [nosniff]\nyes: no\nversion: 0.1\n",
        )
        .unwrap();
        assert_eq!(text(&node, "http.addr"), "Scalar(\":5000\") f:3");
        assert_eq!(text(&node, "http.debug.addr"), "Scalar(\":5001\") f:4");
        assert_eq!(text(&node, "http.debug.empty"), "Null f:4");
        assert_eq!(text(&node, "yes"), "Scalar(\"no\") f:7");
        assert_eq!(text(&node, "version"), "Scalar(\"0.1\") f:8");
        let header = node.at("http.headers.X-Content-Type-Options").unwrap();
        assert!(matches!(&header.value, NodeValue::List(items) if items.len() == 1));
        assert_eq!(read("").unwrap().value, NodeValue::Null);
        assert_eq!(
            read("{a: :5000}").unwrap().at("a").unwrap().value,
            NodeValue::Scalar(":5000".into())
        );
    }

    #[test]
    fn anchors_and_merge_keys() {
        let node = read("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n").unwrap();
        assert_eq!(text(&node, "b.x"), "Scalar(\"1\") f:1");
        assert_eq!(text(&node, "b.y"), "Scalar(\"3\") f:4");
        assert_eq!(text(&node, "c.y"), "Scalar(\"2\") f:1");
    }

    #[test]
    fn the_last_duplicate_is_used_and_reported() {
        let mut duplicates = Vec::new();
        let origin = |line| ValueOrigin::File {
            path: "f".into(),
            line,
        };
        let mut on_duplicate =
            |key: &str, origin: ValueOrigin| duplicates.push(format!("{key} {origin}"));
        let node = parse("a: 1\nb: 2\na: 3\n", &origin, &mut on_duplicate).unwrap();
        assert_eq!(node.at("a").unwrap().value, NodeValue::Scalar("3".into()));
        assert_eq!(duplicates, ["a f:3"]);
    }

    /// The stock registry 2.8.2 does the same with these files.
    #[test]
    fn duplicate_sections_are_merged_except_for_storage_and_auth() {
        let node = read(
            "http: {addr: :5000, headers: {A: [b]}}\nstorage: {delete: {enabled: true}}\n\
             http: {addr: :5001, headers: {C: [d]}}\nstorage: {filesystem: {maxthreads: 50}}\n",
        )
        .unwrap();
        assert_eq!(text(&node, "http.addr"), "Scalar(\":5001\") f:3");
        assert!(node.at("http.headers.A").is_some() && node.at("http.headers.C").is_some());
        assert!(node.at("storage.delete").is_none());
        assert_eq!(
            text(&node, "storage.filesystem.maxthreads"),
            "Scalar(\"50\") f:4"
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line) in [
            ("a: 1\n b: 2\n", 2),
            ("a: [1\n", 2),
            ("a: *b\n", 1),
            ("? [a]\n: b\n", 1),
            ("a: 1\n<<: 5\n", 2),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text:?}");
        }
        assert!(read(&"[".repeat(1000)).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..8 {
            let alias = format!("*a{}", i - 1);
            bomb += &format!("a{i}: &a{i} [{}]\n", [alias.as_str(); 10].join(", "));
        }
        assert!(read(&bomb).unwrap_err().text.contains("too many"));
    }
}
