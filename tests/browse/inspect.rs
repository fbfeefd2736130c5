//! Tests `imgsync inspect` with the history of the layers.

use serde_json::{Value, json};

use super::{BrowseFixture, built_image, repository};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, index};

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
