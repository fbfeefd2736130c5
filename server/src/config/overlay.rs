//! The variables `REGISTRY_…` laid over a tree, by the stock registry's rules: names split at `_`,
//! matched with the keys of the file; values are YAML; the shorter names first.

use super::check::{is_door, is_strict};
use super::known::{self, Shape, join};
use super::problem::Findings;
use super::tree::{Node, Origin, Value};
use super::{words, yaml};

/// Names that begin so and are no settings.
const PREFIX: &str = "REGISTRY_";
const NO_SETTINGS: &[&str] = &["REGISTRY_CONFIGURATION_PATH"];

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A key of ours.
    Key(String),
    /// A key that is free; its letters' case does not matter.
    Free(String),
    Index(usize),
}

/// Lays all variables over a tree. What is no setting is told and left alone.
pub(super) fn lay(tree: &mut Node, variables: &[(String, String)], findings: &mut Findings) {
    let mut variables: Vec<_> = variables
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !NO_SETTINGS.contains(&name.as_str()))
        .collect();
    // Numbers as numbers: item 2 comes before item 10.
    variables.sort_by_key(|(name, _)| {
        let parts = name.split('_');
        parts
            .map(|part| (part.parse::<usize>().ok(), part))
            .collect::<Vec<_>>()
    });
    for (name, value) in variables {
        let origin = Origin::Variable(name.clone());
        match find(name) {
            Found::Setting { steps, shape } if shape != Shape::Leaf && value.trim().is_empty() => {
                // The stock registry would take the whole section away.
                let text = "empty, ignored; {} says that nothing is wanted";
                findings.warning(&origin, &show(&steps), text);
            }
            Found::Setting { steps, shape } => {
                let node = read(value, shape, &origin);
                if let Ok(node) = &node
                    && takes_a_lock_away(tree, &steps, node)
                {
                    let text = "empty, ignored: the file sets it";
                    findings.warning(&origin, &show(&steps), text);
                    continue;
                }
                if let Err(text) = node.and_then(|node| set(tree, &steps, node)) {
                    findings.problem(&origin, &show(&steps), text);
                }
            }
            Found::Version => {
                findings.warning(
                    &origin,
                    "version",
                    "ignored: it can only be set in the file",
                );
            }
            Found::Nothing {
                within,
                name: unknown,
                meant,
            } => {
                let meant =
                    meant.map_or_else(String::new, |name| format!("; did you mean {name}?"));
                if is_service_link(name, value) {
                    let text = "ignored: not a setting, but a link to a service";
                    findings.note(&origin, "", text);
                } else if is_strict(&within) || is_door(&within, &unknown, name.split('_').skip(1))
                {
                    findings.problem(&origin, "", format!("no such setting{meant}"));
                } else {
                    findings.warning(&origin, "", format!("no such setting, ignored{meant}"));
                }
            }
        }
    }
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Setting {
        steps: Vec<Step>,
        shape: Shape,
    },
    Version,
    Nothing {
        within: String,
        /// The part that is not known there.
        name: String,
        meant: Option<String>,
    },
}

fn find(name: &str) -> Found {
    let parts: Vec<&str> = name[PREFIX.len()..].split('_').collect();
    if parts == ["VERSION"] {
        return Found::Version;
    }
    let (mut place, mut shape, mut steps) = (String::new(), Shape::Section, Vec::new());
    let mut at = 0;
    while at < parts.len() {
        let part = parts[at];
        at += 1;
        let next = match shape {
            Shape::Section => {
                key(&place, part).map(|key| (key.to_owned(), Step::Key(key.to_owned())))
            }
            Shape::List => part
                .parse()
                .ok()
                .map(|index| ("#".to_owned(), Step::Index(index))),
            Shape::Free => {
                // Nothing else is below but items, so the rest of the name is one key.
                let mut rest = parts[at - 1..].to_vec();
                let inner = known::shape(&join(&place, "*"));
                let has_index = rest.len() > 1
                    && rest
                        .last()
                        .is_some_and(|part| part.parse::<usize>().is_ok());
                if inner == Some(Shape::List) && has_index {
                    rest.pop();
                }
                at += rest.len() - 1;
                let key = rest.join("_").to_lowercase();
                (!key.is_empty()).then_some(("*".to_owned(), Step::Free(key)))
            }
            Shape::Any => Some(("**".to_owned(), Step::Free(part.to_lowercase()))),
            Shape::Leaf => None,
        };
        let Some((below, step)) = next else {
            let meant = words::closest(part, known::names(&place));
            let meant = meant.map(|meant| {
                let mut parts = parts.clone();
                let upper = meant.to_uppercase();
                parts[at - 1] = &upper;
                format!("{PREFIX}{}", parts.join("_"))
            });
            // One word put right may show that the next one is wrong as well.
            let meant = meant.and_then(|name| match find(&name) {
                Found::Setting { .. } => Some(name),
                Found::Nothing { meant, .. } => meant,
                Found::Version => None,
            });
            return Found::Nothing {
                within: place,
                name: part.to_owned(),
                meant,
            };
        };
        steps.push(step);
        if shape != Shape::Any {
            place = join(&place, &below);
            shape = known::shape(&place).unwrap_or(Shape::Any);
        }
    }
    Found::Setting { steps, shape }
}

fn key(place: &str, part: &str) -> Option<&'static str> {
    known::names(place).find(|name| {
        name.to_uppercase() == part || known::other_name(&join(place, name)) == Some(part)
    })
}

/// Whether an empty value stands where the tree says something that locks the server. Whoever wants
/// it away takes it out of the file: a variable is often empty because another one was.
fn takes_a_lock_away(tree: &Node, steps: &[Step], value: &Node) -> bool {
    let path = show(steps);
    (path.starts_with("auth.") || path.starts_with("http.tls."))
        && matches!(value.value, Value::Null | Value::Scalar(_))
        && value.is_silent()
        && tree.at(&path).is_some_and(|node| !node.is_silent())
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
fn read(value: &str, shape: Shape, origin: &Origin) -> Result<Node, String> {
    let parsed = yaml::parse(value, &|_| origin.clone(), &mut |_, _| {});
    match (shape, parsed) {
        (Shape::Leaf, Ok(node)) if matches!(node.value, Value::Null | Value::Scalar(_)) => Ok(node),
        (Shape::Leaf, _) => Ok(Node::new(Value::Scalar(value.to_owned()), origin.clone())),
        (Shape::List | Shape::Section | Shape::Free | Shape::Any, Ok(node)) => Ok(node),
        (Shape::List | Shape::Section | Shape::Free | Shape::Any, Err(broken)) => {
            Err(format!("not YAML: {}", broken.text))
        }
    }
}

/// Puts a value in its place, and makes the way to it where it is missing.
fn set(tree: &mut Node, steps: &[Step], value: Node) -> Result<(), String> {
    let mut node = tree;
    for (at, step) in steps.iter().enumerate() {
        if at == 1 && matches!(&steps[0], Step::Key(key) if key == "storage" || key == "auth") {
            node.unfold();
        }
        let empty = Node::new(Value::Null, value.origin.clone());
        node = match step {
            Step::Key(key) | Step::Free(key) => {
                if node.value == Value::Null {
                    node.value = Value::Map(Vec::new());
                }
                let Value::Map(entries) = &mut node.value else {
                    return Err(format!("{} has no keys in it", show(&steps[..at])));
                };
                let is_free = matches!(step, Step::Free(_));
                let found = entries.iter().position(|(name, _)| {
                    name == key || (is_free && name.eq_ignore_ascii_case(key))
                });
                let found = found.unwrap_or_else(|| {
                    entries.push((key.clone(), empty));
                    entries.len() - 1
                });
                &mut entries[found].1
            }
            Step::Index(index) => {
                if matches!(node.value, Value::Null) {
                    node.value = Value::List(Vec::new());
                }
                let Value::List(items) = &mut node.value else {
                    return Err(format!("{} is not a list", show(&steps[..at])));
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

fn show(steps: &[Step]) -> String {
    let steps = steps.iter().map(|step| match step {
        Step::Key(key) | Step::Free(key) => key.clone(),
        Step::Index(index) => index.to_string(),
    });
    steps.collect::<Vec<_>>().join(".")
}

/// Lays arguments of the command line over a tree: keys with dots between them, and what they say.
pub(super) fn argue(
    tree: &mut Node,
    arguments: &[(&'static str, &str, String)],
    findings: &mut Findings,
) {
    for (name, key, value) in arguments {
        let origin = Origin::Argument(name);
        let steps: Vec<_> = key
            .split('.')
            .map(|key| Step::Key(key.to_owned()))
            .collect();
        let node = Node::new(Value::Scalar(value.clone()), origin.clone());
        if let Err(text) = set(tree, &steps, node) {
            findings.problem(&origin, key, text);
        }
    }
}
