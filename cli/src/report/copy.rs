//! The result of copying an image between registries.

use imgsync_oci::{Digest, Tag};

/// How much a copy had to change at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyChange {
    /// Nothing: the tag and the referrers are up to date.
    Nothing,
    /// Only referrers were added.
    Referrers,
    /// The target had the manifest, and only the tag was set.
    Tag,
    /// The manifest was written, with the blobs that the target lacked.
    Image,
}

/// The result of a copy, or the expected result in a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOutcome {
    /// The digest at the source.
    pub source_digest: Digest,
    /// The digest at the target. It differs if `platforms` left out parts of the index.
    pub digest: Digest,
    /// The digest that the tag had at the target before.
    pub previous_digest: Option<Digest>,
    /// How much was changed at the target.
    pub change: CopyChange,
    /// The blob bytes that were sent, each counted once, or would be sent in a dry run.
    pub sent: u64,
    /// The blob bytes that were sent again, after an error.
    pub resent: u64,
    /// The bytes of needed blobs that the target had or got with another image. Zero if the tag was
    /// up to date, because the image was not read then.
    pub saved: u64,
    /// The part of `saved` that the target mounted from another of its repositories.
    pub mounted: u64,
    /// The selected tags of referrers of the image or its parts, with their digests at the target,
    /// including the lists of referrers that were written.
    pub referrer_tags: Vec<(Tag, Digest)>,
    /// The number of referrers that were copied.
    pub referrer_count: usize,
    /// The platforms that were left out, such as `linux/arm64`.
    pub left_out: Vec<String>,
    /// Messages to show to the user.
    pub notes: Vec<String>,
}

impl CopyOutcome {
    /// Returns the outcome of a copy that changes nothing and finds no image at the target.
    pub fn unchanged(source_digest: Digest, digest: Digest) -> Self {
        Self {
            source_digest,
            digest,
            previous_digest: None,
            change: CopyChange::Nothing,
            sent: 0,
            resent: 0,
            saved: 0,
            mounted: 0,
            referrer_tags: Vec::new(),
            referrer_count: 0,
            left_out: Vec::new(),
            notes: Vec::new(),
        }
    }
}
