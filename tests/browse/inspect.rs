//! Tests `imgsync inspect` with the history of the layers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::{BrowseFixture, built_image, repository};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, OCI_MANIFEST, index};

#[test]
fn layers_are_shown_with_their_diff_ids_and_commands() {
    let Some(fixture) = BrowseFixture::new() else {
        return;
    };
    let image = built_image(
        &[
            ("ADD root /", &[("base", b"1")]),
            ("RUN make \u{1b}[2J all", &[("made", b"2")]),
        ],
        &json!({"Cmd": ["/app"]}),
    );
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| digest(layer)).collect();
    let blobs = image.compressed();
    for address in fixture.addresses() {
        let app = repository(address, "app");
        let manifest = app.push_image(Some("v1"), &image);
        app.push_manifest("multi", OCI_INDEX, &index(&[("linux/amd64", &manifest)]));
        for tag in ["v1", "multi"] {
            let name = format!("{address}/app:{tag}");
            let object = fixture.json(&["inspect", "--json", &name]).remove(0);
            let image = &object["images"][0];
            let layer = &image["layers"][1];
            assert_eq!(layer["digest"], digest(&blobs[1]));
            assert_eq!(layer["diffID"], *diff_ids[1]);
            assert_eq!(layer["createdBy"], "RUN make \u{1b}[2J all");
            let steps = image["history"].as_array().unwrap();
            assert_eq!(steps.len(), 3);
            assert_eq!(
                (&steps[0]["createdBy"], &steps[0]["layer"]),
                (&json!("ENV STEP=none"), &Value::Null)
            );
            assert_eq!(steps[2]["size"], blobs[1].len());

            let text = fixture.run(&["inspect", &name]).succeeded().stdout;
            for expected in [
                format!("    diffID     {}", diff_ids[1]),
                "    created by ADD root /".to_owned(),
                "    created by RUN make \u{fffd}[2J all".to_owned(),
            ] {
                assert!(
                    text.lines().any(|line| line == expected),
                    "{expected}\n{text}"
                );
            }
        }
    }
}

/// Starts a registry with one manifest. Its first response ends before the body is complete.
fn start_cutting(manifest: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty());
            assert!(request.count() > 0);
            let sent = if number == 0 {
                &manifest[..9]
            } else {
                manifest
            };
            let length = manifest.len();
            let response = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {OCI_MANIFEST}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{sent}"
            );
            stream.write_all(response.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_manifest_is_fetched_again_after_its_body_was_cut() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let manifest = r#"{"schemaVersion": 2, "layers": []}"#;
    let name = format!("{}/app:v1", start_cutting(manifest));
    let outcome = run(imgsync.command().args(["inspect", "--raw", &name])).succeeded();
    assert_eq!(outcome.stdout, manifest);
}
