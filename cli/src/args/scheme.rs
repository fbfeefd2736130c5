//! Names that begin with `http://` or `https://`.

use std::fmt::Display;

use imgsync_oci::client::UrlScheme;

/// A name in a registry, and the scheme that was typed before it. `http://` means `--plain-http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithScheme<T> {
    /// The scheme, if one was typed.
    pub scheme: Option<UrlScheme>,
    /// The name.
    pub name: T,
}

impl<T> WithScheme<T> {
    /// Parses a name with or without a scheme. `parse` parses the name alone.
    ///
    /// # Errors
    /// Fails if the name is invalid. `hint` is added to the message.
    pub fn parse<E: Display>(
        text: &str,
        hint: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Self, String> {
        let (scheme, name) = split_scheme(text);
        let name = parse(name).map_err(|error| {
            let error = error.to_string();
            let is_complete = hint.is_empty() || error.contains("\nhint: ");
            if is_complete {
                error
            } else {
                format!("{error}\nhint: {hint}")
            }
        })?;
        Ok(Self { scheme, name })
    }
}

/// Splits a scheme off a name. A slash at the end of a URL is no part of the name.
pub fn split_scheme(text: &str) -> (Option<UrlScheme>, &str) {
    let schemes = [("http://", UrlScheme::Http), ("https://", UrlScheme::Https)];
    let mut found = schemes.into_iter().filter_map(|(prefix, scheme)| {
        let name = text.strip_prefix(prefix)?;
        Some((Some(scheme), name.strip_suffix('/').unwrap_or(name)))
    });
    found.next().unwrap_or((None, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        for (text, expected) in [
            ("host/app", (None, "host/app")),
            ("http://host/app", (Some(UrlScheme::Http), "host/app")),
            ("https://host:5000/", (Some(UrlScheme::Https), "host:5000")),
            ("host/", (None, "host/")),
        ] {
            assert_eq!(split_scheme(text), expected);
        }
    }
}
