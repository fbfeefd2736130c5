//! Maps the names of environment variables to configuration keys, by the stock registry's rules:
//! `REGISTRY_HTTP_ADDR` is `http.addr`.
//!
//! Start reading at [`resolve_variable`].

use super::keys::{self, KeyShape, join_path};
use super::suggestion::closest_name;

/// The prefix of all variables that are settings.
pub(super) const VARIABLE_PREFIX: &str = "REGISTRY_";

/// One key or index on the path to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathSegment {
    /// A key of the table.
    Key(String),
    /// A key of a section with any keys; upper and lower case are the same.
    MapKey(String),
    /// The index of a list item.
    Index(usize),
}

/// The meaning of a variable's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum VariableTarget {
    /// The name of a key or section.
    Setting {
        path: Vec<PathSegment>,
        shape: KeyShape,
    },
    /// `REGISTRY_VERSION`, which cannot be set by a variable.
    Version,
    /// No key has this name.
    Unknown {
        /// The last section that is known.
        section: String,
        /// The part of the name that is unknown in that section.
        name: String,
        /// The name of a similar variable that exists.
        suggestion: Option<String>,
    },
}

/// Returns the meaning of the name of a variable, which must begin with [`VARIABLE_PREFIX`].
pub(super) fn resolve_variable(name: &str) -> VariableTarget {
    let parts: Vec<&str> = name[VARIABLE_PREFIX.len()..].split('_').collect();
    if parts == ["VERSION"] {
        return VariableTarget::Version;
    }
    let (mut table_path, mut shape, mut path) = (String::new(), KeyShape::Section, Vec::new());
    let mut at = 0;
    while at < parts.len() {
        let Some((name_in_table, segment, length)) =
            resolve_segment(&table_path, shape, &parts[at..])
        else {
            return VariableTarget::Unknown {
                suggestion: suggest_variable(&table_path, &parts, at),
                section: table_path,
                name: parts[at].to_owned(),
            };
        };
        at += length;
        path.push(segment);
        if shape != KeyShape::Any {
            table_path = join_path(&table_path, &name_in_table);
            shape = keys::shape(&table_path).unwrap_or(KeyShape::Any);
        }
    }
    VariableTarget::Setting { path, shape }
}

/// Resolves the next segment of a path. Returns its name in the table, the segment, and the number
/// of parts that it takes; `None` when the part is unknown. `parts` is not empty.
fn resolve_segment(
    table_path: &str,
    shape: KeyShape,
    parts: &[&str],
) -> Option<(String, PathSegment, usize)> {
    let part = parts[0];
    match shape {
        KeyShape::Section => {
            let key = find_key(table_path, part)?;
            Some((key.to_owned(), PathSegment::Key(key.to_owned()), 1))
        }
        KeyShape::List => Some(("#".to_owned(), PathSegment::Index(part.parse().ok()?), 1)),
        KeyShape::Map => {
            // Only list items can follow, so all other parts belong to one key with underscores.
            let is_index = |part: &&str| part.parse::<usize>().is_ok();
            let has_items = keys::shape(&join_path(table_path, "*")) == Some(KeyShape::List);
            let has_index = has_items && parts.len() > 1 && parts.last().is_some_and(is_index);
            let length = parts.len() - usize::from(has_index);
            let key = parts[..length].join("_").to_lowercase();
            (!key.is_empty()).then_some(("*".to_owned(), PathSegment::MapKey(key), length))
        }
        KeyShape::Any => {
            let key = PathSegment::MapKey(part.to_lowercase());
            Some(("**".to_owned(), key, 1))
        }
        KeyShape::Scalar => None,
    }
}

/// Returns the name of an existing variable that is similar to one whose part `at` is unknown.
fn suggest_variable(table_path: &str, parts: &[&str], at: usize) -> Option<String> {
    let closest = closest_name(parts[at], keys::child_names(table_path))?.to_uppercase();
    let mut corrected = parts.to_vec();
    corrected[at] = &closest;
    let name = format!("{VARIABLE_PREFIX}{}", corrected.join("_"));
    // A later part of the name may be misspelled as well.
    match resolve_variable(&name) {
        VariableTarget::Setting { .. } => Some(name),
        VariableTarget::Unknown { suggestion, .. } => suggestion,
        VariableTarget::Version => None,
    }
}

fn find_key(table_path: &str, part: &str) -> Option<&'static str> {
    keys::child_names(table_path).find(|name| {
        name.to_uppercase() == part
            || keys::variable_alias(&join_path(table_path, name)) == Some(part)
    })
}

/// Returns whether a variable describes a service and is no setting: Kubernetes, and Docker with
/// `--link`, set `REGISTRY_PORT=tcp://…` and more for a service with the name `registry`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let has_address = value.starts_with("tcp://") || value.starts_with("udp://");
    let has_suffix = |suffix: &str| name.ends_with(suffix);
    let is_detail = ["_ADDR", "_PROTO", "_PORT", "_TCP", "_UDP"]
        .into_iter()
        .any(has_suffix);
    (has_suffix("_PORT") && has_address)
        || has_suffix("_SERVICE_HOST")
        || name.contains("_ENV_")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && (has_address || is_detail))
}
