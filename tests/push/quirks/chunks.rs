//! Tests registries that accept chunks only with restrictions, or not at all.

use super::{KIB, QuirksFixture, assert_accepts_push, is_chunk, make_image, range_up_to};
use crate::support::fake::{Reply, Request, status};
use crate::support::prelude::*;
use crate::support::quirky::{Broken, Manners, Quirky, Session};

#[test]
fn a_patch_may_be_answered_with_any_success_and_locations_may_be_absolute() {
    for took in [200, 201, 202, 204] {
        let registry = assert_accepts_push(Manners {
            took,
            is_absolute: took == 204,
            ..Manners::default()
        });
        assert!(registry.count("PATCH", "") > 4, "{took}");
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// Amazon ECR answers 201 with a `Range` of the first chunk only. It refuses a chunk that starts
/// again at offset 0.
#[test]
fn a_range_that_stays_at_the_first_chunk() {
    fn first_only(session: &Session) -> Option<String> {
        range_up_to(session.chunks.first().copied().unwrap_or_default())
    }
    for broken in [Broken::Nothing, Broken::Lost] {
        assert_accepts_push(Manners {
            took: 201,
            says: first_only,
            breaks: vec![3, 6],
            broken,
            ..Manners::default()
        });
    }
}

/// Amazon ECR has a minimum size for all chunks but the last, and does not announce it.
#[test]
fn parts_that_are_too_small() {
    fn too_small(request: &Request, session: &Session) -> Option<Reply> {
        let small = |len: &usize| *len < 400 * KIB;
        let refused = is_chunk(request) && session.chunks.iter().any(small);
        refused.then(|| status(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#))
    }
    let registry = assert_accepts_push(Manners {
        took: 201,
        refuses: too_small,
        ..Manners::default()
    });
    assert!(
        registry
            .seen()
            .iter()
            .any(|request| request.method == "PATCH" && !is_chunk(request))
    );
}

/// GitHub answers 416 to a chunk that is too large.
#[test]
fn a_chunk_that_is_out_of_range_for_its_size() {
    fn too_large(request: &Request, _: &Session) -> Option<Reply> {
        let refused = is_chunk(request) && request.body.len() > 200 * KIB;
        refused.then(|| status(416))
    }
    assert_accepts_push(Manners {
        refuses: too_large,
        ..Manners::default()
    });
}

/// Google accepts one PATCH for each session. Other registries refuse the second one with another
/// status.
#[test]
fn a_second_chunk_is_refused() {
    macro_rules! refuses_with {
        ($status:literal) => {
            |_: &Request, session: &Session| (!session.chunks.is_empty()).then(|| status($status))
        };
    }
    let answers: [fn(&Request, &Session) -> Option<Reply>; 5] = [
        refuses_with!(400),
        refuses_with!(404),
        refuses_with!(405),
        refuses_with!(416),
        refuses_with!(501),
    ];
    const NOT_FOUND: usize = 1;
    for (number, refuses) in answers.into_iter().enumerate() {
        for says in [
            (|session: &Session| range_up_to(session.bytes.len()))
                as fn(&Session) -> Option<String>,
            |_| Some("0-0".to_owned()),
            |_| None,
        ] {
            let fixture = QuirksFixture::new();
            let registry = Quirky::start(Manners {
                refuses,
                says,
                ..Manners::default()
            });
            fixture.assert_push_succeeds(&registry);
            // The result is cached: the next push does not use chunks.
            let before = registry.seen().len();
            let other = make_image(2);
            let address = registry.address();
            fixture.push_image(&other, address, "app:v2").succeeded();
            let found = check::at_registry(address, "app:v2");
            assert_eq!(found.config, other.id(), "{number}");
            registry.assert_content();
            let later = &registry.seen()[before..];
            let reports_range = says(&Session::default()).is_some();
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
    let registry = assert_accepts_push(Manners {
        forgets: true,
        says: |session| range_up_to(session.chunks.iter().sum()),
        refuses: |_, _| None,
        ..Manners::default()
    });
    // The registry loses the chunks, so the bytes arrive with the PUT.
    let puts = registry.seen();
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
            |_: &Request, _: &Session| Some(status($status))
        };
    }
    let answers: [fn(&Request, &Session) -> Option<Reply>; 3] =
        [refuses_with!(405), refuses_with!(404), refuses_with!(501)];
    for refuses in answers {
        let fixture = QuirksFixture::new();
        let registry = Quirky::start(Manners {
            refuses,
            told: 405,
            ..Manners::default()
        });
        fixture.assert_push_succeeds(&registry);
        let before = registry.count("PATCH", "");
        let other = make_image(2);
        let address = registry.address();
        fixture.push_image(&other, address, "app:v2").succeeded();
        assert_eq!(registry.count("PATCH", ""), before);
        registry.assert_content();
    }
}

/// Some installations of JFrog accept bytes only in a PATCH.
#[test]
fn a_registry_that_accepts_no_put_with_a_body() {
    let registry = assert_accepts_push(Manners {
        takes_whole: false,
        ..Manners::default()
    });
    assert!(
        registry
            .seen()
            .iter()
            .filter(|request| request.method == "PATCH")
            .all(is_chunk)
    );
    let chunks_refused = |request: &Request, _: &Session| is_chunk(request).then(|| status(405));
    assert_accepts_push(Manners {
        takes_whole: false,
        refuses: chunks_refused,
        ..Manners::default()
    });
}
