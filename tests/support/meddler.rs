//! A proxy in front of a server that answers some requests itself, or changes responses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::fake::{self, FakeServer, Request};
use super::http::{self, Response};

/// Starts a proxy for `server`. `answer` gets each request, and a function that sends it to the server.
pub fn start_meddler(
    server: SocketAddr,
    answer: impl Fn(&Request, &dyn Fn() -> Response) -> Response + Send + Sync + 'static,
) -> FakeServer {
    let address: Arc<Mutex<String>> = Arc::default();
    let shared_address = Arc::clone(&address);
    let fake = FakeServer::start(move |request| {
        let response = answer(request, &|| forward(server, request));
        let address = shared_address.lock().expect("the state").clone();
        let mut reply = fake::status(response.status);
        for (name, value) in response.headers {
            // URLs in headers must lead to the proxy.
            let value = value.replace(&server.to_string(), &address);
            if name != "content-length" || request.method == "HEAD" {
                reply = reply.header(header_name(&name), value);
            }
        }
        reply.body(response.body)
    });
    *address.lock().expect("the state") = fake.address();
    fake
}

/// Returns a response without headers.
pub fn response(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response {
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

fn forward(server: SocketAddr, request: &Request) -> Response {
    let headers = request.headers.iter();
    let headers =
        headers.filter(|(name, _)| !["host", "content-length", "connection"].contains(&&**name));
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (method, target) = (&request.method, &request.target);
    let mut response = http::send(server, method, target, &headers, &request.body);
    response
        .headers
        .retain(|(name, _)| name != "transfer-encoding");
    response
}

/// Returns a `'static` name, with the spelling of `Content-Length` that `fake` knows.
fn header_name(name: &str) -> &'static str {
    match name {
        "content-length" => "Content-Length",
        other => other.to_owned().leak(),
    }
}
