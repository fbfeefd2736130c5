//! The effective configuration as YAML, each value with where it came from.

use std::fmt::Write as _;

use super::keys::{self, KeyShape, join_path};
use super::reader::{EffectiveSetting, ShownValue};

/// YAML that yields the same configuration again, but for what is secret.
pub(super) fn to_yaml(entries: &[EffectiveSetting]) -> String {
    let mut text = String::from("version: 0.1\n");
    let mut open: &[String] = &[];
    for entry in entries {
        let Some((key, sections)) = entry.path.split_last() else {
            continue;
        };
        let shared = open
            .iter()
            .zip(sections)
            .take_while(|(open, wanted)| open == wanted)
            .count();
        for (depth, section) in sections.iter().enumerate().skip(shared) {
            let indent = depth * 2;
            let _ = match is_list(&sections[..depth]) {
                true => writeln!(text, "{:indent$}-", ""),
                false => writeln!(text, "{:indent$}{}:", "", scalar(section)),
            };
        }
        open = sections;
        let value = match &entry.value {
            ShownValue::Scalar(value) => scalar(value),
            ShownValue::List(items) => {
                let items: Vec<_> = items.iter().map(|item| scalar(item)).collect();
                format!("[{}]", items.join(", "))
            }
            ShownValue::Secret => "\"******\"".to_owned(),
        };
        let indent = sections.len() * 2;
        let _ = writeln!(
            text,
            "{:indent$}{}: {value}  # {}",
            "",
            scalar(key),
            line(&entry.origin)
        );
    }
    text
}

/// Whether what stands at the end of this path is a list, and below it are its items.
fn is_list(path: &[String]) -> bool {
    let mut place = String::new();
    for name in path {
        place = match keys::shape(&place) {
            Some(KeyShape::List) => join_path(&place, "#"),
            _ => join_path(&place, name),
        };
    }
    keys::shape(&place) == Some(KeyShape::List)
}

/// An origin in one line: a file's name may have line ends.
fn line(origin: &super::ValueOrigin) -> String {
    origin.to_string().replace(char::is_control, "?")
}

/// A word, in quotes where it could be taken for something else.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/+~".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.');
    let is_null = text.eq_ignore_ascii_case("null");
    // An address begins with a colon, and that is fine.
    let rest = text.replace(':', "");
    let is_address = !rest.is_empty() && rest.chars().all(is_plain) && !text.ends_with(':');
    if is_address && !is_null && (begins_well || text.starts_with(':')) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}
