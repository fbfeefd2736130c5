//! Parses the sizes of what is measured.

use std::time::Duration;

/// How much is generated and sent. A part of size 0 is left out.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    /// The numbers of tags, each in a folder of its own.
    pub(super) tags: Vec<usize>,
    pub(super) repositories: usize,
    pub(super) referrers: usize,
    /// The number of blobs of the folder in which garbage is collected.
    pub(super) blobs: usize,
    /// The number of pushes at a time.
    pub(super) pushes: usize,
    pub(super) push_bytes: usize,
    /// The number of PATCHes at a time.
    pub(super) patches: usize,
    pub(super) patch_bytes: usize,
    /// How long after the uploads the memory is measured again.
    pub(super) settle: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            tags: vec![1_000, 10_000, 100_000],
            repositories: 10_000,
            referrers: 10_000,
            blobs: 100_000,
            pushes: 64,
            patches: 480,
            ..Self::NONE
        }
    }
}

impl Sizes {
    /// Leaves out all parts.
    pub(super) const NONE: Self = Self {
        tags: Vec::new(),
        repositories: 0,
        referrers: 0,
        blobs: 0,
        pushes: 0,
        push_bytes: 16 << 20,
        patches: 0,
        patch_bytes: 4 << 20,
        settle: Duration::from_secs(10),
    };

    /// Reads arguments of the form `repositories=100` or `tags=10,100` over `base`.
    pub(super) fn parse(base: &Self, words: &[String]) -> Self {
        let mut sizes = base.clone();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let number = |text: &str| {
                let parsed = text.parse::<usize>();
                parsed.unwrap_or_else(|error| panic!("{word:?}: {text:?}: {error}"))
            };
            match name {
                "tags" => sizes.tags = value.split(',').map(number).filter(|n| *n > 0).collect(),
                "repositories" => sizes.repositories = number(value),
                "referrers" => sizes.referrers = number(value),
                "blobs" => sizes.blobs = number(value),
                "pushes" => sizes.pushes = number(value),
                "pushbytes" => sizes.push_bytes = number(value),
                "patches" => sizes.patches = number(value),
                "patchbytes" => sizes.patch_bytes = number(value),
                "settle" => sizes.settle = Duration::from_secs(number(value) as u64),
                _ => panic!(
                    "{word:?}: expected tags, repositories, referrers, blobs, pushes, pushbytes, \
                     patches, patchbytes or settle, then = and a number"
                ),
            }
        }
        sizes
    }
}
