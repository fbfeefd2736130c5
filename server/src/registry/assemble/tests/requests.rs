//! Tests of requests that are checked before their assembly is queued.

use super::*;

/// Hashing a long delta takes a while, for which nothing waits.
#[test]
fn requests_do_not_wait_for_one_whose_delta_is_hashed() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let first = fixture.request(fixture.upload());
    let key = (fixture.repository.clone(), first.diff_id.clone());
    let assemblies = &fixture.registry.assemblies;
    let place = assemblies.reserve(&key, first.raw_size, None).unwrap();
    let working = AssemblyState::Working {
        done: 0,
        of: first.raw_size,
    };
    assert_eq!(fixture.start(&first).unwrap(), working);
    assert_eq!(fixture.state(), working);
    let mut other = fixture.request(fixture.upload());
    other.diff_id = Digest::of(b"another layer");
    assert_eq!(fixture.start(&other).unwrap(), working);
    assert_eq!(assemblies.jobs().take().unwrap().0.1, other.diff_id);
    // The request was refused: the next one is not told that the assembly waits.
    drop(place);
    fixture.start(&first).unwrap();
    assert_eq!(assemblies.jobs().take().unwrap().0.1, first.diff_id);
}

#[test]
fn a_delta_that_is_longer_than_its_layer_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path());
    fixture.delta.resize(fixture.new.len() + (2 << 20), 0);
    let session = fixture.upload();
    let error = fixture.start(&fixture.request(session)).unwrap_err();
    assert!(matches!(error, Error::AssemblyInvalid(_)), "{error}");
    assert!(fixture.has_session(session));
    assert!(fixture.registry.assemblies.jobs().is_empty());
}
