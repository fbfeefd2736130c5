//! Reads an archive that can be read only once, and stages the entries that may be needed in memory
//! or in the spool.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::expected_blobs::ExpectedBlobs;
use super::tar_reader::{StreamInput, TarEntryKind, TarReader, fill};
use crate::image::limits::MAX_METADATA_BYTES;
use crate::image::{Error, Slice};
use crate::spool::{Draft, Spool, SpoolKind};
use crate::transports::SkipLayer;
use crate::transports::files::{FileContent, SourceFiles, digest_from_name};

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
    let mut staging_area = StagingArea::new(spool);
    let mut tarball = TarReader::new(StreamInput(stream), from);
    while let Some(entry) = tarball.next()? {
        let len = match entry.kind {
            TarEntryKind::File { len, .. } => len,
            TarEntryKind::Link(target) => {
                contents.add_link(entry.name, target)?;
                continue;
            }
            TarEntryKind::NoBody => continue,
        };
        let stated = digest_from_name(&entry.name);
        // The buffer may hold the start of the previous entry.
        staging_area.peeked_bytes = 0;
        let is_layer = len > MAX_MEMORY_ENTRY_BYTES
            && (len > MAX_METADATA_BYTES || !staging_area.peek_is_json(&mut tarball)?);
        let stored = match &stated {
            Some((digest, _)) if is_layer && unneeded(digest, Some(len)) => {
                let digest = digest.clone();
                FileContent::Skipped { digest, len }
            }
            Some((digest, true)) => match staging_area.find_spooled(digest, len) {
                Some(slice) => FileContent::Available(slice),
                None => {
                    let staged = staging_area.stage_entry(&mut tarball, len, digest.algorithm())?;
                    if staged.digest != *digest {
                        return Err(Error::DigestMismatch {
                            from: from.to_owned(),
                            what: entry.name,
                            expected: digest.clone(),
                            found: staged.digest,
                        });
                    }
                    FileContent::Available(staging_area.commit(staged)?)
                }
            },
            Some((_, false)) | None => {
                let staged = staging_area.stage_entry(&mut tarball, len, Algorithm::Sha256)?;
                // A compressed layer of `docker save` is always kept: only its bytes tell its diffID.
                let may_go = stated.is_none() && is_layer;
                if may_go
                    && staged.compression == Compression::None
                    && unneeded(&staged.digest, Some(len))
                {
                    staging_area.release(&staged);
                    let digest = staged.digest;
                    FileContent::Skipped { digest, len }
                } else {
                    FileContent::Available(staging_area.commit(staged)?)
                }
            }
        };
        contents.add_file(entry.name, stored)?;
        if let (Some(goal), Some((digest, true))) = (&mut goal, &stated)
            && goal.record_arrival(digest, &mut contents, unneeded)
        {
            return Ok(contents);
        }
    }
    tarball.finish()?;
    Ok(contents)
}

/// Reads an archive until the entries with these digests were read, whatever their names, and keeps
/// only those.
///
/// # Errors
/// Returns an error if the archive is unreadable or unsafe, if one of them is missing, or if the
/// spool is full.
pub(crate) fn stage_by_digest(
    stream: impl Read,
    from: &str,
    spool: &Spool,
    mut wanted: HashSet<Digest>,
) -> Result<HashMap<Digest, Slice>, Error> {
    let mut found = HashMap::new();
    let mut staging_area = StagingArea::new(spool);
    let mut tarball = TarReader::new(StreamInput(stream), from);
    while !wanted.is_empty() {
        let Some(entry) = tarball.next()? else {
            let mut missing: Vec<_> = wanted.iter().map(Digest::to_string).collect();
            missing.sort();
            return Err(Error::Missing {
                from: from.to_owned(),
                what: missing.join(", "),
            });
        };
        let TarEntryKind::File { len, .. } = entry.kind else {
            continue;
        };
        // The name of a blob is its digest; a wrong name shows as a missing blob.
        let stated = digest_from_name(&entry.name);
        if stated.is_some_and(|(digest, is_reliable)| is_reliable && !wanted.contains(&digest)) {
            continue;
        }
        let staged = staging_area.stage_entry(&mut tarball, len, Algorithm::Sha256)?;
        if wanted.remove(&staged.digest) {
            let digest = staged.digest.clone();
            found.insert(digest, staging_area.commit(staged)?);
        } else {
            staging_area.release(&staged);
        }
    }
    Ok(found)
}

/// Stores entries: small ones in memory, large ones each in a file of the spool.
struct StagingArea<'a> {
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
    Failed(Error),
}

impl<'a> StagingArea<'a> {
    fn new(spool: &'a Spool) -> Self {
        Self {
            spool,
            memory_left: MAX_MEMORY_TOTAL_BYTES,
            buffer: vec![0; READ_BUFFER_BYTES],
            peeked_bytes: 0,
        }
    }

    /// Returns whether the current entry begins like a manifest or config. No compressed layer
    /// does, and no tar whose first file has an ordinary name.
    fn peek_is_json<R: Read>(
        &mut self,
        tarball: &mut TarReader<StreamInput<R>>,
    ) -> Result<bool, Error> {
        let got = fill(&mut tarball.body(), &mut self.buffer);
        self.peeked_bytes = got.map_err(|error| tarball.read_error(error))?;
        let mut bytes = self.buffer[..self.peeked_bytes].iter();
        let first = bytes.find(|byte| !byte.is_ascii_whitespace());
        Ok(matches!(first, Some(b'{' | b'[')))
    }

    /// Returns the bytes of a large entry that an earlier run left in the spool.
    fn find_spooled(&self, digest: &Digest, len: u64) -> Option<Slice> {
        let slice = (len > MAX_MEMORY_ENTRY_BYTES).then(|| self.spool.find_bytes(digest))?;
        slice.filter(|slice| slice.len() == len)
    }

    /// Stages the body of the current entry.
    fn stage_entry<R: Read>(
        &mut self,
        tarball: &mut TarReader<StreamInput<R>>,
        len: u64,
        algorithm: Algorithm,
    ) -> Result<StagedEntry, Error> {
        if len <= MAX_MEMORY_ENTRY_BYTES && len <= self.memory_left {
            let mut bytes = Vec::with_capacity(len as usize);
            let read = tarball.body().read_to_end(&mut bytes);
            read.map_err(|error| tarball.read_error(error))?;
            self.memory_left -= len;
            return Ok(StagedEntry {
                digest: Digest::of_with(algorithm, &bytes),
                compression: Compression::of_bytes(&bytes),
                body: StagedBody::Memory(Bytes::from(bytes)),
            });
        }
        let mut hasher = Hasher::new(algorithm);
        let mut compression = None;
        let reserved = self
            .spool
            .reserve(len)
            .and_then(|()| self.spool.create_draft());
        let mut body = match reserved {
            Ok(draft) => StagedBody::File(draft),
            Err(error) => StagedBody::Failed(self.failed(error)),
        };
        loop {
            let got = match std::mem::take(&mut self.peeked_bytes) {
                0 => fill(&mut tarball.body(), &mut self.buffer),
                begun => Ok(begun),
            };
            let got = got.map_err(|error| tarball.read_error(error))?;
            if got == 0 {
                break;
            }
            let bytes = &self.buffer[..got];
            compression.get_or_insert_with(|| Compression::of_bytes(bytes));
            hasher.update(bytes);
            if let StagedBody::File(draft) = &mut body
                && let Err(error) = draft.write_all(bytes)
            {
                body = StagedBody::Failed(self.failed(error));
            }
        }
        Ok(StagedEntry {
            body,
            digest: hasher.finish(),
            compression: compression.unwrap_or(Compression::None),
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
            StagedBody::Failed(error) => Err(error),
        }
    }

    /// Releases the memory of an entry that is not needed.
    fn release(&mut self, staged: &StagedEntry) {
        match &staged.body {
            StagedBody::Memory(bytes) => self.memory_left += bytes.len() as u64,
            StagedBody::File(_) | StagedBody::Failed(_) => {}
        }
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Spool {
            folder: self.spool.folder().display().to_string(),
            source,
        }
    }
}
