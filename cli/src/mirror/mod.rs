//! Copies images between two ends, as they are: registries, layouts, archives, a daemon.

pub mod config;
mod copier;
mod creation_date;
mod execute;
mod gather;
pub mod job;
pub mod location;
mod plan;
mod platform_filter;
pub mod prune;
pub mod record;
mod referrer_tags;
mod referrers;
mod run_cache;
pub mod selection;
mod throttle;
pub mod transports;

use std::collections::HashSet;
use std::sync::Arc;

use imgsync_oci::{Digest, Reference, Tag};

use crate::exit::Failure;
use crate::source::Platforms;

pub use copier::Copier;
pub use creation_date::{CreationDate, fetch_creation_date};
pub use referrer_tags::subject_of;

/// What goes along with an image that speaks about it: signatures, attestations, lists of parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReferrersPolicy {
    /// Nothing.
    Skip,
    /// What is found when a tag is put for the image, and what tags of cosign's scheme name. Of an
    /// image whose tag is right already the source's list of referrers is not asked for again: that
    /// would be a second request a tag.
    #[default]
    New,
    /// The same, and the source's list is asked for each time: what was signed after it was
    /// mirrored comes too.
    All,
}

/// Is called just before each time that a tag is put at the target, companions' tags included, with
/// the tag, the digest that it is about to name, and the digest of the image that is copied. What it
/// fails with, the copy fails with.
pub type BeforeTagHook = dyn Fn(&Tag, &Digest, &Digest) -> Result<(), Failure> + Send + Sync;

/// What is to be copied, and how.
#[derive(Clone)]
pub struct CopyRequest {
    /// What it is at the source.
    pub from: Reference,
    /// What it is to be at the target: a tag, or its own digest.
    pub to: Reference,
    /// Which parts of an index; none named means all.
    pub platforms: Platforms,
    /// What goes along.
    pub referrers: ReferrersPolicy,
    /// The tags that the source has, where they are known: those that it has not are not asked
    /// for.
    pub listed: Option<Arc<HashSet<Tag>>>,
    /// Who is told before a tag is put.
    pub before_tag: Arc<BeforeTagHook>,
}

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
