//! Others write to the cache of the tool: its layers, verified blobs and upload sessions.

use std::os::unix::fs::PermissionsExt;

use super::{honest_image, lying_image, text, write_archive};
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::seed::RemoteRepository;

/// The cache of another user is copied here, for example by a CI that shares it between jobs.
#[test]
fn a_poisoned_cache_is_not_believed() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("stock"));
    let server = Server::start(&scratch.folder("root"));
    let image = honest_image(2);
    let stranger = lying_image(&image, false).compressed().swap_remove(0);
    let archive = write_archive(&scratch, &image);
    for address in [stock.address(), server.address()] {
        let home = scratch.path(&format!("home{}", address.port()));
        let imgsync = Imgsync::new(&home);
        let repository = RemoteRepository {
            address,
            repository: "app",
        };
        repository.push_blob(&stranger);
        let hex = |bytes: &[u8]| digest(bytes).replace("sha256:", "");
        let (layer, cache) = (&image.layers[0], home.join("cache/imgsync"));
        for (path, entry) in [
            (
                format!("layers/imgsync-gzip-1/sha256/{}", hex(layer)),
                format!("{} {}\n", digest(&stranger), stranger.len()),
            ),
            (
                format!("verified/sha256/{}", hex(&stranger)),
                format!("{} gzip {}\n", digest(layer), "0".repeat(64)),
            ),
        ] {
            let path = cache.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, entry).expect("an entry");
        }
        let remote = format!("{address}/app:v1");
        imgsync.push(text(&archive), &remote).succeeded();
        assert_eq!(check::at_registry(address, "app:v1").config, image.id());
    }
    stock.stop();
}

/// An image whose blobs are known, so that their journal entries can be planted.
struct PlantedJournal {
    scratch: Scratch,
    server: Server,
    layout: PathBuf,
    image: Image,
}

impl PlantedJournal {
    fn new() -> Self {
        let scratch = Scratch::new();
        let image = honest_image(3);
        let layout = scratch.path("layout");
        archive::write_folder(&image.oci_layout("v1"), &layout);
        Self {
            server: Server::start(&scratch.folder("root")),
            scratch,
            layout,
            image,
        }
    }

    fn uploads(&self) -> PathBuf {
        self.scratch.path("home/cache/imgsync/uploads")
    }

    /// Writes a journal entry for each blob, with the same URL of a session.
    fn plant(&self, location: &str) {
        std::fs::create_dir_all(self.uploads()).expect("a folder");
        let entry = serde_json::json!({
            "location": location, "offset": 0, "chunk_min": null, "chunk_max": null, "scopes": [],
        });
        for blob in self.image.compressed().iter().chain([&self.image.config]) {
            let name = format!("http {} app {}", self.server.address(), digest(blob));
            let file = digest(name.as_bytes()).replace("sha256:", "");
            std::fs::write(self.uploads().join(file), entry.to_string()).expect("an entry");
        }
    }

    fn push(&self) -> Outcome {
        let imgsync = Imgsync::new(&self.scratch.path("home"));
        let remote = format!("{}/app:v1", self.server.address());
        let mut command = imgsync.command();
        command.args(["push", text(&self.layout), &remote]);
        let outcome = run(&mut command).succeeded();
        assert_eq!(
            check::at_registry(self.server.address(), "app:v1").config,
            self.image.id()
        );
        outcome
    }
}

/// Starts a server that accepts the bytes of every upload session.
fn start_thief() -> FakeServer {
    FakeServer::start(|request| match &*request.method {
        "PUT" => status(201),
        _ => status(202)
            .header("Location", request.target.clone())
            .header("Range", "0-0"),
    })
}

#[test]
fn a_journal_entry_does_not_send_layers_to_another_address_or_repository() {
    let planted = PlantedJournal::new();
    let thief = start_thief();
    planted.plant(&format!(
        "http://{}/v2/app/blobs/uploads/1",
        thief.address()
    ));
    planted.push();
    assert_eq!(thief.lines(), Vec::<String>::new());

    let planted = PlantedJournal::new();
    let address = planted.server.address();
    let opened = http::send(address, "POST", "/v2/stranger/blobs/uploads/", &[], b"");
    let location = opened.header("location").expect("a Location");
    let path = &location[location.find("/v2/").expect("a path of the API")..];
    planted.plant(&format!("http://{address}{path}"));
    planted.push();
    let session = http::get(address, path);
    assert_eq!(session.header("imgsync-upload-offset"), Some("0"));
}

#[test]
fn a_cache_that_others_can_write_to_is_not_used() {
    let planted = PlantedJournal::new();
    let thief = start_thief();
    // Bound to the right address, so that only the permissions tell.
    let address = planted.server.address();
    planted.plant(&format!("http://{address}/v2/app/blobs/uploads/unknown"));
    let folder = planted.uploads();
    let cache = folder.parent().expect("a folder");
    for (folder, mode) in [(cache, 0o777), (&*folder, 0o777), (cache, 0o755)] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).expect("a new mode");
        let outcome = planted.push();
        assert!(outcome.stderr.contains("is not used"), "{outcome}");
        let entries = std::fs::read_dir(planted.uploads()).expect("a folder");
        assert_eq!(entries.count(), 4, "{outcome}");
    }
    assert_eq!(thief.lines(), Vec::<String>::new());
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("a new mode");
    let outcome = planted.push();
    assert!(!outcome.stderr.contains("is not used"), "{outcome}");
}
