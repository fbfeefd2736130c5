//! Tests archives on standard input.

use super::{EXIT_SOURCE, SpoolFixture, large_and_small, text};
use crate::support::SmallDisk;
use crate::support::archive::{Entry, write_tar};
use crate::support::prelude::*;

/// Returns archives of the image, with the layer names that different engines use.
fn archive_flavours(image: &Image) -> Vec<Vec<Entry>> {
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
    let docker_archive = renamed(&|layer| image::blob_name(layer));
    let podman = renamed(&|layer| format!("{}.tar", digest(layer).replace("sha256:", "")));
    vec![plain, docker_archive, podman, image.oci_layout("v1")]
}

#[test]
fn layers_from_standard_input_that_the_target_has_are_not_stored() {
    let Some(disk) = SmallDisk::mount("2m") else {
        return;
    };
    let fixture = SpoolFixture::with_home(Scratch::new(), disk.folder("home"));
    let on_large_disk = Imgsync::new(&fixture.scratch.folder("roomy"));
    for index in 0..4 {
        // Each archive has its own image, because the server finds a layer in any of its
        // repositories.
        let image = large_and_small(100 + 10 * index as u64);
        let path = fixture.write_archive("image.tar", &archive_flavours(&image)[index]);
        let name = format!("flavour{index}");
        let remote = fixture.remote(&name);
        // The target has no layer of the image, so the layers do not fit on the disk.
        let outcome = fixture.imgsync.push_file_on_stdin(&path, &remote);
        outcome.failed(EXIT_SOURCE, &["the disk is full", "are free there"]);
        on_large_disk.push(text(&path), &remote).succeeded();
        // The server computes diffIDs in the background.
        wait_until("a push that stores nothing", || {
            let outcome = fixture.imgsync.push_file_on_stdin(&path, &remote);
            (outcome.code == Some(0)).then_some(())
        });
        assert_eq!(fixture.check_image(&name).config, image.id());
        assert_eq!(fixture.spooled(), []);
    }
}

/// The image that the tag points at lists the layers of the registry.
#[test]
fn layers_from_standard_input_that_a_stock_registry_has_are_not_stored() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let Some(disk) = SmallDisk::mount("2m") else {
        return;
    };
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let image = large_and_small(220);
    for (index, entries) in archive_flavours(&image).iter().enumerate() {
        let path = scratch.path("image.tar");
        write_tar(entries, &path);
        let remote = format!("{}/flavour{index}:v1", stock.address());
        let on_large_disk = Imgsync::new(&scratch.folder("roomy"));
        on_large_disk.push(text(&path), &remote).succeeded();
        let on_small_disk = Imgsync::new(&disk.folder(&format!("home{index}")));
        let outcome = on_small_disk.push_file_on_stdin(&path, &remote).succeeded();
        assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
        check::at_registry(stock.address(), &format!("flavour{index}:v1"));
    }
    stock.stop();
}

/// In the second stream, the layers that are already compressed have other bytes of the same size.
#[test]
fn a_killed_push_of_standard_input_reuses_compressed_layers() {
    let fixture = SpoolFixture::new();
    let image = large_and_small(150);
    let docker_archive = archive_flavours(&image).swap_remove(1);
    let path = fixture.write_archive("image.tar", &docker_archive);
    let mut command = fixture.imgsync.command();
    command.stdin(std::fs::File::open(&path).expect("an archive"));
    let bytes = 5_000_000;
    fixture.kill_during_push(command, "-", "app", bytes);
    let compressed = fixture.spooled();
    let compressed = |entry: &Entry| {
        let hex = entry.name.rsplit('/').next().unwrap();
        compressed.iter().any(|(path, _)| {
            let path = path.display().to_string();
            path.contains("imgsync-gzip-1") && path.ends_with(hex)
        })
    };
    let mut damaged = docker_archive.clone();
    let mut count = 0;
    // Small layers are always read.
    let is_large = |entry: &&mut Entry| entry.bytes.len() > 1_000_000;
    for entry in damaged.iter_mut().filter(is_large) {
        if compressed(entry) {
            entry.bytes.fill(0);
            count += 1;
        }
    }
    assert!(count > 0);
    let path = fixture.write_archive("spoilt.tar", &damaged);
    let remote = fixture.remote("app");
    fixture
        .imgsync
        .push_file_on_stdin(&path, &remote)
        .succeeded();
    assert_eq!(fixture.check_image("app").config, image.id());
    assert_eq!(fixture.spooled(), []);
}
