//! Tests of power cuts at every moment of backups: the tags in the backup are complete at each of
//! them, what was complete stays, and the next backup finishes the work.

use imgsync_oci::{Digest, Repository};

use super::super::cache::tests::{folder, image, push, push_blob};
use super::super::power_cuts::{RecordedWorkload, VisibleState, WorkloadStep};
use super::super::{Error, Registry, Walk};
use super::BackupOutcome;
use crate::store::BackupState;
use crate::store::testing::DiskSnapshot;

const WORDS: [&str; 4] = ["one", "two", "three", "four"];

struct Workload {
    source: Registry,
    repository: Repository,
}

const STEPS: [WorkloadStep<Workload>; 5] = [
    |work, target| {
        work.push("v1", "one");
        work.push("v2", "two");
        work.back_up(target)
    },
    |work, target| {
        work.push("v1", "three");
        work.back_up(target)
    },
    |work, target| {
        for word in ["one", "two"] {
            work.delete(word);
        }
        work.push("v2", "four");
        work.back_up(target)
    },
    |work, target| {
        work.push("v3", "one");
        work.back_up(target)
    },
    // Nothing has changed.
    |work, target| work.back_up(target),
];

fn layers(word: &str) -> [Vec<u8>; 2] {
    [
        b"shared".to_vec(),
        format!("the layer of {word}").into_bytes(),
    ]
}

fn image_of(word: &str) -> (Vec<u8>, Vec<u8>) {
    let layers = layers(word);
    image(word, &layers.each_ref().map(|layer| &layer[..]))
}

impl Workload {
    fn push(&self, tag: &str, word: &str) {
        let (manifest, config) = image_of(word);
        for blob in layers(word).iter().chain([&config]) {
            push_blob(&self.source, &self.repository, blob);
        }
        push(&self.source, &self.repository, tag, &manifest).unwrap();
    }

    fn delete(&self, word: &str) {
        let digest = Digest::of(&image_of(word).0).to_string();
        let walk = Walk::unbounded();
        self.source
            .delete_manifest(&self.repository, &digest.parse().unwrap(), &walk)
            .unwrap();
    }

    fn back_up(&self, target: &Registry) -> Result<(), Error> {
        let written = self
            .source
            .back_up_to(target, &|| true, &mut |gap| panic!("{gap}"))?;
        assert!(matches!(written, BackupOutcome::Complete(_)));
        Ok(())
    }

    /// Returns the tags of the backup, and asserts that all images are complete, with and without a
    /// tag.
    fn view(&self, target: &Registry) -> VisibleState {
        for word in WORDS {
            let digest = Digest::of(&image_of(word).0).to_string();
            self.word_of(target, &digest);
        }
        let tags = ["v1", "v2", "v3"].map(str::to_owned);
        let view = tags.map(|tag| {
            let word = self.word_of(target, &tag);
            (tag, word)
        });
        VisibleState::from(view)
    }

    /// Returns the word of an image in the backup, which must be complete.
    fn word_of(&self, target: &Registry, reference: &str) -> String {
        let manifest = target.get_manifest(&self.repository, &reference.parse().unwrap());
        let manifest = match manifest {
            Ok(manifest) => manifest.bytes,
            Err(Error::ManifestUnknown(_)) => return "absent".to_owned(),
            Err(error) => panic!("{reference}: {error}"),
        };
        let word = WORDS.iter().find(|word| image_of(word).0 == manifest);
        let word = word.unwrap();
        for bytes in layers(word).iter().chain([&image_of(word).1]) {
            let blob = target.open_blob(&self.repository, &Digest::of(bytes));
            assert_eq!(blob.unwrap().read(0, bytes.len()).unwrap(), *bytes);
        }
        (*word).to_owned()
    }
}

fn check(work: &Workload, recorded: &RecordedWorkload, done: usize, snapshot: &DiskSnapshot) {
    let root = folder();
    snapshot.write_to(root.path());
    let target = Registry::open(root.path()).unwrap();
    let before = &recorded.views[done];
    let next = recorded.views.get(done + 1).unwrap_or(before);
    let view = work.view(&target);
    for (tag, seen) in &view {
        let allowed = [&before[tag], &next[tag]];
        assert!(
            allowed.contains(&seen),
            "step {done}: {tag} is {seen}, not of {allowed:?}"
        );
    }
    if let Some(BackupState::Complete(_)) = target.store.backup_state().unwrap() {
        assert!([before, next].contains(&&view), "step {done}: {view:?}");
    }
    work.back_up(&target).unwrap();
    assert_eq!(work.view(&target), *recorded.views.last().unwrap());
}

/// Checks backups of a registry in `source`.
fn check_backups_of(source: &std::path::Path) {
    let (root, work) = (
        folder(),
        Workload {
            source: Registry::open(source).unwrap(),
            repository: "team/app".parse().unwrap(),
        },
    );
    let recorded = RecordedWorkload::record(root.path(), &work, &STEPS, |target| work.view(target));
    recorded.check_every_power_cut(|done, snapshot| check(&work, &recorded, done, snapshot));
}

#[test]
fn a_power_cut_leaves_complete_images_and_a_backup_that_can_be_finished() {
    check_backups_of(folder().path());
}

#[test]
fn a_power_cut_does_the_same_to_copies() {
    // On another file system than the backup, if there is one in memory.
    check_backups_of(tempfile::tempdir().unwrap().path());
}
