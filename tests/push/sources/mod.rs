//! Sources beyond plain files: archives that are compressed as a whole, images for several
//! platforms, and podman's socket.

mod compressed;
mod forms;
mod platforms;
mod podman;

use crate::support::check::StoredImage;
use crate::support::prelude::*;

/// A server, and the tool.
struct SourcesFixture {
    server: Server,
    imgsync: Imgsync,
    /// Last, for it goes last: the server must be dead by then.
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

    /// What is at the server under a name, after every digest in it was found to be right.
    fn found(&self, name: &str) -> StoredImage {
        check::at_registry(self.server.address(), &format!("{name}:v1"))
    }

    fn push(&self, name: &str, options: &[&str], image: &str) -> StoredImage {
        let outcome = self.imgsync.push_with(options, image, &self.remote(name));
        outcome.succeeded();
        self.found(name)
    }
}

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/archives")
        .join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
