//! Tests the language of errors, hints and notes: Chinese by the variables of the environment, and
//! English otherwise. Results, JSON and exit codes are the same in all languages.

use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::{Nginx, NginxOptions};

const CHINESE: [(&str, &str); 1] = [("LANG", "zh_CN.UTF-8")];
const ENGLISH: [(&str, &str); 2] = [("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")];

struct LanguageFixture {
    imgsync: Imgsync,
    scratch: Scratch,
}

impl LanguageFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let imgsync = Imgsync::new(&scratch.folder("home"));
        Self { imgsync, scratch }
    }

    fn archive(&self, bytes: usize) -> String {
        let path = self.scratch.path("image.tar");
        let image = Image::new(vec![layer("data", noise(1, bytes))]);
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path.display().to_string()
    }

    fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
        let mut command = self.imgsync.command();
        run(command.args(arguments).envs(variables.iter().copied()))
    }

    /// Runs a command that fails, in both languages. Panics unless the exit code is this one, and stderr
    /// is the Chinese text in one, and has these English words in the other.
    fn assert_both(&self, arguments: &[&str], code: i32, chinese: &str, english: &[&str]) {
        let outcome = self.run(&CHINESE, arguments).failed(code, &[]);
        assert_eq!(outcome.stderr.trim_end(), chinese, "{outcome}");
        let is_english = |outcome: &Outcome| outcome.stderr.is_ascii();
        let other = self.run(&ENGLISH, arguments).failed(code, english);
        assert!(is_english(&other), "{other}");
        assert_eq!(
            (&outcome.stdout, &other.stdout),
            (&String::new(), &String::new())
        );
    }
}

#[test]
fn a_login_is_required() {
    let fixture = LanguageFixture::new();
    let registry = FakeServer::start(|_| {
        let refused = status(401).header("WWW-Authenticate", "Basic realm=\"here\"");
        refused
            .body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}"#)
    });
    let (archive, host) = (fixture.archive(1000), registry.address());
    let chinese = format!(
        "错误：目标端：{host} 对 GET /v2/app/manifests/v1 返回 401 Unauthorized: UNAUTHORIZED: \
         authentication required\n提示：用 imgsync login {host} 登录（docker login 和 podman login \
         也可以），或者设置 IMGSYNC_USERNAME 和 IMGSYNC_PASSWORD"
    );
    let arguments = ["push", &archive, &format!("{host}/app:v1")];
    fixture.assert_both(
        &arguments,
        5,
        &chinese,
        &["error: target:", "\nhint: log in with"],
    );
    // JSON is for programs, so it is in English.
    let json = fixture.run(&CHINESE, &[&arguments[..], &["--json"]].concat());
    assert!(json.stdout.contains("\"hint\":\"log in with"), "{json}");
}

#[test]
fn the_host_is_unknown_and_the_path_is_wrong() {
    let fixture = LanguageFixture::new();
    let archive = fixture.archive(1000);
    let chinese = "错误：目标端：无法连接 registry.invalid：找不到主机：failed to lookup address \
                   information: Name or service not known\n提示：检查域名的拼写，以及本机的 DNS 设置；可以用 \
                   imgsync doctor registry.invalid 检查";
    let arguments = ["push", &archive, "registry.invalid/app:v1"];
    fixture.assert_both(
        &arguments,
        6,
        chinese,
        &["no such host", "\nhint: check the spelling"],
    );

    let missing = fixture.scratch.path("missing").display().to_string();
    let chinese =
        format!("错误：源端：无法打开 OCI 目录 {missing}：No such file or directory (os error 2)");
    let source = format!("oci:{missing}");
    let arguments = ["push", &source, "127.0.0.1:1/app:v1"];
    fixture.assert_both(&arguments, 3, &chinese, &["cannot open the OCI layout"]);
}

#[test]
fn nginx_refuses_large_requests() {
    if !programs_available(&["nginx", "openssl"]) {
        return;
    }
    let fixture = LanguageFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let authority = CertificateAuthority::new(&fixture.scratch.folder("ca"));
    let pair = authority.sign("server", &["IP:127.0.0.1"]);
    let options = NginxOptions {
        max_body_size: Some("16k"),
        buffers_requests: true,
    };
    let nginx = Nginx::start_with(
        &fixture.scratch.folder("nginx"),
        server.address(),
        &pair,
        options,
    );
    let (archive, host) = (fixture.archive(300_000), nginx.address());
    let ca = authority.certificate().display().to_string();
    let remote = format!("{host}/app:v1");
    let arguments = ["push", "--quiet", "--ca-file", &ca, &archive, &remote];
    let outcome = fixture.run(&CHINESE, &arguments).failed(4, &[]);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let begin = format!("错误：目标端：{host} 前面的 nginx/");
    let hint = format!("提示：在 {host} 的 server 或 location 块里加上：client_max_body_size 0;");
    assert!(lines[0].starts_with(&begin), "{outcome}");
    assert!(lines[0].contains(" 的请求，认为它太大，而且"), "{outcome}");
    assert_eq!(lines[1..], [hint], "{outcome}");
    let words = [
        "as too large, and ",
        "\nhint: add to the server or location block",
    ];
    fixture.run(&ENGLISH, &arguments).failed(4, &words);
}

/// The output of a command on stdout is data, and is the same in all languages; so is a message that has
/// no translation.
#[test]
fn results_and_messages_without_translation_are_in_english() {
    let fixture = LanguageFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let (archive, host) = (fixture.archive(1000), server.address());
    let remote = format!("{host}/app:v1");
    let pushed = fixture
        .run(&CHINESE, &["push", &archive, &remote])
        .succeeded();
    assert!(
        pushed.stdout.is_ascii() && pushed.stdout.contains("sent "),
        "{pushed}"
    );
    for arguments in [
        &["push", "--dry-run", &archive, &remote][..],
        &["inspect", &remote],
        &["ls", &format!("{host}/app")],
    ] {
        let [chinese, english] =
            [&CHINESE[..], &ENGLISH].map(|variables| fixture.run(variables, arguments).succeeded());
        assert_eq!(chinese.stdout, english.stdout);
    }
    let deleted = fixture.run(&CHINESE, &["rm", &remote]).succeeded();
    assert_eq!(deleted.stdout, format!("deleted {remote}\n"));
    assert_eq!(
        deleted.stderr,
        format!("要恢复：imgsync undelete {remote}\n")
    );

    // The reason comes from the server.
    let gone = FakeServer::start(|_| {
        status(418).body(r#"{"errors": [{"code": "TEAPOT", "message": "no coffee"}]}"#)
    });
    let host = gone.address();
    let outcome = fixture.run(&CHINESE, &["ls", &host]).failed(4, &[]);
    assert!(
        outcome
            .stderr
            .contains("418 I'm a teapot: TEAPOT: no coffee"),
        "{outcome}"
    );
    // Mistakes on the command line are found before the language matters.
    fixture.run(&CHINESE, &["push"]).failed(2, &["error: "]);
}
