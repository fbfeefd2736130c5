//! Keeps the list of referrers under a tag, for targets that keep none themselves (OCI
//! distribution-spec, "Pushing Manifests with Subject").

use imgsync_oci::referrers::{self, ReferrerDescriptor, ReferrersIndex};
use imgsync_oci::{Digest, Reference, Tag, media};

use super::plan::ImageCopy;
use crate::exit::{Failure, FailureKind};
use crate::image::referrer_tags;
use crate::transports::{ManifestRole, VerifiedManifest};

/// The most referrers that a list under a tag may name.
const MAX_LISTED_REFERRERS: usize = 1000;

impl ImageCopy<'_> {
    /// Adds a manifest to the list of referrers of `subject`. Returns the tag and the digest of the
    /// list, if it was changed.
    pub(super) async fn add_to_referrers_list(
        &self,
        subject: &Digest,
        manifest: &VerifiedManifest,
        image: &Digest,
    ) -> Result<Option<(Tag, Digest)>, Failure> {
        if self.target.list_referrers(subject).await?.is_some() {
            return Ok(None);
        }
        let Some(tag) = referrer_tags::fallback_tag(subject) else {
            return Ok(None);
        };
        let referrer = match referrers::parse_referrer(&manifest.bytes, &manifest.digest) {
            Ok(Some((stated, referrer))) if stated == *subject => referrer,
            // The list at the source was wrong about this manifest.
            _ => return Ok(None),
        };
        // Lists are read, changed and written one at a time.
        let _guard = self.cache.referrer_list_lock.lock().await;
        let mut listed = self.read_list(&tag).await?;
        if listed.iter().any(|other| other.digest == referrer.digest) {
            return Ok(None);
        }
        if listed.len() >= MAX_LISTED_REFERRERS {
            let what =
                format!("target: the list {tag} already has {MAX_LISTED_REFERRERS} referrers");
            return Err(Failure::new(FailureKind::Target, what));
        }
        listed.push(referrer);
        let bytes = serde_json::to_vec(&ReferrersIndex::of(listed)).map_err(|error| {
            let what = format!("target: the list {tag} cannot be written: {error}");
            Failure::new(FailureKind::Target, what)
        })?;
        let list = VerifiedManifest::new(media::OCI_INDEX, bytes);
        (self.request.before_tag)(&tag, &list.digest, image)?;
        let role = ManifestRole::Tagged(tag.clone());
        self.target.put_manifest(&list, &role).await?;
        Ok(Some((tag, list.digest)))
    }

    /// Returns the referrers that the list under a tag names now.
    async fn read_list(&self, tag: &Tag) -> Result<Vec<ReferrerDescriptor>, Failure> {
        let reference = Reference::Tag(tag.clone());
        let Some(list) = self.target.fetch_manifest(&reference).await? else {
            return Ok(Vec::new());
        };
        let list: Result<ReferrersIndex, _> = serde_json::from_slice(&list.bytes);
        let list = list.map_err(|error| {
            let what = format!("target: {tag} is not a list of referrers: {error}");
            Failure::new(FailureKind::Target, what)
                .with_mirror_hint("pass --referrers none to copy the image without its referrers")
        })?;
        Ok(list.manifests)
    }
}
