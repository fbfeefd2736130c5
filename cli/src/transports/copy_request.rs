//! What a copy is asked for.

use std::collections::HashSet;
use std::sync::Arc;

use imgsync_oci::{Digest, Reference, Tag};

use crate::exit::Failure;
use crate::image::Platforms;

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
