//! Reads an image in a classic store: its config, and its layers as raw tars.

use std::collections::{HashMap, HashSet};

use imgsync_oci::{Algorithm, Digest};

use super::loopback::{self, EngineTraces, LoopbackRead};
use super::{DaemonImage, ReadMethod, export_name};
use crate::image::limits::MAX_METADATA_BYTES;
use crate::image::{Error, ImageBlobs, Layer, SingleImage, Slice, config};
use crate::report::{ProgressTask, TaskReader};
use crate::spool::Spool;
use crate::transports::archive::staging;
use crate::transports::blocking::run_blocking;
use crate::transports::{LayerPacking, SkipLayer};

impl DaemonImage {
    /// Replaces the daemon's "empty export - not implemented" for an image without layers by an
    /// error with a hint.
    fn explain_no_layers(&self, error: Error) -> Error {
        let message = match error {
            Error::DaemonError { message, .. } if self.diff_ids.is_empty() => message,
            other => return other,
        };
        Error::unsupported(
            format!(
                "an image without layers, which the Docker daemon does not export ({message}),"
            ),
            "let the build make a layer, as COPY does; or build an archive and push that: docker \
             buildx build --output type=oci,dest=app.tar",
        )
    }

    /// Reserves space for an export of all layers before the daemon begins one, because the daemon
    /// first writes all of it to its own disk. The sizes of single layers are not known.
    fn reserve(&self, spool: &Spool, needed: &HashSet<Digest>) -> Result<(), Error> {
        let layers: HashSet<_> = self.diff_ids.iter().collect();
        let has_all = layers.len() == self.diff_ids.len()
            && layers.iter().all(|diff_id| needed.contains(*diff_id));
        let Some(size) = self.size.filter(|_| has_all) else {
            return Ok(());
        };
        // Podman counts a little more than the layers.
        let reserved = spool.reserve(size - size / 100);
        reserved.map_err(|error| Error::spool(spool.folder(), error))
    }

    /// Reads the config and the layers that `unneeded` does not skip, except those that are given to
    /// `packing`. Also returns the traces that are to be removed from the daemon.
    pub(super) async fn read_classic(
        &self,
        config: &Digest,
        spool: &Spool,
        packing: LayerPacking,
        mut unneeded: SkipLayer,
        mut begin: impl FnMut(ReadMethod) -> ProgressTask,
    ) -> Result<(SingleImage, ImageBlobs, Option<EngineTraces>), Error> {
        let mut needed: HashSet<_> = self.diff_ids.iter().cloned().collect();
        let (earlier, own_config) = (spool.clone(), config.clone());
        let (needed, mut slices) = run_blocking(move || {
            needed.retain(|diff_id| !unneeded(diff_id, None));
            needed.insert(own_config);
            let mut slices = HashMap::new();
            needed.retain(|digest| match earlier.find_bytes(digest) {
                Some(slice) => slices.insert(digest.clone(), slice).is_some(),
                None => true,
            });
            (needed, slices)
        })
        .await;
        let mut traces = None;
        if !needed.is_empty() {
            let read = self.read_needed(config, (spool, packing), needed, &mut begin);
            let read = read.await?;
            slices.extend(read.blobs);
            traces = read.traces;
        }
        let from = export_name(&self.engine);
        let (config, diff_ids) = (config.clone(), self.diff_ids.clone());
        let assembled = run_blocking(move || assemble_image(&from, config, diff_ids, slices));
        let (single, blobs) = assembled.await?;
        Ok((single, blobs, traces))
    }

    /// Returns how the blobs with these digests would be read. Changes nothing in the daemon.
    pub async fn read_method(&self, wanted: &HashSet<Digest>) -> ReadMethod {
        match loopback::check(self, wanted).await {
            Ok(method) => method,
            Err(error) => ReadMethod::Export {
                engine: self.engine_kind(),
                reason: Some(error.to_string()),
            },
        }
    }

    /// Reads the blobs with these digests: one by one, otherwise from an export.
    async fn read_needed(
        &self,
        config: &Digest,
        (spool, packing): (&Spool, LayerPacking),
        mut needed: HashSet<Digest>,
        begin: &mut impl FnMut(ReadMethod) -> ProgressTask,
    ) -> Result<LoopbackRead, Error> {
        let storing = (spool, &packing);
        let read = loopback::read_layers(self, config, &mut needed, storing, begin);
        let reason = match read.await {
            Ok(read) => return Ok(read),
            Err(error) => error.to_string(),
        };
        self.reserve(spool, &needed)?;
        let task = begin(ReadMethod::Export {
            engine: self.engine_kind(),
            reason: Some(reason),
        });
        let export = self.export_needed(config, spool, packing, needed, task);
        Ok(LoopbackRead {
            blobs: export.await?,
            traces: None,
        })
    }

    /// Exports the image, and keeps the entries with these digests.
    ///
    /// Up to Docker 24 the archive does not name the diffIDs, so entries are recognized by their
    /// digests. Reading ends once all of them were read.
    async fn export_needed(
        &self,
        config: &Digest,
        spool: &Spool,
        packing: LayerPacking,
        needed: HashSet<Digest>,
        task: ProgressTask,
    ) -> Result<HashMap<Digest, Slice>, Error> {
        let are_all_needed = self.diff_ids.iter().all(|diff_id| needed.contains(diff_id));
        let export = self.engine.export(&config.to_string(), &[]).await;
        let export = export.map_err(|error| self.explain_no_layers(error))?;
        let export = TaskReader::new(export, task);
        let (from, spool) = (export_name(&self.engine), spool.clone());
        let staged = run_blocking(move || {
            let staged =
                staging::stage_by_digest(export, &from, &spool, needed, are_all_needed, &packing)?;
            for bytes in staged.values().filter_map(Slice::memory_bytes) {
                spool.persist_small(bytes, Algorithm::Sha256);
            }
            Ok::<_, Error>(staged)
        });
        staged.await
    }
}

/// Builds the image from what was read.
fn assemble_image(
    from: &str,
    config: Digest,
    diff_ids: Vec<Digest>,
    mut slices: HashMap<Digest, Slice>,
) -> Result<(SingleImage, ImageBlobs), Error> {
    let slice = slices.remove(&config);
    let slice = slice.ok_or_else(|| Error::missing(from, config.to_string()))?;
    if slice.len() > MAX_METADATA_BYTES {
        let limit = format!("{MAX_METADATA_BYTES} bytes");
        return Err(Error::too_large(from, "the image's config", limit));
    }
    let bytes = slice.read_all().map_err(|error| Error::read(from, error))?;
    if config::diff_ids(&bytes).map_err(|reason| Error::malformed(from, reason))? != diff_ids {
        let reason = "the layers in the config differ from those that the daemon reported";
        return Err(Error::malformed(from, reason));
    }
    let raw = |diff_id: Digest| {
        let size = slices.get(&diff_id).map(Slice::len);
        Layer::Raw { diff_id, size }
    };
    let layers = diff_ids.into_iter().map(raw).collect();
    let mut blobs = ImageBlobs::default();
    blobs.insert(config.clone(), Slice::memory(bytes.clone()));
    for (digest, slice) in slices {
        blobs.insert(digest, slice);
    }
    Ok((
        SingleImage::without_manifest(config, Some(bytes), layers),
        blobs,
    ))
}
