//! Registries as they really are, and proxies before them: a push gets every blob through, whatever
//! they make of chunks, or says what stands in the way.

mod chunks;
mod limits;
mod mounts;
mod sessions;

use crate::support::fake::Request;
use crate::support::prelude::*;
use crate::support::quirky::{QuirkyRegistry, RegistryQuirks};

/// Exit code, as `imgsync push --help` lists it.
const TARGET: i32 = 4;
const KIB: usize = 1024;

/// A user with an image of three layers, some hundred kilobytes each.
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
            image: image_of(1),
            scratch,
        }
    }

    fn written(&self, name: &str, image: &Image) -> PathBuf {
        let path = self.scratch.path(name);
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path
    }

    /// Pushes the image in small chunks.
    fn push(&self, address: SocketAddr) -> Outcome {
        self.push_image(&self.image, address, "app:v1")
    }

    fn push_image(&self, image: &Image, address: SocketAddr, name: &str) -> Outcome {
        let path = self.written("image.tar", image);
        let options = ["--chunk-size", "128KiB", "--verbose"];
        let remote = format!("{address}/{name}");
        self.imgsync.push_with(&options, text(&path), &remote)
    }

    /// The image gets there, and no request makes no sense.
    fn gets_through(&self, registry: &QuirkyRegistry) -> Outcome {
        let outcome = self.push(registry.address()).succeeded();
        let found = check::at_registry(registry.address(), "app:v1");
        assert_eq!(found.config, self.image.id(), "{outcome}");
        registry.assert_valid_requests();
        outcome
    }
}

fn image_of(seed: u64) -> Image {
    let sizes = [700, 500, 300].map(|size| size * KIB);
    let layers = sizes.iter().zip(seed * 10..);
    let layers = layers.map(|(size, seed)| layer("data", noise(seed, *size)));
    Image::new(layers.collect())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Registries whose quirks these are take an image.
fn assert_takes(quirks: RegistryQuirks) -> QuirkyRegistry {
    let registry = QuirkyRegistry::start(quirks);
    QuirksFixture::new().gets_through(&registry);
    registry
}

fn is_chunk(request: &Request) -> bool {
    request.header("content-range").is_some()
}

/// What a registry holds, as most of them say it.
fn held(bytes: usize) -> Option<String> {
    Some(format!("0-{}", bytes.saturating_sub(1)))
}
