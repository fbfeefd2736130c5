//! What passes between tool and server stays as it was: tests/frozen/wire holds what an older tool
//! and an older server said to each other. Today's server answers that tool's requests as that
//! server did, and today's tool gets by with that server's answers and asks nothing that it did not
//! know. tests/old_and_new.sh runs the older programs themselves.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use crate::support::bytes::digest;
use crate::support::http::{self, Response};
use crate::support::older_server::{Answers, Gate, older, settle};
use crate::support::recorded::{frozen, htpasswd};
use crate::support::run::{run, wait_until};
use crate::support::transcript::{Exchange, NAMES, RECORDED_AT, kind, steps};
use crate::support::{Imgsync, Scratch, Server};

/// Headers of requests that say nothing of what is asked.
const UNASKED: [&str; 3] = ["content-length", "accept-encoding", "user-agent"];

/// The registries of the recording, empty, and in today's version.
struct Registries {
    servers: HashMap<&'static str, Server>,
}

impl Registries {
    fn start(scratch: &Scratch) -> Self {
        let users = htpasswd(scratch, &["alice"]);
        let start = |name: &'static str| {
            let root = scratch.path(name);
            let more = match name {
                "secured" => format!(
                    "auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n\
                     imgsync: {{anonymous: {{pull: [public/*]}}}}\n"
                ),
                _ => String::new(),
            };
            let config = format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}, delete: {{enabled: \
                 true}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{more}"
            );
            let path = scratch.path(&format!("{name}.yml"));
            std::fs::write(&path, config).unwrap();
            (name, Server::start_configured(&path, &root))
        };
        Self {
            servers: NAMES.into_iter().map(start).collect(),
        }
    }

    fn address(&self, name: &str) -> SocketAddr {
        self.servers[name].address()
    }
}

/// What the recording calls by other names than today's run does: sessions, tokens, addresses.
#[derive(Default)]
struct Names(Vec<(String, String)>);

impl Names {
    fn note(&mut self, recorded: &str, new: &str) {
        self.0.push((recorded.to_owned(), new.to_owned()));
    }

    fn today(&self, text: &str) -> String {
        let replace = |text: String, (old, new): &(String, String)| text.replace(old, new);
        self.0.iter().fold(text.to_owned(), replace)
    }

    /// Takes note of what an answer gave a name.
    fn learn(&mut self, recorded: &Exchange, today: &Response) {
        let old = recorded.answer_header("docker-upload-uuid");
        if let (Some(old), Some(new)) = (old, today.header("docker-upload-uuid")) {
            self.note(old, new);
        }
        let token = |body: &[u8]| {
            let answer: Value = serde_json::from_slice(body).ok()?;
            Some(answer["token"].as_str()?.to_owned())
        };
        let tokens = (token(&recorded.answer_body), token(&today.body));
        if let (Some(old), Some(new)) = tokens {
            self.note(&old, &new);
        }
    }
}

/// Panics unless an answer says all that was said before. Fields and headers may have come to it.
fn assert_answered(step: &str, recorded: &Exchange, today: &Response, names: &Names) {
    let Exchange { method, target, .. } = recorded;
    let about = format!("{step}: {method} {target}");
    assert_eq!(today.status, recorded.status, "{about}: {}", today.text());
    let is_json = recorded
        .answer_header("content-type")
        .is_some_and(|value| value == "application/json");
    for (name, value) in &recorded.answer_headers {
        if name == "content-length" && is_json {
            continue;
        }
        let expected = names.today(value);
        let found = today.header(name);
        assert_eq!(found, Some(expected.as_str()), "{about}: {name}");
    }
    if is_json && !recorded.answer_body.is_empty() {
        let before: Value = serde_json::from_slice(&recorded.answer_body).unwrap();
        assert_holds(&about, &before, &today.json(), names);
    } else {
        assert!(today.body == recorded.answer_body, "{about}: another body");
    }
}

/// Panics unless the JSON holds what it did before.
fn assert_holds(about: &str, before: &Value, today: &Value, names: &Names) {
    match (before, today) {
        (Value::Object(before), Value::Object(today)) => {
            for (name, value) in before {
                // Words for people, and the time of day.
                if ["message", "detail", "issued_at"].contains(&&**name) {
                    continue;
                }
                let about = format!("{about}: {name}");
                let found = today.get(name);
                let found = found.unwrap_or_else(|| panic!("{about} is missing"));
                assert_holds(&about, value, found, names);
            }
        }
        (Value::Array(before), Value::Array(today)) => {
            assert_eq!(before.len(), today.len(), "{about}");
            for (before, today) in before.iter().zip(today) {
                assert_holds(about, before, today, names);
            }
        }
        (Value::String(before), Value::String(today)) => {
            assert_eq!(&names.today(before), today, "{about}");
        }
        _ => assert_eq!(before, today, "{about}"),
    }
}

#[test]
fn a_newer_server_answers_an_older_tool_as_before() {
    let scratch = Scratch::new();
    let registries = Registries::start(&scratch);
    let mut names = Names::default();
    for (name, recorded) in RECORDED_AT {
        names.note(recorded, &registries.address(name).to_string());
    }
    for step in steps() {
        for recorded in &step.exchanges {
            let address = registries.address(&recorded.at);
            if recorded.target.ends_with("/resolve") {
                settle(address);
            }
            let headers: Vec<_> = recorded
                .headers
                .iter()
                .filter(|(name, _)| name != "content-length")
                .map(|(name, value)| (name.as_str(), names.today(value)))
                .collect();
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let target = names.today(&recorded.target);
            let Exchange { method, body, .. } = recorded;
            let today = http::send(address, method, &target, &headers, body);
            names.learn(recorded, &today);
            assert_answered(&step.name, recorded, &today, &names);
        }
    }
}

/// A request that changes something, or asks the extension: all that counts of it.
fn change(method: &str, target: &str, headers: &[(String, String)], body: &[u8]) -> Option<String> {
    if ["GET", "HEAD"].contains(&method) {
        return None;
    }
    let told: BTreeSet<_> = headers
        .iter()
        .filter(|(name, _)| !UNASKED.contains(&&**name))
        .filter(|(name, _)| !["host", "authorization", "connection"].contains(&&**name))
        .collect();
    let body = match serde_json::from_slice::<Value>(body) {
        Ok(mut question) if target.ends_with("/resolve") => {
            // In any order.
            if let Some(diff_ids) = question["diffIDs"].as_array_mut() {
                diff_ids.sort_by_key(Value::to_string);
            }
            question.to_string()
        }
        Ok(_) | Err(_) => digest(body),
    };
    Some(format!("{method} {} {told:?} {body}", nameless(target)))
}

/// A target without the name of its session.
fn nameless(target: &str) -> String {
    let Some((before, after)) = target.split_once("/blobs/uploads/") else {
        return target.to_owned();
    };
    let end = after.find('?').unwrap_or(after.len());
    let session = if end > 0 { "SESSION" } else { "" };
    format!("{before}/blobs/uploads/{session}{}", &after[end..])
}

fn words(value: &Value) -> Vec<String> {
    let words = value.as_array().into_iter().flatten();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_newer_tool_asks_an_older_server_as_before() {
    let scratch = Scratch::new();
    let registries = Registries::start(&scratch);
    let steps = steps();
    let (answers, gate) = (Arc::new(Answers::of(&steps)), Arc::new(Gate::default()));
    let fakes: HashMap<_, _> = NAMES
        .iter()
        .map(|name| (*name, older(&answers, registries.address(name), &gate)))
        .collect();
    let known: BTreeSet<_> = steps
        .iter()
        .flat_map(|step| step.exchanges.iter().map(Exchange::kind))
        .collect();
    let place = |mut word: String| {
        for (name, fake) in &fakes {
            word = word.replace(&format!("{{{name}}}"), &fake.address());
        }
        word.replace("{images}", frozen("images").to_str().unwrap())
    };
    let mut seen: HashMap<_, _> = NAMES.iter().map(|name| (*name, 0)).collect();
    for step in &steps {
        let about = &step.about;
        let Some(home) = about["home"].as_str() else {
            // What was put there by hand.
            for exchange in &step.exchanges {
                let headers = exchange.headers.iter();
                let headers: Vec<_> = headers
                    .filter(|(name, _)| name != "content-length")
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                let Exchange {
                    at,
                    method,
                    target,
                    body,
                    ..
                } = exchange;
                let done = http::send(registries.address(at), method, target, &headers, body);
                assert_eq!(done.status, exchange.status, "{}", done.text());
            }
            continue;
        };
        let mut command = Imgsync::new(&scratch.folder(home)).command();
        command.args(words(&about["arguments"]).into_iter().map(place));
        for (name, value) in about["environment"].as_object().unwrap() {
            command.env(name, value.as_str().unwrap());
        }
        let name = &step.name;
        match about["killed_at_patch"].as_u64() {
            Some(count) => killed(command, &gate, usize::try_from(count).unwrap()),
            None => {
                let outcome = run(&mut command);
                let code = about["code"]
                    .as_i64()
                    .and_then(|code| i32::try_from(code).ok());
                assert_eq!(outcome.code, code, "{name}: {outcome}");
            }
        }
        let mut changes: Vec<String> = Vec::new();
        for (registry, fake) in &fakes {
            let requests = fake.requests();
            let new = requests.iter().skip(seen[registry]);
            for request in new {
                let kind = kind(&request.method, &request.target);
                assert!(
                    known.contains(&kind),
                    "{name}: {kind} is new to an older server"
                );
                let (method, target) = (&request.method, &request.target);
                changes.extend(change(method, target, &request.headers, &request.body));
            }
            seen.insert(registry, requests.len());
        }
        let before = step.exchanges.iter();
        let mut before: Vec<_> = before
            .filter_map(|it| change(&it.method, &it.target, &it.headers, &it.body))
            .collect();
        if about["killed_at_patch"].is_u64() {
            // The one that was held up is not in the recording.
            changes.retain(|change| before.contains(change));
        }
        changes.sort();
        before.sort();
        assert_eq!(changes, before, "{name}");
    }
}

/// Runs until it sends the so manieth PATCH, and no further.
fn killed(mut command: Command, gate: &Gate, count: usize) {
    gate.close_at(Some(count));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until("the chunk before which it is killed", || {
        gate.is_reached().then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    gate.close_at(None);
}
