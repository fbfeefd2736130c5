//! Runs the commands in the documents.

use std::io::Write as _;

use super::document::{Block, DOCUMENTS, blocks, read, words};
use crate::support::prelude::*;
use crate::support::process::Process;
use crate::support::server;

/// Creates the working folder that the documents assume, with an image as archive and as layout.
fn create_work_folder(scratch: &Scratch) {
    let work = scratch.folder("work");
    let image = Image::new(vec![layer("data", noise(1, 3_000_000))]);
    let plain = archive::tar_of(&image.docker_archive("app:v1"));
    std::fs::write(work.join("image.tar"), &plain).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    std::fs::write(work.join("image.tar.gz"), gzip.finish().unwrap()).unwrap();
    archive::write_folder(&image.oci_layout("v1"), &work.join("build/image"));
    let next = Image::new(vec![layer("data", noise(2, 3_000_000))]);
    archive::write_tar(&next.docker_archive("app:v2"), &work.join("next.tar"));
    std::fs::create_dir_all(work.join("etc/imgsync")).unwrap();
    std::fs::create_dir_all(work.join("srv/registry")).unwrap();
    let config = "version: 0.1\nstorage: {filesystem: {rootdirectory: ./data}}\n";
    std::fs::write(work.join("etc/imgsync/config.yml"), config).unwrap();
}

/// The server that a document assumes if no block is marked with `serve`. It has a rule of
/// retention, because `imgsync-server retention` fails without one.
const DEFAULT_SERVER: &str = "env REGISTRY_IMGSYNC_RETENTION_0_REPOSITORIES='[\"**\"]' \
    REGISTRY_IMGSYNC_RETENTION_0_UNTAGGED=168h \
    imgsync-server serve --root data --addr 127.0.0.1:5000";

/// Folders of the machine, which are folders in the working folder of a test instead.
const MACHINE_FOLDERS: [&str; 2] = [" /etc/imgsync/", " /srv/"];

/// Returns a shell command with both programs in PATH and a temporary home folder.
fn shell(script: &str, scratch: &Scratch) -> Command {
    let programs = server::binary().parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(programs).chain(std::env::split_paths(&path));
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(scratch.path("work"));
    command.env_clear().env("HOME", scratch.folder("home"));
    command.envs(std::env::var_os("DOCKER_HOST").map(|value| ("DOCKER_HOST", value)));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    command.env("PASSWORD", "secret").stdin(Stdio::null());
    command
}

/// Runs the blocks of a document that are marked with `run`, in their order, in one folder, and
/// returns their number. They use a registry that contains team/app:v1 and another image as
/// team/app:v2. The block that is marked with `serve` starts it, or a default command.
fn run_document(path: &str) -> usize {
    let scratch = Scratch::new();
    create_work_folder(&scratch);
    let reserved_port = ReservedPort::new();
    let port = format!(":{}", reserved_port.address().port());
    let blocks = blocks(&read(path));
    let marked = |mark: &str| -> Vec<&Block> {
        blocks.iter().filter(|block| block.has_mark(mark)).collect()
    };
    let serve = match marked("serve")[..] {
        [] => DEFAULT_SERVER,
        [block] => block.text.trim(),
        [..] => panic!("{path}: several blocks are marked with serve"),
    };
    let serve = format!("exec {}", serve.replace(":5000", &port));
    let mut command = shell(&serve, &scratch);
    let mut registry = Process::start("registry", &mut command, scratch.root());
    registry.wait_for("the registry's address", |text| {
        text.contains("listening on").then_some(())
    });
    for (file, tag) in [("image.tar", "v1"), ("next.tar", "v2")] {
        let seed = format!("imgsync push ./{file} localhost{port}/team/app:{tag}");
        must(&mut shell(&seed, &scratch));
    }

    let mut count = 0;
    let mut built_image = None;
    for block in marked("run") {
        let mut script = block.text.replace(":5000", &port);
        for folder in MACHINE_FOLDERS {
            script = script.replace(folder, &folder.replacen(" /", " ", 1));
        }
        let is_missing =
            |name: &str| script.contains(&format!("{name} ")) && !programs_available(&[name]);
        if ["curl", "openssl"].into_iter().any(is_missing) {
            continue;
        }
        if words(&script.replace('\n', " ")).contains(&"app:v1".to_owned()) {
            if !programs_available(&["docker", "busybox"]) {
                continue;
            }
            let image =
                built_image.get_or_insert_with(|| DockerImage::build(&unique("document"), "v1"));
            let name = format!(" {} ", image.reference());
            script = script.replace(" app:v1 ", &name);
        }
        let outcome = run(&mut shell(&script, &scratch));
        assert_eq!(outcome.code, Some(0), "{path}: {outcome}");
        count += 1;
    }
    count
}

#[test]
fn the_marked_commands_succeed() {
    for path in DOCUMENTS {
        let count = run_document(path);
        let has_any = read(path).contains("sh run\n");
        assert_eq!(count > 0, has_any, "{path}");
    }
}

/// The marks of blocks with commands. CONTRIBUTING.md explains them.
const MARKS: [&str; 7] = [
    "run",
    "serve",
    "release",
    "build",
    "container",
    "remote",
    "system",
];

#[test]
fn every_block_of_commands_is_marked() {
    for path in DOCUMENTS {
        for block in blocks(&read(path)).iter().filter(|block| block.is("sh")) {
            let count = MARKS.iter().filter(|mark| block.has_mark(mark)).count();
            assert_eq!(
                count, 1,
                "{path}: mark this block with one of {MARKS:?} (CONTRIBUTING.md): {block:?}"
            );
        }
    }
}
