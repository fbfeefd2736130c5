//! Tests pushes to registries and proxies that deviate from the specification: limits on chunks,
//! refused mounts, lost sessions.

mod chunks;
mod limits;
mod mounts;
mod sessions;

use crate::support::fake::Request;
use crate::support::prelude::*;
use crate::support::quirky::{QuirkyRegistry, RegistryQuirks};

const EXIT_TARGET: i32 = 4;
const KIB: usize = 1024;

/// The tool, and an image of three layers with a few hundred kilobytes each.
struct QuirksFixture {
    scratch: Scratch,
    imgsync: Imgsync,
    image: Image,
}

impl QuirksFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let imgsync = Imgsync::new(&scratch.folder("home"));
        Self {
            imgsync,
            image: make_image(1),
            scratch,
        }
    }

    fn write_archive(&self, name: &str, image: &Image) -> PathBuf {
        let path = self.scratch.path(name);
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path
    }

    /// Pushes the image in small chunks.
    fn push(&self, address: SocketAddr) -> Outcome {
        self.push_image(&self.image, address, "app:v1")
    }

    fn push_image(&self, image: &Image, address: SocketAddr, name: &str) -> Outcome {
        let path = self.write_archive("image.tar", image);
        let options = ["--chunk-size", "128KiB", "--verbose"];
        let remote = format!("{address}/{name}");
        self.imgsync.push_with(&options, text(&path), &remote)
    }

    /// Panics unless the push succeeds and every request was valid.
    fn assert_push_succeeds(&self, registry: &QuirkyRegistry) -> Outcome {
        let outcome = self.push(registry.address()).succeeded();
        let found = check::at_registry(registry.address(), "app:v1");
        assert_eq!(found.config, self.image.id(), "{outcome}");
        registry.assert_valid_requests();
        outcome
    }
}

fn make_image(seed: u64) -> Image {
    let sizes = [700, 500, 300].map(|size| size * KIB);
    let layers = sizes.iter().zip(seed * 10..);
    let layers = layers.map(|(size, seed)| layer("data", noise(seed, *size)));
    Image::new(layers.collect())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Panics unless a registry with these deviations accepts an image.
fn assert_accepts_push(quirks: RegistryQuirks) -> QuirkyRegistry {
    let registry = QuirkyRegistry::start(quirks);
    QuirksFixture::new().assert_push_succeeds(&registry);
    registry
}

fn is_chunk(request: &Request) -> bool {
    request.header("content-range").is_some()
}

/// Returns the `Range` that most registries report for an upload with this many bytes.
fn range_up_to(bytes: usize) -> Option<String> {
    Some(format!("0-{}", bytes.saturating_sub(1)))
}
