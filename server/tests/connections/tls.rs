//! Encrypted connections, as clients see them. openssl makes the certificates, as tutorials do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::prelude::*;
use reqwest::{Certificate, Client};

/// A folder with a certificate for `localhost`, signed by itself.
struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        setup.make("a");
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes `NAME.crt` and `NAME.key`.
    fn make(&self, name: &str) {
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
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

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

/// A client that trusts one certificate and no other.
fn trusting(certificate: &Path) -> Client {
    let pem = std::fs::read(certificate).unwrap();
    let certificate = Certificate::from_pem(&pem).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([certificate]);
    client.build().unwrap()
}

/// What `openssl s_client` says of a connection; empty where there is none.
fn s_client(server: &Server, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.address])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    match output.status.success() {
        true => String::from_utf8_lossy(&output.stdout).into_owned(),
        false => String::new(),
    }
}

#[tokio::test]
async fn what_is_spoken_is_agreed_on_and_bodies_go_both_ways() {
    let setup = Setup::new();
    for (disabled, expected) in [("false", "h2"), ("true", "http/1.1")] {
        let server = setup.start(&[("REGISTRY_HTTP_HTTP2_DISABLED", disabled)]);
        let agreed = s_client(&server, &["-alpn", "h2,http/1.1"]);
        assert!(
            agreed.contains(&format!("ALPN protocol: {expected}\n")),
            "{agreed}"
        );
        let agreed = s_client(&server, &["-alpn", "http/1.1"]);
        assert!(agreed.contains("ALPN protocol: http/1.1\n"), "{agreed}");
        let client = trusting(&setup.path("a.crt"));
        let bytes = bytes(3_000_000);
        let digest = Digest::of(&bytes);
        let url = server.url(&format!("/v2/a/blobs/uploads/?digest={digest}"));
        let pushed = client.post(url).body(bytes.clone()).send().await.unwrap();
        assert_eq!(pushed.status(), 201);
        let url = server.url(&format!("/v2/a/blobs/{digest}"));
        let pulled = client.get(url).send().await.unwrap();
        assert!(pulled.bytes().await.unwrap() == bytes);
        let stranger = crate::support::client().get(server.url("/v2/")).send();
        assert!(
            stranger.await.is_err(),
            "nobody else knows this certificate"
        );
    }
}

#[test]
fn versions_and_cipher_suites_are_as_configured() {
    let setup = Setup::new();
    let newest = "New, TLSv1.3, Cipher is TLS_AES_";
    let older = "New, TLSv1.2, Cipher is ECDHE-ECDSA-";
    let server = setup.start(&[]);
    assert!(s_client(&server, &[]).contains(newest));
    assert!(s_client(&server, &["-tls1_2"]).contains(older));
    // Whatever the client would like: what is broken is not spoken.
    assert_eq!(
        s_client(&server, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]),
        ""
    );
    drop(server);

    let server = setup.start(&[("REGISTRY_HTTP_TLS_MINIMUMTLS", "tls1.3")]);
    assert!(s_client(&server, &[]).contains(newest));
    assert_eq!(s_client(&server, &["-tls1_2"]), "");
    drop(server);

    let suites = "[TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_RSA_WITH_AES_128_CBC_SHA]";
    let server = setup.start(&[("REGISTRY_HTTP_TLS_CIPHERSUITES", suites)]);
    assert!(s_client(&server, &[]).contains(newest));
    let found = s_client(&server, &["-tls1_2"]);
    assert!(
        found.contains("Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"),
        "{found}"
    );
    let other = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    assert_eq!(s_client(&server, &other), "");
    server.wait_for_log("TLS_RSA_WITH_AES_128_CBC_SHA is not supported");
}

#[tokio::test]
async fn a_new_certificate_counts_for_new_connections_and_cuts_no_old_one() {
    let setup = Setup::new();
    let server = setup.start(&[]);
    let old = trusting(&setup.path("a.crt"));
    setup.make("b");
    let new = trusting(&setup.path("b.crt"));
    let url = server.url("/v2/");
    assert_eq!(old.get(&url).send().await.unwrap().status(), 200);
    assert!(new.get(&url).send().await.is_err());
    // An upload that is under way when the certificate changes.
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
        std::fs::copy(setup.path(&from), setup.path("next")).unwrap();
        std::fs::rename(setup.path("next"), setup.path(&to)).unwrap();
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
    // A key that does not match leaves the certificate that works.
    std::fs::write(setup.path("a.key"), "nonsense").unwrap();
    server.signal("HUP");
    server.wait_for_log("keeping the old certificate");
    let again = trusting(&setup.path("b.crt")).get(&url).send().await;
    assert_eq!(again.unwrap().status(), 200);
}

#[test]
fn plain_http_is_told_where_it_is_and_silence_is_no_error() {
    let setup = Setup::new();
    let server = setup.start(&[]);
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
    // Handshakes that fail or never come.
    for bytes in [&b""[..], b"\x16\x03\x01\x00\x05nonse", b"\0\0\0"] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(bytes).unwrap();
    }
    assert!(s_client(&server, &[]).contains("TLSv1.3"));
    let log = server.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[test]
fn files_that_do_not_fit_keep_it_from_starting() {
    let setup = Setup::new();
    setup.make("b");
    std::fs::write(setup.path("empty"), "").unwrap();
    for (certificate, key, words) in [
        ("a.crt", "b.key", "does not match the certificate"),
        ("none", "a.key", "cannot read"),
        ("a.crt", "empty", "contains no private key"),
        ("a.key", "a.crt", "are the two files swapped"),
    ] {
        let output = crate::support::command(&setup.path("root"))
            .env("REGISTRY_HTTP_TLS_CERTIFICATE", setup.path(certificate))
            .env("REGISTRY_HTTP_TLS_KEY", setup.path(key))
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{said}");
        assert!(!said.contains("PRIVATE"), "{said}");
    }
}
