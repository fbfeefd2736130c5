//! Reads Docker contexts, which name daemons (`docker context ls`).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use imgsync_oci::{Digest, decode_text_file};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::TlsFolder;
use crate::image::Error;

/// The most bytes of a configuration file that are read.
const MAX_CONTEXT_FILE_BYTES: u64 = 1024 * 1024;
/// The name that stands for no context.
const DEFAULT_CONTEXT: &str = "default";

/// The endpoint of a context.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextEndpoint {
    /// The address, as in `DOCKER_HOST`.
    pub(super) host: String,
    /// The TLS certificates of the context; `None` if it uses no TLS.
    pub(super) certificates: Option<TlsFolder>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContextConfig {
    #[serde(default)]
    current_context: String,
}

/// Returns the current context according to `config.json` in `folder`.
///
/// # Errors
/// Returns [`Error::DockerContext`] if the file exists and cannot be read.
pub(super) fn current(folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join("config.json");
    let config = json::<ContextConfig>(&path).map_err(|reason| Error::DockerContext {
        name: "current".to_owned(),
        reason,
    })?;
    let name = config.map(|config| config.current_context);
    Ok(name.filter(|name| !name.is_empty()))
}

/// Returns the endpoint of a context; `None` for the default one.
///
/// # Errors
/// Returns [`Error::DockerContext`] if there is no context of this name, or it cannot be read or
/// names no daemon.
pub(super) fn endpoint(folder: &Path, name: &str) -> Result<Option<ContextEndpoint>, Error> {
    if name == DEFAULT_CONTEXT {
        return Ok(None);
    }
    let failed = |reason: String| Error::DockerContext {
        name: name.to_owned(),
        reason,
    };
    // Docker names the folders by digests, so a context's name is never part of a path.
    let digest = Digest::of(name.as_bytes());
    let contexts = folder.join("contexts");
    let path = contexts.join("meta").join(digest.hex()).join("meta.json");
    let meta = json::<Value>(&path).map_err(failed)?;
    let meta = meta.ok_or_else(|| failed(format!("there is no {}", path.display())))?;
    let endpoint = &meta["Endpoints"]["docker"];
    let host = endpoint["Host"].as_str().unwrap_or_default();
    if host.is_empty() {
        return Err(failed("it names no Docker daemon".to_owned()));
    }
    let path = contexts.join("tls").join(digest.hex()).join("docker");
    let is_verified = endpoint["SkipTLSVerify"] != true;
    let certificates = (path.exists() || !is_verified).then_some(TlsFolder {
        path,
        is_verified,
        requires_ca: false,
    });
    Ok(Some(ContextEndpoint {
        host: host.to_owned(),
        certificates,
    }))
}

/// Reads JSON from a file; `None` if the file is missing or empty.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_CONTEXT_FILE_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| failed(&error))?;
    let bytes = decode_text_file(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, host: &str) -> std::path::PathBuf {
        let meta = folder
            .join("contexts/meta")
            .join(Digest::of(name.as_bytes()).hex());
        std::fs::create_dir_all(&meta).unwrap();
        let json = serde_json::json!({
            "Name": name, "Metadata": {},
            "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": false}},
        });
        std::fs::write(meta.join("meta.json"), json.to_string()).unwrap();
        folder
            .join("contexts/tls")
            .join(Digest::of(name.as_bytes()).hex())
    }

    #[test]
    fn a_context_names_an_endpoint() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(current(folder).unwrap(), None);
        std::fs::write(folder.join("config.json"), r#"{"currentContext":"lab"}"#).unwrap();
        assert_eq!(current(folder).unwrap().as_deref(), Some("lab"));

        let tls = write(folder, "lab", "unix:///lab.sock");
        let endpoint_of = |name| endpoint(folder, name).unwrap();
        let found = endpoint_of("lab").unwrap();
        assert_eq!(
            (&*found.host, found.certificates),
            ("unix:///lab.sock", None)
        );
        std::fs::create_dir_all(tls.join("docker")).unwrap();
        let certificates = endpoint_of("lab").unwrap().certificates.unwrap();
        assert_eq!(certificates.path, tls.join("docker"));
        assert!(certificates.is_verified && !certificates.requires_ca);
        assert_eq!(endpoint_of("default"), None);
    }

    #[test]
    fn a_file_may_have_a_byte_order_mark_and_windows_line_endings() {
        let folder = tempfile::tempdir().unwrap();
        let config = "\u{feff}{\r\n\t\"currentContext\": \"lab\"\r\n}\r\n";
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        assert_eq!(current(folder.path()).unwrap().as_deref(), Some("lab"));
    }

    #[test]
    fn errors_name_what_is_wrong_with_a_context() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let error_text = |name| endpoint(folder, name).unwrap_err().to_string();
        assert!(error_text("../x").contains("there is no"));
        write(folder, "empty", "");
        assert!(error_text("empty").contains("names no Docker daemon"));
        let broken = folder
            .join("contexts/meta")
            .join(Digest::of(b"broken").hex());
        std::fs::create_dir_all(&broken).unwrap();
        std::fs::write(broken.join("meta.json"), "{").unwrap();
        assert!(error_text("broken").contains("meta.json"));
        std::fs::write(folder.join("config.json"), "{").unwrap();
        assert!(current(folder).is_err());
    }
}
