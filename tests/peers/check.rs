//! Tests of `check` with the clients that heal what it finds, and with folders of the stock registry.

use crate::support::peers::program;
use crate::support::prelude::*;
use crate::support::seed::RemoteRepository;
use crate::support::server::binary;
use crate::support::store::blob_path;

/// Runs a check with repairs, which must find damage. Returns its output.
fn repaired(root: &Path) -> String {
    let mut command = Command::new(binary());
    let outcome = run(command.args(["check", "--repair", "--root"]).arg(root));
    let outcome = outcome.failed(1, &["damage was found"]);
    outcome.stdout
}

fn assert_clean(root: &Path) {
    must(Command::new(binary()).args(["check", "--root"]).arg(root));
}

/// Overwrites the first bytes of a blob: neither its size nor its name shows that.
fn damage(root: &Path, digest: &str) {
    let path = blob_path(root, digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Damages a layer, then the config, then the manifest of an image. After each repair, `push` pushes
/// the image again, and the registry must have all of it.
fn assert_healed(server: &Server, name: &str, push: &dyn Fn()) {
    push();
    let found = check::at_registry(server.address(), name);
    let (layer, _) = found.blobs.last().unwrap();
    for damaged in [layer, &found.config, &found.manifest] {
        damage(server.root(), damaged);
        let output = repaired(server.root());
        assert!(output.contains(name), "{output}");
        push();
        assert_eq!(
            check::at_registry(server.address(), name),
            found,
            "{damaged}"
        );
        assert_clean(server.root());
    }
}

#[test]
fn pushes_of_docker_and_podman_heal_damaged_images() {
    if !programs_available(&["docker", "busybox", "podman"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let image = DockerImage::build(&unique("check"), "v1");
    let tagged = image.tag(format!("{}/docker/app:v1", server.address()));
    assert_healed(&server, "docker/app:v1", &|| {
        docker(&["push", tagged.reference()]);
    });
    let podman = Podman::new();
    let archive = image.save(scratch.path("image.tar"));
    podman.load(archive.to_str().unwrap());
    let remote = format!("{}/podman/app:v1", server.address());
    let reference = format!("localhost/{}", image.reference());
    let is_local = podman.attempt(&["image", "exists", &reference]).code == Some(0);
    let local = if is_local {
        reference.as_str()
    } else {
        image.reference()
    };
    assert_healed(&server, "podman/app:v1", &|| podman.push(local, &remote));
    tagged.remove();
    image.remove();
}

#[test]
fn pushes_of_imgsync_heal_damaged_images() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let image = Image::new(vec![
        layer("a", noise(1, 50_000)),
        layer("b", noise(2, 50_000)),
    ]);
    let file = scratch.path("image.tar");
    std::fs::write(&file, archive::tar_of(&image.docker_archive("app:v1"))).unwrap();
    let remote = format!("{}/team/app:v1", server.address());
    assert_healed(&server, "team/app:v1", &|| {
        imgsync.push(file.to_str().unwrap(), &remote).succeeded();
    });
}

#[test]
fn a_folder_of_the_stock_registry_is_checked_and_repaired_for_it() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let mut stock = StockRegistry::start(&root);
    let image = Image::new(vec![layer("a", noise(1, 50_000))]);
    let app = RemoteRepository {
        address: stock.address(),
        repository: "team/app",
    };
    for tag in ["v1", "v2"] {
        app.push_image(Some(tag), &image);
    }
    let found = check::at_registry(stock.address(), "team/app:v1");
    let config = scratch.path("config.yml");
    std::fs::copy(stock.config(), &config).unwrap();
    stock.stop();
    assert_clean(&root);

    // An empty link of a tag and of a manifest: the stock registry answers 500, and its collector
    // stops.
    let repository = root.join("docker/registry/v2/repositories/team/app");
    let hex = found.manifest.strip_prefix("sha256:").unwrap();
    let links = [
        repository.join("_manifests/tags/v1/current/link"),
        repository.join(format!("_manifests/revisions/sha256/{hex}/link")),
    ];
    for link in &links {
        std::fs::write(link, "").unwrap();
    }
    let collect = || {
        let mut command = Command::new(program("docker-registry"));
        run(command.args(["garbage-collect", "-m"]).arg(&config))
    };
    assert_ne!(collect().code, Some(0));
    let output = repaired(&root);
    assert!(
        output.contains("team/app:v1: the link of the tag is damaged"),
        "{output}"
    );
    assert_clean(&root);
    assert_eq!(collect().code, Some(0));
    let mut stock = StockRegistry::start(&root);
    for tag in ["v1", "v2"] {
        let name = format!("team/app:{tag}");
        assert_eq!(check::at_registry(stock.address(), &name), found);
    }

    // An empty blob: the stock registry does not take it again, but it does after the repair.
    let (layer, _) = &found.blobs[1];
    std::fs::write(blob_path(&root, layer), "").unwrap();
    stock.stop();
    let output = repaired(&root);
    for tag in ["v1", "v2"] {
        assert!(
            output.contains(&format!("team/app:{tag} lacks {layer}")),
            "{output}"
        );
    }
    let stock = StockRegistry::start(&root);
    let app = RemoteRepository {
        address: stock.address(),
        repository: "team/app",
    };
    app.push_image(Some("v1"), &image);
    assert_eq!(check::at_registry(stock.address(), "team/app:v2"), found);
}
