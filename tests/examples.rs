//! Tests that the examples in the documents and in `examples/` work: command lines, `mirrors.yaml`
//! files, JSON events, configurations and links.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::support::prelude::*;
use crate::support::process::Process;
use crate::support::{Nginx, server};
use clap::Parser as _;
use imgsync::args::Cli;
use imgsync::mirror::config::parse;
use serde_json::Value;

/// Returns the top folder of the repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).expect(path)
}

/// Splits a command line into words as a shell does. Stops at a comment, a pipe or a redirection.
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
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "docs/push.md",
    "docs/doctor.md",
    "docs/mirror.md",
    "docs/server.md",
    "docs/stock-registry.md",
    "docs/extension.md",
    "docs/architecture.md",
];

/// A fenced block of a document.
struct Block {
    /// The words after the opening fence: the language, and marks for these tests.
    info: String,
    text: String,
}

/// Returns the fenced blocks of a document.
fn blocks(document: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in document.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                let (info, text) = (info.to_owned(), String::new());
                open = Some(Block { info, text });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

/// Returns the text of all blocks in a language.
fn text_of_blocks(document: &str, language: &str) -> String {
    let has_language = |block: &Block| block.info.split(' ').next() == Some(language);
    let blocks = blocks(document).into_iter().filter(has_language);
    blocks.map(|block| block.text).collect()
}

/// Returns the commands of `imgsync` in a text, at the start of a line or after a pipe.
fn commands(text: &str) -> Vec<Vec<String>> {
    let pipe = "printf %s \"$PASSWORD\" | ";
    let prefixes = ["", "docker save app:v1 | ", pipe, "run: ", "script: ", "- "];
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches([' ', '#', '$']));
    let commands = lines.filter_map(|line| {
        let mut rests = prefixes
            .iter()
            .filter_map(|prefix| line.strip_prefix(prefix));
        rests.find(|rest| rest.starts_with("imgsync "))
    });
    commands.map(words).collect()
}

#[test]
fn every_command_line_can_be_parsed() {
    for (path, min_count) in [
        ("README.md", 10),
        ("docs/push.md", 6),
        ("docs/doctor.md", 4),
        ("docs/mirror.md", 8),
        ("docs/stock-registry.md", 3),
        ("examples/mirror/mirrors.yaml", 2),
        ("examples/ci/github.yml", 1),
        ("examples/ci/gitlab.yml", 1),
    ] {
        let mut text = read(path);
        if path.ends_with(".md") {
            text = text_of_blocks(&text, "sh") + &text_of_blocks(&text, "console");
        }
        let commands = commands(&text);
        assert!(commands.len() >= min_count, "{path}: {commands:?}");
        for command in commands {
            // Variables of the CI examples: an image without a tag, and tags.
            let image = "registry.example.com/team/app";
            let expand = |word: &String| word.replace("$IMAGE", image).replace('$', "");
            let command: Vec<String> = command.iter().map(expand).collect();
            if let Err(error) = Cli::try_parse_from(&command) {
                panic!("{path}: {command:?}: {error}");
            }
        }
    }
}

#[test]
fn mirrors_yaml_files_can_be_parsed() {
    let folder = Path::new("/etc/imgsync");
    let file = text_of_blocks(&read("docs/mirror.md"), "yaml");
    assert_eq!(parse(&file, folder).unwrap().jobs.len(), 3);

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
    // Two entries with the same source and target are one job with the rules of both.
    assert_eq!(config.jobs[0].rules.len(), 2);
    let (_, registry) = config.registries.iter().next().unwrap();
    assert_eq!(registry.settings.username.as_deref(), Some("mirror"));
    assert_eq!(
        registry.settings.password_env.as_deref(),
        Some("MIRROR_PASSWORD")
    );
    assert_eq!(registry.settings.password_file, None);
}

/// Returns the documented fields of each JSON event.
fn documented_fields() -> BTreeMap<String, BTreeSet<String>> {
    let text = read("docs/push.md");
    let (_, text) = text.split_once("### JSON output").unwrap();
    let (text, _) = text.split_once("\n## ").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let quoted = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let (events, fields) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        for event in quoted(events) {
            documented.entry(event).or_default().extend(quoted(fields));
        }
    }
    documented
}

/// Adds all keys in a JSON value to `found`, at every depth.
fn collect_keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key.clone());
                collect_keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, found)),
        _ => {}
    }
}

#[test]
fn events_have_only_documented_fields() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    let address = server.address();
    let path = scratch.path("image.tar");
    let layer = layer("data", noise(1, 300_000));
    archive::write_tar(&Image::new(vec![layer]).docker_archive("app:v1"), &path);
    let path = path.to_str().unwrap();
    let team = format!("{address}/team/app:v1");
    let other = format!("{address}/mirror/app");
    let repository = format!("{address}/team/app");
    let mut output = String::new();
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
        &["mirror", &format!("{address}/team/none"), &other],
    ] {
        let outcome = run(imgsync.command().args(arguments).arg("--json"));
        output += &outcome.stdout;
    }
    let documented = documented_fields();
    let mut seen = BTreeSet::new();
    for line in output.lines() {
        let mut event: Value = serde_json::from_str(line).expect(line);
        let name = event.as_object_mut().unwrap().remove("event").unwrap();
        let name = name.as_str().unwrap();
        let fields = documented.get(name).expect(name);
        let mut found = BTreeSet::new();
        collect_keys(&event, &mut found);
        assert!(found.is_subset(fields), "{fields:?} lacks some of {line}");
        seen.insert(name.to_owned());
    }
    for name in [
        "plan", "begin", "progress", "done", "note", "outcome", "failure", "mirror", "tag",
        "summary",
    ] {
        assert!(seen.contains(name), "{name}: {output}");
    }
}

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

/// Creates the working folder that the documents assume, with an image as archive and as layout.
fn create_work_folder(scratch: &Scratch) {
    let work = scratch.folder("work");
    let image = Image::new(vec![layer("data", noise(1, 3_000_000))]);
    let plain = archive::tar_of(&image.docker_archive("app:v1"));
    std::fs::write(work.join("image.tar"), &plain).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    std::fs::write(work.join("image.tar.gz"), gzip.finish().unwrap()).unwrap();
    archive::write_folder(&image.oci_layout("v1"), &work.join("build/image"));
}

/// Returns a shell command with both programs in PATH and a temporary home folder.
fn shell(script: &str, scratch: &Scratch) -> Command {
    let programs = server::binary().parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(programs).chain(std::env::split_paths(&path));
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(scratch.path("work"));
    command.env_clear().env("HOME", scratch.folder("home"));
    command.envs(std::env::var_os("DOCKER_HOST").map(|value| ("DOCKER_HOST", value)));
    command.env("PATH", std::env::join_paths(folders).unwrap());
    command.env("PASSWORD", "secret").stdin(Stdio::null());
    command
}

/// Runs the blocks of a document that are marked with `run`, in their order, in one folder, and
/// returns their number. They use a registry that contains team/app:v1. The block that is marked
/// with `serve` starts it, or a default command.
fn run_document(path: &str) -> usize {
    let scratch = Scratch::new();
    create_work_folder(&scratch);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!(":{}", listener.local_addr().unwrap().port());
    drop(listener);
    let blocks = blocks(&read(path));
    let marked = |mark: &str| -> Vec<&Block> {
        let is_marked = |block: &&Block| block.info.split(' ').skip(1).any(|word| word == mark);
        blocks.iter().filter(is_marked).collect()
    };
    let serve = match marked("serve")[..] {
        [] => "imgsync-server serve --root registry --addr 127.0.0.1:5000",
        [block] => block.text.trim(),
        [..] => panic!("{path}: several blocks are marked with serve"),
    };
    let serve = format!("exec {}", serve.replace(":5000", &port));
    let mut command = shell(&serve, &scratch);
    let mut registry = Process::start("registry", &mut command, scratch.root());
    registry.wait_for("the registry's address", |text| {
        text.contains("listening on").then_some(())
    });
    let seed = format!("imgsync push ./image.tar localhost{port}/team/app:v1");
    must(&mut shell(&seed, &scratch));

    let mut count = 0;
    let mut built_image = None;
    for block in marked("run") {
        let mut script = block.text.replace(":5000", &port);
        if script.contains("curl ") && !programs_available(&["curl"]) {
            continue;
        }
        if words(&script.replace('\n', " ")).contains(&"app:v1".to_owned()) {
            if !programs_available(&["docker", "busybox"]) {
                continue;
            }
            let image =
                built_image.get_or_insert_with(|| DockerImage::build(&unique("document"), "v1"));
            let name = format!(" {} ", image.reference());
            script = script.replace(" app:v1 ", &name);
        }
        let outcome = run(&mut shell(&script, &scratch));
        assert_eq!(outcome.code, Some(0), "{path}: {outcome}");
        count += 1;
    }
    count
}

#[test]
fn the_marked_commands_succeed() {
    for path in DOCUMENTS {
        let count = run_document(path);
        let has_any = read(path).contains("sh run\n");
        assert_eq!(count > 0, has_any, "{path}");
    }
}

#[test]
fn links_between_documents_have_a_target() {
    let other_documents = [
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "docs/benchmarks.md",
    ];
    for path in DOCUMENTS.into_iter().chain(other_documents) {
        let text = read(path);
        for target in text.split("](").skip(1) {
            let (target, _) = target.split_once(')').unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(path).parent().unwrap();
            let file = if file.is_empty() {
                top().join(path)
            } else {
                top().join(folder).join(file)
            };
            let found = std::fs::read_to_string(&file);
            let found = found.unwrap_or_else(|error| panic!("{path}: {target}: {error}"));
            let exists = heading.is_empty() || headings(&found).contains(&heading.to_owned());
            assert!(exists, "{path}: {target}");
        }
    }
}

/// Returns the anchors that GitHub creates for the headings of a document.
fn headings(document: &str) -> Vec<String> {
    let lines = document.lines().filter(|line| line.starts_with('#'));
    lines
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn the_paths_in_the_architecture_document_exist() {
    let text = read("docs/architecture.md");
    for path in text.split('`').skip(1).step_by(2) {
        let crates = ["oci/", "cli/", "server/", "tests/", "examples/"];
        if crates.iter().any(|name| path.starts_with(name)) {
            assert!(top().join(path).exists(), "{path}");
        }
    }
}
