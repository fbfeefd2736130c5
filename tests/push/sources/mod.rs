//! Tests the sources of a push: archives and layouts of every program, compressed archives,
//! multi-platform images, the content store of Docker, podman's socket, and daemons behind TLS and
//! SSH.

mod compressed;
mod content_store;
mod deltas;
mod forms;
mod loopback;
mod platforms;
mod podman;
mod remote_daemons;

use crate::support::check::StoredImage;
use crate::support::prelude::*;

/// A server and the tool.
struct SourcesFixture {
    server: Server,
    imgsync: Imgsync,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl SourcesFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            server: Server::start(&scratch.folder("root")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            scratch,
        }
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.server.address())
    }

    /// Downloads an image from the server and checks every digest in it.
    fn check_image(&self, name: &str) -> StoredImage {
        check::at_registry(self.server.address(), &format!("{name}:v1"))
    }

    fn push(&self, name: &str, options: &[&str], image: &str) -> StoredImage {
        let outcome = self.imgsync.push_with(options, image, &self.remote(name));
        outcome.succeeded();
        self.check_image(name)
    }
}

fn recorded_archive(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/archives")
        .join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Uploads a blob of the repository `app` in one request.
fn upload_blob(server: &Server, digest: &str, bytes: &[u8]) {
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    let uploaded = http::send(server.address(), "POST", &target, &[], bytes);
    assert_eq!(uploaded.status, 201, "{}", uploaded.text());
}
