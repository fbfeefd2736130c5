//! Tests that another tag of an image gets the manifest that the image has at the registry already:
//! the one that Docker recorded, or that of an earlier push. Two programs do not make a tag flip.

use crate::support::older_server::wait_for_diff_ids;
use crate::support::prelude::*;
use crate::support::seed::{OCI_MANIFEST, RemoteRepository};

/// An image in the local Docker, and a registry.
struct RetagFixture {
    imgsync: Imgsync,
    image: DockerImage,
    address: SocketAddr,
}

impl RetagFixture {
    fn new(scratch: &Scratch, name: &str, address: SocketAddr) -> Self {
        Self {
            imgsync: Imgsync::new(&scratch.folder(name)),
            image: DockerImage::build(&unique(name), "v1"),
            address,
        }
    }

    fn reference(&self, tag: &str) -> String {
        format!("{}/app:{tag}", self.address)
    }

    fn push(&self, tag: &str) -> String {
        let remote = self.reference(tag);
        let push = self.imgsync.push(self.image.reference(), &remote);
        push.succeeded();
        wait_for_diff_ids(self.address);
        self.digest(tag)
    }

    /// Returns the digest of the image under a tag, with all of its content verified.
    fn digest(&self, tag: &str) -> String {
        check::at_registry(self.address, &format!("app:{tag}")).manifest
    }

    fn docker_push(&self, tag: &str) -> (DockerImage, String) {
        let tagged = self.image.tag(self.reference(tag));
        docker(&["push", tagged.reference()]);
        wait_for_diff_ids(self.address);
        (tagged, self.digest(tag))
    }
}

fn assert_a_retag_keeps_the_digest(scratch: &Scratch, name: &str, address: SocketAddr) {
    let fixture = RetagFixture::new(scratch, name, address);
    let own = fixture.push("v1");
    let (first, docker_digest) = fixture.docker_push("v1");
    assert_ne!(docker_digest, own, "the tools write the same manifest");
    // A repeated tag does not flip, and another tag gets the same bytes.
    assert_eq!(fixture.push("v1"), docker_digest);
    assert_eq!(fixture.push("v2"), docker_digest);
    let (second, digest) = fixture.docker_push("v2");
    assert_eq!(digest, docker_digest);
    // Docker has forgotten the manifest; the pushes of this user have not.
    first.remove();
    second.remove();
    assert_eq!(fixture.push("v3"), docker_digest);
}

#[test]
fn a_retag_keeps_the_digest_that_docker_recorded() {
    if !programs_available(&["docker", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    assert_a_retag_keeps_the_digest(&scratch, "retag", server.address());
    let mut stock = StockRegistry::start(&scratch.folder("stock"));
    assert_a_retag_keeps_the_digest(&scratch, "retag-stock", stock.address());
    stock.stop();
}

/// Docker records the digest of every manifest that it pulls, also that of a stranger.
#[test]
fn the_manifest_of_a_stranger_is_not_used_again() {
    if !programs_available(&["docker", "docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("stock"));
    let fixture = RetagFixture::new(&scratch, "stranger", stock.address());
    let own = fixture.push("v1");
    let bytes = http::get(stock.address(), "/v2/app/manifests/v1").body;
    let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    manifest["mediaType"] = OCI_MANIFEST.into();
    manifest["annotations"] = serde_json::json!({"org.example.by": "a stranger"});
    let stranger = RemoteRepository {
        address: stock.address(),
        repository: "app",
    };
    let planted = manifest.to_string().into_bytes();
    let planted = stranger.push_manifest("v1", OCI_MANIFEST, &planted);
    let pulled = DockerImage::pull(fixture.reference("v1"));
    assert_eq!(pulled.id(), fixture.image.id());
    let recorded = docker(&[
        "image",
        "inspect",
        "--format",
        "{{.RepoDigests}}",
        &pulled.id(),
    ]);
    assert!(recorded.contains(&planted), "{recorded}");
    fixture.imgsync.clear_cache();
    assert_eq!(fixture.push("v2"), own);
    stock.stop();
}
