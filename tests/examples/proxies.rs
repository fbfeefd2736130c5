//! Tests the configurations of reverse proxies in the documents and in `examples/`.

use std::io::Write as _;

use super::document::{Block, blocks, read};
use crate::support::Nginx;
use crate::support::authority::CertificateAndKey;
use crate::support::prelude::*;
use crate::support::process::Process;

#[test]
fn the_nginx_example_works_with_large_layers_and_logins() {
    if !programs_available(&["nginx", "openssl", "curl"]) {
        return;
    }
    let scratch = Scratch::new();
    let authority = CertificateAuthority::new(&scratch.folder("ca"));
    let pair = authority.sign("server", &["DNS:localhost", "IP:127.0.0.1"]);
    let (root, logins) = (scratch.folder("root"), scratch.path("htpasswd"));
    // The output of `htpasswd -Bbn alice secret`.
    let login = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";
    std::fs::write(&logins, login).unwrap();
    let config = read("examples/cache/config.yml")
        .replace("/var/lib/imgsync", root.to_str().unwrap())
        .replace("/etc/imgsync/htpasswd", logins.to_str().unwrap())
        .replace("127.0.0.1:5000", "127.0.0.1:0");
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    let server = Server::start_configured(&scratch.path("config.yml"), &root);
    let example = read("examples/nginx/imgsync.conf");
    let nginx = Nginx::start_example(&example, &scratch.folder("nginx"), server.address(), &pair);
    let registry = format!("localhost:{}", nginx.address().port());

    let path = scratch.path("image.tar");
    let layer = layer("data", noise(1, 20_000_000));
    archive::write_tar(&Image::new(vec![layer]).docker_archive("app:v1"), &path);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let ca = authority.certificate();
    let tool = |arguments: &[&str]| {
        let mut command = imgsync.command();
        command.args(arguments).arg("--ca-file").arg(&ca);
        command
    };
    let mut command = tool(&[
        "login",
        &registry,
        "--username",
        "alice",
        "--password-stdin",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut login = command.spawn().unwrap();
    login.stdin.take().unwrap().write_all(b"secret\n").unwrap();
    assert!(login.wait().unwrap().success());
    let remote = format!("{registry}/team/app:v1");
    must(&mut tool(&["push", path.to_str().unwrap(), &remote]));
    assert_eq!(nginx.too_large_count(), 0, "{}", nginx.log());
    assert_eq!(
        must(&mut tool(&["ls", &format!("{registry}/team/app")])),
        "v1"
    );

    // The challenge must contain the public address of the registry, not the one behind nginx.
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--include", "--cacert"]).arg(&ca);
    let response = must(curl.arg(format!("https://{registry}/v2/team/app/tags/list")));
    let challenge = response.to_lowercase();
    let challenge = challenge
        .lines()
        .find(|line| line.starts_with("www-authenticate"));
    let challenge = challenge.expect("a challenge");
    assert!(
        challenge.contains(&format!("realm=\"https://{registry}/")),
        "{challenge}"
    );
    let log = server.log();
    assert!(log.contains("user=alice"), "{log}");
}

/// A `server` block around the lines of a document, as a panel or an administrator writes it.
fn server_block(lines: &str) -> String {
    format!(
        "client_max_body_size 50m;\nserver {{\nlisten 443 ssl;\n\
         ssl_certificate /etc/ssl/registry.example.com.pem;\n\
         ssl_certificate_key /etc/ssl/registry.example.com.key;\n{lines}\n}}\n"
    )
}

/// The `location` block that 1Panel writes for a reverse proxy, with more lines.
fn location_of_panel(lines: &str) -> String {
    format!(
        "location ^~ / {{\nproxy_pass http://127.0.0.1:5000;\nproxy_set_header Host $host;\n\
         proxy_set_header X-Real-IP $remote_addr;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header REMOTE-HOST $remote_addr;\n\
         proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection $http_connection;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\nproxy_http_version 1.1;\n\
         add_header X-Cache $upstream_cache_status;\nadd_header Cache-Control no-cache;\n\
         proxy_ssl_server_name off;\nproxy_ssl_name $proxy_host;\n{lines}\n}}\n"
    )
}

/// A registry, and what a proxy with TLS in front of it needs.
struct Site {
    server: Server,
    authority: CertificateAuthority,
    pair: CertificateAndKey,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl Site {
    fn new() -> Self {
        let scratch = Scratch::new();
        let authority = CertificateAuthority::new(&scratch.folder("ca"));
        Self {
            pair: authority.sign("server", &["DNS:localhost", "IP:127.0.0.1"]),
            authority,
            server: Server::start(&scratch.folder("root")),
            scratch,
        }
    }

    /// Panics unless uploads work through the proxy at this port.
    fn assert_proxy_works(&self, port: u16) {
        let imgsync = Imgsync::new(&self.scratch.folder(&format!("home-{port}")));
        let mut doctor = imgsync.command();
        let repository = format!("https://localhost:{port}/team/app");
        doctor.args(["doctor", "--write", &repository, "--ca-file"]);
        let outcome = run(doctor.arg(self.authority.certificate())).succeeded();
        for check in ["location", "request-size", "resume"] {
            let is_ok = |line: &str| line.split_whitespace().take(2).eq(["ok", check]);
            assert!(outcome.stdout.lines().any(is_ok), "{check}: {outcome}");
        }
    }
}

/// Returns the blocks of the page with the lines for proxies.
fn page() -> Vec<Block> {
    blocks(&read("docs/from-registry-2.md"))
}

#[test]
fn the_lines_for_caddy_in_the_documents_work() {
    if !programs_available(&["caddy", "openssl"]) {
        return;
    }
    let site = Site::new();
    let page = page();
    let block = page.iter().find(|block| block.is("caddy")).expect("lines");
    let reserved_port = ReservedPort::new();
    let port = reserved_port.address().port();
    // The certificate of the test instead of one that Caddy gets from Let's Encrypt.
    let (certificate, key) = (site.pair.certificate.display(), site.pair.key.display());
    let head = format!("localhost:{port} {{\n    tls {certificate} {key}");
    let text = block.text.replace("registry.example.com {", &head);
    let text = text.replace("127.0.0.1:5000", &site.server.address().to_string());
    let text = format!("{{\n    admin off\n    auto_https disable_redirects\n}}\n{text}");
    let config = site.scratch.path("Caddyfile");
    std::fs::write(&config, text).unwrap();
    let mut caddy = Command::new("caddy");
    caddy.args(["run", "--adapter", "caddyfile", "--config"]);
    caddy.arg(&config).env("HOME", site.scratch.folder("home"));
    let mut caddy = Process::start("caddy", &mut caddy, site.scratch.root());
    caddy.wait_for("Caddy's port", |_| {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    site.assert_proxy_works(port);
}

#[test]
fn the_lines_for_proxies_in_the_documents_work() {
    if !programs_available(&["nginx", "openssl"]) {
        return;
    }
    let site = Site::new();
    let page = page();
    let lines: Vec<_> = page.iter().filter(|block| block.is("nginx")).collect();
    let [nginx, panel] = lines[..] else {
        panic!("the page has one block for nginx and one for OpenResty: {lines:?}");
    };
    for (name, lines) in [
        ("nginx", nginx.text.clone()),
        ("panel", location_of_panel(&panel.text)),
    ] {
        let folder = site.scratch.folder(name);
        let target = site.server.address();
        let nginx = Nginx::start_example(&server_block(&lines), &folder, target, &site.pair);
        site.assert_proxy_works(nginx.address().port());
        assert_eq!(nginx.too_large_count(), 0, "{name}: {}", nginx.log());
    }
}
