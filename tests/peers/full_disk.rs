//! Tests what clients show when the disk of the registry is full, and that it has space afterwards.

use crate::support::SmallDisk;
use crate::support::archive::write_tar;
use crate::support::prelude::*;
use crate::support::store::upload_sessions;

const REQUIRED_PROGRAMS: [&str; 3] = ["docker", "podman", "skopeo"];
const DISK: &str = "200m";
/// One layer fits on the disk, and two do not.
const LAYER_BYTES: usize = 110_000_000;

/// The files of a large image and of a small one.
struct Archives {
    large: String,
    small: String,
}

fn write_archives(scratch: &Scratch, name: &str) -> Archives {
    let write = |version: &str, layers: Vec<Vec<u8>>| {
        let path = scratch.path(&format!("{version}.tar"));
        let image = Image::new(layers);
        write_tar(&image.docker_archive(&format!("{name}:{version}")), &path);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let large = [11, 12].map(|seed| layer("large", noise(seed, LAYER_BYTES)));
    Archives {
        large: write("large", large.to_vec()),
        small: write("small", vec![layer("small", noise(13, 100_000))]),
    }
}

/// Pushes a large image, which must fail, and then a small one with each client. `push` gets the
/// image, its archive and the target.
fn assert_refused(server: &Server, client: &str, push: &dyn Fn(&str, &str) -> Outcome) {
    let remote = |version: &str| format!("{}/{client}:{version}", server.address());
    let refused = push("large", &remote("large"));
    let shown = format!("{}{}", refused.stdout, refused.stderr);
    assert_ne!(refused.code, Some(0), "{client}: {refused}");
    for words in [
        "the disk of the registry is full",
        "imgsync.space.reserve",
        "imgsync-server garbage-collect",
    ] {
        assert!(
            shown.contains(words),
            "{client} does not show {words:?}: {shown}"
        );
    }
    // The server notices a little later that a client has disconnected.
    wait_until("the uploads of the refused push to be removed", || {
        upload_sessions(server.root()).is_empty().then_some(())
    });
    push("small", &remote("small")).succeeded();
}

#[test]
fn every_client_shows_that_the_disk_is_full_and_leaves_its_space_free() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let Some(disk) = SmallDisk::mount(DISK) else {
        return;
    };
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let server = Server::start(&disk.folder("root"));
    let name = unique("full");
    let archives = write_archives(&scratch, &name);
    let path = |version: &str| match version {
        "large" => archives.large.as_str(),
        _ => archives.small.as_str(),
    };

    let imgsync = Imgsync::new(&scratch.folder("home"));
    assert_refused(&server, "imgsync", &|version, remote| {
        imgsync.push(path(version), remote)
    });
    assert_refused(&server, "skopeo", &|version, remote| {
        skopeo::try_copy(
            &format!("docker-archive:{}", path(version)),
            &format!("docker://{remote}"),
        )
    });
    let podman = Podman::new();
    podman.load(path("large"));
    podman.load(path("small"));
    assert_refused(&server, "podman", &|version, remote| {
        let (image, remote) = (format!("{name}:{version}"), format!("docker://{remote}"));
        podman.attempt(&["push", "--tls-verify=false", &image, &remote])
    });
    let images = ["large", "small"].map(|version| {
        docker(&["load", "--input", path(version)]);
        DockerImage::existing(format!("{name}:{version}"))
    });
    assert_refused(&server, "docker", &|version, remote| {
        let image = images
            .iter()
            .find(|image| image.reference().ends_with(version));
        let tagged = image.expect("a loaded image").tag(remote);
        run(Command::new("docker").args(["push", tagged.reference()]))
    });
}
