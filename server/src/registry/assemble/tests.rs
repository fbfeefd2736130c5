//! Tests of assemblies on a real disk, without the thread of the worker: each job runs when the test
//! says so.

mod requests;
mod stops;

use std::io::{Cursor, Read, Write as _};
use std::path::Path;

use imgsync_oci::delta::{self, DecodedBase, EncodeBase};
use imgsync_oci::endpoint::UploadId;
use imgsync_oci::ext::assemble::{AssembleRequest, AssemblyState};
use imgsync_oci::{Algorithm, Digest, Repository, layer};

use super::worker::run_next;
use crate::config::{DeltaConfig, QuotaConfig, SpaceConfig};
use crate::registry::{ContentTarget, Error, PurgeOptions, Registry, UploadOwner};
use crate::store::ObjectKey;

struct Fixture {
    registry: Registry,
    repository: Repository,
    new: Vec<u8>,
    delta: Vec<u8>,
    base: Digest,
}

/// Returns a tar with one file of noise, of which the last bytes differ.
fn tar(last: u8) -> Vec<u8> {
    let mut state = 1_u32;
    let mut content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(600 * 512)
    .collect();
    content.extend([last; 512]);
    let mut header = [0; 512];
    header[..4].copy_from_slice(b"file");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    [&header[..], &content, &[0; 1024]].concat()
}

fn owner() -> UploadOwner {
    UploadOwner::User("alice".into())
}

impl Fixture {
    /// Opens a registry that holds the old layer, and accepts assemblies.
    fn new(root: &Path) -> Self {
        let registry = Registry::open(root).unwrap();
        registry.set_delta_config(
            DeltaConfig {
                is_enabled: true,
                max_layer_bytes: 1 << 30,
            },
            false,
        );
        registry.assemblies.jobs().open();
        let repository: Repository = "a".parse().unwrap();
        let (old, new) = (tar(1), tar(2));
        let decoded = DecodedBase::decode(&old[..], Cursor::new(Vec::new())).unwrap();
        let (bytes, mut delta) = (new.clone(), Vec::new());
        let open = || Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read>);
        let scratch = || Ok(Cursor::new(Vec::new()));
        let mut bases = [EncodeBase::Decoded(decoded)];
        delta::encode(&open, &mut bases, &scratch, u64::MAX, &mut delta).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&old).unwrap();
        let blob = encoder.finish().unwrap();
        let base = Digest::of(&blob);
        let mut fixture = Self {
            registry,
            repository,
            new,
            delta: blob,
            base: base.clone(),
        };
        let id = fixture.upload();
        let registry = &fixture.registry;
        let writer = registry.open_upload_writer(&fixture.repository, id, None);
        writer.unwrap().commit(&base).unwrap();
        fixture.delta = delta;
        fixture
    }

    /// Uploads the delta to a session.
    fn upload(&self) -> UploadId {
        let (registry, repository) = (&self.registry, &self.repository);
        let id = registry.start_upload(repository, Algorithm::Sha256, &owner());
        let id = id.unwrap();
        let mut writer = registry.open_upload_writer(repository, id, None).unwrap();
        writer.write(&self.delta).unwrap();
        writer.sync().unwrap();
        id
    }

    fn request(&self, session: UploadId) -> AssembleRequest {
        AssembleRequest {
            session: session.to_string(),
            delta_digest: Digest::of(&self.delta),
            bases: vec![self.base.clone()],
            diff_id: Digest::of(&self.new),
            raw_size: self.new.len() as u64,
            format: delta::FORMAT_NAME.to_owned(),
            compression: layer::GZIP_FORMAT_NAME.to_owned(),
        }
    }

    fn start(&self, request: &AssembleRequest) -> Result<AssemblyState, Error> {
        self.registry
            .start_assembly(&self.repository, request, Some("alice"))
    }

    /// Starts the assembly and runs it.
    fn assemble(&self, session: UploadId) -> AssemblyState {
        self.start(&self.request(session)).unwrap();
        run_next(&self.registry);
        self.state()
    }

    fn state(&self) -> AssemblyState {
        let diff_id = Digest::of(&self.new);
        self.registry
            .assembly_state(&self.repository, &diff_id)
            .unwrap()
    }

    fn has_session(&self, id: UploadId) -> bool {
        self.registry.upload_offset(&self.repository, id).is_ok()
    }

    /// Checks that the new blob is the one of a whole push, or that it is not there.
    fn assert_stored(&self, is_stored: bool) {
        let mut expected = Vec::new();
        let digest = layer::gzip(&self.new[..], &mut expected, 1).unwrap().digest;
        match self.registry.open_blob(&self.repository, &digest) {
            Ok(blob) => {
                assert!(is_stored);
                assert!(blob.read(0, expected.len()).unwrap() == expected);
            }
            Err(error) => assert!(!is_stored, "{error}"),
        }
    }

    /// Checks that no temporary file and no claimed room is left.
    fn assert_clean(&self, root: &Path) {
        let left = std::fs::read_dir(root.join("imgsync/tmp")).unwrap();
        assert_eq!(left.count(), 0);
        assert_eq!(self.registry.claimed_bytes(), 0);
    }
}

fn assert_held(state: &AssemblyState) {
    assert!(matches!(state, AssemblyState::Held { .. }), "{state:?}");
}

fn assert_failed(state: &AssemblyState, expected: &str) {
    match state {
        AssemblyState::Failed { reason } => assert!(reason.contains(expected), "{reason}"),
        state => panic!("{state:?}"),
    }
}

#[test]
fn equal_requests_are_one_job_and_the_queue_is_bounded() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let first = fixture.request(fixture.upload());
    let working = AssemblyState::Working {
        done: 0,
        of: first.raw_size,
    };
    assert_eq!(fixture.start(&first).unwrap(), working);
    // A second request for a layer, also from another session, is not another job.
    let second = fixture.upload();
    for request in [&first, &fixture.request(second)] {
        assert_eq!(fixture.start(request).unwrap(), working);
    }
    assert!(fixture.has_session(second));
    let other_layer = |number: u8| {
        let mut request = fixture.request(fixture.upload());
        request.diff_id = Digest::of(&[number]);
        request
    };
    let start = |request: &AssembleRequest| {
        let repository = &fixture.repository;
        fixture.registry.start_assembly(repository, request, None)
    };
    for number in 1..8 {
        assert_eq!(start(&other_layer(number)).unwrap(), working);
    }
    let refused = other_layer(8);
    let error = start(&refused).unwrap_err();
    assert!(matches!(error, Error::TooManyAssemblies), "{error}");
    assert!(fixture.has_session(refused.session.parse().unwrap()));
    // The request for a layer that waits is answered also now.
    assert_eq!(fixture.start(&first).unwrap(), working);
    run_next(&fixture.registry);
    assert_held(&fixture.state());
    assert_eq!(start(&refused).unwrap(), working);
}

/// A failure says nothing about the delta of another session.
#[test]
fn after_a_failure_the_delta_of_another_session_is_assembled() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path());
    let good = fixture.request(fixture.upload());
    let delta = std::mem::replace(&mut fixture.delta, b"no delta".to_vec());
    let wrong = fixture.request(fixture.upload());
    fixture.delta = delta;
    fixture.start(&wrong).unwrap();
    fixture.start(&good).unwrap();
    run_next(&fixture.registry);
    assert_failed(&fixture.state(), "");
    let error = fixture.start(&wrong).unwrap_err();
    assert!(matches!(error, Error::UploadUnknown(_)), "{error}");
    fixture.start(&good).unwrap();
    run_next(&fixture.registry);
    assert_held(&fixture.state());
    fixture.assert_clean(root.path());
}

#[test]
fn nobody_else_writes_to_the_session_or_cancels_it() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let (registry, repository) = (&fixture.registry, &fixture.repository);
    let id = fixture.upload();
    let request = fixture.request(id);
    let writer = registry.open_upload_writer(repository, id, None).unwrap();
    let error = fixture.start(&request).unwrap_err();
    assert!(matches!(error, Error::UploadBusy { .. }), "{error}");
    drop(writer);
    let other_user = registry.start_assembly(repository, &request, Some("bob"));
    assert!(matches!(other_user, Err(Error::UploadUnknown(_))));
    fixture.start(&request).unwrap();
    let writer = registry.open_upload_writer(repository, id, None);
    assert!(matches!(writer, Err(Error::UploadBusy { .. })));
    let cancelled = registry.cancel_upload(repository, id);
    assert!(matches!(cancelled, Err(Error::UploadBusy { .. })));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    assert_eq!(registry.purge_uploads(later, false).unwrap(), 0);
    run_next(registry);
    assert_held(&fixture.state());
    assert!(!fixture.has_session(id));
    fixture.assert_stored(true);
    fixture.assert_clean(root.path());
}

#[test]
fn a_base_that_is_removed_while_the_job_waits_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let (registry, repository) = (&fixture.registry, &fixture.repository);
    let (id, other) = (fixture.upload(), fixture.upload());
    fixture.start(&fixture.request(id)).unwrap();
    registry.delete_blob(repository, &fixture.base).unwrap();
    registry
        .store
        .delete(ObjectKey::Blob(&fixture.base))
        .unwrap();
    run_next(registry);
    assert_held(&fixture.state());
    fixture.assert_stored(true);
    // Now the base is absent.
    let mut request = fixture.request(other);
    request.diff_id = Digest::of(b"another layer");
    let error = fixture.start(&request).unwrap_err();
    assert!(matches!(error, Error::BlobUnknown(_)), "{error}");
    assert!(fixture.has_session(other));
}

/// A purge is for content that nobody may have any more.
#[test]
fn a_purge_of_a_base_cancels_the_assembly() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let (registry, repository) = (&fixture.registry, &fixture.repository);
    let id = fixture.upload();
    fixture.start(&fixture.request(id)).unwrap();
    let target = ContentTarget::Digest(fixture.base.clone());
    let options = PurgeOptions::default();
    registry.purge(&target, options, &mut |_| {}).unwrap();
    assert!(!fixture.has_session(id));
    let diff_id = Digest::of(&fixture.new);
    let state = registry.assembly_state(repository, &diff_id);
    assert!(matches!(state, Err(Error::BlobUnknown(_))));
    assert!(registry.assemblies.jobs().is_empty());
    fixture.assert_stored(false);
    fixture.assert_clean(root.path());
}

#[test]
fn a_server_that_stops_keeps_the_sessions() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let (first, second) = (fixture.upload(), fixture.upload());
    let mut other = fixture.request(second);
    other.diff_id = Digest::of(b"another layer");
    fixture.start(&fixture.request(first)).unwrap();
    fixture.start(&other).unwrap();
    let (key, job) = fixture.registry.assemblies.jobs().take().unwrap();
    drop(fixture.registry.assemblies.jobs().close());
    super::worker::run_job(&fixture.registry, key, job);
    let diff_id = Digest::of(&fixture.new);
    let state = fixture
        .registry
        .assembly_state(&fixture.repository, &diff_id);
    assert!(matches!(state, Err(Error::BlobUnknown(_))));
    fixture.assert_stored(false);
    fixture.assert_clean(root.path());
    // As after a restart.
    fixture.registry.assemblies.jobs().open();
    assert!(fixture.has_session(second));
    assert_held(&fixture.assemble(first));
    fixture.assert_stored(true);
}

#[test]
fn without_room_for_the_bases_nothing_is_assembled_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let registry = &fixture.registry;
    let reserve = SpaceConfig {
        reserve: Some(0),
        quotas: Vec::new(),
    };
    registry.set_space_limits(&reserve, None);
    let other = fixture.upload();
    // The base and the layer have 300 KB each.
    registry.store.simulate_disk(900_000);
    let id = fixture.upload();
    assert_failed(&fixture.assemble(id), "the disk of the registry is full");
    assert!(!fixture.has_session(id));
    // Other uploads of the same push go on: the layer can be sent whole.
    assert!(fixture.has_session(other));
    fixture.assert_stored(false);
    fixture.assert_clean(root.path());
    registry.store.simulate_disk(30_000_000);
    assert_held(&fixture.assemble(other));
    fixture.assert_clean(root.path());
}

#[test]
fn a_quota_counts_the_new_blob_and_not_the_temporary_files() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let quota = |max_bytes| SpaceConfig {
        reserve: None,
        quotas: vec![QuotaConfig {
            repositories: vec!["a".parse().unwrap()],
            max_bytes,
        }],
    };
    fixture.registry.set_space_limits(&quota(500_000), None);
    let id = fixture.upload();
    assert_failed(&fixture.assemble(id), "imgsync.space.quotas");
    fixture.assert_stored(false);
    fixture.assert_clean(root.path());
    fixture.registry.set_space_limits(&quota(700_000), None);
    assert_held(&fixture.assemble(fixture.upload()));
    fixture.assert_stored(true);
    fixture.assert_clean(root.path());
}

#[test]
fn a_damaged_base_is_found_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let (registry, repository) = (&fixture.registry, &fixture.repository);
    let key = ObjectKey::Blob(&fixture.base);
    let blob = registry.open_blob(repository, &fixture.base).unwrap();
    let intact = blob.read(0, blob.size().try_into().unwrap()).unwrap();
    let mut flipped = intact.clone();
    flipped[intact.len() / 2] ^= 1;
    for (damaged, expected) in [(tar(3), "is damaged"), (flipped, "is no usable layer")] {
        registry.store.put(key, &damaged).unwrap();
        let id = fixture.upload();
        assert_failed(&fixture.assemble(id), expected);
        assert!(registry.open_blob(repository, &fixture.base).is_err());
        fixture.assert_stored(false);
        fixture.assert_clean(root.path());
    }
}
