//! The names of an image's layers and blobs in messages: the short digest, and the instruction of
//! the Dockerfile that made the layer.

use std::collections::HashMap;

use imgsync_oci::{Digest, Manifest};

use crate::image::instructions::layer_instructions;
use crate::image::{ImageBlobs, ImageGraph, Layer, SingleImage, Slice};

/// The names of the layers of an image, or of the blobs of an index.
#[derive(Debug, Default)]
pub(crate) struct BlobNames {
    /// The word before the digest: `layer` or `blob`.
    pub(super) noun: &'static str,
    /// The instructions, by the digest of the bytes at the source.
    instructions: HashMap<Digest, String>,
}

impl BlobNames {
    /// Returns names without instructions.
    pub(super) fn new(noun: &'static str) -> Self {
        Self {
            noun,
            instructions: HashMap::new(),
        }
    }

    /// Returns the names of the layers of an image.
    pub(super) fn of_image(single: &SingleImage) -> Self {
        let mut names = Self::new("layer");
        let layers = single.layers.iter().map(Layer::source_digest);
        if let Some(config) = &single.config.bytes {
            names.add(config, layers);
        }
        names
    }

    /// Returns the names of the blobs of an index, with the configs that are in memory.
    pub(super) fn of_index(graph: &ImageGraph, blobs: &ImageBlobs) -> Self {
        let mut names = Self::new("blob");
        for manifest in &graph.manifests {
            if let Ok(Manifest::Image { config, layers, .. }) = manifest.content()
                && let Some(config) = blobs.get(&config.digest).and_then(Slice::memory_bytes)
            {
                names.add(config, layers.iter().map(|layer| &layer.digest));
            }
        }
        names
    }

    fn add<'a>(&mut self, config: &[u8], layers: impl ExactSizeIterator<Item = &'a Digest>) {
        let instructions = layer_instructions(config, layers.len());
        let named = layers.cloned().zip(instructions);
        let named = named.filter(|(_, instruction)| !instruction.is_empty());
        self.instructions.extend(named);
    }

    /// Returns the name of a layer or blob: `layer 3dce3ae6275d (COPY app)`.
    pub(crate) fn name(&self, digest: &Digest) -> String {
        let (noun, short) = (self.noun, digest.short());
        match self.instructions.get(digest) {
            Some(instruction) => format!("{noun} {short} ({instruction})"),
            None => format!("{noun} {short}"),
        }
    }
}
