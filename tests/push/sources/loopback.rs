//! Tests pushes from Docker's classic store and from podman that read only the layers that are
//! missing: the tool lets the daemon push them to a registry of its own on the loopback interface.

use std::time::Duration;

use super::SourcesFixture;
use crate::support::archive::Entry;
use crate::support::bytes::mixed;
use crate::support::prelude::*;
use crate::support::random::Random;
use crate::support::run::run_watched;

/// Builds `name` from scratch: one layer for each file, and an environment variable. An image that
/// had the name before loses it.
fn build(scratch: &Scratch, name: &str, files: &[Entry], variable: &str) {
    let folder = scratch.folder(&unique("context").replace('/', "-"));
    let mut dockerfile = "FROM scratch\nCMD [\"none\"]\n".to_owned();
    for file in files {
        let path = folder.join(&file.name);
        std::fs::write(&path, &file.bytes).expect("a file");
        let written = std::fs::File::open(&path).expect("the file");
        written
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .expect("the time");
        dockerfile.push_str(&format!("COPY {0} /{0}\n", file.name));
    }
    dockerfile.push_str(&format!("ENV VARIABLE={variable}\n"));
    std::fs::write(folder.join("Dockerfile"), dockerfile).expect("the Dockerfile");
    let mut command = Command::new("docker");
    command.env("DOCKER_BUILDKIT", "0");
    command.args(["build", "--quiet", "--network", "none", "--tag", name]);
    must(command.arg(folder));
}

fn files(contents: &[(u64, usize)]) -> Vec<Entry> {
    let contents = contents.iter().enumerate();
    let file = |(position, (seed, size)): (usize, &(u64, usize))| {
        Entry::new(format!("file{position}"), mixed(*seed, *size))
    };
    contents.map(file).collect()
}

/// Panics if a tag or a container of a push of this image is left in the daemon.
fn assert_no_traces(image: &DockerImage) {
    let tags = docker(&["inspect", "--format", "{{.RepoTags}}", image.reference()]);
    assert!(!tags.contains("imgsync/push"), "{tags}");
    let ancestor = format!("ancestor={}", image.id());
    let containers = docker(&["ps", "--all", "--quiet", "--filter", &ancestor]);
    assert_eq!(containers, "");
}

/// Builds the image again and pushes it. Panics unless only `changed` layers are read.
fn push_changed(
    fixture: &SourcesFixture,
    image: &DockerImage,
    files: &[Entry],
    step: u32,
    changed: usize,
) {
    let name = image.reference();
    build(&fixture.scratch, name, files, &step.to_string());
    let remote = fixture.remote("app");
    let outcome = fixture.imgsync.push_with(&["-v"], name, &remote);
    let outcome = outcome.succeeded();
    assert_eq!(fixture.check_image("app").config, image.id(), "{outcome}");
    let expected = format!("reading {changed} of {} layers", files.len());
    assert!(outcome.stderr.contains(&expected), "{outcome}");
    assert!(!outcome.stderr.contains("exporting"), "{outcome}");
    assert_no_traces(image);
}

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
    let image = DockerImage::existing(&name);
    build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    // The topmost layer, one in the middle, several, and none but the config.
    for (step, changed) in [(2, vec![4]), (3, vec![1]), (4, vec![3, 4]), (5, vec![])] {
        for position in &changed {
            contents[*position].0 += 100;
        }
        push_changed(&fixture, &image, &files(&contents), step, changed.len());
    }
}

/// Layers that are not needed are not read, wherever they are in the image, and also if a layer
/// occurs twice or is empty.
#[test]
fn any_layers_can_be_missing() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let mut random = Random::new();
    let name = unique("loopback");
    let image = DockerImage::existing(&name);
    // The largest layer is never needed, two layers have an empty file, and one occurs twice.
    let mut contents = vec![(51, 9_000_000)];
    contents.extend((0..10).map(|n| (52 + n, 70_000)));
    contents.extend([(80, 0), (80, 0)]);
    let all_files = |contents: &[(u64, usize)]| {
        let mut files = files(contents);
        files.push(Entry::new(files[1].name.clone(), files[1].bytes.clone()));
        files
    };
    build(&fixture.scratch, &name, &all_files(&contents), "1");
    let layers = docker(&[
        "inspect",
        "--format",
        "{{range .RootFS.Layers}}{{.}} {{end}}",
        &name,
    ]);
    let layers: Vec<_> = layers.split_whitespace().collect();
    assert_eq!((layers.len(), layers[1]), (14, layers[13]));
    fixture.push("app", &[], &name);
    for step in 2..6 {
        let changed: Vec<_> = (1..11).filter(|_| random.below(3) == 0).collect();
        for position in &changed {
            contents[*position].0 += 100;
        }
        push_changed(&fixture, &image, &all_files(&contents), step, changed.len());
    }
}

/// A daemon that was asked for single layers still pushes and saves the whole image.
#[test]
fn the_daemon_is_unharmed() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let name = unique("loopback");
    let mut contents = vec![(11, 3_000_000), (12, 40_000), (13, 40_000)];
    let image = DockerImage::existing(&name);
    build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    for step in 2..6 {
        contents[2].0 += 100;
        build(
            &fixture.scratch,
            &name,
            &files(&contents),
            &step.to_string(),
        );
        fixture.push("app", &[], &name);
        // The image has a single tag, and is still there.
        assert_eq!(fixture.check_image("app").config, image.id());
    }
    let remote = fixture.remote("pushed");
    let pushed = image.tag(&remote);
    docker(&["push", "--quiet", &remote]);
    assert_eq!(fixture.check_image("pushed").config, image.id());
    drop(pushed);
    let archive = image.save(fixture.scratch.path("saved.tar"));
    let saved = fixture.push("saved", &[], archive.to_str().expect("a path in UTF-8"));
    assert_eq!(saved.config, image.id());
}

/// A push is killed at any moment. The next one removes what the killed one left.
#[test]
fn a_killed_push_leaves_nothing_after_the_next_one() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let mut random = Random::new();
    let name = unique("loopback");
    let kills =
        std::env::var("IMGSYNC_TESTS_KILLS").map_or(8, |text| text.parse().expect("a number"));
    let mut contents = vec![(21, 3_000_000), (22, 40_000), (23, 200_000)];
    let image = DockerImage::existing(&name);
    build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    for _ in 0..kills {
        contents[2].0 += 100;
        build(&fixture.scratch, &name, &files(&contents), "1");
        let mut command = fixture.imgsync.command();
        command.args(["push", &name, &fixture.remote("app")]);
        let moment = std::time::Instant::now() + Duration::from_millis(random.below(150));
        let _ = run_watched(&mut command, |child| {
            if std::time::Instant::now() >= moment {
                let _ = child.kill();
            }
        });
        let id = image.id();
        fixture.push("app", &[], &name);
        assert_eq!(fixture.check_image("app").config, id);
        assert_no_traces(&image);
    }
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
        build(&fixture.scratch, name, &files(contents), "1");
        fixture.push(&name.replace('/', "-"), &[], name);
        contents[1].0 += 100;
        build(&fixture.scratch, name, &files(contents), "2");
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
    }
    assert_eq!(fixture.check_image("real").config, images[0].id());
    images.iter().for_each(assert_no_traces);
}
