//! Logins and TLS with the clients that people have: docker, podman, skopeo, curl and imgsync, over
//! plain HTTP on loopback, over the server's own TLS, and with nginx in front.

use crate::support::Nginx;
use crate::support::peers::report_missing;
use crate::support::prelude::*;

const PASSWORD: &str = "correct horse";
const PEERS: [&str; 4] = ["htpasswd", "openssl", "nginx", "curl"];

/// How clients reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
    Nginx,
}

/// What clients without a login may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnonymousPulls {
    Nothing,
    /// Pull from `public/…`.
    Some,
}

const ALL: [(Transport, AnonymousPulls); 6] = [
    (Transport::Plain, AnonymousPulls::Nothing),
    (Transport::Plain, AnonymousPulls::Some),
    (Transport::Tls, AnonymousPulls::Nothing),
    (Transport::Tls, AnonymousPulls::Some),
    (Transport::Nginx, AnonymousPulls::Nothing),
    (Transport::Nginx, AnonymousPulls::Some),
];

/// A server that knows alice, and the way to it.
struct ClientFixture {
    scratch: Scratch,
    server: Server,
    _nginx: Option<Nginx>,
    /// What clients call it: `host:port`.
    name: String,
    /// A folder with the CA's `ca.crt`, where there is TLS.
    ca: Option<PathBuf>,
}

impl ClientFixture {
    fn new(transport: Transport, public: AnonymousPulls) -> Self {
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
            Transport::Plain | Transport::Nginx => String::new(),
        };
        let anonymous = match public {
            AnonymousPulls::Nothing => "",
            AnonymousPulls::Some => "imgsync: {anonymous: {pull: ['public/**']}}\n",
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
            Transport::Plain => address.to_string(),
            Transport::Tls | Transport::Nginx => format!("localhost:{}", address.port()),
        };
        let ca = (transport != Transport::Plain).then(|| {
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

    /// What podman and skopeo are told about TLS.
    fn trust(&self) -> [&str; 2] {
        match &self.ca {
            Some(folder) => ["--cert-dir", folder.to_str().unwrap()],
            None => ["--tls-verify=false", "--tls-verify=false"],
        }
    }

    /// Nothing of what happened is an error of the server's, and no secret is in its log.
    fn assert_quiet(&self) {
        let log = self.server.log();
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
        assert!(!log.contains(PASSWORD), "{log}");
    }
}

/// Docker's folder for a registry's CA; gone with this.
struct TrustedCa(PathBuf);

impl TrustedCa {
    /// `None`, and said so, where this user may not write there.
    fn new(fixture: &ClientFixture) -> Option<Option<Self>> {
        let Some(ca) = &fixture.ca else {
            return Some(None);
        };
        let folder = Path::new("/etc/docker/certs.d").join(&fixture.name);
        let made = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(ca.join("ca.crt"), folder.join("ca.crt")));
        match made {
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
        // The folder above stays where others have theirs in it.
        let _ = std::fs::remove_dir(self.0.parent().unwrap());
    }
}

/// A Docker client whose logins are its own.
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
    if !programs_available(&PEERS) || !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let image = DockerImage::build(&unique("logins"), "v1");
    let id = image.id();
    for (transport, public) in ALL {
        let fixture = ClientFixture::new(transport, public);
        let Some(_trusted) = TrustedCa::new(&fixture) else {
            return;
        };
        let docker = DockerClient(fixture.scratch.folder("docker"));
        let private = image.tag(format!("{}/team/app:v1", fixture.name));
        let open = image.tag(format!("{}/public/app:v1", fixture.name));
        docker
            .run(&["push", private.reference()])
            .failed(1, &["auth"]);
        docker.run(&["push", open.reference()]).failed(1, &["auth"]);
        docker.login(&fixture, "wrong").failed(1, &["unauthorized"]);
        docker.login(&fixture, PASSWORD).succeeded();
        for image in [private, open] {
            docker.run(&["push", image.reference()]).succeeded();
            let name = image.reference().to_owned();
            image.remove();
            docker.run(&["pull", &name]).succeeded();
            assert_eq!(DockerImage::existing(name).id(), id, "{transport:?}");
        }
        docker.run(&["logout", &fixture.name]).succeeded();
        let pull = |name: &str| docker.run(&["pull", &format!("{}/{name}:v1", fixture.name)]);
        // On this machine docker, when it has no password to send, tries again without TLS, and
        // tells of that.
        let words: &[&str] = match (transport, public) {
            (Transport::Plain, _) | (Transport::Tls, AnonymousPulls::Some) => &["auth"],
            (Transport::Tls, AnonymousPulls::Nothing) => &["this port speaks TLS"],
            (Transport::Nginx, _) => &[],
        };
        pull("team/app").failed(1, words);
        match public {
            AnonymousPulls::Nothing => drop(pull("public/app").failed(1, words)),
            AnonymousPulls::Some => {
                let pulled = DockerImage::existing(format!("{}/public/app:v1", fixture.name));
                pull("public/app").succeeded();
                assert_eq!(pulled.id(), id);
            }
        }
        fixture.assert_quiet();
    }
}

/// An image as an archive that every client reads.
fn archive_of(fixture: &ClientFixture) -> String {
    let path = fixture.scratch.path("image.tar");
    let image = Image::new(vec![layer("hello", b"world".to_vec())]);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path.to_str().unwrap().to_owned()
}

#[test]
fn podman() {
    if !programs_available(&PEERS) || !programs_available(&["podman"]) {
        return;
    }
    for (transport, public) in ALL {
        let fixture = ClientFixture::new(transport, public);
        let podman = Podman::new();
        podman.load(&archive_of(&fixture));
        let logins = fixture.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let go = |word: &str, rest: &[&str]| {
            let [first, second] = fixture.trust();
            podman.attempt(&[&[word, "--authfile", logins, first, second], rest].concat())
        };
        let private = format!("{}/team/app:v1", fixture.name);
        let open = format!("{}/public/app:v1", fixture.name);
        let push = |to: &str| go("push", &["localhost/app:v1", &format!("docker://{to}")]);
        let login = |password| go("login", &["-u", "alice", "-p", password, &fixture.name]);
        push(&private).failed(125, &["auth"]);
        login("wrong").failed(125, &["invalid username/password"]);
        login(PASSWORD).succeeded();
        let id = podman.id("localhost/app:v1");
        for remote in [&private, &open] {
            push(remote).succeeded();
            go("pull", &[remote]).succeeded();
            assert_eq!(podman.id(remote), id, "{transport:?}");
        }
        podman.run(&["logout", "--authfile", logins, &fixture.name]);
        go("pull", &[&private]).failed(125, &["auth"]);
        match public {
            AnonymousPulls::Nothing => drop(go("pull", &[&open]).failed(125, &["auth"])),
            AnonymousPulls::Some => drop(go("pull", &[&open]).succeeded()),
        }
        fixture.assert_quiet();
    }
}

#[test]
fn skopeo() {
    if !programs_available(&PEERS) || !programs_available(&["skopeo"]) {
        return;
    }
    for (transport, public) in ALL {
        let fixture = ClientFixture::new(transport, public);
        let archive = format!("docker-archive:{}", archive_of(&fixture));
        let logins = fixture.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let go = |words: &[&str]| {
            let mut command = Command::new("skopeo");
            command.args(["--insecure-policy"]).args(words);
            run(command.stdin(Stdio::null()))
        };
        let [first, second] = fixture.trust();
        let [to, to_second] = match &fixture.ca {
            Some(_) => ["--dest-cert-dir", second],
            None => ["--dest-tls-verify=false", "--dest-tls-verify=false"],
        };
        let login = |password| {
            let words = ["login", "--authfile", logins, first, second];
            go(&[&words[..], &["-u", "alice", "-p", password, &fixture.name]].concat())
        };
        let push = |name: &str| {
            let remote = format!("docker://{}/{name}", fixture.name);
            go(&[
                "copy",
                "--authfile",
                logins,
                to,
                to_second,
                &archive,
                &remote,
            ])
        };
        let inspect = |name: &str| {
            let remote = format!("docker://{}/{name}", fixture.name);
            go(&[
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
        go(&["logout", "--authfile", logins, &fixture.name]).succeeded();
        inspect("team/app:v1").failed(1, &["auth"]);
        match public {
            AnonymousPulls::Nothing => drop(inspect("public/app:v1").failed(1, &["auth"])),
            AnonymousPulls::Some => drop(inspect("public/app:v1").succeeded()),
        }
        // Without a file of logins.
        let remote = format!("docker://{}/team/app:v1", fixture.name);
        for (login, code) in [(format!("alice:{PASSWORD}"), 0), ("alice:x".to_owned(), 1)] {
            let outcome = go(&[
                "inspect", "--raw", "--creds", &login, first, second, &remote,
            ]);
            assert_eq!(outcome.code, Some(code), "{outcome}");
        }
        fixture.assert_quiet();
    }
}

#[test]
fn curl() {
    if !programs_available(&PEERS) {
        return;
    }
    for (transport, public) in ALL {
        let fixture = ClientFixture::new(transport, public);
        let ca = fixture.ca.as_ref().map(|folder| folder.join("ca.crt"));
        let back = fixture.scratch.path("back");
        let go = |words: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["-sS", "--noproxy", "*", "-o"]).arg(&back);
            command.args(["-w", "%{http_code} %{http_version}"]);
            if let Some(ca) = &ca {
                command.arg("--cacert").arg(ca);
            }
            must(command.args(words))
        };
        let version = if transport == Transport::Plain {
            "1.1"
        } else {
            "2"
        };
        let check = fixture.url("/v2/");
        let (right, wrong) = (format!("alice:{PASSWORD}"), "alice:x");
        assert_eq!(go(&[&check]), format!("401 {version}"));
        assert_eq!(go(&["-u", wrong, &check]), format!("401 {version}"));
        assert_eq!(go(&["-u", &right, &check]), format!("200 {version}"));
        assert_eq!(go(&["--http1.1", "-u", &right, &check]), "200 1.1");
        if public == AnonymousPulls::Nothing {
            let asked = go(&["--anyauth", "-u", &right, &check]);
            assert_eq!(asked, format!("200 {version}"));
        }
        // More than any window or buffer on the way, up and down.
        let bytes = noise(7, 20_000_000);
        let file = fixture.scratch.path("blob");
        std::fs::write(&file, &bytes).unwrap();
        let digest = digest(&bytes);
        let upload = fixture.url(&format!("/v2/public/app/blobs/uploads/?digest={digest}"));
        let data = format!("@{}", file.display());
        let send = ["-X", "POST", "-H", "Content-Type: application/octet-stream"];
        let send = [&send[..], &["--data-binary", &data, &upload]].concat();
        assert_eq!(go(&send), format!("401 {version}"));
        let sent = go(&[&["-u", &right], &send[..]].concat());
        assert_eq!(sent, format!("201 {version}"));
        let blob = fixture.url(&format!("/v2/public/app/blobs/{digest}"));
        let anyone = if public == AnonymousPulls::Some {
            "200"
        } else {
            "401"
        };
        assert_eq!(go(&[&blob]), format!("{anyone} {version}"));
        let fetched = go(&["-u", &right, &blob]);
        assert_eq!(fetched, format!("200 {version}"));
        assert!(std::fs::read(&back).unwrap() == bytes);
        fixture.assert_quiet();
    }
}

#[test]
fn imgsync() {
    if !programs_available(&PEERS) {
        return;
    }
    for (transport, public) in ALL {
        let fixture = ClientFixture::new(transport, public);
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
        // Logged in and out with the tool itself.
        let log = |word: &str, password: &str| {
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
        log("login", "wrong").failed(5, &[]);
        log("login", PASSWORD).succeeded();
        push("third/app", &[]).succeeded();
        log("logout", "").succeeded();
        push("fourth/app", &[]).failed(5, &["log in"]);
        // What docker login keeps: alice:correct horse
        let folder = fixture.scratch.folder("docker");
        let auths = format!(
            "{{\"auths\": {{\"{}\": {{\"auth\": \"YWxpY2U6Y29ycmVjdCBob3JzZQ==\"}}}}}}",
            fixture.name
        );
        std::fs::write(folder.join("config.json"), auths).unwrap();
        let config = [("DOCKER_CONFIG", folder.to_str().unwrap())];
        push("other/app", &config).succeeded();
        fixture.assert_quiet();
    }
}

#[test]
fn what_our_htpasswd_writes_apache_and_the_stock_registry_read() {
    if !programs_available(&["htpasswd", "curl", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let users = scratch.path("htpasswd");
    // One that Apache wrote stays beside it.
    must(
        Command::new("htpasswd")
            .args(["-Bbc"])
            .arg(&users)
            .args(["bob", "x"]),
    );
    let password = scratch.path("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let mut ours = Command::new(crate::support::server::binary());
    ours.arg("htpasswd").arg(&users).arg("alice");
    run(ours.stdin(std::fs::File::open(&password).unwrap())).succeeded();
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
fn the_client_is_who_the_trusted_proxies_say() {
    if !programs_available(&PEERS) {
        return;
    }
    let fixture = ClientFixture::new(Transport::Nginx, AnonymousPulls::Nothing);
    let ca = fixture.ca.as_ref().unwrap().join("ca.crt");
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--cacert"]).arg(ca);
    // nginx adds the address that it sees itself, this machine's, which counts as a proxy's too.
    command.args(["-H", "X-Forwarded-For: 203.0.113.9"]);
    must(command.arg(fixture.url("/v2/team/app/tags/list")));
    wait_until("the request's line", || {
        let log = fixture.server.log();
        let line = log.lines().find(|line| line.contains("/tags/list"))?;
        assert!(line.contains("203.0.113.9"), "{line}");
        Some(())
    });
}
