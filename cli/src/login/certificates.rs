//! Loads the certificates in the `certs.d` folders of Docker and podman: one folder for each
//! registry, with CA certificates (`*.crt`) and client certificates with their keys (`*.cert`,
//! `*.key`).
//!
//! This module opens no connections. Start reading at [`load_certificates`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use imgsync_oci::Registry;
use imgsync_oci::client::TlsOptions;

use super::credentials::files::home;
use crate::report::Report;

/// Returns the TLS options for a registry, and whether the folders contain any certificate. A file
/// that cannot be used is reported and skipped, because the registry may not need it.
pub(super) fn load_certificates(
    registry: &Registry,
    report: &Arc<dyn Report>,
) -> (TlsOptions, bool) {
    let mut tls = TlsOptions::default();
    let mut found = false;
    let mut identified = false;
    for folder in folders() {
        for path in files(&folder.join(name(registry))) {
            let result = match path.extension().and_then(|end| end.to_str()) {
                Some("crt") => read(&path).and_then(|pem| tls.add_ca_certificates(&pem)),
                // A TLS client presents one certificate: the first one by file name.
                Some("cert") if !identified => pair(&path)
                    .and_then(|pem| tls.set_client_certificate(&pem))
                    .inspect(|()| identified = true),
                Some(_) | None => continue,
            };
            match result {
                Ok(()) => found = true,
                Err(what) => {
                    let path = path.display();
                    report.note(&format!("warning: cannot use {path}: {what}"));
                }
            }
        }
    }
    (tls, found)
}

/// Returns the folders in the order of Docker and podman, those of the system first.
fn folders() -> Vec<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty());
    let config = config
        .map(PathBuf::from)
        .or_else(|| Some(home()?.join(".config")));
    [
        Some(PathBuf::from("/etc/docker/certs.d")),
        Some(PathBuf::from("/etc/containers/certs.d")),
        home().map(|home| home.join(".docker/certs.d")),
        config.as_ref().map(|config| config.join("docker/certs.d")),
        config
            .as_ref()
            .map(|config| config.join("containers/certs.d")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the name of a registry's folder. File names on Windows cannot contain a colon.
fn name(registry: &Registry) -> String {
    match cfg!(windows) {
        true => registry.as_str().replace(':', ""),
        false => registry.as_str().to_owned(),
    }
}

/// Lists the files of a folder by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Returns a certificate followed by its key, in PEM.
fn pair(certificate: &Path) -> Result<Vec<u8>, String> {
    let key = certificate.with_extension("key");
    let mut pem = read(certificate)?;
    pem.push(b'\n');
    pem.extend(read(&key).map_err(|error| format!("its key {}: {error}", key.display()))?);
    Ok(pem)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| error.to_string())
}
