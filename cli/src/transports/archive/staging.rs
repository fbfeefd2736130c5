//! The entries of an archive that comes once: what may be needed is put aside as it passes by.

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

/// Entries up to this size stay in memory, as long as all of them fit into the second.
const MAX_MEMORY_ENTRY_BYTES: u64 = 256 * 1024;
const MAX_MEMORY_TOTAL_BYTES: u64 = 8 * 1024 * 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Reads an archive and keeps what could be needed. Whatever is small or could be metadata is
/// always kept; another entry only if `unneeded` does not know its digest, be it the one that the
/// name states or that of the bytes. Reads to the end, unless `goal` is reached before.
///
/// # Errors
/// Whatever makes an archive unreadable or unsafe; a blob that is not what its name says; a full
/// spool.
pub(crate) fn stage_stream(
    stream: impl Read,
    from: &str,
    spool: &Spool,
    unneeded: &mut SkipLayer,
    mut goal: Option<ExpectedBlobs>,
) -> Result<SourceFiles, Error> {
    let mut contents = SourceFiles::empty(from);
    let mut shelf = StagingArea::new(spool);
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
        // What was begun of an entry that nobody needed.
        shelf.peeked_bytes = 0;
        let is_layer = len > MAX_MEMORY_ENTRY_BYTES
            && (len > MAX_METADATA_BYTES || !shelf.peek_is_json(&mut tarball)?);
        let stored = match &stated {
            Some((digest, _)) if is_layer && unneeded(digest, Some(len)) => {
                let digest = digest.clone();
                FileContent::Skipped { digest, len }
            }
            Some((digest, true)) => match shelf.find_spooled(digest, len) {
                Some(slice) => FileContent::Available(slice),
                None => {
                    let put = shelf.stage_entry(&mut tarball, len, digest.algorithm())?;
                    if put.digest != *digest {
                        return Err(Error::DigestMismatch {
                            from: from.to_owned(),
                            what: entry.name,
                            expected: digest.clone(),
                            found: put.digest,
                        });
                    }
                    FileContent::Available(shelf.commit(put)?)
                }
            },
            Some((_, false)) | None => {
                let put = shelf.stage_entry(&mut tarball, len, Algorithm::Sha256)?;
                // A compressed layer in an archive of Docker's kind is described nowhere else.
                let may_go = stated.is_none() && is_layer;
                if may_go
                    && put.compression == Compression::None
                    && unneeded(&put.digest, Some(len))
                {
                    shelf.release(&put);
                    let digest = put.digest;
                    FileContent::Skipped { digest, len }
                } else {
                    FileContent::Available(shelf.commit(put)?)
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

/// Reads an archive until the entries with these digests have been seen, whatever their names,
/// and keeps just them.
///
/// # Errors
/// Whatever makes an archive unreadable or unsafe; one of them is not there; a full spool.
pub(crate) fn stage_by_digest(
    stream: impl Read,
    from: &str,
    spool: &Spool,
    mut wanted: HashSet<Digest>,
) -> Result<HashMap<Digest, Slice>, Error> {
    let mut picked = HashMap::new();
    let mut shelf = StagingArea::new(spool);
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
        // A blob's name is its digest; had it lied, then what is wanted would be missing.
        let stated = digest_from_name(&entry.name);
        if stated.is_some_and(|(digest, relied_on)| relied_on && !wanted.contains(&digest)) {
            continue;
        }
        let put = shelf.stage_entry(&mut tarball, len, Algorithm::Sha256)?;
        if wanted.remove(&put.digest) {
            let digest = put.digest.clone();
            picked.insert(digest, shelf.commit(put)?);
        } else {
            shelf.release(&put);
        }
    }
    Ok(picked)
}

/// Where entries are put: the small ones in memory, each of the others in a file of the spool.
struct StagingArea<'a> {
    spool: &'a Spool,
    memory_left: u64,
    buffer: Vec<u8>,
    /// How much of the current entry stands in the buffer, and was not taken in yet.
    peeked_bytes: usize,
}

/// An entry that was put aside.
struct StagedEntry {
    body: StagedBody,
    digest: Digest,
    compression: Compression,
}

enum StagedBody {
    Memory(Bytes),
    File(Draft),
    /// There was no room for it, which counts only if it turns out to be needed.
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

    /// Whether the current entry begins as manifests and configs do. No tar does so whose first
    /// file has an honest name, and no compressed one.
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

    /// The bytes of a large entry that an earlier run has kept.
    fn find_spooled(&self, digest: &Digest, len: u64) -> Option<Slice> {
        let slice = (len > MAX_MEMORY_ENTRY_BYTES).then(|| self.spool.find_bytes(digest))?;
        slice.filter(|slice| slice.len() == len)
    }

    /// Takes in the body of the tarball's current entry.
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
        let room = self
            .spool
            .reserve(len)
            .and_then(|()| self.spool.create_draft());
        let mut body = match room {
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

    /// The bytes of an entry that is needed; from now on they are kept for the next run, too.
    ///
    /// # Errors
    /// There was no room for them.
    fn commit(&self, put: StagedEntry) -> Result<Slice, Error> {
        match put.body {
            StagedBody::Memory(bytes) => Ok(Slice::memory(bytes)),
            StagedBody::File(draft) => {
                let len = draft.len();
                let file = draft.persist(SpoolKind::Bytes, &put.digest);
                Ok(Slice::part(&file, 0, len))
            }
            StagedBody::Failed(error) => Err(error),
        }
    }

    /// Gives back the room of an entry that is not needed.
    fn release(&mut self, put: &StagedEntry) {
        match &put.body {
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
