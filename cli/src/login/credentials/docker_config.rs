//! Reads and changes the contents of Docker's `config.json` and podman's `auth.json`, which have
//! the same format.
//!
//! This module does not access files. Start reading at [`DockerConfig`].

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use imgsync_oci::client::Credentials;
use serde_json::{Map, Value};

/// Docker pads its base64; other tools do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A configuration, including the settings that imgsync does not use.
#[derive(Debug, Default)]
pub(super) struct DockerConfig(Map<String, Value>);

impl DockerConfig {
    /// Parses the content of a file. A blank file counts as empty.
    ///
    /// # Errors
    /// Fails if the content is not a JSON object.
    pub(super) fn parse(content: &[u8]) -> Result<Self, String> {
        if content.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let map = serde_json::from_slice(content).map_err(|error| error.to_string())?;
        Ok(Self(map))
    }

    /// Returns the content to write to the file, indented as Docker does it.
    ///
    /// # Errors
    /// Fails if the configuration cannot be serialized, which is not expected.
    pub(super) fn write(&self) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut content, formatter);
        serde::Serialize::serialize(&self.0, &mut serializer).map_err(|error| error.to_string())?;
        Ok(content)
    }

    /// Returns the name of the credential helper configured for this key only.
    pub(super) fn registry_helper(&self, key: &str) -> Option<&str> {
        let name = self.0.get("credHelpers")?.get(key)?.as_str()?;
        (!name.is_empty()).then_some(name)
    }

    /// Returns the name of the credential helper for a key: its own, or else the common store.
    pub(super) fn helper(&self, key: &str) -> Option<&str> {
        let store = || self.0.get("credsStore")?.as_str();
        let name = self.registry_helper(key).or_else(store)?;
        (!name.is_empty()).then_some(name)
    }

    /// Returns the keys in the file that name one of these hosts. As Docker does, the scheme and the
    /// path are ignored. A path without a scheme, other than that of the API, belongs to podman,
    /// where it limits the entry to some repositories.
    pub(super) fn keys_of_hosts(&self, hosts: &[&str]) -> Vec<String> {
        let auths = self.0.get("auths").and_then(Value::as_object);
        let keys = auths.into_iter().flat_map(Map::keys);
        let is_named = |key: &&String| {
            let host = host_of_key(key).unwrap_or_default();
            hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
        };
        keys.filter(is_named).cloned().collect()
    }

    /// Returns the credentials stored in the file itself.
    ///
    /// # Errors
    /// Fails if the entry cannot be decoded.
    pub(super) fn inline_credentials(&self, key: &str) -> Result<Option<Credentials>, String> {
        let Some(entry) = self.0.get("auths").and_then(|auths| auths.get(key)) else {
            return Ok(None);
        };
        let field = |name: &str| {
            let value = entry.get(name).and_then(Value::as_str);
            value.filter(|value| !value.is_empty())
        };
        if let Some(token) = field("identitytoken") {
            return Ok(Some(Credentials::IdentityToken(token.to_owned())));
        }
        if let Some(encoded) = field("auth") {
            let bytes = BASE64.decode(encoded).map_err(|error| error.to_string())?;
            let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
            // Old versions of Docker padded passwords with NUL.
            let pair = text.trim_end_matches('\0').split_once(':');
            let (username, password) = pair.ok_or("\"auth\" is not a username and a password")?;
            return Ok(password_of(username, password));
        }
        match (field("username"), field("password")) {
            (Some(username), Some(password)) => Ok(password_of(username, password)),
            _ => Ok(None),
        }
    }

    /// Stores credentials in the file. `None` stores an empty entry, as Docker does for credentials
    /// kept by a helper.
    pub(super) fn put(&mut self, key: &str, credentials: Option<(&str, &str)>) {
        let entry = match credentials {
            Some((username, password)) => {
                serde_json::json!({"auth": BASE64.encode(format!("{username}:{password}"))})
            }
            None => Value::Object(Map::new()),
        };
        let auths = self.0.entry("auths").or_insert(Value::Null);
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        auths[key] = entry;
    }

    /// Removes an entry. Returns whether there was one.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let auths = self.0.get_mut("auths").and_then(Value::as_object_mut);
        auths.is_some_and(|auths| auths.shift_remove(key).is_some())
    }
}

/// Returns the host and port of a key that applies to all repositories of a registry.
fn host_of_key(key: &str) -> Option<&str> {
    let without_scheme = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let (host, path) = match without_scheme.unwrap_or(key).split_once('/') {
        Some((host, path)) => (host, path.trim_end_matches('/')),
        None => (without_scheme.unwrap_or(key), ""),
    };
    (without_scheme.is_some() || matches!(path, "" | "v1" | "v2")).then_some(host)
}

fn password_of(username: &str, password: &str) -> Option<Credentials> {
    // A credential store that knows the registry but not the user returns an empty username.
    (!username.is_empty()).then(|| Credentials::Password {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_docker_and_podman_are_read() {
        // dTpwOnc= is u:p:w
        let text = br#"{"auths": {"a:5000": {"auth": "dTpwOnc="}, "unpadded": {"auth": "dTpwOnc"},
            "empty": {}, "blank": {"auth": ""}, "plain": {"username": "u", "password": "p:w"},
            "token": {"auth": "dTo=", "identitytoken": "t"}, "bad": {"auth": "%"}}}"#;
        let config = DockerConfig::parse(text).unwrap();
        let password = password_of("u", "p:w");
        for key in ["a:5000", "unpadded", "plain"] {
            assert_eq!(config.inline_credentials(key).unwrap(), password, "{key}");
        }
        for key in ["empty", "blank", "absent"] {
            assert_eq!(config.inline_credentials(key).unwrap(), None, "{key}");
        }
        let token = Some(Credentials::IdentityToken("t".to_owned()));
        assert_eq!(config.inline_credentials("token").unwrap(), token);
        assert!(config.inline_credentials("bad").is_err());
        assert!(DockerConfig::parse(b"[]").is_err());
    }

    #[test]
    fn keys_with_scheme_and_path_name_their_host() {
        let keys = |text: &str| {
            let text = format!(r#"{{"auths": {{"{text}": {{}}}}}}"#);
            let config = DockerConfig::parse(text.as_bytes()).unwrap();
            config.keys_of_hosts(&["a:5000"]).len()
        };
        for key in [
            "a:5000",
            "A:5000",
            "https://a:5000",
            "http://a:5000",
            "http://a:5000/v2/",
            "a:5000/",
            "a:5000/v2",
            "https://a:5000/v2/team/app",
        ] {
            assert_eq!(keys(key), 1, "{key}");
        }
        for key in ["a", "a:5001", "b/a:5000", "a:5000/team", "ftp://a:5000", ""] {
            assert_eq!(keys(key), 0, "{key}");
        }
    }

    #[test]
    fn the_helper_of_a_registry_takes_precedence_over_the_store() {
        let text = br#"{"credsStore": "pass", "credHelpers": {"a": "ecr-login"}}"#;
        let config = DockerConfig::parse(text).unwrap();
        assert_eq!(config.helper("a"), Some("ecr-login"));
        assert_eq!(config.helper("b"), Some("pass"));
        assert_eq!(DockerConfig::parse(b" \n").unwrap().helper("a"), None);
    }

    #[test]
    fn other_settings_are_kept() {
        let text = "{\n\t\"zeta\": 1,\n\t\"auths\": {\n\t\t\"b\": {\n\t\t\t\"auth\": \"dTpw\",\n\t\t\t\"email\": \"x\"\n\t\t},\n\t\t\"c\": {}\n\t},\n\t\"HttpHeaders\": {\n\t\t\"X\": \"y\"\n\t},\n\t\"alpha\": null\n}";
        let mut config = DockerConfig::parse(text.as_bytes()).unwrap();
        config.put("a", Some(("u", "p:w")));
        let credentials = config.inline_credentials("a").unwrap();
        assert_eq!(credentials, password_of("u", "p:w"));
        assert!(config.remove("a") && !config.remove("a"));
        assert_eq!(String::from_utf8(config.write().unwrap()).unwrap(), text);
    }
}
