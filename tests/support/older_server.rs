//! Imitates an older server: a proxy for the current server that removes everything from the
//! responses that the recorded server did not send.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use super::bytes::digest;
use super::fake::FakeServer;
use super::http::{self, Response};
use super::meddler::{response, start_meddler};
use super::run::wait_until;
use super::transcript::{RecordedCommand, request_kind};

/// Waits until the server has computed all diffIDs in the background.
pub fn wait_for_diff_ids(address: SocketAddr) {
    let body = format!("{{\"diffIDs\":[\"{}\"]}}", digest(b"of nothing"));
    wait_until("the diffIDs", || {
        let target = "/v2/a/_imgsync/layers/resolve";
        let response = http::send(address, "POST", target, &[], body.as_bytes());
        (!response.text().contains("pending")).then_some(())
    });
}

/// The headers and JSON fields in the responses of the recorded server.
#[derive(Default)]
pub struct RecordedResponses {
    /// By kind of request and status.
    headers: BTreeMap<(String, u16), BTreeSet<String>>,
    /// By kind of request.
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl RecordedResponses {
    /// Collects the headers and fields of all recorded responses.
    pub fn of(recordings: &[RecordedCommand]) -> Self {
        let mut responses = Self::default();
        for exchange in recordings.iter().flat_map(|recording| &recording.exchanges) {
            let key = (exchange.kind(), exchange.status);
            let names = exchange.response_headers.iter();
            let names = names.map(|(name, _)| name.clone());
            responses.headers.entry(key).or_default().extend(names);
            if let Ok(body) = serde_json::from_slice(&exchange.response_body) {
                let fields = responses.fields.entry(exchange.kind()).or_default();
                collect_fields(&body, fields);
            }
        }
        responses
    }

    /// Removes headers and fields that the recorded server did not send.
    fn strip(&self, kind: &str, response: Response) -> Response {
        let recorded = self.headers.get(&(kind.to_owned(), response.status));
        let headers = response.headers.into_iter().filter(|(name, _)| {
            // A response that is not in the recording keeps its headers.
            recorded.is_none_or(|recorded| recorded.contains(name)) && name != "transfer-encoding"
        });
        let mut body = response.body;
        if kind.ends_with("/resolve")
            && let Ok(mut value) = serde_json::from_slice::<Value>(&body)
        {
            keep_fields(&mut value, &self.fields[kind]);
            body = value.to_string().into_bytes();
        }
        Response {
            status: response.status,
            headers: headers.collect(),
            body,
        }
    }
}

fn collect_fields(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            fields.extend(object.keys().cloned());
            object
                .values()
                .for_each(|value| collect_fields(value, fields));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_fields(value, fields)),
        _ => {}
    }
}

fn keep_fields(value: &mut Value, fields: &BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| fields.contains(name));
            object
                .values_mut()
                .for_each(|value| keep_fields(value, fields));
        }
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| keep_fields(value, fields)),
        _ => {}
    }
}

/// Blocks one PATCH request until the test has killed its client.
#[derive(Default)]
pub struct PatchGate {
    /// The number of PATCH requests until the blocked one. 0 while it is blocked.
    remaining: Mutex<Option<usize>>,
    changed: Condvar,
}

impl PatchGate {
    /// Blocks the PATCH request with this number, counted from 1. `None` opens the gate.
    pub fn close_at(&self, count: Option<usize>) {
        *self.remaining.lock().expect("the state") = count;
        self.changed.notify_all();
    }

    /// Reports whether the request is blocked.
    pub fn is_reached(&self) -> bool {
        *self.remaining.lock().expect("the state") == Some(0)
    }

    /// Waits while the gate is closed. Returns `false` if the request was blocked.
    fn pass(&self) -> bool {
        let mut remaining = self.remaining.lock().expect("the state");
        if let Some(count) = remaining.as_mut() {
            *count -= 1;
        }
        let was_blocked = *remaining == Some(0);
        while *remaining == Some(0) {
            remaining = self.changed.wait(remaining).expect("the state");
        }
        !was_blocked
    }
}

/// Starts the imitation of the recorded server in front of `server`.
pub fn start_older_server(
    recorded: &Arc<RecordedResponses>,
    server: SocketAddr,
    gate: &Arc<PatchGate>,
) -> FakeServer {
    let (recorded, gate) = (Arc::clone(recorded), Arc::clone(gate));
    start_meddler(server, move |request, forward| {
        if request.method == "PATCH" && !gate.pass() {
            return response(500, "");
        }
        if request.target.ends_with("/resolve") {
            wait_for_diff_ids(server);
        }
        recorded.strip(&request_kind(&request.method, &request.target), forward())
    })
}
