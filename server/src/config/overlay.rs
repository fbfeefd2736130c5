//! Applies environment variables and command-line options to the tree of the file.
//!
//! The value of a variable is YAML. Shorter names are applied first, as in the stock registry, so
//! that `REGISTRY_STORAGE` does not undo `REGISTRY_STORAGE_DELETE_ENABLED`. Start reading at
//! [`apply_variables`].

use super::check::{is_security_relevant, is_strict};
use super::diagnostics::Diagnostics;
use super::keys::KeyShape;
use super::tree::{Node, NodeValue, ValueOrigin};
use super::variable_name::{
    PathSegment, VARIABLE_PREFIX, VariableTarget, is_service_link, resolve_variable,
};
use super::yaml;

/// Variables with the prefix that are no settings.
const IGNORED_VARIABLES: &[&str] = &["REGISTRY_CONFIGURATION_PATH"];

/// Applies all variables to a tree. An unknown variable is reported and not applied.
pub(super) fn apply_variables(
    tree: &mut Node,
    variables: &[(String, String)],
    diagnostics: &mut Diagnostics,
) {
    let mut variables: Vec<_> = variables
        .iter()
        .filter(|(name, _)| {
            name.starts_with(VARIABLE_PREFIX) && !IGNORED_VARIABLES.contains(&name.as_str())
        })
        .collect();
    // Numeric parts are compared as numbers: item 2 comes before item 10.
    variables.sort_by_key(|(name, _)| {
        let parts = name.split('_');
        parts
            .map(|part| (part.parse::<usize>().ok(), part))
            .collect::<Vec<_>>()
    });
    for (name, value) in variables {
        let origin = ValueOrigin::Variable(name.clone());
        match resolve_variable(name) {
            VariableTarget::Setting { path, shape } => {
                apply_setting(tree, &path, shape, value, &origin, diagnostics);
            }
            VariableTarget::Version => {
                let text = "ignored: set the version in the configuration file";
                diagnostics.warning(&origin, "version", text);
            }
            VariableTarget::Unknown { .. } if is_service_link(name, value) => {
                let text =
                    "ignored: set by Docker or Kubernetes for a linked service, not a setting";
                diagnostics.note(&origin, "", text);
            }
            VariableTarget::Unknown {
                section,
                name: part,
                suggestion,
            } => {
                let hint = suggestion
                    .map(|name| format!("; did you mean {name}?"))
                    .unwrap_or_default();
                let names_below = name.split('_').skip(1);
                if is_strict(&section) || is_security_relevant(&section, &part, names_below) {
                    diagnostics.error(&origin, "", format!("no such setting{hint}"));
                } else {
                    diagnostics.warning(&origin, "", format!("no such setting, ignored{hint}"));
                }
            }
        }
    }
}

fn apply_setting(
    tree: &mut Node,
    path: &[PathSegment],
    shape: KeyShape,
    value: &str,
    origin: &ValueOrigin,
    diagnostics: &mut Diagnostics,
) {
    let key = format_path(path);
    if shape != KeyShape::Scalar && value.trim().is_empty() {
        // The stock registry would remove the whole section.
        let text = "empty, ignored; use {} for an empty section";
        diagnostics.warning(origin, &key, text);
        return;
    }
    let node = match parse_variable(value, shape, origin) {
        Ok(node) => node,
        Err(text) => return diagnostics.error(origin, &key, text),
    };
    if clears_security_setting(tree, &key, &node) {
        let text = "empty, ignored: the configuration file sets this key";
        diagnostics.warning(origin, &key, text);
        return;
    }
    if let Err(text) = set(tree, path, node) {
        diagnostics.error(origin, &key, text);
    }
}

/// Returns whether an empty value would clear an authentication or TLS setting of the file. Such a
/// value is ignored: a variable is often empty by mistake, because another variable was empty.
fn clears_security_setting(tree: &Node, path: &str, value: &Node) -> bool {
    (path.starts_with("auth.") || path.starts_with("http.tls."))
        && matches!(value.value, NodeValue::Null | NodeValue::Scalar(_))
        && value.is_empty_or_disabled()
        && tree
            .at(path)
            .is_some_and(|node| !node.is_empty_or_disabled())
}

/// Parses the value of a variable as YAML. A single value may also be plain text that is not YAML.
fn parse_variable(value: &str, shape: KeyShape, origin: &ValueOrigin) -> Result<Node, String> {
    let parsed = yaml::parse(value, &|_| origin.clone(), &mut |_, _| {});
    match (shape, parsed) {
        (KeyShape::Scalar, Ok(node))
            if matches!(node.value, NodeValue::Null | NodeValue::Scalar(_)) =>
        {
            Ok(node)
        }
        (KeyShape::Scalar, _) => Ok(Node::new(
            NodeValue::Scalar(value.to_owned()),
            origin.clone(),
        )),
        (_, Ok(node)) => Ok(node),
        (_, Err(error)) => Err(format!("invalid YAML: {}", error.text)),
    }
}

/// Sets the value at a path, and creates missing sections and lists on the way.
fn set(tree: &mut Node, path: &[PathSegment], value: Node) -> Result<(), String> {
    let mut node = tree;
    for (depth, segment) in path.iter().enumerate() {
        if depth == 1
            && matches!(&path[0], PathSegment::Key(key) if key == "storage" || key == "auth")
        {
            node.expand_shorthand();
        }
        let empty = Node::new(NodeValue::Null, value.origin.clone());
        node = match segment {
            PathSegment::Key(key) | PathSegment::MapKey(key) => {
                if node.value == NodeValue::Null {
                    node.value = NodeValue::Map(Vec::new());
                }
                let NodeValue::Map(entries) = &mut node.value else {
                    return Err(format!("{} is not a section", format_path(&path[..depth])));
                };
                let ignores_case = matches!(segment, PathSegment::MapKey(_));
                let position = entries.iter().position(|(name, _)| {
                    name == key || (ignores_case && name.eq_ignore_ascii_case(key))
                });
                let position = position.unwrap_or_else(|| {
                    entries.push((key.clone(), empty));
                    entries.len() - 1
                });
                &mut entries[position].1
            }
            PathSegment::Index(index) => {
                if matches!(node.value, NodeValue::Null) {
                    node.value = NodeValue::List(Vec::new());
                }
                let NodeValue::List(items) = &mut node.value else {
                    return Err(format!("{} is not a list", format_path(&path[..depth])));
                };
                if *index > items.len() {
                    return Err(format!(
                        "item {index} is set, but item {} is not",
                        index - 1
                    ));
                }
                if *index == items.len() {
                    items.push(empty);
                }
                &mut items[*index]
            }
        };
    }
    *node = value;
    Ok(())
}

fn format_path(path: &[PathSegment]) -> String {
    let segments = path.iter().map(|segment| match segment {
        PathSegment::Key(key) | PathSegment::MapKey(key) => key.clone(),
        PathSegment::Index(index) => index.to_string(),
    });
    segments.collect::<Vec<_>>().join(".")
}

/// Applies command-line options to a tree: the name of the option, the dotted key, and the value.
pub(super) fn apply_arguments(
    tree: &mut Node,
    arguments: &[(&'static str, &str, String)],
    diagnostics: &mut Diagnostics,
) {
    for (name, key, value) in arguments {
        let origin = ValueOrigin::Argument(name);
        let path: Vec<_> = key
            .split('.')
            .map(|key| PathSegment::Key(key.to_owned()))
            .collect();
        let node = Node::new(NodeValue::Scalar(value.clone()), origin.clone());
        if let Err(text) = set(tree, &path, node) {
            diagnostics.error(&origin, key, text);
        }
    }
}
