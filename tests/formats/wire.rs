//! Tests the protocol against the recorded exchanges of an older tool and an older server
//! (`tests/frozen/wire`): the current server must respond to the recorded requests as the older one
//! did, and the current tool must work with the recorded responses and send no request that the
//! older server does not know. `tests/old_and_new.sh` runs the older programs themselves.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use crate::support::bytes::digest;
use crate::support::http::{self, Response};
use crate::support::older_server::{
    PatchGate, RecordedResponses, start_older_server, wait_for_diff_ids,
};
use crate::support::recorded::{frozen_path, write_htpasswd};
use crate::support::run::{run, wait_until};
use crate::support::transcript::{
    Exchange, NAMES, RECORDED_ADDRESSES, recorded_commands, request_kind,
};
use crate::support::{Imgsync, Scratch, Server};

/// Request headers that do not change the meaning of a request.
const IGNORED_HEADERS: [&str; 3] = ["content-length", "accept-encoding", "user-agent"];

/// Empty current servers with the names of the recorded registries.
struct Registries {
    servers: HashMap<&'static str, Server>,
}

impl Registries {
    fn start(scratch: &Scratch) -> Self {
        let users = write_htpasswd(scratch, &["alice"]);
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

/// Values that differ between the recording and this run, such as sessions, tokens and addresses.
/// Each entry has the recorded and the current value.
#[derive(Default)]
struct Replacements(Vec<(String, String)>);

impl Replacements {
    fn add(&mut self, recorded: &str, current: &str) {
        self.0.push((recorded.to_owned(), current.to_owned()));
    }

    fn apply(&self, text: &str) -> String {
        let replace =
            |text: String, (recorded, current): &(String, String)| text.replace(recorded, current);
        self.0.iter().fold(text.to_owned(), replace)
    }

    /// Adds the session and the token of a response.
    fn add_from_response(&mut self, recorded: &Exchange, current: &Response) {
        let header = "docker-upload-uuid";
        let sessions = (recorded.response_header(header), current.header(header));
        if let (Some(recorded), Some(current)) = sessions {
            self.add(recorded, current);
        }
        let token = |body: &[u8]| {
            let body: Value = serde_json::from_slice(body).ok()?;
            Some(body["token"].as_str()?.to_owned())
        };
        let tokens = (token(&recorded.response_body), token(&current.body));
        if let (Some(recorded), Some(current)) = tokens {
            self.add(&recorded, &current);
        }
    }
}

/// Panics unless a response contains everything that the recorded one does. It may have more
/// headers and JSON fields.
fn assert_response(
    command: &str,
    recorded: &Exchange,
    current: &Response,
    replacements: &Replacements,
) {
    let Exchange { method, target, .. } = recorded;
    let request = format!("{command}: {method} {target}");
    assert_eq!(
        current.status,
        recorded.status,
        "{request}: {}",
        current.text()
    );
    let is_json = recorded
        .response_header("content-type")
        .is_some_and(|value| value == "application/json");
    for (name, value) in &recorded.response_headers {
        if name == "content-length" && is_json {
            continue;
        }
        let expected = replacements.apply(value);
        let found = current.header(name);
        assert_eq!(found, Some(expected.as_str()), "{request}: {name}");
    }
    if is_json && !recorded.response_body.is_empty() {
        let body: Value = serde_json::from_slice(&recorded.response_body).unwrap();
        assert_json_contains(&request, &body, &current.json(), replacements);
    } else {
        assert!(
            current.body == recorded.response_body,
            "{request}: another body"
        );
    }
}

/// Panics unless the current JSON contains everything that the recorded JSON does.
fn assert_json_contains(
    path: &str,
    recorded: &Value,
    current: &Value,
    replacements: &Replacements,
) {
    match (recorded, current) {
        (Value::Object(recorded), Value::Object(current)) => {
            for (name, value) in recorded {
                // Messages for people and times may differ.
                if ["message", "detail", "issued_at"].contains(&&**name) {
                    continue;
                }
                let path = format!("{path}: {name}");
                let found = current.get(name);
                let found = found.unwrap_or_else(|| panic!("{path} is missing"));
                assert_json_contains(&path, value, found, replacements);
            }
        }
        (Value::Array(recorded), Value::Array(current)) => {
            assert_eq!(recorded.len(), current.len(), "{path}");
            for (recorded, current) in recorded.iter().zip(current) {
                assert_json_contains(path, recorded, current, replacements);
            }
        }
        (Value::String(recorded), Value::String(current)) => {
            assert_eq!(&replacements.apply(recorded), current, "{path}");
        }
        _ => assert_eq!(recorded, current, "{path}"),
    }
}

#[test]
fn the_current_server_responds_to_an_older_tool_as_before() {
    let scratch = Scratch::new();
    let registries = Registries::start(&scratch);
    let mut replacements = Replacements::default();
    for (name, recorded) in RECORDED_ADDRESSES {
        replacements.add(recorded, &registries.address(name).to_string());
    }
    for command in recorded_commands() {
        for recorded in &command.exchanges {
            let address = registries.address(&recorded.registry);
            if recorded.target.ends_with("/resolve") {
                wait_for_diff_ids(address);
            }
            let headers: Vec<_> = recorded
                .headers
                .iter()
                .filter(|(name, _)| name != "content-length")
                .map(|(name, value)| (name.as_str(), replacements.apply(value)))
                .collect();
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let target = replacements.apply(&recorded.target);
            let Exchange { method, body, .. } = recorded;
            let current = http::send(address, method, &target, &headers, body);
            replacements.add_from_response(recorded, &current);
            assert_response(&command.name, recorded, &current, &replacements);
        }
    }
}

/// Returns a text for a request that changes something or uses the extension, with everything that
/// matters. Returns `None` for other requests.
fn describe_change(
    method: &str,
    target: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Option<String> {
    if ["GET", "HEAD"].contains(&method) {
        return None;
    }
    let headers: BTreeSet<_> = headers
        .iter()
        .filter(|(name, _)| !IGNORED_HEADERS.contains(&&**name))
        .filter(|(name, _)| !["host", "authorization", "connection"].contains(&&**name))
        .collect();
    let body = match serde_json::from_slice::<Value>(body) {
        Ok(mut request) if target.ends_with("/resolve") => {
            // The order of the diffIDs does not matter.
            if let Some(diff_ids) = request["diffIDs"].as_array_mut() {
                diff_ids.sort_by_key(Value::to_string);
            }
            request.to_string()
        }
        _ => digest(body),
    };
    let target = without_session_id(target);
    Some(format!("{method} {target} {headers:?} {body}"))
}

/// Returns the target with `SESSION` in place of the session ID.
fn without_session_id(target: &str) -> String {
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
fn the_current_tool_sends_the_same_changes_to_an_older_server() {
    let scratch = Scratch::new();
    let registries = Registries::start(&scratch);
    let commands = recorded_commands();
    let recorded_responses = Arc::new(RecordedResponses::of(&commands));
    let gate = Arc::new(PatchGate::default());
    let older_server =
        |name| start_older_server(&recorded_responses, registries.address(name), &gate);
    let servers: HashMap<_, _> = NAMES
        .into_iter()
        .map(|name| (name, older_server(name)))
        .collect();
    let recorded_kinds: BTreeSet<_> = commands
        .iter()
        .flat_map(|command| command.exchanges.iter().map(Exchange::kind))
        .collect();
    let fill_in = |mut argument: String| {
        for (name, server) in &servers {
            argument = argument.replace(&format!("{{{name}}}"), &server.address());
        }
        argument.replace("{images}", frozen_path("images").to_str().unwrap())
    };
    let mut request_counts: HashMap<_, _> = NAMES.iter().map(|name| (*name, 0)).collect();
    for recorded in &commands {
        let description = &recorded.description;
        let Some(home) = description["home"].as_str() else {
            // Without a home folder, the recording script sent the requests, not the tool.
            for exchange in &recorded.exchanges {
                repeat_request(&registries, exchange);
            }
            continue;
        };
        let mut command = Imgsync::new(&scratch.folder(home)).command();
        command.args(words(&description["arguments"]).into_iter().map(fill_in));
        for (name, value) in description["environment"].as_object().unwrap() {
            command.env(name, value.as_str().unwrap());
        }
        let name = &recorded.name;
        match description["killed_at_patch"].as_u64() {
            Some(count) => run_until_patch(command, &gate, usize::try_from(count).unwrap()),
            None => {
                let outcome = run(&mut command);
                let code = description["code"]
                    .as_i64()
                    .and_then(|code| i32::try_from(code).ok());
                assert_eq!(outcome.code, code, "{name}: {outcome}");
            }
        }
        let mut changes: Vec<String> = Vec::new();
        for (registry, server) in &servers {
            let requests = server.requests();
            for request in requests.iter().skip(request_counts[registry]) {
                let (method, target) = (&request.method, &request.target);
                let kind = request_kind(method, target);
                assert!(
                    recorded_kinds.contains(&kind),
                    "{name}: {kind} is new to an older server"
                );
                let change = describe_change(method, target, &request.headers, &request.body);
                changes.extend(change);
            }
            request_counts.insert(registry, requests.len());
        }
        let mut recorded_changes: Vec<_> = recorded
            .exchanges
            .iter()
            .filter_map(|exchange| {
                let Exchange {
                    method,
                    target,
                    headers,
                    body,
                    ..
                } = exchange;
                describe_change(method, target, headers, body)
            })
            .collect();
        if description["killed_at_patch"].is_u64() {
            // The blocked PATCH is not in the recording.
            changes.retain(|change| recorded_changes.contains(change));
        }
        // The older tool did not ask the registry for the layers of an unchanged image.
        let is_lookup = |change: &String| change.contains("/_imgsync/layers/resolve ");
        if !recorded_changes.iter().any(is_lookup) {
            changes.retain(|change| !is_lookup(change));
        }
        changes.sort();
        recorded_changes.sort();
        // The config is sent beside the layer, so how much of each was sent at the kill varies.
        let is_killed = description["killed_at_patch"].is_u64();
        if is_killed || name == "push-resumed" {
            let resumes = |change: &String| {
                change.starts_with("PATCH ") && !change.contains(r#""content-range", "0-"#)
            };
            assert!(is_killed || changes.iter().any(resumes), "{changes:?}");
            for changes in [&mut changes, &mut recorded_changes] {
                changes.retain(|change| {
                    !change.contains("/blobs/uploads/") || change.starts_with("PUT ")
                });
            }
        }
        assert_eq!(changes, recorded_changes, "{name}");
    }
}

/// Sends a recorded request directly to a server.
fn repeat_request(registries: &Registries, exchange: &Exchange) {
    let headers = exchange.headers.iter();
    let headers: Vec<_> = headers
        .filter(|(name, _)| name != "content-length")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let address = registries.address(&exchange.registry);
    let (method, target) = (&exchange.method, &exchange.target);
    let response = http::send(address, method, target, &headers, &exchange.body);
    assert_eq!(response.status, exchange.status, "{}", response.text());
}

/// Runs the tool, and kills it when it has sent this many PATCH requests.
fn run_until_patch(mut command: Command, gate: &PatchGate, count: usize) {
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
