//! Registries that take chunks in their own way, or not at all.

use super::{KIB, Stage, assert_takes, held, image_of, is_chunk};
use crate::support::fake::{Reply, Request, status};
use crate::support::prelude::*;
use crate::support::quirky::{Broken, Manners, Quirky, Session};

#[test]
fn a_patch_may_be_answered_with_any_success_and_locations_may_be_absolute() {
    for took in [200, 201, 202, 204] {
        let registry = assert_takes(Manners {
            took,
            is_absolute: took == 204,
            ..Manners::default()
        });
        assert!(registry.count("PATCH", "") > 4, "{took}");
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// Amazon ECR: 201, and a Range that stays at the first chunk; what begins anew in a session is
/// refused.
#[test]
fn a_range_that_stays_at_the_first_chunk() {
    fn first_only(session: &Session) -> Option<String> {
        held(session.chunks.first().copied().unwrap_or_default())
    }
    for broken in [Broken::Nothing, Broken::Lost] {
        assert_takes(Manners {
            took: 201,
            says: first_only,
            breaks: vec![3, 6],
            broken,
            ..Manners::default()
        });
    }
}

/// The same: parts but the last have a least size, which nothing announces.
#[test]
fn parts_that_are_too_small() {
    fn too_small(request: &Request, session: &Session) -> Option<Reply> {
        let small = |len: &usize| *len < 400 * KIB;
        let refused = is_chunk(request) && session.chunks.iter().any(small);
        refused.then(|| status(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#))
    }
    let registry = assert_takes(Manners {
        took: 201,
        refuses: too_small,
        ..Manners::default()
    });
    assert!(
        registry
            .seen()
            .iter()
            .any(|it| it.method == "PATCH" && !is_chunk(it))
    );
}

/// GitHub's: a large chunk is out of range.
#[test]
fn a_chunk_that_is_out_of_range_for_its_size() {
    fn too_large(request: &Request, _: &Session) -> Option<Reply> {
        let refused = is_chunk(request) && request.body.len() > 200 * KIB;
        refused.then(|| status(416))
    }
    assert_takes(Manners {
        refuses: too_large,
        ..Manners::default()
    });
}

/// Google's: one PATCH and no more, however that is said.
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
    const GONE: usize = 1;
    for (number, refuses) in answers.into_iter().enumerate() {
        for says in [
            (|session: &Session| held(session.bytes.len())) as fn(&Session) -> Option<String>,
            |_| Some("0-0".to_owned()),
            |_| None,
        ] {
            let stage = Stage::new();
            let registry = Quirky::start(Manners {
                refuses,
                says,
                ..Manners::default()
            });
            stage.gets_through(&registry);
            // It is remembered: the next push does not try chunks.
            let before = registry.seen().len();
            let other = image_of(2);
            let address = registry.address();
            stage.push_image(&other, address, "app:v2").succeeded();
            let found = check::at_registry(address, "app:v2");
            assert_eq!(found.config, other.id(), "{number}");
            registry.assert_content();
            let later = &registry.seen()[before..];
            let told = says(&Session::default()).is_some();
            // A session that is simply gone may be so for other reasons.
            if told || number != GONE {
                assert!(!later.iter().any(is_chunk), "{number}");
                assert_eq!(later.iter().filter(|it| it.method == "PATCH").count(), 4);
            }
        }
    }
}

#[test]
fn chunks_that_are_taken_and_not_put_together() {
    let registry = assert_takes(Manners {
        forgets: true,
        says: |session| held(session.chunks.iter().sum()),
        refuses: |_, _| None,
        ..Manners::default()
    });
    // Bytes that are gone before the PUT only arrive with the PUT.
    let puts = registry.seen();
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
            |_: &Request, _: &Session| Some(status($status))
        };
    }
    let answers: [fn(&Request, &Session) -> Option<Reply>; 3] =
        [refuses_with!(405), refuses_with!(404), refuses_with!(501)];
    for refuses in answers {
        let stage = Stage::new();
        let registry = Quirky::start(Manners {
            refuses,
            told: 405,
            ..Manners::default()
        });
        stage.gets_through(&registry);
        let before = registry.count("PATCH", "");
        let other = image_of(2);
        let address = registry.address();
        stage.push_image(&other, address, "app:v2").succeeded();
        assert_eq!(registry.count("PATCH", ""), before);
        registry.assert_content();
    }
}

/// JFrog's, in some places: what is not PATCHed is not taken.
#[test]
fn a_registry_that_takes_no_put_with_bytes() {
    let registry = assert_takes(Manners {
        takes_whole: false,
        ..Manners::default()
    });
    assert!(
        registry
            .seen()
            .iter()
            .filter(|it| it.method == "PATCH")
            .all(is_chunk)
    );
    let chunks_refused = |request: &Request, _: &Session| is_chunk(request).then(|| status(405));
    assert_takes(Manners {
        takes_whole: false,
        refuses: chunks_refused,
        ..Manners::default()
    });
}
