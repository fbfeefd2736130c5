//! Checks the keys of the merged tree against the table of known keys, and reports unknown keys and
//! keys without effect.
//!
//! An unknown key is a warning, or an error where ignoring it could disable authentication or TLS,
//! or select another store. Start reading at [`check`].

use super::diagnostics::Diagnostics;
use super::keys::{self, KeyShape, KeySupport, join_path};
use super::suggestion::closest_name;
use super::tree::{Node, NodeValue};

/// Sections in which an unknown key is an error at any depth: ignoring the key could weaken security
/// or change what the server does.
const STRICT_SECTIONS: &[&str] = &["auth", "http.tls", "imgsync"];

/// Returns whether an unknown key in this section is an error. Elsewhere it is a warning, because
/// the stock registry ignores unknown keys and existing files contain them.
pub(super) fn is_strict(path: &str) -> bool {
    let within = |section: &str| {
        path.strip_prefix(section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    path == "storage" || STRICT_SECTIONS.iter().any(|section| within(section))
}

/// Sections that must not be lost because of a typing error.
const SECURITY_SECTIONS: &[&str] = &["auth", "tls", "storage"];
/// Keys that occur only in those sections.
const SECURITY_KEYS: &[&str] = &["htpasswd", "certificate", "realm"];

/// Returns whether an unknown name in a section probably means a security section or the store:
/// the name is similar to such a section, or the name or one of `names_below` is a key of such a
/// section.
pub(super) fn is_security_relevant<'a>(
    path: &str,
    name: &str,
    mut names_below: impl Iterator<Item = &'a str>,
) -> bool {
    let is_security_key = |name: &str| {
        SECURITY_KEYS
            .iter()
            .any(|key| name.eq_ignore_ascii_case(key))
    };
    if !path.is_empty() && path != "http" {
        // `realm` and `certificate` may have another meaning here; `htpasswd` cannot.
        let is_htpasswd = |name: &str| name.eq_ignore_ascii_case("htpasswd");
        return is_htpasswd(name) || names_below.any(is_htpasswd);
    }
    let candidates = keys::child_names(path).chain(SECURITY_SECTIONS.iter().copied());
    closest_name(name, candidates).is_some_and(|closest| SECURITY_SECTIONS.contains(&closest))
        || is_security_key(name)
        || names_below.any(is_security_key)
}

/// Checks all keys of the tree.
pub(super) fn check(tree: &Node, diagnostics: &mut Diagnostics) {
    check_section(tree, "", "", diagnostics);
}

/// Checks a section. `path` is its place in the table of keys (`#` for a list item), `shown` its
/// place in the file.
fn check_section(node: &Node, path: &str, shown: &str, diagnostics: &mut Diagnostics) {
    let NodeValue::Map(entries) = &node.value else {
        if node.value != NodeValue::Null {
            diagnostics.error(&node.origin, shown, "must be a section (a YAML mapping)");
        }
        return;
    };
    for (name, node) in entries {
        let (key_path, key) = (join_path(path, name), join_path(shown, name));
        match keys::shape(&key_path) {
            Some(shape) => check_known_key(node, shape, &key_path, &key, diagnostics),
            None => report_unknown_key(node, path, shown, name, diagnostics),
        }
    }
}

fn check_known_key(
    node: &Node,
    shape: KeyShape,
    path: &str,
    shown: &str,
    diagnostics: &mut Diagnostics,
) {
    // A storage driver or an authentication method is selected even when its section is empty.
    let is_selected =
        matches!(path.split_once('.'), Some(("storage" | "auth", name)) if !name.contains('.'));
    let is_set = !node.is_empty_or_disabled();
    match keys::support(path) {
        KeySupport::Supported => {}
        KeySupport::NoEffect(why) if is_set => {
            diagnostics.note(&node.origin, shown, format!("has no effect: {why}"));
        }
        KeySupport::Unsupported(why) if is_set => {
            diagnostics.warning(&node.origin, shown, format!("not supported: {why}"));
        }
        KeySupport::Rejected(why) if is_set || is_selected => {
            diagnostics.error(&node.origin, shown, format!("not supported: {why}"));
        }
        KeySupport::NoEffect(_) | KeySupport::Unsupported(_) | KeySupport::Rejected(_) => {}
    }
    match (shape, &node.value) {
        (KeyShape::Section, _) => check_section(node, path, shown, diagnostics),
        (KeyShape::List, NodeValue::List(items)) => {
            let item_path = join_path(path, "#");
            for (at, item) in items.iter().enumerate() {
                if keys::shape(&item_path) == Some(KeyShape::Section) {
                    check_section(
                        item,
                        &item_path,
                        &join_path(shown, &at.to_string()),
                        diagnostics,
                    );
                }
            }
        }
        (KeyShape::Map, value) if !matches!(value, NodeValue::Map(_) | NodeValue::Null) => {
            diagnostics.error(&node.origin, shown, "must be a section (a YAML mapping)");
        }
        (KeyShape::Scalar | KeyShape::List | KeyShape::Map | KeyShape::Any, _) => {}
    }
}

fn report_unknown_key(
    node: &Node,
    path: &str,
    shown: &str,
    name: &str,
    diagnostics: &mut Diagnostics,
) {
    let key = join_path(shown, name);
    let hint = closest_name(name, keys::child_names(path))
        .map(|closest| format!("; did you mean {}?", join_path(shown, closest)))
        .unwrap_or_default();
    if path == "storage" {
        let text = format!("unknown storage driver or setting{hint}");
        diagnostics.error(&node.origin, &key, text);
    } else if path == "auth" {
        let text = format!("unknown authentication method{hint}");
        diagnostics.error(&node.origin, &key, text);
    } else if is_strict(path) || is_security_relevant(path, name, node.all_keys().into_iter()) {
        diagnostics.error(&node.origin, &key, format!("unknown key{hint}"));
    } else {
        diagnostics.warning(&node.origin, &key, format!("unknown key, ignored{hint}"));
    }
}
