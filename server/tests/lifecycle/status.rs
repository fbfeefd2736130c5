//! Tests of the command `status`.

use std::time::{Duration, Instant};

use crate::support::launch::{Setup, stderr, stdout};
use crate::support::prelude::*;

/// Runs `status` on a storage folder, and returns its output, its messages and its exit code.
fn status(root: &Path, arguments: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    command
        .arg("status")
        .args(arguments)
        .arg("--root")
        .arg(root);
    let output = command.output().unwrap();
    (
        stdout(&output),
        stderr(&output),
        output.status.code().unwrap(),
    )
}

fn status_json(root: &Path, arguments: &[&str]) -> serde_json::Value {
    let (output, details, code) = status(root, &[&["--json"], arguments].concat());
    assert_eq!(code, 0, "{details}");
    serde_json::from_str(&output).unwrap()
}

#[tokio::test]
async fn a_running_server_tells_its_state() {
    let root = tempfile::tempdir().unwrap();
    let no_grace = ("REGISTRY_IMGSYNC_GC_GRACE", "0s");
    let server = Server::start_with(root.path(), &[no_grace]);
    server.push_image("team/app", "v1", "one").await;
    server.push_image("team/copy", "v1", "one").await;
    server.push_image("team/app", "v2", "two").await;
    server.push_image("team/app", "v2", "three").await;
    let location = server.start_upload("team/app").await;
    assert_eq!(server.patch(&location, 0, b"12345").await.status(), 202);

    let before = status_json(root.path(), &[]);
    assert_eq!(before["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(before["repositories"]["count"], 2);
    let largest = &before["repositories"]["largest"];
    assert_eq!(largest[0]["name"], "team/app");
    let copy = largest[1]["bytes"].as_u64().unwrap();
    assert_eq!(largest[1]["sharedBytes"], copy);
    assert_eq!(before["repositories"]["savedBytes"], copy);
    assert_eq!(before["storage"]["untaggedManifests"], 1);
    assert!(before["storage"]["untaggedBytes"].as_u64().unwrap() > 0);
    assert_eq!(before["uploads"]["open"], 1);
    assert_eq!(before["uploads"]["bytes"], 5);
    assert_eq!(before["collection"]["last"], serde_json::Value::Null);
    assert!(before["collection"]["nextAt"].is_string());
    assert_eq!(before["trash"]["entries"], 0);
    let disk = &before["disk"];
    assert!(disk["freeBytes"].as_u64() <= disk["totalBytes"].as_u64());
    assert!(disk["usedBytes"].as_u64().unwrap() > before["storage"]["bytes"].as_u64().unwrap());

    server.push_blob("team/app", b"garbage").await;
    let mut collect = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    collect.args(["garbage-collect", "--root"]).arg(root.path());
    assert!(collect.output().unwrap().status.success());
    let after = status_json(root.path(), &["--all"]);
    assert_eq!(after["collection"]["last"]["bytes"], 7);
    assert_eq!(after["trash"]["bytes"], 7);
    assert_eq!(after["trash"]["entries"], 2);

    let (text, _, code) = status(root.path(), &[]);
    assert_eq!(code, 0);
    for part in [
        &format!("imgsync-server {}, running for", env!("CARGO_PKG_VERSION")),
        "configuration: no configuration file\n",
        "repositories: 2, ",
        "  team/copy: ",
        "images without a tag: 1 manifest, which alone hold ",
        "they are kept. To remove them after a week, set imgsync.retention: [{repositories: ['**'], ",
        "open uploads: 1, 5 B, ",
        "moved 1 blob or manifest to the trash, 7 B",
        "trash: 2 entries, 7 B, ",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    drop(server);
    let _server = Server::start(root.path());
    let restarted = status_json(root.path(), &[]);
    assert_eq!(restarted["collection"]["last"], after["collection"]["last"]);
}

#[test]
fn a_command_beyond_the_limit_is_told_so() {
    let root = tempfile::tempdir().unwrap();
    let _server = Server::start(root.path());
    let socket = root.path().join("imgsync/control-1");
    // The server listens for commands a little later than for requests.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !socket.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        std::io::Write::write_all(&mut stream, b"{\"command\":\"pause-collection\"}\n").unwrap();
        waiting.push(stream);
    }
    let (_, details, code) = status(root.path(), &[]);
    assert_eq!(code, 1);
    assert!(
        details.contains("the server runs 4 commands already"),
        "{details}"
    );
}

#[tokio::test]
async fn many_repositories_are_summed_up() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    for number in 0..23 {
        server.push_blob(&format!("r{number}"), b"content").await;
    }
    let few = status_json(root.path(), &[]);
    assert_eq!(few["repositories"]["largest"].as_array().unwrap().len(), 20);
    assert_eq!(few["repositories"]["unlisted"], 3);
    assert_eq!(few["repositories"]["unlistedBytes"], 21);
    assert_eq!(few["repositories"]["savedBytes"], 22 * 7);
    let all = status_json(root.path(), &["--all"]);
    assert_eq!(all["repositories"]["largest"].as_array().unwrap().len(), 23);
    let (text, _, _) = status(root.path(), &[]);
    assert!(text.contains("  3 more: 21 B"), "{text}");
}

#[test]
fn without_a_server_the_command_says_so() {
    let root = tempfile::tempdir().unwrap();
    let (output, details, code) = status(root.path(), &[]);
    assert_eq!((output.as_str(), code), ("", 1));
    assert!(
        details.contains("error: no server is running on the storage folder"),
        "{details}"
    );
    assert!(details.contains("hint: start the server"), "{details}");
    // The socket of a server that was killed is left over.
    let mut server = Server::start(root.path());
    server.signal("KILL");
    server.wait();
    let (_, details, code) = status(root.path(), &["--json"]);
    assert_eq!(code, 1);
    assert!(
        details.contains("error: no server is running on the storage folder"),
        "{details}"
    );
}

#[tokio::test]
async fn upstreams_and_certificates_are_listed() {
    let setup = Setup::new(
        "version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/data'}}
http:
  addr: 127.0.0.1:0
  tls: {certificate: '{folder}/cert.pem', key: '{folder}/key.pem'}
imgsync:
  cache:
    upstreams: [{prefix: quay.io, remoteurl: 'http://127.0.0.1:1'}]
",
    );
    let openssl = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-subj", "/CN=localhost", "-days", "30", "-keyout"])
        .arg(setup.path("key.pem"))
        .arg("-out")
        .arg(setup.path("cert.pem"))
        .output();
    assert!(openssl.unwrap().status.success());
    let server = setup.serve();
    let ask = || {
        let output = server.setup().run(&["status", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()
    };
    let before = ask();
    let days = before["certificates"][0]["daysLeft"].as_i64().unwrap();
    assert!([29, 30].contains(&days), "{days}");
    assert!(
        before["certificates"][0]["file"]
            .as_str()
            .unwrap()
            .ends_with("/cert.pem")
    );
    assert_eq!(before["upstreams"][0]["name"], "quay.io");
    assert_eq!(
        before["upstreams"][0]["lastRequestAt"],
        serde_json::Value::Null
    );
    let client = reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let url = format!("{}/v2/quay.io/app/manifests/v1", server.url);
    assert_eq!(client.get(url).send().await.unwrap().status(), 502);
    let error = ask()["upstreams"][0]["error"].clone();
    assert!(
        error.as_str().unwrap().contains("cannot connect"),
        "{error}"
    );
}
