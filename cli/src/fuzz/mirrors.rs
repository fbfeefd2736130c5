//! The configuration file `mirrors.yaml`.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use imgsync_oci::{Registry, RemoteName, Tag};

use crate::mirror::config::{self, RegistryEntry};
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::mirror::location::{SourceLocation, TargetLocation};
use crate::mirror::selection::{MissingDates, TagDates, select_tags};

/// The tags of the sources.
static TAGS: LazyLock<Vec<Tag>> = LazyLock::new(|| {
    let texts = [
        "1.27.0",
        "1.27.0-alpine",
        "v2.0.0-rc.1",
        "2024-01-31",
        "latest",
        "_x",
    ];
    texts.iter().filter_map(|text| text.parse().ok()).collect()
});

/// Every job of an accepted file is complete, its locations are printed as they can be written, and
/// its rules select from any tags.
pub fn mirrors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let config = match config::parse(text, Path::new("/etc/imgsync")) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.trim().is_empty());
            return;
        }
    };
    assert!(!config.jobs.is_empty());
    for (registry, RegistryEntry { settings, .. }) in &config.registries {
        assert_eq!(registry.as_str().parse().as_ref(), Ok(registry));
        assert_eq!(settings.check(), Ok(()));
        for path in [&settings.password_file, &settings.ca_file]
            .into_iter()
            .flatten()
        {
            assert!(path.is_absolute(), "{}", path.display());
        }
    }
    for job in &config.jobs {
        assert_eq!(job.check(), Ok(()));
        check_locations(job);
        check_selection(job);
    }
}

fn check_locations(job: &MirrorJob) {
    let source = SourceLocation::parse(&job.source());
    match (&job.from, &source) {
        (
            SourceLocation::Registry(registry, repository, _),
            Ok(SourceLocation::Registry(again, same, None)),
        ) => assert_eq!((registry, repository), (again, same)),
        (SourceLocation::Layout(layout, _), Ok(SourceLocation::Layout(again, None))) => {
            assert_eq!(layout, again);
            assert!(layout.path.is_absolute());
        }
        other => panic!("{other:?}"),
    }
    let target = TargetLocation::parse(&job.to.to_string());
    match (&job.to, &target) {
        (
            MirrorTarget::Registry(registry, repository),
            Ok(TargetLocation::Registry(again, Some((same, None)))),
        ) => assert_eq!((registry, repository), (again, same)),
        // Before a repository, a single word is a user of Docker Hub.
        (MirrorTarget::Registry(registry, _), Err(_)) if is_single_word(registry) => {}
        (MirrorTarget::Layout(layout), Ok(TargetLocation::Layout(again, None))) => {
            assert_eq!(layout, again);
            assert!(layout.path.is_absolute());
        }
        (MirrorTarget::Daemon(name), Ok(TargetLocation::Daemon(Some(again)))) => {
            assert_eq!(name, again);
        }
        other => panic!("{other:?}"),
    }
}

fn is_single_word(registry: &Registry) -> bool {
    let remote = format!("{registry}/app").parse::<RemoteName>();
    remote.is_ok_and(|remote| remote.is_registry_implied)
}

fn check_selection(job: &MirrorJob) {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    match select_tags(&TAGS, &job.rules, &TagDates::new(), now) {
        Ok(selection) => {
            let skipped = selection.skipped.iter().map(|(tag, _)| tag);
            let mut all: Vec<&Tag> = selection.selected.iter().chain(skipped).collect();
            all.sort();
            let mut expected: Vec<&Tag> = TAGS.iter().collect();
            expected.sort();
            assert_eq!(all, expected);
        }
        Err(MissingDates(missing)) => {
            assert!(!missing.is_empty() && missing.iter().all(|tag| TAGS.contains(tag)));
        }
    }
}
