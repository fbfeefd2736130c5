//! An image in containerd's store: the daemon knows it by its manifest's digest, and tells what
//! is below only by exporting it.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Reference};

use super::{PushedManifest, Pusher, total};
use crate::evidence::probe::{self, ParsedManifest};
use crate::exit::{Failure, FailureKind};
use crate::image::{Image, ImageBlobs};
use crate::transports::SkipLayer;
use crate::transports::daemon::{DaemonImage, ImageStore};

impl Pusher {
    /// Moves the tag if the target holds this very manifest and all it needs; else exports, and
    /// leaves out of the spool what the target has.
    pub(super) async fn push_from_containerd_store(
        &self,
        found: &DaemonImage,
    ) -> Result<PushedManifest, Failure> {
        let ImageStore::Containerd { .. } = &found.store else {
            let what = "source: the daemon gave an image in a shape that it does not keep";
            return Err(Failure::new(FailureKind::Source, what));
        };
        if let Some(digest) = found.selected_root()
            && let Some(pushed) = self.put_tag_only(digest).await?
        {
            return Ok(pushed);
        }
        let line = std::sync::Arc::clone(&self.context.writer);
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
        let (image, blobs) = self.export_image(found, unneeded).await?;
        self.push_image(&image, blobs).await
    }

    /// The image's bytes, from the daemon, or as an earlier push has kept them.
    pub(super) async fn export_image(
        &self,
        found: &DaemonImage,
        unneeded: SkipLayer,
    ) -> Result<(Image, ImageBlobs), Failure> {
        let report = &self.context.report;
        let mut is_asked = false;
        let begin = || {
            is_asked = true;
            report.note("exporting from the daemon");
        };
        let exported = found.export(&self.context.spool, unneeded, begin).await?;
        if !is_asked {
            report.note("not exporting: an earlier push has kept what is needed");
        }
        Ok(exported)
    }

    /// What the target holds of this manifest and all below it, if that is whole there.
    pub(super) async fn find_complete_manifest(
        &self,
        root: &Digest,
    ) -> Result<Option<(ParsedManifest, Vec<Descriptor>)>, Failure> {
        let line = &self.context.writer;
        let (client, repository) = (&line.client, &line.repository);
        let by_digest = Reference::Digest(root.clone());
        let Some(held) = probe::fetch_manifest(client, repository, &by_digest).await? else {
            return Ok(None);
        };
        let Some(blobs) = self.collect_blobs(&held.manifest).await? else {
            return Ok(None);
        };
        let there = probe::find_blobs(client, repository, &blobs).await?;
        let is_whole = blobs.iter().all(|blob| there.contains(&blob.digest));
        Ok(is_whole.then_some((held, blobs)))
    }

    async fn put_tag_only(&self, root: &Digest) -> Result<Option<PushedManifest>, Failure> {
        let Some((held, blobs)) = self.find_complete_manifest(root).await? else {
            return Ok(None);
        };
        let line = &self.context.writer;
        let (client, repository) = (&line.client, &line.repository);
        let tagged = client
            .head_manifest(repository, &self.tag_reference())
            .await?;
        if tagged.and_then(|tagged| tagged.digest).as_ref() != Some(root) {
            let bytes = held.fetched.bytes.clone();
            client
                .put_manifest(repository, &self.tag_reference(), &held.media_type, bytes)
                .await?;
        }
        let mut once = HashSet::new();
        let blobs = blobs.iter().filter(|blob| once.insert(&blob.digest));
        Ok(Some(PushedManifest {
            digest: root.clone(),
            blob_bytes: total(blobs),
        }))
    }
}
