//! What a tool and a server once said to each other: the files of tests/frozen/wire.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::recorded::{REGISTRY, SOURCE, STREAM, frozen};

/// The registries of the recording.
pub const NAMES: [&str; 3] = ["registry", "source", "secured"];
pub const RECORDED_AT: [(&str, &str); 3] = [
    ("registry", REGISTRY),
    ("source", SOURCE),
    ("secured", STREAM),
];

/// What the recording leaves out, since it is in every request and answer.
const ALWAYS_ASKED: [(&str, &str); 2] = [("user-agent", "imgsync/0.1.0"), ("accept", "*/*")];
const ALWAYS_ANSWERED: [(&str, &str); 1] = [("docker-distribution-api-version", "registry/2.0")];

/// What the tool was told to do once, and what passed then.
pub struct Step {
    pub name: String,
    /// The words of the command, the home that it ran in, and so on.
    pub about: Value,
    pub exchanges: Vec<Exchange>,
}

/// A request and its answer.
pub struct Exchange {
    pub at: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub status: u16,
    pub answer_headers: Vec<(String, String)>,
    pub answer_body: Vec<u8>,
}

pub fn steps() -> Vec<Step> {
    let mut files: Vec<_> = std::fs::read_dir(frozen("wire"))
        .expect("the recording")
        .map(|entry| entry.expect("the recording").path())
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path).expect("the recording");
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("the recording"));
        let about: Value = lines.next().expect("the recording");
        Step {
            name: about["step"].as_str().expect("the recording").to_owned(),
            exchanges: lines.map(|line| Exchange::read(&line)).collect(),
            about,
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
        let (request, answer) = (&value["request"], &value["answer"]);
        let text = |value: &Value| value.as_str().expect("the recording").to_owned();
        let body = |value: &Value| match (&value["text"], &value["base64"]) {
            (Value::String(text), _) => text.clone().into_bytes(),
            (_, Value::String(base64)) => STANDARD.decode(base64).expect("the recording"),
            _ => Vec::new(),
        };
        let mut asked = headers(request);
        for (name, value) in ALWAYS_ASKED {
            if asked.iter().all(|(own, _)| own != name) {
                asked.push((name.to_owned(), value.to_owned()));
            }
        }
        let always = ALWAYS_ANSWERED.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            at: text(&value["at"]),
            method: text(&request["method"]),
            target: text(&request["target"]),
            headers: asked,
            body: body(request),
            status: u16::try_from(answer["status"].as_u64().expect("the recording"))
                .expect("the recording"),
            answer_headers: headers(answer).into_iter().chain(always).collect(),
            answer_body: body(answer),
        }
    }

    pub fn answer_header(&self, name: &str) -> Option<&str> {
        let found = self.answer_headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn kind(&self) -> String {
        kind(&self.method, &self.target)
    }
}

/// Which request this is: method and path, without what it is about.
pub fn kind(method: &str, target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let kinds = [
        ("/blobs/uploads/", "blobs/uploads"),
        ("/blobs/", "blobs"),
        ("/manifests/", "manifests"),
        ("/referrers/", "referrers"),
        ("/tags/list", "tags/list"),
        ("/_imgsync/layers/resolve", "_imgsync/layers/resolve"),
    ];
    let known = kinds.iter().find(|(part, _)| path.contains(part));
    format!("{method} {}", known.map_or(path, |(_, kind)| kind))
}
