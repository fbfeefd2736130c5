//! Tests registries that accept chunks only with restrictions, or not at all.

use super::{KIB, QuirksFixture, assert_accepts_push, is_chunk, make_image, range_up_to};
use crate::support::fake::{Reply, Request, status};
use crate::support::prelude::*;
use crate::support::quirky::{PartialChunk, QuirkyRegistry, RegistryQuirks, UploadSession};

#[test]
fn a_patch_may_be_answered_with_any_success_and_locations_may_be_absolute() {
    for patch_status in [200, 201, 202, 204] {
        let registry = assert_accepts_push(RegistryQuirks {
            patch_status,
            absolute_locations: patch_status == 204,
            ..RegistryQuirks::default()
        });
        assert!(registry.count("PATCH", "") > 4, "{patch_status}");
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// Amazon ECR answers 201 with a `Range` of the first chunk only. It refuses a chunk that starts
/// again at offset 0.
#[test]
fn a_range_that_stays_at_the_first_chunk() {
    fn first_only(session: &UploadSession) -> Option<String> {
        range_up_to(session.chunks.first().copied().unwrap_or_default())
    }
    for partial_chunk in [PartialChunk::Dropped, PartialChunk::SessionLost] {
        assert_accepts_push(RegistryQuirks {
            patch_status: 201,
            range_header: first_only,
            broken_patches: vec![3, 6],
            partial_chunk,
            ..RegistryQuirks::default()
        });
    }
}

/// Amazon ECR has a minimum size for all chunks but the last, and does not announce it.
#[test]
fn parts_that_are_too_small() {
    fn too_small(request: &Request, session: &UploadSession) -> Option<Reply> {
        let small = |len: &usize| *len < 400 * KIB;
        let refused = is_chunk(request) && session.chunks.iter().any(small);
        refused.then(|| status(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#))
    }
    let registry = assert_accepts_push(RegistryQuirks {
        patch_status: 201,
        refuse_patch: too_small,
        ..RegistryQuirks::default()
    });
    assert!(
        registry
            .requests()
            .iter()
            .any(|request| request.method == "PATCH" && !is_chunk(request))
    );
}

/// GitHub answers 416 to a chunk that is too large.
#[test]
fn a_chunk_that_is_out_of_range_for_its_size() {
    fn too_large(request: &Request, _: &UploadSession) -> Option<Reply> {
        let refused = is_chunk(request) && request.body.len() > 200 * KIB;
        refused.then(|| status(416))
    }
    assert_accepts_push(RegistryQuirks {
        refuse_patch: too_large,
        ..RegistryQuirks::default()
    });
}

/// Google accepts one PATCH for each session. Other registries refuse the second one with another
/// status.
#[test]
fn a_second_chunk_is_refused() {
    macro_rules! refuses_with {
        ($status:literal) => {
            |_: &Request, session: &UploadSession| {
                (!session.chunks.is_empty()).then(|| status($status))
            }
        };
    }
    let answers: [fn(&Request, &UploadSession) -> Option<Reply>; 5] = [
        refuses_with!(400),
        refuses_with!(404),
        refuses_with!(405),
        refuses_with!(416),
        refuses_with!(501),
    ];
    const NOT_FOUND: usize = 1;
    for (number, refuse_patch) in answers.into_iter().enumerate() {
        for range_header in [
            (|session: &UploadSession| range_up_to(session.bytes.len()))
                as fn(&UploadSession) -> Option<String>,
            |_| Some("0-0".to_owned()),
            |_| None,
        ] {
            let fixture = QuirksFixture::new();
            let registry = QuirkyRegistry::start(RegistryQuirks {
                refuse_patch,
                range_header,
                ..RegistryQuirks::default()
            });
            fixture.assert_push_succeeds(&registry);
            // The result is cached: the next push does not use chunks.
            let before = registry.requests().len();
            let other = make_image(2);
            let address = registry.address();
            fixture.push_image(&other, address, "app:v2").succeeded();
            let found = check::at_registry(address, "app:v2");
            assert_eq!(found.config, other.id(), "{number}");
            registry.assert_valid_requests();
            let later = &registry.requests()[before..];
            let reports_range = range_header(&UploadSession::default()).is_some();
            // A 404 alone does not show that chunks are refused: the session can be lost for other
            // reasons.
            if reports_range || number != NOT_FOUND {
                assert!(!later.iter().any(is_chunk), "{number}");
                assert_eq!(
                    later
                        .iter()
                        .filter(|request| request.method == "PATCH")
                        .count(),
                    4
                );
            }
        }
    }
}

#[test]
fn chunks_that_are_accepted_and_lost() {
    let registry = assert_accepts_push(RegistryQuirks {
        loses_chunks: true,
        range_header: |session| range_up_to(session.chunks.iter().sum()),
        refuse_patch: |_, _| None,
        ..RegistryQuirks::default()
    });
    // The registry loses the chunks, so the bytes arrive with the PUT.
    let puts = registry.requests();
    let with_bytes =
        |request: &&Request| request.method == "PUT" && request.target.contains("/uploads/");
    assert!(
        puts.iter()
            .filter(with_bytes)
            .any(|request| request.body.len() > 300 * KIB)
    );
}

/// Each blob is sent in one PUT, and the next push does not try PATCH.
#[test]
fn a_registry_without_patch() {
    macro_rules! refuses_with {
        ($status:literal) => {
            |_: &Request, _: &UploadSession| Some(status($status))
        };
    }
    let answers: [fn(&Request, &UploadSession) -> Option<Reply>; 3] =
        [refuses_with!(405), refuses_with!(404), refuses_with!(501)];
    for refuse_patch in answers {
        let fixture = QuirksFixture::new();
        let registry = QuirkyRegistry::start(RegistryQuirks {
            refuse_patch,
            status_of_get: 405,
            ..RegistryQuirks::default()
        });
        fixture.assert_push_succeeds(&registry);
        let before = registry.count("PATCH", "");
        let other = make_image(2);
        let address = registry.address();
        fixture.push_image(&other, address, "app:v2").succeeded();
        assert_eq!(registry.count("PATCH", ""), before);
        registry.assert_valid_requests();
    }
}

/// Some installations of JFrog accept bytes only in a PATCH.
#[test]
fn a_registry_that_accepts_no_put_with_a_body() {
    let registry = assert_accepts_push(RegistryQuirks {
        accepts_put_body: false,
        ..RegistryQuirks::default()
    });
    assert!(
        registry
            .requests()
            .iter()
            .filter(|request| request.method == "PATCH")
            .all(is_chunk)
    );
    let chunks_refused =
        |request: &Request, _: &UploadSession| is_chunk(request).then(|| status(405));
    assert_accepts_push(RegistryQuirks {
        accepts_put_body: false,
        refuse_patch: chunks_refused,
        ..RegistryQuirks::default()
    });
}
