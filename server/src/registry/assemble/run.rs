//! Assembles one layer.
//!
//! The bases are decoded to files without a name. The layer is read from them and the delta, compressed
//! into a temporary file, and becomes a blob if it has the diffID that the client named. Start reading
//! at [`PreparedAssembly::run`].

use std::time::{Duration, Instant};

use imgsync_oci::delta::{DecodedBase, DeltaError, DeltaReader, check_bases};
use imgsync_oci::layer::{self, DecodeLimits, GzipError, LayerDigests, LayerError, LayerReader};
use imgsync_oci::{Descriptor, Digest, Repository};

use super::jobs::AssemblyProgress;
use super::plan::AssemblyPlan;
use super::sources::{
    BlobSource, ClaimedScratch, CountedLayer, DeltaSource, DraftWriter, LayerSource, StopCheck,
    StopReason,
};
use crate::registry::Registry;
use crate::registry::blobs::OpenBlob;
use crate::registry::error::Error;
use crate::registry::uploads::SealedUpload;
use crate::store::BlobDraft;

/// How long any assembly may take.
const MAX_ASSEMBLY_TIME: Duration = Duration::from_secs(60 * 60);
/// How long an assembly may take in addition to the time for its bytes.
const MIN_ASSEMBLY_TIME: Duration = Duration::from_secs(60);
/// How many uncompressed bytes of the layer and its bases a slow server processes per second.
const MIN_BYTES_PER_SECOND: u64 = 2_000_000;
/// The largest zstd window of a base, as for diffIDs.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
/// The number of decoded bytes from which on [`MAX_RATIO`] applies.
const MIN_BYTES_FOR_RATIO: u64 = 64 << 20;
/// The largest compression ratio of a base, as for diffIDs.
const MAX_RATIO: u64 = 1000;
/// The most threads that compress.
const MAX_COMPRESSION_THREADS: usize = 2;

/// An assembly that can run.
pub(super) struct PreparedAssembly {
    pub(super) repository: Repository,
    pub(super) plan: AssemblyPlan,
    pub(super) delta: SealedUpload,
    pub(super) bases: Vec<AssemblyBase>,
    pub(super) progress: AssemblyProgress,
}

/// A layer on which the delta is based.
pub(super) struct AssemblyBase {
    pub(super) digest: Digest,
    /// Its uncompressed size in bytes, if it is recorded.
    pub(super) raw_size: Option<u64>,
    pub(super) blob: OpenBlob,
}

/// Why a layer was not assembled.
#[derive(Debug)]
pub(super) enum AssemblyFailure {
    /// The server stops, or must not assemble layers any more. The session stays.
    Stopped,
    /// The client, or a purge, cancels the session.
    Cancelled,
    /// The delta, or the request, is wrong, or there is no room. The text is for the client.
    Rejected(String),
    /// The registry failed.
    Internal(Error),
}

type AssemblyResult<T> = Result<T, AssemblyFailure>;

impl From<Error> for AssemblyFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSpace { shortage, .. } => Self::Rejected(shortage.to_string()),
            Error::UploadUnknown(_) => Self::Rejected(error.to_string()),
            error => Self::Internal(error),
        }
    }
}

impl PreparedAssembly {
    /// Assembles the layer. After a failure, nothing of the layer is left.
    pub(super) fn run(&mut self, registry: &Registry) -> AssemblyResult<Descriptor> {
        let deadline = Instant::now() + max_time(self.max_read_bytes());
        let stop = StopCheck::new(registry, &self.delta, deadline);
        let assembled = self.assemble(registry, &stop);
        assembled.map_err(|failure| match stop.reason() {
            Some(StopReason::Disabled) => AssemblyFailure::Stopped,
            Some(StopReason::Cancelled) => AssemblyFailure::Cancelled,
            Some(StopReason::TooLate) => AssemblyFailure::Rejected("it takes too long".to_owned()),
            None => failure,
        })
    }

    fn assemble(&mut self, registry: &Registry, stop: &StopCheck) -> AssemblyResult<Descriptor> {
        let (mut bases, mut planned) = (Vec::new(), self.planned_bytes());
        for base in &self.bases {
            planned = planned.saturating_sub(base.raw_size.unwrap_or_default());
            let file = ClaimedScratch::create(registry, base.raw_size, planned)?;
            bases.push(self.decode(registry, base, file, stop)?);
            let checked = check_bases(bases.iter().map(DecodedBase::index));
            checked.map_err(|error| failure_of_delta(&error))?;
        }
        let (bytes, size) = (self.delta.open()?, self.delta.size());
        let delta = DeltaSource {
            bytes,
            stop: stop.clone(),
        };
        let reader = DeltaReader::open(delta, size, bases, self.plan.raw_size);
        let layer = CountedLayer {
            reader: reader.map_err(|error| failure_of_delta(&error))?,
            progress: self.progress.clone(),
            stop: stop.clone(),
        };
        let mut writer = DraftWriter {
            draft: registry.store.create_blob_draft().map_err(Error::from)?,
            delta: &mut self.delta,
            error: None,
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let compressed = layer::gzip(layer, &mut writer, threads.min(MAX_COMPRESSION_THREADS));
        if let Some(error) = writer.error {
            return Err(error.into());
        }
        let digests = compressed.map_err(|error| failure_of_gzip(&error))?;
        let draft = writer.draft;
        if stop.reason().is_some() {
            return Err(AssemblyFailure::Stopped);
        }
        self.commit(registry, &draft, digests)
    }

    /// Returns how many bytes of the disk the assembly takes, at most, as far as that is known. The new
    /// blob is smaller than the layer.
    fn planned_bytes(&self) -> u64 {
        let sizes = self.bases.iter().filter_map(|base| base.raw_size);
        sizes.fold(self.plan.raw_size, u64::saturating_add)
    }

    /// Returns how many uncompressed bytes the layer and its bases have, at most.
    fn max_read_bytes(&self) -> u64 {
        let sizes = self.bases.iter().map(|base| base.raw_size);
        let sizes = sizes.map(|size| size.unwrap_or(self.plan.max_base_bytes));
        sizes.fold(self.plan.raw_size, u64::saturating_add)
    }

    /// Decodes a base. If that fails, finds out whether the stored blob is damaged.
    fn decode(
        &self,
        registry: &Registry,
        base: &AssemblyBase,
        file: ClaimedScratch,
        stop: &StopCheck,
    ) -> AssemblyResult<DecodedBase<ClaimedScratch>> {
        let decoded = self.decode_blob(base, file, stop);
        if decoded.is_err() && stop.reason().is_none() {
            let repository = &self.repository;
            // Hashes the blob again, and removes it if it is damaged.
            let linked = registry.find_linked_blob(repository, &base.digest)?;
            let outcome = linked.map(|linked| registry.reverify(&linked.target));
            let digest = &base.digest;
            tracing::warn!(%repository, %digest, ?outcome, "a base cannot be decoded");
        }
        decoded
    }

    fn decode_blob(
        &self,
        base: &AssemblyBase,
        file: ClaimedScratch,
        stop: &StopCheck,
    ) -> AssemblyResult<DecodedBase<ClaimedScratch>> {
        let limits = DecodeLimits {
            max_window_log: MAX_ZSTD_WINDOW_LOG,
            max_decoded_bytes: self.plan.max_base_bytes,
            min_bytes_for_ratio: MIN_BYTES_FOR_RATIO,
            max_ratio: MAX_RATIO,
        };
        let source = BlobSource {
            blob: &base.blob,
            offset: 0,
            stop: stop.clone(),
        };
        let failed = |error: LayerError| failure_of_base(&base.digest, &error);
        let layer = LayerReader::detect(source, base.digest.algorithm(), limits).map_err(failed)?;
        let mut source = LayerSource { layer, error: None };
        let decoded = DecodedBase::decode(&mut source, file);
        if let Some(error) = source.error {
            return Err(failed(error));
        }
        let decoded = decoded.map_err(|error| failure_of_delta(&error))?;
        source.layer.check_end().map_err(failed)?;
        if source.layer.finish().digest != base.digest {
            let text = format!("the stored layer {} is damaged", base.digest);
            return Err(AssemblyFailure::Rejected(text));
        }
        Ok(decoded)
    }

    /// Makes the draft a blob of the repository, if it is the layer that the client named.
    fn commit(
        &self,
        registry: &Registry,
        draft: &BlobDraft,
        digests: LayerDigests,
    ) -> AssemblyResult<Descriptor> {
        if digests.diff_id != self.plan.diff_id {
            return Err(AssemblyFailure::Rejected(format!(
                "the layer has the diffID {}, not {}",
                digests.diff_id, self.plan.diff_id
            )));
        }
        let sealed = draft.seal(digests.digest.clone()).map_err(Error::from)?;
        registry.commit_blob(&self.repository, &sealed)?;
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        let blob = Descriptor::new(media_type, digests.digest.clone(), digests.size);
        if let Err(error) = registry.record_gzip_layer(&self.repository, digests) {
            tracing::warn!(digest = %blob.digest, %error, "cannot record an assembled layer");
        }
        Ok(blob)
    }
}

/// Returns how long an assembly of this many uncompressed bytes may take.
fn max_time(bytes: u64) -> Duration {
    let time = MIN_ASSEMBLY_TIME + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND);
    time.min(MAX_ASSEMBLY_TIME)
}

fn failure_of_base(digest: &Digest, error: &LayerError) -> AssemblyFailure {
    match error {
        LayerError::Read(_) => {
            tracing::error!(%digest, %error, "cannot read a base");
            AssemblyFailure::Rejected(format!("the stored layer {digest} cannot be read"))
        }
        LayerError::Corrupt(_) | LayerError::TooLarge { .. } => {
            AssemblyFailure::Rejected(format!("the base {digest} is no usable layer: {error}"))
        }
    }
}

fn failure_of_delta(error: &DeltaError) -> AssemblyFailure {
    match error {
        DeltaError::Invalid(text) | DeltaError::TooLarge(text) => {
            AssemblyFailure::Rejected(text.clone())
        }
        DeltaError::Io(error) => failure_of_io(error),
    }
}

fn failure_of_gzip(error: &GzipError) -> AssemblyFailure {
    match error {
        GzipError::Read(error) => failure_of_io(error),
        GzipError::Write(error) | GzipError::Compressor(error) => {
            tracing::error!(%error, "cannot compress an assembled layer");
            AssemblyFailure::Rejected("the registry cannot compress the layer".to_owned())
        }
    }
}

/// Tells an error of the delta, or a lack of room, from one of the disk, which the client must not see.
fn failure_of_io(error: &std::io::Error) -> AssemblyFailure {
    if let Some(inner) = error.get_ref() {
        if let Some(error) = inner.downcast_ref::<DeltaError>() {
            return failure_of_delta(error);
        }
        if let Some(Error::NoSpace { shortage, .. }) = inner.downcast_ref::<Error>() {
            return AssemblyFailure::Rejected(shortage.to_string());
        }
    }
    tracing::error!(%error, "cannot read or write the files of an assembly");
    AssemblyFailure::Rejected("the registry cannot read or write its files".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_layer_has_less_time_than_a_large_one() {
        for (bytes, seconds) in [
            (0, 60),
            (600_000_000, 360),
            (16 << 30, 3600),
            (u64::MAX, 3600),
        ] {
            assert_eq!(max_time(bytes), Duration::from_secs(seconds));
        }
    }
}
