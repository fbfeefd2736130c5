//! A repository at a registry, as either end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use imgsync_oci::client::{Client, Deleted, Error, FetchedManifest};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Registry, Repository, Tag};
use tokio::sync::SemaphorePermit;

use super::{Answer, Head, Held, Role, Source, Target};
use crate::exit::{Failure, Kind};
use crate::mirror::companion;
use crate::mirror::hosts::Host;
use crate::report::Report;
use crate::transfer::{Body, Journal, Line, Manner, Moved, Outgoing, Remote, send};

/// The most pages that a list of tags is read in: some registries give fifty tags a page.
const MOST_PAGES: usize = 20_000;

/// A repository and the way to it.
struct Way {
    client: Client,
    repository: Repository,
    host: Arc<Host>,
    name: String,
    /// Whether the registry was found to keep no lists of referrers.
    unlisted: AtomicBool,
}

/// A repository that is read from.
pub(in crate::mirror) struct From(Way);

/// A repository that is written to.
pub(in crate::mirror) struct To {
    way: Way,
    line: Line,
}

impl Way {
    fn new(client: Client, repository: Repository, host: Arc<Host>) -> Self {
        let client = client.with_quota(Arc::clone(&host.quota));
        let name = format!("{}/{repository}", client.registry());
        Self {
            client,
            repository,
            host,
            name,
            unlisted: AtomicBool::new(false),
        }
    }

    fn place(&self) -> (&Registry, &Repository) {
        (self.client.registry(), &self.repository)
    }

    /// Waits until one more request may be made.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.host.requests.acquire().await.ok()
    }

    async fn head(&self, reference: &Reference) -> Result<Option<Head>, Error> {
        let turn = self.turn().await;
        let found = self
            .client
            .head_manifest(&self.repository, reference)
            .await?;
        let Some(found) = found else { return Ok(None) };
        let digest = match (found.digest, reference) {
            (_, Reference::Digest(asked)) => Some(asked.clone()),
            (said, Reference::Tag(_)) => said,
        };
        if let Some(digest) = digest {
            return Ok(Some(Head {
                digest,
                media_type: found.media_type,
                size: found.size,
            }));
        }
        // Some registries do not say; the bytes do.
        drop(turn);
        let found = self.fetch(reference).await?;
        Ok(found.map(|found| Head {
            digest: found.digest,
            media_type: found.media_type,
            size: Some(found.bytes.len() as u64),
        }))
    }

    async fn fetch(&self, reference: &Reference) -> Result<Option<FetchedManifest>, Error> {
        let _turn = self.turn().await;
        self.client.manifest(&self.repository, reference).await
    }

    /// The registry's list of referrers; `None` where it keeps none.
    async fn listed(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Error> {
        if self.unlisted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let _turn = self.turn().await;
        let client = &self.client;
        let list = client.referrers(&self.repository, subject, None).await?;
        if list.is_none() {
            self.unlisted.store(true, Ordering::Relaxed);
        }
        Ok(list)
    }

    /// The list under the tag that stands in for the registry's.
    async fn tagged_list(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let Some(tag) = companion::list(subject) else {
            return Ok(Vec::new());
        };
        let found = self.fetch(&Reference::Tag(tag)).await?;
        // Whatever else is under that name lists nothing.
        let list = found.and_then(|found| {
            let declared = found.media_type.as_deref();
            Manifest::parse(&found.bytes, declared).ok()
        });
        Ok(match list {
            Some((_, Manifest::Index { manifests, .. })) => manifests,
            Some((_, Manifest::Image { .. })) | None => Vec::new(),
        })
    }
}

/// What a kind of manifest is called that registries still keep, and nobody writes any more.
fn bygone(media_type: &str) -> Option<&'static str> {
    match media_type {
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => {
            Some("an image in Docker's first format (schema 1)")
        }
        "application/vnd.oci.artifact.manifest.v1+json" => {
            Some("an OCI artifact manifest, a type that was withdrawn")
        }
        _ => None,
    }
}

fn held(found: FetchedManifest) -> Result<Held, imgsync_oci::Invalid> {
    let (media_type, _) = Manifest::parse(&found.bytes, found.media_type.as_deref())?;
    Ok(Held {
        digest: found.digest,
        media_type,
        bytes: found.bytes,
    })
}

impl From {
    pub(in crate::mirror) fn new(client: Client, repository: Repository, host: Arc<Host>) -> Self {
        Self(Way::new(client, repository, host))
    }
}

impl Source for From {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn place(&self) -> Option<(&Registry, &Repository)> {
        Some(self.0.place())
    }

    fn tags(&self) -> BoxStream<'_, Result<Vec<Tag>, Failure>> {
        let way = &self.0;
        let start = Some((None, 0));
        let pages = stream::unfold(start, move |state| async move {
            let (next, pages) = state?;
            if pages == MOST_PAGES {
                let what = format!("source: the list of tags of {} does not end", way.name);
                return Some((Err(Failure::new(Kind::Source, what)), None));
            }
            let _turn = way.turn().await;
            let page = way.client.tags(&way.repository, next).await;
            Some(match page {
                Ok(Some(page)) => {
                    let next = page.next.map(|next| (Some(next), pages + 1));
                    (Ok(page.names), next)
                }
                Ok(None) => {
                    let what = format!("source: there is no repository {}", way.name);
                    (Err(Failure::new(Kind::Source, what)), None)
                }
                Err(error) => (Err(Failure::at_source(error)), None),
            })
        });
        pages.boxed()
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Head>> {
        async { self.0.head(reference).await.map_err(Failure::at_source) }.boxed()
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Held>> {
        async move {
            let found = self.0.fetch(reference).await.map_err(Failure::at_source)?;
            let Some(found) = found else { return Ok(None) };
            let declared = found.media_type.clone();
            let held = held(found).map_err(|error| {
                let place = format!("source: {reference} of {}", self.0.name);
                match declared.as_deref().and_then(bygone) {
                    Some(kind) => Failure::new(
                        Kind::Source,
                        format!("{place} is {kind}, which is not copied"),
                    )
                    .hint("push it anew with a tool of today, or leave its tag out (--exclude)"),
                    None => Failure::new(Kind::Source, format!("{place}: {error}")),
                }
            });
            held.map(Some)
        }
        .boxed()
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> Answer<'a, Body> {
        let body = Body::There(Remote {
            client: self.0.client.clone(),
            repository: self.0.repository.clone(),
            digest: blob.digest.clone(),
            size: blob.size,
            places: Some(Arc::clone(&self.0.host.reads)),
        });
        std::future::ready(Ok(body)).boxed()
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> Answer<'a, Vec<Descriptor>> {
        async {
            let listed = self.0.listed(subject).await.map_err(Failure::at_source)?;
            match listed {
                Some(list) => Ok(list),
                None => {
                    let list = self.0.tagged_list(subject).await;
                    list.map_err(Failure::at_source)
                }
            }
        }
        .boxed()
    }
}

impl To {
    pub(in crate::mirror) fn new(
        client: Client,
        repository: Repository,
        (journal, manner): (Journal, Manner),
        host: Arc<Host>,
    ) -> Self {
        let way = Way::new(client, repository.clone(), host);
        let line = Line::new(way.client.clone(), repository, journal, manner);
        Self { way, line }
    }
}

impl Target for To {
    fn name(&self) -> &str {
        &self.way.name
    }

    fn place(&self) -> Option<(&Registry, &Repository)> {
        Some(self.way.place())
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Head>> {
        async { Ok(self.way.head(reference).await?) }.boxed()
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Held>> {
        async {
            let found = self.way.fetch(reference).await?;
            Ok(found.and_then(|found| held(found).ok()))
        }
        .boxed()
    }

    fn holds<'a>(&'a self, blob: &'a Descriptor) -> Answer<'a, bool> {
        async {
            let _turn = self.way.turn().await;
            let Way {
                client, repository, ..
            } = &self.way;
            let size = client.head_blob(repository, &blob.digest).await?;
            Ok(size == Some(blob.size))
        }
        .boxed()
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Outgoing,
        report: &'a Arc<dyn Report>,
    ) -> Answer<'a, Moved> {
        send(&self.line, blob, report).boxed()
    }

    fn put_manifest<'a>(&'a self, manifest: &'a Held, role: &'a Role) -> Answer<'a, ()> {
        async {
            let reference = match role {
                Role::Tagged(tag) => Reference::Tag(tag.clone()),
                Role::Part | Role::Referrer { .. } | Role::Untagged => {
                    Reference::Digest(manifest.digest.clone())
                }
            };
            let _turn = self.way.turn().await;
            let Way {
                client, repository, ..
            } = &self.way;
            let Held {
                media_type, bytes, ..
            } = manifest;
            client
                .put_manifest(repository, &reference, media_type, bytes.clone())
                .await?;
            Ok(())
        }
        .boxed()
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> Answer<'a, Option<Vec<Descriptor>>> {
        async { Ok(self.way.listed(subject).await?) }.boxed()
    }

    fn delete_tag<'a>(&'a self, tag: &'a Tag) -> Answer<'a, Deleted> {
        async {
            let _turn = self.way.turn().await;
            let Way {
                client, repository, ..
            } = &self.way;
            let reference = Reference::Tag(tag.clone());
            Ok(client.delete_manifest(repository, &reference).await?)
        }
        .boxed()
    }

    fn finish<'a>(&'a self, _report: &'a Arc<dyn Report>) -> Answer<'a, ()> {
        std::future::ready(Ok(())).boxed()
    }
}
