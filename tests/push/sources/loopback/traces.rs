//! Tests that the tag and the container of a push are removed, and never the image with them.

use std::time::{Duration, SystemTime};

use super::{MACHINE, SourcesFixture, files};
use crate::support::prelude::*;

/// The registry refuses the layer that was read, while the traces are being removed.
#[test]
fn a_refused_upload_leaves_nothing_in_the_daemon() {
    let _docker = serial::docker();
    let mut fixture = SourcesFixture::new();
    let name = unique("loopback");
    let mut contents = vec![(131, 3_000_000), (132, 60_000)];
    let image = DockerImage::existing(&name);
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
    fixture.push("app", &[], &name);
    contents[1].0 += 100;
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "2");
    fixture.server.stop();
    let root = fixture.server.root().to_owned();
    let config = format!(
        "version: 0.1\nstorage: {{maintenance: {{readonly: {{enabled: true}}}}, \
         filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n"
    );
    let path = fixture.scratch.path("config.yml");
    std::fs::write(&path, config).expect("a file");
    fixture.server = Server::start_configured(&path, &root);
    let outcome = MACHINE.push(&fixture.imgsync, &["-v"], &name, &fixture.remote("app"));
    outcome.failed(4, &["reading 1 of 2 layers", "read-only"]);
    // The file that names the traces stays for the next run if Docker was still creating the container.
    MACHINE.assert_no_traces(&image.id());
}

/// A push was killed, and then a build has moved the other name of its image.
#[test]
fn the_last_name_of_an_image_is_removed_without_the_image() {
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let name = unique("loopback");
    let contents = [(141, 30_000)];
    let image = DockerImage::existing(&name);
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "1");
    let unnamed = DockerImage::existing(image.id());
    let tag = "3f0e1f1a-3c56-4a8e-9a3b-0f2f0d6f3b11";
    let trace = format!("127.0.0.1:9/imgsync/push:{tag}");
    MACHINE.docker(&["tag", &name, &trace]);
    let records = fixture.scratch.folder("home/cache/imgsync/spool/loopback");
    let record = std::fs::File::create(records.join(tag)).expect("a file");
    std::fs::write(records.join(tag), format!("9 {tag}\n")).expect("a file");
    // The requests of the killed push have been handled by now.
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    record.set_modified(an_hour_ago).expect("the time");
    MACHINE.build(&fixture.scratch, &name, &files(&contents), "2");
    fixture.push("app", &[], &name);
    MACHINE.assert_no_traces(unnamed.reference());
    assert!(!records.join(tag).exists());
}
