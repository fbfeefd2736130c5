//! Tests what answers at the address, logins and permissions.

use super::{CHECKS, DoctorFixture, tree};
use crate::support::Nginx;
use crate::support::fake::{self, FakeServer};
use crate::support::prelude::*;

/// The user alice with the password `secret`, from `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

/// Starts a server with the user alice, at which everybody can pull from `public/**`.
fn with_login(scratch: &Scratch) -> Server {
    let (root, config) = (scratch.folder("root"), scratch.path("config.yml"));
    let htpasswd = scratch.path("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let text = format!(
        "version: 0.1\n\
         storage: {{filesystem: {{rootdirectory: {root:?}}}}}\n\
         auth: {{htpasswd: {{realm: here, path: {htpasswd:?}}}}}\n\
         http: {{addr: '127.0.0.1:0'}}\n\
         imgsync: {{anonymous: {{pull: ['public/**']}}}}\n"
    );
    std::fs::write(&config, text).unwrap();
    Server::start_configured(&config, &root)
}

#[test]
fn a_registry_without_a_problem_is_not_changed() {
    let fixture = DoctorFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let stored = server.root().join("docker");
    let before = tree(&stored);
    let remote = format!("{}/team/app", server.address());
    let diagnosis = fixture.examine(0, &[&remote]);
    let by_upload = ["location", "resume"];
    for check in CHECKS {
        match check {
            "certificate" => diagnosis.has(check, "not checked", &["plain HTTP"]),
            check if by_upload.contains(&check) => {
                diagnosis.has(check, "not checked", &["--write"])
            }
            check => diagnosis.has(check, "ok", &[]),
        };
    }
    diagnosis
        .has("registry", "ok", &["imgsync-server"])
        .has("login", "ok", &["anonymous"])
        .has("pull", "ok", &["does not exist yet"]);
    assert_eq!(tree(&stored), before);
    let outcome = run(&mut fixture.command(&[&remote])).succeeded();
    let lines: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), CHECKS.len() + 1, "{outcome}");
    assert!(
        lines[6].starts_with("ok           pull          everybody may"),
        "{outcome}"
    );
    assert_eq!(
        lines[12], "0 faults, 0 warnings, 9 ok, 3 not checked",
        "{outcome}"
    );
    // Without a repository, there are no permissions to check.
    let registry = server.address().to_string();
    fixture
        .examine(0, &[&registry])
        .has("push", "not checked", &["name a repository"]);
    let outcome = run(&mut fixture.command(&[&registry, "--write"]));
    outcome.failed(2, &["--write needs a repository", "/NAME --write"]);
}

#[test]
fn logins_and_permissions() {
    let mut fixture = DoctorFixture::new();
    let server = with_login(&fixture.scratch);
    let host = server.address().to_string();
    let (public, team) = (format!("{host}/public/app"), format!("{host}/team/app"));
    // Everybody may pull from one repository, and push to none.
    fixture
        .examine(5, &[&public])
        .has(
            "login",
            "fault",
            &["no login for", &format!("imgsync login {host}")],
        )
        .has("pull", "ok", &["everybody may pull from public/app"])
        .has(
            "push",
            "fault",
            &[
                "pushing to public/app needs a login",
                &format!("imgsync login {host}"),
            ],
        )
        .has("request-size", "not checked", &[]);
    fixture
        .examine(5, &[&team])
        .has("pull", "fault", &["needs a login"]);

    fixture.set("IMGSYNC_USERNAME", "alice");
    fixture.set("IMGSYNC_PASSWORD", "guess");
    fixture
        .examine(5, &[&team])
        .has("registry", "ok", &[])
        .has(
            "login",
            "fault",
            &["IMGSYNC_USERNAME", "401", "correct IMGSYNC_PASSWORD"],
        )
        .all(&["pull", "push"], "not checked");
    fixture.set("IMGSYNC_PASSWORD", "secret");
    fixture
        .examine(0, &[&team])
        .has("registry", "ok", &["imgsync-server"])
        .has("login", "ok", &["as alice", "IMGSYNC_USERNAME"])
        .has("pull", "ok", &["alice may pull"])
        .has("push", "ok", &["alice may push to team/app"]);

    fixture.variables.clear();
    let config = fixture.scratch.path("home/.docker/config.json");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    // "alice:secret" in Base64.
    let stored = serde_json::json!({"auths": {&host: {"auth": "YWxpY2U6c2VjcmV0"}}});
    std::fs::write(&config, stored.to_string()).unwrap();
    fixture
        .examine(0, &[&team])
        .has("login", "ok", &["as alice", ".docker/config.json"]);
    std::fs::write(&config, "{").unwrap();
    fixture
        .examine(5, &[&team])
        .has("login", "fault", &["config.json is damaged"])
        .has("push", "fault", &[]);
}

#[test]
fn a_token_without_the_right_to_push() {
    let mut fixture = DoctorFixture::new();
    // A token server may grant less than was asked for.
    let tokens = FakeServer::start(|_| fake::status(200).body(r#"{"token": "pull"}"#));
    let realm = format!("http://{}/token", tokens.address());
    let registry = FakeServer::start(move |request| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"registry\"");
        match (&*request.method, request.authorization()) {
            ("GET", "Bearer pull") => fake::status(200).body(r#"{"tags": ["v1"]}"#),
            _ => fake::status(401).header("WWW-Authenticate", challenge),
        }
    });
    fixture.set("IMGSYNC_USERNAME", "alice");
    fixture.set("IMGSYNC_PASSWORD", "secret");
    fixture
        .examine(5, &[&format!("{}/team/app", registry.address())])
        .has("pull", "ok", &["alice may pull from team/app"])
        .has(
            "push",
            "fault",
            &["alice may not push to team/app", "the administrator of"],
        );
}

#[test]
fn a_token_server_that_a_proxy_hides() {
    if !programs_available(&["nginx", "openssl"]) {
        return;
    }
    let mut fixture = DoctorFixture::new();
    let server = with_login(&fixture.scratch);
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let pair = authority.sign("server", &["DNS:localhost"]);
    let ca = authority.certificate().display().to_string();
    let example = include_str!("../../examples/nginx/imgsync.conf");
    let config = example.replace("proxy_set_header", "# proxy_set_header");
    fixture.set("IMGSYNC_USERNAME", "alice");
    fixture.set("IMGSYNC_PASSWORD", "secret");
    for (name, config, code) in [("right", example, 0), ("wrong", &*config, 5)] {
        let folder = fixture.scratch.folder(name);
        let nginx = Nginx::start_example(config, &folder, server.address(), &pair);
        let host = format!("localhost:{}", nginx.address().port());
        let remote = format!("https://{host}/team/app");
        let diagnosis = fixture.examine(code, &[&remote, "--ca-file", &ca]);
        if code == 0 {
            diagnosis.all(&["login", "pull", "push"], "ok");
            continue;
        }
        let line = format!("  REGISTRY_HTTP_HOST: https://{host}");
        let words = ["token server", "  proxy_set_header Host $http_host;", &line];
        diagnosis
            .has("login", "fault", &words)
            .has("push", "not checked", &[]);
    }
}

#[test]
fn a_web_site_and_a_proxy_without_a_registry() {
    let fixture = DoctorFixture::new();
    let site = FakeServer::start(|_| {
        let page = fake::status(200).header("Content-Type", "text/html");
        page.body("<html>Welcome</html>")
    });
    let line = "  location /v2/ { proxy_pass http://127.0.0.1:5000; }";
    fixture
        .examine(4, &[&format!("{}/app", site.address())])
        .has("connection", "ok", &[])
        .has("registry", "fault", &["a web page", line])
        .all(&["login", "push"], "not checked");
    let proxy = FakeServer::start(|_| fake::status(502).header("Server", "nginx/1.22.1"));
    fixture.examine(4, &[&proxy.address()]).has(
        "registry",
        "fault",
        &["502", "nginx/1.22.1", "  proxy_pass http://127.0.0.1:5000;"],
    );
}

#[test]
fn a_registry_whose_clock_is_wrong() {
    let fixture = DoctorFixture::new();
    let registry = FakeServer::start(|_| {
        let reply = fake::status(200).header("Docker-Distribution-Api-Version", "registry/2.0");
        reply.header("Date", "Wed, 21 Oct 2015 07:28:00 GMT")
    });
    fixture
        .examine(0, &[&registry.address()])
        .has("registry", "ok", &["a registry (registry/2.0)"])
        .has(
            "clock",
            "warning",
            &["behind", "  timedatectl set-ntp true"],
        );
}
