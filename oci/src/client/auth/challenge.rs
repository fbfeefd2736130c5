//! Parses the challenges of a 401 response (RFC 9110, section 11.6.1).
//!
//! The parser is lenient, as those of Docker and Go are: real registries and proxies send realms
//! without quotes, in single quotes, with spaces, and in other encodings than ASCII. Basic
//! authentication needs no parameter, so a login must not fail because of one.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// The most challenges of one response that are read.
const MAX_CHALLENGES: usize = 32;
/// The most parameters of one challenge that are read.
const MAX_PARAMETERS: usize = 32;

/// A challenge: a scheme with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Challenge {
    /// The scheme as the registry wrote it, for example `Basic`.
    pub(in super::super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns whether the challenge has this scheme, which is not case-sensitive.
    pub(super) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// Returns the first parameter of this name, which is not case-sensitive.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut all = self.parameters.iter();
        let (_, value) = all.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

/// Returns the challenges in all `WWW-Authenticate` headers, in their order.
pub(in super::super) fn parse_challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        parse_header(&String::from_utf8_lossy(value.as_bytes()), &mut challenges);
    }
    challenges
}

/// Adds the challenges of one header. A word that `=` follows is a parameter. Another word is the
/// scheme of a challenge at the start, after a comma and after parameters, and else the credentials
/// of a scheme without parameters (`token68`), which are skipped.
fn parse_header(header: &str, challenges: &mut Vec<Challenge>) {
    let mut current: Option<Challenge> = None;
    let mut rest = header;
    loop {
        let trimmed = rest.trim_start_matches(is_separator);
        let is_after_comma = rest[..rest.len() - trimmed.len()].contains(',');
        let end = trimmed.find(|c| c == '=' || is_separator(c));
        let (word, after) = trimmed.split_at(end.unwrap_or(trimmed.len()));
        if trimmed.is_empty() || challenges.len() >= MAX_CHALLENGES {
            break;
        }
        match (after.trim_start().strip_prefix('='), &mut current) {
            (Some(value), Some(challenge)) => {
                let (value, after) = parse_value(value.trim_start());
                if challenge.parameters.len() < MAX_PARAMETERS {
                    challenge.parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
            // A parameter without a scheme.
            (Some(value), None) => rest = parse_value(value.trim_start()).1,
            (None, Some(challenge)) if challenge.parameters.is_empty() && !is_after_comma => {
                rest = after;
            }
            (None, _) => {
                let scheme = word.to_owned();
                let next = Challenge {
                    scheme,
                    parameters: Vec::new(),
                };
                challenges.extend(current.replace(next));
                rest = after;
            }
        }
    }
    challenges.extend(current);
}

fn is_separator(c: char) -> bool {
    c == ',' || c.is_whitespace()
}

/// Splits the value of a parameter from the text after it.
fn parse_value(text: &str) -> (String, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        return parse_quoted(quoted);
    }
    if let Some((value, after)) = text
        .strip_prefix('\'')
        .and_then(|text| text.split_once('\''))
    {
        return (value.to_owned(), after);
    }
    // The value may contain spaces: `realm=My Registry`.
    let (value, after) = text.split_at(text.find(',').unwrap_or(text.len()));
    (value.trim_end().to_owned(), after)
}

/// Splits a quoted string from the text after it. `text` starts after the opening quote.
fn parse_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &text[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses headers, and formats each challenge as `scheme name=value name=value`.
    fn parse(values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(WWW_AUTHENTICATE, value);
        }
        let challenges = parse_challenges(&headers);
        let format = |challenge: &Challenge| {
            let parameters = challenge.parameters.iter();
            let parameters = parameters.map(|(name, value)| format!(" {name}={value}"));
            challenge.scheme.clone() + &parameters.collect::<String>()
        };
        challenges.iter().map(format).collect()
    }

    #[test]
    fn challenges_of_the_standard_form() {
        let bearer = r#"Bearer realm="https://a/token",service="the, service",scope="x:y:pull""#;
        assert_eq!(
            parse(&[bearer]),
            ["Bearer realm=https://a/token service=the, service scope=x:y:pull"]
        );
        assert_eq!(
            parse(&[r#"Basic realm="a \"b\" c""#]),
            [r#"Basic realm=a "b" c"#]
        );
        assert_eq!(
            parse(&["Negotiate YII==, Basic realm=x", "Digest qop=auth, nonce=1"]),
            [
                "Negotiate YII==",
                "Basic realm=x",
                "Digest qop=auth nonce=1"
            ]
        );
        assert_eq!(parse(&["Negotiate, NTLM"]), ["Negotiate", "NTLM"]);
    }

    #[test]
    fn challenges_that_other_servers_send() {
        for (header, expected) in [
            ("Basic realm=/", "Basic realm=/"),
            ("Basic realm=\"私有镜像仓库\"", "Basic realm=私有镜像仓库"),
            ("Basic realm=My Registry", "Basic realm=My Registry"),
            ("Basic realm='My, Registry'", "Basic realm=My, Registry"),
            ("Basic  realm = \"x\"", "Basic realm=x"),
            (
                "Basic realm=https://a.example/",
                "Basic realm=https://a.example/",
            ),
            ("Basic realm=\"open", "Basic realm=open"),
            ("Basic realm=", "Basic realm="),
            ("basic", "basic"),
            (" ,Bearer realm=a,, service=b,", "Bearer realm=a service=b"),
        ] {
            assert_eq!(parse(&[header]), [expected], "{header}");
        }
        let joined = r#"Basic realm="a" Bearer realm="b""#;
        assert_eq!(parse(&[joined]), ["Basic realm=a", "Bearer realm=b"]);
        assert_eq!(parse(&["", " , ", "=", "realm=x"]), [""; 0]);
    }
}
