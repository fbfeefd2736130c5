//! Creates certificates with openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::must;

/// A certificate authority (CA).
pub struct CertificateAuthority {
    folder: PathBuf,
}

/// The paths of a certificate and its private key (PEM).
pub struct CertificateAndKey {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl CertificateAuthority {
    /// Creates a CA with its files in `folder`. The name of the folder is part of the CA's name.
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

    /// Returns the path of the CA's certificate (PEM).
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Creates a server certificate for these names (`DNS:…`, `IP:…`), or a client certificate if
    /// there are none.
    pub fn sign(&self, name: &str, names: &[&str]) -> CertificateAndKey {
        let file = |extension: &str| format!("{name}.{extension}");
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
        let extensions = if names.is_empty() {
            "extendedKeyUsage=clientAuth\n".to_owned()
        } else {
            format!(
                "subjectAltName={}\nextendedKeyUsage=serverAuth\n",
                names.join(",")
            )
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
