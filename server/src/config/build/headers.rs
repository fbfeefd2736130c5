//! The section `http.headers`: headers that are added to every response.

use super::super::reader::{ConfigReader, ShownValue};
use super::super::scalars::parse_header_value;

/// The server sets these headers itself; another value would break the response.
const RESERVED_HEADERS: &[&str] = &[
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
];
/// A header whose name contains one of these words is printed without its value.
const SECRET_WORDS: &[&str] = &[
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "key",
];

/// Builds the list of header names, each with its values.
pub(super) fn build_headers(reader: &mut ConfigReader<'_>) -> Option<Vec<(String, Vec<String>)>> {
    let mut headers = Vec::new();
    for (name, node) in reader.map_entries("http.headers") {
        let key = format!("http.headers.{name}");
        let values = reader.list_texts(&key, &node)?;
        if let Err(text) = check_header(&name, &values) {
            reader.diagnostics.error(&node.origin, &key, text);
            return None;
        }
        let lower = name.to_ascii_lowercase();
        let shown = if SECRET_WORDS.iter().any(|word| lower.contains(word)) {
            ShownValue::Secret
        } else {
            ShownValue::List(values.clone())
        };
        reader.record_map_entry("http.headers", &name, shown, node.origin);
        headers.push((name, values));
    }
    Some(headers)
}

/// Checks the name and the values of a header.
pub(super) fn check_header(name: &str, values: &[String]) -> Result<(), String> {
    check_header_name(name)?;
    values
        .iter()
        .try_for_each(|value| parse_header_value(value).map(drop))
}

/// Checks the syntax of a header name: a token (RFC 9110, section 5.6.2).
fn check_header_name(text: &str) -> Result<(), String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if text.is_empty() || !text.chars().all(is_token) {
        return Err("must be the name of a header".to_owned());
    }
    if RESERVED_HEADERS.contains(&text.to_ascii_lowercase().as_str()) {
        return Err("cannot be set: the server sets this header itself".to_owned());
    }
    Ok(())
}
