//! `imgsync push`: find the image, ask what the target lacks, send that, put the manifest.

mod containerd_store;
mod graph;
mod layer_filter;
mod packed_layers;
mod preview;
mod settings;
mod single;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use imgsync_oci::client::upload::UploadSession;
use imgsync_oci::{Descriptor, Digest, LocalName, Reference, RemoteName, Repository, Tag};

use crate::evidence::{LookupRequest, probe};
use crate::exit::{Failure, FailureKind};
use crate::image::{self, ImageContent};
use crate::report::{PushSummary, Report};
use crate::spool::{Spool, SpoolKind};
use crate::transports::{LocatedImage, locate};
use crate::upload::{Journal, RepositoryWriter, UploadContext};
use crate::{cache, disk};
use layer_filter::{LayerFilter, SkippedLayers};
pub(crate) use preview::PushPreview;
pub use settings::{PushSettings, PushTarget};

/// The largest config that is read from the target, in bytes.
const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;

/// Where a push stands when it is over.
struct PushedManifest {
    /// The digest of the manifest that the tag now names.
    digest: Digest,
    /// The size of all blobs that the manifest names, each once, in bytes.
    blob_bytes: u64,
}

/// The size of blobs in bytes. Each is what others say: sums of them end at the largest number.
fn total<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> u64 {
    let sizes = blobs.into_iter().map(|blob| blob.size);
    sizes.fold(0, u64::saturating_add)
}

/// What every kind of push needs.
struct Pusher {
    context: UploadContext,
    target: PushTarget,
    /// Whether nothing may change anywhere.
    is_dry_run: bool,
    /// Whether what other images at the target say of their layers counts.
    reuse: bool,
    /// Where else at the target's registry the image lies, as its source says.
    copies: Vec<(Repository, Digest)>,
    /// What was found out while the image passed by.
    skipped: SkippedLayers,
}

/// Brings an image to its remote. When this yields, the manifest is there and everything it names.
///
/// # Errors
/// See [`Kind`].
pub(crate) async fn push(
    settings: &PushSettings,
    report: &Arc<dyn Report>,
) -> Result<PushSummary, Failure> {
    let began = Instant::now();
    let (push, mut found) = prepare(settings, report).await?;
    let pushed = match &mut found {
        LocatedImage::Local { image, blobs } => {
            push.push_image(image, std::mem::take(blobs)).await?
        }
        LocatedImage::Daemon(found) => match found.image() {
            Some(image) => push.push_unpacked(found, &image).await?,
            None => push.push_from_containerd_store(found).await?,
        },
    };
    push.put_further_tags(&pushed.digest, &settings.tags)
        .await?;
    push.context.writer.cancel_spare_sessions().await;
    push.remove_spooled(&found);
    let sent = push.context.writer.bytes_sent();
    Ok(PushSummary {
        image: push.target.to_string(),
        digest: pushed.digest,
        sent,
        saved: pushed.blob_bytes.saturating_sub(sent),
        elapsed: began.elapsed(),
    })
}

/// What a push would do. Changes nothing anywhere.
///
/// # Errors
/// See [`Kind`].
pub(crate) async fn preview(
    settings: &PushSettings,
    report: &Arc<dyn Report>,
) -> Result<PushPreview, Failure> {
    let (push, found) = prepare(settings, report).await?;
    push.preview(&found, &settings.tags).await
}

/// Finds the image, and the way to its target.
async fn prepare(
    settings: &PushSettings,
    report: &Arc<dyn Report>,
) -> Result<(Pusher, LocatedImage), Failure> {
    let spool = open_spool(settings, report);
    if !settings.is_dry_run {
        cache::sweep(&settings.folders.cache);
    }
    let passing = LayerFilter::new(settings, report, &spool);
    let found = locate::locate_image(&settings.image, &spool, passing.skip_layer()).await?;
    let name = match &found {
        LocatedImage::Local { image, .. } => image.name.clone(),
        LocatedImage::Daemon(found) => found.name.clone(),
    };
    let target = resolve_target(&settings.remote, name)?;
    let insecure = match &found {
        LocatedImage::Local { .. } => None,
        LocatedImage::Daemon(found) => found.insecure_registries.clone(),
    };
    let (client, seen) = passing.finish();
    let client = match client {
        Some(client) => client,
        None => {
            let access = settings
                .access
                .clone()
                .with_engine_insecure_registries(insecure);
            access
                .connect(&target.registry, Some(&target.repository), true, report)
                .await?
        }
    };
    let journal = Journal::new(&settings.folders.cache, client.scheme());
    let copies = match &found {
        LocatedImage::Local { .. } => Vec::new(),
        LocatedImage::Daemon(found) => find_copies(&found.repo_digests, &target),
    };
    let line = RepositoryWriter::new(
        client,
        target.repository.clone(),
        journal,
        settings.transfer_options,
    );
    let push = Pusher {
        context: UploadContext {
            writer: Arc::new(line),
            spool,
            threads: settings.threads,
            folders: settings.folders.clone(),
            report: Arc::clone(report),
        },
        target,
        is_dry_run: settings.is_dry_run,
        reuse: settings.reuse,
        copies,
        skipped: seen,
    };
    Ok((push, found))
}

impl Pusher {
    /// An image whose bytes are all at hand.
    async fn push_image(
        &self,
        image: &image::Image,
        blobs: image::ImageBlobs,
    ) -> Result<PushedManifest, Failure> {
        for remark in &image.notes {
            self.context.report.note(remark);
        }
        match &image.content {
            ImageContent::Single(single) => {
                let facts = self.look_up_single(single).await?;
                let earlier = self.find_packed_layers(single, &facts).await;
                self.push_single(single, facts, blobs, earlier).await
            }
            ImageContent::Graph(graph) => self.push_graph(graph, blobs).await,
        }
    }

    /// Puts the manifest under more tags, where they do not name it already.
    async fn put_further_tags(&self, digest: &Digest, tags: &[Tag]) -> Result<(), Failure> {
        let line = &self.context.writer;
        let (client, repository) = (&line.client, &line.repository);
        let mut held = None;
        for tag in tags {
            let reference = Reference::Tag(tag.clone());
            let tagged = client.head_manifest(repository, &reference).await?;
            if tagged.and_then(|tagged| tagged.digest).as_ref() != Some(digest) {
                if held.is_none() {
                    let by_digest = Reference::Digest(digest.clone());
                    held = probe::fetch_manifest(client, repository, &by_digest).await?;
                }
                let Some(held) = &held else {
                    let what = format!("target: {digest} was put, and is not there");
                    return Err(Failure::new(FailureKind::Target, what).with_hint("push again"));
                };
                let bytes = held.fetched.bytes.clone();
                client
                    .put_manifest(repository, &reference, &held.media_type, bytes)
                    .await?;
            }
            self.context.report.note(&format!("tagged {tag} too"));
        }
        Ok(())
    }

    /// What is to be asked, and how far it may go.
    fn lookup_request<'a>(
        &'a self,
        opened: &'a (dyn Fn(UploadSession) + Send + Sync),
    ) -> LookupRequest<'a> {
        LookupRequest {
            client: &self.context.writer.client,
            repository: &self.context.writer.repository,
            tag: &self.target.tag,
            can_mount: !self.is_dry_run,
            reuse: self.reuse,
            cache: &self.context.folders.cache,
            copies: &self.copies,
            on_spare_session: opened,
        }
    }

    /// Takes out of the spool what was kept of an image that is now at its target.
    fn remove_spooled(&self, found: &LocatedImage) {
        let spool = &self.context.spool;
        match found {
            LocatedImage::Local { image, .. } => {
                let digests = image.content.digests();
                spool.remove(SpoolKind::Bytes, &digests);
                spool.remove(SpoolKind::Compressed, &digests);
            }
            LocatedImage::Daemon(found) => found.forget(spool),
        }
    }

    fn tag_reference(&self) -> Reference {
        Reference::Tag(self.target.tag.clone())
    }

    async fn put(
        &self,
        manifest: &image::VerifiedManifest,
        reference: &Reference,
    ) -> Result<(), Failure> {
        let line = &self.context.writer;
        let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
        line.client
            .put_manifest(&line.repository, reference, media_type, bytes)
            .await?;
        Ok(())
    }
}

/// Of the places that a daemon names, those in other repositories of the target's registry.
fn find_copies(repo_digests: &[String], target: &PushTarget) -> Vec<(Repository, Digest)> {
    const MAX_COPIES: usize = 2;
    let parsed = repo_digests.iter().filter_map(|text| {
        let (name, digest) = text.split_once('@')?;
        let name: LocalName = name.parse().ok()?;
        // Docker leaves out the name of its own hub.
        let here = match &name.registry {
            Some(registry) => *registry == target.registry,
            None => target.registry.is_docker_hub(),
        };
        let repository = match name.repository.as_str().contains('/') || name.registry.is_some() {
            true => name.repository,
            false => format!("library/{}", name.repository).parse().ok()?,
        };
        let other = here && repository != target.repository;
        Some((repository, digest.parse().ok()?)).filter(|_| other)
    });
    parsed.take(MAX_COPIES).collect()
}

/// Where the image goes: the remote as typed, completed by the name that it has here.
fn resolve_target(remote: &RemoteName, name: Option<LocalName>) -> Result<PushTarget, Failure> {
    let registry = remote.registry.clone();
    let (repository, tag) = match (&remote.name, name) {
        (Some((repository, tag)), _) => (repository.clone(), tag.clone()),
        (None, Some(name)) => (name.repository, name.tag),
        (None, None) => {
            let what = format!("the image has no name, and {registry} names no repository");
            let hint = format!("write {registry}/repository:tag");
            return Err(Failure::new(FailureKind::Usage, what).with_hint(hint));
        }
    };
    Ok(PushTarget {
        registry,
        repository,
        tag: tag.unwrap_or_else(Tag::latest),
    })
}

/// The spool, in the user's cache folder: what waits there is as large as the layers that are
/// missing, and `/tmp` is memory on many machines. A dry run keeps nothing. Where nothing can be kept
/// there, the push goes on without.
fn open_spool(settings: &PushSettings, report: &Arc<dyn Report>) -> Spool {
    let folder = settings.folders.cache.join("spool");
    let usable = || -> io::Result<()> {
        if !settings.is_dry_run {
            std::fs::create_dir_all(&folder)?;
        }
        match tempfile::tempfile_in(&folder) {
            // Only what has to be put aside tells how much is needed.
            Err(error) if disk::is_disk_full(&error) => Ok(()),
            tried => tried.map(drop),
        }
    };
    match (usable(), settings.is_dry_run) {
        (Ok(()), true) => Spool::temporary(&folder),
        (Ok(()), false) => Spool::persistent(&folder),
        (Err(_), true) => Spool::default(),
        (Err(error), false) => {
            let (shown, spool) = (folder.display(), Spool::default());
            report.note(&format!(
                "nothing can be kept in {shown} ({error}): what must be put aside goes to {}, and a \
                 push that breaks off starts again",
                spool.folder().display()
            ));
            spool
        }
    }
}
