//! Upload sessions that are lost, told wrongly, refused, or held by another push.

use std::process::Child;

use super::{QuirksFixture, TARGET, assert_takes, held, is_chunk};
use crate::support::fake::status;
use crate::support::prelude::*;
use crate::support::quirky::{PartialChunk, QuirkyRegistry, RegistryQuirks, UploadSession};

const AUTH: i32 = 5;

/// Harbor's and zot's: what breaks is gone.
#[test]
fn a_session_that_goes_with_a_break() {
    let registry = assert_takes(RegistryQuirks {
        broken_patches: vec![2, 5, 6, 9],
        partial_chunk: PartialChunk::SessionLost,
        ..RegistryQuirks::default()
    });
    assert!(
        registry
            .requests()
            .iter()
            .filter(|it| it.method == "PATCH")
            .all(is_chunk)
    );
}

/// Aliyun's Range counts from the last chunk; Gitea's counts one too many; some have none, or none
/// that is a range, or do not tell at all.
#[test]
fn a_state_that_is_wrong_or_not_told() {
    let answers: [fn(&UploadSession) -> Option<String>; 5] = [
        |session| held(session.chunks.last().copied().unwrap_or_default()),
        |session| Some(format!("0-{}", session.bytes.len())),
        |session| Some(format!("bytes=0-{}", session.bytes.len() as i64 - 1)),
        |_| None,
        |_| Some("nonsense".to_owned()),
    ];
    let gets_through = |range_header, status_of_get, partial_chunk| {
        let registry = QuirkyRegistry::start(RegistryQuirks {
            range_header,
            status_of_get,
            broken_patches: vec![1, 4, 6],
            partial_chunk,
            ..RegistryQuirks::default()
        });
        QuirksFixture::new().gets_through(&registry);
    };
    // At the same time: they wait most of it.
    std::thread::scope(|scope| {
        for range_header in answers {
            for partial_chunk in [PartialChunk::Kept, PartialChunk::Dropped] {
                for status_of_get in [204, 405] {
                    scope.spawn(move || gets_through(range_header, status_of_get, partial_chunk));
                }
            }
        }
    });
}

/// A registry that never keeps what it takes: the push ends, with an error that says so.
#[test]
fn a_registry_that_forgets_for_ever() {
    let registry = QuirkyRegistry::start(RegistryQuirks {
        loses_chunks: true,
        accepts_put_body: false,
        ..RegistryQuirks::default()
    });
    QuirksFixture::new()
        .push(registry.address())
        .failed(TARGET, &["error: target"]);
    assert!(registry.requests().len() < 100);
    let registry = QuirkyRegistry::start(RegistryQuirks {
        refuse_patch: |_, _| Some(status(404)),
        accepts_put_body: false,
        status_of_get: 404,
        ..RegistryQuirks::default()
    });
    QuirksFixture::new()
        .push(registry.address())
        .failed(TARGET, &["error: target"]);
    assert!(registry.requests().len() < 100);
}

/// A registry that refuses every chunk after it has given a login is taken at its word: the second
/// time it is not the line that counts as broken.
#[test]
fn a_login_that_is_good_for_no_chunk() {
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
    let outcome = outcome.failed(AUTH, &["answered PATCH of an upload with 401"]);
    let chunks = registry.count("PATCH", "");
    assert!(chunks <= 2 * 4, "{chunks}: {outcome}");
}

/// A process that does not outlive its test.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A push that was stopped, and not ended, holds up no other for ever; and goes on when it may.
#[test]
fn a_push_that_was_stopped_holds_up_no_other() {
    let fixture = QuirksFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let relay = Relay::start(server.address(), RelayFault::None);
    let path = fixture.written("image.tar", &fixture.image);
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
            .any(|it| it.method == "PATCH" && it.complete);
        chunk.then_some(())
    });
    let id = slow.0.id().to_string();
    let signal = |name: &str| {
        must(Command::new("kill").args([name, &id]));
    };
    signal("-STOP");
    // The journal knows a registry by its address: the other push must go the same way.
    let other = run(&mut push(&[], relay.address())).succeeded();
    assert!(
        other.stderr.contains("another push is sending it"),
        "{other}"
    );
    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, fixture.image.id());
    signal("-CONT");
    assert!(slow.0.wait().expect("its end").success());
    let found = check::at_registry(server.address(), "app:v1");
    assert_eq!(found.config, fixture.image.id());
}
