//! Reads an archive that can be read only once, and stages the entries that may be needed in memory
//! or in the spool.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::expected_blobs::ExpectedBlobs;
use super::tar_reader::{StreamInput, TarEntry, TarEntryKind, TarReader};
use crate::compress::{CompressError, LayerDigests, fill};
use crate::image::limits::MAX_METADATA_BYTES;
use crate::image::{Error, Slice};
use crate::spool::{Draft, LayerDraft, Spool, SpoolKind};
use crate::transports::files::{FileContent, SourceFiles, blob_digest, layer_digest};
use crate::transports::{LayerPacking, SkipLayer};

/// The largest entry that is kept in memory.
const MAX_MEMORY_ENTRY_BYTES: u64 = 256 * 1024;
const MAX_MEMORY_TOTAL_BYTES: u64 = 8 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Reads an archive and keeps what may be needed: every entry that is small or may be metadata, and
/// every other entry unless `unneeded` skips its digest, which is the one in its name or that of
/// its bytes. Reads to the end, unless `goal` is reached before.
///
/// # Errors
/// Returns an error if the archive is unreadable or unsafe, if a blob does not match its name, or
/// if the spool is full.
pub(crate) fn stage_stream(
    stream: impl Read,
    from: &str,
    spool: &Spool,
    unneeded: &mut SkipLayer,
    mut goal: Option<ExpectedBlobs>,
) -> Result<SourceFiles, Error> {
    let mut contents = SourceFiles::empty(from);
    let mut stager = EntryStager::new(stream, from, spool);
    while let Some(TarEntry { name, kind }) = stager.next()? {
        match kind {
            TarEntryKind::NoBody => {}
            TarEntryKind::Link(target) => contents.add_link(name, target)?,
            TarEntryKind::File { len, .. } => {
                let stored = stager.stage_unless_unneeded(&name, len, unneeded)?;
                let blob = blob_digest(&name);
                contents.add_file(name, stored)?;
                if let (Some(goal), Some(digest)) = (&mut goal, &blob)
                    && goal.record_arrival(digest, &mut contents, unneeded)
                {
                    return Ok(contents);
                }
            }
        }
    }
    stager.tarball.finish()?;
    Ok(contents)
}

/// Reads an archive until the entries with these digests were read, whatever their names, and returns
/// those. A large layer is compressed while it is read, and given to `packing` instead, if it is known
/// before that it is needed: by its name, or because `are_all_needed`.
///
/// # Errors
/// Returns an error if the archive is unreadable or unsafe, if one of them is missing or damaged, or
/// if the spool is full.
pub(crate) fn stage_by_digest(
    stream: impl Read + Send,
    from: &str,
    spool: &Spool,
    mut needed: HashSet<Digest>,
    are_all_needed: bool,
    packing: &LayerPacking,
) -> Result<HashMap<Digest, Slice>, Error> {
    let mut found = HashMap::new();
    let mut stager = EntryStager::new(stream, from, spool);
    while !needed.is_empty() {
        let Some(entry) = stager.next()? else {
            let mut missing: Vec<_> = needed.iter().map(Digest::to_string).collect();
            missing.sort();
            return Err(Error::missing(from, missing.join(", ")));
        };
        let TarEntryKind::File { len, .. } = entry.kind else {
            continue;
        };
        let named = blob_digest(&entry.name);
        if named
            .as_ref()
            .is_some_and(|digest| !needed.contains(digest))
        {
            continue;
        }
        if (named.is_some() || are_all_needed) && stager.may_be_layer(len)? {
            let layer = (&*entry.name, named.as_ref());
            let diff_id = stager.pack_needed(layer, &needed, packing)?;
            needed.remove(&diff_id);
            continue;
        }
        // The name of a blob is its digest; a wrong name shows as a missing blob.
        let staged = stager.stage(len, Algorithm::Sha256)?;
        if needed.remove(&staged.digest) {
            let digest = staged.digest.clone();
            found.insert(digest, stager.commit(staged)?);
        } else {
            stager.release(&staged);
        }
    }
    Ok(found)
}

/// Stores the entries of an archive: small ones in memory, large ones each in a file of the spool.
struct EntryStager<'a, R> {
    tarball: TarReader<StreamInput<R>>,
    source_name: &'a str,
    spool: &'a Spool,
    memory_left: u64,
    buffer: Vec<u8>,
    /// The bytes of the current entry that are in the buffer already.
    peeked_bytes: usize,
}

/// A staged entry.
struct StagedEntry {
    body: StagedBody,
    digest: Digest,
    compression: Compression,
}

enum StagedBody {
    Memory(Bytes),
    File(Draft),
    /// The entry could not be stored, which is an error only if it is needed.
    Failed(std::io::Error),
}

impl<'a, R: Read> EntryStager<'a, R> {
    fn new(stream: R, source_name: &'a str, spool: &'a Spool) -> Self {
        Self {
            tarball: TarReader::new(StreamInput(stream), source_name),
            source_name,
            spool,
            memory_left: MAX_MEMORY_TOTAL_BYTES,
            buffer: vec![0; READ_BUFFER_BYTES],
            peeked_bytes: 0,
        }
    }

    fn next(&mut self) -> Result<Option<TarEntry>, Error> {
        self.peeked_bytes = 0;
        self.tarball.next()
    }

    /// Stores the current entry, unless it is a layer that `unneeded` skips.
    fn stage_unless_unneeded(
        &mut self,
        name: &str,
        len: u64,
        unneeded: &mut SkipLayer,
    ) -> Result<FileContent, Error> {
        let is_layer = self.may_be_layer(len)?;
        let blob = blob_digest(name);
        let stated = blob.clone().or_else(|| layer_digest(name));
        if let Some(digest) = &stated
            && is_layer
            && unneeded(digest, Some(len))
        {
            let digest = digest.clone();
            return Ok(FileContent::Skipped { digest, len });
        }
        if let Some(digest) = blob {
            let slice = match self.find_spooled(&digest, len) {
                Some(slice) => slice,
                None => self.stage_verified(name, len, &digest)?,
            };
            return Ok(FileContent::Available(slice));
        }
        let staged = self.stage(len, Algorithm::Sha256)?;
        // A compressed layer of `docker save` is always kept: only its bytes tell its diffID.
        let may_be_skipped =
            is_layer && stated.is_none() && staged.compression == Compression::None;
        if may_be_skipped && unneeded(&staged.digest, Some(len)) {
            self.release(&staged);
            let digest = staged.digest;
            return Ok(FileContent::Skipped { digest, len });
        }
        Ok(FileContent::Available(self.commit(staged)?))
    }

    /// Returns whether the current entry is too large for memory and no metadata. A manifest or a
    /// config begins like JSON; no compressed layer does, and no tar whose first file has an
    /// ordinary name.
    fn may_be_layer(&mut self, len: u64) -> Result<bool, Error> {
        if len <= MAX_MEMORY_ENTRY_BYTES || len > MAX_METADATA_BYTES {
            return Ok(len > MAX_METADATA_BYTES);
        }
        self.peeked_bytes = self.fill_buffer()?;
        let mut bytes = self.buffer[..self.peeked_bytes].iter();
        let first = bytes.find(|byte| !byte.is_ascii_whitespace());
        Ok(!matches!(first, Some(b'{' | b'[')))
    }

    fn fill_buffer(&mut self) -> Result<usize, Error> {
        let filled = fill(&mut self.tarball, &mut self.buffer);
        filled.map_err(|error| self.tarball.read_error(error))
    }

    /// Returns the bytes of a large entry that an earlier run left in the spool.
    fn find_spooled(&self, digest: &Digest, len: u64) -> Option<Slice> {
        let slice = (len > MAX_MEMORY_ENTRY_BYTES).then(|| self.spool.find_bytes(digest))?;
        slice.filter(|slice| slice.len() == len)
    }

    /// Stages the body of the current entry, which must have the digest of its name.
    fn stage_verified(&mut self, name: &str, len: u64, digest: &Digest) -> Result<Slice, Error> {
        let staged = self.stage(len, digest.algorithm())?;
        if staged.digest != *digest {
            return Err(Error::mismatch(
                self.source_name,
                name,
                digest,
                staged.digest,
            ));
        }
        self.commit(staged)
    }

    /// Stages the body of the current entry.
    fn stage(&mut self, len: u64, algorithm: Algorithm) -> Result<StagedEntry, Error> {
        if len <= MAX_MEMORY_ENTRY_BYTES && len <= self.memory_left {
            let mut bytes = Vec::with_capacity(len as usize);
            let read = self.tarball.read_to_end(&mut bytes);
            read.map_err(|error| self.tarball.read_error(error))?;
            self.memory_left -= len;
            return Ok(StagedEntry {
                digest: Digest::of_with(algorithm, &bytes),
                compression: Compression::of_bytes(&bytes),
                body: StagedBody::Memory(bytes.into()),
            });
        }
        let mut hasher = Hasher::new(algorithm);
        let mut compression = None;
        let draft = self
            .spool
            .reserve(len)
            .and_then(|()| self.spool.create_draft());
        let mut body = draft.map_or_else(StagedBody::Failed, StagedBody::File);
        loop {
            let len = match std::mem::take(&mut self.peeked_bytes) {
                0 => self.fill_buffer()?,
                peeked => peeked,
            };
            if len == 0 {
                break;
            }
            let bytes = &self.buffer[..len];
            compression.get_or_insert_with(|| Compression::of_bytes(bytes));
            hasher.update(bytes);
            if let StagedBody::File(draft) = &mut body
                && let Err(error) = draft.write_all(bytes)
            {
                body = StagedBody::Failed(error);
            }
        }
        Ok(StagedEntry {
            body,
            digest: hasher.finish(),
            compression: compression.unwrap_or(Compression::None),
        })
    }

    /// Compresses the current entry and gives it away, if it is needed: at once if its name tells its
    /// diffID, otherwise when that is computed. Returns the diffID.
    ///
    /// # Errors
    /// As [`EntryStager::pack`], and if the entry does not have the diffID of its name.
    fn pack_needed(
        &mut self,
        (name, named): (&str, Option<&Digest>),
        needed: &HashSet<Digest>,
        packing: &LayerPacking,
    ) -> Result<Digest, Error>
    where
        R: Send,
    {
        let spool_error = |error| Error::spool(self.spool.folder(), error);
        let mut draft = self.spool.create_layer().map_err(spool_error)?;
        let growing = draft.growing().map_err(spool_error)?;
        if let Some(named) = named {
            (packing.take_layer)(named, growing.clone());
        }
        let digests = self.pack(&mut draft, packing.threads)?;
        let diff_id = digests.diff_id.clone();
        if let Some(named) = named.filter(|named| **named != diff_id) {
            return Err(Error::mismatch(self.source_name, name, named, diff_id));
        }
        if needed.contains(&diff_id) {
            draft.complete(&digests);
            if named.is_none() {
                (packing.take_layer)(&diff_id, growing);
            }
        }
        Ok(diff_id)
    }

    /// Compresses the body of the current entry into `draft`.
    ///
    /// # Errors
    /// Returns an error if the archive cannot be read, or if the spool is full.
    fn pack(&mut self, draft: &mut LayerDraft, threads: usize) -> Result<LayerDigests, Error>
    where
        R: Send,
    {
        let peeked = std::mem::take(&mut self.peeked_bytes);
        let reader = self.buffer[..peeked].chain(&mut self.tarball);
        let packed = draft.compress(reader, threads);
        packed.map_err(|error| match error {
            CompressError::Write(error) => Error::spool(self.spool.folder(), error),
            CompressError::Read(error) => self.tarball.read_error(error),
            CompressError::Damaged { source, .. } | CompressError::Compressor(source) => {
                Error::read(self.source_name, source)
            }
        })
    }

    /// Returns the bytes of a needed entry, which are kept for the next run, too.
    ///
    /// # Errors
    /// Returns the error of storing them.
    fn commit(&self, staged: StagedEntry) -> Result<Slice, Error> {
        match staged.body {
            StagedBody::Memory(bytes) => Ok(Slice::memory(bytes)),
            StagedBody::File(draft) => {
                let len = draft.len();
                let file = draft.persist(SpoolKind::Bytes, &staged.digest);
                Ok(Slice::part(&file, 0, len))
            }
            StagedBody::Failed(error) => Err(Error::spool(self.spool.folder(), error)),
        }
    }

    /// Releases the memory of an entry that is not needed.
    fn release(&mut self, staged: &StagedEntry) {
        if let StagedBody::Memory(bytes) = &staged.body {
            self.memory_left += bytes.len() as u64;
        }
    }
}
