//! What is there to be copied: the command lines, files of mirrors and events of the documents, and
//! `examples/`. What is shown works.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Parser as _;
use imgsync::args::Cli;
use imgsync::login::PasswordSource;
use imgsync::mirror::config::parse;
use serde_json::Value;
use support::peers::present;
use support::run::{must, run};
use support::{Authority, Image, Imgsync, Nginx, Scratch, Server, archive, bytes, image};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).expect(path)
}

/// The words of a command line as a shell takes them apart; none that ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | '>') if word.is_none() => return words,
            (None, ' ' | '`') => words.extend(word.take()),
            (Some(_) | None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The commands of `imgsync` that a text shows, on lines of their own or behind a pipe.
fn commands(text: &str) -> Vec<Vec<String>> {
    let before = ["", "docker save app:v1 | ", "run: ", "script: ", "- "];
    // But for the drawing of two machines.
    let lines = text.lines().filter(|line| !line.contains('─'));
    let lines = lines.map(|line| line.trim_start_matches([' ', '#']));
    let commands = lines.filter_map(|line| {
        let mut rests = before.iter().filter_map(|start| line.strip_prefix(start));
        rests.find(|rest| rest.starts_with("imgsync "))
    });
    commands.map(words).collect()
}

#[test]
fn every_command_line_that_is_shown_is_one() {
    for (path, least) in [
        ("README.md", 10),
        ("cli/PUSH.md", 6),
        ("cli/MIRROR.md", 8),
        ("examples/mirror/mirrors.yaml", 2),
        ("examples/ci/github.yml", 1),
        ("examples/ci/gitlab.yml", 1),
    ] {
        let commands = commands(&read(path));
        assert!(commands.len() >= least, "{path}: {commands:?}");
        for command in commands {
            if let Err(error) = Cli::try_parse_from(&command) {
                panic!("{path}: {command:?}: {error}");
            }
        }
    }
}

#[test]
fn files_of_mirrors_are_understood() {
    let shown = read("cli/MIRROR.md");
    let (_, block) = shown.split_once("```yaml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let folder = Path::new("/etc/imgsync");
    assert_eq!(parse(block, folder).unwrap().jobs.len(), 3);

    let config = parse(&read("examples/mirror/mirrors.yaml"), folder).unwrap();
    let sources: Vec<_> = config.jobs.iter().map(|job| job.source()).collect();
    assert_eq!(
        sources,
        [
            "docker.io/library/nginx",
            "docker.io/library/postgres",
            "ghcr.io/owner/app"
        ]
    );
    // Two entries of one pair are one job, which takes what either wants.
    assert_eq!(config.jobs[0].rules.len(), 2);
    let (_, host) = config.registries.iter().next().unwrap();
    let (user, password) = host.login.as_ref().unwrap();
    assert_eq!(user, "mirror");
    assert!(matches!(password, PasswordSource::Variable(name) if name == "MIRROR_PASSWORD"));
}

/// The fields of each event, as the table says.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("cli/PUSH.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let quoted = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    rows.flat_map(|row| {
        let (events, fields) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        let fields = quoted(fields);
        quoted(events)
            .into_iter()
            .map(move |event| (event, fields.clone()))
    })
    .collect()
}

/// Every key below a value, but those of the event's name.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn events_have_the_fields_that_the_table_has() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    let at = server.address();
    let path = scratch.path("image.tar");
    let layer = image::layer("data", bytes::noise(1, 300_000));
    archive::write_tar(&Image::new(vec![layer]).docker_archive("app:v1"), &path);
    let path = path.to_str().unwrap();
    let team = format!("{at}/team/app:v1");
    let other = format!("{at}/mirror/app");
    let repository = format!("{at}/team/app");
    let mut said = String::new();
    for arguments in [
        &["push", path, &team, "--dry-run"][..],
        &["push", path, &team, "-v"],
        &["push", path, &team, "--dry-run"],
        &["mirror", &repository, &other, "-v"],
        &[
            "mirror",
            &repository,
            &other,
            "--prune",
            "--exclude",
            "v1",
            "-v",
        ],
        &["mirror", &format!("{at}/team/none"), &other],
    ] {
        let outcome = run(imgsync.command().args(arguments).arg("--json"));
        said += &outcome.stdout;
    }
    let documented = documented();
    let mut seen = BTreeSet::new();
    for line in said.lines() {
        let mut event: Value = serde_json::from_str(line).expect(line);
        let name = event.as_object_mut().unwrap().remove("event").unwrap();
        let name = name.as_str().unwrap();
        let fields = documented.get(name).expect(name);
        let mut found = BTreeSet::new();
        keys(&event, &mut found);
        assert!(found.is_subset(fields), "{fields:?} lacks some of {line}");
        seen.insert(name.to_owned());
    }
    for name in [
        "plan", "begin", "progress", "done", "note", "outcome", "failure", "mirror", "tag",
        "summary",
    ] {
        assert!(seen.contains(name), "{name}: {said}");
    }
}

#[test]
fn nginx_as_the_example_has_it_lets_large_layers_and_logins_pass() {
    if !present(&["nginx", "openssl", "curl"]) {
        return;
    }
    let scratch = Scratch::new();
    let authority = Authority::new(&scratch.folder("ca"));
    let pair = authority.sign("server", &["DNS:localhost", "IP:127.0.0.1"]);
    let (root, logins) = (scratch.folder("root"), scratch.path("htpasswd"));
    // `secret`, by `htpasswd -Bbn alice secret`.
    let login = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";
    std::fs::write(&logins, login).unwrap();
    let config = read("examples/cache/config.yml")
        .replace("/var/lib/imgsync", root.to_str().unwrap())
        .replace("/etc/imgsync/htpasswd", logins.to_str().unwrap())
        .replace("127.0.0.1:5000", "127.0.0.1:0");
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    let server = Server::configured(&scratch.path("config.yml"), &root);
    let example = read("examples/nginx/imgsync.conf");
    let nginx = Nginx::as_in(&example, &scratch.folder("nginx"), server.address(), &pair);
    let registry = format!("localhost:{}", nginx.address().port());

    let path = scratch.path("image.tar");
    let layer = image::layer("data", bytes::noise(1, 20_000_000));
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
    assert_eq!(nginx.refused_as_too_large(), 0, "{}", nginx.log());
    assert_eq!(
        must(&mut tool(&["ls", &format!("{registry}/team/app")])),
        "v1"
    );

    // Who has no login is sent to the address that clients know.
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--include", "--cacert"]).arg(&ca);
    let answer = must(curl.arg(format!("https://{registry}/v2/team/app/tags/list")));
    let challenge = answer.to_lowercase();
    let challenge = challenge
        .lines()
        .find(|line| line.starts_with("www-authenticate"));
    let challenge = challenge.expect("a challenge");
    assert!(
        challenge.contains(&format!("realm=\"https://{registry}/")),
        "{challenge}"
    );
    let first = server.log();
    assert!(first.contains("user=alice"), "{first}");
}
