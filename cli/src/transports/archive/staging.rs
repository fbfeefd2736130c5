//! Reads an archive that can be read only once, and stages the entries that may be needed in memory
//! or in the spool.

use std::collections::{HashMap, HashSet};
use std::io::{BufWriter, Read, Write};

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::expected_blobs::ExpectedBlobs;
use super::tar_reader::{StreamInput, TarEntry, TarEntryKind, TarReader, fill};
use crate::cache::BlobRef;
use crate::compress::{self, CompressError, LayerDigests};
use crate::image::limits::MAX_METADATA_BYTES;
use crate::image::{Error, Slice};
use crate::spool::{Draft, Spool, SpoolKind, SpooledLayer};
use crate::transports::SkipLayer;
use crate::transports::files::{FileContent, SourceFiles, blob_digest, layer_digest};

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

/// The entries of an archive that were read by their digests.
#[derive(Debug, Default)]
pub(crate) struct StagedBlobs {
    /// The bytes of the entries.
    pub(crate) slices: HashMap<Digest, Slice>,
    /// Layers that were compressed while they were read, by diffID.
    pub(crate) packed: HashMap<Digest, SpooledLayer>,
}

/// Reads an archive until the entries with these digests were read, whatever their names, and keeps
/// only those. A large layer is compressed with `threads` while it is read, if it is known before
/// that it is needed: by its name, or because `are_all_needed`.
///
/// # Errors
/// Returns an error if the archive is unreadable or unsafe, if one of them is missing, or if the
/// spool is full.
pub(crate) fn stage_by_digest(
    stream: impl Read + Send,
    from: &str,
    spool: &Spool,
    mut needed: HashSet<Digest>,
    are_all_needed: bool,
    threads: usize,
) -> Result<StagedBlobs, Error> {
    let mut found = StagedBlobs::default();
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
        // The name of a blob is its digest; a wrong name shows as a missing blob.
        let named = blob_digest(&entry.name);
        if named
            .as_ref()
            .is_some_and(|digest| !needed.contains(digest))
        {
            continue;
        }
        if (named.is_some() || are_all_needed) && stager.may_be_layer(len)? {
            let (draft, digests) = stager.pack(threads)?;
            if needed.remove(&digests.diff_id) {
                let layer = keep_packed(draft, &digests);
                found.packed.insert(digests.diff_id, layer);
            }
            continue;
        }
        let staged = stager.stage(len, Algorithm::Sha256)?;
        if needed.remove(&staged.digest) {
            let digest = staged.digest.clone();
            found.slices.insert(digest, stager.commit(staged)?);
        } else {
            stager.release(&staged);
        }
    }
    Ok(found)
}

/// Keeps a layer that was compressed from the bytes with its diffID.
fn keep_packed(draft: Draft, digests: &LayerDigests) -> SpooledLayer {
    let (digest, size) = (digests.digest.clone(), digests.size);
    let file = draft.persist(SpoolKind::Compressed, &digests.diff_id);
    SpooledLayer {
        blob: BlobRef { digest, size },
        bytes: Slice::part(&file, 0, size),
        is_new: true,
    }
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

    /// Compresses the body of the current entry.
    ///
    /// # Errors
    /// Returns an error if the archive cannot be read, or if the spool is full.
    fn pack(&mut self, threads: usize) -> Result<(Draft, LayerDigests), Error>
    where
        R: Send,
    {
        let spool_error = |error| Error::spool(self.spool.folder(), error);
        let mut writer = BufWriter::new(self.spool.create_draft().map_err(spool_error)?);
        let peeked = std::mem::take(&mut self.peeked_bytes);
        let reader = self.buffer[..peeked].chain(&mut self.tarball);
        let packed = compress::gzip(reader, &mut writer, threads);
        let packed = packed.map_err(|error| match error {
            CompressError::Write(error) => spool_error(error),
            CompressError::Read(error) => self.tarball.read_error(error),
            CompressError::Damaged { source, .. } | CompressError::Compressor(source) => {
                Error::read(self.source_name, source)
            }
        })?;
        let draft = writer.into_inner();
        let draft = draft.map_err(|error| spool_error(error.into_error()))?;
        Ok((draft, packed))
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
