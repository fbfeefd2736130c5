//! Prepares a push: finds the image, resolves the target, and connects to it.

use std::io;
use std::sync::Arc;

use imgsync_oci::{Digest, LocalName, Registry, RemoteName, Repository, Tag};

use super::PushSettings;
use super::context::PushContext;
use super::layer_filter::LayerFilter;
use crate::evidence::probe::TargetProbe;
use crate::evidence::{FindRelatedImages, LookupRequest, RecordedImage};
use crate::exit::{Failure, FailureKind};
use crate::image::name;
use crate::report::Report;
use crate::spool::Spool;
use crate::transports::daemon::DaemonImage;
use crate::transports::{LocatedImage, locate};
use crate::upload::{Journal, RepositoryWriter, UploadContext};
use crate::{cache, disk};

/// The most manifests of one image that are looked at in repositories of the registry.
const MAX_RECORDS: usize = 3;

/// Finds the image, and connects to its target.
///
/// # Errors
/// There is no such image, it has no name at the target, or the registry cannot be used.
pub(super) async fn prepare(
    settings: &PushSettings,
    report: &Arc<dyn Report>,
) -> Result<(PushContext, LocatedImage), Failure> {
    require_login_at_implied_registry(settings).await?;
    if let Some(warning) = &settings.folders.warning {
        report.note(warning);
    }
    let spool = open_spool(settings, report);
    if !settings.is_dry_run {
        cache::sweep(&settings.folders.cache);
    }
    let filter = LayerFilter::new(settings, report, &spool);
    let skip_layer = filter.skip_layer();
    let found = locate::locate_image(&settings.image, &spool, skip_layer, report).await?;
    let (names, insecure) = match &found {
        LocatedImage::Local { image, .. } => (image.name.iter().collect(), None),
        LocatedImage::Daemon(found) => {
            let names: Vec<_> = found.name.iter().chain(&found.alternatives).collect();
            (names, found.insecure_registries.clone())
        }
    };
    let unpacks_zstd = matches!(&found, LocatedImage::Daemon(found) if found.unpacks_zstd());
    let registry = &settings.remote.registry;
    let (repository, tag) = resolve_target(&settings.remote, &names)?;
    let (copies, related) = match &found {
        LocatedImage::Daemon(found) => {
            let image = (found.store.id(), &found.diff_ids[..]);
            let copies = find_records(&found.repo_digests, image, registry, &repository);
            let related = find_related(found, registry, &repository);
            (copies, Some(related))
        }
        LocatedImage::Local { .. } => (Vec::new(), None),
    };
    let (client, skipped) = filter.finish().await;
    let client = match client {
        Some(client) => client,
        None => {
            let access = settings.access.clone();
            let access = access.with_engine_insecure_registries(insecure);
            let connect = access.connect(registry, Some(&repository), true, report);
            connect.await?
        }
    };
    let image_name = format!("{registry}/{repository}:{tag}");
    let cache = settings.folders.cache.clone();
    let verified = settings.folders.verified_blobs();
    let probe = TargetProbe {
        client: client.clone(),
        repository: repository.clone(),
        cache: cache.clone(),
        verified: verified.clone(),
    };
    let journal = Journal::new(&cache, client.scheme());
    let options = settings.transfer_options;
    let writer = Arc::new(RepositoryWriter::new(client, repository, journal, options));
    let context = PushContext {
        upload: UploadContext {
            writer: Arc::clone(&writer),
            verified,
            spool,
            threads: settings.threads,
            verifies: settings.verifies,
            report: Arc::clone(report),
        },
        lookup: LookupRequest {
            probe,
            writer,
            report: Arc::clone(report),
            tag,
            can_mount: !settings.is_dry_run,
            can_verify: !settings.is_dry_run,
            reuse: settings.reuse,
            trust_registry: settings.trust_registry,
            accepts_zstd: settings.reuses_zstd || unpacks_zstd,
            copies,
            find_related: related,
        },
        name: image_name,
        skipped,
        uses_deltas: settings.uses_deltas,
        max_kept_bytes: settings.max_kept_bytes,
    };
    Ok((context, found))
}

/// Returns the manifests of an image at a registry, as the local engine recorded them. Those of the
/// target repository are first.
fn find_records(
    repo_digests: &[String],
    (config, diff_ids): (&Digest, &[Digest]),
    registry: &Registry,
    target: &Repository,
) -> Vec<RecordedImage> {
    let parsed = repo_digests.iter().filter_map(|text| {
        let (name, digest) = text.split_once('@')?;
        let name: LocalName = name.parse().ok()?;
        // Docker omits the name of Docker Hub.
        let is_same_registry = match &name.registry {
            Some(own) => own == registry,
            None => registry.is_docker_hub(),
        };
        let is_full = name.repository.as_str().contains('/') || name.registry.is_some();
        let repository = if is_full {
            name.repository
        } else {
            format!("library/{}", name.repository).parse().ok()?
        };
        let record = RecordedImage {
            repository,
            manifest: digest.parse().ok()?,
            config: config.clone(),
            diff_ids: diff_ids.to_vec(),
        };
        is_same_registry.then_some(record)
    });
    let mut records: Vec<_> = parsed.collect();
    records.sort_by_key(|record| record.repository != *target);
    records.truncate(MAX_RECORDS);
    records
}

/// Returns a function that asks the daemon for its images that share layers with an image.
fn find_related(
    found: &DaemonImage,
    registry: &Registry,
    target: &Repository,
) -> FindRelatedImages {
    let (found, registry, target) = (found.clone(), registry.clone(), target.clone());
    Box::new(move || {
        let (found, registry, target) = (found.clone(), registry.clone(), target.clone());
        Box::pin(async move {
            let records = |repo_digests: &[String], image: (&Digest, &[Digest])| {
                find_records(repo_digests, image, &registry, &target)
            };
            let nothing = (found.store.id(), &[][..]);
            let is_useful = |repo_digests: &[String]| !records(repo_digests, nothing).is_empty();
            let related = found.related_images(is_useful).await;
            let related = related
                .iter()
                .flat_map(|image| records(&image.repo_digests, (&image.config, &image.diff_ids)));
            related.collect()
        })
    })
}

/// Refuses a target that means Docker Hub only because it names no registry, if the user has no login
/// there. It may have been meant as the name of a registry.
async fn require_login_at_implied_registry(settings: &PushSettings) -> Result<(), Failure> {
    let RemoteName {
        registry,
        is_registry_implied,
        name,
    } = &settings.remote;
    let Some((repository, _)) = name.as_ref().filter(|_| *is_registry_implied) else {
        return Ok(());
    };
    if settings
        .access
        .has_login(registry, Some(repository))
        .await?
    {
        return Ok(());
    }
    let (first, rest) = repository.as_str().split_once('/').unwrap_or_default();
    let what = format!(
        "{repository} means Docker Hub, because it names no registry, and there is no login for \
         Docker Hub"
    );
    let hint = format!(
        "for Docker Hub, log in with imgsync login {registry}, or write {registry}/{repository}; \
         for a registry with the name {first}, write its port, for example {first}:5000/{rest}"
    );
    Err(Failure::new(FailureKind::Usage, what).with_hint(hint))
}

/// Completes the remote as typed by the image's local name: without a tag, the local tag is kept.
///
/// # Errors
/// Fails if the image has no name, or several names that mean different targets.
fn resolve_target(remote: &RemoteName, names: &[&LocalName]) -> Result<(Repository, Tag), Failure> {
    let registry = &remote.registry;
    let complete = |name: Option<&LocalName>| -> Option<(Repository, Tag)> {
        let local_tag = || name.and_then(|name| name.tag.clone());
        let (repository, tag) = match &remote.name {
            Some((repository, tag)) => (repository.clone(), tag.clone().or_else(local_tag)),
            None => (name?.repository.clone(), local_tag()),
        };
        Some((repository, tag.unwrap_or_else(Tag::latest)))
    };
    let Some(target) = complete(names.first().copied()) else {
        let what = format!("the image has no name, and the target {registry} names no repository");
        let hint = format!("write {registry}/repository:tag");
        return Err(Failure::usage(what).with_hint(hint));
    };
    if names
        .iter()
        .any(|name| complete(Some(name)).as_ref() != Some(&target))
    {
        let names: Vec<_> = names.iter().map(|local| name::text(local)).collect();
        let repository = remote.name.as_ref().map(|(repository, _)| repository);
        let (missing, example) = match repository {
            Some(repository) => ("tag", format!("{registry}/{repository}:{}", target.1)),
            None => (
                "repository",
                format!("{registry}/{}:{}", target.0, target.1),
            ),
        };
        let what = format!(
            "the image has several names ({}), and the target names no {missing}",
            names.join(", ")
        );
        return Err(Failure::usage(what).with_hint(format!("for example: {example}")));
    }
    Ok(target)
}

/// Opens the spool in the user's cache folder: it gets as large as the missing layers, and `/tmp`
/// is in memory on many machines. A dry run keeps nothing. Where the folder cannot be used, the
/// push goes on with temporary files.
fn open_spool(settings: &PushSettings, report: &Arc<dyn Report>) -> Spool {
    let folder = settings.folders.cache.join("spool");
    let try_folder = || -> io::Result<()> {
        if !settings.is_dry_run {
            std::fs::create_dir_all(&folder)?;
        }
        match tempfile::tempfile_in(&folder) {
            // How much space is needed is known only later.
            Err(error) if disk::is_disk_full(&error) => Ok(()),
            tried => tried.map(drop),
        }
    };
    match try_folder() {
        Ok(()) if settings.is_dry_run => Spool::temporary(&folder),
        Ok(()) => Spool::persistent(&folder),
        Err(_) if settings.is_dry_run => Spool::default(),
        Err(error) => {
            let (folder, spool) = (folder.display(), Spool::default());
            report.note(&format!(
                "cannot write to {folder} ({error}): temporary files go to {}, and an interrupted \
                 push starts from the beginning",
                spool.folder().display()
            ));
            spool
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_several_names() {
        let names = ["app:v1", "lab:5000/app:v1", "app:v2", "other:v1"];
        let names = names.map(|name| name.parse::<LocalName>().unwrap());
        let resolve = |remote: &str, positions: &[usize]| {
            let names: Vec<_> = positions.iter().map(|it| &names[*it]).collect();
            resolve_target(&remote.parse().unwrap(), &names)
                .map(|(repository, tag)| format!("{repository}:{tag}"))
                .map_err(|failure| (failure.kind, failure.what))
        };
        let app = Ok("app:v1".to_owned());
        assert_eq!(resolve("nas:5000", &[0, 1]), app);
        assert_eq!(resolve("nas:5000/app", &[0, 1, 3]), app);
        assert_eq!(resolve("nas:5000/app:v1", &[0, 1, 2, 3]), app);
        assert_eq!(resolve("nas:5000/app", &[]), Ok("app:latest".to_owned()));
        for (remote, positions) in [("nas:5000", [0, 3]), ("nas:5000/app", [0, 2])] {
            let (kind, what) = resolve(remote, &positions).unwrap_err();
            assert_eq!(kind, FailureKind::Usage);
            assert!(what.contains("several names (app:v1, "), "{what}");
        }
        assert!(resolve("nas:5000", &[]).is_err());
    }
}
