//! The variables `REGISTRY_…` laid over a tree, by the stock registry's rules: names split at `_`,
//! matched with the keys of the file; values are YAML; the shorter names first.

use super::check::{is_security_relevant, is_strict};
use super::diagnostics::Diagnostics;
use super::keys::{self, KeyShape, join_path};
use super::tree::{Node, NodeValue, ValueOrigin};
use super::{scalars, yaml};

/// Names that begin so and are no settings.
const VARIABLE_PREFIX: &str = "REGISTRY_";
const IGNORED_VARIABLES: &[&str] = &["REGISTRY_CONFIGURATION_PATH"];

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PathSegment {
    /// A key of ours.
    Key(String),
    /// A key that is free; its letters' case does not matter.
    MapKey(String),
    Index(usize),
}

/// Lays all variables over a tree. What is no setting is told and left alone.
pub(super) fn apply_variables(
    tree: &mut Node,
    variables: &[(String, String)],
    findings: &mut Diagnostics,
) {
    let mut variables: Vec<_> = variables
        .iter()
        .filter(|(name, _)| {
            name.starts_with(VARIABLE_PREFIX) && !IGNORED_VARIABLES.contains(&name.as_str())
        })
        .collect();
    // Numbers as numbers: item 2 comes before item 10.
    variables.sort_by_key(|(name, _)| {
        let parts = name.split('_');
        parts
            .map(|part| (part.parse::<usize>().ok(), part))
            .collect::<Vec<_>>()
    });
    for (name, value) in variables {
        let origin = ValueOrigin::Variable(name.clone());
        match resolve_variable(name) {
            VariableTarget::Setting { steps, shape }
                if shape != KeyShape::Scalar && value.trim().is_empty() =>
            {
                // The stock registry would take the whole section away.
                let text = "empty, ignored; {} says that nothing is wanted";
                findings.warning(&origin, &format_path(&steps), text);
            }
            VariableTarget::Setting { steps, shape } => {
                let node = parse_variable(value, shape, &origin);
                if let Ok(node) = &node
                    && clears_security_setting(tree, &steps, node)
                {
                    let text = "empty, ignored: the file sets it";
                    findings.warning(&origin, &format_path(&steps), text);
                    continue;
                }
                if let Err(text) = node.and_then(|node| set(tree, &steps, node)) {
                    findings.error(&origin, &format_path(&steps), text);
                }
            }
            VariableTarget::Version => {
                findings.warning(
                    &origin,
                    "version",
                    "ignored: it can only be set in the file",
                );
            }
            VariableTarget::Unknown {
                section: within,
                name: unknown,
                suggestion: meant,
            } => {
                let meant =
                    meant.map_or_else(String::new, |name| format!("; did you mean {name}?"));
                if is_service_link(name, value) {
                    let text = "ignored: not a setting, but a link to a service";
                    findings.note(&origin, "", text);
                } else if is_strict(&within)
                    || is_security_relevant(&within, &unknown, name.split('_').skip(1))
                {
                    findings.error(&origin, "", format!("no such setting{meant}"));
                } else {
                    findings.warning(&origin, "", format!("no such setting, ignored{meant}"));
                }
            }
        }
    }
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
enum VariableTarget {
    Setting {
        steps: Vec<PathSegment>,
        shape: KeyShape,
    },
    Version,
    Unknown {
        section: String,
        /// The part that is not known there.
        name: String,
        suggestion: Option<String>,
    },
}

fn resolve_variable(name: &str) -> VariableTarget {
    let parts: Vec<&str> = name[VARIABLE_PREFIX.len()..].split('_').collect();
    if parts == ["VERSION"] {
        return VariableTarget::Version;
    }
    let (mut place, mut shape, mut steps) = (String::new(), KeyShape::Section, Vec::new());
    let mut at = 0;
    while at < parts.len() {
        let part = parts[at];
        at += 1;
        let next = match shape {
            KeyShape::Section => {
                key(&place, part).map(|key| (key.to_owned(), PathSegment::Key(key.to_owned())))
            }
            KeyShape::List => part
                .parse()
                .ok()
                .map(|index| ("#".to_owned(), PathSegment::Index(index))),
            KeyShape::Map => {
                // Nothing else is below but items, so the rest of the name is one key.
                let mut rest = parts[at - 1..].to_vec();
                let inner = keys::shape(&join_path(&place, "*"));
                let has_index = rest.len() > 1
                    && rest
                        .last()
                        .is_some_and(|part| part.parse::<usize>().is_ok());
                if inner == Some(KeyShape::List) && has_index {
                    rest.pop();
                }
                at += rest.len() - 1;
                let key = rest.join("_").to_lowercase();
                (!key.is_empty()).then_some(("*".to_owned(), PathSegment::MapKey(key)))
            }
            KeyShape::Any => Some(("**".to_owned(), PathSegment::MapKey(part.to_lowercase()))),
            KeyShape::Scalar => None,
        };
        let Some((below, step)) = next else {
            let meant = scalars::closest(part, keys::child_names(&place));
            let meant = meant.map(|meant| {
                let mut parts = parts.clone();
                let upper = meant.to_uppercase();
                parts[at - 1] = &upper;
                format!("{VARIABLE_PREFIX}{}", parts.join("_"))
            });
            // One word put right may show that the next one is wrong as well.
            let meant = meant.and_then(|name| match resolve_variable(&name) {
                VariableTarget::Setting { .. } => Some(name),
                VariableTarget::Unknown {
                    suggestion: meant, ..
                } => meant,
                VariableTarget::Version => None,
            });
            return VariableTarget::Unknown {
                section: place,
                name: part.to_owned(),
                suggestion: meant,
            };
        };
        steps.push(step);
        if shape != KeyShape::Any {
            place = join_path(&place, &below);
            shape = keys::shape(&place).unwrap_or(KeyShape::Any);
        }
    }
    VariableTarget::Setting { steps, shape }
}

fn key(place: &str, part: &str) -> Option<&'static str> {
    keys::child_names(place).find(|name| {
        name.to_uppercase() == part || keys::variable_alias(&join_path(place, name)) == Some(part)
    })
}

/// Whether an empty value stands where the tree says something that locks the server. Whoever wants
/// it away takes it out of the file: a variable is often empty because another one was.
fn clears_security_setting(tree: &Node, steps: &[PathSegment], value: &Node) -> bool {
    let path = format_path(steps);
    (path.starts_with("auth.") || path.starts_with("http.tls."))
        && matches!(value.value, NodeValue::Null | NodeValue::Scalar(_))
        && value.is_empty_or_disabled()
        && tree
            .at(&path)
            .is_some_and(|node| !node.is_empty_or_disabled())
}

/// Kubernetes and old Dockers tell every container of every service, in variables that begin with
/// the service's name: `REGISTRY_PORT=tcp://…` where it is called registry.
fn is_service_link(name: &str, value: &str) -> bool {
    let has_address = value.starts_with("tcp://") || value.starts_with("udp://");
    let ends = |end: &str| name.ends_with(end);
    let is_detail =
        ends("_ADDR") || ends("_PROTO") || ends("_PORT") || ends("_TCP") || ends("_UDP");
    (ends("_PORT") && has_address)
        || ends("_SERVICE_HOST")
        || name.contains("_ENV_")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && (has_address || is_detail))
}

/// A variable's value: YAML, or for what is one value simply the text.
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
        (KeyShape::List | KeyShape::Section | KeyShape::Map | KeyShape::Any, Ok(node)) => Ok(node),
        (KeyShape::List | KeyShape::Section | KeyShape::Map | KeyShape::Any, Err(broken)) => {
            Err(format!("not YAML: {}", broken.text))
        }
    }
}

/// Puts a value in its place, and makes the way to it where it is missing.
fn set(tree: &mut Node, steps: &[PathSegment], value: Node) -> Result<(), String> {
    let mut node = tree;
    for (at, step) in steps.iter().enumerate() {
        if at == 1
            && matches!(&steps[0], PathSegment::Key(key) if key == "storage" || key == "auth")
        {
            node.expand_shorthand();
        }
        let empty = Node::new(NodeValue::Null, value.origin.clone());
        node = match step {
            PathSegment::Key(key) | PathSegment::MapKey(key) => {
                if node.value == NodeValue::Null {
                    node.value = NodeValue::Map(Vec::new());
                }
                let NodeValue::Map(entries) = &mut node.value else {
                    return Err(format!("{} has no keys in it", format_path(&steps[..at])));
                };
                let is_free = matches!(step, PathSegment::MapKey(_));
                let found = entries.iter().position(|(name, _)| {
                    name == key || (is_free && name.eq_ignore_ascii_case(key))
                });
                let found = found.unwrap_or_else(|| {
                    entries.push((key.clone(), empty));
                    entries.len() - 1
                });
                &mut entries[found].1
            }
            PathSegment::Index(index) => {
                if matches!(node.value, NodeValue::Null) {
                    node.value = NodeValue::List(Vec::new());
                }
                let NodeValue::List(items) = &mut node.value else {
                    return Err(format!("{} is not a list", format_path(&steps[..at])));
                };
                if *index > items.len() {
                    return Err(format!("item {index} without an item {}", index - 1));
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

fn format_path(steps: &[PathSegment]) -> String {
    let steps = steps.iter().map(|step| match step {
        PathSegment::Key(key) | PathSegment::MapKey(key) => key.clone(),
        PathSegment::Index(index) => index.to_string(),
    });
    steps.collect::<Vec<_>>().join(".")
}

/// Lays arguments of the command line over a tree: keys with dots between them, and what they say.
pub(super) fn apply_arguments(
    tree: &mut Node,
    arguments: &[(&'static str, &str, String)],
    findings: &mut Diagnostics,
) {
    for (name, key, value) in arguments {
        let origin = ValueOrigin::Argument(name);
        let steps: Vec<_> = key
            .split('.')
            .map(|key| PathSegment::Key(key.to_owned()))
            .collect();
        let node = Node::new(NodeValue::Scalar(value.clone()), origin.clone());
        if let Err(text) = set(tree, &steps, node) {
            findings.error(&origin, key, text);
        }
    }
}
