//! Tests listening on a Unix socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::support::prelude::*;

/// Starts a server on `folder/socket`. The address is in the configuration file, because `--addr`
/// accepts TCP addresses only.
fn start(folder: &Path) -> Server {
    let config = folder.join("config.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\n\
         http: {{net: unix, addr: {:?}}}\n",
        folder.join("root"),
        folder.join("socket")
    );
    std::fs::write(&config, text).unwrap();
    Server::start_configured(&config)
}

fn get_base(folder: &Path) -> String {
    let mut stream = UnixStream::connect(folder.join("socket")).unwrap();
    let request = "GET /v2/ HTTP/1.1\r\nHost: registry\r\nX-Forwarded-For: 203.0.113.9\r\n\
                   Connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_socket_is_removed_at_the_end_and_a_stale_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut server = start(folder.path());
    assert_eq!(
        (server.scheme.as_str(), server.address.as_str()),
        ("unix", socket.to_str().unwrap())
    );
    assert!(get_base(folder.path()).starts_with("HTTP/1.1 200 OK"));
    // A client of the socket is a local proxy, so its X-Forwarded-For is trusted.
    server.wait_for_log("203.0.113.9");
    server.signal("KILL");
    server.wait();
    assert!(socket.exists());

    let mut server = start(folder.path());
    assert!(get_base(folder.path()).starts_with("HTTP/1.1 200 OK"));
    server.terminate();
    assert!(server.wait().success());
    assert!(!socket.exists());
}
