//! Tests `ls`, `inspect`, `rm`, several tags, signals, errors of standard output, and registries
//! whose lists do not end.

use std::net::TcpListener;

use super::LoginFixture;
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::seed::{OCI_MANIFEST, RemoteRepository};
use serde_json::{Value, json};

#[test]
fn sigterm_ends_the_tool_with_code_143() {
    let fixture = LoginFixture::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut command = fixture.imgsync.command();
    let command = command.args(["ls", &address]).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let _connection = silent.accept().unwrap();
    must(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("error: interrupted"), "{stderr}");
}

#[test]
fn a_full_disk_on_stdout_is_an_error_and_a_closed_pipe_is_not() {
    let fixture = LoginFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let host = server.address().to_string();
    let name = format!("{host}/app:v1");
    fixture.push(&[], &name).succeeded();
    for arguments in [vec!["ls", &host], vec!["inspect", &name]] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        for (stdout, code) in [(Stdio::from(full), 3), (Stdio::from(writer), 0)] {
            let mut command = fixture.imgsync.command();
            let output = command
                .args(&arguments)
                .stdout(stdout)
                .stderr(Stdio::piped());
            let output = output.spawn().unwrap().wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
            assert_eq!(stderr.contains("standard output"), code == 3, "{stderr}");
        }
    }
}

/// Starts a registry whose lists link from page to page without end. Each page has these fields.
fn start_endless(fields: &'static str) -> FakeServer {
    FakeServer::start(move |request| {
        let Some((path, query)) = request.target.split_once('?') else {
            return status(200);
        };
        let page = query.rsplit_once("last=").map_or("0", |(_, page)| page);
        let page: usize = page.parse().unwrap();
        let next = format!("<{path}?n=1000&last={}>; rel=\"next\"", page + 1);
        status(200).header("Link", next).body(fields)
    })
}

#[test]
fn a_list_without_end_is_an_error() {
    let fixture = LoginFixture::new();
    let layout = format!("oci:{}", fixture.scratch.path("layout").display());
    for (fields, message) in [
        ("{\"tags\": [], \"repositories\": []}", "100 pages in a row"),
        (
            "{\"tags\": [\"v1\"], \"repositories\": [\"app\"]}",
            "two pages have the same names",
        ),
    ] {
        let registry = start_endless(fields);
        let host = registry.address().to_string();
        let app = format!("{host}/app");
        for (arguments, code) in [
            (vec!["ls", &host], 4),
            (vec!["ls", &app], 4),
            (vec!["mirror", &app, &layout], 3),
        ] {
            let outcome = fixture.run(&arguments);
            outcome.failed(code, &["the list does not end", message]);
        }
    }
}

#[test]
fn control_characters_in_json_are_escaped() {
    let fixture = LoginFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let address = server.address();
    let hostile = "\u{9b}31m\u{202e}\u{7f}\u{2028}";
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"a": hostile}},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let config = config.to_string();
    let app = RemoteRepository {
        address,
        repository: "app",
    };
    app.push_blob(config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(config.as_bytes()),
            "size": config.len(),
        },
        "layers": [],
    });
    app.push_manifest("v1", OCI_MANIFEST, manifest.to_string().as_bytes());
    let name = format!("{address}/app:v1");
    let shown = fixture
        .run(&["inspect", "--json", &name])
        .succeeded()
        .stdout;
    for c in hostile.chars().filter(|c| !c.is_ascii_graphic()) {
        assert!(!shown.contains(c), "{shown:?} contains {c:?}");
    }
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["config"]["config"]["Labels"]["a"], *hostile);
}

#[test]
fn several_tags_need_one_upload() {
    let fixture = LoginFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let host = server.address().to_string();
    let remote = format!("{host}/team/app:v1");
    let outcome = fixture.push(&["--tag", "v1.2", "--tag", "latest"], &remote);
    let outcome = outcome.succeeded();
    let (_, digest) = outcome.stdout.split_once('@').unwrap();
    let digest = digest.split(':').take(2).collect::<Vec<_>>().join(":");
    for tag in ["v1", "v1.2", "latest"] {
        let name = format!("{host}/team/app:{tag}");
        let found = fixture.run(&["inspect", "--json", &name]).succeeded();
        let found: Value = serde_json::from_str(&found.stdout).unwrap();
        assert_eq!(found["digest"], *digest, "{tag}");
    }
    fixture
        .push(&["--tag", "not a tag"], &remote)
        .failed(2, &["not a tag"]);
}

#[test]
fn a_registry_that_allows_no_deletion() {
    let fixture = LoginFixture::new();
    let (root, config) = (
        fixture.scratch.folder("root"),
        fixture.scratch.path("config.yml"),
    );
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\n\
         http: {{addr: '127.0.0.1:0'}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start_configured(&config, &root);
    let name = format!("{}/app:v1", server.address());
    fixture.push(&[], &name).succeeded();
    let outcome = fixture.run(&["rm", &name]);
    let outcome = outcome.failed(4, &["set storage.delete.enabled: true"]);
    assert!(!outcome.stderr.contains("every other tag"), "{outcome}");
}

#[test]
fn images_are_listed_inspected_and_deleted() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = LoginFixture::new();
    let server = Server::start(&fixture.scratch.folder("ours"));
    let root = fixture.scratch.folder("stock");
    let stock = StockRegistry::start_configured(&root, ", delete: {enabled: true}", "", "");
    for (host, deletes_by_tag) in [(server.address(), true), (stock.address(), false)] {
        let host = host.to_string();
        let name = |tag: &str| format!("{host}/team/app:{tag}");
        fixture.push(&["--tag", "v2"], &name("v1")).succeeded();
        fixture.push(&[], &format!("{host}/other:v1")).succeeded();
        let lines = |arguments: &[&str]| {
            let outcome = fixture.run(arguments).succeeded();
            let lines = outcome.stdout.lines().map(str::to_owned);
            lines.collect::<Vec<_>>()
        };
        let repository = format!("{host}/team/app");
        assert_eq!(lines(&["ls", &host]), ["other", "team/app"]);
        assert_eq!(lines(&["ls", &repository]), ["v1", "v2"]);
        fixture
            .run(&["ls", &format!("{host}/none")])
            .failed(4, &["no repository none"]);
        fixture.run(&["ls", &name("v1")]).failed(2, &["inspect"]);

        let raw = fixture.run(&["inspect", "--raw", &name("v1")]).succeeded();
        let manifest: Value = serde_json::from_str(&raw.stdout).unwrap();
        let digest = digest(raw.stdout.as_bytes());
        let long = lines(&["ls", "--long", &repository]);
        let fields: Vec<&str> = long[0].split('\t').collect();
        assert_eq!(
            (fields[0], fields[1], fields[3]),
            ("v1", &*digest, "linux/amd64")
        );
        let shown = lines(&["inspect", &name("v2")]).join("\n");
        for text in [&*digest, "linux/amd64", "1 layer", "[\"/none\"]"] {
            assert!(shown.contains(text), "{shown}");
        }
        let object = fixture.run(&["inspect", "--json", &name("v1")]).succeeded();
        let object: Value = serde_json::from_str(&object.stdout).unwrap();
        assert_eq!(
            object["images"][0]["layers"][0]["digest"],
            manifest["layers"][0]["digest"]
        );
        assert_eq!(object["config"]["config"]["Cmd"], json!(["/none"]));

        fixture.run(&["rm", &repository]).failed(
            2,
            &[
                "neither tag nor digest",
                &format!("rm --repository {repository}"),
            ],
        );
        fixture.run(&["rm", &name("none")]).failed(4, &[]);
        // A name that does not exist does not keep the next one.
        let (missing, next) = (name("none"), name("v1"));
        let names = [&*missing, &next];
        let removed = if deletes_by_tag {
            fixture.run(&[&["rm"], &names[..]].concat())
        } else {
            fixture.run(&["rm", &next])
        };
        if deletes_by_tag {
            removed.failed(7, &["none", "1 of 2 names were not deleted"]);
            assert_eq!(lines(&["ls", &repository]), ["v2"]);
            let by_digest = format!("{repository}@{digest}");
            fixture.run(&["rm", &by_digest]).succeeded();
            fixture
                .run(&["inspect", &by_digest])
                .failed(4, &["there is no"]);
        } else {
            let advice = format!("imgsync rm {repository}@{digest}");
            removed.failed(4, &["the single tag v1", "every other tag", &advice]);
            assert_eq!(lines(&["ls", &repository]), ["v1", "v2"]);
            fixture.run(&["rm", "--digest", &name("v1")]).succeeded();
            fixture
                .run(&["inspect", &name("v2")])
                .failed(4, &["there is no"]);
        }
    }
}

#[test]
fn manual_pages_are_written_into_a_new_folder() {
    let fixture = LoginFixture::new();
    let folder = fixture.scratch.path("share/man1");
    fixture.run(&["man", folder.to_str().unwrap()]).succeeded();
    for page in ["imgsync.1", "imgsync-push.1"] {
        assert!(folder.join(page).exists(), "{page}");
    }
    let file = fixture.scratch.path("file");
    std::fs::write(&file, "").unwrap();
    fixture
        .run(&["man", file.to_str().unwrap()])
        .failed(3, &["cannot write manual pages", "choose a folder"]);
}
