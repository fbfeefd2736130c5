//! Tests invalid input at a server with TLS and logins: the same errors, and only a challenge
//! without a login.

use crate::support::archive::{Entry, write_folder, write_tar};
use crate::support::bytes::mixed;
use crate::support::prelude::*;
use crate::support::{SmallDisk, store};

const REQUIRED_PROGRAMS: [&str; 3] = ["htpasswd", "openssl", "curl"];
const PASSWORD: &str = "correct horse";
const EXIT_SOURCE: i32 = 3;
const EXIT_TARGET: i32 = 4;

/// A server with TLS, the user alice, and one good image.
struct SecuredFixture {
    server: Server,
    imgsync: Imgsync,
    ca: PathBuf,
    before: BTreeSet<String>,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl SecuredFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let root = scratch.folder("root");
        Self::with_root(scratch, &root)
    }

    fn with_root(scratch: Scratch, root: &Path) -> Self {
        let users = scratch.path("htpasswd");
        let mut htpasswd = Command::new("htpasswd");
        htpasswd.arg("-Bbc").arg(&users).args(["alice", PASSWORD]);
        must(&mut htpasswd);
        let authority = CertificateAuthority::new(&scratch.folder("ca"));
        let pair = authority.sign("server", &["DNS:localhost"]);
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\n\
             auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n\
             http: {{addr: '127.0.0.1:0', tls: {{certificate: {:?}, key: {:?}}}}}\n",
            pair.certificate, pair.key
        );
        let file = scratch.path("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut fixture = Self {
            server: Server::start_configured(&file, root),
            imgsync: Imgsync::new(&scratch.folder("home")),
            ca: authority.certificate().to_owned(),
            before: BTreeSet::new(),
            scratch,
        };
        let good = Image::new(vec![layer("good", mixed(1, 300_000))]);
        let path = fixture.scratch.path("good.tar");
        write_tar(&good.docker_archive("good:v1"), &path);
        fixture.push(&path, "good:v1").succeeded();
        fixture.before = store::list_files(root);
        fixture
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.server.address().port())
    }

    fn push(&self, image: &Path, name: &str) -> Outcome {
        let mut command = self.imgsync.command();
        command.env("IMGSYNC_USERNAME", "alice");
        command.env("IMGSYNC_PASSWORD", PASSWORD);
        command.args(["push", "--ca-file"]).arg(&self.ca).arg(image);
        run(command.arg(format!("{}/{name}", self.host())))
    }

    /// Sends a request with curl. Returns the response body, followed by the status.
    fn curl(&self, login: bool, arguments: &[&str], path: &str) -> String {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--cacert"])
            .arg(&self.ca);
        command.args(["--write-out", "\n%{http_code}"]);
        if login {
            command.args(["--user", &format!("alice:{PASSWORD}")]);
        }
        must(
            command
                .args(arguments)
                .arg(format!("https://{}{path}", self.host())),
        )
    }

    /// Panics unless the request is refused with this status and code, and the store is unchanged.
    fn assert_refused(
        &self,
        login: bool,
        arguments: &[&str],
        path: &str,
        status: &str,
        code: &str,
    ) {
        let answer = self.curl(login, arguments, path);
        assert!(answer.trim_end().ends_with(status), "{path}: {answer}");
        assert!(answer.contains(code), "{path}: {answer}");
        store::assert_unchanged(&self.before, self.server.root());
    }

    /// Panics unless the request is refused with a login, and challenged without one.
    fn assert_refused_or_challenged(
        &self,
        arguments: &[&str],
        path: &str,
        status: &str,
        code: &str,
    ) {
        self.assert_refused(true, arguments, path, status, code);
        let answer = self.curl(false, arguments, path);
        assert!(answer.trim_end().ends_with("401"), "{path}: {answer}");
        assert!(answer.contains("UNAUTHORIZED"), "{path}: {answer}");
        store::assert_unchanged(&self.before, self.server.root());
    }
}

#[test]
fn bad_images_are_the_sources_fault() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let fixture = SecuredFixture::new();
    let layers = (0..3).map(|i| layer("data", mixed(10 + i, 400_000)));
    let image = Image::new(layers.collect());
    let whole = fixture.scratch.path("whole.tar");
    write_tar(&image.docker_archive("app:v1"), &whole);
    let bytes = std::fs::read(&whole).unwrap();
    let path = |name: &str| fixture.scratch.path(name);

    let truncated = path("truncated.tar");
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let escaping = path("climbing.tar");
    let mut entries = image.docker_archive("app:v1");
    entries.push(Entry::new("../../escaped", "no"));
    // The archive writer refuses such a name, so it is patched in afterwards.
    write_tar(&rename_last_entry(entries, "aaaaaaaaaaaaa"), &escaping);
    rename_in_tar(&escaping, "aaaaaaaaaaaaa", "../../escaped");
    let changed = path("changed.tar");
    let mut other = image.clone();
    other.layers[1] = layer("data", mixed(99, 400_000));
    write_tar(&other.docker_archive("app:v1"), &changed);
    let incomplete = path("lacking");
    let mut entries = image.oci_layout("v1");
    let blob = image::blob_name(&image.compressed()[1]);
    entries.retain(|entry| entry.name != blob);
    write_folder(&entries, &incomplete);

    for bad in [truncated, escaping, changed, incomplete] {
        fixture.push(&bad, "bad:v1").failed(EXIT_SOURCE, &[]);
        store::assert_unchanged(&fixture.before, fixture.server.root());
    }
    fixture.push(&whole, "bad:v1").succeeded();
}

/// Gives the last entry another name.
fn rename_last_entry(mut entries: Vec<Entry>, name: &str) -> Vec<Entry> {
    if let Some(last) = entries.last_mut() {
        last.name = name.to_owned();
    }
    entries
}

/// Replaces a name in an archive with one of the same length, and corrects the checksum of the
/// header.
fn rename_in_tar(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(path).unwrap();
    let offset = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes());
    let offset = offset.expect("the name");
    bytes[offset..offset + to.len()].copy_from_slice(to.as_bytes());
    let header = &mut bytes[offset..offset + 512];
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn bad_requests_are_refused_and_need_a_login() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let fixture = SecuredFixture::new();
    let wrong = digest(b"other bytes");
    let body = fixture.scratch.path("body");
    std::fs::write(&body, "some bytes").unwrap();
    let body = format!("@{}", body.display());
    let put = [
        "--request",
        "POST",
        "--header",
        "Content-Type: application/octet-stream",
    ];
    let put = [&put[..], &["--data-binary", &body]].concat();
    let target = format!("/v2/bad/blobs/uploads/?digest={wrong}");
    fixture.assert_refused_or_challenged(&put, &target, "400", "DIGEST_INVALID");
    // An invalid name is refused before the login is checked: the answer does not reveal anything.
    for login in [true, false] {
        let escaping = "/v2/a/../b/tags/list";
        fixture.assert_refused(login, &[], "/v2/Bad/tags/list", "400", "NAME_INVALID");
        fixture.assert_refused(login, &["--path-as-is"], escaping, "400", "NAME_INVALID");
    }

    let manifest_type = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    let image = Image::new(vec![layer("data", mixed(3, 1000))]);
    let missing = fixture.scratch.path("missing.json");
    std::fs::write(&missing, image.oci_manifest(&image.compressed())).unwrap();
    let large = fixture.scratch.path("large.json");
    std::fs::write(&large, vec![b' '; 5 * 1024 * 1024]).unwrap();
    for (file, status, code) in [
        (missing, "400", "MANIFEST_BLOB_UNKNOWN"),
        (large, "413", "MANIFEST_INVALID"),
    ] {
        let data = format!("@{}", file.display());
        let put = [
            "--request",
            "PUT",
            "--header",
            manifest_type,
            "--data-binary",
            &data,
        ];
        fixture.assert_refused_or_challenged(&put, "/v2/bad/manifests/v1", status, code);
    }
}

#[test]
fn a_full_disk_is_reported_and_harms_nothing() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let Some(disk) = SmallDisk::mount("12m") else {
        return;
    };
    let fixture = SecuredFixture::with_root(Scratch::new(), &disk.folder("root"));
    let large = Image::new(vec![
        layer("small", noise(4, 4_000_000)),
        layer("large", noise(5, 30_000_000)),
    ]);
    let path = fixture.scratch.path("large.tar");
    write_tar(&large.docker_archive("app:v1"), &path);
    fixture
        .push(&path, "bad:v1")
        .failed(EXIT_TARGET, &["error: target", "disk", "full"]);
    store::assert_unchanged(&fixture.before, fixture.server.root());
}
