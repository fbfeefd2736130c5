//! A tree held against the keys that are known: what is misspelt, what does nothing here, and what
//! the server does not start with.

use super::known::{self, Shape, Support, join};
use super::problem::Findings;
use super::tree::{Node, Value};
use super::words;

/// Sections in which a key that nobody reads may leave a door open, or change what the server is.
const STRICT: &[&str] = &["auth", "http.tls", "imgsync"];

/// Whether an unknown key in this place keeps the server from starting. Elsewhere the stock
/// registry's files may have anything, and have always been read.
pub(super) fn is_strict(path: &str) -> bool {
    let within = |section: &str| {
        path.strip_prefix(section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    path == "storage" || STRICT.iter().any(|section| within(section))
}

/// Looks at everything below the top.
pub(super) fn check(tree: &Node, findings: &mut Findings) {
    section(tree, "", "", findings);
}

/// `path` is the place in the table, `shown` the one in the file.
fn section(node: &Node, path: &str, shown: &str, findings: &mut Findings) {
    let Value::Map(entries) = &node.value else {
        if node.value != Value::Null {
            findings.problem(&node.origin, shown, "must be a section with keys in it");
        }
        return;
    };
    for (name, node) in entries {
        let (place, key) = (join(path, name), join(shown, name));
        match known::shape(&place) {
            Some(shape) => known_key(node, shape, &place, &key, findings),
            None => unknown(node, path, shown, name, findings),
        }
    }
}

fn known_key(node: &Node, shape: Shape, path: &str, shown: &str, findings: &mut Findings) {
    // A driver counts by being named, and so does a way of logging in.
    let is_named =
        matches!(path.split_once('.'), Some(("storage" | "auth", name)) if !name.contains('.'));
    let speaks = !node.is_silent();
    match known::support(path) {
        Support::Works => {}
        Support::Needless(why) if speaks => {
            findings.note(&node.origin, shown, format!("has no effect: {why}"));
        }
        Support::Missing(why) if speaks => {
            findings.warning(&node.origin, shown, format!("not supported: {why}"));
        }
        Support::Refused(why) if speaks || is_named => {
            findings.problem(&node.origin, shown, format!("not supported: {why}"));
        }
        Support::Needless(_) | Support::Missing(_) | Support::Refused(_) => {}
    }
    match (shape, &node.value) {
        (Shape::Section, _) => section(node, path, shown, findings),
        (Shape::List, Value::List(items)) => {
            let place = join(path, "#");
            for (at, item) in items.iter().enumerate() {
                if known::shape(&place) == Some(Shape::Section) {
                    section(item, &place, &join(shown, &at.to_string()), findings);
                }
            }
        }
        (Shape::Free, value) if !matches!(value, Value::Map(_) | Value::Null) => {
            findings.problem(&node.origin, shown, "must be a section with keys in it");
        }
        (Shape::Leaf | Shape::List | Shape::Free | Shape::Any, _) => {}
    }
}

fn unknown(node: &Node, path: &str, shown: &str, name: &str, findings: &mut Findings) {
    let key = join(shown, name);
    let meant = words::closest(name, known::names(path)).map(|name| join(shown, name));
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    if path == "storage" {
        let text = format!("neither a storage driver nor a setting{meant}");
        findings.problem(&node.origin, &key, text);
    } else if path == "auth" {
        let text = format!("unknown way of logging in{meant}");
        findings.problem(&node.origin, &key, text);
    } else if is_strict(path) {
        findings.problem(&node.origin, &key, format!("unknown key{meant}"));
    } else {
        findings.warning(&node.origin, &key, format!("unknown key, ignored{meant}"));
    }
}
