//! Registries that take chunks in their own way, or not at all.

use super::{KIB, QuirksFixture, assert_takes, held, image_of, is_chunk};
use crate::support::fake::{Reply, Request, status};
use crate::support::prelude::*;
use crate::support::quirky::{PartialChunk, QuirkyRegistry, RegistryQuirks, UploadSession};

#[test]
fn a_patch_may_be_answered_with_any_success_and_locations_may_be_absolute() {
    for patch_status in [200, 201, 202, 204] {
        let registry = assert_takes(RegistryQuirks {
            patch_status,
            absolute_locations: patch_status == 204,
            ..RegistryQuirks::default()
        });
        assert!(registry.count("PATCH", "") > 4, "{patch_status}");
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// Amazon ECR: 201, and a Range that stays at the first chunk; what begins anew in a session is
/// refused.
#[test]
fn a_range_that_stays_at_the_first_chunk() {
    fn first_only(session: &UploadSession) -> Option<String> {
        held(session.chunks.first().copied().unwrap_or_default())
    }
    for partial_chunk in [PartialChunk::Dropped, PartialChunk::SessionLost] {
        assert_takes(RegistryQuirks {
            patch_status: 201,
            range_header: first_only,
            broken_patches: vec![3, 6],
            partial_chunk,
            ..RegistryQuirks::default()
        });
    }
}

/// The same: parts but the last have a least size, which nothing announces.
#[test]
fn parts_that_are_too_small() {
    fn too_small(request: &Request, session: &UploadSession) -> Option<Reply> {
        let small = |len: &usize| *len < 400 * KIB;
        let refused = is_chunk(request) && session.chunks.iter().any(small);
        refused.then(|| status(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#))
    }
    let registry = assert_takes(RegistryQuirks {
        patch_status: 201,
        refuse_patch: too_small,
        ..RegistryQuirks::default()
    });
    assert!(
        registry
            .requests()
            .iter()
            .any(|it| it.method == "PATCH" && !is_chunk(it))
    );
}

/// GitHub's: a large chunk is out of range.
#[test]
fn a_chunk_that_is_out_of_range_for_its_size() {
    fn too_large(request: &Request, _: &UploadSession) -> Option<Reply> {
        let refused = is_chunk(request) && request.body.len() > 200 * KIB;
        refused.then(|| status(416))
    }
    assert_takes(RegistryQuirks {
        refuse_patch: too_large,
        ..RegistryQuirks::default()
    });
}

/// Google's: one PATCH and no more, however that is said.
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
    const GONE: usize = 1;
    for (number, refuse_patch) in answers.into_iter().enumerate() {
        for range_header in [
            (|session: &UploadSession| held(session.bytes.len()))
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
            fixture.gets_through(&registry);
            // It is remembered: the next push does not try chunks.
            let before = registry.requests().len();
            let other = image_of(2);
            let address = registry.address();
            fixture.push_image(&other, address, "app:v2").succeeded();
            let found = check::at_registry(address, "app:v2");
            assert_eq!(found.config, other.id(), "{number}");
            registry.assert_valid_requests();
            let later = &registry.requests()[before..];
            let has_range = range_header(&UploadSession::default()).is_some();
            // A session that is simply gone may be so for other reasons.
            if has_range || number != GONE {
                assert!(!later.iter().any(is_chunk), "{number}");
                assert_eq!(later.iter().filter(|it| it.method == "PATCH").count(), 4);
            }
        }
    }
}

#[test]
fn chunks_that_are_taken_and_not_put_together() {
    let registry = assert_takes(RegistryQuirks {
        loses_chunks: true,
        range_header: |session| held(session.chunks.iter().sum()),
        refuse_patch: |_, _| None,
        ..RegistryQuirks::default()
    });
    // Bytes that are gone before the PUT only arrive with the PUT.
    let puts = registry.requests();
    let with_bytes = |it: &&Request| it.method == "PUT" && it.target.contains("/uploads/");
    assert!(
        puts.iter()
            .filter(with_bytes)
            .any(|it| it.body.len() > 300 * KIB)
    );
}

/// No PATCH at all: one PUT brings a blob, and the next push knows.
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
        fixture.gets_through(&registry);
        let before = registry.count("PATCH", "");
        let other = image_of(2);
        let address = registry.address();
        fixture.push_image(&other, address, "app:v2").succeeded();
        assert_eq!(registry.count("PATCH", ""), before);
        registry.assert_valid_requests();
    }
}

/// JFrog's, in some places: what is not PATCHed is not taken.
#[test]
fn a_registry_that_takes_no_put_with_bytes() {
    let registry = assert_takes(RegistryQuirks {
        accepts_put_body: false,
        ..RegistryQuirks::default()
    });
    assert!(
        registry
            .requests()
            .iter()
            .filter(|it| it.method == "PATCH")
            .all(is_chunk)
    );
    let chunks_refused =
        |request: &Request, _: &UploadSession| is_chunk(request).then(|| status(405));
    assert_takes(RegistryQuirks {
        accepts_put_body: false,
        refuse_patch: chunks_refused,
        ..RegistryQuirks::default()
    });
}
