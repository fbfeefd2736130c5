//! Tests the commands that do not serve: `health`, `config`, `completions` and `man`.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use crate::reserved_port::ReservedPort;
use crate::support::launch::{Setup, stderr, stdout};
use crate::support::prelude::*;

const BASE: &str = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{folder}/registry'}}\n";

/// Writes a self-signed certificate for another host name.
fn create_certificate(setup: &Setup) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                     -subj /CN=registry.example.com -keyout key.pem -out cert.pem";
    let output = Command::new("openssl")
        .current_dir(setup.folder.path())
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn health_asks_the_server_of_the_configuration() {
    let tls = "tls: {certificate: '{folder}/cert.pem', key: '{folder}/key.pem'}";
    for section in [
        "http: {addr: ':0', prefix: /registry/}",
        &format!("http: {{addr: '127.0.0.1:0', {tls}}}"),
        "http: {net: unix, addr: '{folder}/socket'}",
        // A server that requires a login is healthy.
        "http: {addr: 'localhost:0'}\nauth: {htpasswd: {realm: r, path: '{folder}/users'}}",
    ] {
        // No other test may listen on the port after the server is killed.
        let port = ReservedPort::new();
        let section = section.replace(":0'", &format!(":{}'", port.address().port()));
        let setup = Setup::new(&format!("{BASE}{section}\n"));
        create_certificate(&setup);
        std::fs::write(setup.path("users"), "").unwrap();
        let server = setup.serve();
        let setup = server.setup();
        let port = server.url.rsplit(':').next().unwrap();
        let address = format!("127.0.0.1:{port}");
        let arguments: &[&str] = if section.contains("unix") {
            &["health"]
        } else {
            &["health", "--addr", &address]
        };
        let output = setup.run(arguments);
        assert!(output.status.success(), "{section}: {}", stderr(&output));
        assert!(stdout(&output).ends_with(" is healthy\n"), "{section}");
        server.signal("KILL");
        // The process is gone when its socket accepts no connection.
        while let output = setup.run(arguments)
            && output.status.success()
        {}
        let output = setup.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{section}");
        let text = stderr(&output);
        assert!(
            text.starts_with("error: cannot connect to ") && text.contains("\nhint: "),
            "{section}: {text}"
        );
    }
}

#[test]
fn health_is_not_content_with_another_program() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // A request that is not read would end the connection early.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let setup = Setup::new(BASE);
    let output = setup.run(&["health", "--addr", &address]);
    other.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("which is not the answer of a registry"),
        "{text}"
    );
    let output = setup.run(&["health", "--addr", "127.0.0.1:0"]);
    let text = stderr(&output);
    assert!(
        text.contains("hint: pass the address, for example --addr"),
        "{text}"
    );
}

#[test]
fn config_fails_when_serve_would() {
    let in_use = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (section, message) in [
        (
            "auth: {htpasswd: {realm: r, path: '{folder}/missing'}}",
            "cannot read the htpasswd file",
        ),
        (
            "http: {addr: '127.0.0.1:0', tls: {certificate: '{folder}/no.pem', key: '{folder}/no.pem'}}",
            "http.tls.certificate: cannot read ",
        ),
        // An address of documentation (RFC 5737), which no machine has.
        (
            "http: {addr: '203.0.113.1:5000'}",
            "cannot listen on 203.0.113.1:5000",
        ),
        (
            "http: {addr: '127.0.0.1:0', debug: {addr: '203.0.113.1:5001'}}",
            "hint: choose another address or port in http.debug.addr",
        ),
        (
            "imgsync: {cache: {upstreams: [{prefix: a.io, remoteurl: 'https://a.io', username: u, \
             passwordfile: '{folder}/missing'}]}}",
            "missing",
        ),
    ] {
        let setup = Setup::new(&format!("{BASE}{section}\n"));
        let printed = setup.run(&["config"]);
        assert!(!setup.path("registry").exists(), "{section}");
        let served = setup.run(&["serve"]);
        for output in [&printed, &served] {
            assert!(!output.status.success(), "{section}");
            let text = stderr(output);
            assert!(text.contains(message), "{section}: {text}");
        }
        assert_eq!(printed.status.code(), served.status.code(), "{section}");
    }
    // The folder cannot be created: a file is in its place.
    let setup = Setup::new(BASE);
    std::fs::write(setup.path("registry"), "").unwrap();
    for command in ["config", "serve"] {
        let output = setup.run(&[command]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("cannot open the storage folder"),
            "{command}"
        );
    }
    // A user that cannot log in is no reason to fail, but a warning.
    let section = "auth: {htpasswd: {realm: r, path: '{folder}/users'}}";
    let setup = Setup::new(&format!("{BASE}{section}\n"));
    std::fs::write(setup.path("users"), "bob:$apr1$x$hunter2\n").unwrap();
    let output = setup.run(&["config"]);
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("\"bob\" cannot log in: an MD5 hash"),
        "{text}"
    );
    // A server that runs, or another program that uses the address, is no reason to fail.
    let server = Setup::new(&format!("{BASE}http: {{addr: '127.0.0.1:0'}}\n")).serve();
    let address = in_use.local_addr().unwrap().to_string();
    let output = server.setup().run(&["config", "--addr", &address]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_folder_that_cannot_be_written_is_noticed() {
    if rustix::process::geteuid().is_root() {
        // Root may write to every folder.
        return;
    }
    let setup = Setup::new(BASE);
    let read_only = std::fs::Permissions::from_mode(0o500);
    std::fs::set_permissions(setup.folder.path(), read_only).unwrap();
    let output = setup.run(&["config"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot open the storage folder"));
}

#[test]
fn a_folder_in_place_of_the_configuration_gets_a_hint() {
    let setup = Setup::new(BASE);
    let folder = setup.folder.path().to_str().unwrap();
    let output = setup.program(&[folder]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("imgsync-server --root DIR"), "{text}");
}

#[test]
fn a_command_after_the_options_gets_a_hint() {
    let setup = Setup::new(BASE);
    let folder = setup.folder.path().to_str().unwrap();
    let output = setup
        .program(&["--root", folder, "status"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    let hint = "hint: to run the command, write it first: imgsync-server status --root DIR";
    assert!(text.contains(hint), "{text}");
}

#[test]
fn a_quiet_check_prints_problems_only() {
    let setup = Setup::new(BASE);
    let output = setup.run(&["config", "--quiet"]);
    assert!(output.status.success());
    assert_eq!(
        (stdout(&output), stderr(&output)),
        (String::new(), String::new())
    );
    let setup = Setup::new(&format!("{BASE}htp: {{addr: '127.0.0.1:0'}}\n"));
    let output = setup.run(&["config", "--quiet"]);
    let loud = setup.run(&["config"]);
    assert_eq!(output.status.code(), loud.status.code());
    assert!(stderr(&output).contains("htp"), "{}", stderr(&output));
}

#[test]
fn completions_and_manual_pages() {
    let setup = Setup::new(BASE);
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = setup.program(&["completions", shell]).output().unwrap();
        assert!(output.status.success());
        let script = stdout(&output);
        assert!(script.contains("imgsync-server") && script.contains("htpasswd"));
        if shell == "bash" {
            let path = setup.path("script");
            std::fs::write(&path, script).unwrap();
            let checked = Command::new("bash").arg("-n").arg(path).status();
            assert!(checked.unwrap().success());
        }
    }
    // The folder is created.
    let folder = setup.path("share/man1");
    let output = setup
        .program(&["man", folder.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let page = std::fs::read_to_string(folder.join("imgsync-server-serve.1")).unwrap();
    assert!(page.contains("Storage folder"), "{page}");
    assert!(folder.join("imgsync-server.1").exists());
}
