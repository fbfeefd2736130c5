//! Tests the forms of paths: drives, long paths, relative ones, with spaces and other scripts.

use super::{WindowsFixture, last_event};
use crate::support::prelude::*;
use crate::support::wine;

#[test]
#[ignore = "tests/targets.sh runs it"]
fn archives_and_layouts_are_found_by_each_form_of_a_path() {
    let fixture = WindowsFixture::new();
    let (archive, layout) = fixture.write_image();
    let (on_z, on_c) = (wine::path(&archive), fixture.on_drive_c("image.tar"));
    let layout_on_c = fixture.on_drive_c("layout");
    let sources = [
        on_z.clone(),
        on_z.replace('\\', "/"),
        format!(r"\\?\{on_z}"),
        on_c.clone(),
        on_c.replace('\\', "/"),
        format!(r"\\?\{on_c}"),
        format!("docker-archive:{on_c}"),
        format!("oci:{}", wine::path(&layout)),
        format!("oci:{layout_on_c}"),
        format!("oci:{layout_on_c}:v1"),
        format!("oci:{}:v1", layout_on_c.replace('\\', "/")),
        format!(r"oci:\\?\{layout_on_c}:v1"),
    ];
    for (number, source) in sources.iter().enumerate() {
        let name = format!("form{number}:v1");
        let outcome = fixture.run(&["push", source, &fixture.remote(&name)]);
        outcome.succeeded();
        fixture.assert_pushed(&name);
    }

    // Relative paths, from the folder of the image.
    let relative = [
        r".\image.tar",
        "./image.tar",
        r"oci:layout:v1",
        r"oci:.\layout:v1",
        r"oci:..\Bilder für 漢字\layout",
    ];
    for (number, source) in relative.iter().enumerate() {
        let name = format!("relative{number}:v1");
        let mut command = fixture.command();
        command.args(["push", source, &fixture.remote(&name)]);
        run(command.current_dir(fixture.user_folder())).succeeded();
        fixture.assert_pushed(&name);
    }
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_missing_file_is_named_as_it_was_written() {
    let fixture = WindowsFixture::new();
    fixture.write_image();
    let missing = fixture.on_drive_c("gone.tar");
    let outcome = fixture.run(&["push", &missing, &fixture.remote("app:v1")]);
    outcome.failed(3, &[&missing]);
    let outcome = fixture.run(&["push", &format!("oci:{missing}"), &fixture.remote("app:v1")]);
    outcome.failed(3, &[&missing]);
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn standard_input_is_read_without_a_change_of_its_bytes() {
    let fixture = WindowsFixture::new();
    let (archive, _) = fixture.write_image();
    let outcome = fixture
        .imgsync
        .push_file_on_stdin(&archive, &fixture.remote("file:v1"));
    outcome.succeeded();
    fixture.assert_pushed("file:v1");

    let mut cat = Command::new("cat");
    let mut cat = cat.arg(archive).stdout(Stdio::piped()).spawn().unwrap();
    let pipe = cat.stdout.take().unwrap();
    let outcome = fixture
        .imgsync
        .push_stdin(pipe.into(), &fixture.remote("pipe:v1"));
    outcome.succeeded();
    assert!(cat.wait().unwrap().success());
    fixture.assert_pushed("pipe:v1");
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_second_push_sends_nothing() {
    let fixture = WindowsFixture::new();
    let (archive, layout) = fixture.write_image();
    for source in [
        wine::path(&archive),
        format!("oci:{}:v1", wine::path(&layout)),
    ] {
        let relay = Relay::start(fixture.server.address(), RelayFault::None);
        let remote = format!("{}/app:v1", relay.address());
        let push = ["push", "--json", &source, &remote];
        fixture.run(&push).succeeded();
        let sent = relay.traffic().up;
        let again = fixture.run(&push).succeeded();
        assert_eq!(last_event(&again)["sent"], 0, "{again}");
        let more = relay.traffic().up - sent;
        assert!(more < 10_000, "{more} bytes for nothing: {again}");
        fixture.assert_pushed("app:v1");
    }
    // Everything that the tool remembers is in the folder for that.
    let kept = fixture.scratch.path("home/AppData/Local/imgsync");
    assert!(kept.is_dir(), "{}", kept.display());
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn mirrors_to_files_and_back_keep_every_digest() {
    let fixture = WindowsFixture::new();
    let (_, layout) = fixture.write_image();
    let source = format!("oci:{}:v1", wine::path(&layout));
    let from = fixture.remote("team/app");
    let tagged = fixture.remote("team/app:v1");
    fixture.run(&["push", &source, &tagged]).succeeded();
    let pushed = check::at_registry(fixture.server.address(), "team/app:v1");
    for (number, scheme) in ["oci", "oci-archive"].into_iter().enumerate() {
        let carried = format!("{scheme}:{}", fixture.on_drive_c(scheme));
        fixture.run(&["mirror", &from, &carried]).succeeded();
        fixture.run(&["mirror", &from, &carried]).succeeded();
        let name = format!("back{number}/app");
        fixture
            .run(&["mirror", &carried, &fixture.remote(&name)])
            .succeeded();
        let found = check::at_registry(fixture.server.address(), &format!("{name}:v1"));
        assert_eq!(found, pushed, "{carried}");
    }
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_folder_of_somebody_else_names_no_files_outside_of_it() {
    let fixture = WindowsFixture::new();
    let entries = fixture.image.docker_archive("app:v1");
    let folder = fixture.user_folder().join("foreign");
    archive::write_folder(&entries, &folder);
    let manifest_path = folder.join("manifest.json");
    let manifest = std::fs::read(&manifest_path).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = folder.join(manifest[0]["Config"].as_str().unwrap());
    std::fs::copy(config, fixture.user_folder().join("secret")).unwrap();
    let source = format!("docker-archive:{}", fixture.on_drive_c("foreign"));
    for outside in [r"..\secret".to_owned(), fixture.on_drive_c("secret")] {
        let mut manifest = manifest.clone();
        manifest[0]["Config"] = outside.clone().into();
        std::fs::write(&manifest_path, manifest.to_string()).unwrap();
        let outcome = fixture.run(&["push", &source, &fixture.remote("app:v1")]);
        outcome.failed(3, &["unsafe name"]);
    }
    std::fs::write(&manifest_path, manifest.to_string()).unwrap();
    let outcome = fixture.run(&["push", &source, &fixture.remote("app:v1")]);
    outcome.succeeded();
    fixture.assert_pushed("app:v1");
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn the_cache_is_in_the_profile_if_the_folders_of_the_environment_are_not() {
    let fixture = WindowsFixture::new();
    let (archive, _) = fixture.write_image();
    let outside = wine::path(&fixture.scratch.folder("outside"));
    let mut command = fixture.command();
    for variable in ["XDG_CACHE_HOME", "TEMP", "TMP"] {
        command.env(variable, &outside);
    }
    command.args(["push", &wine::path(&archive), &fixture.remote("app:v1")]);
    let outcome = run(&mut command).succeeded();
    let used = r"AppData\Local\imgsync\cache is used instead";
    assert!(outcome.stderr.contains(used), "{outcome}");
    fixture.assert_pushed("app:v1");
}
