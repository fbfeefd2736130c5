//! Tests the app for 1Panel with the container image: the script that runs before the container, and
//! the container as the compose file describes it.

use super::container::{Container, image_name, volume_option};
use crate::examples::document::{blocks, read};
use crate::support::prelude::*;

/// The folder of the version in the app.
const VERSION_FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/1panel/imgsync-server/",
    env!("CARGO_PKG_VERSION")
);

#[test]
fn the_app_for_1panel_creates_the_login_of_its_form() {
    if !programs_available(&["docker", "busybox", "docker-registry"]) {
        return;
    }
    // The script changes the owner of folders.
    if must(Command::new("id").arg("-u")) != "0" {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let app = scratch.path("app");
    must(Command::new("cp").arg("-a").arg(VERSION_FOLDER).arg(&app));
    let compose = std::fs::read_to_string(app.join("docker-compose.yml")).unwrap();
    let image = format!("imgsync-server:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(compose.matches(&image).count(), 1);
    let compose = compose.replace(&image, image_name());
    std::fs::write(app.join("docker-compose.yml"), compose).unwrap();
    // As 1Panel writes the values of a form.
    let form = "PANEL_APP_PORT_HTTP=5000\nIMGSYNC_USER=\"admin\"\n\
        IMGSYNC_USER_PASSWORD=\"imgsync_a$b%c\"\nIMGSYNC_DELETE=\"true\"\n";
    std::fs::write(app.join(".env"), form).unwrap();
    must(
        Command::new("bash")
            .arg("scripts/init.sh")
            .current_dir(&app),
    );

    let folders = [("data", "/var/lib/registry"), ("auth", "/auth")]
        .map(|(name, target)| volume_option(&app.join(name), target));
    let mut options = vec!["--user", "65532:65532"];
    for folder in &folders {
        options.extend(["--volume", folder.as_str()]);
    }
    for variable in [
        "REGISTRY_HTTP_ADDR=127.0.0.1:0",
        "REGISTRY_AUTH=htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM=Registry",
        "REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd",
        "REGISTRY_STORAGE_DELETE_ENABLED=true",
    ] {
        options.extend(["--env", variable]);
    }
    let container = Container::start(&options, &[]);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let archive = scratch.path("image.tar");
    let layers = vec![layer("data", noise(1, 100_000))];
    archive::write_tar(&Image::new(layers).docker_archive("app:v1"), &archive);
    let remote = format!("{}/team/app:v1", container.address());
    let push = |user: &str, password: &str| {
        let mut command = imgsync.command();
        command.envs([("IMGSYNC_USERNAME", user), ("IMGSYNC_PASSWORD", password)]);
        run(command.arg("push").arg(&archive).arg(&remote))
    };
    push("admin", "imgsync_a$b%c").succeeded();
    push("admin", "wrong").failed(5, &["password"]);

    // The command of the document, which adds a user.
    let page = blocks(&read("examples/1panel/imgsync-server/README_en.md"));
    let block = page.iter().find(|block| block.has_mark("container"));
    let command = block.expect("a command for the container").text.clone();
    let exec = "docker exec -it imgsync-server ";
    assert!(command.starts_with(exec), "{command}");
    let command = command.replace(exec, &format!("docker exec -i {} ", container.id()));
    let command = format!("echo 'of alice' | {command}");
    must(Command::new("sh").args(["-euc", &command]));
    // The server soon reads the file again.
    wait_until("the new user", || {
        (push("alice", "of alice").code == Some(0)).then_some(())
    });
}
