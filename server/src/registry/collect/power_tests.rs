//! Tests of power cuts at every moment of collections, deletions and restorations: nothing that was
//! acknowledged is lost, and each of them can be repeated.

use std::time::Duration;

use imgsync_oci::{Digest, Repository};

use super::super::cache::tests::{folder, image, push, push_blob};
use super::super::power_cuts::{RecordedWorkload, VisibleState, WorkloadStep};
use super::super::{Error, Registry, Walk};
use super::{CollectOptions, ContentTarget, UntaggedPolicy};
use crate::store::testing::DiskSnapshot;
use crate::wall_clock::unix_now;

/// The layers of the images at `v1` and `v2`. They share one.
const LAYERS: [&[&[u8]]; 2] = [&[b"a layer", b"shared"], &[b"another layer", b"shared"]];

struct Workload {
    repository: Repository,
}

const STEPS: [WorkloadStep<Workload>; 8] = [
    |work, registry| work.push_image(registry, "v1", LAYERS[0]),
    |work, registry| work.push_image(registry, "v2", LAYERS[1]),
    |work, registry| work.push_garbage(registry),
    |work, registry| work.collect(registry),
    |work, registry| work.delete(registry, "v1", LAYERS[0]),
    |work, registry| work.collect(registry),
    |work, registry| work.restore(registry, "v1"),
    |work, registry| work.collect(registry),
];

impl Workload {
    fn push_image(&self, registry: &Registry, tag: &str, layers: &[&[u8]]) -> Result<(), Error> {
        let (manifest, config) = image(tag, layers);
        for blob in layers.iter().copied().chain([&config[..]]) {
            push_blob(registry, &self.repository, blob);
        }
        push(registry, &self.repository, tag, &manifest)
    }

    fn push_garbage(&self, registry: &Registry) -> Result<(), Error> {
        push_blob(registry, &self.repository, b"garbage");
        Ok(())
    }

    fn collect(&self, registry: &Registry) -> Result<(), Error> {
        let options = CollectOptions {
            grace: Duration::from_secs(3600),
            untagged: UntaggedPolicy::Keep,
            is_dry_run: false,
        };
        let collected = registry.collect_garbage(&options, unix_now() + 7200, &mut |_| {});
        collected.map(drop)
    }

    fn delete(&self, registry: &Registry, tag: &str, layers: &[&[u8]]) -> Result<(), Error> {
        let digest = Digest::of(&image(tag, layers).0).to_string();
        let reference = digest.parse().unwrap();
        let deleted = registry.delete_manifest(&self.repository, &reference, &Walk::unbounded());
        deleted.map(drop)
    }

    fn restore(&self, registry: &Registry, tag: &str) -> Result<(), Error> {
        let target = ContentTarget::Tag(self.repository.clone(), tag.parse().unwrap());
        let report = registry.restore(&target)?;
        assert!(report.gone.is_empty(), "{report:?}");
        Ok(())
    }

    /// Returns the tags that clients can see, and asserts that their images are complete.
    fn view(&self, registry: &Registry) -> VisibleState {
        let mut view = VisibleState::new();
        for (tag, layers) in ["v1", "v2"].into_iter().zip(LAYERS) {
            let manifest = registry.get_manifest(&self.repository, &tag.parse().unwrap());
            let state = match manifest {
                Ok(manifest) => manifest.digest.to_string(),
                Err(Error::ManifestUnknown(_)) => "absent".to_owned(),
                Err(error) => panic!("{error}"),
            };
            let config = image(tag, layers).1;
            for bytes in layers.iter().copied().chain([&config[..]]) {
                let blob = registry.open_blob(&self.repository, &Digest::of(bytes));
                match blob {
                    Ok(blob) => assert_eq!(blob.read(0, bytes.len()).unwrap(), bytes),
                    Err(Error::BlobUnknown(_)) => assert_eq!(state, "absent", "{tag}"),
                    Err(error) => panic!("{error}"),
                }
            }
            view.insert(tag.to_owned(), state);
        }
        view
    }
}

/// The pushes before the first collection. `registry::power_tests` interrupts pushes.
const PUSHES: usize = 3;

fn check(work: &Workload, recorded: &RecordedWorkload, done: usize, snapshot: &DiskSnapshot) {
    if done < PUSHES {
        return;
    }
    let root = folder();
    snapshot.write_to(root.path());
    let registry = Registry::open(root.path()).unwrap();
    let before = &recorded.views[done];
    let next = recorded.views.get(done + 1).unwrap_or(before);
    let view = work.view(&registry);
    for (tag, seen) in &view {
        let allowed = [&before[tag], &next[tag]];
        assert!(
            allowed.contains(&seen),
            "step {done}: {tag} is {seen}, not of {allowed:?}"
        );
    }
    // The interrupted step can be repeated, and the step after it works.
    for (number, step) in STEPS.iter().enumerate().skip(done).take(2) {
        match step(work, &registry) {
            Ok(()) => {}
            // The manifest was deleted before the power cut.
            Err(Error::ManifestUnknown(_)) if number == done => {}
            Err(error) => panic!("step {number} after {done}: {error}"),
        }
        assert_eq!(
            work.view(&registry),
            recorded.views[number + 1],
            "step {number} after {done}"
        );
    }
    work.collect(&registry).unwrap();
    let garbage = registry.open_blob(&work.repository, &Digest::of(b"garbage"));
    assert!(matches!(garbage, Err(Error::BlobUnknown(_))));
}

#[test]
fn a_power_cut_loses_nothing_and_each_step_can_be_repeated() {
    let (work, root) = (
        Workload {
            repository: "team/app".parse().unwrap(),
        },
        folder(),
    );
    let recorded =
        RecordedWorkload::record(root.path(), &work, &STEPS, |registry| work.view(registry));
    recorded.check_every_power_cut(|done, snapshot| check(&work, &recorded, done, snapshot));
}
