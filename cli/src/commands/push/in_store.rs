//! An image in containerd's store: the daemon knows it by its manifest's digest, and tells what
//! is below only by exporting it.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Reference};

use super::{Push, Pushed, total};
use crate::ask::{self, Held};
use crate::exit::{Failure, Kind};
use crate::source::daemon::{Found, Store};
use crate::source::{Blobs, Image, Unneeded};

impl Push {
    /// Moves the tag if the target holds this very manifest and all it needs; else exports, and
    /// leaves out of the spool what the target has.
    pub(super) async fn in_store(&self, found: &Found) -> Result<Pushed, Failure> {
        let Store::Containerd { .. } = &found.store else {
            let what = "source: the daemon gave an image in a shape that it does not keep";
            return Err(Failure::new(Kind::Source, what));
        };
        if let Some(digest) = found.goes()
            && let Some(pushed) = self.tag_only(digest).await?
        {
            return Ok(pushed);
        }
        let line = std::sync::Arc::clone(&self.means.line);
        let runtime = tokio::runtime::Handle::current();
        let mut answers = true;
        let unneeded = Box::new(move |digest: &Digest, len: Option<u64>| {
            if !answers || len.is_none() {
                return false;
            }
            let there = runtime.block_on(line.client.head_blob(&line.repository, digest));
            // A question that failed leaves the bytes needed, and is not asked for each anew.
            answers = there.is_ok();
            there.is_ok_and(|there| there == len)
        });
        let (image, blobs) = self.exported(found, unneeded).await?;
        self.image(&image, blobs).await
    }

    /// The image's bytes, from the daemon, or as an earlier push has kept them.
    pub(super) async fn exported(
        &self,
        found: &Found,
        unneeded: Unneeded,
    ) -> Result<(Image, Blobs), Failure> {
        let report = &self.means.report;
        let mut is_asked = false;
        let begin = || {
            is_asked = true;
            report.note("exporting from the daemon");
        };
        let exported = found.export(&self.means.spool, unneeded, begin).await?;
        if !is_asked {
            report.note("not exporting: an earlier push has kept what is needed");
        }
        Ok(exported)
    }

    /// What the target holds of this manifest and all below it, if that is whole there.
    pub(super) async fn whole_there(
        &self,
        root: &Digest,
    ) -> Result<Option<(Held, Vec<Descriptor>)>, Failure> {
        let line = &self.means.line;
        let (client, repository) = (&line.client, &line.repository);
        let by_digest = Reference::Digest(root.clone());
        let Some(held) = ask::manifest(client, repository, &by_digest).await? else {
            return Ok(None);
        };
        let Some(blobs) = self.blobs_below(&held.manifest).await? else {
            return Ok(None);
        };
        let there = ask::held(client, repository, &blobs).await?;
        let is_whole = blobs.iter().all(|blob| there.contains(&blob.digest));
        Ok(is_whole.then_some((held, blobs)))
    }

    async fn tag_only(&self, root: &Digest) -> Result<Option<Pushed>, Failure> {
        let Some((held, blobs)) = self.whole_there(root).await? else {
            return Ok(None);
        };
        let line = &self.means.line;
        let (client, repository) = (&line.client, &line.repository);
        let tagged = client.head_manifest(repository, &self.tag()).await?;
        if tagged.and_then(|tagged| tagged.digest).as_ref() != Some(root) {
            let bytes = held.fetched.bytes.clone();
            client
                .put_manifest(repository, &self.tag(), &held.media_type, bytes)
                .await?;
        }
        let mut once = HashSet::new();
        let blobs = blobs.iter().filter(|blob| once.insert(&blob.digest));
        Ok(Some(Pushed {
            digest: root.clone(),
            blobs: total(blobs),
        }))
    }
}
