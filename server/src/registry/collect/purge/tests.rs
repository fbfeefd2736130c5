//! Tests of purges: nothing of the purged bytes is left in the folder, and other images are complete.

use std::path::Path;
use std::time::Duration;

use imgsync_oci::{Algorithm, Digest, media};

use super::super::super::cache::tests::{descriptor, folder, image, index, push, push_blob};
use super::super::super::power_cuts::{RecordedWorkload, VisibleState, WorkloadStep};
use super::super::super::{Error, Registry, UploadOwner, Walk};
use super::super::tests::{name, push_image};
use super::super::{CollectOptions, ContentTarget, UntaggedPolicy};
use super::{PurgeOptions, PurgeOutcome, PurgeReport};
use crate::store::ObjectKey;
use crate::wall_clock::unix_now;

pub(super) const SECRET: &[u8] = b"the secret layer that somebody has pushed";
pub(super) const BASE: &[u8] = b"the base that all images share";

pub(super) fn tag(repository: &str, tag: &str) -> ContentTarget {
    ContentTarget::Tag(name(repository), tag.parse().unwrap())
}

pub(super) fn purge(registry: &Registry, target: &ContentTarget, is_forced: bool) -> PurgeOutcome {
    let options = PurgeOptions {
        is_forced,
        is_dry_run: false,
    };
    registry.purge(target, options, &mut |_| {}).unwrap()
}

pub(super) fn purged(registry: &Registry, target: &ContentTarget) -> PurgeReport {
    match purge(registry, target, false) {
        PurgeOutcome::Purged(report) => report,
        other => panic!("{other:?}"),
    }
}

/// Returns the files below a folder that contain these bytes.
pub(super) fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(bytes.len())
            .any(|window| window == bytes)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

pub(super) fn assert_complete(registry: &Registry, repository: &str, tag: &str) {
    let (repository, reference) = (name(repository), tag.parse().unwrap());
    let manifest = registry.get_manifest(&repository, &reference).unwrap();
    for child in registry
        .named_digests(&repository, &manifest.digest)
        .unwrap()
    {
        registry.blob_size(&repository, &child).unwrap();
    }
}

fn delete(registry: &Registry, repository: &str, digest: &Digest) {
    let reference = digest.to_string().parse().unwrap();
    registry
        .delete_manifest(&name(repository), &reference, &Walk::unbounded())
        .unwrap();
}

fn collect(registry: &Registry) {
    let options = CollectOptions {
        grace: Duration::ZERO,
        untagged: UntaggedPolicy::Keep,
        is_dry_run: false,
    };
    registry
        .collect_garbage(&options, unix_now() + 7200, &mut |_| {})
        .unwrap();
}

#[test]
fn nothing_of_a_purged_image_is_left() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = push_image(&registry, "a", "v1", &[SECRET, BASE]);
    push_image(&registry, "b", "v1x", &[BASE]);
    // A copy in the quarantine, in the trash, in an upload session, and in the index of referrers.
    let secret = Digest::of(SECRET);
    registry.store.quarantine_blob(&secret).unwrap();
    push_blob(&registry, &name("a"), SECRET);
    let old = push_image(&registry, "c", "old", &[SECRET]);
    delete(&registry, "c", &old);
    let subject = image("v1", &[SECRET, BASE]).0;
    let referrer = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": "application/x",
        "config": descriptor("application/x", BASE),
        "layers": [],
        "subject": descriptor(media::OCI_MANIFEST, &subject),
        "annotations": { "word": "the annotation of a referrer" },
    });
    let referrer = referrer.to_string().into_bytes();
    push(
        &registry,
        &name("a"),
        &Digest::of(&referrer).to_string(),
        &referrer,
    )
    .unwrap();
    let id = registry
        .start_upload(&name("d"), Algorithm::Sha256, &UploadOwner::Unknown)
        .unwrap();
    let mut writer = registry
        .open_upload_writer(&name("d"), id, Some(0))
        .unwrap();
    writer.ingest.write(SECRET).unwrap();
    writer.ingest.sync().unwrap();
    drop(writer);
    assert!(files_with(root.path(), SECRET).len() >= 2);

    let report = purged(&registry, &tag("a", "v1"));
    assert!(report.bytes > SECRET.len() as u64);
    // Only the manifest of `c` in the trash needs the secret, so it goes, too.
    let kept: Vec<&Digest> = report.kept.keys().collect();
    assert_eq!(kept, [&Digest::of(BASE)]);
    for bytes in [
        SECRET,
        b"the annotation of a referrer",
        b"{\"word\":\"v1\"}",
        &subject,
    ] {
        assert_eq!(files_with(root.path(), bytes), Vec::<String>::new());
    }
    assert_complete(&registry, "b", "v1x");
    assert!(
        registry
            .get_manifest(&name("a"), &"v1".parse().unwrap())
            .is_err()
    );
    assert_eq!(
        purge(&registry, &tag("a", "v1"), false),
        PurgeOutcome::Absent
    );
    let by_digest = ContentTarget::Digest(digest);
    assert_eq!(purge(&registry, &by_digest, false), PurgeOutcome::Absent);
}

#[test]
fn a_blob_that_images_need_is_purged_only_by_force() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[SECRET, BASE]);
    let child = image("v1", &[SECRET, BASE]).0;
    push(&registry, &name("a"), "all", &index(&[&child])).unwrap();
    push_image(&registry, "b", "v2", &[BASE]);
    let secret = ContentTarget::Digest(Digest::of(SECRET));
    let PurgeOutcome::Refused(images) = purge(&registry, &secret, false) else {
        panic!("it was purged");
    };
    let named = |tag: &str| (name("a"), tag.parse().unwrap());
    assert_eq!(images, [named("all"), named("v1")].into());
    assert_complete(&registry, "a", "v1");
    let PurgeOutcome::Purged(report) = purge(&registry, &secret, true) else {
        panic!("it was not purged");
    };
    assert_eq!(report.incomplete, images);
    assert_eq!(files_with(root.path(), SECRET), Vec::<String>::new());
    let unknown = registry.blob_size(&name("a"), &Digest::of(SECRET));
    assert!(matches!(unknown, Err(Error::BlobUnknown(_))));
    assert_complete(&registry, "b", "v2");
    // A push repairs the image.
    push_image(&registry, "a", "v1", &[SECRET, BASE]);
    assert_complete(&registry, "a", "v1");
}

#[test]
fn other_tags_and_indexes_of_an_image_are_told() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let digest = push_image(&registry, "a", "v1", &[SECRET]);
    let manifest = image("v1", &[SECRET]).0;
    push(&registry, &name("a"), "latest", &manifest).unwrap();
    let PurgeOutcome::Refused(images) = purge(&registry, &tag("a", "v1"), false) else {
        panic!("it was purged");
    };
    assert_eq!(images, [(name("a"), "latest".parse().unwrap())].into());
    // The digest stands for all tags.
    let target = ContentTarget::Manifest(name("a"), digest);
    assert!(purged(&registry, &target).kept.is_empty());
    for tag in ["v1", "latest"] {
        let found = registry.get_manifest(&name("a"), &tag.parse().unwrap());
        assert!(matches!(found, Err(Error::ManifestUnknown(_))));
    }
    assert_eq!(files_with(root.path(), SECRET), Vec::<String>::new());
}

#[test]
fn a_repository_is_purged_with_its_trash_and_its_name() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "team/a", "v1", &[SECRET, BASE]);
    let old = push_image(&registry, "team/a", "v2", &[b"another secret"]);
    delete(&registry, "team/a", &old);
    collect(&registry);
    push_blob(&registry, &name("team/a"), b"a blob that no manifest names");
    push_image(&registry, "team/b", "v1", &[BASE]);
    push_image(&registry, "team", "v1", &[b"outer"]);
    let target = ContentTarget::Repository(name("team/a"));
    let report = purged(&registry, &target);
    // The base, and the config that both images have.
    assert_eq!(report.kept.len(), 2);
    for bytes in [SECRET, b"another secret", b"a blob that no manifest names"] {
        assert_eq!(files_with(root.path(), bytes), Vec::<String>::new());
    }
    let repositories = registry
        .list_repositories(&Default::default(), &Walk::unbounded())
        .unwrap();
    assert_eq!(repositories.names, ["team", "team/b"]);
    assert!(files_with(root.path(), b"team/a ").is_empty());
    assert_complete(&registry, "team/b", "v1");
    assert_complete(&registry, "team", "v1");
    assert_eq!(purge(&registry, &target, false), PurgeOutcome::Absent);
    push_image(&registry, "team/a", "v1", &[SECRET, BASE]);
    assert_complete(&registry, "team/a", "v1");
}

/// Pushes an image whose layer a stock registry has stored: under its sha256 digest, with a link by
/// its sha512 digest.
fn push_stock_image(registry: &Registry, repository: &str, tag: &str, layer: &[u8]) -> Digest {
    let (long, short) = (Digest::of_with(Algorithm::Sha512, layer), Digest::of(layer));
    let repository = name(repository);
    let (stored, link) = (
        ObjectKey::Blob(&short),
        ObjectKey::LayerLink(&repository, &long),
    );
    registry.store.put(stored, layer).unwrap();
    registry
        .store
        .put(link, short.to_string().as_bytes())
        .unwrap();
    let (manifest, config) = image(tag, &[layer]);
    push_blob(registry, &repository, &config);
    let manifest = String::from_utf8(manifest).unwrap();
    let manifest = manifest.replace(&short.to_string(), &long.to_string());
    push(registry, &repository, tag, manifest.as_bytes()).unwrap();
    long
}

#[test]
fn content_of_a_stock_registry_with_two_digests_is_purged() {
    for by_digest in [true, false] {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        let secret = push_stock_image(&registry, "a", "v1", SECRET);
        if by_digest {
            let secret = ContentTarget::Digest(secret);
            assert!(matches!(
                purge(&registry, &secret, false),
                PurgeOutcome::Refused(_)
            ));
            assert!(matches!(
                purge(&registry, &secret, true),
                PurgeOutcome::Purged(_)
            ));
        } else {
            assert!(purged(&registry, &tag("a", "v1")).kept.is_empty());
        }
        assert_eq!(files_with(root.path(), SECRET), Vec::<String>::new());
    }
}

#[test]
fn an_image_keeps_content_that_it_names_by_another_digest() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_stock_image(&registry, "a", "v1", BASE);
    push_image(&registry, "b", "v1", &[SECRET, BASE]);
    let report = purged(&registry, &tag("b", "v1"));
    assert!(report.kept.contains_key(&Digest::of(BASE)));
    assert_complete(&registry, "a", "v1");
    let base = ContentTarget::Digest(Digest::of(BASE));
    let PurgeOutcome::Refused(images) = purge(&registry, &base, false) else {
        panic!("it was purged");
    };
    assert_eq!(images, [(name("a"), "v1".parse().unwrap())].into());
}

#[test]
fn a_dry_run_changes_nothing() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_image(&registry, "a", "v1", &[SECRET]);
    let options = PurgeOptions {
        is_forced: false,
        is_dry_run: true,
    };
    let mut removed = 0;
    registry
        .purge(&tag("a", "v1"), options, &mut |_| removed += 1)
        .unwrap();
    // The layer, the config, the manifest and its link, and the tag.
    assert_eq!(removed, 5);
    // The bytes stay for another repository.
    push_image(&registry, "b", "v1", &[SECRET]);
    removed = 0;
    registry
        .purge(&tag("a", "v1"), options, &mut |_| removed += 1)
        .unwrap();
    assert_eq!(removed, 2);
    assert_complete(&registry, "a", "v1");
}

struct PurgeWorkload;

const STEPS: [WorkloadStep<PurgeWorkload>; 6] = [
    |_, registry| push_step(registry, "v2", &[BASE, b"mine"]),
    |_, registry| push_step(registry, "v1", &[SECRET, BASE]),
    |_, registry| {
        delete(registry, "a", &Digest::of(&image("v1", &[SECRET, BASE]).0));
        Ok(())
    },
    |_, registry| {
        collect(registry);
        Ok(())
    },
    |_, registry| push_step(registry, "v1", &[SECRET, BASE]),
    |_, registry| {
        purge(registry, &tag("a", "v1"), false);
        Ok(())
    },
];
/// The number of the step that purges.
const PURGE_STEP: usize = 5;

fn push_step(registry: &Registry, tag: &str, layers: &[&[u8]]) -> Result<(), Error> {
    push_image(registry, "a", tag, layers);
    Ok(())
}

#[test]
fn an_interrupted_purge_can_be_repeated() {
    let root = folder();
    let view = |_: &Registry| VisibleState::new();
    let recorded = RecordedWorkload::record(root.path(), &PurgeWorkload, &STEPS, view);
    recorded.check_every_power_cut(|done, snapshot| {
        if done < PURGE_STEP {
            return;
        }
        let root = folder();
        snapshot.write_to(root.path());
        let registry = Registry::open(root.path()).unwrap();
        assert_complete(&registry, "a", "v2");
        if done == PURGE_STEP {
            purge(&registry, &tag("a", "v1"), false);
        }
        let files = files_with(root.path(), SECRET);
        assert_eq!(files, Vec::<String>::new(), "after {done} steps");
        assert_complete(&registry, "a", "v2");
    });
}
