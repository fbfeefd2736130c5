//! What a copy came to.

use imgsync_oci::{Digest, Tag};

/// How much had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyChange {
    /// Nothing: the target's tag names it already, and all that goes along is there.
    Nothing,
    /// Only something that goes along.
    Referrers,
    /// The target held the manifest under another name; the tag was put.
    Tag,
    /// The manifest, and whatever it needs and the target lacked.
    Image,
}

/// What a copy came to, or, of a preview, would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOutcome {
    /// The digest at the source.
    pub source_digest: Digest,
    /// The digest at the target: another one where `platforms` left parts out.
    pub digest: Digest,
    /// What the tag named at the target before.
    pub previous_digest: Option<Digest>,
    /// How much had to be done.
    pub change: CopyChange,
    /// Bytes of blobs that were sent; of a preview, that are to be sent.
    pub sent: u64,
    /// Bytes of blobs that it needs, and that were at the target or sent with another image. 0 for
    /// an image that nothing was read of, since its tag is right.
    pub saved: u64,
    /// Those of them that the target linked from another of its repositories.
    pub mounted: u64,
    /// Tags that speak about the image or its parts, as far as they were asked for, with what they
    /// name at the target now; lists of referrers that were written too.
    pub referrer_tags: Vec<(Tag, Digest)>,
    /// How many referrers were brought.
    pub referrer_count: usize,
    /// The platforms that were left out, where some were; as `linux/arm64`.
    pub left_out: Vec<String>,
    /// What people should hear of.
    pub notes: Vec<String>,
}
