//! Tests logins and TLS of the server with real clients: docker, podman, skopeo, curl and imgsync.
//! They connect over plain HTTP on loopback, over the server's own TLS, and through nginx.

use crate::support::Nginx;
use crate::support::peers::report_missing;
use crate::support::prelude::*;

const PASSWORD: &str = "correct horse";
const REQUIRED_PROGRAMS: [&str; 4] = ["htpasswd", "openssl", "nginx", "curl"];

/// How clients connect to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    PlainHttp,
    Tls,
    Nginx,
}

/// The permissions of clients without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnonymousPulls {
    Denied,
    /// They may pull from `public/…`.
    FromPublic,
}

const ALL_SETUPS: [(Transport, AnonymousPulls); 6] = [
    (Transport::PlainHttp, AnonymousPulls::Denied),
    (Transport::PlainHttp, AnonymousPulls::FromPublic),
    (Transport::Tls, AnonymousPulls::Denied),
    (Transport::Tls, AnonymousPulls::FromPublic),
    (Transport::Nginx, AnonymousPulls::Denied),
    (Transport::Nginx, AnonymousPulls::FromPublic),
];

/// A server with the user alice, and nginx in front of it if the transport says so.
struct ClientFixture {
    scratch: Scratch,
    server: Server,
    _nginx: Option<Nginx>,
    /// The server's `host:port` for clients.
    name: String,
    /// A folder with `ca.crt`, if TLS is used.
    ca: Option<PathBuf>,
}

impl ClientFixture {
    fn new(transport: Transport, anonymous_pulls: AnonymousPulls) -> Self {
        let scratch = Scratch::new();
        let file = |name: &str| scratch.path(name);
        let users = file("htpasswd");
        let mut htpasswd = Command::new("htpasswd");
        must(
            htpasswd
                .args(["-Bbc"])
                .arg(&users)
                .args(["alice", PASSWORD]),
        );
        let authority = CertificateAuthority::new(&scratch.folder("ca"));
        let pair = authority.sign("server", &["DNS:localhost"]);
        let tls = match transport {
            Transport::Tls => format!(
                ", tls: {{certificate: {:?}, key: {:?}}}",
                pair.certificate, pair.key
            ),
            Transport::PlainHttp | Transport::Nginx => String::new(),
        };
        let anonymous = match anonymous_pulls {
            AnonymousPulls::Denied => "",
            AnonymousPulls::FromPublic => "imgsync: {anonymous: {pull: ['public/**']}}\n",
        };
        let root = scratch.folder("root");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\n\
             auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n\
             http: {{addr: '127.0.0.1:0'{tls}}}\n{anonymous}"
        );
        std::fs::write(file("config.yml"), config).unwrap();
        let server = Server::start_configured(&file("config.yml"), &root);
        let nginx = (transport == Transport::Nginx)
            .then(|| Nginx::start(&scratch.folder("nginx"), server.address(), &pair));
        let address = nginx.as_ref().map_or(server.address(), Nginx::address);
        let name = match transport {
            Transport::PlainHttp => address.to_string(),
            Transport::Tls | Transport::Nginx => format!("localhost:{}", address.port()),
        };
        let ca = (transport != Transport::PlainHttp).then(|| {
            let folder = scratch.folder("certs");
            std::fs::copy(authority.certificate(), folder.join("ca.crt")).unwrap();
            folder
        });
        Self {
            scratch,
            server,
            _nginx: nginx,
            name,
            ca,
        }
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.name)
    }

    /// Returns the TLS options for podman and skopeo.
    fn tls_options(&self) -> [&str; 2] {
        match &self.ca {
            Some(folder) => ["--cert-dir", folder.to_str().unwrap()],
            None => ["--tls-verify=false", "--tls-verify=false"],
        }
    }

    /// Panics if the server's log has an error, a warning, or the password.
    fn assert_clean_log(&self) {
        let log = self.server.log();
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
        assert!(!log.contains(PASSWORD), "{log}");
    }
}

/// Docker's folder for the CA of a registry. The folder is deleted when the value is dropped.
struct TrustedCa(PathBuf);

impl TrustedCa {
    /// Returns `None`, and reports it, if this user may not write to the folder.
    fn new(fixture: &ClientFixture) -> Option<Option<Self>> {
        let Some(ca) = &fixture.ca else {
            return Some(None);
        };
        let folder = Path::new("/etc/docker/certs.d").join(&fixture.name);
        let copied = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(ca.join("ca.crt"), folder.join("ca.crt")));
        match copied {
            Ok(_) => Some(Some(Self(folder))),
            Err(error) => {
                report_missing(&format!("the right to write {}: {error}", folder.display()));
                None
            }
        }
    }
}

impl Drop for TrustedCa {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // The parent folder stays if it has other folders.
        let _ = std::fs::remove_dir(self.0.parent().unwrap());
    }
}

/// A Docker client with its own logins.
struct DockerClient(PathBuf);

impl DockerClient {
    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", &self.0).args(arguments);
        run(command.stdin(Stdio::null()))
    }

    fn login(&self, fixture: &ClientFixture, password: &str) -> Outcome {
        self.run(&["login", "-u", "alice", "-p", password, &fixture.name])
    }
}

#[test]
fn docker() {
    if !programs_available(&REQUIRED_PROGRAMS) || !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let image = DockerImage::build(&unique("logins"), "v1");
    let id = image.id();
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let Some(_trusted) = TrustedCa::new(&fixture) else {
            return;
        };
        let docker = DockerClient(fixture.scratch.folder("docker"));
        let private = image.tag(format!("{}/team/app:v1", fixture.name));
        let public = image.tag(format!("{}/public/app:v1", fixture.name));
        docker
            .run(&["push", private.reference()])
            .failed(1, &["auth"]);
        docker
            .run(&["push", public.reference()])
            .failed(1, &["auth"]);
        docker.login(&fixture, "wrong").failed(1, &["unauthorized"]);
        docker.login(&fixture, PASSWORD).succeeded();
        for image in [private, public] {
            docker.run(&["push", image.reference()]).succeeded();
            let name = image.reference().to_owned();
            image.remove();
            docker.run(&["pull", &name]).succeeded();
            assert_eq!(DockerImage::existing(name).id(), id, "{transport:?}");
        }
        docker.run(&["logout", &fixture.name]).succeeded();
        let pull = |name: &str| docker.run(&["pull", &format!("{}/{name}:v1", fixture.name)]);
        // Without a password, docker connects to loopback again without TLS, and reports that
        // error.
        let words: &[&str] = match (transport, anonymous_pulls) {
            (Transport::PlainHttp, _) | (Transport::Tls, AnonymousPulls::FromPublic) => &["auth"],
            (Transport::Tls, AnonymousPulls::Denied) => &["this port speaks TLS"],
            (Transport::Nginx, _) => &[],
        };
        pull("team/app").failed(1, words);
        match anonymous_pulls {
            AnonymousPulls::Denied => drop(pull("public/app").failed(1, words)),
            AnonymousPulls::FromPublic => {
                let pulled = DockerImage::existing(format!("{}/public/app:v1", fixture.name));
                pull("public/app").succeeded();
                assert_eq!(pulled.id(), id);
            }
        }
        fixture.assert_clean_log();
    }
}

/// Writes an image as an archive that every client can read.
fn archive_of(fixture: &ClientFixture) -> String {
    let path = fixture.scratch.path("image.tar");
    let image = Image::new(vec![layer("hello", b"world".to_vec())]);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path.to_str().unwrap().to_owned()
}

#[test]
fn podman() {
    if !programs_available(&REQUIRED_PROGRAMS) || !programs_available(&["podman"]) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let podman = Podman::new();
        podman.load(&archive_of(&fixture));
        let logins = fixture.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let run_podman = |word: &str, rest: &[&str]| {
            let [first, second] = fixture.tls_options();
            podman.attempt(&[&[word, "--authfile", logins, first, second], rest].concat())
        };
        let private = format!("{}/team/app:v1", fixture.name);
        let public = format!("{}/public/app:v1", fixture.name);
        let push = |to: &str| run_podman("push", &["localhost/app:v1", &format!("docker://{to}")]);
        let login = |password| run_podman("login", &["-u", "alice", "-p", password, &fixture.name]);
        push(&private).failed(125, &["auth"]);
        login("wrong").failed(125, &["invalid username/password"]);
        login(PASSWORD).succeeded();
        let id = podman.id("localhost/app:v1");
        for remote in [&private, &public] {
            push(remote).succeeded();
            run_podman("pull", &[remote]).succeeded();
            assert_eq!(podman.id(remote), id, "{transport:?}");
        }
        podman.run(&["logout", "--authfile", logins, &fixture.name]);
        run_podman("pull", &[&private]).failed(125, &["auth"]);
        match anonymous_pulls {
            AnonymousPulls::Denied => drop(run_podman("pull", &[&public]).failed(125, &["auth"])),
            AnonymousPulls::FromPublic => drop(run_podman("pull", &[&public]).succeeded()),
        }
        fixture.assert_clean_log();
    }
}

#[test]
fn skopeo() {
    if !programs_available(&REQUIRED_PROGRAMS) || !programs_available(&["skopeo"]) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let archive = format!("docker-archive:{}", archive_of(&fixture));
        let logins = fixture.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let run_skopeo = |words: &[&str]| {
            let mut command = Command::new("skopeo");
            command.args(["--insecure-policy"]).args(words);
            run(command.stdin(Stdio::null()))
        };
        let [first, second] = fixture.tls_options();
        let [dest_option, dest_value] = match &fixture.ca {
            Some(_) => ["--dest-cert-dir", second],
            None => ["--dest-tls-verify=false", "--dest-tls-verify=false"],
        };
        let login = |password| {
            let words = ["login", "--authfile", logins, first, second];
            run_skopeo(&[&words[..], &["-u", "alice", "-p", password, &fixture.name]].concat())
        };
        let push = |name: &str| {
            let remote = format!("docker://{}/{name}", fixture.name);
            run_skopeo(&[
                "copy",
                "--authfile",
                logins,
                dest_option,
                dest_value,
                &archive,
                &remote,
            ])
        };
        let inspect = |name: &str| {
            let remote = format!("docker://{}/{name}", fixture.name);
            run_skopeo(&[
                "inspect",
                "--raw",
                "--authfile",
                logins,
                first,
                second,
                &remote,
            ])
        };
        push("team/app:v1").failed(1, &["auth"]);
        login("wrong").failed(1, &["invalid username/password"]);
        login(PASSWORD).succeeded();
        for name in ["team/app:v1", "public/app:v1"] {
            push(name).succeeded();
            let found = inspect(name).succeeded();
            assert!(found.stdout.contains("layers"), "{found}");
        }
        run_skopeo(&["logout", "--authfile", logins, &fixture.name]).succeeded();
        inspect("team/app:v1").failed(1, &["auth"]);
        match anonymous_pulls {
            AnonymousPulls::Denied => drop(inspect("public/app:v1").failed(1, &["auth"])),
            AnonymousPulls::FromPublic => drop(inspect("public/app:v1").succeeded()),
        }
        // With the login as an option.
        let remote = format!("docker://{}/team/app:v1", fixture.name);
        for (login, code) in [(format!("alice:{PASSWORD}"), 0), ("alice:x".to_owned(), 1)] {
            let outcome = run_skopeo(&[
                "inspect", "--raw", "--creds", &login, first, second, &remote,
            ]);
            assert_eq!(outcome.code, Some(code), "{outcome}");
        }
        fixture.assert_clean_log();
    }
}

#[test]
fn curl() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let ca = fixture.ca.as_ref().map(|folder| folder.join("ca.crt"));
        let body_file = fixture.scratch.path("back");
        let run_curl = |words: &[&str]| {
            let mut command = Command::new("curl");
            command
                .args(["-sS", "--noproxy", "*", "-o"])
                .arg(&body_file);
            command.args(["-w", "%{http_code} %{http_version}"]);
            if let Some(ca) = &ca {
                command.arg("--cacert").arg(ca);
            }
            must(command.args(words))
        };
        let version = if transport == Transport::PlainHttp {
            "1.1"
        } else {
            "2"
        };
        let check = fixture.url("/v2/");
        let (right, wrong) = (format!("alice:{PASSWORD}"), "alice:x");
        assert_eq!(run_curl(&[&check]), format!("401 {version}"));
        assert_eq!(run_curl(&["-u", wrong, &check]), format!("401 {version}"));
        assert_eq!(run_curl(&["-u", &right, &check]), format!("200 {version}"));
        assert_eq!(run_curl(&["--http1.1", "-u", &right, &check]), "200 1.1");
        if anonymous_pulls == AnonymousPulls::Denied {
            let response = run_curl(&["--anyauth", "-u", &right, &check]);
            assert_eq!(response, format!("200 {version}"));
        }
        // Larger than every window and buffer, in both directions.
        let bytes = noise(7, 20_000_000);
        let file = fixture.scratch.path("blob");
        std::fs::write(&file, &bytes).unwrap();
        let digest = digest(&bytes);
        let upload = fixture.url(&format!("/v2/public/app/blobs/uploads/?digest={digest}"));
        let data = format!("@{}", file.display());
        let send = ["-X", "POST", "-H", "Content-Type: application/octet-stream"];
        let send = [&send[..], &["--data-binary", &data, &upload]].concat();
        assert_eq!(run_curl(&send), format!("401 {version}"));
        let sent = run_curl(&[&["-u", &right], &send[..]].concat());
        assert_eq!(sent, format!("201 {version}"));
        let blob = fixture.url(&format!("/v2/public/app/blobs/{digest}"));
        let anonymous_status = if anonymous_pulls == AnonymousPulls::FromPublic {
            "200"
        } else {
            "401"
        };
        assert_eq!(run_curl(&[&blob]), format!("{anonymous_status} {version}"));
        let fetched = run_curl(&["-u", &right, &blob]);
        assert_eq!(fetched, format!("200 {version}"));
        assert!(std::fs::read(&body_file).unwrap() == bytes);
        fixture.assert_clean_log();
    }
}

#[test]
fn imgsync() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    for (transport, anonymous_pulls) in ALL_SETUPS {
        let fixture = ClientFixture::new(transport, anonymous_pulls);
        let imgsync = Imgsync::new(&fixture.scratch.folder("home"));
        let archive = archive_of(&fixture);
        let ca = fixture.ca.as_ref().map(|folder| folder.join("ca.crt"));
        let push = |name: &str, variables: &[(&str, &str)]| {
            let mut command = imgsync.command();
            command.arg("push").envs(variables.iter().copied());
            if let Some(ca) = &ca {
                command.arg("--ca-file").arg(ca);
            }
            run(command.args([&archive, &format!("{}/{name}:v1", fixture.name)]))
        };
        let user = ("IMGSYNC_USERNAME", "alice");
        for name in ["team/app", "public/app"] {
            push(name, &[]).failed(5, &["log in"]);
            push(name, &[user, ("IMGSYNC_PASSWORD", "x")]).failed(5, &["alice"]);
            push(name, &[user, ("IMGSYNC_PASSWORD", PASSWORD)]).succeeded();
        }
        // Login and logout with the tool itself.
        let run_login_command = |word: &str, password: &str| {
            let mut command = imgsync.command();
            command.args([word, &fixture.name]);
            if word == "login" {
                command.args(["--username", "alice", "--password-stdin"]);
                if let Some(ca) = &ca {
                    command.arg("--ca-file").arg(ca);
                }
            }
            let file = fixture.scratch.path("password");
            std::fs::write(&file, password).unwrap();
            run(command.stdin(std::fs::File::open(file).unwrap()))
        };
        run_login_command("login", "wrong").failed(5, &[]);
        run_login_command("login", PASSWORD).succeeded();
        push("third/app", &[]).succeeded();
        run_login_command("logout", "").succeeded();
        push("fourth/app", &[]).failed(5, &["log in"]);
        // A login as `docker login` stores it: alice:correct horse
        let folder = fixture.scratch.folder("docker");
        let auths = format!(
            "{{\"auths\": {{\"{}\": {{\"auth\": \"YWxpY2U6Y29ycmVjdCBob3JzZQ==\"}}}}}}",
            fixture.name
        );
        std::fs::write(folder.join("config.json"), auths).unwrap();
        let config = [("DOCKER_CONFIG", folder.to_str().unwrap())];
        push("other/app", &config).succeeded();
        fixture.assert_clean_log();
    }
}

#[test]
fn apache_and_the_stock_registry_read_our_htpasswd_file() {
    if !programs_available(&["htpasswd", "curl", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let users = scratch.path("htpasswd");
    // Apache's entry for bob must stay.
    must(
        Command::new("htpasswd")
            .args(["-Bbc"])
            .arg(&users)
            .args(["bob", "x"]),
    );
    let password = scratch.path("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let mut command = Command::new(crate::support::server::binary());
    command.arg("htpasswd").arg(&users).arg("alice");
    run(command.stdin(std::fs::File::open(&password).unwrap())).succeeded();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n");
    let stock = StockRegistry::start_configured(&scratch.folder("root"), "", "", &auth);
    for (user, password, status) in [
        ("alice", PASSWORD, "200"),
        ("alice", "x", "401"),
        ("bob", "x", "200"),
    ] {
        let mut apache = Command::new("htpasswd");
        let outcome = run(apache.arg("-vb").arg(&users).args([user, password]));
        assert_eq!(outcome.code == Some(0), status == "200", "{outcome}");
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--noproxy",
            "*",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]);
        curl.args(["-u", &format!("{user}:{password}")]);
        assert_eq!(
            must(curl.arg(format!("http://{}/v2/", stock.address()))),
            status
        );
    }
}

#[test]
fn the_client_address_comes_from_trusted_proxies() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let fixture = ClientFixture::new(Transport::Nginx, AnonymousPulls::Denied);
    let ca = fixture.ca.as_ref().unwrap().join("ca.crt");
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--cacert"]).arg(ca);
    // nginx appends the address that it sees. It is this machine's, which is also a trusted proxy.
    command.args(["-H", "X-Forwarded-For: 203.0.113.9"]);
    must(command.arg(fixture.url("/v2/team/app/tags/list")));
    wait_until("the log line of the request", || {
        let log = fixture.server.log();
        let line = log.lines().find(|line| line.contains("/tags/list"))?;
        assert!(line.contains("203.0.113.9"), "{line}");
        Some(())
    });
}
