//! Tests `imgsync ls` with `--long` and `--json`.

use serde_json::Value;

use super::{BrowseFixture, BuiltLayer, built_image, repository};
use crate::support::fake::{FakeServer, status};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, index};

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
    assert_eq!(names, ["a\t0\t0 B\t", "b\t(unreadable)\t\t", "c\t0\t0 B\t"]);

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
