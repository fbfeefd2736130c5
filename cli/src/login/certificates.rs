//! Loads the certificates in the `certs.d` folders of Docker and podman: one folder for each
//! registry, with CA certificates (`*.crt`) and client certificates with their keys (`*.cert`,
//! `*.key`).
//!
//! This module opens no connections. Start reading at [`load_certificates`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use imgsync_oci::client::TlsOptions;
use imgsync_oci::{Registry, decode_text_file};

use crate::disk::{self, System};
use crate::report::Report;

/// Returns the TLS options for a registry, and whether the folders contain any certificate. A file
/// that cannot be used is reported and skipped, because the registry may not need it.
pub(super) fn load_certificates(
    registry: &Registry,
    report: &Arc<dyn Report>,
) -> (TlsOptions, bool) {
    let mut tls = TlsOptions::default();
    let mut has_certificates = false;
    let mut has_client_certificate = false;
    let name = disk::registry_folder(registry.as_str(), System::CURRENT);
    for folder in disk::certificate_folders() {
        for path in list_files(&folder.join(&name)) {
            let added = match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => read(&path).and_then(|pem| tls.add_ca_certificates(&pem)),
                // A TLS client presents one certificate: the first one by file name.
                Some("cert") if !has_client_certificate => read_with_key(&path)
                    .and_then(|pem| tls.set_client_certificate(&pem))
                    .inspect(|()| has_client_certificate = true),
                _ => continue,
            };
            match added {
                Ok(()) => has_certificates = true,
                Err(reason) => {
                    let path = path.display();
                    report.note(&format!("warning: cannot use {path}: {reason}"));
                }
            }
        }
    }
    (tls, has_certificates)
}

/// Lists the files of a folder by name.
fn list_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Returns a certificate followed by its key, in PEM.
fn read_with_key(certificate: &Path) -> Result<Vec<u8>, String> {
    let key = certificate.with_extension("key");
    let mut pem = read(certificate)?;
    pem.push(b'\n');
    pem.extend(read(&key).map_err(|error| format!("cannot read {}: {error}", key.display()))?);
    Ok(pem)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    Ok(decode_text_file(content))
}
