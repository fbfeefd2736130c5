//! The bounds of a walk, without which a small hostile index could name any amount of content.

use crate::Digest;

/// The bounds of a [`super::GraphWalk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphLimits {
    /// The greatest depth of a manifest below its root, which is at depth 0. An index within an
    /// index is rare, and deeper nesting is an attack rather than an image.
    pub max_depth: usize,
    /// The most manifests that are added, roots included.
    pub max_manifests: usize,
    /// The most bytes of all added manifests together.
    pub max_bytes: u64,
    /// The most descriptors of manifests and blobs, each counted as often as a manifest names it.
    pub max_descriptors: usize,
}

impl Default for GraphLimits {
    /// Bounds that no real image reaches: 4 levels, 2,000 manifests, 32 MiB of manifests and
    /// 200,000 descriptors.
    fn default() -> Self {
        Self {
            max_depth: 4,
            max_manifests: 2000,
            max_bytes: 32 * 1024 * 1024,
            max_descriptors: 200_000,
        }
    }
}

/// The bound that a graph exceeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphLimitError {
    /// A manifest at the greatest depth names further manifests.
    #[error("{digest} nests indexes more than {limit} levels deep")]
    TooDeep {
        /// The manifest that names them.
        digest: Digest,
        /// The greatest depth.
        limit: usize,
    },
    /// There are more manifests than the limit.
    #[error("there are more than {limit} manifests")]
    TooManyManifests {
        /// The most manifests.
        limit: usize,
    },
    /// The manifests have more bytes than the limit.
    #[error("the manifests have more than {limit} bytes")]
    TooManyBytes {
        /// The most bytes.
        limit: u64,
    },
    /// The manifests name more content than the limit.
    #[error("the manifests name more than {limit} manifests and blobs")]
    TooManyDescriptors {
        /// The most descriptors.
        limit: usize,
    },
}
