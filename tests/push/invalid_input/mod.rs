//! Tests invalid input and a full disk at the server: each causes a clear error and leaves the
//! store unchanged.

mod requests;
mod sources;

use crate::support::archive::write_tar;
use crate::support::bytes::mixed;
use crate::support::prelude::*;
use crate::support::{SmallDisk, store};

const EXIT_USAGE: i32 = 2;
const EXIT_SOURCE: i32 = 3;
const EXIT_TARGET: i32 = 4;
const MANIFEST_HEADER: (&str, &str) =
    ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

/// A server with one good image, and the content of its folder at that time.
struct BadInputFixture {
    server: Server,
    imgsync: Imgsync,
    good: Image,
    before: BTreeSet<String>,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl BadInputFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let root = scratch.folder("root");
        Self::with_root(scratch, &root)
    }

    fn with_root(scratch: Scratch, root: &Path) -> Self {
        let server = Server::start(root);
        let imgsync = Imgsync::new(&scratch.folder("home"));
        let good = Image::new(vec![layer("good", mixed(1, 300_000))]);
        let path = scratch.path("good.tar");
        write_tar(&good.docker_archive("good:v1"), &path);
        let remote = format!("{}/good:v1", server.address());
        imgsync.push(text(&path), &remote).succeeded();
        let before = store::list_files(root);
        Self {
            scratch,
            server,
            imgsync,
            good,
            before,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the path of an input file.
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn push(&self, path: &Path) -> Outcome {
        let remote = format!("{}/bad:v1", self.address());
        self.imgsync.push(text(path), &remote)
    }

    fn push_on_stdin(&self, path: &Path) -> Outcome {
        let remote = format!("{}/bad:v1", self.address());
        self.imgsync.push_file_on_stdin(path, &remote)
    }

    /// Panics unless the folder is unchanged and the good image is complete.
    fn assert_unharmed(&self) {
        store::assert_unchanged(&self.before, self.server.root());
        let found = check::at_registry(self.address(), "good:v1");
        assert_eq!(found.config, self.good.id());
    }

    /// Opens an upload session and sends the bytes in a `PATCH`. Returns the location for the final
    /// `PUT`.
    fn upload(&self, repository: &str, bytes: &[u8]) -> String {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let opened = http::send(self.address(), "POST", &target, &[], b"");
        assert_eq!(opened.status, 202, "{}", opened.text());
        let location = opened.header("location").expect("a Location").to_owned();
        assert!(location.starts_with('/'), "not relative: {location}");
        let sent = http::send(self.address(), "PATCH", &location, &[], bytes);
        assert_eq!(sent.status, 202, "{}", sent.text());
        sent.header("location").expect("a Location").to_owned()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Returns an image of three layers.
fn three_layers() -> Image {
    let layers = (0..3).map(|i| layer("data", mixed(10 + i, 700_000)));
    Image::new(layers.collect())
}
#[test]
fn a_full_disk_at_the_server_is_reported_and_harms_nothing() {
    let Some(disk) = SmallDisk::mount("12m") else {
        return;
    };
    let fixture = BadInputFixture::with_root(Scratch::new(), &disk.folder("root"));

    let large = Image::new(vec![
        layer("first", noise(70, 4_000_000)),
        layer("second", noise(71, 30_000_000)),
    ]);
    let path = fixture.path("large.tar");
    write_tar(&large.docker_archive("large:v1"), &path);
    let words = ["error: target", "disk", "full"];
    fixture.push(&path).failed(EXIT_TARGET, &words);
    fixture.assert_unharmed();

    // The disk has space again for an image that fits.
    let small = Image::new(vec![layer("small", mixed(72, 100_000))]);
    write_tar(&small.docker_archive("small:v1"), &path);
    let remote = format!("{}/small:v1", fixture.address());
    fixture.imgsync.push(text(&path), &remote).succeeded();
    let found = check::at_registry(fixture.address(), "small:v1");
    assert_eq!(found.config, small.id());
    let found = check::at_registry(fixture.address(), "good:v1");
    assert_eq!(found.config, fixture.good.id());
}
