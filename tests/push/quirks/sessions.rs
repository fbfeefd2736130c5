//! Tests upload sessions that are lost, report a wrong state, are refused, or are in use by another
//! push.

use std::process::Child;

use super::{EXIT_TARGET, QuirksFixture, assert_accepts_push, is_chunk, range_up_to};
use crate::support::fake::status;
use crate::support::prelude::*;
use crate::support::quirky::{PartialChunk, QuirkyRegistry, RegistryQuirks, UploadSession};

const EXIT_AUTHENTICATION: i32 = 5;

/// Harbor and zot lose the session when a chunk is interrupted.
#[test]
fn a_session_that_is_lost_with_an_interrupted_chunk() {
    let registry = assert_accepts_push(RegistryQuirks {
        broken_patches: vec![2, 5, 6, 9],
        partial_chunk: PartialChunk::SessionLost,
        ..RegistryQuirks::default()
    });
    assert!(
        registry
            .requests()
            .iter()
            .filter(|request| request.method == "PATCH")
            .all(is_chunk)
    );
}

/// Aliyun reports the range of the last chunk, Gitea reports one byte too many. Others report no
/// range or an invalid one, or do not support the status request.
#[test]
fn a_range_that_is_wrong_or_missing() {
    let answers: [fn(&UploadSession) -> Option<String>; 5] = [
        |session| range_up_to(session.chunks.last().copied().unwrap_or_default()),
        |session| Some(format!("0-{}", session.bytes.len())),
        |session| Some(format!("bytes=0-{}", session.bytes.len() as i64 - 1)),
        |_| None,
        |_| Some("nonsense".to_owned()),
    ];
    let assert_push_succeeds = |range_header, status_of_get, partial_chunk| {
        let registry = QuirkyRegistry::start(RegistryQuirks {
            range_header,
            status_of_get,
            broken_patches: vec![1, 4, 6],
            partial_chunk,
            ..RegistryQuirks::default()
        });
        QuirksFixture::new().assert_push_succeeds(&registry);
    };
    // In parallel, because these pushes mostly wait.
    std::thread::scope(|scope| {
        for range_header in answers {
            for partial_chunk in [PartialChunk::Kept, PartialChunk::Dropped] {
                for status_of_get in [204, 405] {
                    scope.spawn(move || {
                        assert_push_succeeds(range_header, status_of_get, partial_chunk)
                    });
                }
            }
        }
    });
}

/// The push ends with an error after a limited number of requests.
#[test]
fn a_registry_that_never_keeps_chunks() {
    let registry = QuirkyRegistry::start(RegistryQuirks {
        loses_chunks: true,
        accepts_put_body: false,
        ..RegistryQuirks::default()
    });
    QuirksFixture::new()
        .push(registry.address())
        .failed(EXIT_TARGET, &["error: target"]);
    assert!(registry.requests().len() < 100);
    let registry = QuirkyRegistry::start(RegistryQuirks {
        refuse_patch: |_, _| Some(status(404)),
        accepts_put_body: false,
        status_of_get: 404,
        ..RegistryQuirks::default()
    });
    QuirksFixture::new()
        .push(registry.address())
        .failed(EXIT_TARGET, &["error: target"]);
    assert!(registry.requests().len() < 100);
}

/// The second 401 after a successful login is an error. It does not count as a network error.
#[test]
fn a_registry_that_refuses_every_chunk_after_a_login() {
    let registry = QuirkyRegistry::start(RegistryQuirks {
        requires_token: true,
        refuse_patch: |request, _| {
            let host = request.header("host").unwrap_or_default();
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
            Some(status(401).header("www-authenticate", challenge))
        },
        ..RegistryQuirks::default()
    });
    let outcome = QuirksFixture::new().push(registry.address());
    let outcome = outcome.failed(
        EXIT_AUTHENTICATION,
        &["answered PATCH of an upload with 401"],
    );
    let chunks = registry.count("PATCH", "");
    assert!(chunks <= 2 * 4, "{chunks}: {outcome}");
}

/// A process that is killed when the test ends.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A push that is suspended blocks the other one only for a limited time, and continues afterwards.
#[test]
fn a_suspended_push_does_not_block_another_one() {
    let fixture = QuirksFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let relay = Relay::start(server.address(), RelayFault::None);
    let path = fixture.write_archive("image.tar", &fixture.image);
    let push = |options: &[&str], address: SocketAddr| {
        let mut command = fixture.imgsync.command();
        command
            .args(["push", "--chunk-size", "64KiB"])
            .args(options);
        command.arg(&path).arg(format!("{address}/app:v1"));
        command.env("IMGSYNC_STALL_TIMEOUT", "1");
        command
    };
    let mut slow = push(&["--quiet", "--limit-rate", "200KiB"], relay.address());
    slow.stdout(Stdio::null());
    let mut slow = KillOnDrop(slow.spawn().expect("a push"));
    wait_until("a chunk", || {
        let requests = relay.requests();
        let chunk = requests
            .iter()
            .any(|request| request.method == "PATCH" && request.complete);
        chunk.then_some(())
    });
    let id = slow.0.id().to_string();
    let signal = |name: &str| {
        must(Command::new("kill").args([name, &id]));
    };
    signal("-STOP");
    // The journal identifies a registry by its address, so both pushes use the relay.
    let other = run(&mut push(&[], relay.address())).succeeded();
    assert!(
        other.stderr.contains("another push is sending this blob"),
        "{other}"
    );
    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, fixture.image.id());
    signal("-CONT");
    assert!(slow.0.wait().expect("an exit status").success());
    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, fixture.image.id());
}
