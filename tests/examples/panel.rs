//! Tests that the folder for 1Panel has what 1Panel requires of a local app.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::document::{read, top};
use crate::support::prelude::*;

const APP: &str = "examples/1panel/imgsync-server";

/// The names of the folders of 1Panel are the versions of the images.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The file `data.yml` of the app or of a version.
#[derive(Deserialize)]
struct Data<T> {
    #[serde(rename = "additionalProperties")]
    properties: T,
}

#[derive(Deserialize)]
struct AppProperties {
    key: String,
    name: String,
    tags: Vec<String>,
    #[serde(rename = "shortDescZh")]
    short_chinese: String,
    #[serde(rename = "shortDescEn")]
    short_english: String,
    #[serde(rename = "type")]
    kind: String,
    architectures: Vec<String>,
}

#[derive(Deserialize)]
struct Form {
    #[serde(rename = "formFields")]
    fields: Vec<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    networks: BTreeMap<String, Network>,
}

#[derive(Deserialize)]
struct Service {
    image: String,
    container_name: String,
    networks: Vec<String>,
    ports: Vec<String>,
    environment: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Network {
    external: bool,
}

fn parse<T: serde::de::DeserializeOwned>(path: &str) -> T {
    let text = read(&format!("{APP}/{path}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn in_version(name: &str) -> String {
    format!("{VERSION}/{name}")
}

/// Returns the names of the variables in a compose file: `${NAME}`.
fn variables(text: &str) -> BTreeSet<String> {
    let names = text.split("${").skip(1);
    names
        .map(|rest| rest.split_once('}').expect("a closing brace").0.to_owned())
        .collect()
}

#[test]
fn the_app_has_the_files_and_the_keys_that_the_panel_reads() {
    let data: Data<AppProperties> = parse("data.yml");
    let app = data.properties;
    assert_eq!(APP.rsplit('/').next(), Some(&*app.key));
    assert!(!app.name.is_empty() && !app.short_chinese.is_empty());
    assert!(!app.short_english.is_empty());
    assert_eq!(
        (app.kind.as_str(), app.tags),
        ("tool", vec!["DevOps".to_owned()])
    );
    assert_eq!(app.architectures, ["amd64", "arm64"]);
    let logo = std::fs::read(top().join(APP).join("logo.png")).unwrap();
    assert!(logo.starts_with(b"\x89PNG\r\n\x1a\n"));
    let size = |at: usize| u32::from_be_bytes(logo[at..at + 4].try_into().unwrap());
    assert_eq!((size(16), size(20)), (180, 180));
}

#[test]
fn every_field_of_the_form_is_used() {
    let data: Data<Form> = parse(&in_version("data.yml"));
    let mut names = BTreeSet::new();
    for field in &data.properties.fields {
        // 1Panel refuses a field with an empty value.
        assert!(field.values().all(|value| !value.is_null()), "{field:?}");
        let name = field["envKey"].as_str().unwrap();
        assert!(!name.contains(' '), "{name}");
        assert!(names.insert(name.to_owned()), "{name} twice");
    }
    let compose = variables(&read(&format!(
        "{APP}/{}",
        in_version("docker-compose.yml")
    )));
    let script = read(&format!("{APP}/{}", in_version("scripts/init.sh")));
    for name in &names {
        let is_used = compose.contains(name) || script.contains(name.as_str());
        assert!(is_used, "nothing uses the field {name}");
    }
    // The panel sets this variable itself.
    names.insert("CONTAINER_NAME".to_owned());
    assert!(compose.is_subset(&names), "{compose:?} {names:?}");
}

#[test]
fn the_compose_file_follows_the_rules_of_the_panel() {
    let compose: Compose = parse(&in_version("docker-compose.yml"));
    let service = &compose.services["imgsync-server"];
    assert_eq!(service.image, format!("imgsync-server:{VERSION}"));
    assert_eq!(service.container_name, "${CONTAINER_NAME}");
    assert_eq!(service.networks, ["1panel-network"]);
    assert!(compose.networks["1panel-network"].external);
    // The panel puts the address of the host before the port.
    assert_eq!(service.ports, ["${PANEL_APP_PORT_HTTP}:5000"]);
    let path = &service.environment["REGISTRY_AUTH_HTPASSWD_PATH"];
    assert_eq!(path, "/auth/htpasswd");
}
