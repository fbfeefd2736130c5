//! Tests pushes that end in the middle: the tool is killed, the daemon is killed, or the disk is
//! full. Nothing is left in the daemon after the next push.

use std::time::{Duration, Instant};

use super::{Engine, MACHINE, SourcesFixture, files, repetitions};
use crate::support::SmallDisk;
use crate::support::docker::DockerDaemon;
use crate::support::prelude::*;
use crate::support::random::Random;
use crate::support::run::run_watched;

/// A push is killed at any moment. The next one removes what the killed one left.
#[test]
fn a_killed_push_leaves_nothing_after_the_next_one() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let mut random = Random::new();
    let name = unique("loopback");
    let mut contents = vec![(21, 3_000_000), (22, 40_000), (23, 200_000)];
    let image = DockerImage::existing(&name);
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    for _ in 0..repetitions("IMGSYNC_TESTS_KILLS", 8) {
        contents[2].0 += 100;
        MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
        let mut command = fixture.imgsync.command();
        command.args(["push", &name, &fixture.remote("app")]);
        let moment = Instant::now() + Duration::from_millis(random.below(150));
        let _ = run_watched(&mut command, |child| {
            if Instant::now() >= moment {
                let _ = child.kill();
            }
        });
        let id = image.id();
        fixture.push("app", &[], &name);
        assert_eq!(fixture.check_image("app").config, id);
        MACHINE.assert_no_traces(&id);
    }
}

/// The daemon is killed while it sends layers, and started again.
#[test]
fn a_push_whose_daemon_was_killed_can_be_repeated() {
    if !programs_available(&["docker", "dockerd"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let Some(mut daemon) = DockerDaemon::start(&fixture.scratch.folder("daemon"), &[]) else {
        return;
    };
    let mut random = Random::new();
    let (name, remote) = ("app:v1", fixture.remote("app"));
    let mut contents = vec![(61, 3_000_000), (62, 40_000), (63, 200_000)];
    Engine(Some(&daemon)).build(&fixture.scratch, name, &files(&contents), "1");
    let first = Engine(Some(&daemon)).push(&fixture.imgsync, &[], name, &remote);
    first.succeeded();
    let records = fixture.scratch.path("home/cache/imgsync/spool/loopback");
    for _ in 0..repetitions("IMGSYNC_TESTS_DAEMON_KILLS", 2) {
        contents[2].0 += 100;
        Engine(Some(&daemon)).build(&fixture.scratch, name, &files(&contents), "1");
        let id = Engine(Some(&daemon)).id(name);
        let mut command = Engine(Some(&daemon)).imgsync(&fixture.imgsync);
        command.args(["push", name, &remote]);
        let mut moment = None;
        let pause = Duration::from_millis(random.below(60));
        let outcome = run_watched(&mut command, |_| {
            let mut records = std::fs::read_dir(&records).into_iter().flatten();
            if moment.is_none() && records.next().is_some() {
                moment = Some(Instant::now() + pause);
            }
            if moment.is_some_and(|moment| Instant::now() >= moment) {
                daemon.kill();
                moment = None;
            }
        });
        if outcome.code != Some(0) {
            outcome.failed(3, &["Docker daemon"]);
        }
        daemon.kill();
        daemon.restart();
        let engine = Engine(Some(&daemon));
        assert_eq!(engine.id(name), id);
        engine
            .push(&fixture.imgsync, &[], name, &remote)
            .succeeded();
        assert_eq!(fixture.check_image("app").config, id);
        engine.assert_no_traces(&id);
    }
}

/// The layer that has changed does not fit on the disk.
#[test]
fn a_full_disk_leaves_nothing_in_the_daemon() {
    let _docker = serial::docker();
    let Some(disk) = SmallDisk::mount("1m") else {
        return;
    };
    let fixture = SourcesFixture::new();
    let name = unique("loopback");
    let mut contents = vec![(71, 24_000_000), (72, 3_000_000)];
    let image = DockerImage::existing(&name);
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    contents[1].0 += 100;
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "2");
    let on_disk = Imgsync::new(&disk.folder("home"));
    let outcome = MACHINE.push(&on_disk, &["-v"], &name, &fixture.remote("app"));
    let words = [
        "reading 1 of 2 layers",
        "the disk is full",
        "hint: free some disk space",
    ];
    outcome.failed(3, &words);
    MACHINE.assert_no_traces(&image.id());
    fixture.push("app", &[], &name);
    assert_eq!(fixture.check_image("app").config, image.id());
}
