//! Tests the requests for indexes of layers and for assemblies.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use imgsync_oci::client::{AssembleAnswer, Client, Error, LayerIndexAnswer, UrlScheme};
use imgsync_oci::ext::assemble::{AssembleRequest, AssemblyState, CALL_NAME};
use imgsync_oci::{Descriptor, Digest, Repository};
use serde_json::json;

use crate::fake::{FakeServer, Reply, status};

fn client(registry: &FakeServer) -> Client {
    Client::new(&registry.address().parse().unwrap(), UrlScheme::Http).unwrap()
}

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn request() -> AssembleRequest {
    AssembleRequest {
        session: "1".to_owned(),
        delta_digest: Digest::of(b"delta"),
        bases: vec![Digest::of(b"base")],
        diff_id: Digest::of(b"layer"),
        raw_size: 5,
        format: "delta-1".to_owned(),
        compression: "imgsync-gzip-1".to_owned(),
    }
}

fn fault(code: u16, name: &str) -> Reply {
    let body = json!({"errors": [{"code": name, "message": "no"}]});
    status(code).body(body.to_string())
}

async fn assemble(reply: impl Fn() -> Reply + Send + Sync + 'static) -> AssembleAnswer {
    let registry = FakeServer::start(move |_| reply());
    assemble_at(&registry).await.unwrap()
}

async fn assemble_at(registry: &FakeServer) -> Result<AssembleAnswer, Error> {
    client(registry)
        .assemble_layer(&repository(), &request())
        .await
}

async fn state_at(registry: &FakeServer) -> Option<AssemblyState> {
    let layer = Digest::of(b"layer");
    let progress = client(registry).fetch_assembly(&repository(), &layer).await;
    progress.unwrap().map(|progress| progress.state)
}

#[tokio::test]
async fn an_index_is_ready_computed_or_unavailable() {
    let digest = Digest::of(b"blob");
    let ask = async |reply: fn() -> Reply| {
        let registry = FakeServer::start(move |_| reply());
        let answer = client(&registry)
            .fetch_layer_index(&repository(), &Digest::of(b"blob"))
            .await;
        (answer, registry.lines())
    };
    let (answer, lines) = ask(|| status(200).body("index")).await;
    assert_eq!(answer.unwrap(), LayerIndexAnswer::Ready("index".into()));
    assert_eq!(
        lines,
        [format!("GET /v2/team/app/_imgsync/layers/{digest}/index")]
    );
    let (answer, _) = ask(|| status(202).header("Retry-After", "3")).await;
    let seconds = Duration::from_secs(3);
    assert_eq!(answer.unwrap(), LayerIndexAnswer::Computing(Some(seconds)));
    let (answer, _) = ask(|| status(404)).await;
    assert_eq!(answer.unwrap(), LayerIndexAnswer::Unavailable);
    let (answer, _) = ask(|| status(401)).await;
    assert_eq!(answer.unwrap_err().status().unwrap().as_u16(), 401);
}

#[tokio::test]
async fn every_answer_to_a_request_to_assemble_is_told_apart() {
    let working = || {
        let body = json!({"state": "working", "done": 1, "of": 5});
        status(202)
            .header("Retry-After", "1")
            .body(body.to_string())
    };
    let AssembleAnswer::Accepted(progress) = assemble(working).await else {
        panic!("accepted");
    };
    assert_eq!(progress.state, AssemblyState::Working { done: 1, of: 5 });
    assert_eq!(progress.retry_after, Some(Duration::from_secs(1)));
    let base = assemble(|| fault(404, "BLOB_UNKNOWN")).await;
    assert_eq!(base, AssembleAnswer::BaseUnknown);
    let session = assemble(|| fault(404, "BLOB_UPLOAD_UNKNOWN")).await;
    assert_eq!(session, AssembleAnswer::SessionUnknown);
    let damaged = assemble(|| fault(400, "DIGEST_INVALID")).await;
    assert_eq!(damaged, AssembleAnswer::DeltaDamaged);
    let busy = assemble(|| status(503).header("Retry-After", "7")).await;
    assert_eq!(busy, AssembleAnswer::Busy(Some(Duration::from_secs(7))));
    for code in [400, 403, 404, 405] {
        let refused = assemble(move || fault(code, "DENIED")).await;
        assert!(matches!(refused, AssembleAnswer::Refused(_)), "{refused:?}");
    }
    let odd = FakeServer::start(|_| status(202).body("not JSON"));
    let error = assemble_at(&odd).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
}

#[tokio::test]
async fn an_assembly_that_the_registry_forgot_is_none() {
    let blob = Descriptor::new("application/x", Digest::of(b"layer"), 5);
    let held = json!({"state": "held", "blob": blob}).to_string();
    let registry = FakeServer::start(move |_| status(200).body(held.clone()));
    assert_eq!(
        state_at(&registry).await,
        Some(AssemblyState::Held { blob })
    );
    let diff_id = Digest::of(b"layer");
    let path = format!("GET /v2/team/app/_imgsync/layers/assemble/{diff_id}");
    assert_eq!(registry.lines(), [path]);
    let registry = FakeServer::start(|_| status(404));
    assert_eq!(state_at(&registry).await, None);
}

#[tokio::test]
async fn a_request_to_assemble_is_sent_again_after_a_server_error() {
    let count = AtomicU32::new(0);
    let registry = FakeServer::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => status(502),
        _ => fault(404, "BLOB_UNKNOWN"),
    });
    let answer = assemble_at(&registry).await.unwrap();
    assert_eq!(answer, AssembleAnswer::BaseUnknown);
    assert_eq!(registry.lines().len(), 2);
}

#[tokio::test]
async fn a_call_must_be_listed_by_name() {
    for (endpoints, is_listed) in [
        (json!(["_imgsync/layers/resolve"]), false),
        (
            json!(["_imgsync/layers/resolve", "_imgsync/layers/assemble"]),
            true,
        ),
    ] {
        let list = json!({"extensions": [{"name": "_imgsync", "endpoints": endpoints}]});
        let registry = FakeServer::start(move |_| status(200).body(list.to_string()));
        let listed = client(&registry).has_extension_call(CALL_NAME).await;
        assert_eq!(listed.unwrap(), is_listed);
    }
    let registry = FakeServer::start(|_| status(404));
    assert!(
        !client(&registry)
            .has_extension_call(CALL_NAME)
            .await
            .unwrap()
    );
}
