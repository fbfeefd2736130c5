//! Tests which layers are read, and which are not.

use super::super::upload_blob;
use super::{Engine, MACHINE, SourcesFixture, files};
use crate::support::archive::Entry;
use crate::support::docker::DockerDaemon;
use crate::support::prelude::*;
use crate::support::random::Random;

#[test]
fn only_changed_layers_are_read_from_docker() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let name = unique("loopback");
    let mut contents = vec![
        (1, 6_000_000),
        (2, 40_000),
        (3, 900_000),
        (4, 60_000),
        (5, 5),
    ];
    let _image = DockerImage::existing(&name);
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    // The topmost layer, one in the middle, several, and none but the config.
    for (step, changed) in [(2, vec![4]), (3, vec![1]), (4, vec![3, 4]), (5, vec![])] {
        for position in &changed {
            contents[*position].0 += 100;
        }
        MACHINE.push_changed(&fixture, &name, &files(&contents), step, changed.len());
    }
}

/// An image is exported where an export is quicker, and where it has no name that BuildKit knows.
#[test]
fn the_whole_image_is_exported_where_that_is_better() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let name = unique("loopback");
    let image = DockerImage::existing(&name);
    let mut contents = vec![(111, 900_000), (112, 600_000), (113, 20_000)];
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    let export_of = |image: &str, reason: &str| {
        let expected = format!("exporting the whole image from the Docker daemon: {reason}");
        MACHINE.assert_dry_run_says(&fixture, image, &expected);
        let outcome = fixture.imgsync.push(image, &fixture.remote("app"));
        let outcome = outcome.succeeded();
        assert!(outcome.stderr.contains(&expected), "{outcome}");
        assert_eq!(fixture.check_image("app").config, MACHINE.id(image));
        MACHINE.assert_no_traces(image);
    };
    contents[1].0 += 100;
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "2");
    export_of(&name, "most of it is needed");
    contents[2].0 += 100;
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "3");
    let nameless = DockerImage::existing(image.id());
    contents[2].0 += 100;
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "4");
    // By its ID, an image with a name is as good as by the name.
    let by_id = MACHINE.push(
        &fixture.imgsync,
        &["-v"],
        &image.id(),
        &fixture.remote("app"),
    );
    let by_id = by_id.succeeded();
    assert!(by_id.stderr.contains("reading 1 of 3 layers"), "{by_id}");
    assert_eq!(fixture.check_image("app").config, image.id());
    export_of(nameless.reference(), "it has no name");
}

/// Docker Desktop runs the daemon in a virtual machine: the loopback interface is another one.
#[test]
fn the_whole_image_is_exported_from_a_daemon_with_another_loopback_interface() {
    let fixture = SourcesFixture::new();
    let folder = fixture.scratch.folder("docker");
    let Some(daemon) = DockerDaemon::start_without_network(&folder) else {
        return;
    };
    let engine = Engine(Some(&daemon));
    let mut contents = vec![(121, 900_000), (122, 20_000)];
    engine.build(&fixture.scratch, "app:v1", &files(&contents), "1");
    let remote = fixture.remote("app");
    engine
        .push(&fixture.imgsync, &[], "app:v1", &remote)
        .succeeded();
    contents[1].0 += 100;
    engine.build(&fixture.scratch, "app:v1", &files(&contents), "2");
    let expected = "exporting the whole image from the Docker daemon: the daemon has another loopback \
                    interface";
    engine.assert_dry_run_says(&fixture, "app:v1", expected);
    let outcome = engine.push(&fixture.imgsync, &[], "app:v1", &remote);
    let outcome = outcome.succeeded();
    assert_eq!(outcome.stderr.matches(expected).count(), 1, "{outcome}");
    assert_eq!(fixture.check_image("app").config, engine.id("app:v1"));
    engine.assert_no_traces("app:v1");
}

/// Layers that are not needed are not read, wherever they are in the image, and also if a layer
/// occurs twice or is empty.
#[test]
fn any_layers_can_be_missing() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let mut random = Random::new();
    let name = unique("loopback");
    let _image = DockerImage::existing(&name);
    // The largest layer is never needed, two layers have an empty file, and one occurs twice.
    let mut contents = vec![(51, 9_000_000)];
    contents.extend((0..10).map(|n| (52 + n, 70_000)));
    contents.extend([(80, 0), (80, 0)]);
    let all_files = |contents: &[(u64, usize)]| {
        let mut files = files(contents);
        files.push(Entry::new(files[1].name.clone(), files[1].bytes.clone()));
        files
    };
    MACHINE.build(&fixture.scratch, &name, &all_files(&contents), "1");
    let layers = layers_of(MACHINE, &name);
    assert_eq!((layers.len(), &layers[1]), (14, &layers[13]));
    fixture.push("app", &[], &name);
    for step in 2..6 {
        let changed: Vec<_> = (1..11).filter(|_| random.below(3) == 0).collect();
        for position in &changed {
            contents[*position].0 += 100;
        }
        MACHINE.push_changed(&fixture, &name, &all_files(&contents), step, changed.len());
    }
}

/// For each combination of small layers, a registry lacks only these and the config.
#[test]
fn every_combination_of_layers_can_be_missing() {
    const SMALL_LAYERS: [usize; 3] = [0, 2, 3];
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let name = unique("loopback");
    let image = DockerImage::existing(&name);
    let contents = [
        (121, 30_000),
        (122, 2_000_000),
        (123, 70_000),
        (124, 90_000),
    ];
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
    let whole = fixture.push("app", &[], &name);
    let layers = whole.blobs[1..].iter().map(|(digest, _)| {
        let blob = http::get(fixture.server.address(), &format!("/v2/app/blobs/{digest}"));
        (digest, blob.body)
    });
    let layers: Vec<_> = layers.collect();
    for combination in 0..1 << SMALL_LAYERS.len() {
        let root = fixture.scratch.folder(&format!("root{combination}"));
        let server = Server::start(&root);
        let is_missing = |layer: usize| {
            let bit = SMALL_LAYERS.iter().position(|small| *small == layer);
            bit.is_some_and(|bit| combination & (1 << bit) != 0)
        };
        for (position, layer) in layers.iter().enumerate() {
            if !is_missing(position) {
                upload_blob(&server, layer.0, &layer.1);
            }
        }
        let remote = format!("{}/app:v1", server.address());
        let outcome = fixture.imgsync.push_with(&["-v"], &name, &remote);
        let outcome = outcome.succeeded();
        let count = i32::count_ones(combination);
        let expected = format!("reading {count} of 4 layers from the Docker daemon");
        assert!(outcome.stderr.contains(&expected), "{expected}: {outcome}");
        assert!(!outcome.stderr.contains("exporting"), "{outcome}");
        assert_eq!(check::at_registry(server.address(), "app:v1"), whole);
    }
    MACHINE.assert_no_traces(&image.id());
}

/// Two pushes of two images read from one daemon at the same time, beside a push of the daemon.
#[test]
fn several_pushes_at_once() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let names = [unique("loopback"), unique("loopback"), unique("loopback")];
    let mut contents: Vec<_> = (0..3)
        .map(|n| vec![(31 + n, 3_000_000), (41 + n, 90_000)])
        .collect();
    let mut images = Vec::new();
    for (name, contents) in names.iter().zip(&mut contents) {
        images.push(DockerImage::existing(name));
        MACHINE.build(&fixture.scratch, name, &files(contents), "1");
        fixture.push(&name.replace('/', "-"), &[], name);
        contents[1].0 += 100;
        MACHINE.build(&fixture.scratch, name, &files(contents), "2");
    }
    let remotes = names
        .clone()
        .map(|name| fixture.remote(&name.replace('/', "-")));
    let real = images[0].tag(fixture.remote("real"));
    std::thread::scope(|scope| {
        for (name, remote) in names.iter().zip(&remotes) {
            scope.spawn(|| fixture.imgsync.push(name, remote).succeeded());
        }
        scope.spawn(|| docker(&["push", "--quiet", real.reference()]));
    });
    for (name, image) in names.iter().zip(&images) {
        let stored = fixture.check_image(&name.replace('/', "-"));
        assert_eq!(stored.config, image.id());
        MACHINE.assert_no_traces(&image.id());
    }
    assert_eq!(fixture.check_image("real").config, images[0].id());
}

/// Returns the diffIDs of an image.
fn layers_of(engine: Engine<'_>, name: &str) -> Vec<String> {
    let format = "{{range .RootFS.Layers}}{{.}} {{end}}";
    let layers = engine.docker(&["inspect", "--format", format, name]);
    layers.split_whitespace().map(str::to_owned).collect()
}
