//! Tests challenges and tokens with a fake registry and a fake token server.

mod challenges;
mod other_hosts;
mod tokens;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fake::{FakeServer, Reply, Request, status};
use bytes::Bytes;
use imgsync_oci::client::upload::{UploadSession, UploadStart};
use imgsync_oci::client::{Client, Credentials, Error, UrlScheme};
use imgsync_oci::{Digest, Repository};

/// `alice:secret`, encoded for Basic authentication.
const BASIC: &str = "Basic YWxpY2U6c2VjcmV0";

fn alice(password: &str) -> Option<Credentials> {
    Some(Credentials::Password {
        username: "alice".to_owned(),
        password: password.to_owned(),
    })
}

pub(super) fn new_client(registry: &str, credentials: Option<Credentials>) -> Client {
    let client = Client::new(&registry.parse().unwrap(), UrlScheme::Http).unwrap();
    client.with_login(credentials, true)
}

pub(super) fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn digest() -> Digest {
    Digest::of(b"blob")
}

fn blob_found() -> Reply {
    status(200).header("Content-Length", "4")
}

/// Starts a token server that accepts alice and issues the tokens `t1`, `t2` and so on.
fn tokens(life: &'static str) -> FakeServer {
    let count = AtomicUsize::new(0);
    FakeServer::start(move |request| match request.authorization() {
        BASIC => {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            status(200).body(format!("{{\"token\": \"t{number}\"{life}}}"))
        }
        _ => {
            status(401).body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "no such user"}]}"#)
        }
    })
}

/// Starts a registry that requires a token of the server at `realm`, and accepts the tokens for which
/// `good` is true.
fn registry(
    realm: String,
    good: impl Fn(&str) -> bool + Send + Sync + 'static,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> FakeServer {
    FakeServer::start(move |request| {
        match request.authorization().strip_prefix("Bearer ") {
            Some(token) if good(token) => answer(request),
            _ => status(401).header(
                "WWW-Authenticate",
                format!("Bearer realm=\"{realm}\",service=\"the, service\",scope=\"repository:team/app:pull\""),
            ),
        }
    })
}

fn realm(server: &FakeServer) -> String {
    format!("http://{}/token?account=x", server.address())
}
/// Appends a chunk to a session.
async fn chunk(client: &Client, session: &mut UploadSession) -> Result<(), Error> {
    let bytes = futures::stream::iter([Ok(Bytes::from_static(b"blob"))]);
    client.append_upload(session, bytes, 4).await
}

async fn open(client: &Client) -> UploadSession {
    let opened = client.start_upload(&repository(), None).await.unwrap();
    let UploadStart::Open(session) = opened else {
        panic!("mounted without a source");
    };
    session
}
