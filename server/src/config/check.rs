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

/// What locks the server or is its store, and must not be missing for a slip of the hand.
const DOORS: &[&str] = &["auth", "tls", "storage"];
/// What stands in those and nowhere else.
const LOCKS: &[&str] = &["htpasswd", "certificate", "realm"];

/// Whether an unknown name in this place may have been meant to lock the server, or to name its
/// store: it comes close to such a key, or is or `holds` one that stands in such a section.
pub(super) fn is_door<'a>(
    path: &str,
    name: &str,
    mut holds: impl Iterator<Item = &'a str>,
) -> bool {
    let is_lock = |name: &str| LOCKS.iter().any(|lock| name.eq_ignore_ascii_case(lock));
    if !path.is_empty() && path != "http" {
        // Too far in: `htpasswd` alone cannot have been meant for anything else.
        let is_login = |name: &str| name.eq_ignore_ascii_case("htpasswd");
        return is_login(name) || holds.any(is_login);
    }
    let among = known::names(path).chain(DOORS.iter().copied());
    words::closest(name, among).is_some_and(|meant| DOORS.contains(&meant))
        || is_lock(name)
        || holds.any(is_lock)
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
    } else if is_strict(path) || is_door(path, name, node.keys().into_iter()) {
        findings.problem(&node.origin, &key, format!("unknown key{meant}"));
    } else {
        findings.warning(&node.origin, &key, format!("unknown key, ignored{meant}"));
    }
}
