//! `imgsync push`: find the image, ask what the target lacks, send that, put the manifest.

mod earlier;
mod graph;
mod in_store;
mod passing;
mod preview;
mod single;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use imgsync_oci::client::upload::Session;
use imgsync_oci::{Descriptor, Digest, LocalName, Reference, Remote, Repository, Tag};

use crate::ask;
use crate::cache;
use crate::exit::{Failure, Kind};
use crate::facts::Question;
use crate::report::{Outcome, Report};
use crate::settings::{self, Target};
use crate::source::{self, Content, Found};
use crate::spool::{self, Room, Spool};
use crate::transfer::{Journal, Line, Means};
use passing::{Passing, Seen};
pub(super) use preview::Preview;

/// The largest config that is read from the target, in bytes.
const LONGEST_CONFIG: usize = 4 * 1024 * 1024;

/// Where a push stands when it is over.
struct Pushed {
    /// The digest of the manifest that the tag now names.
    digest: Digest,
    /// The size of all blobs that the manifest names, each once, in bytes.
    blobs: u64,
}

/// The size of blobs in bytes. Each is what others say: sums of them end at the largest number.
fn total<'a>(blobs: impl IntoIterator<Item = &'a Descriptor>) -> u64 {
    let sizes = blobs.into_iter().map(|blob| blob.size);
    sizes.fold(0, u64::saturating_add)
}

/// What every kind of push needs.
struct Push {
    means: Means,
    target: Target,
    /// Whether nothing may change anywhere.
    is_dry: bool,
    /// Whether what other images at the target say of their layers counts.
    reuse: bool,
    /// Where else at the target's registry the image lies, as its source says.
    copies: Vec<(Repository, Digest)>,
    /// What was found out while the image passed by.
    seen: Seen,
}

/// Brings an image to its remote. When this yields, the manifest is there and everything it names.
///
/// # Errors
/// See [`Kind`].
pub(super) async fn push(
    settings: &settings::Push,
    report: &Arc<dyn Report>,
) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let (push, mut found) = prepare(settings, report).await?;
    let pushed = match &mut found {
        Found::Here { image, blobs } => push.image(image, std::mem::take(blobs)).await?,
        Found::Daemon(found) => match found.image() {
            Some(image) => push.unpacked(found, &image).await?,
            None => push.in_store(found).await?,
        },
    };
    push.further_tags(&pushed.digest, &settings.tags).await?;
    push.means.line.cancel_sessions().await;
    push.forget(&found);
    let sent = push.means.line.sent();
    Ok(Outcome {
        image: push.target.to_string(),
        digest: pushed.digest,
        sent,
        saved: pushed.blobs.saturating_sub(sent),
        took: began.elapsed(),
    })
}

/// What a push would do. Changes nothing anywhere.
///
/// # Errors
/// See [`Kind`].
pub(super) async fn preview(
    settings: &settings::Push,
    report: &Arc<dyn Report>,
) -> Result<Preview, Failure> {
    let (push, found) = prepare(settings, report).await?;
    push.preview(&found, &settings.tags).await
}

/// Finds the image, and the way to its target.
async fn prepare(
    settings: &settings::Push,
    report: &Arc<dyn Report>,
) -> Result<(Push, Found), Failure> {
    let spool = spool(settings, report);
    if !settings.is_dry {
        cache::sweep(&settings.folders.cache);
    }
    let passing = Passing::new(settings, report, &spool);
    let found = source::find(&settings.image, &spool, passing.unneeded()).await?;
    let name = match &found {
        Found::Here { image, .. } => image.name.clone(),
        Found::Daemon(found) => found.name.clone(),
    };
    let target = target(&settings.remote, name)?;
    let insecure = match &found {
        Found::Here { .. } => None,
        Found::Daemon(found) => found.insecure.clone(),
    };
    let (client, seen) = passing.over();
    let client = match client {
        Some(client) => client,
        None => {
            let access = settings.access.clone().with_engine(insecure);
            access
                .connect(&target.registry, Some(&target.repository), true, report)
                .await?
        }
    };
    let journal = Journal::new(&settings.folders.cache, client.scheme());
    let copies = match &found {
        Found::Here { .. } => Vec::new(),
        Found::Daemon(found) => copies(&found.repo_digests, &target),
    };
    let line = Line::new(client, target.repository.clone(), journal, settings.manner);
    let push = Push {
        means: Means {
            line: Arc::new(line),
            spool,
            threads: settings.threads,
            folders: settings.folders.clone(),
            report: Arc::clone(report),
        },
        target,
        is_dry: settings.is_dry,
        reuse: settings.reuse,
        copies,
        seen,
    };
    Ok((push, found))
}

impl Push {
    /// An image whose bytes are all at hand.
    async fn image(&self, image: &source::Image, blobs: source::Blobs) -> Result<Pushed, Failure> {
        for remark in &image.remarks {
            self.means.report.note(remark);
        }
        match &image.content {
            Content::Single(single) => {
                let facts = self.single_facts(single).await?;
                let earlier = self.earlier(single, &facts).await;
                self.single(single, facts, blobs, earlier).await
            }
            Content::Graph(graph) => self.graph(graph, blobs).await,
        }
    }

    /// Puts the manifest under more tags, where they do not name it already.
    async fn further_tags(&self, digest: &Digest, tags: &[Tag]) -> Result<(), Failure> {
        let line = &self.means.line;
        let (client, repository) = (&line.client, &line.repository);
        let mut held = None;
        for tag in tags {
            let reference = Reference::Tag(tag.clone());
            let tagged = client.head_manifest(repository, &reference).await?;
            if tagged.and_then(|tagged| tagged.digest).as_ref() != Some(digest) {
                if held.is_none() {
                    let by_digest = Reference::Digest(digest.clone());
                    held = ask::manifest(client, repository, &by_digest).await?;
                }
                let Some(held) = &held else {
                    let what = format!("target: {digest} was put, and is not there");
                    return Err(Failure::new(Kind::Target, what).hint("push again"));
                };
                let bytes = held.fetched.bytes.clone();
                client
                    .put_manifest(repository, &reference, &held.media_type, bytes)
                    .await?;
            }
            self.means.report.note(&format!("tagged {tag} too"));
        }
        Ok(())
    }

    /// What is to be asked, and how far it may go.
    fn question<'a>(&'a self, opened: &'a (dyn Fn(Session) + Send + Sync)) -> Question<'a> {
        Question {
            client: &self.means.line.client,
            repository: &self.means.line.repository,
            tag: &self.target.tag,
            mount: !self.is_dry,
            reuse: self.reuse,
            cache: &self.means.folders.cache,
            copies: &self.copies,
            opened,
        }
    }

    /// Takes out of the spool what was kept of an image that is now at its target.
    fn forget(&self, found: &Found) {
        let spool = &self.means.spool;
        match found {
            Found::Here { image, .. } => {
                let digests = image.content.digests();
                spool.remove(Room::Bytes, &digests);
                spool.remove(Room::Packed, &digests);
            }
            Found::Daemon(found) => found.forget(spool),
        }
    }

    fn tag(&self) -> Reference {
        Reference::Tag(self.target.tag.clone())
    }

    async fn put(
        &self,
        manifest: &source::ManifestBytes,
        reference: &Reference,
    ) -> Result<(), Failure> {
        let line = &self.means.line;
        let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
        line.client
            .put_manifest(&line.repository, reference, media_type, bytes)
            .await?;
        Ok(())
    }
}

/// Of the places that a daemon names, those in other repositories of the target's registry.
fn copies(repo_digests: &[String], target: &Target) -> Vec<(Repository, Digest)> {
    const MOST: usize = 2;
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
    parsed.take(MOST).collect()
}

/// Where the image goes: the remote as typed, completed by the name that it has here.
fn target(remote: &Remote, name: Option<LocalName>) -> Result<Target, Failure> {
    let registry = remote.registry.clone();
    let (repository, tag) = match (&remote.name, name) {
        (Some((repository, tag)), _) => (repository.clone(), tag.clone()),
        (None, Some(name)) => (name.repository, name.tag),
        (None, None) => {
            let what = format!("the image has no name, and {registry} names no repository");
            let hint = format!("write {registry}/repository:tag");
            return Err(Failure::new(Kind::Usage, what).hint(hint));
        }
    };
    Ok(Target {
        registry,
        repository,
        tag: tag.unwrap_or_else(Tag::latest),
    })
}

/// The spool, in the user's cache folder: what waits there is as large as the layers that are
/// missing, and `/tmp` is memory on many machines. A dry run keeps nothing. Where nothing can be kept
/// there, the push goes on without.
fn spool(settings: &settings::Push, report: &Arc<dyn Report>) -> Spool {
    let folder = settings.folders.cache.join("spool");
    let usable = || -> io::Result<()> {
        if !settings.is_dry {
            std::fs::create_dir_all(&folder)?;
        }
        match tempfile::tempfile_in(&folder) {
            // Only what has to be put aside tells how much is needed.
            Err(error) if spool::is_full(&error) => Ok(()),
            tried => tried.map(drop),
        }
    };
    match (usable(), settings.is_dry) {
        (Ok(()), true) => Spool::fleeting(&folder),
        (Ok(()), false) => Spool::keeping(&folder),
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
