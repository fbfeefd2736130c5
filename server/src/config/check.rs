//! A tree held against the keys that are known: what is misspelt, what does nothing here, and what
//! the server does not start with.

use super::diagnostics::Diagnostics;
use super::keys::{self, KeyShape, KeySupport, join_path};
use super::scalars;
use super::tree::{Node, NodeValue};

/// Sections in which a key that nobody reads may leave a door open, or change what the server is.
const STRICT_SECTIONS: &[&str] = &["auth", "http.tls", "imgsync"];

/// Whether an unknown key in this place keeps the server from starting. Elsewhere the stock
/// registry's files may have anything, and have always been read.
pub(super) fn is_strict(path: &str) -> bool {
    let within = |section: &str| {
        path.strip_prefix(section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    path == "storage" || STRICT_SECTIONS.iter().any(|section| within(section))
}

/// What locks the server or is its store, and must not be missing for a slip of the hand.
const SECURITY_SECTIONS: &[&str] = &["auth", "tls", "storage"];
/// What stands in those and nowhere else.
const SECURITY_KEYS: &[&str] = &["htpasswd", "certificate", "realm"];

/// Whether an unknown name in this place may have been meant to lock the server, or to name its
/// store: it comes close to such a key, or is or `holds` one that stands in such a section.
pub(super) fn is_security_relevant<'a>(
    path: &str,
    name: &str,
    mut holds: impl Iterator<Item = &'a str>,
) -> bool {
    let is_lock = |name: &str| {
        SECURITY_KEYS
            .iter()
            .any(|lock| name.eq_ignore_ascii_case(lock))
    };
    if !path.is_empty() && path != "http" {
        // Too far in: `htpasswd` alone cannot have been meant for anything else.
        let is_login = |name: &str| name.eq_ignore_ascii_case("htpasswd");
        return is_login(name) || holds.any(is_login);
    }
    let among = keys::child_names(path).chain(SECURITY_SECTIONS.iter().copied());
    scalars::closest(name, among).is_some_and(|meant| SECURITY_SECTIONS.contains(&meant))
        || is_lock(name)
        || holds.any(is_lock)
}

/// Looks at everything below the top.
pub(super) fn check(tree: &Node, findings: &mut Diagnostics) {
    section(tree, "", "", findings);
}

/// `path` is the place in the table, `shown` the one in the file.
fn section(node: &Node, path: &str, shown: &str, findings: &mut Diagnostics) {
    let NodeValue::Map(entries) = &node.value else {
        if node.value != NodeValue::Null {
            findings.error(&node.origin, shown, "must be a section with keys in it");
        }
        return;
    };
    for (name, node) in entries {
        let (place, key) = (join_path(path, name), join_path(shown, name));
        match keys::shape(&place) {
            Some(shape) => known_key(node, shape, &place, &key, findings),
            None => report_unknown_key(node, path, shown, name, findings),
        }
    }
}

fn known_key(node: &Node, shape: KeyShape, path: &str, shown: &str, findings: &mut Diagnostics) {
    // A driver counts by being named, and so does a way of logging in.
    let is_named =
        matches!(path.split_once('.'), Some(("storage" | "auth", name)) if !name.contains('.'));
    let speaks = !node.is_empty_or_disabled();
    match keys::support(path) {
        KeySupport::Supported => {}
        KeySupport::NoEffect(why) if speaks => {
            findings.note(&node.origin, shown, format!("has no effect: {why}"));
        }
        KeySupport::Unsupported(why) if speaks => {
            findings.warning(&node.origin, shown, format!("not supported: {why}"));
        }
        KeySupport::Rejected(why) if speaks || is_named => {
            findings.error(&node.origin, shown, format!("not supported: {why}"));
        }
        KeySupport::NoEffect(_) | KeySupport::Unsupported(_) | KeySupport::Rejected(_) => {}
    }
    match (shape, &node.value) {
        (KeyShape::Section, _) => section(node, path, shown, findings),
        (KeyShape::List, NodeValue::List(items)) => {
            let place = join_path(path, "#");
            for (at, item) in items.iter().enumerate() {
                if keys::shape(&place) == Some(KeyShape::Section) {
                    section(item, &place, &join_path(shown, &at.to_string()), findings);
                }
            }
        }
        (KeyShape::Map, value) if !matches!(value, NodeValue::Map(_) | NodeValue::Null) => {
            findings.error(&node.origin, shown, "must be a section with keys in it");
        }
        (KeyShape::Scalar | KeyShape::List | KeyShape::Map | KeyShape::Any, _) => {}
    }
}

fn report_unknown_key(
    node: &Node,
    path: &str,
    shown: &str,
    name: &str,
    findings: &mut Diagnostics,
) {
    let key = join_path(shown, name);
    let meant = scalars::closest(name, keys::child_names(path)).map(|name| join_path(shown, name));
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    if path == "storage" {
        let text = format!("neither a storage driver nor a setting{meant}");
        findings.error(&node.origin, &key, text);
    } else if path == "auth" {
        let text = format!("unknown way of logging in{meant}");
        findings.error(&node.origin, &key, text);
    } else if is_strict(path) || is_security_relevant(path, name, node.all_keys().into_iter()) {
        findings.error(&node.origin, &key, format!("unknown key{meant}"));
    } else {
        findings.warning(&node.origin, &key, format!("unknown key, ignored{meant}"));
    }
}
