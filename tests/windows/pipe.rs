//! Tests Docker daemons that listen on a named pipe.

use super::WindowsFixture;
use crate::support::engine::{ContentAccess, FakeEngine, inspect_containerd};
use crate::support::prelude::*;
use crate::support::process::Process;
use crate::support::wine;
use serde_json::json;

/// The pipe of Docker Desktop, which the tool uses without any setting.
const DEFAULT_PIPE: &str = r"\\.\pipe\docker_engine";

/// A daemon whose pipe serves one client at a time.
struct PipeFixture {
    windows: WindowsFixture,
    engine: FakeEngine,
    _pipe: Process,
}

impl PipeFixture {
    fn new(name: &str) -> Self {
        let windows = WindowsFixture::new();
        let folder = windows.scratch.folder("engine");
        let engine = FakeEngine::start(
            &folder,
            &inspect_containerd(&windows.image),
            &windows.image.oci_layout("v1"),
            ContentAccess::Refused("404 Not Found"),
        );
        let address = engine.listen_on_tcp().to_string();
        let mut command = wine::command(&wine::helper(), &windows.scratch.path("home"));
        command.args(["pipe", name, &address]);
        let mut pipe = Process::start("windows_helper", &mut command, &folder);
        pipe.wait_for("the pipe", |text| text.contains("listening").then_some(()));
        Self {
            windows,
            engine,
            _pipe: pipe,
        }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.windows.command();
        command.args(["push", "app:v1", &self.windows.remote(name)]);
        command
    }
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn an_image_is_read_from_the_pipe_of_docker_desktop() {
    let fixture = PipeFixture::new(DEFAULT_PIPE);
    run(&mut fixture.command("default:v1")).succeeded();
    fixture.windows.assert_pushed("default:v1");
    assert_eq!(fixture.engine.exports(), 1);

    let mut command = fixture.command("named:v1");
    command.env("DOCKER_HOST", "npipe:////./pipe/docker_engine");
    run(&mut command).succeeded();
    fixture.windows.assert_pushed("named:v1");
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_context_names_another_pipe() {
    let fixture = PipeFixture::new(r"\\.\pipe\dockerDesktopLinuxEngine");
    run(&mut fixture.command("app:v1")).failed(3, &["docker"]);
    let folder = fixture.windows.scratch.folder("home/.docker");
    let hex = digest(b"desktop-linux").replace("sha256:", "");
    let meta = folder.join("contexts/meta").join(hex);
    std::fs::create_dir_all(&meta).unwrap();
    let endpoint = json!({"Host": "npipe:////./pipe/dockerDesktopLinuxEngine"});
    let context = json!({"Name": "desktop-linux", "Endpoints": {"docker": endpoint}});
    std::fs::write(meta.join("meta.json"), context.to_string()).unwrap();
    let config = json!({"currentContext": "desktop-linux"});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    run(&mut fixture.command("app:v1")).succeeded();
    fixture.windows.assert_pushed("app:v1");
}

#[test]
#[ignore = "tests/targets.sh runs it"]
fn a_busy_pipe_is_tried_again() {
    let fixture = PipeFixture::new(DEFAULT_PIPE);
    let names = [0, 1, 2].map(|number| format!("busy{number}:v1"));
    let pushes = names.each_ref().map(|name| {
        let mut command = fixture.command(name);
        std::thread::spawn(move || run(&mut command).succeeded())
    });
    for push in pushes {
        push.join().unwrap();
    }
    for name in &names {
        fixture.windows.assert_pushed(name);
    }
}
