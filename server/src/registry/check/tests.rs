//! Tests of checks on a real file system.

use std::ops::ControlFlow;
use std::path::PathBuf;

use imgsync_oci::{Algorithm, Digest, Repository, Tag};

use super::super::cache::tests::{
    cache_blob, cache_manifest, folder, image, index, push, push_blob,
};
use super::super::{Error, Registry, Walk};
use super::{AffectedImage, CheckEvent, CheckOptions, CheckStats, Finding};
use crate::config::IndexPlatforms;
use crate::store::ObjectKey;

pub(super) const LAYERS: [&[u8]; 2] = [b"a layer", b"another layer"];

pub(super) fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Pushes an image, different for each word, and returns the digest of its manifest.
pub(super) fn push_image(
    registry: &Registry,
    repository: &str,
    reference: &str,
    word: &str,
) -> Digest {
    let (manifest, config) = image(word, &LAYERS);
    for blob in LAYERS.iter().copied().chain([&config[..]]) {
        push_blob(registry, &name(repository), blob);
    }
    push(registry, &name(repository), reference, &manifest).unwrap();
    Digest::of(&manifest)
}

/// The result of a check.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
    /// The names of the affected images, sorted, and what they lack.
    pub(super) images: Vec<(String, Vec<Digest>)>,
    pub(super) stats: CheckStats,
}

pub(super) fn run(registry: &Registry, repairs: bool) -> Report {
    run_with(registry, repairs, &IndexPlatforms::All)
}

fn run_with(registry: &Registry, repairs: bool, platforms: &IndexPlatforms) -> Report {
    let options = CheckOptions {
        repairs,
        is_gentle: false,
        platforms,
    };
    let mut report = Report::default();
    let checked = registry.check_content(&options, &mut |event| {
        match event {
            CheckEvent::Finding(finding) => report.findings.push(finding.clone()),
            CheckEvent::Image(image) => {
                let AffectedImage { lacking, .. } = image.clone();
                report.images.push((image.name(), lacking));
            }
            CheckEvent::Progress(_) => {}
        }
        ControlFlow::Continue(())
    });
    report.stats = checked.unwrap().unwrap();
    report.images.sort();
    assert_eq!(report.stats.findings, report.findings.len());
    assert_eq!(report.stats.images, report.images.len());
    report
}

pub(super) fn assert_clean(registry: &Registry) {
    let report = run(registry, false);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.images.is_empty(), "{:?}", report.images);
}

/// Overwrites the bytes of a blob on the disk.
pub(super) fn damage(registry: &Registry, digest: &Digest, bytes: &[u8]) {
    registry.store.put(ObjectKey::Blob(digest), bytes).unwrap();
}

pub(super) fn open(root: &tempfile::TempDir) -> Registry {
    Registry::open(root.path()).unwrap()
}

#[test]
fn sound_content_is_not_reported() {
    let root = folder();
    let registry = open(&root);
    push_image(&registry, "a/b", "v1", "one");
    push_image(&registry, "c", "v1", "two");
    let (manifest, _) = image("one", &LAYERS);
    push(&registry, &name("a/b"), "multi", &index(&[&manifest])).unwrap();
    push_blob(&registry, &name("only-blobs"), b"no manifest names this");
    push_blob(&registry, &name("c"), b"");
    registry
        .delete_manifest(&name("c"), &"v1".parse().unwrap(), &Walk::unbounded())
        .unwrap();
    let report = run(&registry, true);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.images.is_empty(), "{:?}", report.images);
    let CheckStats {
        blobs,
        repositories,
        tags,
        ..
    } = report.stats;
    assert_eq!((blobs, repositories, tags), (9, 3, 2));
}

#[test]
fn damaged_and_missing_manifests_affect_their_tags() {
    for bytes in [Some(&b""[..]), Some(b"{"), None] {
        let root = folder();
        let registry = open(&root);
        let one = push_image(&registry, "a", "v1", "one");
        push_image(&registry, "a", "v2", "two");
        let (manifest, _) = image("one", &LAYERS);
        push(&registry, &name("a"), "multi", &index(&[&manifest])).unwrap();
        match bytes {
            Some(bytes) => damage(&registry, &one, bytes),
            None => registry.store.delete(ObjectKey::Blob(&one)).unwrap(),
        }
        let images: Vec<_> = ["a:multi", "a:v1"]
            .map(|image| (image.to_owned(), vec![one.clone()]))
            .into();
        for repairs in [false, true, false] {
            let report = run(&registry, repairs);
            assert_eq!(report.images, images, "{bytes:?}");
            assert!(!report.findings.is_empty());
        }
        push(&registry, &name("a"), "v1", &manifest).unwrap();
        assert_clean(&registry);
    }
}

#[test]
fn a_manifest_without_a_tag_is_named_by_its_digest() {
    let root = folder();
    let registry = open(&root);
    let one = push_image(&registry, "a", "v1", "one");
    push_image(&registry, "a", "v1", "two");
    let config = Digest::of(&image("one", &LAYERS).1);
    registry.store.delete(ObjectKey::Blob(&config)).unwrap();
    let report = run(&registry, false);
    assert_eq!(report.images, [(format!("a@{one}"), vec![config.clone()])]);
    let expected = Finding::MissingContent {
        repository: name("a"),
        digest: config,
        is_manifest: false,
    };
    assert_eq!(report.findings, [expected]);
}

#[test]
fn files_that_no_registry_writes_are_reported_and_stay() {
    let root = folder();
    let registry = open(&root);
    push_image(&registry, "a", "v1", "one");
    let layer = Digest::of(LAYERS[0]);
    let top = root.path().join("docker/registry/v2");
    let paths = [
        PathBuf::from("file"),
        // A blob in the folder of another one, as a wrong copy leaves it.
        format!("blobs/sha256/00/{}/data", layer.hex()).into(),
        "blobs/sha256/00/short/data".into(),
        "repositories/UPPER/file".into(),
        "repositories/a/_layers/sha256/file".into(),
        "repositories/a/_manifests/tags/v1/current/link.0.tmp".into(),
    ];
    for path in &paths {
        std::fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        std::fs::write(top.join(path), "x").unwrap();
    }
    let report = run(&registry, true);
    assert_eq!(report.findings.len(), paths.len(), "{:?}", report.findings);
    for finding in &report.findings {
        let Finding::Foreign { path } = finding else {
            panic!("{finding:?}");
        };
        assert!(
            paths.iter().any(|foreign| foreign.starts_with(path)),
            "{path:?}"
        );
    }
    assert!(paths.iter().all(|path| top.join(path).is_file()));
    assert!(report.images.is_empty());
}

#[test]
fn content_that_cannot_be_read_does_not_end_the_check() {
    let root = folder();
    let registry = open(&root);
    push_image(&registry, "a", "v1", "one");
    push_image(&registry, "b", "v1", "two");
    let layer = Digest::of(LAYERS[0]);
    let top = root.path().join("docker/registry/v2");
    // A folder in place of the bytes: neither can be read nor written.
    let data = top.join(format!(
        "blobs/sha256/{}/{}/data",
        &layer.hex()[..2],
        layer.hex()
    ));
    std::fs::remove_file(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    let report = run(&registry, false);
    assert!(report.findings.len() >= 3, "{:?}", report.findings);
    let images: Vec<&str> = report
        .images
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(images, ["a:v1", "b:v1"]);
    assert_eq!(report.stats.tags, 2);
}

#[test]
fn cached_images_need_not_be_complete_and_their_damaged_bytes_are_removed() {
    let root = folder();
    let registry = open(&root);
    let cached = name("ghcr.io/owner/app");
    let (manifest, config) = image("cached", &LAYERS);
    cache_manifest(&registry, &cached, Some(&tag("v1")), &manifest, 1000);
    cache_blob(&registry, &cached, &config, 1000);
    assert_clean(&registry);
    damage(&registry, &Digest::of(&config), b"damaged");
    let report = run(&registry, true);
    assert!(matches!(
        &report.findings[..],
        [Finding::DamagedBlob { .. }]
    ));
    assert!(report.images.is_empty());
    assert_clean(&registry);
}

#[test]
fn an_index_may_lack_manifests_if_the_configuration_says_so() {
    let root = folder();
    let registry = open(&root);
    let one = push_image(&registry, "a", "v1", "one");
    push_image(&registry, "a", "v2", "two");
    let manifests = [image("one", &LAYERS).0, image("two", &LAYERS).0];
    push(
        &registry,
        &name("a"),
        "multi",
        &index(&[&manifests[0], &manifests[1]]),
    )
    .unwrap();
    registry
        .delete_manifest(
            &name("a"),
            &one.to_string().parse().unwrap(),
            &Walk::unbounded(),
        )
        .unwrap();
    let report = run(&registry, false);
    assert_eq!(report.images, [("a:multi".to_owned(), vec![one])]);
    let report = run_with(&registry, false, &IndexPlatforms::None);
    assert!(report.images.is_empty(), "{:?}", report.images);
}

#[test]
fn sha512_blobs_of_a_stock_registry_are_sound() {
    let root = folder();
    let registry = open(&root);
    let bytes = b"content";
    let (long, short) = (Digest::of_with(Algorithm::Sha512, bytes), Digest::of(bytes));
    registry.store.put(ObjectKey::Blob(&short), bytes).unwrap();
    let repository = name("a");
    let link = ObjectKey::LayerLink(&repository, &long);
    registry
        .store
        .put(link, short.to_string().as_bytes())
        .unwrap();
    assert_clean(&registry);
}

#[test]
fn a_check_can_be_cancelled() {
    let root = folder();
    let registry = open(&root);
    push_image(&registry, "a", "v1", "one");
    let options = CheckOptions {
        repairs: false,
        is_gentle: false,
        platforms: &IndexPlatforms::All,
    };
    let checked = registry.check_content(&options, &mut |_| ControlFlow::Break(()));
    assert_eq!(checked.unwrap(), None);
}

#[test]
fn pushes_deletions_and_collections_do_not_look_like_damage() {
    use super::super::{CollectOptions, UntaggedPolicy};
    let root = folder();
    let registry = open(&root);
    push_image(&registry, "a", "kept", "kept");
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let options = CollectOptions {
        grace: std::time::Duration::ZERO,
        untagged: UntaggedPolicy::RemoveAll,
        is_dry_run: false,
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..150 {
                let (manifest, config) = image(&number.to_string(), &LAYERS);
                let digest = Digest::of(&manifest);
                // Without a grace period, blobs are collected before their manifest is pushed.
                loop {
                    for blob in LAYERS.iter().copied().chain([&config[..]]) {
                        push_blob(&registry, &name("a"), blob);
                    }
                    match push(&registry, &name("a"), "v1", &manifest) {
                        Ok(()) => break,
                        Err(Error::ChildrenUnknown(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                if number % 3 == 0 {
                    let reference = digest.to_string().parse().unwrap();
                    let walk = Walk::unbounded();
                    registry
                        .delete_manifest(&name("a"), &reference, &walk)
                        .unwrap();
                }
            }
        });
        let collector = scope.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                let now = crate::wall_clock::unix_now();
                registry
                    .collect_garbage(&options, now + 1, &mut |_| {})
                    .unwrap();
            }
        });
        let mut found = Vec::new();
        while !writer.is_finished() {
            let report = run(&registry, false);
            if report.stats.findings + report.stats.images > 0 {
                found.push(report);
            }
        }
        // The collector ends before anything is asserted.
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
        collector.join().unwrap();
        assert!(found.is_empty(), "{found:?}");
    });
    assert_clean(&registry);
}
