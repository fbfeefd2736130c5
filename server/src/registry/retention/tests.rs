//! Tests of retention on a real file system.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use imgsync_oci::{Digest, Repository};

use super::{RetentionStats, TagVerdict};
use crate::config::RetentionRule;
use crate::registry::cache::tests::{
    cache_blob, cache_manifest, folder, image, push, push_blob, repository, tag,
};
use crate::registry::{CollectOptions, ContentTarget, Registry, UntaggedPolicy};
use crate::store::Store;
use crate::wall_clock::unix_now;

const DAY: u64 = 24 * 3600;

fn name(text: &str) -> Repository {
    text.parse().unwrap()
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY)
}

fn rule(pattern: &str) -> RetentionRule {
    RetentionRule {
        repositories: vec![pattern.parse().unwrap()],
        keep_newest: None,
        keep_tags: Vec::new(),
        keep_pushed: None,
        keep_pulled: None,
        untagged: None,
    }
}

fn tag_link(root: &Path, repository: &str, tag: &str) -> PathBuf {
    root.join("docker/registry/v2/repositories")
        .join(repository)
        .join("_manifests/tags")
        .join(tag)
        .join("current/link")
}

/// Pushes an image some days ago, and returns its digest.
fn push_tag(
    registry: &Registry,
    root: &Path,
    repository: &str,
    tag: &str,
    days_ago: u64,
) -> Digest {
    let (manifest, config) = image(&format!("{repository} {tag}"), &[]);
    push_blob(registry, &name(repository), &config);
    push(registry, &name(repository), tag, &manifest).unwrap();
    let link = std::fs::File::options()
        .write(true)
        .open(tag_link(root, repository, tag))
        .unwrap();
    let time = SystemTime::now() - days(days_ago);
    link.set_modified(time).unwrap();
    Digest::of(&manifest)
}

/// Applies rules, and returns the removed tags.
fn apply(registry: &Registry, rules: &[RetentionRule], is_dry_run: bool) -> Vec<String> {
    let mut removed = Vec::new();
    registry
        .apply_retention(
            rules,
            is_dry_run,
            unix_now(),
            &mut |repository, facts, verdict| {
                if matches!(verdict, TagVerdict::Remove(_)) {
                    removed.push(format!("{repository}:{}", facts.tag));
                }
            },
        )
        .unwrap();
    removed.sort_unstable();
    removed
}

fn has_tag(registry: &Registry, repository: &str, tag: &str) -> bool {
    let reference = tag.parse().unwrap();
    registry.get_manifest(&name(repository), &reference).is_ok()
}

#[test]
fn the_first_rule_that_matches_removes_tags_which_can_be_restored() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    for (repository, tag, days_ago) in [
        ("ci/app", "old", 10),
        ("ci/app", "new", 1),
        ("ci/keep", "old", 10),
        ("app", "old", 10),
    ] {
        push_tag(&registry, root.path(), repository, tag, days_ago);
    }
    let rules = [
        rule("ci/keep"),
        RetentionRule {
            keep_pushed: Some(days(5)),
            ..rule("ci/**")
        },
    ];
    assert_eq!(apply(&registry, &rules, true), ["ci/app:old"]);
    assert!(has_tag(&registry, "ci/app", "old"));
    assert_eq!(apply(&registry, &rules, false), ["ci/app:old"]);
    assert_eq!(apply(&registry, &rules, false), [""; 0]);
    assert!(!has_tag(&registry, "ci/app", "old") && has_tag(&registry, "ci/app", "new"));
    assert!(has_tag(&registry, "ci/keep", "old") && has_tag(&registry, "app", "old"));
    let target = ContentTarget::Tag(name("ci/app"), "old".parse().unwrap());
    assert_eq!(registry.restore(&target).unwrap().restored.len(), 1);
    assert!(has_tag(&registry, "ci/app", "old"));
    // The restored tag counts as pushed now.
    assert_eq!(apply(&registry, &rules, false), [""; 0]);
}

#[test]
fn pulled_tags_damaged_tags_and_cached_tags_stay() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let rules = [RetentionRule {
        keep_pulled: Some(days(5)),
        ..rule("**")
    }];
    let digest = push_tag(&registry, root.path(), "app", "pulled", 10);
    push_tag(&registry, root.path(), "app", "unused", 10);
    push_tag(&registry, root.path(), "app", "damaged", 10);
    std::fs::write(tag_link(root.path(), "app", "damaged"), "no digest").unwrap();
    registry.record_pull(&name("app"), &digest, unix_now() - 3 * DAY);
    let (manifest, config) = image("cached", &[]);
    cache_manifest(&registry, &repository(), Some(&tag()), &manifest, 1000);
    cache_blob(&registry, &repository(), &config, 1000);
    assert_eq!(apply(&registry, &rules, true), ["app:unused"]);
    registry.write_pulls();
    // If it is not known what was pulled, nothing is removed.
    let pulls = root.path().join("imgsync/repositories/app/_pulls-1");
    let written = std::fs::read(&pulls).unwrap();
    std::fs::write(&pulls, "damaged").unwrap();
    assert_eq!(apply(&registry, &rules, false), [""; 0]);
    std::fs::write(&pulls, written).unwrap();
    assert_eq!(apply(&registry, &rules, false), ["app:unused"]);
    assert!(has_tag(&registry, "app", "pulled"));
    assert!(has_tag(&registry, repository().as_str(), tag().as_str()));
}

#[test]
fn rules_are_reported_once() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    let rules = [RetentionRule {
        keep_newest: Some(3),
        ..rule("**")
    }];
    assert!(registry.are_rules_reported(&[]).unwrap());
    assert!(!registry.are_rules_reported(&rules).unwrap());
    registry.set_rules_reported(&rules).unwrap();
    drop(registry);
    let registry = Registry::open(root.path()).unwrap();
    assert!(registry.are_rules_reported(&rules).unwrap());
    assert!(!registry.are_rules_reported(&[rule("**")]).unwrap());
}

#[test]
fn a_read_only_store_is_not_changed() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_tag(&registry, root.path(), "app", "old", 10);
    drop(registry);
    std::fs::remove_dir_all(root.path().join("imgsync/tmp")).unwrap();
    let registry = Registry::with_store(Store::open_unwritable(root.path()).unwrap());
    let rules = [RetentionRule {
        keep_pushed: Some(days(5)),
        ..rule("**")
    }];
    registry.record_pull(&name("app"), &Digest::of(b"x"), unix_now());
    let stats = registry.apply_retention(&rules, false, unix_now(), &mut |_, _, _| {});
    assert_eq!(stats.unwrap(), RetentionStats::default());
    assert!(has_tag(&registry, "app", "old"));
}

/// Collects garbage at a time, and returns the number of removed manifests and the untagged bytes.
fn collect(registry: &Registry, untagged: UntaggedPolicy, now: u64) -> (usize, Option<u64>) {
    let options = CollectOptions {
        grace: Duration::ZERO,
        untagged,
        is_dry_run: false,
    };
    let stats = registry.collect_garbage(&options, now, &mut |_| {});
    (stats.unwrap().unwrap().manifests, registry.untagged_bytes())
}

#[test]
fn images_without_a_tag_are_removed_by_the_rule_of_their_repository() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    for repository in ["a", "b"] {
        push_tag(&registry, root.path(), repository, "v1", 0);
        let (manifest, config) = image(&format!("{repository} other"), &[]);
        push_blob(&registry, &name(repository), &config);
        push(&registry, &name(repository), "v1", &manifest).unwrap();
    }
    let policy = |is_report_only| UntaggedPolicy::Rules {
        rules: vec![RetentionRule {
            untagged: Some(days(7)),
            ..rule("a")
        }],
        is_report_only,
    };
    let now = unix_now();
    // Content that no rule removes is told.
    let (manifest, config) = image("b v1", &[]);
    let bytes = (manifest.len() + config.len()) as u64;
    assert_eq!(collect(&registry, policy(true), now), (0, Some(bytes)));
    assert_eq!(
        collect(&registry, policy(false), now + 6 * DAY),
        (0, Some(bytes))
    );
    assert_eq!(
        collect(&registry, policy(true), now + 8 * DAY),
        (0, Some(bytes))
    );
    assert_eq!(
        collect(&registry, policy(false), now + 8 * DAY),
        (1, Some(bytes))
    );
    assert_eq!(
        collect(&registry, UntaggedPolicy::RemoveAll, now + 8 * DAY).0,
        1
    );
    assert_eq!(
        collect(&registry, UntaggedPolicy::Keep, now + 8 * DAY),
        (0, Some(0))
    );
}

#[test]
fn the_age_of_an_image_starts_again_while_no_rule_counts_it() {
    let root = folder();
    let registry = Registry::open(root.path()).unwrap();
    push_tag(&registry, root.path(), "a", "v1", 0);
    let (manifest, config) = image("other", &[]);
    push_blob(&registry, &name("a"), &config);
    push(&registry, &name("a"), "v1", &manifest).unwrap();
    let policy = || UntaggedPolicy::Rules {
        rules: vec![RetentionRule {
            untagged: Some(days(7)),
            ..rule("a")
        }],
        is_report_only: false,
    };
    let now = unix_now();
    assert_eq!(collect(&registry, policy(), now).0, 0);
    assert_eq!(
        collect(&registry, UntaggedPolicy::Keep, now + 10 * DAY).0,
        0
    );
    assert_eq!(collect(&registry, policy(), now + 11 * DAY).0, 0);
    assert_eq!(collect(&registry, policy(), now + 19 * DAY).0, 1);
}
