//! The parameters of a copy.

use std::collections::HashSet;
use std::sync::Arc;

use imgsync_oci::{Digest, Reference, Tag};
use serde::Deserialize;

use crate::exit::Failure;
use crate::image::Platforms;

/// Which signatures, attestations and other artifacts are copied with an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferrersPolicy {
    /// None.
    #[serde(rename = "none")]
    Skip,
    /// The referrers that exist when the tag of the image is written, and those under tags of
    /// cosign's scheme. For an image whose tag is up to date, the list of referrers is not
    /// requested again, which would cost another request for each tag.
    #[default]
    New,
    /// Like `New`, but the list of referrers is requested every time, so that later signatures are
    /// copied, too.
    All,
}

/// Called just before a tag is written at the target, including the tags of referrers, with the
/// tag, the digest that it will name, and the digest of the copied image. Its error fails the copy.
pub type BeforeTagHook = dyn Fn(&Tag, &Digest, &Digest) -> Result<(), Failure> + Send + Sync;

/// What to copy, and how.
#[derive(Clone)]
pub struct CopyRequest {
    /// The reference at the source.
    pub from: Reference,
    /// The reference at the target: a tag, or the same digest.
    pub to: Reference,
    /// The platforms of an index; none means all.
    pub platforms: Platforms,
    /// The referrers that are copied.
    pub referrers: ReferrersPolicy,
    /// The tags of the source, if known; other tags are not requested.
    pub listed: Option<Arc<HashSet<Tag>>>,
    /// The hook that is called before a tag is written.
    pub before_tag: Arc<BeforeTagHook>,
}
