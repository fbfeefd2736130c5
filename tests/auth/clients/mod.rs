//! Tests logins and TLS of the server with real clients: docker, podman, skopeo, curl and imgsync.
//! They connect over plain HTTP on loopback, over the server's own TLS, and through nginx.

mod curl;
mod docker;
mod imgsync;
mod podman;
mod skopeo;

use crate::support::Nginx;
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

/// Writes an image as an archive that every client can read.
fn archive_of(fixture: &ClientFixture) -> String {
    let path = fixture.scratch.path("image.tar");
    let image = Image::new(vec![layer("hello", b"world".to_vec())]);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path.to_str().unwrap().to_owned()
}
