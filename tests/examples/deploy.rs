//! Tests `examples/deploy`: a push starts a deployment with compose.

use std::time::{SystemTime, UNIX_EPOCH};

use super::document::top;
use crate::support::prelude::*;
use crate::support::process::Process;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The receiver of the example, with the program of systemd that listens for it.
struct Receiver {
    process: Process,
    url: String,
    _port: ReservedPort,
}

impl Receiver {
    /// Starts the receiver with lines of `deploy.conf`.
    fn start(scratch: &Scratch, config: &str) -> Self {
        let files = [("deploy.conf", config), ("secret", SECRET)];
        let [config, secret] = files.map(|(name, text)| {
            std::fs::write(scratch.path(name), text).unwrap();
            scratch.path(name)
        });
        let port = ReservedPort::new();
        let address = port.address().to_string();
        let mut command = Command::new("systemd-socket-activate");
        command.args(["--accept", "--inetd", "--listen", &address]);
        let has_plugin = Command::new("docker").args(["compose", "version"]).output();
        if !has_plugin.is_ok_and(|output| output.status.success()) {
            command.args(["-E", "IMGSYNC_COMPOSE=docker-compose"]);
        }
        let state = scratch.folder("state");
        command.args(["-E", "PATH", "-E", "HOME", "python3"]);
        command.arg(top().join("examples/deploy/imgsync-deploy"));
        command.args([config, secret, state]);
        let logs = scratch.folder("receiver-logs");
        let process = Process::start("systemd-socket-activate", &mut command, &logs);
        wait_until("the receiver listens", || {
            process.stderr().contains("Listening on").then_some(())
        });
        let url = format!("http://{address}/");
        Self {
            process,
            url,
            _port: port,
        }
    }

    /// Sends a body with curl and these headers, and returns the status.
    fn post(&self, body: &str, headers: &[String]) -> String {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--noproxy",
            "*",
        ]);
        for header in headers {
            command.args(["-H", header]);
        }
        must(command.args(["--data-binary", body, &self.url]))
    }
}

/// Returns the headers of a webhook that is `age` seconds old.
fn signed(body: &str, age: i64, secret: &str) -> Vec<String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let time = now.cast_signed() - age;
    let script = "printf %s \"$0\" | openssl dgst -sha256 -hmac \"$1\" -binary | base64";
    let mut command = Command::new("sh");
    command.args(["-c", script, &format!("id-1.{time}.{body}"), secret]);
    vec![
        "webhook-id: id-1".to_owned(),
        format!("webhook-timestamp: {time}"),
        format!("webhook-signature: v1,{}", must(&mut command)),
    ]
}

/// A container that the test removes, with its image.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

#[test]
fn pushes_of_imgsync_docker_and_podman_deploy_a_compose_project() {
    let programs = [
        "docker",
        "docker-compose",
        "podman",
        "busybox",
        "curl",
        "openssl",
    ];
    if !programs_available(&programs)
        || !programs_available(&["systemd-socket-activate", "python3"])
    {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let project = scratch.folder("project");
    let config = format!("team/app:latest compose {}\n", project.display());
    let receiver = Receiver::start(&scratch, &config);
    let root = scratch.folder("root");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\n\
         http: {{addr: '127.0.0.1:0'}}\nimgsync: {{webhooks: [{{url: '{}', secret: {SECRET}, \
         repositories: [team/*]}}]}}\n",
        receiver.url
    );
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    let server = Server::start_configured(&scratch.path("config.yml"), &root);
    let remote = format!("{}/team/app:latest", server.address());
    let container = Container(unique("deployed").replace('/', "-"));
    let compose = format!(
        "version: '3'\nservices:\n  app:\n    image: {remote}\n    container_name: {}\n    \
         network_mode: none\n",
        container.0
    );
    std::fs::write(project.join("docker-compose.yml"), compose).unwrap();
    let deployed = DockerImage::existing(&remote);
    let output = || {
        let logs = Command::new("docker").args(["logs", &container.0]).output();
        String::from_utf8(logs.unwrap().stdout).unwrap()
    };
    let wait_for = |version: &str| {
        wait_until(
            &format!("{version} runs: {}", receiver.process.stderr()),
            || {
                output()
                    .contains(&format!("version {version}"))
                    .then_some(())
            },
        );
    };

    let name = unique("deploy");
    let image = DockerImage::build(&name, "v1");
    let imgsync = Imgsync::new(&scratch.folder("home"));
    imgsync.push(image.reference(), &remote).succeeded();
    wait_for("v1");

    // The name of the pushed image is the one that compose has pulled.
    let image = DockerImage::build(&name, "v2");
    let tagged = image.tag(&remote);
    docker(&["push", "--quiet", tagged.reference()]);
    wait_for("v2");

    let image = DockerImage::build(&name, "v3");
    let archive = image.save(scratch.path("v3.tar"));
    let podman = Podman::new();
    podman.load(archive.to_str().unwrap());
    podman.push(image.reference(), &remote);
    wait_for("v3");
    // A repository that is not listed is acknowledged, and deploys nothing.
    podman.push(
        image.reference(),
        &format!("{}/team/other:latest", server.address()),
    );
    wait_until("the other push is acknowledged", || {
        let log = receiver.process.stderr();
        log.contains("'team/other':'latest'").then_some(())
    });
    let log = receiver.process.stderr();
    assert!(
        log.contains("not listed") && !log.contains("refused"),
        "{log}"
    );
    drop((container, deployed));
}

#[test]
fn the_check_of_the_configuration_names_each_wrong_line() {
    if !programs_available(&["python3"]) {
        return;
    }
    let scratch = Scratch::new();
    let check = |text: &str| {
        std::fs::write(scratch.path("deploy.conf"), text).unwrap();
        let mut command = Command::new("python3");
        command.arg(top().join("examples/deploy/imgsync-deploy"));
        command.arg("--check").arg(scratch.path("deploy.conf"));
        run(&mut command)
    };
    let folder = scratch.folder("app");
    let good = format!(
        "# a comment\nteam/app:* compose {} prune\n",
        folder.display()
    );
    let outcome = check(&format!("{good}team/web:v1 podman web web.service\n"));
    let outcome = outcome.succeeded();
    assert_eq!(outcome.stdout.lines().count(), 2, "{outcome}");
    for (line, expected) in [
        ("team/app:v1 compose /nonexistent", "there is no folder"),
        ("team/app:v1 compose", "must be: compose FOLDER"),
        ("team/app:v1 podman web", "must be: podman IMAGE UNIT"),
        ("team/app:v1 docker web", "the kind is 'docker'"),
        ("team/app:v1", "the kind is ''"),
        ("team/app compose /", "must be REPOSITORY:TAG"),
    ] {
        let outcome = check(&format!("{good}{line}\n"));
        outcome.failed(1, &["line 3: ", expected]);
    }
    check("").failed(1, &["lists no deployment"]);
}

#[test]
fn the_receiver_refuses_hostile_requests() {
    if !programs_available(&["curl", "openssl", "systemd-socket-activate", "python3"]) {
        return;
    }
    let scratch = Scratch::new();
    let receiver = Receiver::start(&scratch, "team/app:latest compose /nonexistent\n");
    let proof = scratch.path("proof");
    let body = |repository: &str| {
        format!("{{\"repository\": {repository:?}, \"tag\": \"latest\", \"digest\": \"x\"}}")
    };
    let (good, other) = (
        body("team/app"),
        body(&format!("$(touch {})", proof.display())),
    );
    let valid = |body: &str| signed(body, 0, SECRET);
    for (body, headers, expected) in [
        (&good, Vec::new(), "401"),
        (&good, valid(&other), "401"),
        (&good, signed(&good, 0, "another secret 0123"), "401"),
        (&good, signed(&good, 400, SECRET), "401"),
        (&good, signed(&good, -400, SECRET), "401"),
        (&other, valid(&other), "204"),
        (&"[]".to_owned(), valid("[]"), "400"),
        (&"x".repeat(70_000), Vec::new(), "413"),
        (&good, vec![format!("x: {}", "y".repeat(20_000))], "400"),
        (&good, valid(&good), "202"),
    ] {
        assert_eq!(
            receiver.post(body, &headers),
            expected,
            "{body:.99} {:.99}",
            headers.concat()
        );
    }
    assert!(!proof.exists());
}
