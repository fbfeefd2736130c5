//! The URL of an upstream, and the login there.

use imgsync_oci::Registry;

use super::super::reader::ConfigReader;
use super::super::scalars::{parse_header_value, parse_path};
use super::super::tree::ValueOrigin;
use super::super::types::{SecretSource, UpstreamLogin};

/// Builds the login in the section `base`; `Some(None)` when none is set. `takes_file` allows
/// `passwordfile` beside `password`.
pub(super) fn build_login(
    reader: &mut ConfigReader<'_>,
    base: &str,
    takes_file: bool,
) -> Option<Option<UpstreamLogin>> {
    let key = |name: &str| format!("{base}.{name}");
    let username = reader.optional(&key("username"), parse_header_value)?;
    let password = reader.secret(&key("password"))?;
    let file = if takes_file {
        reader.optional(&key("passwordfile"), parse_path)?
    } else {
        None
    };
    let fail = |reader: &mut ConfigReader<'_>, name: &str, text: &str| {
        let origin = reader.origin(base).unwrap_or(ValueOrigin::Default);
        reader.diagnostics.error(&origin, &key(name), text);
        None
    };
    let password = match (password, file) {
        (Some(_), Some(_)) => {
            return fail(
                reader,
                "passwordfile",
                "cannot be set together with password",
            );
        }
        (Some(password), None) => Some(SecretSource::Inline(password)),
        (None, Some(file)) => Some(SecretSource::File(file)),
        (None, None) => None,
    };
    match (username, password) {
        (Some(username), Some(password)) => Some(Some(UpstreamLogin { username, password })),
        (None, None) => Some(None),
        (Some(_), None) => fail(reader, "password", "must be set when username is set"),
        (None, Some(_)) => fail(reader, "username", "must be set when password is set"),
    }
}

/// Parses the URL of a registry into its address and whether it uses TLS.
pub(super) fn parse_remote_url(text: &str) -> Result<(Registry, bool), String> {
    let invalid = |detail: &str| {
        Err(format!(
            "must be a registry's URL such as https://registry-1.docker.io{detail}, not {text:?}"
        ))
    };
    let (rest, is_tls) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => return invalid(""),
    };
    if rest.contains('@') {
        return Err("must not contain a login: use the keys username and password".to_owned());
    }
    let host = rest.trim_end_matches('/');
    if host.contains(['/', '?', '#']) {
        return invalid(", without a path");
    }
    match host.parse() {
        Ok(registry) => Ok((registry, is_tls)),
        Err(_) => invalid(""),
    }
}
