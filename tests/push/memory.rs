//! Tests that the size of a layer does not affect the memory of client and server.

use crate::support::prelude::*;

const MAX_MEMORY_BYTES: u64 = 100_000_000;

#[test]
fn a_layer_of_600_mb_takes_less_than_100_mb_of_memory() {
    let _heavy = serial::heavy();
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let path = scratch.path("large.tar");
    archive::write_large(&path, 600_000_000, "app:v1");

    let remote = format!("{}/app:v1", server.address());
    let path = path.to_str().expect("a path in UTF-8");
    let (outcome, client) = imgsync.push_measured(path, &remote);
    outcome.succeeded();
    let server = server.peak_memory();
    eprintln!("at most {client} bytes of memory at the client, {server} at the server");
    assert!(
        client > 0 && client < MAX_MEMORY_BYTES,
        "imgsync took {client} bytes of memory"
    );
    assert!(
        server < MAX_MEMORY_BYTES,
        "imgsync-server took {server} bytes of memory"
    );
}
