//! Tests TLS: protocols, cipher suites, and new certificates. `openssl` creates the certificates.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::prelude::*;
use reqwest::{Certificate, Client};

/// A folder with self-signed certificates for `localhost`.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let certificates = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        certificates.create("a");
        certificates
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates `NAME.crt` and `NAME.key`.
    fn create(&self, name: &str) {
        let arguments = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN={name} -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
             -addext basicConstraints=critical,CA:FALSE \
             -keyout {name}.key -out {name}.crt"
        );
        let output = Command::new("openssl")
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
    }

    /// Starts a server with the certificate `a`.
    fn start(&self, variables: &[(&str, &str)]) -> Server {
        let (certificate, key) = (self.path("a.crt"), self.path("a.key"));
        let mut all = vec![
            (
                "REGISTRY_HTTP_TLS_CERTIFICATE",
                certificate.to_str().unwrap(),
            ),
            ("REGISTRY_HTTP_TLS_KEY", key.to_str().unwrap()),
        ];
        all.extend_from_slice(variables);
        let server = Server::start_with(&self.path("root"), &all);
        assert_eq!(server.scheme, "https");
        server
    }
}

/// Returns a client that trusts this certificate alone.
fn trusting(certificate: &Path) -> Client {
    let pem = std::fs::read(certificate).unwrap();
    let certificate = Certificate::from_pem(&pem).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([certificate]);
    client.build().unwrap()
}

/// Returns the output of `openssl s_client`; empty if no connection is possible.
fn s_client(server: &Server, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.address])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.success() {
        String::from_utf8_lossy(&output.stdout).into_owned()
    } else {
        String::new()
    }
}

#[tokio::test]
async fn alpn_selects_the_protocol_and_bodies_are_transferred() {
    let certificates = Certificates::new();
    for (disabled, expected) in [("false", "h2"), ("true", "http/1.1")] {
        let server = certificates.start(&[("REGISTRY_HTTP_HTTP2_DISABLED", disabled)]);
        let agreed = s_client(&server, &["-alpn", "h2,http/1.1"]);
        assert!(
            agreed.contains(&format!("ALPN protocol: {expected}\n")),
            "{agreed}"
        );
        let agreed = s_client(&server, &["-alpn", "http/1.1"]);
        assert!(agreed.contains("ALPN protocol: http/1.1\n"), "{agreed}");
        let client = trusting(&certificates.path("a.crt"));
        let bytes = bytes(3_000_000);
        let digest = Digest::of(&bytes);
        let url = server.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        let pushed = client.post(url).body(bytes.clone()).send().await.unwrap();
        assert_eq!(pushed.status(), 201);
        let url = server.url(&format!("/v2/a/blobs/{digest}"));
        let pulled = client.get(url).send().await.unwrap();
        assert!(pulled.bytes().await.unwrap() == bytes);
        let untrusting = crate::support::client().get(server.url("/v2/")).send();
        assert!(
            untrusting.await.is_err(),
            "nobody else knows this certificate"
        );
    }
}

#[test]
fn versions_and_cipher_suites_are_as_configured() {
    let certificates = Certificates::new();
    let newest = "New, TLSv1.3, Cipher is TLS_AES_";
    let older = "New, TLSv1.2, Cipher is ECDHE-ECDSA-";
    let server = certificates.start(&[]);
    assert!(s_client(&server, &[]).contains(newest));
    assert!(s_client(&server, &["-tls1_2"]).contains(older));
    // Insecure versions are refused even if the client allows them.
    assert_eq!(
        s_client(&server, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]),
        ""
    );
    drop(server);

    let server = certificates.start(&[("REGISTRY_HTTP_TLS_MINIMUMTLS", "tls1.3")]);
    assert!(s_client(&server, &[]).contains(newest));
    assert_eq!(s_client(&server, &["-tls1_2"]), "");
    drop(server);

    let suites = "[TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_RSA_WITH_AES_128_CBC_SHA]";
    let server = certificates.start(&[("REGISTRY_HTTP_TLS_CIPHERSUITES", suites)]);
    assert!(s_client(&server, &[]).contains(newest));
    let output = s_client(&server, &["-tls1_2"]);
    assert!(
        output.contains("Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"),
        "{output}"
    );
    let other = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    assert_eq!(s_client(&server, &other), "");
    server.wait_for_log("TLS_RSA_WITH_AES_128_CBC_SHA is not supported");
}

#[tokio::test]
async fn a_new_certificate_is_used_for_new_connections_only() {
    let certificates = Certificates::new();
    let server = certificates.start(&[]);
    let old = trusting(&certificates.path("a.crt"));
    certificates.create("b");
    let new = trusting(&certificates.path("b.crt"));
    let url = server.url("/v2/");
    assert_eq!(old.get(&url).send().await.unwrap().status(), 200);
    assert!(new.get(&url).send().await.is_err());
    // An upload that is running when the certificate changes.
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|part| (part, receiver))
    });
    let bytes = [vec![1; 100_000], vec![2; 100_000]];
    let digest = Digest::of(&bytes.concat());
    let upload = server.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
    let request = old.post(upload).body(reqwest::Body::wrap_stream(body));
    let upload = tokio::spawn(request.send());
    let [first, second] = bytes;
    sender.send(Ok(first)).await.unwrap();

    for kind in ["crt", "key"] {
        let (from, to) = (format!("b.{kind}"), format!("a.{kind}"));
        std::fs::copy(certificates.path(&from), certificates.path("next")).unwrap();
        std::fs::rename(certificates.path("next"), certificates.path(&to)).unwrap();
    }
    server.signal("HUP");
    let answer = loop {
        match new.get(&url).send().await {
            Ok(answer) => break answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(answer.status(), 200);
    sender.send(Ok(second)).await.unwrap();
    drop(sender);
    assert_eq!(upload.await.unwrap().unwrap().status(), 201);
    // With an invalid key the server keeps the certificate that it has.
    std::fs::write(certificates.path("a.key"), "nonsense").unwrap();
    server.signal("HUP");
    server.wait_for_log("keeping the old certificate");
    let again = trusting(&certificates.path("b.crt")).get(&url).send().await;
    assert_eq!(again.unwrap().status(), 200);
}

#[test]
fn plain_http_gets_an_explanation_and_failed_handshakes_are_no_errors() {
    let certificates = Certificates::new();
    let server = certificates.start(&[]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .write_all(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.0 400 ") && answer.contains("https://"),
        "{answer}"
    );
    // Clients that send no handshake, or an invalid one.
    for bytes in [&b""[..], b"\x16\x03\x01\x00\x05nonse", b"\0\0\0"] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(bytes).unwrap();
    }
    assert!(s_client(&server, &[]).contains("TLSv1.3"));
    let log = server.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[test]
fn invalid_certificate_files_prevent_the_start() {
    let certificates = Certificates::new();
    certificates.create("b");
    std::fs::write(certificates.path("empty"), "").unwrap();
    for (certificate, key, message) in [
        ("a.crt", "b.key", "does not match the certificate"),
        ("none", "a.key", "cannot read"),
        ("a.crt", "empty", "contains no private key"),
        ("a.key", "a.crt", "are the two files swapped"),
    ] {
        let output = crate::support::command(&certificates.path("root"))
            .env(
                "REGISTRY_HTTP_TLS_CERTIFICATE",
                certificates.path(certificate),
            )
            .env("REGISTRY_HTTP_TLS_KEY", certificates.path(key))
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(message),
            "{stderr}"
        );
        assert!(!stderr.contains("PRIVATE"), "{stderr}");
    }
}
