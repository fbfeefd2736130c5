//! Tests of the page of the server in Chromium. The HTTP side of the page is tested in
//! `server/tests/page`. The pictures are in `target/page-screenshots`.

mod accessibility;
mod looks;
mod proxied;
mod tour;

use serde_json::json;

use crate::support::chromium::Chromium;
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, OCI_MANIFEST, RemoteRepository};
use crate::support::server;

const PASSWORD: &str = "correct horse";

/// A text that is a script if it is not escaped.
const HOSTILE: &str = "</td><script>document.title = 'stolen'</script><img src=x onerror=\"document.title = 'stolen'\">";

/// A server with images and the user alice, and a browser.
struct PageFixture {
    scratch: Scratch,
    server: Server,
    browser: Chromium,
}

impl PageFixture {
    /// Starts a server with content, and a browser.
    fn start() -> Self {
        let scratch = Scratch::new();
        let root = scratch.folder("root");
        push_content(Server::start(&root).address());
        write_history(&root);
        let config = write_config(&scratch, &root);
        let server = Server::start_configured(&config, &root);
        Self {
            scratch,
            server,
            browser: Chromium::start(),
        }
    }

    fn url(&self, page: &str) -> String {
        format!("http://{}/_imgsync/{page}", self.server.address())
    }

    fn open(&mut self, page: &str) {
        let url = self.url(page);
        self.browser.open(&url);
    }

    /// Logs in as alice, from the page that the browser shows.
    fn log_in(&mut self) {
        log_in(&mut self.browser);
    }
}

/// Fills in and sends the form to log in.
fn log_in(browser: &mut Chromium) {
    browser.wait_for("document.querySelector('#password') !== null");
    browser.type_into("#user", "alice");
    browser.type_into("#password", PASSWORD);
    browser.click("form.login button");
    browser.wait_for("document.querySelector('form.login') === null && document.body.innerText.includes('alice')");
}

fn write_config(scratch: &Scratch, root: &Path) -> PathBuf {
    let users = scratch.path("users");
    let command = "echo \"$2\" | \"$0\" htpasswd --cost 4 \"$1\" alice";
    must(
        Command::new("sh")
            .args(["-c", command])
            .arg(server::binary())
            .arg(&users)
            .arg(PASSWORD),
    );
    let config = scratch.path("config.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '127.0.0.1:0'}}\n\
         auth: {{htpasswd: {{realm: registry, path: {users:?}}}}}\n\
         imgsync:\n  anonymous: {{pull: ['public/**']}}\n  cache:\n    upstreams:\n      \
         - {{prefix: docker.io, remoteurl: 'http://127.0.0.1:9', insecure: true}}\n"
    );
    std::fs::write(&config, text).unwrap();
    config
}

/// Writes how the disk was used in the last five weeks.
fn write_history(root: &Path) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    let samples = (0..840_u64).rev().map(|hours| {
        let day = (840 - hours) / 24;
        let blobs = 3_300_000 + day * 112_000 - (day / 7) * 400_000;
        let trash = (day % 7) * 120_000;
        let time = now - (hours + 2) * 3600;
        format!("{time} 64000000000 30000000000 {blobs} 0 {trash} 0 0\n")
    });
    std::fs::write(
        root.join("imgsync/disk-history-1"),
        samples.collect::<String>(),
    )
    .unwrap();
}

/// Pushes images as they are usual, and one with hostile texts.
fn push_content(address: SocketAddr) {
    let base = noise(1, 2_900_000);
    let app = config(
        &[
            ("/bin/sh -c #(nop) ADD file:8b41fe in / ", false),
            (
                "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                true,
            ),
            (
                "RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends ca-certificates tzdata && rm -rf /var/lib/apt/lists/* # buildkit",
                false,
            ),
            ("WORKDIR /srv", true),
            ("COPY --chown=app:app build/app /srv/app # buildkit", false),
            ("ENTRYPOINT [\"/srv/app\"]", true),
        ],
        &json!({
            "org.opencontainers.image.source": "https://git.example.com/team/app",
            "org.opencontainers.image.revision": "9f1c2d7e0b7a4c5d8e6f",
            "org.opencontainers.image.title": "The app of the team",
        }),
    );
    let images = ["team/app", "team/web", "public/tools", "infra/proxy"];
    for (number, name) in (0..).zip(images) {
        let repository = RemoteRepository {
            address,
            repository: name,
        };
        for (tag, seed) in [("v1.0.0", 10), ("v1.1.0", 20), ("latest", 30)] {
            let layers = [
                base.clone(),
                noise(seed, 640_000),
                noise(seed + number + 100, 41_000),
            ];
            let manifest = push_image(&repository, tag, &app, &layers);
            if tag == "latest" && name == "team/app" {
                repository.push_artifact(None, &manifest, b"a signature");
                push_index(&repository, &manifest);
            }
        }
    }
    let hostile = config(
        &[(HOSTILE, false), ("RUN echo \u{202e}gnp.exe", false)],
        &json!({
            HOSTILE: HOSTILE, "right-to-left": "\u{202e}evil\u{2066}", "long": "x".repeat(500),
        }),
    );
    let repository = RemoteRepository {
        address,
        repository: "test/hostile",
    };
    push_image(
        &repository,
        "v1",
        &hostile,
        &[noise(7, 9000), noise(8, 9000)],
    );
    let long = "a-very-long-name-of-a-repository/with-several-parts/and-a-name-that-does-not-fit-on-a-phone";
    let repository = RemoteRepository {
        address,
        repository: long,
    };
    push_image(
        &repository,
        &"tag-".repeat(20),
        &hostile,
        &[noise(7, 9000), noise(8, 9000)],
    );
}

fn config(history: &[(&str, bool)], labels: &serde_json::Value) -> Vec<u8> {
    let history = history.iter().map(|(created_by, is_empty)| {
        json!({"created": "2026-11-30T02:14:09Z", "created_by": created_by, "empty_layer": is_empty})
    });
    json!({
        "os": "linux", "architecture": "amd64", "created": "2026-11-30T02:14:09Z",
        "history": history.collect::<Vec<_>>(),
        "config": {"Labels": labels, "Entrypoint": ["/srv/app"], "WorkingDir": "/srv", "User": "app",
            "ExposedPorts": {"8080/tcp": {}}},
    })
    .to_string()
    .into_bytes()
}

/// Pushes an image, and returns its manifest.
fn push_image(
    repository: &RemoteRepository<'_>,
    tag: &str,
    config: &[u8],
    layers: &[Vec<u8>],
) -> Vec<u8> {
    repository.push_blob(config);
    let layers = layers.iter().map(|layer| {
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": repository.push_blob(layer), "size": layer.len()})
    });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers.collect::<Vec<_>>(),
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": config.len()},
    });
    let bytes = manifest.to_string().into_bytes();
    repository.push_manifest(tag, OCI_MANIFEST, &bytes);
    bytes
}

/// Pushes an index with an image for two platforms.
fn push_index(repository: &RemoteRepository<'_>, manifest: &[u8]) {
    let entry = |architecture: &str| {
        json!({"mediaType": OCI_MANIFEST, "digest": digest(manifest), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry("amd64"), entry("arm64")]});
    repository.push_manifest("multi", OCI_INDEX, index.to_string().as_bytes());
}
