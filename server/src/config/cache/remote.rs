//! How a registry behind this one is reached: its URL, and who asks there.

use imgsync_oci::Registry;

use super::super::build::{header_value, path};
use super::super::reader::ConfigReader;
use super::super::tree::ValueOrigin;
use super::super::types::{UpstreamLogin, UpstreamPassword};

/// The login under `base`, if one is said there.
pub(super) fn build_login(
    r: &mut ConfigReader<'_>,
    base: &str,
    takes_file: bool,
) -> Option<Option<UpstreamLogin>> {
    let key = |name: &str| format!("{base}.{name}");
    let username = r.optional(&key("username"), header_value)?;
    let password = r.secret(&key("password"))?;
    let file = match takes_file {
        true => r.optional(&key("passwordfile"), path)?,
        false => None,
    };
    let problem = |r: &mut ConfigReader<'_>, name: &str, text: &str| {
        let origin = r.origin(base).unwrap_or(ValueOrigin::Default);
        r.diagnostics.error(&origin, &key(name), text);
        None
    };
    let password = match (password, file) {
        (Some(_), Some(_)) => {
            return problem(
                r,
                "passwordfile",
                "stands beside a password; one of them counts",
            );
        }
        (Some(password), None) => Some(UpstreamPassword::Inline(password)),
        (None, Some(file)) => Some(UpstreamPassword::File(file)),
        (None, None) => None,
    };
    match (username, password) {
        (Some(username), Some(password)) => Some(Some(UpstreamLogin { username, password })),
        (None, None) => Some(None),
        (Some(_), None) => problem(r, "password", "must be set where there is a username"),
        (None, Some(_)) => problem(r, "username", "must be set where there is a password"),
    }
}

/// A registry's address, and whether it is spoken to with TLS.
pub(super) fn parse_remote_url(text: &str) -> Result<(Registry, bool), String> {
    let wrong = |why: &str| {
        Err(format!(
            "must be a registry's URL, as https://registry-1.docker.io{why}, not {text:?}"
        ))
    };
    let (rest, is_tls) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => return wrong(""),
    };
    if rest.contains('@') {
        return Err("must not hold a login: username and password are keys beside it".to_owned());
    }
    let host = rest.trim_end_matches('/');
    if host.contains(['/', '?', '#']) {
        return wrong(" without a path");
    }
    match host.parse() {
        Ok(registry) => Ok((registry, is_tls)),
        Err(_) => wrong(""),
    }
}
