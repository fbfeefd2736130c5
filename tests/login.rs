//! Who one is at a registry, and the way to it: logins, credential helpers, certificates, proxies,
//! and what is said when they fail.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::fake::{self, Fake};
use support::image::{Image, layer};
use support::peers::present;
use support::run::{Outcome, must, run};
use support::{Authority, Imgsync, Proxy, Scratch, Server, StockRegistry, archive};

/// `secret`, by `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

/// One user's machine: a home, an image, and what a test sets up around it.
struct Laptop {
    scratch: Scratch,
    imgsync: Imgsync,
    archive: PathBuf,
    variables: Vec<(String, String)>,
}

impl Laptop {
    fn new() -> Self {
        let scratch = Scratch::new();
        let imgsync = Imgsync::new(&scratch.folder("home"));
        let archive = scratch.path("image.tar");
        let image = Image::new(vec![layer("hello", b"world".to_vec())]);
        archive::write_tar(&image.docker_archive("app:v1"), &archive);
        Self {
            scratch,
            imgsync,
            archive,
            variables: Vec::new(),
        }
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    fn home(&self) -> PathBuf {
        self.scratch.path("home")
    }

    fn config(&self) -> PathBuf {
        self.home().join(".docker/config.json")
    }

    /// Docker's configuration, as it is now.
    fn read_config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap()
    }

    fn write_config(&self, config: &Value) {
        std::fs::create_dir_all(self.config().parent().unwrap()).unwrap();
        std::fs::write(self.config(), config.to_string()).unwrap();
    }

    fn run(&self, words: &[&str]) -> Outcome {
        self.run_with_stdin(words, Stdio::null())
    }

    fn run_with_stdin(&self, words: &[&str], stdin: Stdio) -> Outcome {
        let mut command = self.imgsync.command();
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        run(command.args(words).envs(variables).stdin(stdin))
    }

    /// The same, with a password on standard input.
    fn with_password(&self, words: &[&str], password: &str) -> Outcome {
        let mut file = tempfile::tempfile().unwrap();
        writeln!(file, "{password}").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        self.run_with_stdin(words, file.into())
    }

    fn push(&self, options: &[&str], remote: &str) -> Outcome {
        let archive = self.archive.to_str().unwrap();
        let words = [&["push"], options, &[archive, remote]].concat();
        self.run(&words)
    }

    /// A credential helper in PATH that keeps secrets in plain files beside itself.
    fn add_helper(&mut self, name: &str, script: &str) {
        let folder = self.scratch.folder("programs");
        let path = folder.join(format!("docker-credential-{name}"));
        std::fs::write(
            &path,
            format!("#!/bin/sh\ncd {}\n{script}\n", folder.display()),
        )
        .unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let rest = std::env::var("PATH").unwrap();
        self.set("PATH", format!("{}:{rest}", folder.display()));
    }
}

/// What is on stderr, with the registry's address made the same in every run.
fn said(outcome: &Outcome, address: impl ToString) -> String {
    let text = outcome.stderr.replace(&address.to_string(), "ADDRESS");
    text.trim_end().to_owned()
}

/// A stock registry that knows alice.
fn with_login(scratch: &Scratch, http: &str) -> StockRegistry {
    let htpasswd = scratch.path("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {htpasswd:?}}}}}\n");
    let storage = ", delete: {enabled: true}";
    StockRegistry::configured(&scratch.folder("root"), storage, http, &auth)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_login_is_checked_then_kept_where_docker_looks_and_a_logout_undoes_it() {
    if !present(&["docker-registry", "skopeo"]) {
        return;
    }
    let laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/team/app:v1");

    let outcome = laptop.push(&[], &remote).failed(5, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: target: ADDRESS answered GET /v2/team/app/manifests/v1 with 401 Unauthorized: \
         UNAUTHORIZED: authentication required\n \
         hint: log in with imgsync login ADDRESS (docker login and podman login count too), or set \
         IMGSYNC_USERNAME and IMGSYNC_PASSWORD"
    );
    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    let outcome = laptop.with_password(&login, "guess").failed(5, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: target: ADDRESS answered GET /v2/ with 401 Unauthorized: UNAUTHORIZED: \
         authentication required (as alice)\n \
         hint: the password or token is wrong or has expired: log in again with imgsync login \
         ADDRESS"
    );
    assert!(!laptop.config().exists(), "a wrong password is not kept");

    laptop.with_password(&login, "secret").succeeded();
    assert_eq!(mode(&laptop.config()), 0o600);
    // YWxpY2U6c2VjcmV0 is alice:secret
    let auths = json!({"auths": {&host: {"auth": "YWxpY2U6c2VjcmV0"}}});
    assert_eq!(laptop.read_config(), auths);
    laptop.push(&[], &remote).succeeded();
    let config = laptop.config();
    let words = ["inspect", "--tls-verify=false", "--raw", "--authfile"];
    let found = must(
        Command::new("skopeo")
            .args(words)
            .arg(&config)
            .arg(format!("docker://{remote}")),
    );
    assert!(found.contains("layers"), "{found}");

    laptop.run(&["logout", &host]).succeeded();
    assert_eq!(laptop.read_config(), json!({"auths": {}}));
    laptop.push(&[], &remote).failed(5, &["imgsync login"]);
    let outcome = laptop.run(&["logout", &host]).succeeded();
    assert!(outcome.stdout.contains("nothing was kept"), "{outcome}");
}

#[test]
fn a_password_that_is_typed_counts_more_than_one_that_is_kept() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    // Ym9iOmd1ZXNz is bob:guess
    laptop.write_config(&json!({"auths": {&host: {"auth": "Ym9iOmd1ZXNz"}}}));
    laptop.push(&[], &remote).failed(5, &["(as bob)"]);
    let archive = laptop.archive.to_str().unwrap();
    let typed = [
        "push",
        "--username",
        "alice",
        "--password-stdin",
        archive,
        &remote,
    ];
    laptop.with_password(&typed, "secret").succeeded();
    laptop
        .with_password(&typed, "guess")
        .failed(5, &["(as alice)"]);
    laptop
        .with_password(&typed, "")
        .failed(2, &["standard input is empty"]);
    let both = [
        "push",
        "--username",
        "alice",
        "--password-stdin",
        "-",
        &remote,
    ];
    laptop
        .with_password(&both, "secret")
        .failed(2, &["cannot be both"]);
    laptop.set("IMGSYNC_USERNAME", "alice");
    laptop.run(&["ls", &host]).failed(2, &["IMGSYNC_PASSWORD"]);
    laptop.set("IMGSYNC_PASSWORD", "secret");
    laptop.run(&["ls", &host]).succeeded();
}

#[test]
fn what_docker_and_podman_keep_is_found_where_they_keep_it() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/team/app:v1");
    // YWxpY2U6c2VjcmV0 is alice:secret
    let entry = json!({"auth": "YWxpY2U6c2VjcmV0"});
    let of = |key: &str| json!({"auths": {key: entry.clone()}}).to_string();
    let below = |folder: &str| laptop.scratch.folder(folder).to_str().unwrap().to_owned();
    let (docker, session, config) = (below("docker"), below("session"), below("config"));
    let registries = format!("{host}/team");
    for (variable, value, file, key) in [
        ("DOCKER_CONFIG", &docker, "docker/config.json", &host),
        (
            "XDG_RUNTIME_DIR",
            &session,
            "session/containers/auth.json",
            &host,
        ),
        (
            "XDG_CONFIG_HOME",
            &config,
            "config/containers/auth.json",
            &registries,
        ),
    ] {
        laptop.set(variable, value);
        laptop.push(&[], &remote).failed(5, &["imgsync login"]);
        let path = laptop.scratch.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, of(key)).unwrap();
        laptop.push(&[], &remote).succeeded();
        std::fs::remove_file(&path).unwrap();
    }
    let elsewhere = laptop.scratch.path("auth.json");
    std::fs::write(&elsewhere, of(&host)).unwrap();
    laptop.set("REGISTRY_AUTH_FILE", elsewhere.to_str().unwrap());
    laptop.push(&[], &remote).succeeded();
}

#[test]
fn what_else_stands_in_dockers_configuration_stays() {
    let laptop = Laptop::new();
    let registry = Fake::start(|request| match request.authorization() {
        "Basic YWxpY2U6c2VjcmV0" => fake::status(200),
        _ => fake::status(401).header("WWW-Authenticate", "Basic realm=\"here\""),
    });
    let host = registry.address();
    let before = json!({
        "zeta": {"b": 1, "a": [1.5, null]},
        "auths": {"other": {"auth": "Ym9iOmd1ZXNz", "email": "x"}},
        "HttpHeaders": {"X-Meta": "y"},
        "currentContext": "default",
    });
    let target = laptop.home().join("real.json");
    std::fs::create_dir_all(laptop.config().parent().unwrap()).unwrap();
    std::fs::write(&target, before.to_string()).unwrap();
    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&target, laptop.config()).unwrap();

    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    laptop.with_password(&login, "secret").succeeded();
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut after = laptop.read_config();
    assert_eq!(keys(&after), keys(&before), "in their order");
    let entry = after["auths"].as_object_mut().unwrap().remove(&host);
    assert_eq!(entry.unwrap()["auth"], "YWxpY2U6c2VjcmV0");
    assert_eq!(after, before);
    assert_eq!(mode(&target), 0o640);
    assert!(laptop.config().is_symlink());

    std::fs::write(&target, "{ damaged").unwrap();
    laptop
        .with_password(&login, "secret")
        .failed(5, &["damaged"]);
    assert_eq!(std::fs::read(&target).unwrap(), b"{ damaged");
}

const STORE: &str = r#"
case $1 in
get) cat kept 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
store) cat >kept ;;
erase) rm kept ;;
esac"#;

#[test]
fn a_credential_helper_keeps_the_password_and_the_file_does_not() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    laptop.add_helper("files", STORE);
    laptop.write_config(&json!({"credsStore": "files"}));
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    laptop.push(&[], &remote).failed(5, &["imgsync login"]);
    let login = ["login", &host, "--username", "alice", "--password-stdin"];
    laptop.with_password(&login, "secret").succeeded();
    assert_eq!(
        laptop.read_config(),
        json!({"credsStore": "files", "auths": {&host: {}}})
    );
    let kept = std::fs::read(laptop.scratch.path("programs/kept")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let expected = json!({"ServerURL": &host, "Username": "alice", "Secret": "secret"});
    assert_eq!(kept, expected);
    laptop.push(&[], &remote).succeeded();
    laptop.run(&["logout", &host]).succeeded();
    assert!(!laptop.scratch.path("programs/kept").exists());
    laptop.push(&[], &remote).failed(5, &["imgsync login"]);
}

#[test]
fn a_helper_that_hangs_fails_or_is_missing_is_an_error_where_a_login_is_needed() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let host = registry.address().to_string();
    let remote = format!("{host}/app:v1");
    // It ends by being killed, and what it started with it.
    laptop.add_helper("sleepy", "exec sleep 1000");
    laptop.write_config(&json!({"credsStore": "sleepy"}));
    laptop.set("IMGSYNC_HELPER_TIMEOUT", "1");
    let outcome = laptop.push(&[], &remote).failed(5, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: the credential helper docker-credential-sleepy said nothing for 1 seconds and was \
         stopped\n \
         hint: run `echo HOST | docker-credential-sleepy get` to see what it waits for, or set \
         IMGSYNC_USERNAME and IMGSYNC_PASSWORD to go without it"
    );
    laptop.add_helper("broken", "echo no daemon >&2; exit 3");
    laptop.write_config(&json!({"credHelpers": {&host: "broken"}}));
    laptop
        .push(&[], &remote)
        .failed(5, &["docker-credential-broken", "no daemon"]);
    laptop.write_config(&json!({"credsStore": "missing"}));
    laptop
        .push(&[], &remote)
        .failed(5, &["docker-credential-missing", "does not start"]);

    // Where nobody asks for a login it is a remark.
    let open = StockRegistry::start(&laptop.scratch.folder("open"));
    let outcome = laptop.push(&[], &format!("{}/app:v1", open.address()));
    let outcome = outcome.succeeded();
    assert!(
        outcome.stderr.contains("docker-credential-missing"),
        "{outcome}"
    );
}

#[test]
fn a_token_that_no_renewal_helps_is_said_once_and_for_all() {
    let laptop = Laptop::new();
    let tokens = Fake::start(|_| {
        fake::status(400)
            .body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "token expired"}]}"#)
    });
    let realm = format!("http://{}/token", tokens.address());
    let registry = Fake::start(move |_| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"registry\"");
        fake::status(401).header("WWW-Authenticate", challenge)
    });
    let host = registry.address();
    laptop.write_config(&json!({"auths": {&host: {"identitytoken": "old"}}}));
    let outcome = laptop.push(&[], &format!("{host}/app:v1")).failed(5, &[]);
    let text = said(&outcome, tokens.address()).replace(&host, "REGISTRY");
    assert_eq!(
        text,
        "error: target: ADDRESS answered a login for REGISTRY with 400 Bad Request: UNAUTHORIZED: \
         token expired\n \
         hint: the password or token is wrong or has expired: log in again with imgsync login \
         REGISTRY"
    );
}

/// A stock registry behind TLS, with a certificate of that CA.
fn with_tls(scratch: &Scratch, authority: &Authority, more: &str) -> StockRegistry {
    let pair = authority.sign("server", &["DNS:localhost", "DNS:registry.example.com"]);
    let (certificate, key) = (pair.certificate, pair.key);
    let tls = format!(", tls: {{certificate: {certificate:?}, key: {key:?}{more}}}");
    StockRegistry::configured(&scratch.folder("root"), "", &tls, "")
}

#[test]
fn a_certificate_counts_by_a_file_or_by_dockers_folders_or_not_at_all() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let other = Authority::new(&laptop.scratch.folder("other"));
    let namesake = Authority::new(&laptop.scratch.folder("new/ca"));
    let registry = with_tls(&laptop.scratch, &authority, "");
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");

    // Another CA than the one that signed.
    let wrong = other.certificate();
    let options = ["--ca-file", wrong.to_str().unwrap()];
    let outcome = laptop.push(&options, &remote).failed(6, &[]);
    assert_eq!(
        said(&outcome, &host),
        "error: target: cannot reach ADDRESS: its certificate is signed by a CA that this machine \
         does not know\n \
         hint: get the CA's certificate and pass it with --ca-file, or put it into \
         /etc/docker/certs.d/ADDRESS/ca.crt; --insecure checks nothing at all"
    );
    let wrong = namesake.certificate();
    let options = ["--ca-file", wrong.to_str().unwrap()];
    laptop
        .push(&options, &remote)
        .failed(6, &["another CA than the one of that name"]);
    let address = registry.address().to_string();
    let right = authority.certificate();
    let right = right.to_str().unwrap();
    let by_address = format!("{address}/app:v1");
    laptop
        .push(&["--ca-file", right], &by_address)
        .failed(6, &["for another host"]);
    laptop
        .push(&["--ca-file", "/dev/null"], &remote)
        .failed(2, &["no certificate", "PEM"]);

    laptop.push(&["--ca-file", right], &remote).succeeded();
    let outcome = laptop.push(&["--insecure"], &by_address).succeeded();
    assert!(outcome.stderr.contains("warning: --insecure"), "{outcome}");
    for place in [".docker/certs.d", ".config/containers/certs.d"] {
        let folder = laptop.home().join(place).join(&host);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(right, folder.join("ca.crt")).unwrap();
        laptop.push(&[], &remote).succeeded();
        std::fs::remove_dir_all(&folder).unwrap();
    }
    laptop.push(&[], &remote).failed(4, &["--ca-file"]);
}

/// A registry with the certificate of Docker's manual, which is a CA's and its own server's.
fn with_self_signed(scratch: &Scratch, name: &str) -> (StockRegistry, PathBuf) {
    let folder = scratch.folder(name);
    let (certificate, key) = (folder.join("domain.crt"), folder.join("domain.key"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2",
    ]);
    openssl.args(["-subj", "/CN=registry", "-addext"]);
    openssl.args(["subjectAltName=DNS:localhost,DNS:registry.example.com"]);
    openssl.arg("-keyout").arg(&key);
    must(openssl.arg("-out").arg(&certificate));
    let tls = format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}");
    let root = scratch.folder(&format!("{name}-root"));
    let registry = StockRegistry::configured(&root, "", &tls, "");
    (registry, certificate)
}

#[test]
fn the_self_signed_certificate_of_dockers_manual_counts_where_it_is_the_one_that_was_named() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let laptop = Laptop::new();
    let (registry, certificate) = with_self_signed(&laptop.scratch, "self");
    let (_, another) = with_self_signed(&laptop.scratch, "another");
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    let named = file(&certificate);
    laptop.push(&["--ca-file", &named], &remote).succeeded();
    let folder = laptop.home().join(".docker/certs.d").join(&host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&certificate, folder.join("ca.crt")).unwrap();
    laptop.push(&[], &remote).succeeded();
    std::fs::remove_dir_all(&folder).unwrap();

    let by_address = format!("{}/app:v1", registry.address());
    laptop
        .push(&["--ca-file", &named], &by_address)
        .failed(6, &["for another host"]);
    laptop
        .push(&["--ca-file", &file(&another)], &remote)
        .failed(6, &["certificate"]);
}

#[test]
fn a_client_certificate_is_found_in_dockers_folders() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let clients = format!(", clientcas: [{:?}]", authority.certificate());
    let registry = with_tls(&laptop.scratch, &authority, &clients);
    let host = format!("localhost:{}", registry.address().port());
    let remote = format!("{host}/app:v1");
    let folder = laptop.home().join(".docker/certs.d").join(&host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(authority.certificate(), folder.join("ca.crt")).unwrap();
    // With TLS 1.3 the refusal comes after the handshake, and a reset may overtake its words.
    laptop.push(&[], &remote).failed(6, &[]);
    let pair = authority.sign("client", &[]);
    std::fs::copy(pair.certificate, folder.join("client.cert")).unwrap();
    laptop.push(&[], &remote).failed(6, &["client.key"]);
    std::fs::copy(pair.key, folder.join("client.key")).unwrap();
    laptop.push(&[], &remote).succeeded();
}

#[test]
fn the_environments_proxy_is_used_except_where_it_says_not() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let registry = with_tls(&laptop.scratch, &authority, "");
    let proxy = Proxy::start(registry.address());
    laptop.set("HTTPS_PROXY", proxy.url());
    let ca = authority.certificate();
    let ca = ["--ca-file", ca.to_str().unwrap()];
    laptop.push(&ca, "registry.example.com/app:v1").succeeded();
    let seen = proxy.seen();
    assert!(!seen.is_empty());
    for line in &seen {
        assert!(
            line.starts_with("CONNECT registry.example.com:443 "),
            "{line}"
        );
    }
    // This very machine is never asked for through a proxy, and neither is what NO_PROXY names.
    let local = format!("localhost:{}/app:v1", registry.address().port());
    laptop.push(&ca, &local).succeeded();
    laptop.set("NO_PROXY", "example.com,.invalid");
    let outcome = laptop.push(&ca, "registry.invalid/app:v1").failed(6, &[]);
    assert_eq!(
        outcome.stderr.trim_end(),
        "error: target: cannot reach registry.invalid: no such host: failed to lookup address \
         information: Name or service not known\n \
         hint: check the spelling, and that this machine's name servers know the host"
    );
    assert_eq!(proxy.seen(), seen);
}

#[test]
fn a_password_in_the_clear_is_warned_about_once() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let proxy = Proxy::start(registry.address());
    laptop.set("HTTP_PROXY", proxy.url());
    // As programs of the old web have it: only the small name counts to some.
    laptop.set("http_proxy", proxy.url());
    laptop.set("IMGSYNC_USERNAME", "alice");
    laptop.set("IMGSYNC_PASSWORD", "secret");
    let outcome = laptop.push(&["--plain-http"], "registry.example.com:5000/app:v1");
    let outcome = outcome.succeeded();
    let warning = "warning: the password goes to registry.example.com unencrypted, for everybody \
                   on the way to read";
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{outcome}");
    let outcome = laptop.push(&[], &format!("{}/app:v1", registry.address()));
    assert!(!outcome.succeeded().stderr.contains("unencrypted"));
}

#[test]
fn no_password_goes_in_clear_only_because_tls_led_nowhere() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = with_login(&laptop.scratch, "");
    let proxy = Proxy::start(registry.address());
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy"] {
        laptop.set(name, proxy.url());
    }
    laptop.set("IMGSYNC_USERNAME", "alice");
    laptop.set("IMGSYNC_PASSWORD", "secret");
    let host = "registry.example.com:5000";
    let folder = laptop.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let wish = json!({"insecure-registries": [host]}).to_string();
    std::fs::write(folder.join("daemon.json"), wish).unwrap();
    let remote = format!("{host}/app:v1");
    let outcome = laptop.push(&[], &remote).failed(5, &["--plain-http"]);
    let warning = "the password goes to registry.example.com unencrypted";
    assert!(!outcome.stderr.contains(warning), "{outcome}");
    let outcome = laptop.push(&["--plain-http"], &remote).succeeded();
    assert!(outcome.stderr.contains(warning), "{outcome}");
}

#[test]
fn a_registry_without_tls_is_found_out_and_dockers_own_wish_is_taken() {
    if !present(&["docker-registry"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let registry = StockRegistry::start(&laptop.scratch.folder("root"));
    let proxy = Proxy::start(registry.address());
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy"] {
        laptop.set(name, proxy.url());
    }
    let host = "registry.example.com:5000";
    let remote = format!("{host}/app:v1");
    let outcome = laptop.push(&[], &remote).failed(6, &[]);
    assert_eq!(
        said(&outcome, host),
        "error: target: cannot reach ADDRESS: it does not speak TLS\n \
         hint: if ADDRESS is meant to speak plain HTTP, pass --plain-http: passwords and images \
         then travel unencrypted"
    );
    laptop.push(&["--plain-http"], &remote).succeeded();

    let folder = laptop.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let wish = json!({"insecure-registries": [host]}).to_string();
    std::fs::write(folder.join("daemon.json"), wish).unwrap();
    let outcome = laptop.push(&[], &remote).succeeded();
    assert!(
        outcome.stderr.contains("insecure-registries names"),
        "{outcome}"
    );
    assert!(proxy.seen().iter().any(|line| line.starts_with("CONNECT ")));
}

#[test]
fn the_engines_wish_covers_a_certificate_that_nobody_knows() {
    if !present(&["docker-registry", "openssl"]) {
        return;
    }
    let mut laptop = Laptop::new();
    let authority = Authority::new(&laptop.scratch.folder("ca"));
    let registry = with_tls(&laptop.scratch, &authority, "");
    let proxy = Proxy::start(registry.address());
    laptop.set("HTTPS_PROXY", proxy.url());
    let remote = "registry.example.com/app:v1";
    laptop
        .push(&[], remote)
        .failed(6, &["a CA that this machine does not know"]);
    let folder = laptop.home().join(".config/docker");
    std::fs::create_dir_all(&folder).unwrap();
    let wish = json!({"insecure-registries": ["registry.example.com"]}).to_string();
    std::fs::write(folder.join("daemon.json"), wish).unwrap();
    laptop.push(&[], remote).succeeded();
}

#[test]
fn nobody_listening_is_the_network() {
    let laptop = Laptop::new();
    let gone: SocketAddr = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let outcome = laptop.run(&["ls", &gone.to_string()]).failed(6, &[]);
    assert_eq!(
        said(&outcome, gone),
        "cannot reach ADDRESS: tcp connect error: Connection refused (os error 111); trying again\n\
         error: target: cannot reach ADDRESS: tcp connect error: Connection refused (os error \
         111)\n \
         hint: check the address and that the registry is running; then try again"
    );
}

#[test]
fn who_looks_after_programs_can_end_this_one() {
    let laptop = Laptop::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut command = laptop.imgsync.command();
    let command = command.args(["ls", &address]).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let _connection = silent.accept().unwrap();
    must(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert!(said.contains("error: interrupted"), "{said}");
}

#[test]
fn data_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_none() {
    let laptop = Laptop::new();
    let server = Server::start(&laptop.scratch.folder("root"));
    let host = server.address().to_string();
    let name = format!("{host}/app:v1");
    laptop.push(&[], &name).succeeded();
    for words in [vec!["ls", &host], vec!["inspect", &name]] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        for (out, code) in [(Stdio::from(full), 3), (Stdio::from(writer), 0)] {
            let mut command = laptop.imgsync.command();
            let output = command.args(&words).stdout(out).stderr(Stdio::piped());
            let output = output.spawn().unwrap().wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
            assert_eq!(said.contains("standard output"), code == 3, "{said}");
        }
    }
}

#[test]
fn several_tags_cost_one_upload() {
    let laptop = Laptop::new();
    let server = Server::start(&laptop.scratch.folder("root"));
    let host = server.address().to_string();
    let remote = format!("{host}/team/app:v1");
    let outcome = laptop.push(&["--tag", "v1.2", "--tag", "latest"], &remote);
    let outcome = outcome.succeeded();
    let (_, digest) = outcome.stdout.split_once('@').unwrap();
    let digest = digest.split(':').take(2).collect::<Vec<_>>().join(":");
    for tag in ["v1", "v1.2", "latest"] {
        let name = format!("{host}/team/app:{tag}");
        let found = laptop.run(&["inspect", "--json", &name]).succeeded();
        let found: Value = serde_json::from_str(&found.stdout).unwrap();
        assert_eq!(found["digest"], *digest, "{tag}");
    }
    laptop
        .push(&["--tag", "not a tag"], &remote)
        .failed(2, &["not a tag"]);
}

#[test]
fn what_is_at_a_registry_is_listed_shown_and_removed() {
    if !present(&["docker-registry"]) {
        return;
    }
    let laptop = Laptop::new();
    let server = Server::start(&laptop.scratch.folder("ours"));
    let root = laptop.scratch.folder("stock");
    let stock = StockRegistry::configured(&root, ", delete: {enabled: true}", "", "");
    for (host, by_tag) in [(server.address(), true), (stock.address(), false)] {
        let host = host.to_string();
        let name = |tag: &str| format!("{host}/team/app:{tag}");
        laptop.push(&["--tag", "v2"], &name("v1")).succeeded();
        laptop.push(&[], &format!("{host}/other:v1")).succeeded();
        let lines = |words: &[&str]| {
            let outcome = laptop.run(words).succeeded();
            let lines = outcome.stdout.lines().map(str::to_owned);
            lines.collect::<Vec<_>>()
        };
        let repository = format!("{host}/team/app");
        assert_eq!(lines(&["ls", &host]), ["other", "team/app"]);
        assert_eq!(lines(&["ls", &repository]), ["v1", "v2"]);
        laptop
            .run(&["ls", &format!("{host}/none")])
            .failed(4, &["no repository none"]);
        laptop.run(&["ls", &name("v1")]).failed(2, &["inspect"]);

        let raw = laptop.run(&["inspect", "--raw", &name("v1")]).succeeded();
        let manifest: Value = serde_json::from_str(&raw.stdout).unwrap();
        let digest = support::bytes::digest(raw.stdout.as_bytes());
        let long = lines(&["ls", "--long", &repository]);
        let fields: Vec<&str> = long[0].split('\t').collect();
        assert_eq!(
            (fields[0], fields[1], fields[3]),
            ("v1", &*digest, "linux/amd64")
        );
        let shown = lines(&["inspect", &name("v2")]).join("\n");
        for part in [&*digest, "linux/amd64", "1 layers", "[\"/none\"]"] {
            assert!(shown.contains(part), "{shown}");
        }
        let object = laptop.run(&["inspect", "--json", &name("v1")]).succeeded();
        let object: Value = serde_json::from_str(&object.stdout).unwrap();
        assert_eq!(
            object["images"][0]["layers"][0]["digest"],
            manifest["layers"][0]["digest"]
        );
        assert_eq!(object["config"]["config"]["Cmd"], json!(["/none"]));

        laptop
            .run(&["rm", &repository])
            .failed(2, &["neither tag nor digest"]);
        laptop.run(&["rm", &name("none")]).failed(4, &[]);
        let removed = laptop.run(&["rm", &name("v1")]);
        if by_tag {
            removed.succeeded();
            assert_eq!(lines(&["ls", &repository]), ["v2"]);
            let by_digest = format!("{repository}@{digest}");
            laptop.run(&["rm", &by_digest]).succeeded();
            laptop
                .run(&["inspect", &by_digest])
                .failed(4, &["there is no"]);
        } else {
            let advice = format!("imgsync rm {repository}@{digest}");
            removed.failed(4, &["the tag v1 alone", "every other tag", &advice]);
            assert_eq!(lines(&["ls", &repository]), ["v1", "v2"]);
            laptop.run(&["rm", "--digest", &name("v1")]).succeeded();
            laptop
                .run(&["inspect", &name("v2")])
                .failed(4, &["there is no"]);
        }
    }
}
