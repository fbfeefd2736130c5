//! Tests the start of the process, its messages, its log, and its shutdown.

use std::process::Output;

use crate::support::command;
use crate::support::launch::stderr;
use crate::support::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imgsync-server"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn errors_at_the_start_have_hints() {
    let output = run(&["serve", "/nowhere/config.yml"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.contains("error: cannot read the configuration file \"/nowhere/config.yml\""),
        "{text}"
    );
    assert!(text.contains("hint: "), "{text}");
    assert!(output.stdout.is_empty());
    for arguments in [&["serve", "--addr", "nonsense"][..], &["fly"]] {
        assert_eq!(run(arguments).status.code(), Some(2));
    }
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = run(&[
        "serve",
        "--root",
        file.to_str().unwrap(),
        "--addr",
        "127.0.0.1:0",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("hint: check the owner"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn the_defaults_need_only_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    process.current_dir(folder.path()).stdin(Stdio::null());
    // `--root` without a file, because this machine may have a configuration file in the default path.
    process.args(["--root", "data"]);
    let mut process = process
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = process.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    // The default port may be in use on this machine. Then the error must name it.
    if line.is_empty() {
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("cannot listen on 127.0.0.1:5000"),
            "{}",
            stderr(&output)
        );
    } else {
        assert_eq!(line, "imgsync-server listening on http://127.0.0.1:5000\n");
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert!(folder.path().join("data/imgsync/lock").exists());
}

#[tokio::test]
async fn one_server_per_folder() {
    let root = tempfile::tempdir().unwrap();
    let _first = Server::start(root.path());
    let assert_refused = || {
        let mut second = command(root.path()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let stdout = second.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        if !line.is_empty() {
            // The program would run forever.
            second.kill().unwrap();
            panic!("{line}");
        }
        let output = second.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(
            text.contains("another imgsync-server uses the folder"),
            "{text}"
        );
        assert!(text.contains("hint: stop the other server"), "{text}");
    };
    assert_refused();
    // Operators delete lock files that look forgotten.
    std::fs::remove_file(root.path().join("imgsync/lock")).unwrap();
    assert_refused();
}

#[tokio::test]
async fn a_public_server_warns_and_logs_each_request() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("log");
    let mut process = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
    process
        .args(["serve", "--addr", "0.0.0.0:0", "--root"])
        .arg(root.path().join("data"));
    process
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut process = process.spawn().unwrap();
    let mut line = String::new();
    let stdout = process.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let port = line.trim().rsplit(':').next().unwrap();
    let url = format!("http://127.0.0.1:{port}/v2/a/tags/list?secret=swordfish");
    let request = client()
        .get(url)
        .header("authorization", "Basic c3dvcmRmaXNo");
    assert_eq!(request.send().await.unwrap().status(), 404);
    assert!(
        Command::new("kill")
            .arg(process.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(
        log.matches("no authentication is configured").count(),
        1,
        "{log}"
    );
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("/v2/a/tags/list"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in [
        "INFO",
        "id=",
        "client=127.0.0.1",
        "user=-",
        "method=GET",
        "status=404",
        "received=0",
        "sent=",
        "ms=",
    ] {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }
    assert!(
        !log.contains("swordfish") && !log.contains("c3dvcmRmaXNo"),
        "{log}"
    );
}

#[tokio::test]
async fn a_second_signal_stops_without_waiting() {
    let root = tempfile::tempdir().unwrap();
    // Longer than any test runs.
    let variables = [("REGISTRY_HTTP_DRAINTIMEOUT", "24h")];
    let mut server = Server::start_with(root.path(), &variables);
    let location = server.start_upload("a").await;
    let mut stream = tokio::net::TcpStream::connect(&server.address)
        .await
        .unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n01234");
    stream.write_all(head.as_bytes()).await.unwrap();
    server.wait_until_busy(&location).await;
    server.signal("TERM");
    server.wait_for_log("waiting for running requests");
    server.signal("INT");
    server.wait();
    let log = server.log();
    assert!(log.contains("second stop signal"), "{log}");
    // The session continues at its offset after the next start.
    let server = Server::start(root.path());
    let offset = server.offset(&location).await;
    assert!(offset <= 5, "{offset}");
    let rest = &b"0123456789"[offset as usize..];
    assert_eq!(server.patch(&location, offset, rest).await.status(), 202);
}

#[tokio::test]
async fn running_requests_finish_before_the_end() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let location = server.start_upload("a").await;
    let digest = Digest::of(b"0123456789");
    let mut stream = tokio::net::TcpStream::connect(&server.address)
        .await
        .unwrap();
    let head = format!("PUT {location}?digest={digest} HTTP/1.1\r\nhost: x\r\ncontent-length: 10");
    stream
        .write_all(format!("{head}\r\n\r\n01234").as_bytes())
        .await
        .unwrap();
    server.wait_until_busy(&location).await;
    server.terminate();
    // Waits until the server accepts no new connections.
    while tokio::net::TcpStream::connect(&server.address)
        .await
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"56789").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(server.wait().code(), Some(0));
    let server = Server::start(root.path());
    assert_eq!(
        server.head(&format!("/v2/a/blobs/{digest}")).await.status(),
        200
    );
}
