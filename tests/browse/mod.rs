//! Tests the commands that show and name what is in a registry: `ls`, `inspect`, `tag` and `diff`.

mod diff;
mod inspect;
mod logins;
mod ls;
mod tag;

use serde_json::{Value, json};

use crate::support::archive::{Entry, tar_of};
use crate::support::prelude::*;
use crate::support::seed::RemoteRepository;

/// The tool, our own server and a stock registry.
struct BrowseFixture {
    imgsync: Imgsync,
    server: Server,
    stock: StockRegistry,
    /// Dropped last: the registries must have stopped before their folders are deleted.
    _scratch: Scratch,
}

impl BrowseFixture {
    /// Returns `None` if there is no stock registry on this machine.
    fn new() -> Option<Self> {
        if !programs_available(&["docker-registry"]) {
            return None;
        }
        let scratch = Scratch::new();
        Some(Self {
            imgsync: Imgsync::new(&scratch.folder("home")),
            server: Server::start(&scratch.folder("ours")),
            stock: StockRegistry::start(&scratch.folder("stock")),
            _scratch: scratch,
        })
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.server.address(), self.stock.address()]
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.imgsync.command().args(arguments))
    }

    /// Runs a command, and returns the objects on stdout, one from each line.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let outcome = self.run(arguments).succeeded();
        let lines = outcome.stdout.lines();
        let objects = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        objects.collect()
    }
}

fn repository(address: SocketAddr, name: &str) -> RemoteRepository<'_> {
    RemoteRepository {
        address,
        repository: name,
    }
}

/// The command that made a layer, and the files in the layer.
type BuiltLayer<'a> = (&'a str, &'a [(&'a str, &'a [u8])]);

/// Returns an image whose layers have these files and were made by these commands.
fn built_image(layers: &[BuiltLayer<'_>], config: &Value) -> Image {
    let tars = layers.iter().map(|(_, files)| {
        let entries = files.iter().map(|(name, bytes)| Entry::new(*name, *bytes));
        tar_of(&entries.collect::<Vec<_>>())
    });
    let tars: Vec<_> = tars.collect();
    let diff_ids: Vec<_> = tars.iter().map(|tar| digest(tar)).collect();
    let mut history = vec![json!({"created_by": "ENV STEP=none", "empty_layer": true})];
    history.extend(
        layers
            .iter()
            .map(|(command, _)| json!({"created_by": command})),
    );
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    Image {
        layers: tars,
        config: config.to_string().into_bytes(),
    }
}
