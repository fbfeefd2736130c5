//! Stands for a server of before: today's, which says no more than that one did.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use super::bytes::digest;
use super::fake::{self, FakeServer};
use super::http::{self, Response};
use super::run::wait_until;
use super::transcript::{Step, kind};

/// Waits until a server has looked at everything in the background.
pub fn settle(address: SocketAddr) {
    let body = format!("{{\"diffIDs\":[\"{}\"]}}", digest(b"of nothing"));
    wait_until("the diffIDs", || {
        let target = "/v2/a/_imgsync/layers/resolve";
        let answer = http::send(address, "POST", target, &[], body.as_bytes());
        (!answer.text().contains("pending")).then_some(())
    });
}

/// What the older server's answers ever held, by kind of request and status.
#[derive(Default)]
pub struct Answers {
    headers: BTreeMap<(String, u16), BTreeSet<String>>,
    /// The names of all fields of JSON.
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl Answers {
    pub fn of(steps: &[Step]) -> Self {
        let mut answers = Self::default();
        for exchange in steps.iter().flat_map(|step| &step.exchanges) {
            let key = (exchange.kind(), exchange.status);
            let names = exchange.answer_headers.iter().map(|(name, _)| name.clone());
            answers.headers.entry(key).or_default().extend(names);
            if let Ok(body) = serde_json::from_slice(&exchange.answer_body) {
                let fields = answers.fields.entry(exchange.kind()).or_default();
                collect_fields(&body, fields);
            }
        }
        answers
    }

    /// Takes out of today's answer what the older server did not say.
    fn strip(&self, kind: &str, reply: Response) -> Response {
        let known = self.headers.get(&(kind.to_owned(), reply.status));
        let headers = reply.headers.into_iter().filter(|(name, _)| {
            // An answer that the recording does not have is left as it is.
            known.is_none_or(|known| known.contains(name)) && name != "transfer-encoding"
        });
        let mut body = reply.body;
        if kind.ends_with("/resolve")
            && let Ok(mut value) = serde_json::from_slice::<Value>(&body)
        {
            keep_fields(&mut value, &self.fields[kind]);
            body = value.to_string().into_bytes();
        }
        Response {
            status: reply.status,
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

/// Holds up the so manieth PATCH until whoever sent it is dead.
#[derive(Default)]
pub struct Gate {
    left: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Gate {
    pub fn close_at(&self, count: Option<usize>) {
        *self.left.lock().expect("the state") = count;
        self.changed.notify_all();
    }

    pub fn is_reached(&self) -> bool {
        *self.left.lock().expect("the state") == Some(0)
    }

    fn pass(&self) -> bool {
        let mut left = self.left.lock().expect("the state");
        if let Some(count) = left.as_mut() {
            *count -= 1;
        }
        let was_held = *left == Some(0);
        while *left == Some(0) {
            left = self.changed.wait(left).expect("the state");
        }
        !was_held
    }
}

/// A server that says no more than the older one did, before one of today.
pub fn older(answers: &Arc<Answers>, server: SocketAddr, gate: &Arc<Gate>) -> FakeServer {
    let (answers, gate) = (Arc::clone(answers), Arc::clone(gate));
    let own: Arc<Mutex<String>> = Arc::default();
    let named = Arc::clone(&own);
    let fake = FakeServer::start(move |request| {
        if request.method == "PATCH" && !gate.pass() {
            return fake::status(500);
        }
        if request.target.ends_with("/resolve") {
            settle(server);
        }
        let headers: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| !["host", "content-length", "connection"].contains(&&**name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (method, target) = (&request.method, &request.target);
        let reply = http::send(server, method, target, &headers, &request.body);
        let reply = answers.strip(&kind(method, target), reply);
        let own = named.lock().expect("the state").clone();
        let mut answer = fake::status(reply.status);
        for (name, value) in reply.headers {
            // It is asked by its own name, and names what it has in its turn.
            let value = value.replace(&server.to_string(), &own);
            if name != "content-length" || method == "HEAD" {
                answer = answer.header(title(&name), value);
            }
        }
        answer.body(reply.body)
    });
    *own.lock().expect("the state") = fake.address();
    fake
}

fn title(name: &str) -> &'static str {
    match name {
        "content-length" => "Content-Length",
        other => other.to_owned().leak(),
    }
}
