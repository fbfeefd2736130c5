//! Tests of assemblies that end early: through a purge, a reload, their client, or another push.

use super::super::jobs::AssemblyProgress;
use super::super::plan::AssemblyPlan;
use super::super::run::PreparedAssembly;
use super::super::sources::{DeltaSource, StopCheck};
use super::super::worker::run_job;
use super::*;

impl Fixture {
    /// Uploads a blob whole.
    fn push(&self, blob: &[u8]) {
        let (registry, repository) = (&self.registry, &self.repository);
        let id = registry.start_upload(repository, Algorithm::Sha256, &owner());
        let writer = registry.open_upload_writer(repository, id.unwrap(), None);
        let mut writer = writer.unwrap();
        writer.write(blob).unwrap();
        writer.commit(&Digest::of(blob)).unwrap();
    }

    fn assert_unknown(&self) {
        let diff_id = Digest::of(&self.new);
        let state = self.registry.assembly_state(&self.repository, &diff_id);
        assert!(matches!(state, Err(Error::BlobUnknown(_))), "{state:?}");
    }
}

/// A part of a delta can be long and make no bytes of the layer.
#[test]
fn reading_the_delta_ends_when_the_assembly_is_cancelled() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    fixture.start(&fixture.request(fixture.upload())).unwrap();
    let (_, job) = fixture.registry.assemblies.jobs().take().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(3600);
    let mut source = DeltaSource {
        bytes: job.delta.open().unwrap(),
        stop: StopCheck::new(&fixture.registry, &job.delta, deadline),
    };
    let mut buffer = [0; 10];
    assert_eq!(source.read(&mut buffer).unwrap(), 10);
    let interrupted = job.delta.interrupted_flag();
    interrupted.store(true, std::sync::atomic::Ordering::Relaxed);
    source.read(&mut buffer).unwrap_err();
}

/// A purge removes one blob after the other. The assembly is requested in between.
#[test]
fn a_purge_cancels_an_assembly_that_is_requested_while_it_runs() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let first = (0_u64..).map(|number| number.to_le_bytes().to_vec());
    let mut first = first.filter(|blob| Digest::of(blob) < fixture.base);
    fixture.push(&first.next().unwrap());
    let target = ContentTarget::Repository(fixture.repository.clone());
    let mut session = None;
    let purged = fixture
        .registry
        .purge(&target, PurgeOptions::default(), &mut |_| {
            if session.is_none() {
                let id = fixture.upload();
                fixture.start(&fixture.request(id)).unwrap();
                session = Some(id);
            }
        });
    purged.unwrap();
    assert!(!fixture.has_session(session.unwrap()));
    assert!(fixture.registry.assemblies.jobs().is_empty());
    fixture.assert_unknown();
    fixture.assert_stored(false);
    fixture.assert_clean(root.path());
}

/// The request has opened the base, and does not know of the purge.
#[test]
fn a_job_is_not_queued_after_a_purge_of_its_base() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let (registry, repository) = (&fixture.registry, &fixture.repository);
    let id = fixture.upload();
    let plan = AssemblyPlan::new(&fixture.request(id), 1 << 30).unwrap();
    let writer = registry.open_upload_writer(repository, id, None).unwrap();
    let job = PreparedAssembly {
        repository: repository.clone(),
        bases: registry.open_bases(repository, &plan.bases).unwrap(),
        delta: writer.seal(&plan.delta_digest).unwrap(),
        progress: AssemblyProgress::new(plan.raw_size),
        plan,
    };
    let target = ContentTarget::Digest(fixture.base.clone());
    let options = PurgeOptions::default();
    registry.purge(&target, options, &mut |_| {}).unwrap();
    let error = registry.queue_assembly(job, None).unwrap_err();
    assert!(matches!(error, Error::BlobUnknown(_)), "{error}");
    assert!(registry.assemblies.jobs().is_empty());
    fixture.assert_unknown();
    fixture.assert_clean(root.path());
}

#[test]
fn a_reload_that_forbids_assemblies_stops_them_and_keeps_the_sessions() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let enabled = fixture.registry.delta_config();
    let disabled = DeltaConfig {
        is_enabled: false,
        ..enabled
    };
    let id = fixture.upload();
    for (config, is_read_only) in [(enabled, true), (disabled, false)] {
        fixture.registry.set_delta_config(enabled, false);
        fixture.start(&fixture.request(id)).unwrap();
        fixture.registry.set_delta_config(config, is_read_only);
        run_next(&fixture.registry);
        fixture.assert_unknown();
        assert!(fixture.has_session(id));
        fixture.assert_stored(false);
        fixture.assert_clean(root.path());
    }
    fixture.registry.set_delta_config(enabled, false);
    assert_held(&fixture.assemble(id));
}

#[test]
fn a_client_cancels_its_assembly_with_the_session() {
    let root = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(root.path());
    let (registry, repository) = (&fixture.registry, &fixture.repository);
    let waiting = fixture.upload();
    fixture.start(&fixture.request(waiting)).unwrap();
    // The session is not one of this repository.
    let other = "b".parse().unwrap();
    assert!(registry.cancel_session(&other, waiting).is_err());
    assert!(fixture.has_session(waiting));
    registry.cancel_session(repository, waiting).unwrap();
    assert!(registry.assemblies.jobs().is_empty());
    let running = fixture.upload();
    fixture.start(&fixture.request(running)).unwrap();
    let (key, job) = registry.assemblies.jobs().take().unwrap();
    let is_interrupted = job.delta.interrupted_flag();
    std::thread::scope(|scope| {
        let cancel = scope.spawn(|| registry.cancel_session(repository, running));
        while !is_interrupted.load(std::sync::atomic::Ordering::Relaxed) && !cancel.is_finished() {
            std::thread::yield_now();
        }
        run_job(registry, key, job);
        cancel.join().unwrap().unwrap();
    });
    for id in [waiting, running] {
        assert!(!fixture.has_session(id));
    }
    fixture.assert_unknown();
    fixture.assert_stored(false);
    fixture.assert_clean(root.path());
}

/// The delta is none, so the assembly would fail.
#[test]
fn a_layer_that_arrives_while_its_job_waits_is_not_assembled() {
    let root = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(root.path());
    fixture.delta = b"no delta".to_vec();
    let (first, second) = (fixture.upload(), fixture.upload());
    fixture.start(&fixture.request(first)).unwrap();
    let mut blob = Vec::new();
    let digests = layer::gzip(&fixture.new[..], &mut blob, 1).unwrap();
    fixture.push(&blob);
    let recorded = fixture
        .registry
        .record_gzip_layer(&fixture.repository, digests);
    recorded.unwrap();
    assert_held(&fixture.start(&fixture.request(second)).unwrap());
    assert!(!fixture.has_session(second));
    run_next(&fixture.registry);
    assert_held(&fixture.state());
    assert!(!fixture.has_session(first));
    fixture.assert_clean(root.path());
}
