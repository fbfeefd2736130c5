//! Reads the recorded HTTP exchanges between an older tool and an older server
//! (`tests/frozen/wire`).

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::recorded::{REGISTRY, SOURCE, STREAM, frozen_path};

/// The names of the registries in the recording.
pub const NAMES: [&str; 3] = ["registry", "source", "secured"];
/// The addresses of the registries in the recording.
pub const RECORDED_ADDRESSES: [(&str, &str); 3] = [
    ("registry", REGISTRY),
    ("source", SOURCE),
    ("secured", STREAM),
];

/// Headers of every request, which the recording omits.
const REQUEST_HEADERS: [(&str, &str); 2] = [("user-agent", "imgsync/0.1.0"), ("accept", "*/*")];
/// Headers of every response, which the recording omits.
const RESPONSE_HEADERS: [(&str, &str); 1] = [("docker-distribution-api-version", "registry/2.0")];

/// A recorded command of the tool, with its HTTP exchanges.
pub struct RecordedCommand {
    pub name: String,
    /// Arguments, home folder, environment and exit code of the command.
    pub description: Value,
    pub exchanges: Vec<Exchange>,
}

/// A request and its response.
pub struct Exchange {
    /// The name of the registry.
    pub registry: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub status: u16,
    pub response_headers: Vec<(String, String)>,
    pub response_body: Vec<u8>,
}

/// Returns all recorded commands in their order.
pub fn recorded_commands() -> Vec<RecordedCommand> {
    let mut files: Vec<_> = std::fs::read_dir(frozen_path("wire"))
        .expect("the recording")
        .map(|entry| entry.expect("the recording").path())
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path).expect("the recording");
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("the recording"));
        let description: Value = lines.next().expect("the recording");
        RecordedCommand {
            name: description["step"]
                .as_str()
                .expect("the recording")
                .to_owned(),
            exchanges: lines.map(|line| Exchange::read(&line)).collect(),
            description,
        }
    };
    files.into_iter().map(read).collect()
}

fn headers(message: &Value) -> Vec<(String, String)> {
    let headers = message["headers"]
        .as_object()
        .expect("the recording")
        .iter();
    let headers = headers.map(|(name, value)| {
        (
            name.clone(),
            value.as_str().expect("the recording").to_owned(),
        )
    });
    headers.collect()
}

impl Exchange {
    fn read(value: &Value) -> Self {
        let (request, response) = (&value["request"], &value["answer"]);
        let text = |value: &Value| value.as_str().expect("the recording").to_owned();
        let body = |value: &Value| match (&value["text"], &value["base64"]) {
            (Value::String(text), _) => text.clone().into_bytes(),
            (_, Value::String(base64)) => STANDARD.decode(base64).expect("the recording"),
            _ => Vec::new(),
        };
        let mut request_headers = headers(request);
        for (name, value) in REQUEST_HEADERS {
            if request_headers.iter().all(|(header, _)| header != name) {
                request_headers.push((name.to_owned(), value.to_owned()));
            }
        }
        let omitted = RESPONSE_HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            registry: text(&value["at"]),
            method: text(&request["method"]),
            target: text(&request["target"]),
            headers: request_headers,
            body: body(request),
            status: u16::try_from(response["status"].as_u64().expect("the recording"))
                .expect("the recording"),
            response_headers: headers(response).into_iter().chain(omitted).collect(),
            response_body: body(response),
        }
    }

    /// Returns a header of the response.
    pub fn response_header(&self, name: &str) -> Option<&str> {
        let mut headers = self.response_headers.iter();
        let (_, value) = headers.find(|(header, _)| header == name)?;
        Some(value)
    }

    pub fn kind(&self) -> String {
        request_kind(&self.method, &self.target)
    }
}

/// Returns the method and the path of a request, without repository, digest, tag and session.
pub fn request_kind(method: &str, target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let kinds = [
        ("/blobs/uploads/", "blobs/uploads"),
        ("/blobs/", "blobs"),
        ("/manifests/", "manifests"),
        ("/referrers/", "referrers"),
        ("/tags/list", "tags/list"),
        ("/_imgsync/layers/resolve", "_imgsync/layers/resolve"),
    ];
    let found = kinds.iter().find(|(part, _)| path.contains(part));
    format!("{method} {}", found.map_or(path, |(_, kind)| kind))
}
