//! Logins and TLS with the clients that people have: docker, podman, skopeo, curl and imgsync, over
//! plain HTTP on loopback, over the server's own TLS, and with nginx in front.

use crate::support::Nginx;
use crate::support::peers::absent;
use crate::support::prelude::*;

const PASSWORD: &str = "correct horse";
const PEERS: [&str; 4] = ["htpasswd", "openssl", "nginx", "curl"];

/// How clients reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    Nginx,
}

/// What clients without a login may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Public {
    Nothing,
    /// Pull from `public/…`.
    Some,
}

const ALL: [(Way, Public); 6] = [
    (Way::Plain, Public::Nothing),
    (Way::Plain, Public::Some),
    (Way::Tls, Public::Nothing),
    (Way::Tls, Public::Some),
    (Way::Nginx, Public::Nothing),
    (Way::Nginx, Public::Some),
];

/// A server that knows alice, and the way to it.
struct Place {
    scratch: Scratch,
    server: Server,
    _nginx: Option<Nginx>,
    /// What clients call it: `host:port`.
    name: String,
    /// A folder with the CA's `ca.crt`, where there is TLS.
    ca: Option<PathBuf>,
}

impl Place {
    fn new(way: Way, public: Public) -> Self {
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
        let authority = Authority::new(&scratch.folder("ca"));
        let pair = authority.sign("server", &["DNS:localhost"]);
        let tls = match way {
            Way::Tls => format!(
                ", tls: {{certificate: {:?}, key: {:?}}}",
                pair.certificate, pair.key
            ),
            Way::Plain | Way::Nginx => String::new(),
        };
        let anonymous = match public {
            Public::Nothing => "",
            Public::Some => "imgsync: {anonymous: {pull: ['public/**']}}\n",
        };
        let root = scratch.folder("root");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\n\
             auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n\
             http: {{addr: '127.0.0.1:0'{tls}}}\n{anonymous}"
        );
        std::fs::write(file("config.yml"), config).unwrap();
        let server = Server::configured(&file("config.yml"), &root);
        let nginx = (way == Way::Nginx)
            .then(|| Nginx::start(&scratch.folder("nginx"), server.address(), &pair));
        let address = nginx.as_ref().map_or(server.address(), Nginx::address);
        let name = match way {
            Way::Plain => address.to_string(),
            Way::Tls | Way::Nginx => format!("localhost:{}", address.port()),
        };
        let ca = (way != Way::Plain).then(|| {
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
struct Trusted(PathBuf);

impl Trusted {
    /// `None`, and said so, where this user may not write there.
    fn new(place: &Place) -> Option<Option<Self>> {
        let Some(ca) = &place.ca else {
            return Some(None);
        };
        let folder = Path::new("/etc/docker/certs.d").join(&place.name);
        let made = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(ca.join("ca.crt"), folder.join("ca.crt")));
        match made {
            Ok(_) => Some(Some(Self(folder))),
            Err(error) => {
                absent(&format!("the right to write {}: {error}", folder.display()));
                None
            }
        }
    }
}

impl Drop for Trusted {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // The folder above stays where others have theirs in it.
        let _ = std::fs::remove_dir(self.0.parent().unwrap());
    }
}

/// A Docker client whose logins are its own.
struct Docker(PathBuf);

impl Docker {
    fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", &self.0).args(arguments);
        run(command.stdin(Stdio::null()))
    }

    fn login(&self, place: &Place, password: &str) -> Outcome {
        self.run(&["login", "-u", "alice", "-p", password, &place.name])
    }
}

#[test]
fn docker() {
    if !present(&PEERS) || !present(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let image = DockerImage::build(&unique("logins"), "v1");
    let id = image.id();
    for (way, public) in ALL {
        let place = Place::new(way, public);
        let Some(_trusted) = Trusted::new(&place) else {
            return;
        };
        let docker = Docker(place.scratch.folder("docker"));
        let private = image.tag(format!("{}/team/app:v1", place.name));
        let open = image.tag(format!("{}/public/app:v1", place.name));
        docker
            .run(&["push", private.reference()])
            .failed(1, &["auth"]);
        docker.run(&["push", open.reference()]).failed(1, &["auth"]);
        docker.login(&place, "wrong").failed(1, &["unauthorized"]);
        docker.login(&place, PASSWORD).succeeded();
        for image in [private, open] {
            docker.run(&["push", image.reference()]).succeeded();
            let name = image.reference().to_owned();
            image.remove();
            docker.run(&["pull", &name]).succeeded();
            assert_eq!(DockerImage::known(name).id(), id, "{way:?}");
        }
        docker.run(&["logout", &place.name]).succeeded();
        let pull = |name: &str| docker.run(&["pull", &format!("{}/{name}:v1", place.name)]);
        // On this machine docker, when it has no password to send, tries again without TLS, and
        // tells of that.
        let words: &[&str] = match (way, public) {
            (Way::Plain, _) | (Way::Tls, Public::Some) => &["auth"],
            (Way::Tls, Public::Nothing) => &["this port speaks TLS"],
            (Way::Nginx, _) => &[],
        };
        pull("team/app").failed(1, words);
        match public {
            Public::Nothing => drop(pull("public/app").failed(1, words)),
            Public::Some => {
                let pulled = DockerImage::known(format!("{}/public/app:v1", place.name));
                pull("public/app").succeeded();
                assert_eq!(pulled.id(), id);
            }
        }
        place.assert_quiet();
    }
}

/// An image as an archive that every client reads.
fn archive_of(place: &Place) -> String {
    let path = place.scratch.path("image.tar");
    let image = Image::new(vec![layer("hello", b"world".to_vec())]);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path.to_str().unwrap().to_owned()
}

#[test]
fn podman() {
    if !present(&PEERS) || !present(&["podman"]) {
        return;
    }
    for (way, public) in ALL {
        let place = Place::new(way, public);
        let podman = Podman::new();
        podman.load(&archive_of(&place));
        let logins = place.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let go = |word: &str, rest: &[&str]| {
            let [first, second] = place.trust();
            podman.attempt(&[&[word, "--authfile", logins, first, second], rest].concat())
        };
        let private = format!("{}/team/app:v1", place.name);
        let open = format!("{}/public/app:v1", place.name);
        let push = |to: &str| go("push", &["localhost/app:v1", &format!("docker://{to}")]);
        let login = |password| go("login", &["-u", "alice", "-p", password, &place.name]);
        push(&private).failed(125, &["auth"]);
        login("wrong").failed(125, &["invalid username/password"]);
        login(PASSWORD).succeeded();
        let id = podman.id("localhost/app:v1");
        for remote in [&private, &open] {
            push(remote).succeeded();
            go("pull", &[remote]).succeeded();
            assert_eq!(podman.id(remote), id, "{way:?}");
        }
        podman.run(&["logout", "--authfile", logins, &place.name]);
        go("pull", &[&private]).failed(125, &["auth"]);
        match public {
            Public::Nothing => drop(go("pull", &[&open]).failed(125, &["auth"])),
            Public::Some => drop(go("pull", &[&open]).succeeded()),
        }
        place.assert_quiet();
    }
}

#[test]
fn skopeo() {
    if !present(&PEERS) || !present(&["skopeo"]) {
        return;
    }
    for (way, public) in ALL {
        let place = Place::new(way, public);
        let archive = format!("docker-archive:{}", archive_of(&place));
        let logins = place.scratch.path("auth.json");
        let logins = logins.to_str().unwrap();
        let go = |words: &[&str]| {
            let mut command = Command::new("skopeo");
            command.args(["--insecure-policy"]).args(words);
            run(command.stdin(Stdio::null()))
        };
        let [first, second] = place.trust();
        let [to, to_second] = match &place.ca {
            Some(_) => ["--dest-cert-dir", second],
            None => ["--dest-tls-verify=false", "--dest-tls-verify=false"],
        };
        let login = |password| {
            let words = ["login", "--authfile", logins, first, second];
            go(&[&words[..], &["-u", "alice", "-p", password, &place.name]].concat())
        };
        let push = |name: &str| {
            let remote = format!("docker://{}/{name}", place.name);
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
            let remote = format!("docker://{}/{name}", place.name);
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
        go(&["logout", "--authfile", logins, &place.name]).succeeded();
        inspect("team/app:v1").failed(1, &["auth"]);
        match public {
            Public::Nothing => drop(inspect("public/app:v1").failed(1, &["auth"])),
            Public::Some => drop(inspect("public/app:v1").succeeded()),
        }
        // Without a file of logins.
        let remote = format!("docker://{}/team/app:v1", place.name);
        for (login, code) in [(format!("alice:{PASSWORD}"), 0), ("alice:x".to_owned(), 1)] {
            let outcome = go(&[
                "inspect", "--raw", "--creds", &login, first, second, &remote,
            ]);
            assert_eq!(outcome.code, Some(code), "{outcome}");
        }
        place.assert_quiet();
    }
}

#[test]
fn curl() {
    if !present(&PEERS) {
        return;
    }
    for (way, public) in ALL {
        let place = Place::new(way, public);
        let ca = place.ca.as_ref().map(|folder| folder.join("ca.crt"));
        let back = place.scratch.path("back");
        let go = |words: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["-sS", "--noproxy", "*", "-o"]).arg(&back);
            command.args(["-w", "%{http_code} %{http_version}"]);
            if let Some(ca) = &ca {
                command.arg("--cacert").arg(ca);
            }
            must(command.args(words))
        };
        let version = if way == Way::Plain { "1.1" } else { "2" };
        let check = place.url("/v2/");
        let (right, wrong) = (format!("alice:{PASSWORD}"), "alice:x");
        assert_eq!(go(&[&check]), format!("401 {version}"));
        assert_eq!(go(&["-u", wrong, &check]), format!("401 {version}"));
        assert_eq!(go(&["-u", &right, &check]), format!("200 {version}"));
        assert_eq!(go(&["--http1.1", "-u", &right, &check]), "200 1.1");
        if public == Public::Nothing {
            let asked = go(&["--anyauth", "-u", &right, &check]);
            assert_eq!(asked, format!("200 {version}"));
        }
        // More than any window or buffer on the way, up and down.
        let bytes = noise(7, 20_000_000);
        let file = place.scratch.path("blob");
        std::fs::write(&file, &bytes).unwrap();
        let digest = digest(&bytes);
        let upload = place.url(&format!("/v2/public/app/blobs/uploads/?digest={digest}"));
        let data = format!("@{}", file.display());
        let send = ["-X", "POST", "-H", "Content-Type: application/octet-stream"];
        let send = [&send[..], &["--data-binary", &data, &upload]].concat();
        assert_eq!(go(&send), format!("401 {version}"));
        let sent = go(&[&["-u", &right], &send[..]].concat());
        assert_eq!(sent, format!("201 {version}"));
        let blob = place.url(&format!("/v2/public/app/blobs/{digest}"));
        let anyone = if public == Public::Some { "200" } else { "401" };
        assert_eq!(go(&[&blob]), format!("{anyone} {version}"));
        let fetched = go(&["-u", &right, &blob]);
        assert_eq!(fetched, format!("200 {version}"));
        assert!(std::fs::read(&back).unwrap() == bytes);
        place.assert_quiet();
    }
}

#[test]
fn imgsync() {
    if !present(&PEERS) {
        return;
    }
    for (way, public) in ALL {
        let place = Place::new(way, public);
        let imgsync = Imgsync::new(&place.scratch.folder("home"));
        let archive = archive_of(&place);
        let ca = place.ca.as_ref().map(|folder| folder.join("ca.crt"));
        let push = |name: &str, variables: &[(&str, &str)]| {
            let mut command = imgsync.command();
            command.arg("push").envs(variables.iter().copied());
            if let Some(ca) = &ca {
                command.arg("--ca-file").arg(ca);
            }
            run(command.args([&archive, &format!("{}/{name}:v1", place.name)]))
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
            command.args([word, &place.name]);
            if word == "login" {
                command.args(["--username", "alice", "--password-stdin"]);
                if let Some(ca) = &ca {
                    command.arg("--ca-file").arg(ca);
                }
            }
            let file = place.scratch.path("password");
            std::fs::write(&file, password).unwrap();
            run(command.stdin(std::fs::File::open(file).unwrap()))
        };
        log("login", "wrong").failed(5, &[]);
        log("login", PASSWORD).succeeded();
        push("third/app", &[]).succeeded();
        log("logout", "").succeeded();
        push("fourth/app", &[]).failed(5, &["log in"]);
        // What docker login keeps: alice:correct horse
        let folder = place.scratch.folder("docker");
        let auths = format!(
            "{{\"auths\": {{\"{}\": {{\"auth\": \"YWxpY2U6Y29ycmVjdCBob3JzZQ==\"}}}}}}",
            place.name
        );
        std::fs::write(folder.join("config.json"), auths).unwrap();
        let config = [("DOCKER_CONFIG", folder.to_str().unwrap())];
        push("other/app", &config).succeeded();
        place.assert_quiet();
    }
}

#[test]
fn what_our_htpasswd_writes_apache_and_the_stock_registry_read() {
    if !present(&["htpasswd", "curl", "docker-registry"]) {
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
    let stock = StockRegistry::configured(&scratch.folder("root"), "", "", &auth);
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
    if !present(&PEERS) {
        return;
    }
    let place = Place::new(Way::Nginx, Public::Nothing);
    let ca = place.ca.as_ref().unwrap().join("ca.crt");
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--cacert"]).arg(ca);
    // nginx adds the address that it sees itself, this machine's, which counts as a proxy's too.
    command.args(["-H", "X-Forwarded-For: 203.0.113.9"]);
    must(command.arg(place.url("/v2/team/app/tags/list")));
    until("the request's line", || {
        let log = place.server.log();
        let line = log.lines().find(|line| line.contains("/tags/list"))?;
        assert!(line.contains("203.0.113.9"), "{line}");
        Some(())
    });
}
