//! Tests `imgsync diff`.

use serde_json::{Value, json};

use super::{BrowseFixture, BuiltLayer, built_image, repository};
use crate::support::meddler::{response, start_meddler};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, index};

const BASE: BuiltLayer<'static> = (
    "ADD root /",
    &[("etc/base", &[1; 900]), ("usr/bin/tool", &[2; 900])],
);

fn old_image() -> Image {
    let app: BuiltLayer<'_> = (
        "COPY app /",
        &[
            ("app/same", &[3; 800]),
            ("app/main", &[4; 800]),
            ("app/old", &[5; 800]),
        ],
    );
    let config = json!({"Env": ["A=1", "B=2"], "Entrypoint": ["/app/main"]});
    built_image(&[BASE, app], &config)
}

/// Returns an image in which a layer was built again, and a file of the base was deleted.
fn new_image() -> Image {
    let app: BuiltLayer<'_> = (
        "COPY app /",
        &[
            ("app/same", &[3; 800]),
            ("app/main", &[9; 850]),
            ("app/new\u{1b}[2J", &[6; 800]),
            ("usr/bin/.wh.tool", b""),
            ("etc/base", &[1; 900]),
        ],
    );
    let config = json!({
        "Env": ["A=1", "B=3"],
        "Entrypoint": ["/app/main"],
        "Labels": {"version": "2"},
    });
    built_image(&[BASE, app], &config)
}

#[test]
fn layers_config_and_files_are_compared() {
    let Some(fixture) = BrowseFixture::new() else {
        return;
    };
    for (address, lists_files) in fixture.addresses().into_iter().zip([true, false]) {
        let app = repository(address, "app");
        app.push_image(Some("v1"), &old_image());
        app.push_image(Some("v2"), &new_image());
        let (old, new) = (format!("{address}/app:v1"), format!("{address}/app:v2"));
        let object = fixture.json(&["diff", "--json", &old, &new]).remove(0);
        assert_eq!(object["identical"], false);
        let image = &object["images"][0];
        assert_eq!(image["platform"], "linux/amd64");
        let layers = image["layers"].as_array().unwrap();
        let statuses: Vec<_> = layers.iter().map(|layer| &layer["status"]).collect();
        assert_eq!(statuses, ["removed", "same", "added"]);
        assert_eq!(layers[2]["digest"], digest(&new_image().compressed()[1]));
        assert_eq!(layers[2]["createdBy"], "COPY app /");
        let config = image["config"].as_array().unwrap();
        assert_eq!(
            config[0],
            json!({"field": "Env", "key": "B", "before": "2", "after": "3"})
        );
        assert_eq!(
            (&config[1]["field"], &config[1]["key"]),
            (&json!("Labels"), &json!("version"))
        );
        assert_eq!(config.len(), 2);

        // A tag alone is one of the same repository.
        let text = fixture.run(&["diff", &old, "v2"]).succeeded().stdout;
        assert!(text.contains("\n-   Env B = 2\n+   Env B = 3\n"), "{text}");
        let files = &image["files"];
        if !lists_files {
            assert_eq!(files["compared"], false, "{files}");
            assert!(text.contains("files: not compared: "), "{text}");
            assert!(text.contains("imgsync-server does"), "{text}");
            continue;
        }
        let changes = files["changes"].as_array().unwrap();
        let changes: Vec<_> = changes
            .iter()
            .map(|change| {
                (
                    change["status"].as_str().unwrap(),
                    change["path"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            changes,
            [
                ("changed", "/app/main"),
                ("added", "/app/new\u{1b}[2J"),
                ("removed", "/app/old"),
                ("removed", "/usr/bin/tool"),
            ]
        );
        assert_eq!(files["changes"][0]["after"]["size"], 850);
        for line in [
            "  files: 1 added, 2 removed, 1 changed",
            "~   /app/main  800 B -> 850 B",
            "+   /app/new\u{fffd}[2J  800 B",
            "-   /usr/bin/tool  900 B",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let without = fixture.json(&["diff", "--json", "--no-files", &old, &new]);
        assert_eq!(without[0]["images"][0]["files"]["compared"], false);
    }
}

#[test]
fn images_of_both_kinds_of_registries_and_of_each_platform_are_compared() {
    let Some(fixture) = BrowseFixture::new() else {
        return;
    };
    let [ours, stock] = fixture.addresses();
    let app = repository(ours, "app");
    let [old, new] = [old_image(), new_image()].map(|image| app.push_image(None, &image));
    app.push_manifest(
        "v1",
        OCI_INDEX,
        &index(&[("linux/amd64", &old), ("linux/arm64", &old)]),
    );
    app.push_manifest(
        "v2",
        OCI_INDEX,
        &index(&[("linux/arm64", &new), ("linux/s390x", &new)]),
    );
    let (v1, v2) = (format!("{ours}/app:v1"), format!("{ours}/app:v2"));
    let object = fixture.json(&["diff", "--json", &v1, &v2]).remove(0);
    let images = object["images"].as_array().unwrap();
    let sides: Vec<_> = images
        .iter()
        .map(|image| {
            (
                image["platform"].as_str().unwrap(),
                image["a"].is_null(),
                image["b"].is_null(),
            )
        })
        .collect();
    assert_eq!(
        sides,
        [
            ("linux/arm64", false, false),
            ("linux/s390x", true, false),
            ("linux/amd64", false, true),
        ]
    );
    assert_eq!(images[0]["files"]["total"], 4);
    let one = ["diff", "--json", "--platform", "linux/arm64", &v1, &v2];
    assert_eq!(fixture.json(&one)[0]["images"].as_array().unwrap().len(), 1);
    let none = ["diff", "--platform", "linux/ppc64le", &v1, &v2];
    fixture.run(&none).failed(4, &["linux/ppc64le"]);

    // The other registry does not tell the files, and the image is the same.
    let elsewhere = format!("{stock}/app:v1");
    repository(stock, "app").push_image(Some("v1"), &old_image());
    let same = format!("{ours}/app@{}", digest(&old));
    let text = fixture.run(&["diff", &same, &elsewhere]).succeeded().stdout;
    assert!(text.contains("are the same image"), "{text}");
    let object: Value = fixture
        .json(&["diff", "--json", &same, &elsewhere])
        .remove(0);
    assert_eq!(
        (&object["identical"], &object["images"]),
        (&json!(true), &json!([]))
    );
}

#[test]
fn no_list_is_read_if_all_layers_are_the_same() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    let app = repository(server.address(), "app");
    for (tag, variable) in [("v1", "A=1"), ("v2", "A=2")] {
        let image = built_image(&[BASE], &json!({"Env": [variable]}));
        app.push_image(Some(tag), &image);
    }
    let registry = start_meddler(server.address(), |request, forward| {
        assert!(!request.target.ends_with("/index"), "{}", request.target);
        forward()
    });
    let names = ["v1", "v2"].map(|tag| format!("{}/app:{tag}", registry.address()));
    let outcome = run(imgsync.command().arg("diff").args(&names)).succeeded();
    assert!(outcome.stdout.contains("Env A = 2"), "{outcome}");
    let files = "  files: 0 added, 0 removed, 0 changed\n";
    assert!(outcome.stdout.ends_with(files), "{outcome}");
}

#[test]
fn the_rest_is_compared_without_the_list_of_files() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    let app = repository(server.address(), "app");
    app.push_image(Some("v1"), &old_image());
    app.push_image(Some("v2"), &new_image());
    let registry = start_meddler(server.address(), |request, forward| {
        if !request.target.ends_with("/index") {
            return forward();
        }
        let mut response = response(429, "");
        let retry_after = ("retry-after".to_owned(), "0".to_owned());
        response.headers.push(retry_after);
        response
    });
    let names = ["v1", "v2"].map(|tag| format!("{}/app:{tag}", registry.address()));
    let outcome = run(imgsync.command().arg("diff").args(&names)).succeeded();
    for part in ["Env B = 3", "COPY app /", "  files: not compared: ", "429"] {
        assert!(outcome.stdout.contains(part), "{part}: {outcome}");
    }
    let outcome = run(imgsync.command().args(["diff", "--json"]).args(&names)).succeeded();
    let object: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let files = &object["images"][0]["files"];
    assert_eq!(files["compared"], false);
    assert!(files["reason"].as_str().unwrap().contains("429"), "{files}");
}

#[test]
fn children_that_were_not_read_and_other_manifests_are_named() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    let app = repository(server.address(), "app");
    let [old, new] = [old_image(), new_image()].map(|image| app.push_image(None, &image));
    let push = |tag: &str, children: &[(&str, &[u8])]| {
        let bytes = index(children);
        app.push_manifest(tag, OCI_INDEX, &bytes);
        bytes
    };
    let nested = push("nested", &[("linux/amd64", &new)]);
    push("a", &[("linux/amd64", &old), ("linux/arm64", &old)]);
    push("b", &[("linux/amd64", &new), ("linux/arm64", &nested)]);
    push(
        "c",
        &[
            ("linux/amd64", &old),
            ("linux/arm64", &old),
            ("unknown/unknown", &new),
        ],
    );
    let missing = format!("/manifests/{}", digest(&new));
    let registry = start_meddler(server.address(), move |request, forward| {
        if request.target.ends_with(&missing) {
            return response(404, "");
        }
        forward()
    });
    let name = |tag: &str| format!("{}/app:{tag}", registry.address());
    let diff = |arguments: &[&str]| {
        let (a, b) = (name(arguments[0]), name(arguments[1]));
        let mut command = imgsync.command();
        run(command.args(["diff", &a, &b]).args(&arguments[2..]))
            .succeeded()
            .stdout
    };
    let text = diff(&["a", "b"]);
    for line in [
        "linux/amd64: not compared (B: not in this registry)",
        "linux/arm64: not compared (B: nested index)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let object: Value = serde_json::from_str(&diff(&["a", "b", "--json"])).unwrap();
    let arm = &object["images"][1];
    let reason = (&arm["compared"], &arm["reason"]);
    assert_eq!(reason, (&json!(false), &json!("B: nested index")));

    let text = diff(&["a", "c"]);
    assert!(
        text.contains("\nthe images are the same; other manifests"),
        "{text}"
    );
    assert!(text.contains("\nlinux/arm64: the same\n"), "{text}");
    assert!(!diff(&["a", "b"]).contains("other manifests"));

    let shown = run(imgsync.command().args(["inspect", &name("b")])).succeeded();
    for part in ["(not in this registry)", "(nested index)"] {
        assert!(shown.stdout.contains(part), "{shown}");
    }
}

#[test]
fn the_number_of_compared_platforms_is_bounded() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let server = Server::start(&scratch.folder("root"));
    let app = repository(server.address(), "app");
    let platforms: Vec<_> = (0..34).map(|number| format!("linux/cpu{number}")).collect();
    for (tag, image) in [("v1", old_image()), ("v2", new_image())] {
        let manifest = app.push_image(None, &image);
        let children = platforms.iter().map(|platform| (&**platform, &*manifest));
        app.push_manifest(tag, OCI_INDEX, &index(&children.collect::<Vec<_>>()));
    }
    let names = ["v1", "v2"].map(|tag| format!("{}/app:{tag}", server.address()));
    let outcome = run(imgsync.command().args(["diff", "--json"]).args(&names)).succeeded();
    let object: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let images = object["images"].as_array().unwrap();
    let compared = images
        .iter()
        .filter(|image| image["files"]["compared"] == true);
    assert_eq!((compared.count(), images.len()), (32, 34));
    assert_eq!(images[33]["compared"], false);
    let reason = images[33]["reason"].as_str().unwrap();
    assert!(reason.contains("--platform"), "{reason}");
}
