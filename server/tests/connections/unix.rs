//! A socket in the file system instead of a port.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::support::prelude::*;

/// The server on this socket. Its address on the command line would count more.
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

fn check(folder: &Path) -> String {
    let mut stream = UnixStream::connect(folder.join("socket")).unwrap();
    let request = "GET /v2/ HTTP/1.1\r\nHost: registry\r\nX-Forwarded-For: 203.0.113.9\r\n\
                   Connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_is_there_while_the_server_is_and_a_killed_ones_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut server = start(folder.path());
    assert_eq!(
        (server.scheme.as_str(), server.address.as_str()),
        ("unix", socket.to_str().unwrap())
    );
    assert!(check(folder.path()).starts_with("HTTP/1.1 200 OK"));
    // Who reaches the socket is a proxy on this machine.
    server.wait_for_log("203.0.113.9");
    server.signal("KILL");
    server.wait();
    assert!(socket.exists());

    let mut server = start(folder.path());
    assert!(check(folder.path()).starts_with("HTTP/1.1 200 OK"));
    server.terminate();
    assert!(server.wait().success());
    assert!(!socket.exists());
}
