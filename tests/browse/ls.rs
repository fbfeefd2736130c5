//! Tests `imgsync ls` with `--long` and `--json`.

use serde_json::Value;

use super::{BrowseFixture, BuiltLayer, built_image, repository};
use crate::support::Terminal;
use crate::support::fake::{FakeServer, Reply, status};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, OCI_MANIFEST, index};

#[test]
fn repositories_are_listed_with_tags_sizes_and_times() {
    let Some(fixture) = BrowseFixture::new() else {
        return;
    };
    for (address, knows_pushes) in fixture.addresses().into_iter().zip([true, false]) {
        let host = address.to_string();
        let base: BuiltLayer<'_> = ("ADD root /", &[("base", &[7; 5000])]);
        let (first, second) = (
            built_image(&[base, ("COPY a /", &[("a", b"1")])], &Value::Null),
            built_image(&[base, ("COPY b /", &[("b", b"22")])], &Value::Null),
        );
        let app = repository(address, "team/app");
        let manifests = [
            app.push_image(Some("v1"), &first),
            app.push_image(Some("v2"), &second),
        ];
        let [a, b] = &manifests;
        let both = index(&[("linux/amd64", a), ("linux/arm64", b)]);
        app.push_manifest("both", OCI_INDEX, &both);
        repository(address, "other").push_image(Some("v1"), &first);

        let listed = fixture.json(&["ls", "--long", "--json", &host]);
        let names: Vec<_> = listed.iter().map(|row| &row["repository"]).collect();
        assert_eq!(names, ["other", "team/app"]);
        // The base layer and the parts of the index count once.
        let blobs: BTreeSet<Vec<u8>> = [&first, &second]
            .into_iter()
            .flat_map(|image| [image.compressed(), vec![image.config.clone()]].concat())
            .collect();
        let size: usize = blobs.iter().map(Vec::len).sum();
        assert_eq!(
            (&listed[1]["tags"], &listed[1]["size"]),
            (&3.into(), &size.into())
        );
        let time = listed[1]["pushed"]
            .as_str()
            .or(listed[1]["created"].as_str());
        assert_eq!(listed[1]["pushed"].is_string(), knows_pushes, "{listed:?}");
        if !knows_pushes {
            assert_eq!(listed[1]["created"], "2023-11-14T22:13:20Z");
        }

        let text = fixture.run(&["ls", "--long", &host]).succeeded().stdout;
        let line = text.lines().nth(1).unwrap();
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!((fields[0], fields[1]), ("team/app", "3"));
        let word = if knows_pushes { "pushed" } else { "created" };
        assert_eq!(fields[3], format!("{word} {}", time.unwrap()));

        let mut on_terminal = fixture.imgsync.command();
        on_terminal.args(["ls", "--long", &host]);
        let (_, screen) = Terminal::start(on_terminal, 10, 100).wait();
        let starts = screen.lines().map(|line| line.find(word));
        assert_eq!(starts.collect::<Vec<_>>(), [Some(29), Some(29)], "{screen}");

        let tags = fixture.json(&["ls", "--long", "--json", &format!("{host}/team/app")]);
        // The stock registry does not sort tags.
        let tag = tags.iter().find(|tag| tag["tag"] == "both").unwrap();
        assert_eq!(
            tag["platforms"],
            serde_json::json!(["linux/amd64", "linux/arm64"])
        );
        assert_eq!(tag["digest"], digest(&both));
        assert_eq!(tag["pushed"].is_string(), knows_pushes);
        let short = fixture.json(&["ls", "--json", &format!("{host}/team/app")]);
        assert!(
            short.contains(&serde_json::json!({"tag": "v2"})),
            "{short:?}"
        );
    }
}

/// Starts a registry with three repositories without tags; the lists of these are refused.
fn start_refusing(refused: &'static [&'static str]) -> FakeServer {
    FakeServer::start(move |request| {
        let target = request.target.split('?').next().unwrap_or_default();
        match target {
            "/v2/" => status(200),
            "/v2/_catalog" => status(200).body(r#"{"repositories": ["a", "b", "c"]}"#),
            _ if refused
                .iter()
                .any(|name| target == format!("/v2/{name}/tags/list")) =>
            {
                status(403).body(r#"{"errors": [{"code": "DENIED", "message": "not yours"}]}"#)
            }
            _ => status(200).body(r#"{"name": "x", "tags": null}"#),
        }
    })
}

#[test]
fn a_repository_that_cannot_be_read_does_not_end_the_list() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let registry = start_refusing(&["b"]);
    let outcome = run(imgsync
        .command()
        .args(["ls", "--long", &registry.address()]));
    let outcome = outcome.failed(7, &["not yours", "1 of 3 repositories could not be read"]);
    let names: Vec<_> = outcome.stdout.lines().collect();
    assert_eq!(names, ["a\t0\t0 B\t", "b\t(error)\t\t", "c\t0\t0 B\t"]);

    let registry = start_refusing(&["a", "b", "c"]);
    let outcome = run(imgsync
        .command()
        .args(["ls", "--long", "--json", &registry.address()]));
    let outcome = outcome.failed(5, &["3 of 3 repositories"]);
    let first: Value = serde_json::from_str(outcome.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["repository"], "a");
    assert!(
        first["error"].as_str().unwrap().contains("not yours"),
        "{first}"
    );
}

/// Starts a registry with the tags `a`, `b` and `c`; the config of `b` gets another answer.
fn start_with_config(answer: impl Fn() -> Reply + Send + Sync + 'static) -> FakeServer {
    let config = |tag: &str| format!(r#"{{"os": "linux", "architecture": "{tag}"}}"#);
    FakeServer::start(move |request| {
        let target = request.target.split('?').next().unwrap_or_default();
        if target == "/v2/_catalog" {
            return status(200).body(r#"{"repositories": ["app"]}"#);
        }
        if target == "/v2/app/tags/list" {
            return status(200).body(r#"{"name": "app", "tags": ["a", "b", "c"]}"#);
        }
        if let Some(tag) = target.strip_prefix("/v2/app/manifests/") {
            let bytes = config(tag);
            let (digest, size) = (digest(bytes.as_bytes()), bytes.len());
            let manifest = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest,
                    "size": size,
                },
                "layers": [],
            });
            return status(200)
                .header("Content-Type", OCI_MANIFEST)
                .body(manifest.to_string());
        }
        let tags = ["a", "b", "c"].into_iter();
        let mut tags = tags.filter(|tag| target.ends_with(&digest(config(tag).as_bytes())));
        match tags.next() {
            Some("b") => answer(),
            Some(tag) => status(200).body(config(tag)),
            None => status(200),
        }
    })
}

#[test]
fn a_tag_whose_config_cannot_be_read_is_an_error() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let list = |registry: &FakeServer, name: &str| {
        let name = format!("{}{name}", registry.address());
        run(imgsync.command().args(["ls", "--long", &name]))
    };
    let denied = r#"{"errors": [{"code": "DENIED", "message": "not yours"}]}"#;
    for (registry, words) in [
        (
            start_with_config(move || status(403).body(denied)),
            "not yours",
        ),
        (start_with_config(|| status(200).body("{}")), "digest"),
    ] {
        let outcome = list(&registry, "/app");
        let outcome = outcome.failed(7, &[words, "1 of 3 tags could not be read"]);
        let lines: Vec<_> = outcome.stdout.lines().collect();
        assert!(lines[0].ends_with("\tlinux/a\t"), "{outcome}");
        assert_eq!(lines[1], "b\t(error)\t\t\t");
        assert_eq!(lines.len(), 3);
        // The size of the repository would lack this tag.
        let outcome = list(&registry, "");
        let code = outcome.code.unwrap();
        let outcome = outcome.failed(code, &[words, "1 of 1 repositories"]);
        assert_eq!(outcome.stdout, "app\t(error)\t\t\n");
        assert_ne!(code, 0);
    }
    let registry = start_with_config(|| status(429).header("Retry-After", "0"));
    let outcome = list(&registry, "/app").failed(4, &["429", "limits the request rate"]);
    assert!(!outcome.stdout.contains("\nb\t"), "{outcome}");
    assert!(!outcome.stdout.contains("unreadable"), "{outcome}");
}
