//! Archives on standard input.

use super::{SOURCE, SpoolFixture, large_and_small, text};
use crate::support::SmallDisk;
use crate::support::archive::{Entry, write_tar};
use crate::support::prelude::*;

/// The same image under the names that engines give to its layers.
fn flavours(image: &Image) -> Vec<Vec<Entry>> {
    let plain = image.docker_archive("app:v1");
    let renamed = |name: &dyn Fn(&[u8]) -> String| {
        let names: Vec<_> = image.layers.iter().map(|layer| name(layer)).collect();
        let mut entries: Vec<_> = names
            .iter()
            .zip(&image.layers)
            .map(|(name, layer)| Entry::new(name.clone(), layer.clone()))
            .collect();
        entries.push(Entry::new(image::CONFIG, image.config.clone()));
        let manifest = image::archive_manifest("app:v1", &names);
        entries.push(Entry::new("manifest.json", manifest));
        entries
    };
    let docker25 = renamed(&|layer| image::blob_name(layer));
    let podman = renamed(&|layer| format!("{}.tar", digest(layer).replace("sha256:", "")));
    vec![plain, docker25, podman, image.oci_layout("v1")]
}

#[test]
fn of_an_archive_on_standard_input_nothing_is_kept_that_the_target_holds() {
    let Some(disk) = SmallDisk::mount("2m") else {
        return;
    };
    let fixture = SpoolFixture::at(Scratch::new(), disk.folder("home"));
    let roomy = Imgsync::new(&fixture.scratch.folder("roomy"));
    for at in 0..4 {
        // Each is new to the server, which finds a layer in any of its repositories.
        let image = large_and_small(100 + 10 * at as u64);
        let path = fixture.written("image.tar", &flavours(&image)[at]);
        let name = format!("flavour{at}");
        let remote = fixture.remote(&name);
        // Without a single layer at the target it does not fit.
        let outcome = fixture.imgsync.push_file_on_stdin(&path, &remote);
        outcome.failed(SOURCE, &["the disk is full", "are free there"]);
        roomy.push(text(&path), &remote).succeeded();
        // Our server computes diffIDs in the background.
        wait_until("a push that keeps nothing", || {
            let outcome = fixture.imgsync.push_file_on_stdin(&path, &remote);
            (outcome.code == Some(0)).then_some(())
        });
        assert_eq!(fixture.found(&name).config, image.id());
        assert_eq!(fixture.spooled(), []);
    }
}

/// The image under the tag says which layers the registry has.
#[test]
fn another_registry_is_asked_too_what_need_not_be_kept() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let Some(disk) = SmallDisk::mount("2m") else {
        return;
    };
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let image = large_and_small(220);
    for (at, entries) in flavours(&image).iter().enumerate() {
        let path = scratch.path("image.tar");
        write_tar(entries, &path);
        let remote = format!("{}/flavour{at}:v1", stock.address());
        let roomy = Imgsync::new(&scratch.folder("roomy"));
        roomy.push(text(&path), &remote).succeeded();
        let small = Imgsync::new(&disk.folder(&format!("home{at}")));
        let outcome = small.push_file_on_stdin(&path, &remote).succeeded();
        assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
        check::at_registry(stock.address(), &format!("flavour{at}:v1"));
    }
    stock.stop();
}

/// In the second stream the layers that were packed are others of the same size.
#[test]
fn a_killed_push_of_standard_input_goes_on_with_what_it_packed() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(150);
    let docker25 = flavours(&image).swap_remove(1);
    let path = fixture.written("image.tar", &docker25);
    let mut command = fixture.imgsync.command();
    command.stdin(std::fs::File::open(&path).expect("an archive"));
    let bytes = 5_000_000;
    fixture.killed(command, "-", "app", bytes);
    let packed = fixture.spooled();
    let packed = |entry: &Entry| {
        let hex = entry.name.rsplit('/').next().unwrap();
        packed.iter().any(|(path, _)| {
            let path = path.display().to_string();
            path.contains("imgsync-gzip-1") && path.ends_with(hex)
        })
    };
    let mut spoilt = docker25.clone();
    let mut count = 0;
    // Small ones are read in any case.
    let is_large = |entry: &&mut Entry| entry.bytes.len() > 1_000_000;
    for entry in spoilt.iter_mut().filter(is_large) {
        if packed(entry) {
            entry.bytes.fill(0);
            count += 1;
        }
    }
    assert!(count > 0);
    let path = fixture.written("spoilt.tar", &spoilt);
    let remote = fixture.remote("app");
    fixture
        .imgsync
        .push_file_on_stdin(&path, &remote)
        .succeeded();
    assert_eq!(fixture.found("app").config, image.id());
    assert_eq!(fixture.spooled(), []);
}
