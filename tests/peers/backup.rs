//! Tests of backups together with the stock registry.

use crate::support::peers::program;
use crate::support::prelude::*;
use crate::support::seed::{self, OCI_INDEX, RemoteRepository};
use crate::support::server::binary;

const REQUIRED_PROGRAMS: [&str; 1] = ["docker-registry"];

fn back_up(root: &Path, folder: &Path) -> String {
    let mut command = Command::new(binary());
    must(command.arg("backup").arg(folder).arg("--root").arg(root))
}

fn sample(number: u64) -> Image {
    let shared = layer("shared", noise(1, 40_000));
    Image::new(vec![shared, layer("own", noise(number, 30_000))])
}

/// Pushes images, an index, a signature and a cosign tag. Returns the names of the tags.
fn fill(address: SocketAddr) -> Vec<String> {
    let app = RemoteRepository {
        address,
        repository: "team/app",
    };
    let other = RemoteRepository {
        address,
        repository: "team/app/nested",
    };
    let first = app.push_image(Some("v1"), &sample(2));
    let second = app.push_image(None, &sample(3));
    let index = seed::index(&[("linux/amd64", &first), ("linux/arm64", &second)]);
    app.push_manifest("multi", OCI_INDEX, &index);
    app.push_artifact(None, &first, b"a signature");
    app.push_artifact(Some("sig"), &first, b"another signature");
    other.push_image(Some("v1"), &sample(2));
    let tags = ["team/app:v1", "team/app:multi", "team/app/nested:v1"];
    tags.map(str::to_owned).to_vec()
}

#[test]
fn a_stock_registry_serves_a_backup_and_does_not_change_the_registry() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let scratch = Scratch::new();
    let (root, folder) = (scratch.folder("root"), scratch.path("backup"));
    let server = Server::start(&root);
    let tags = fill(server.address());
    back_up(&root, &folder);
    let found = |address: SocketAddr| {
        let images = tags.iter().map(|tag| check::at_registry(address, tag));
        images.collect::<Vec<_>>()
    };
    let expected = found(server.address());

    let mut stock = StockRegistry::start_configured(&folder, ", delete: {enabled: true}", "", "");
    assert_eq!(found(stock.address()), expected);
    // The stock registry overwrites links in place, and collects garbage.
    let repository = RemoteRepository {
        address: stock.address(),
        repository: "team/app",
    };
    repository.push_image(Some("v1"), &sample(9));
    assert_ne!(found(stock.address()), expected);
    let config = scratch.path("config.yml");
    std::fs::copy(stock.config(), &config).unwrap();
    stock.stop();
    let mut collect = Command::new(program("docker-registry"));
    must(collect.args(["garbage-collect", "-m"]).arg(&config));
    assert_eq!(found(server.address()), expected);
}

#[test]
fn the_folder_of_a_stock_registry_is_backed_up_while_it_is_stopped() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let scratch = Scratch::new();
    let (root, folder) = (scratch.folder("root"), scratch.path("backup"));
    let mut stock = StockRegistry::start(&root);
    let tags = fill(stock.address());
    let found = |address: SocketAddr| {
        let images = tags.iter().map(|tag| check::at_registry(address, tag));
        images.collect::<Vec<_>>()
    };
    let expected = found(stock.address());
    stock.stop();
    back_up(&root, &folder);
    let mut stock = StockRegistry::start(&folder);
    assert_eq!(found(stock.address()), expected);
    stock.stop();
    assert_eq!(found(Server::start(&folder).address()), expected);
}
