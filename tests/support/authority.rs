//! A certificate authority for one test, by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::must;

/// A CA and its folder.
pub struct CertificateAuthority {
    folder: PathBuf,
}

/// A certificate and its key, as files in PEM.
pub struct CertificateAndKey {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl CertificateAuthority {
    /// A new CA, whose files are in this folder, and which has the folder's name.
    pub fn new(folder: &Path) -> Self {
        let authority = Self {
            folder: folder.to_owned(),
        };
        let name = folder.file_name().expect("a folder").to_string_lossy();
        openssl(
            folder,
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
                "-subj",
                &format!("/CN=imgsync tests: {name}"),
                "-keyout",
                "ca.key",
                "-out",
                "ca.crt",
            ],
        );
        authority
    }

    /// The CA's own certificate, as a file in PEM.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A certificate for these names (`DNS:…`, `IP:…`) or, without any, for a client.
    pub fn sign(&self, name: &str, names: &[&str]) -> CertificateAndKey {
        let file = |end: &str| format!("{name}.{end}");
        let subject = format!("/CN={name}");
        openssl(
            &self.folder,
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                &subject,
                "-keyout",
                &file("key"),
                "-out",
                &file("csr"),
            ],
        );
        let extensions = match names.is_empty() {
            true => "extendedKeyUsage=clientAuth\n".to_owned(),
            false => format!(
                "subjectAltName={}\nextendedKeyUsage=serverAuth\n",
                names.join(",")
            ),
        };
        std::fs::write(self.folder.join(file("ext")), extensions).expect("a file");
        openssl(
            &self.folder,
            &[
                "x509",
                "-req",
                "-in",
                &file("csr"),
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &file("ext"),
                "-out",
                &file("crt"),
            ],
        );
        CertificateAndKey {
            certificate: self.folder.join(file("crt")),
            key: self.folder.join(file("key")),
        }
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    must(Command::new("openssl").args(arguments).current_dir(folder));
}
