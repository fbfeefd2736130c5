//! Power cut tests of the cache: a cut at any point of a sequence of operations.
//!
//! Acknowledged pushes must never count as cached, cached content must never count as pushed, and
//! nothing incomplete may be visible.

use std::path::Path;
use std::time::Duration;

use imgsync_oci::{Digest, Reference, Repository, Tag};

use super::tests::{UPSTREAM, folder, image, index};
use super::{BlobState, CacheLimits, ManifestState, TagState, UpstreamManifest};
use crate::registry::power_cuts::{RecordedWorkload, VisibleState, WorkloadStep};
use crate::registry::{Error, Registry, UploadOwner, Walk};
use crate::store::testing::DiskSnapshot;
use crate::store::{MarkKey, ObjectKey};

/// The content that the sequence of operations uses.
struct Workload {
    repository: Repository,
    other: Repository,
    layers: [&'static [u8]; 3],
    /// One image for each layer, with its config.
    images: [(Vec<u8>, Vec<u8>); 3],
    /// An index of the first two images, and an index of that index.
    indexes: [Vec<u8>; 2],
}

const PARTIAL_BYTES: &[u8] = b"first, ";
const COMPLETE_BYTES: &[u8] = b"first, and then the rest";
/// A time after all operations, in Unix seconds.
const EVICTION_TIME: u64 = 4_000_000_000;

/// The operations in order. Each can be repeated.
const STEPS: [WorkloadStep<Workload>; 25] = [
    |work, registry| work.cache_manifest(registry, "v1", &work.images[0].0),
    |work, registry| work.cache_blob(registry, work.layers[0]),
    |work, registry| work.cache_blob(registry, &work.images[0].1),
    |work, registry| work.begin(registry),
    |work, registry| work.cache_manifest(registry, "v1", &work.images[1].0),
    |work, registry| work.confirm(registry, "v1", &work.images[1].0),
    |work, registry| work.cache_blob(registry, COMPLETE_BYTES),
    |work, registry| work.cache_blob(registry, work.layers[1]),
    |work, registry| work.cache_blob(registry, &work.images[1].1),
    |work, registry| work.cache_manifest(registry, "index", &work.indexes[0]),
    |work, registry| work.cache_manifest(registry, "", &work.indexes[1]),
    |work, registry| work.link(registry),
    // Pushes a tag over a cached one, for an image that came from the upstream.
    |work, registry| work.push(registry, "v1", &work.images[0].0),
    |work, registry| work.cache_manifest(registry, "v1", &work.images[1].0),
    |work, registry| work.push(registry, "index", &work.indexes[0]),
    |work, registry| work.cache_manifest(registry, "v3", &work.images[2].0),
    |work, registry| work.cache_blob(registry, work.layers[2]),
    |work, registry| work.upload(registry, work.layers[2]),
    |work, registry| work.evict(registry),
    |work, registry| work.cache_manifest(registry, "v3", &work.images[2].0),
    |work, registry| work.forget(registry, "v3"),
    |work, registry| work.cache_manifest(registry, "v4", &work.images[2].0),
    |work, registry| work.delete(registry, "v4"),
    |work, registry| work.delete(registry, &Digest::of(&work.images[2].0).to_string()),
    |work, registry| work.evict(registry),
];

impl Workload {
    fn new() -> Self {
        let layers: [&[u8]; 3] = [b"a layer", b"another layer", b"a third one"];
        let images = [0, 1, 2].map(|number: usize| image(&number.to_string(), &[layers[number]]));
        let inner = index(&[&images[0].0, &images[1].0]);
        let indexes = [index(&[&inner]), inner];
        Self {
            repository: "ghcr.io/owner/app".parse().unwrap(),
            other: "other".parse().unwrap(),
            layers,
            images,
            indexes,
        }
    }

    /// Caches a manifest, with a tag unless `tag` is empty.
    fn cache_manifest(&self, registry: &Registry, tag: &str, bytes: &[u8]) -> Result<(), Error> {
        let incoming = UpstreamManifest {
            digest: None,
            media_type: None,
            bytes,
            upstream: UPSTREAM,
        };
        let tag: Option<Tag> = tag.parse().ok();
        registry
            .cache_manifest(&self.repository, tag.as_ref(), incoming, 1000)
            .map(drop)
    }

    fn begin(&self, registry: &Registry) -> Result<(), Error> {
        let mut fill = registry
            .open_cache_fill(&Digest::of(COMPLETE_BYTES), UPSTREAM)?
            .unwrap();
        let offset = fill.ingest.offset() as usize;
        fill.append(&PARTIAL_BYTES[offset..])?;
        Ok(fill.ingest.sync()?)
    }

    fn cache_blob(&self, registry: &Registry, bytes: &[u8]) -> Result<(), Error> {
        let mut fill = registry
            .open_cache_fill(&Digest::of(bytes), UPSTREAM)?
            .unwrap();
        let offset = fill.ingest.offset() as usize;
        fill.append(&bytes[offset..])?;
        fill.commit(std::slice::from_ref(&self.repository), 1000)
    }

    fn link(&self, registry: &Registry) -> Result<(), Error> {
        let layer = Digest::of(self.layers[0]);
        assert!(registry.link_cached_blob(&self.other, &layer, UPSTREAM, 1000)?);
        Ok(())
    }

    fn confirm(&self, registry: &Registry, tag: &str, bytes: &[u8]) -> Result<(), Error> {
        let (tag, digest) = (tag.parse().unwrap(), Digest::of(bytes));
        assert!(registry.confirm_tag(&self.repository, &tag, &digest, 2000)?);
        Ok(())
    }

    fn forget(&self, registry: &Registry, tag: &str) -> Result<(), Error> {
        let tag = tag.parse().unwrap();
        registry
            .remove_cached_tag(&self.repository, &tag)
            .map(|_| ())
    }

    fn upload(&self, registry: &Registry, bytes: &[u8]) -> Result<(), Error> {
        let algorithm = imgsync_oci::Algorithm::Sha256;
        let id = registry.start_upload(&self.repository, algorithm, &UploadOwner::Unknown)?;
        let mut writer = registry.open_upload_writer(&self.repository, id, Some(0))?;
        writer.ingest.write(bytes)?;
        writer.commit(&Digest::of(bytes))
    }

    fn push(&self, registry: &Registry, reference: &str, bytes: &[u8]) -> Result<(), Error> {
        let reference: Reference = reference.parse().unwrap();
        registry
            .put_manifest(&self.repository, &reference, &[], None, bytes)
            .map(drop)
    }

    fn delete(&self, registry: &Registry, reference: &str) -> Result<(), Error> {
        let reference = reference.parse().unwrap();
        let deleted = registry.delete_manifest(&self.repository, &reference, &Walk::unbounded());
        deleted.map(drop)
    }

    fn evict(&self, registry: &Registry) -> Result<(), Error> {
        let limits = CacheLimits {
            max_bytes: Some(0),
            max_unused: None,
            grace_period: Duration::from_secs(1),
        };
        registry.evict(&limits, EVICTION_TIME)?;
        // Evicts again an hour later, when the leases have expired.
        registry.evict(&limits, EVICTION_TIME + 4000).map(|_| ())
    }

    /// Returns everything that is visible, and checks that all of it is complete.
    fn view(&self, registry: &Registry) -> VisibleState {
        let mut view = VisibleState::new();
        let images = self.images.iter();
        let configs = images.clone().map(|(_, config)| &config[..]);
        let layers = self
            .layers
            .into_iter()
            .chain([COMPLETE_BYTES])
            .chain(configs);
        for bytes in layers {
            for repository in [&self.repository, &self.other] {
                let digest = Digest::of(bytes);
                let mark = MarkKey::Layer(repository, &digest);
                let state = match registry.open_blob(repository, &digest) {
                    Err(Error::BlobUnknown(_)) => "absent",
                    Err(error) => panic!("{error}"),
                    Ok(blob) => {
                        assert_eq!(blob.size(), bytes.len() as u64);
                        assert_eq!(blob.read(0, bytes.len()).unwrap(), bytes);
                        match registry.store.mark_time(mark).unwrap() {
                            Some(_) => "cached",
                            None => "pushed",
                        }
                    }
                };
                view.insert(format!("{repository} {digest}"), state.to_owned());
            }
        }
        for bytes in images.map(|(manifest, _)| manifest).chain(&self.indexes) {
            let digest = Digest::of(bytes);
            let state = registry.manifest_state(&self.repository, &digest).unwrap();
            if state != ManifestState::Absent {
                let reference = Reference::Digest(digest.clone());
                let served = registry.get_manifest(&self.repository, &reference).unwrap();
                assert_eq!(served.bytes, *bytes);
            }
            view.insert(digest.to_string(), format!("{state:?}"));
        }
        for tag in ["v1", "index", "v3", "v4"] {
            let name: Tag = tag.parse().unwrap();
            let state = registry.tag_state(&self.repository, &name).unwrap();
            let served = registry.read_link(ObjectKey::TagCurrent(&self.repository, &name));
            let state = match state {
                TagState::Absent => "absent".to_owned(),
                TagState::Pushed => format!("pushed {:?}", served.unwrap()),
                TagState::Cached {
                    digest,
                    confirmed_at,
                    ..
                } => format!("cached {digest} {confirmed_at}"),
            };
            view.insert(tag.to_owned(), state);
        }
        view
    }
}

/// Starts a registry on what a power cut after `done` acknowledged operations left, and checks it.
fn check(work: &Workload, recorded: &RecordedWorkload, done: usize, snapshot: &DiskSnapshot) {
    let root = folder();
    snapshot.write_to(root.path());
    let registry = Registry::open(root.path()).unwrap();
    let last = &recorded.views[done];
    let next = recorded.views.get(done + 1).unwrap_or(last);
    let view = work.view(&registry);
    for (name, seen) in &view {
        let allowed = [&last[name], &next[name]];
        assert!(
            allowed.contains(&seen),
            "step {done}: {name} is {seen}, not of {allowed:?}"
        );
    }
    if (4..6).contains(&done) {
        let fill = registry
            .open_cache_fill(&Digest::of(COMPLETE_BYTES), UPSTREAM)
            .unwrap()
            .unwrap();
        assert_eq!(fill.ingest.offset(), PARTIAL_BYTES.len() as u64);
    }
    let Some(step) = STEPS.get(done) else { return };
    match step(work, &registry) {
        // `ManifestUnknown` means that the operation was already complete.
        Ok(()) | Err(Error::ManifestUnknown(_)) => {}
        Err(error) => panic!("step {done}: {error}"),
    }
    assert_eq!(work.view(&registry), *next, "step {done} again");
    // Nothing that a crash left may occupy space forever.
    work.evict(&registry).unwrap();
    let bytes = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        let state = registry.blob_state(&work.other, &digest).unwrap();
        let is_linked = registry.open_blob(&work.repository, &digest).is_ok();
        let is_leak = state != BlobState::Absent && !is_linked;
        assert!(
            !is_leak,
            "step {done}: {:?} stays",
            String::from_utf8_lossy(bytes)
        );
    };
    work.layers
        .into_iter()
        .chain([COMPLETE_BYTES])
        .for_each(bytes);
    for name in ["repositories", "filling"] {
        let folder = root.path().join("imgsync/cache").join(name);
        assert_eq!(files(&folder), [""; 0], "step {done}");
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path)
        } else {
            vec![path.display().to_string()]
        }
    });
    paths.collect()
}

#[test]
fn after_a_power_cut_pushed_content_counts_as_pushed_and_cached_content_as_cached() {
    let (work, root) = (Workload::new(), folder());
    let recorded =
        RecordedWorkload::record(root.path(), &work, &STEPS, |registry| work.view(registry));
    recorded.check_every_power_cut(|done, snapshot| check(&work, &recorded, done, snapshot));
}
