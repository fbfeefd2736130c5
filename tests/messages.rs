//! Tests the complete error messages and exit codes of pushes that fail for a reason that the user
//! can fix.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::support::fake::FakeServer;
use crate::support::peers::report_missing;
use crate::support::prelude::*;
use crate::support::{HttpProxy, SmallDisk, fake};

const SOURCE: i32 = 3;
const TARGET: i32 = 4;
const AUTHENTICATION: i32 = 5;
const NETWORK: i32 = 6;

const WRONG_PASSWORD: &str = "\
error: target: HOST answered GET /v2/app/manifests/v1 with 401 Unauthorized: UNAUTHORIZED: \
authentication required (as alice)
hint: the password or token is wrong or has expired: correct IMGSYNC_PASSWORD, which has \
precedence over stored logins";

const EXPIRED_TOKEN: &str = "\
error: target: TOKENS answered a login for HOST with 400 Bad Request: UNAUTHORIZED: token expired
hint: the password or token is wrong or has expired: log in again with imgsync login HOST, or correct \
the password that you pass";

const HELPER_HANGS: &str = "\
error: the credential helper docker-credential-sleepy did not answer within 1 s and was stopped
hint: run `echo HOST | docker-credential-sleepy get` to see what it waits for, or set \
IMGSYNC_USERNAME and IMGSYNC_PASSWORD to run without it";

const LOGIN_NOT_SENT: &str = "\
error: target: HOST answered GET /v2/app/manifests/v1 with 401 Unauthorized
hint: HOST asks for a login of the kind Negotiate, so the one of alice was not sent: a password \
needs Basic or Bearer, and an identity token Bearer";

const WEB_PAGE: &str = "\
error: target: HOST answered GET /v2/app/manifests/v1 with a web page, which no registry sends
hint: check the address: a registry often has another host name or port than the web site of HOST; \
behind a proxy, check that it forwards /v2/ to the registry";

const UNKNOWN_AUTHORITY: &str = "\
error: target: cannot reach HOST: its certificate is signed by a CA that this machine does not know
hint: pass the certificate of the CA with --ca-file, or save it as \
/etc/docker/certs.d/HOST/ca.crt; --insecure skips the verification";

const UNKNOWN_HOST: &str = "\
error: target: cannot reach registry.invalid: no such host: failed to lookup address information: \
Name or service not known
hint: check the spelling of the host, and the DNS settings of this machine; imgsync doctor \
registry.invalid examines this";

const REFUSED: &str = "\
cannot reach HOST: tcp connect error: Connection refused (os error 111); trying again
error: target: cannot reach HOST: tcp connect error: Connection refused (os error 111)
hint: check the address, and that the registry is running; imgsync doctor HOST examines this";

const PLAIN_HTTP: &str = "\
error: target: cannot reach registry.example.com:5000: it does not speak TLS
hint: if registry.example.com:5000 uses plain HTTP, pass --plain-http; passwords and images are \
then sent unencrypted";

const DISK_FULL: &str = "\
error: source: layer LAYER: cannot write the compressed layer: the disk is full: N MB or more are \
needed in FOLDER/imgsync/spool, and N MB are free there
hint: free some space in FOLDER/imgsync/spool, or set XDG_CACHE_HOME to a folder on a larger disk";

const SOCKET_CLOSED: &str = "\
error: source: cannot reach the Docker daemon at unix://SOCKET: Permission denied (os error 13)
hint: your user has no permission to use the socket: join the group docker (then log in again), or \
use sudo";

struct MessageFixture {
    scratch: Scratch,
    imgsync: Imgsync,
}

impl MessageFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let imgsync = Imgsync::new(&scratch.folder("home"));
        Self { scratch, imgsync }
    }

    fn home(&self, name: &str) -> PathBuf {
        let path = self.scratch.path("home").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn archive(&self) -> PathBuf {
        let path = self.scratch.path("image.tar");
        let image = Image::new(vec![layer("hello", b"world".to_vec())]);
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path
    }

    fn push(&self, remote: &str, variables: &[(&str, &str)]) -> Outcome {
        let mut command = self.imgsync.command();
        command.arg("push").arg(self.archive()).arg(remote);
        run(command.envs(variables.iter().copied()))
    }
}

/// Panics unless a push ended with this exit code and this text on stderr. First replaces values
/// that differ in every run with names.
fn assert_message(outcome: &Outcome, names: &[(&str, &str)], code: i32, expected: &str) {
    let mut text = outcome.stderr.trim_end().to_owned();
    for (value, name) in names {
        text = text.replace(value, name);
    }
    assert_eq!(without_sizes(&text), expected, "{outcome}");
    assert_eq!(outcome.code, Some(code), "{outcome}");
    assert_eq!(outcome.stdout, "", "an error must not write to stdout");
}

/// Returns the text with `N` in place of every decimal number, such as a size.
fn without_sizes(text: &str) -> String {
    let is_number = |piece: &str| !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_digit());
    let is_size = |piece: &str| {
        let parts = piece.split_once('.');
        parts.is_some_and(|(whole, tenths)| is_number(whole) && is_number(tenths))
    };
    let pieces = text
        .split_inclusive(' ')
        .map(|piece| match piece.trim_end() {
            word if is_size(word) => piece.replace(word, "N"),
            _ => piece.to_owned(),
        });
    pieces.collect()
}

/// The output of `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

/// Starts a registry that requires a login.
fn start_with_login(scratch: &Scratch) -> StockRegistry {
    let htpasswd = scratch.path("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {htpasswd:?}}}}}\n");
    StockRegistry::start_configured(&scratch.folder("root"), "", "", &auth)
}

#[test]
fn a_wrong_password() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = MessageFixture::new();
    let registry = start_with_login(&fixture.scratch);
    let host = registry.address().to_string();
    let login = [("IMGSYNC_USERNAME", "alice"), ("IMGSYNC_PASSWORD", "guess")];
    let outcome = fixture.push(&format!("{host}/app:v1"), &login);
    assert_message(&outcome, &[(&host, "HOST")], AUTHENTICATION, WRONG_PASSWORD);
}

#[test]
fn a_login_that_the_registry_does_not_ask_for() {
    let fixture = MessageFixture::new();
    let registry = FakeServer::start(|_| fake::status(401).header("WWW-Authenticate", "Negotiate"));
    let host = registry.address();
    let login = [("IMGSYNC_USERNAME", "alice"), ("IMGSYNC_PASSWORD", "guess")];
    let outcome = fixture.push(&format!("{host}/app:v1"), &login);
    assert_message(&outcome, &[(&host, "HOST")], AUTHENTICATION, LOGIN_NOT_SENT);
}

#[test]
fn a_web_site_instead_of_a_registry() {
    let fixture = MessageFixture::new();
    let site = FakeServer::start(|_| {
        let page = fake::status(200).header("Content-Type", "text/html");
        page.body("<html>Welcome</html>")
    });
    let host = site.address();
    let outcome = fixture.push(&format!("{host}/app:v1"), &[]);
    assert_message(&outcome, &[(&host, "HOST")], TARGET, WEB_PAGE);
}

#[test]
fn an_expired_token() {
    let fixture = MessageFixture::new();
    let tokens = FakeServer::start(|_| {
        fake::status(400)
            .body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "token expired"}]}"#)
    });
    let tokens = tokens.address();
    let realm = format!("http://{tokens}/token");
    let registry = FakeServer::start(move |_| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"registry\"");
        fake::status(401).header("WWW-Authenticate", challenge)
    });
    let host = registry.address();
    let config = serde_json::json!({"auths": {&host: {"identitytoken": "old"}}});
    std::fs::write(fixture.home(".docker/config.json"), config.to_string()).unwrap();
    let outcome = fixture.push(&format!("{host}/app:v1"), &[]);
    let names = [(&*host, "HOST"), (&*tokens, "TOKENS")];
    assert_message(&outcome, &names, AUTHENTICATION, EXPIRED_TOKEN);
}

#[test]
fn a_credential_helper_that_hangs() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = MessageFixture::new();
    let registry = start_with_login(&fixture.scratch);
    let host = registry.address().to_string();
    let programs = fixture.scratch.folder("programs");
    let helper = programs.join("docker-credential-sleepy");
    std::fs::write(&helper, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let config = fixture.home(".docker/config.json");
    std::fs::write(config, r#"{"credsStore": "sleepy"}"#).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let variables = [("PATH", &*path), ("IMGSYNC_HELPER_TIMEOUT", "1")];
    let outcome = fixture.push(&format!("{host}/app:v1"), &variables);
    assert_message(&outcome, &[(&host, "HOST")], AUTHENTICATION, HELPER_HANGS);
}

#[test]
fn a_certificate_of_an_unknown_authority() {
    if !programs_available(&["docker-registry", "openssl"]) {
        return;
    }
    let fixture = MessageFixture::new();
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let pair = authority.sign("server", &["DNS:registry.example.com"]);
    let (certificate, key) = (pair.certificate, pair.key);
    let tls = format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}");
    let registry = StockRegistry::start_configured(&fixture.scratch.folder("root"), "", &tls, "");
    let proxy = HttpProxy::start(registry.address());
    let host = "registry.example.com";
    let outcome = fixture.push(&format!("{host}/app:v1"), &[("HTTPS_PROXY", &proxy.url())]);
    assert_message(&outcome, &[(host, "HOST")], NETWORK, UNKNOWN_AUTHORITY);
}

#[test]
fn an_unknown_host() {
    let fixture = MessageFixture::new();
    let outcome = fixture.push("registry.invalid/app:v1", &[]);
    assert_message(&outcome, &[], NETWORK, UNKNOWN_HOST);
}

#[test]
fn a_closed_port() {
    let fixture = MessageFixture::new();
    let closed_port = ReservedPort::new();
    let host = closed_port.address().to_string();
    let outcome = fixture.push(&format!("{host}/app:v1"), &[]);
    assert_message(&outcome, &[(&host, "HOST")], NETWORK, REFUSED);
}

#[test]
fn a_registry_that_speaks_plain_http() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = MessageFixture::new();
    let registry = StockRegistry::start(&fixture.scratch.folder("root"));
    // The proxy makes another host name possible: for loopback, the tool uses plain HTTP without an
    // option.
    let proxy = HttpProxy::start(registry.address());
    let url = proxy.url();
    let variables = [("HTTPS_PROXY", &*url), ("HTTP_PROXY", &*url)];
    let outcome = fixture.push("registry.example.com:5000/app:v1", &variables);
    assert_message(&outcome, &[], NETWORK, PLAIN_HTTP);
}

#[test]
fn a_disk_that_is_too_small_for_the_spool() {
    let fixture = MessageFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let Some(disk) = SmallDisk::mount("1m") else {
        return;
    };
    let cache = disk.folder("cache");
    let folder = cache.to_str().unwrap();
    let path = fixture.scratch.path("large.tar");
    let image = Image::new(vec![layer("noise", noise(1, 5_000_000))]);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    let short = &digest(&image.layers[0])["sha256:".len()..][..12];
    let mut command = fixture.imgsync.command();
    command.env("XDG_CACHE_HOME", &cache).env("TMPDIR", &cache);
    command.args(["push", "--quiet"]).arg(path);
    let outcome = run(command.arg(format!("{}/app:v1", server.address())));
    let names = [(folder, "FOLDER"), (short, "LAYER")];
    assert_message(&outcome, &names, SOURCE, DISK_FULL);
}

/// Makes a folder and its content readable for all users.
fn make_readable(path: &Path) {
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(path)).succeeded();
}

#[test]
fn a_docker_socket_without_permission() {
    let fixture = MessageFixture::new();
    let open = fixture.scratch.folder("open");
    let tool = open.join("imgsync");
    std::fs::copy(env!("CARGO_BIN_EXE_imgsync"), &tool).unwrap();
    let socket = open.join("docker.sock");
    let _daemon = UnixListener::bind(&socket).unwrap();
    make_readable(fixture.scratch.root());
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o000)).unwrap();
    // Root can use any socket, so run the tool as another user.
    let user_id = run(Command::new("id").arg("-u").stdin(Stdio::null()));
    let mut command = match user_id.stdout.trim() {
        "0" => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            command.arg(&tool);
            command
        }
        _ => Command::new(&tool),
    };
    if run(Command::new("setpriv").arg("--version")).code != Some(0) {
        report_missing("setpriv is missing");
        return;
    }
    command.env_clear().env("HOME", &open);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    command.args(["push", "app:v1", "127.0.0.1:1/app:v1"]);
    let outcome = run(command.stdin(Stdio::null()));
    let names = [(socket.to_str().unwrap(), "SOCKET")];
    assert_message(&outcome, &names, SOURCE, SOCKET_CLOSED);
}
