//! Tests with certificates that openssl creates, as tutorials do.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Runs `openssl` with space-separated arguments.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {stderr}");
}

fn create_certificate(folder: &Path, kind: &str, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey {kind} -nodes -days 2 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.crt"
        ),
    );
}

fn settings(folder: &Path, certificate: &str, key: &str) -> TlsConfig {
    TlsConfig {
        certificate: folder.join(certificate),
        key: folder.join(key),
        min_version: TlsVersion::V1_2,
        cipher_suites: Vec::new(),
    }
}

fn error_text(folder: &Path, certificate: &str, key: &str) -> String {
    let result = build_server_config(&settings(folder, certificate, key), true);
    let error = result.map(|_| ()).unwrap_err();
    error.to_string().replace(&folder.display().to_string(), "")
}

#[test]
fn keys_in_every_pem_format() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    create_certificate(folder, "rsa:2048", "rsa");
    create_certificate(folder, "ec -pkeyopt ec_paramgen_curve:P-256", "p256");
    create_certificate(folder, "ec -pkeyopt ec_paramgen_curve:P-384", "p384");
    create_certificate(folder, "ed25519", "ed");
    openssl(folder, "rsa -traditional -in rsa.key -out rsa.pkcs1");
    openssl(folder, "ec -in p256.key -out p256.sec1");
    for (certificate, key, begins) in [
        ("rsa.crt", "rsa.key", "-----BEGIN PRIVATE KEY"),
        ("rsa.crt", "rsa.pkcs1", "-----BEGIN RSA PRIVATE KEY"),
        ("p256.crt", "p256.key", "-----BEGIN PRIVATE KEY"),
        ("p256.crt", "p256.sec1", "-----BEGIN EC PRIVATE KEY"),
        ("p384.crt", "p384.key", "-----BEGIN PRIVATE KEY"),
        ("ed.crt", "ed.key", "-----BEGIN PRIVATE KEY"),
    ] {
        let text = std::fs::read_to_string(folder.join(key)).unwrap();
        assert!(text.starts_with(begins), "{text}");
        let config = build_server_config(&settings(folder, certificate, key), true).unwrap();
        assert_eq!(
            config.alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
    }
    // As `openssl ecparam -genkey` writes it, with the line ends of Windows; and all in one file.
    let key = std::fs::read_to_string(folder.join("p256.sec1")).unwrap();
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let both = format!("{parameters}{key}").replace('\n', "\r\n");
    std::fs::write(folder.join("both.key"), &both).unwrap();
    build_server_config(&settings(folder, "p256.crt", "both.key"), true).unwrap();
    let crt = std::fs::read_to_string(folder.join("p256.crt")).unwrap();
    std::fs::write(folder.join("all.pem"), format!("{crt}{both}")).unwrap();
    let one = build_server_config(&settings(folder, "all.pem", "all.pem"), false).unwrap();
    assert_eq!(one.alpn_protocols, [b"http/1.1".to_vec()]);
}

#[test]
fn a_certificate_of_version_1_is_served_as_the_stock_registry_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    create_certificate(folder, "rsa:2048", "ca");
    openssl(
        folder,
        "req -new -newkey rsa:2048 -nodes -subj /CN=x -keyout v1.key -out v1.csr",
    );
    openssl(
        folder,
        "x509 -req -in v1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out v1.crt",
    );
    build_server_config(&settings(folder, "v1.crt", "v1.key"), true).unwrap();
}

#[test]
fn errors_name_the_file_and_the_problem() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    create_certificate(folder, "rsa:2048", "a");
    create_certificate(folder, "rsa:2048", "b");
    openssl(
        folder,
        "pkey -in a.key -aes128 -passout pass:x -out encrypted8.key",
    );
    openssl(
        folder,
        "rsa -traditional -in a.key -aes128 -passout pass:x -out encrypted1.key",
    );
    openssl(folder, "genrsa -out short.key 1024");
    openssl(
        folder,
        "req -x509 -key short.key -subj /CN=x -out short.crt",
    );
    file("empty", "");
    file("half.crt", &text("a.crt")[..300]);
    file("half.key", &text("a.key")[..300]);
    file(
        "garbage.crt",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    for (certificate, key, expected) in [
        (
            "a.crt",
            "b.key",
            "the key in /b.key does not match the certificate in /a.crt",
        ),
        (
            "none",
            "a.key",
            "http.tls.certificate: cannot read /none: No such file or directory",
        ),
        (
            "a.crt",
            "none",
            "http.tls.key: cannot read /none: No such file or directory",
        ),
        ("a.crt", "", "http.tls.key: cannot read /: Is a directory"),
        ("empty", "a.key", "/empty contains no certificate"),
        ("a.crt", "empty", "/empty contains no private key"),
        (
            "a.key",
            "a.crt",
            "/a.key contains a key and no certificate; are the two",
        ),
        ("a.crt", "b.crt", "/b.crt contains no private key"),
        ("a.crt", "encrypted8.key", "/encrypted8.key is encrypted"),
        ("a.crt", "encrypted1.key", "/encrypted1.key is encrypted"),
        (
            "short.crt",
            "short.key",
            "unsupported type or size of the key in /short.key",
        ),
        (
            "half.crt",
            "a.key",
            "/half.crt is damaged: the file ends within",
        ),
        ("a.crt", "half.key", "/half.key is damaged"),
        (
            "garbage.crt",
            "a.key",
            "the certificate in /garbage.crt cannot be used",
        ),
    ] {
        let text = error_text(folder, certificate, key);
        assert!(text.starts_with(expected), "{text:?}, not {expected:?}");
    }
}

#[test]
fn a_failed_reload_keeps_the_old_certificate() {
    let folder = tempfile::tempdir().unwrap();
    create_certificate(folder.path(), "ec -pkeyopt ec_paramgen_curve:P-256", "a");
    let settings = settings(folder.path(), "a.crt", "a.key");
    let tls = ReloadableTls::open(&settings, true).unwrap();
    let before = tls.config.load_full();
    let missing = TlsConfig {
        key: PathBuf::from("/none"),
        ..settings.clone()
    };
    assert!(tls.reload(&missing, true).is_err());
    assert!(Arc::ptr_eq(&before, &tls.config.load_full()));
    tls.reload(&settings, true).unwrap();
    assert!(!Arc::ptr_eq(&before, &tls.config.load_full()));
}
