//! The entries of an archive that comes once: what may be needed is put aside as it passes by.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::contents::{Contents, Stored, stated_digest};
use super::goal::Goal;
use super::slice::Slice;
use super::tarball::{Kind, Stream, Tarball, fill};
use super::{Error, MAX_METADATA_BYTES, Unneeded};
use crate::spool::{Draft, Room, Spool};

/// Entries up to this size stay in memory, as long as all of them fit into the second.
const SMALL_BYTES: u64 = 256 * 1024;
const MEMORY_BYTES: u64 = 8 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// Reads an archive and keeps what could be needed. Whatever is small or could be metadata is
/// always kept; another entry only if `unneeded` does not know its digest, be it the one that the
/// name states or that of the bytes. Reads to the end, unless `goal` is reached before.
///
/// # Errors
/// Whatever makes an archive unreadable or unsafe; a blob that is not what its name says; a full
/// spool.
pub(super) fn sift(
    stream: impl Read,
    from: &str,
    spool: &Spool,
    unneeded: &mut Unneeded,
    mut goal: Option<Goal>,
) -> Result<Contents, Error> {
    let mut contents = Contents::empty(from);
    let mut shelf = Shelf::new(spool);
    let mut tarball = Tarball::new(Stream(stream), from);
    while let Some(entry) = tarball.next()? {
        let len = match entry.kind {
            Kind::File { len, .. } => len,
            Kind::Link(target) => {
                contents.link(entry.name, target)?;
                continue;
            }
            Kind::Bodiless => continue,
        };
        let stated = stated_digest(&entry.name);
        // What was begun of an entry that nobody needed.
        shelf.begun = 0;
        let is_layer = len > SMALL_BYTES
            && (len > MAX_METADATA_BYTES || !shelf.begins_as_json(&mut tarball)?);
        let stored = match &stated {
            Some((digest, _)) if is_layer && unneeded(digest, Some(len)) => {
                let digest = digest.clone();
                Stored::Elsewhere { digest, len }
            }
            Some((digest, true)) => match shelf.earlier(digest, len) {
                Some(slice) => Stored::Here(slice),
                None => {
                    let put = shelf.put(&mut tarball, len, digest.algorithm())?;
                    if put.digest != *digest {
                        return Err(Error::Mismatch {
                            from: from.to_owned(),
                            what: entry.name,
                            expected: digest.clone(),
                            found: put.digest,
                        });
                    }
                    Stored::Here(shelf.keep(put)?)
                }
            },
            Some((_, false)) | None => {
                let put = shelf.put(&mut tarball, len, Algorithm::Sha256)?;
                // A compressed layer in an archive of Docker's kind is described nowhere else.
                let may_go = stated.is_none() && is_layer;
                if may_go
                    && put.compression == Compression::None
                    && unneeded(&put.digest, Some(len))
                {
                    shelf.take_back(&put);
                    let digest = put.digest;
                    Stored::Elsewhere { digest, len }
                } else {
                    Stored::Here(shelf.keep(put)?)
                }
            }
        };
        contents.store(entry.name, stored)?;
        if let (Some(goal), Some((digest, true))) = (&mut goal, &stated)
            && goal.is_reached_with(digest, &mut contents, unneeded)
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
pub(super) fn pick(
    stream: impl Read,
    from: &str,
    spool: &Spool,
    mut wanted: HashSet<Digest>,
) -> Result<HashMap<Digest, Slice>, Error> {
    let mut picked = HashMap::new();
    let mut shelf = Shelf::new(spool);
    let mut tarball = Tarball::new(Stream(stream), from);
    while !wanted.is_empty() {
        let Some(entry) = tarball.next()? else {
            let mut missing: Vec<_> = wanted.iter().map(Digest::to_string).collect();
            missing.sort();
            return Err(Error::Missing {
                from: from.to_owned(),
                what: missing.join(", "),
            });
        };
        let Kind::File { len, .. } = entry.kind else {
            continue;
        };
        // A blob's name is its digest; had it lied, then what is wanted would be missing.
        let stated = stated_digest(&entry.name);
        if stated.is_some_and(|(digest, relied_on)| relied_on && !wanted.contains(&digest)) {
            continue;
        }
        let put = shelf.put(&mut tarball, len, Algorithm::Sha256)?;
        if wanted.remove(&put.digest) {
            let digest = put.digest.clone();
            picked.insert(digest, shelf.keep(put)?);
        } else {
            shelf.take_back(&put);
        }
    }
    Ok(picked)
}

/// Where entries are put: the small ones in memory, each of the others in a file of the spool.
struct Shelf<'a> {
    spool: &'a Spool,
    memory_left: u64,
    buffer: Vec<u8>,
    /// How much of the current entry stands in the buffer, and was not taken in yet.
    begun: usize,
}

/// An entry that was put aside.
struct Put {
    body: Body,
    digest: Digest,
    compression: Compression,
}

enum Body {
    Memory(Bytes),
    File(Draft),
    /// There was no room for it, which counts only if it turns out to be needed.
    Lost(Error),
}

impl<'a> Shelf<'a> {
    fn new(spool: &'a Spool) -> Self {
        Self {
            spool,
            memory_left: MEMORY_BYTES,
            buffer: vec![0; BUFFER_BYTES],
            begun: 0,
        }
    }

    /// Whether the current entry begins as manifests and configs do. No tar does so whose first
    /// file has an honest name, and no compressed one.
    fn begins_as_json<R: Read>(&mut self, tarball: &mut Tarball<Stream<R>>) -> Result<bool, Error> {
        let got = fill(&mut tarball.body(), &mut self.buffer);
        self.begun = got.map_err(|error| tarball.failed(error))?;
        let mut bytes = self.buffer[..self.begun].iter();
        let first = bytes.find(|byte| !byte.is_ascii_whitespace());
        Ok(matches!(first, Some(b'{' | b'[')))
    }

    /// The bytes of a large entry that an earlier run has kept.
    fn earlier(&self, digest: &Digest, len: u64) -> Option<Slice> {
        let slice = (len > SMALL_BYTES).then(|| self.spool.bytes(digest))?;
        slice.filter(|slice| slice.len() == len)
    }

    /// Takes in the body of the tarball's current entry.
    fn put<R: Read>(
        &mut self,
        tarball: &mut Tarball<Stream<R>>,
        len: u64,
        algorithm: Algorithm,
    ) -> Result<Put, Error> {
        if len <= SMALL_BYTES && len <= self.memory_left {
            let mut bytes = Vec::with_capacity(len as usize);
            let read = tarball.body().read_to_end(&mut bytes);
            read.map_err(|error| tarball.failed(error))?;
            self.memory_left -= len;
            return Ok(Put {
                digest: Digest::of_with(algorithm, &bytes),
                compression: Compression::of_bytes(&bytes),
                body: Body::Memory(Bytes::from(bytes)),
            });
        }
        let mut hasher = Hasher::new(algorithm);
        let mut compression = None;
        let room = self.spool.reserve(len).and_then(|()| self.spool.draft());
        let mut body = match room {
            Ok(draft) => Body::File(draft),
            Err(error) => Body::Lost(self.failed(error)),
        };
        loop {
            let got = match std::mem::take(&mut self.begun) {
                0 => fill(&mut tarball.body(), &mut self.buffer),
                begun => Ok(begun),
            };
            let got = got.map_err(|error| tarball.failed(error))?;
            if got == 0 {
                break;
            }
            let bytes = &self.buffer[..got];
            compression.get_or_insert_with(|| Compression::of_bytes(bytes));
            hasher.update(bytes);
            if let Body::File(draft) = &mut body
                && let Err(error) = draft.write_all(bytes)
            {
                body = Body::Lost(self.failed(error));
            }
        }
        Ok(Put {
            body,
            digest: hasher.finish(),
            compression: compression.unwrap_or(Compression::None),
        })
    }

    /// The bytes of an entry that is needed; from now on they are kept for the next run, too.
    ///
    /// # Errors
    /// There was no room for them.
    fn keep(&self, put: Put) -> Result<Slice, Error> {
        match put.body {
            Body::Memory(bytes) => Ok(Slice::memory(bytes)),
            Body::File(draft) => {
                let len = draft.len();
                let file = draft.keep(Room::Bytes, &put.digest);
                Ok(Slice::part(&file, 0, len))
            }
            Body::Lost(error) => Err(error),
        }
    }

    /// Gives back the room of an entry that is not needed.
    fn take_back(&mut self, put: &Put) {
        match &put.body {
            Body::Memory(bytes) => self.memory_left += bytes.len() as u64,
            Body::File(_) | Body::Lost(_) => {}
        }
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Spool {
            folder: self.spool.folder().display().to_string(),
            source,
        }
    }
}
