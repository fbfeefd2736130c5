//! The entries of an archive that comes once: what may be needed is put aside as it passes by.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::media::Compression;
use imgsync_oci::{Algorithm, Digest, Hasher};

use super::contents::{Contents, Stored, stated_digest};
use super::slice::Slice;
use super::tarball::{Kind, Stream, Tarball, fill};
use super::{Error, MAX_METADATA_BYTES, Unneeded};
use crate::spool::Spool;

/// Entries up to this size stay in memory, as long as all of them fit into the second.
const SMALL_BYTES: u64 = 256 * 1024;
const MEMORY_BYTES: u64 = 8 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// Reads an archive to its end and keeps what could be needed. Whatever could be metadata is
/// always kept; a larger entry only if `unneeded` does not know its digest, be it the one that
/// the name states or that of the bytes.
///
/// # Errors
/// Whatever makes an archive unreadable or unsafe; a blob that is not what its name says; a full
/// spool.
pub(super) fn sift(
    stream: impl Read,
    from: &str,
    spool: &Spool,
    unneeded: &mut Unneeded,
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
        let may_go = len > MAX_METADATA_BYTES;
        if let Some((digest, _)) = stated
            .as_ref()
            .filter(|(digest, _)| may_go && unneeded(digest))
        {
            let digest = digest.clone();
            contents.store(entry.name, Stored::Elsewhere { digest, len })?;
            continue;
        }
        let algorithm = match &stated {
            Some((digest, true)) => digest.algorithm(),
            Some((_, false)) | None => Algorithm::Sha256,
        };
        let put = shelf.put(&mut tarball, len, algorithm)?;
        match stated {
            Some((digest, true)) if digest != put.digest => {
                return Err(Error::Mismatch {
                    from: from.to_owned(),
                    what: entry.name,
                    expected: digest,
                    found: put.digest,
                });
            }
            // A compressed layer in an archive of Docker's kind is described nowhere else.
            None if may_go && put.compression == Compression::None && unneeded(&put.digest) => {
                shelf.take_back(&put);
                let digest = put.digest;
                contents.store(entry.name, Stored::Elsewhere { digest, len })?;
            }
            Some(_) | None => contents.store(entry.name, Stored::Here(put.slice))?,
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
            picked.insert(put.digest, put.slice);
        } else {
            shelf.take_back(&put);
        }
    }
    Ok(picked)
}

/// Where entries are put: the small ones in memory, the others behind one another in one file.
struct Shelf<'a> {
    spool: &'a Spool,
    file: Option<Arc<File>>,
    end: u64,
    memory_left: u64,
    buffer: Vec<u8>,
}

/// An entry that was put aside.
struct Put {
    slice: Slice,
    digest: Digest,
    compression: Compression,
    /// Where the file ended before; `None` for an entry in memory.
    spooled_at: Option<u64>,
}

impl<'a> Shelf<'a> {
    fn new(spool: &'a Spool) -> Self {
        Self {
            spool,
            file: None,
            end: 0,
            memory_left: MEMORY_BYTES,
            buffer: vec![0; BUFFER_BYTES],
        }
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
                slice: Slice::memory(Bytes::from(bytes)),
                spooled_at: None,
            });
        }
        let start = self.end;
        let mut hasher = Hasher::new(algorithm);
        let mut compression = None;
        let file = self.file()?;
        loop {
            let got = fill(&mut tarball.body(), &mut self.buffer);
            let got = got.map_err(|error| tarball.failed(error))?;
            if got == 0 {
                break;
            }
            let bytes = &self.buffer[..got];
            compression.get_or_insert_with(|| Compression::of_bytes(bytes));
            hasher.update(bytes);
            let written = file.write_all_at(bytes, self.end);
            written.map_err(|error| self.failed(error))?;
            self.end += got as u64;
        }
        Ok(Put {
            slice: Slice::part(&file, start, len),
            digest: hasher.finish(),
            compression: compression.unwrap_or(Compression::None),
            spooled_at: Some(start),
        })
    }

    /// Gives back the room of the entry that was put last.
    fn take_back(&mut self, put: &Put) {
        match put.spooled_at {
            Some(start) => self.end = start,
            None => self.memory_left += put.slice.len(),
        }
    }

    fn file(&mut self) -> Result<Arc<File>, Error> {
        let file = match self.file.take() {
            Some(file) => file,
            None => Arc::new(self.spool.file().map_err(|error| self.failed(error))?),
        };
        Ok(Arc::clone(self.file.insert(file)))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Spool {
            folder: self.spool.folder().display().to_string(),
            source,
        }
    }
}
