//! The parameters of a copy.

use std::collections::HashSet;
use std::sync::Arc;

use clap::ValueEnum;
use imgsync_oci::{Digest, Reference, Tag};
use serde::Deserialize;

use crate::exit::Failure;
use crate::image::Platforms;

/// The referrers that are copied with an image, such as signatures, attestations and SBOMs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferrersPolicy {
    /// No referrers
    #[value(name = "none")]
    #[serde(rename = "none")]
    Skip,
    // For an image whose tag is up to date, the list of referrers is not requested again. Tags of
    // cosign's scheme are copied in any case.
    /// Referrers that the source has when the image is copied
    #[default]
    New,
    /// Also referrers that were added later, with one more request for each tag
    All,
}

/// Called just before a tag is written at the target, including the tags of referrers, with the
/// tag, the digest that it will name, and the digest of the copied image. Its error fails the copy.
pub type BeforeTagHook = dyn Fn(&Tag, &Digest, &Digest) -> Result<(), Failure> + Send + Sync;

/// The image to copy, and the options of the copy.
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
