//! Tests of power cuts at every moment of a workload: afterwards, everything that was acknowledged
//! is there, and nothing incomplete is visible.

use imgsync_oci::endpoint::{Pagination, UploadId};
use imgsync_oci::{Algorithm, Digest, Reference, Repository, media};

use super::cache::tests::{descriptor, folder};
use super::power_cuts::{RecordedWorkload, VisibleState, WorkloadStep};
use super::{Error, Registry, UploadOwner, Walk};
use crate::store::testing::DiskSnapshot;

/// The content that the workload pushes.
struct Workload {
    repository: Repository,
    other: Repository,
    layers: [Vec<u8>; 2],
    images: [Vec<u8>; 2],
    referrer: Vec<u8>,
    /// A session that is finished in the end, and one that is cancelled.
    finished: UploadId,
    cancelled: UploadId,
}

const CONFIG: &[u8] = b"{\"a\":\"config\"}";
const UPLOADED_BYTES: &[u8] = b"what comes in two parts";

fn manifest(layer: &[u8], subject: Option<&[u8]>) -> Vec<u8> {
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, CONFIG),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    if let Some(subject) = subject {
        manifest["subject"] = descriptor(media::OCI_MANIFEST, subject);
    }
    manifest.to_string().into_bytes()
}

/// The steps, in order. Each can be repeated.
const STEPS: [WorkloadStep<Workload>; 20] = [
    |work, registry| work.push_blob(registry, &work.layers[0], Algorithm::Sha256),
    |work, registry| work.push_blob(registry, CONFIG, Algorithm::Sha256),
    |work, registry| work.put(registry, &work.images[0], "v1", &[]),
    |work, registry| work.open(registry, work.finished),
    |work, registry| work.append(registry, work.finished, &UPLOADED_BYTES[..9]),
    |work, registry| work.mount(registry),
    |work, registry| work.push_blob(registry, &work.layers[1], Algorithm::Sha512),
    |work, registry| work.push_blob(registry, &work.layers[1], Algorithm::Sha256),
    |work, registry| {
        let digest = Digest::of(&work.images[1]).to_string();
        work.put(registry, &work.images[1], &digest, &["a", "b"])
    },
    |work, registry| work.put(registry, &work.images[1], "v1", &[]),
    |work, registry| {
        let digest = Digest::of(&work.referrer).to_string();
        work.put(registry, &work.referrer, &digest, &[])
    },
    |work, registry| work.open(registry, work.cancelled),
    |work, registry| work.append(registry, work.cancelled, b"never mind"),
    |work, registry| work.delete(registry, "a"),
    |work, registry| work.cancel(registry, work.cancelled),
    |work, registry| registry.delete_blob(&work.other, &Digest::of(&work.layers[0])),
    |work, registry| work.delete(registry, &Digest::of(&work.images[1]).to_string()),
    |work, registry| work.put(registry, &work.images[1], "v1", &[]),
    |work, registry| work.append(registry, work.finished, UPLOADED_BYTES),
    |work, registry| work.finish(registry),
];

impl Workload {
    fn new() -> Self {
        let layers = [b"a layer".to_vec(), b"another layer".to_vec()];
        let images = [0, 1].map(|i: usize| manifest(&layers[i], None));
        let referrer = manifest(&layers[0], Some(&images[0]));
        Self {
            repository: "team/app".parse().unwrap(),
            other: "other".parse().unwrap(),
            layers,
            images,
            referrer,
            finished: UploadId::random(),
            cancelled: UploadId::random(),
        }
    }

    fn push_blob(
        &self,
        registry: &Registry,
        bytes: &[u8],
        algorithm: Algorithm,
    ) -> Result<(), Error> {
        let id = registry.start_upload(&self.repository, algorithm, &UploadOwner::Unknown)?;
        let mut writer = registry.open_upload_writer(&self.repository, id, Some(0))?;
        writer.ingest.write(bytes)?;
        writer.commit(&Digest::of_with(algorithm, bytes))
    }

    fn put(
        &self,
        registry: &Registry,
        bytes: &[u8],
        reference: &str,
        tags: &[&str],
    ) -> Result<(), Error> {
        let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let reference = reference.parse().unwrap();
        registry
            .put_manifest(&self.repository, &reference, &tags, None, bytes)
            .map(drop)
    }

    fn open(&self, registry: &Registry, id: UploadId) -> Result<(), Error> {
        let store = &registry.store;
        // An earlier attempt that was not acknowledged may have left a session.
        store.cancel_upload(&self.repository, id)?;
        Ok(store.create_upload(&self.repository, id, Algorithm::Sha256, None)?)
    }

    /// Sends the bytes that the session lacks, as a client that resumes does.
    fn append(&self, registry: &Registry, id: UploadId, bytes: &[u8]) -> Result<(), Error> {
        let offset = registry.upload_offset(&self.repository, id)?;
        let mut writer = registry.open_upload_writer(&self.repository, id, Some(offset))?;
        writer.ingest.write(&bytes[offset as usize..])?;
        Ok(writer.ingest.sync()?)
    }

    fn mount(&self, registry: &Registry) -> Result<(), Error> {
        let digest = Digest::of(&self.layers[0]);
        assert!(registry.mount(&self.other, &self.repository, &digest)?);
        Ok(())
    }

    fn delete(&self, registry: &Registry, reference: &str) -> Result<(), Error> {
        let reference = reference.parse().unwrap();
        let deleted = registry.delete_manifest(&self.repository, &reference, &Walk::unbounded());
        deleted.map(drop)
    }

    fn cancel(&self, registry: &Registry, id: UploadId) -> Result<(), Error> {
        registry.cancel_upload(&self.repository, id)
    }

    fn finish(&self, registry: &Registry) -> Result<(), Error> {
        if registry.upload_offset(&self.repository, self.finished)? < UPLOADED_BYTES.len() as u64 {
            // The power was cut while the bytes were moved from the session to the blob.
            self.append(registry, self.finished, UPLOADED_BYTES)?;
        }
        let writer = registry.open_upload_writer(&self.repository, self.finished, None)?;
        writer.commit(&Digest::of(UPLOADED_BYTES))
    }

    /// Reads everything that clients can see, and asserts that it is complete.
    fn view(&self, registry: &Registry) -> VisibleState {
        let mut view = VisibleState::new();
        let mut blobs: Vec<(&Repository, &[u8], Algorithm)> = Vec::new();
        for bytes in [&self.layers[0], &self.layers[1], CONFIG, UPLOADED_BYTES] {
            blobs.push((&self.repository, bytes, Algorithm::Sha256));
        }
        blobs.push((&self.repository, &self.layers[1], Algorithm::Sha512));
        blobs.push((&self.other, &self.layers[0], Algorithm::Sha256));
        for (repository, bytes, algorithm) in blobs {
            let digest = Digest::of_with(algorithm, bytes);
            let state = match registry.open_blob(repository, &digest) {
                Ok(blob) => {
                    assert_eq!(blob.size(), bytes.len() as u64);
                    assert_eq!(blob.read(0, bytes.len()).unwrap(), bytes);
                    "held"
                }
                Err(Error::BlobUnknown(_)) => "absent",
                Err(error) => panic!("{error}"),
            };
            view.insert(format!("{repository} {digest}"), state.to_owned());
        }
        let digests = [&self.images[0], &self.images[1], &self.referrer];
        let digests = digests.map(|bytes| Digest::of(bytes).to_string());
        let references = digests.iter().map(String::as_str);
        for reference in references.chain(["v1", "a", "b"]) {
            view.insert(reference.to_owned(), self.manifest(registry, reference));
        }
        let listed = match registry.list_tags(
            &self.repository,
            &Pagination::default(),
            &Walk::unbounded(),
        ) {
            Ok(listed) => listed.names,
            Err(Error::NameUnknown(_)) => Vec::new(),
            Err(error) => panic!("{error}"),
        };
        for tag in ["v1", "a", "b"] {
            let is_listed = listed.iter().any(|name| name == tag);
            assert_eq!(is_listed, view[tag] != "absent", "{tag}");
        }
        let subject = Digest::of(&self.images[0]);
        let referrers =
            registry.list_referrers(&self.repository, &subject, None, None, &Walk::unbounded());
        let referrers = referrers.unwrap().referrers;
        let referrers: Vec<_> = referrers
            .iter()
            .map(|referrer| referrer.digest.to_string())
            .collect();
        view.insert("referrers".to_owned(), referrers.join(" "));
        for (name, id) in [("finished", self.finished), ("cancelled", self.cancelled)] {
            let offset = match registry.upload_offset(&self.repository, id) {
                Ok(offset) => offset.to_string(),
                Err(Error::UploadUnknown(_)) => "unknown".to_owned(),
                Err(error) => panic!("{error}"),
            };
            view.insert(name.to_owned(), offset);
        }
        view
    }

    /// Returns the digest of a manifest, and asserts that its children are there.
    fn manifest(&self, registry: &Registry, reference: &str) -> String {
        let reference: Reference = reference.parse().unwrap();
        let manifest = match registry.get_manifest(&self.repository, &reference) {
            Ok(manifest) => manifest,
            Err(Error::ManifestUnknown(_)) => return "absent".to_owned(),
            Err(error) => panic!("{error}"),
        };
        let json: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
        for child in [&json["config"], &json["layers"][0]] {
            let digest = child["digest"].as_str().unwrap().parse().unwrap();
            let size = registry.blob_size(&self.repository, &digest).unwrap();
            assert_eq!(child["size"], size);
        }
        manifest.digest.to_string()
    }
}

/// Starts a registry on the state of a disk after a power cut, and checks what clients see. `done`
/// is the number of acknowledged steps.
fn check(work: &Workload, recorded: &RecordedWorkload, done: usize, snapshot: &DiskSnapshot) {
    let root = folder();
    snapshot.write_to(root.path());
    let registry = Registry::open(root.path()).unwrap();
    let (before, next) = (
        &recorded.views[done],
        recorded
            .views
            .get(done + 1)
            .unwrap_or(&recorded.views[done]),
    );
    let view = work.view(&registry);
    for (name, seen) in &view {
        // A session that became a blob may seem to be open and empty. No client asks for it again.
        if name == "finished" && next[name] == "unknown" && seen == "0" {
            continue;
        }
        let allowed = [&before[name], &next[name]];
        assert!(
            allowed.contains(&seen),
            "step {done}: {name} is {seen}, not of {allowed:?}"
        );
    }
    let temporary = std::fs::read_dir(root.path().join("imgsync/tmp")).unwrap();
    assert_eq!(temporary.count(), 0);
    // Repeating the next step is safe.
    let Some(step) = STEPS.get(done) else { return };
    match step(work, &registry) {
        Ok(()) => {}
        Err(Error::UploadUnknown(id)) if id == work.finished => {
            // The blob may be there, or not yet.
            work.push_blob(&registry, UPLOADED_BYTES, Algorithm::Sha256)
                .unwrap();
        }
        Err(Error::ManifestUnknown(_) | Error::BlobUnknown(_) | Error::UploadUnknown(_)) => {
            // The step was complete.
            assert!(
                view.iter()
                    .all(|(name, seen)| name == "finished" || next[name] == *seen)
            );
        }
        Err(error) => panic!("step {done}: {error}"),
    }
    assert_eq!(work.view(&registry), *next, "step {done} again");
}

#[test]
fn after_a_power_cut_everything_acknowledged_is_there_and_nothing_incomplete_is_visible() {
    let (work, root) = (Workload::new(), folder());
    let recorded =
        RecordedWorkload::record(root.path(), &work, &STEPS, |registry| work.view(registry));
    recorded.check_every_power_cut(|done, snapshot| check(&work, &recorded, done, snapshot));
}
