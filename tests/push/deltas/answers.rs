//! Tests what a push does with the answers of a server that does not assemble the layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{DeltaFixture, LIMITED, PushResult};
use crate::support::fake::{FakeServer, Request};
use crate::support::http::Response;
use crate::support::layer_pairs::compiled_python;
use crate::support::meddler::{response, start_meddler};
use crate::support::prelude::*;

/// Decides about the answer to a request about an assembly. The number counts them.
type Answer = fn(usize, &Request, &dyn Fn() -> Response) -> Response;

fn fault(status: u16, code: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": "no"}]});
    response(status, body.to_string())
}

/// Pushes the second version of an image through a server that answers in this way. Returns the result,
/// and the requests.
fn push_through(answer: Answer) -> (PushResult, Vec<Request>) {
    push_with_stall_timeout(60, "/layers/assemble", answer)
}

/// Pushes as [`push_through`] does, with another number of seconds without progress, and where `answer`
/// decides about the requests whose target contains `path`.
fn push_with_stall_timeout(
    seconds: u64,
    path: &'static str,
    answer: Answer,
) -> (PushResult, Vec<Request>) {
    let fixture = DeltaFixture::new();
    let [old, new] = [false, true].map(|is_new| compiled_python(is_new, 250));
    let (old, new) = (
        fixture.archive("old", &[&old]),
        fixture.archive("new", &[&new]),
    );
    fixture.push(&[], &old, "app:v1");
    let count = Arc::new(AtomicUsize::new(0));
    let meddler: FakeServer = start_meddler(fixture.server.address(), move |request, forward| {
        if request.target.contains(path) {
            answer(count.fetch_add(1, Ordering::SeqCst), request, forward)
        } else {
            forward()
        }
    });
    // Without the old layer, so that its index is asked for.
    let home = fixture.scratch.folder("other");
    let mut command = DeltaFixture::command(&home);
    command.env("IMGSYNC_STALL_TIMEOUT", seconds.to_string());
    command.args(["push", "--json"]).args(LIMITED).arg(&new);
    command.arg(format!("{}/app:v2", meddler.address()));
    let pushed = PushResult::of(run(&mut command));
    fixture.check_image("app:v2", &new);
    let mut left = archive::read_folder(&home.join("cache/imgsync/spool"));
    left.retain(|file| file.name.starts_with("delta-1/"));
    assert!(left.is_empty(), "{}", left.len());
    (pushed, meddler.requests())
}

/// Counts the requests to assemble a layer.
fn assembly_requests(requests: &[Request]) -> usize {
    let posts = requests.iter();
    let posts = posts.filter(|request| request.line().ends_with("/layers/assemble"));
    posts.count()
}

#[test]
fn a_layer_that_is_not_assembled_is_sent_whole_with_one_note() {
    let answers: [(Answer, &str); 5] = [
        (|_, _, _| fault(403, "DENIED"), "403"),
        (
            |_, _, _| fault(404, "BLOB_UPLOAD_UNKNOWN"),
            "lost the upload session",
        ),
        (
            |_, _, _| fault(400, "DIGEST_INVALID"),
            "received other bytes",
        ),
        (|_, _, _| failed(), "the diffID is another one"),
        (
            |_, _, _| {
                let blob = json!({
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "digest": digest(b"other"), "size": 5,
                });
                response(202, json!({"state": "held", "blob": blob}).to_string())
            },
            "made another blob",
        ),
    ];
    for (answer, reason) in answers {
        let (pushed, _) = push_through(answer);
        assert!(pushed.deltas().is_empty(), "{}", pushed.outcome);
        let notes = pushed.events("note");
        let fallbacks = notes.iter().filter_map(|note| note["text"].as_str());
        let fallbacks = fallbacks.filter(|text| text.contains("the layer is sent whole"));
        let fallbacks: Vec<_> = fallbacks.collect();
        assert_eq!(fallbacks.len(), 1, "{reason}: {}", pushed.outcome);
        assert!(
            fallbacks[0].contains(reason),
            "{reason}: {}",
            pushed.outcome
        );
    }
}

/// A server that was started again knows of no assembly, and one that is busy asks to wait.
#[test]
fn a_forgotten_or_delayed_assembly_is_requested_again() {
    let (pushed, requests) = push_through(|count, _, forward| match count {
        0 => response(503, ""),
        1 => response(
            202,
            json!({"state": "working", "done": 0, "of": 9}).to_string(),
        ),
        2 => fault(404, "BLOB_UNKNOWN"),
        _ => forward(),
    });
    assert_eq!(pushed.deltas().len(), 1, "{}", pushed.outcome);
    assert!(!pushed.has_note("whole"), "{}", pushed.outcome);
    assert_eq!(assembly_requests(&requests), 3);
}

fn failed() -> Response {
    let failed = json!({"state": "failed", "reason": "the diffID is another one"});
    response(202, failed.to_string())
}

/// The first failure may be that of a delta that another client has sent.
#[test]
fn after_a_failed_assembly_the_registry_is_asked_once_more() {
    let (pushed, requests) = push_through(|count, _, forward| match count {
        0 => failed(),
        _ => forward(),
    });
    assert_eq!(pushed.deltas().len(), 1, "{}", pushed.outcome);
    assert!(!pushed.has_note("whole"), "{}", pushed.outcome);
    assert_eq!(assembly_requests(&requests), 2);

    // Its own delta failed: the session is gone, or the registry tried the same delta again.
    let answers: [Answer; 2] = [
        |count, _, _| match count {
            0 => failed(),
            _ => fault(404, "BLOB_UPLOAD_UNKNOWN"),
        },
        |_, _, _| failed(),
    ];
    for answer in answers {
        let (pushed, requests) = push_through(answer);
        assert!(pushed.deltas().is_empty(), "{}", pushed.outcome);
        let note = "the layer is sent whole: the diffID is another one";
        assert!(pushed.has_note(note), "{}", pushed.outcome);
        assert_eq!(assembly_requests(&requests), 2);
    }
}

/// The session is lost once: the delta is sent again, and not the layer.
#[test]
fn a_lost_session_costs_the_delta_only() {
    let (pushed, requests) = push_through(|count, _, forward| match count {
        0 => fault(404, "BLOB_UPLOAD_UNKNOWN"),
        _ => forward(),
    });
    assert_eq!(pushed.deltas().len(), 1, "{}", pushed.outcome);
    assert_eq!(assembly_requests(&requests), 2);
    let patches = requests.iter().filter(|request| request.method == "PATCH");
    let sent: usize = patches.map(|request| request.body.len()).sum();
    assert!(sent < 100_000, "{sent}");
}

/// A proxy may refuse these requests only, and a server may answer with a whole page.
#[test]
fn a_bad_gateway_does_not_stop_a_push() {
    let (pushed, _) = push_through(|_, _, _| response(502, "x".repeat(5000)));
    assert!(pushed.deltas().is_empty(), "{}", pushed.outcome);
    assert!(pushed.has_note("502"), "{}", pushed.outcome);
}

#[test]
fn a_long_reason_is_cut() {
    let (pushed, _) = push_through(|_, _, _| {
        let failed = json!({"state": "failed", "reason": "y".repeat(50_000)});
        response(202, failed.to_string())
    });
    let notes = pushed.events("note");
    let longest = notes.iter().filter_map(|note| note["text"].as_str());
    let longest = longest.map(str::len).max();
    assert!(longest.is_some_and(|len| len < 1000), "{longest:?}");
}

/// Without these limits, the pushes never end.
#[test]
fn a_registry_without_progress_is_waited_for_a_limited_time() {
    fn working(done: usize) -> Response {
        let state = json!({"state": "working", "done": done, "of": 1_000_000});
        response(202, state.to_string())
    }
    let waits: [(&str, Answer, &str); 4] = [
        (
            "/layers/assemble",
            |_, _, _| working(0),
            "the registry stalled",
        ),
        // It makes progress, and never ends.
        (
            "/layers/assemble",
            |count, _, _| working(count),
            "the registry stalled",
        ),
        (
            "/layers/assemble",
            |_, _, _| response(503, ""),
            "the registry is busy",
        ),
        (
            "/index",
            |_, _, _| response(202, ""),
            "still indexing the earlier version",
        ),
    ];
    for (path, answer, reason) in waits {
        let (pushed, _) = push_with_stall_timeout(2, path, answer);
        assert!(pushed.deltas().is_empty(), "{}", pushed.outcome);
        assert!(pushed.has_note(reason), "{reason}: {}", pushed.outcome);
    }
}
