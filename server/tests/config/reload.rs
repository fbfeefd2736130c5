//! Tests reloads of the configuration: on SIGHUP and when the file changes.

use std::time::{Duration, Instant};

use crate::support::launch::{Running, Setup};
use crate::support::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn config(header: &str, more: &str) -> String {
    format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{{folder}}/registry'}}{more}}}\n\
         http: {{addr: '127.0.0.1:0', headers: {{X-Which: [{header}]}}}}\n"
    )
}

/// Returns the `X-Which` header that a new request gets. Each configuration has another value.
async fn which(server: &Running) -> String {
    let url = format!("{}/v2/", server.url);
    header(&client().get(url).send().await.unwrap(), "x-which")
}

async fn push_status(server: &Running) -> u16 {
    let url = format!("{}/v2/a/blobs/uploads/", server.url);
    client().post(url).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_signal_reloads_and_downloads_continue() {
    let server = Setup::new(&config("first", "")).serve();
    // More than the socket buffers hold, so that the server is still sending during the reload.
    let bytes = bytes(48 * 1024 * 1024);
    let digest = Digest::of(&bytes);
    let url = format!("{}/v2/a/blobs/uploads/?digest={digest}", server.url);
    let pushed = client().post(url).body(bytes.clone()).send().await.unwrap();
    assert_eq!(pushed.status(), 201);
    let address = server.url.trim_start_matches("http://");
    let mut download = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    download.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    download.read_exact(&mut answer).await.unwrap();

    server.setup().write(&config(
        "second",
        ", maintenance: {readonly: {enabled: true}}",
    ));
    server.signal("HUP");
    while which(&server).await != "second" {}
    assert_eq!(push_status(&server).await, 405);

    download.read_to_end(&mut answer).await.unwrap();
    let body = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap()
        + 4;
    assert!(answer[..body].starts_with(b"HTTP/1.1 200"));
    assert_eq!(Digest::of(&answer[body..]), digest);
}

#[tokio::test]
async fn a_changed_file_is_reloaded_if_it_is_valid() {
    let server = Setup::new(&config("first", "")).serve();
    assert_eq!(which(&server).await, "first");
    server.setup().write(&config("second", ""));
    while which(&server).await != "second" {}
    // Editors and Kubernetes replace the file by a rename.
    let replacement = server.setup().path("fresh.yml");
    let text = std::fs::read_to_string(server.setup().path("config.yml")).unwrap();
    std::fs::write(&replacement, text.replace("second", "third")).unwrap();
    std::fs::rename(&replacement, server.setup().path("config.yml")).unwrap();
    while which(&server).await != "third" {}

    server
        .setup()
        .write(&config("fourth", ", delte: {enabled: true}"));
    server.signal("HUP");
    server.wait_for_log("keeping the old configuration").await;
    let log = server.log();
    assert!(log.contains("did you mean storage.delete?"), "{log}");
    assert_eq!(which(&server).await, "third");

    let other = config("fifth", "").replace("'127.0.0.1:0'", "'127.0.0.1:1'");
    server.setup().write(&other);
    server.signal("HUP");
    while which(&server).await != "fifth" {}
    let log = server.log();
    assert!(
        log.contains("the change of http.addr takes effect after a restart"),
        "{log}"
    );
}

#[tokio::test]
async fn removing_auth_takes_effect_only_after_a_restart() {
    let base = config("first", "").replace("127.0.0.1:0", "0.0.0.0:0");
    let auth = "auth: {htpasswd: {realm: r, path: '{folder}/users'}}\n\
                imgsync: {anonymous: {pull: [public]}}\n";
    let setup = Setup::new(&format!("{base}{auth}"));
    std::fs::write(setup.path("users"), "").unwrap();
    let server = setup.serve();
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let get = async || client().get(format!("{url}/v2/")).send().await.unwrap();
    assert_eq!(get().await.status(), 401);
    let exposed = "passwords are sent to";
    let wrong_realm = "clients of http://0.0.0.0:";
    let log = server.log();
    assert_eq!(
        (
            log.matches(exposed).count(),
            log.matches(wrong_realm).count()
        ),
        (1, 1),
        "{log}"
    );

    server.setup().write(&base.replace("first", "second"));
    server.signal("HUP");
    while header(&get().await, "x-which") != "second" {}
    assert_eq!(get().await.status(), 401);
    let log = server.log();
    assert!(
        log.contains("ERROR") && log.contains("no longer contains auth"),
        "{log}"
    );
    while server.log().matches(exposed).count() < 2 {
        tokio::task::yield_now().await;
    }
    // After a restart, no login is required.
    let server = Setup::new(&base).serve();
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let answer = client().get(format!("{url}/v2/")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(server.log().contains("can pull and push"));
}

/// A named pipe would keep a reload waiting for a program that writes to it, and with it all later
/// reloads.
#[tokio::test]
async fn a_pipe_or_folder_in_place_of_the_users_does_not_stop_reloads() {
    let auth = "auth: {htpasswd: {realm: r, path: '{folder}/users'}}\n";
    let setup = Setup::new(&(config("first", "") + auth));
    let users = setup.path("users");
    std::fs::write(&users, "").unwrap();
    let server = setup.serve();
    let reload = async |name: &str| {
        server.setup().write(&(config(name, "") + auth));
        server.signal("HUP");
        let began = Instant::now();
        while which(&server).await != name {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "no reload: {name}"
            );
        }
    };
    std::fs::remove_file(&users).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&users)
            .status()
            .unwrap()
            .success()
    );
    reload("pipe").await;
    server
        .wait_for_log("it is a named pipe, not a file; keeping the old users")
        .await;
    std::fs::remove_file(&users).unwrap();
    std::fs::create_dir(&users).unwrap();
    reload("folder").await;
    server
        .wait_for_log("Is a directory (os error 21); keeping the old users")
        .await;
    std::fs::remove_dir(&users).unwrap();
    std::fs::write(&users, "alice:plain\n").unwrap();
    reload("file").await;
    server
        .wait_for_log("line 1: user \"alice\" cannot log in")
        .await;
}

#[tokio::test]
async fn variables_override_the_file_after_a_reload_too() {
    let server = Setup::new(&config("first", ""))
        .with("REGISTRY_HTTP_HEADERS_X-Other", "[kept]")
        .with("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")
        .serve();
    server.setup().write(&config(
        "second",
        ", maintenance: {readonly: {enabled: false}}",
    ));
    server.signal("HUP");
    while which(&server).await != "second" {}
    assert_eq!(push_status(&server).await, 405);
    let url = format!("{}/v2/", server.url);
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(header(&answer, "x-other"), "kept");
}

#[tokio::test]
async fn log_settings_are_reloaded() {
    let quiet = format!(
        "{}log: {{level: error, accesslog: {{disabled: true}}}}\n",
        config("first", "")
    );
    let server = Setup::new(&quiet).serve();
    assert_eq!(which(&server).await, "first");
    let loud = config("second", "") + "log: {level: debug}\n";
    server.setup().write(&loud);
    server.signal("HUP");
    while which(&server).await != "second" {}
    server.wait_for_log("path=/v2/").await;
    let requests = server.log().matches("path=/v2/").count();
    server.setup().write(&quiet);
    server.signal("HUP");
    while which(&server).await != "first" {}
    let after = server.log().matches("path=/v2/").count();
    for _ in 0..5 {
        assert_eq!(which(&server).await, "first");
    }
    assert_eq!(server.log().matches("path=/v2/").count(), after);
    assert!(after >= requests);
}
