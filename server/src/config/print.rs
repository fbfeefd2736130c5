//! Prints the effective configuration as YAML, with the source of each value as a comment.

use std::fmt::Write as _;

use super::keys::{self, KeyShape};
use super::reader::{EffectiveSetting, ShownValue};

/// Returns YAML that yields the same configuration when it is read again, except for secrets.
pub(super) fn to_yaml(settings: &[EffectiveSetting]) -> String {
    let mut text = String::from("version: 0.1\n");
    let mut open_sections: &[String] = &[];
    for setting in settings {
        let Some((key, sections)) = setting.path.split_last() else {
            continue;
        };
        let shared = open_sections
            .iter()
            .zip(sections)
            .take_while(|(open_section, section)| open_section == section)
            .count();
        for (depth, section) in sections.iter().enumerate().skip(shared) {
            let indent = depth * 2;
            let _ = if is_list(&sections[..depth]) {
                writeln!(text, "{:indent$}-", "")
            } else {
                writeln!(text, "{:indent$}{}:", "", format_scalar(section))
            };
        }
        open_sections = sections;
        let value = match &setting.value {
            ShownValue::Scalar(value) => format_scalar(value),
            ShownValue::List(items) => {
                let items: Vec<_> = items.iter().map(|item| format_scalar(item)).collect();
                format!("[{}]", items.join(", "))
            }
            ShownValue::Secret => "\"******\"".to_owned(),
        };
        let indent = sections.len() * 2;
        let _ = writeln!(
            text,
            "{:indent$}{}: {value}  # {}",
            "",
            format_scalar(key),
            format_origin(&setting.origin)
        );
    }
    let has_reserve = |setting: &EffectiveSetting| setting.path == ["imgsync", "space", "reserve"];
    if !settings.iter().any(has_reserve) {
        // The default depends on the disk, so no value yields it.
        text.push_str("# imgsync.space.reserve: 5 % of the disk, at most 512 MB  # default\n");
    }
    text
}

/// Returns whether the value at this path is a list, whose items are the next keys.
fn is_list(path: &[String]) -> bool {
    keys::shape(&keys::table_path(path)) == Some(KeyShape::List)
}

/// Formats an origin on one line: the path of a file may contain line ends.
fn format_origin(origin: &super::ValueOrigin) -> String {
    origin.to_string().replace(char::is_control, "?")
}

/// Formats a scalar, in quotes when plain YAML would mean something else.
fn format_scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/+~".contains(c);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.');
    let is_null = text.eq_ignore_ascii_case("null");
    // Plain YAML allows colons within a scalar, and at its beginning: `:5000`.
    let rest = text.replace(':', "");
    let is_address = !rest.is_empty() && rest.chars().all(is_plain) && !text.ends_with(':');
    if is_address && !is_null && (begins_well || text.starts_with(':')) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}
