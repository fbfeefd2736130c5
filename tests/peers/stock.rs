//! Tests the stock registry as a target, and as another user of the server's folder.

use crate::support::prelude::*;

const REQUIRED_PROGRAMS: [&str; 3] = ["docker", "busybox", "docker-registry"];

#[test]
fn docker_runs_what_was_pushed_to_a_stock_registry_and_the_server_takes_over_its_folder() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let image = DockerImage::build(&unique("stock"), "v1");
    let id = image.id();

    let mut stock = StockRegistry::start(&root);
    let remote = format!("{}/team/app:v1", stock.address());
    imgsync.push(image.reference(), &remote).succeeded();
    image.remove();
    assert_runs_from(&remote, &id);
    let found = check::at_registry(stock.address(), "team/app:v1");
    stock.stop();

    let server = Server::start(&root);
    assert_runs_from(&format!("{}/team/app:v1", server.address()), &id);
    assert_eq!(check::at_registry(server.address(), "team/app:v1"), found);
}

#[test]
fn a_stock_registry_takes_over_the_folder_of_the_server() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let image = DockerImage::build(&unique("to-stock"), "v1");
    let id = image.id();

    let mut server = Server::start(&root);
    let remote = format!("{}/team/app:v1", server.address());
    imgsync.push(image.reference(), &remote).succeeded();
    let tagged = image.tag(format!("{}/team/docker:v1", server.address()));
    docker(&["push", tagged.reference()]);
    tagged.remove();
    image.remove();
    let found = check::at_registry(server.address(), "team/app:v1");
    assert!(server.stop().success(), "SIGTERM is a normal exit");

    let stock = StockRegistry::start(&root);
    assert_runs_from(&format!("{}/team/app:v1", stock.address()), &id);
    assert_eq!(check::at_registry(stock.address(), "team/app:v1"), found);
    assert_runs_from(&format!("{}/team/docker:v1", stock.address()), &id);
}

fn assert_runs_from(remote: &str, id: &str) {
    let pulled = DockerImage::pull(remote);
    assert_eq!(pulled.id(), id, "{remote}");
    assert_eq!(
        pulled.container_output(),
        "hello from version v1",
        "{remote}"
    );
}
