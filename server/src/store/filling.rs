//! Blobs on their way in from an upstream: files that grow while others read them.
//!
//! How much of a file is durable, and the hash of that, lies beside it, so that a fetch goes on
//! after a restart. What is not known to be durable is cut off, since a power cut can leave a tail
//! of zeros.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use imgsync_oci::{Digest, Hasher};
use serde::Deserialize;

use super::disk::File;
use super::error::{Doing, Result};
use super::keys::{STATE, unflat};
use super::uploads::READ_BYTES;
use super::{Key, Store};

/// Our layout, and that of the hash library's state.
const FORMAT: &str = "imgsync-filling-1, sha2-0.11";
/// More than a state ever has.
const MAX_STATE_BYTES: usize = 64 * 1024;
/// So much is appended between two durable points.
const KEEP_BYTES: u64 = 32 * 1024 * 1024;

/// A file that is being filled. Only one may be open per digest.
pub(crate) struct Filling {
    digest: Digest,
    shared: Arc<Shared>,
    now: Point,
    /// What will be there after a crash.
    kept: Point,
}

/// What was appended so far, open to be read; also after the file has become a blob, or has gone.
#[derive(Clone)]
pub(crate) struct Partial(Arc<Shared>);

struct Shared {
    file: File,
    filled: AtomicU64,
}

#[derive(Clone)]
struct Point {
    offset: u64,
    hasher: Hasher,
}

impl Point {
    fn start(digest: &Digest) -> Self {
        Self {
            offset: 0,
            hasher: Hasher::new(digest.algorithm()),
        }
    }
}

#[derive(Deserialize)]
struct Record {
    format: String,
    offset: u64,
    hash: String,
}

/// All of a blob's bytes, durable, and found to be those of its digest.
pub(crate) struct Filled(Digest);

/// A file that was left when a fetch broke off.
pub(crate) struct Leftover {
    pub(crate) digest: Digest,
    /// When bytes last came to it.
    pub(crate) changed: SystemTime,
    /// How many bytes it takes.
    pub(crate) size: u64,
}

impl Partial {
    /// How many bytes there are now. Less than before where some could not be kept.
    pub(crate) fn filled(&self) -> u64 {
        self.0.filled.load(Ordering::Acquire)
    }

    /// Reads from `offset` on until `bytes` is full; yields how many were read, fewer where the
    /// file ends for now.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let there = self.filled().saturating_sub(offset);
        let len = usize::try_from(there).map_or(bytes.len(), |there| there.min(bytes.len()));
        self.0.file.read_into(offset, &mut bytes[..len])
    }

    /// Reads up to `len` bytes from `offset` on; fewer where the file ends for now.
    ///
    /// # Errors
    /// The disk's.
    #[cfg(test)]
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.read_into(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl Filling {
    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.now.offset
    }

    /// What there is, to be read while more comes.
    pub(crate) fn reader(&self) -> Partial {
        Partial(Arc::clone(&self.shared))
    }

    fn go_to(&mut self, point: Point) {
        self.shared.filled.store(point.offset, Ordering::Release);
        self.now = point;
    }
}

impl Store {
    /// Opens the file for a blob, with what arrived of it already. That is read: nobody but this
    /// file has it, so what rotted would stay wrong for ever once it is a blob.
    pub(crate) fn open_filling(&self, digest: &Digest) -> Result<Filling> {
        let path = self.keys.filling(digest);
        let opened = self.disk.open(&path).doing("open", &path)?;
        let held = opened.as_ref().map_or(Ok(0), File::len);
        let held = held.doing("look at", &path)?;
        let point = self.filling_point(digest)?;
        let is_sound = match (&point, &opened) {
            (Some(point), Some(file)) if point.offset <= held => {
                hash_start(file, &path, point)? == point.hasher.state()
            }
            (Some(_) | None, Some(_) | None) => false,
        };
        let kept = match point.filter(|_| is_sound) {
            Some(point) => point,
            None => {
                self.forget_filling_state(digest)?;
                Point::start(digest)
            }
        };
        let file = match opened {
            Some(file) => file,
            None => {
                self.folders.ensure(&self.keys.fillings())?;
                self.disk.create(&path).doing("write", &path)?
            }
        };
        if kept.offset < held {
            file.truncate(kept.offset).doing("cut", &path)?;
        }
        let filled = AtomicU64::new(kept.offset);
        Ok(Filling {
            digest: digest.clone(),
            shared: Arc::new(Shared { file, filled }),
            now: kept.clone(),
            kept,
        })
    }

    /// Removes what is noted about a file, durably: other bytes may come into it now, and nobody
    /// must take those for the ones that were hashed.
    fn forget_filling_state(&self, digest: &Digest) -> Result<()> {
        let (path, folder) = (self.keys.filling_state(digest), self.keys.fillings());
        if self.disk.len(&path).doing("look at", &path)?.is_none() {
            return Ok(());
        }
        self.disk.unlink(&path).doing("remove", &path)?;
        self.disk
            .sync_folder(&folder)
            .doing("sync the folder", &folder)
    }

    fn filling_point(&self, digest: &Digest) -> Result<Option<Point>> {
        let json = self.read_at(&self.keys.filling_state(digest), MAX_STATE_BYTES)?;
        Ok(json.and_then(|json| {
            let record: Record = serde_json::from_slice(&json).ok()?;
            let state = hex::decode(record.hash).ok()?;
            let hasher = Hasher::resume(digest.algorithm(), &state)?;
            let offset = record.offset;
            (record.format == FORMAT).then_some(Point { offset, hasher })
        }))
    }

    /// Appends bytes, and makes all durable from time to time. When this fails, the file is back at
    /// its last durable point.
    pub(crate) fn fill(&self, filling: &mut Filling, bytes: &[u8]) -> Result<()> {
        let path = self.keys.filling(&filling.digest);
        let file = &filling.shared.file;
        if let Err(error) = file.write(filling.now.offset, bytes).doing("write", &path) {
            self.undo_filling(filling);
            return Err(error);
        }
        filling.now.hasher.update(bytes);
        filling.now.offset += bytes.len() as u64;
        let shared = &filling.shared;
        shared.filled.store(filling.now.offset, Ordering::Release);
        match filling.now.offset - filling.kept.offset < KEEP_BYTES {
            true => Ok(()),
            false => self.keep_filling(filling),
        }
    }

    /// Makes durable what was appended; when this fails, the file is back at its last durable
    /// point.
    pub(crate) fn keep_filling(&self, filling: &mut Filling) -> Result<()> {
        if filling.now.offset == filling.kept.offset {
            return Ok(());
        }
        let path = self.keys.filling(&filling.digest);
        let record = serde_json::json!({
            "format": FORMAT,
            "offset": filling.now.offset,
            "hash": hex::encode(filling.now.hasher.state()),
        });
        let state = self.keys.filling_state(&filling.digest);
        let synced = filling.shared.file.sync().doing("sync", &path);
        let kept = synced.and_then(|()| self.put_at(state, format!("{record}\n").as_bytes()));
        match kept {
            Ok(()) => filling.kept = filling.now.clone(),
            Err(_) => self.undo_filling(filling),
        }
        kept
    }

    fn undo_filling(&self, filling: &mut Filling) {
        filling.go_to(filling.kept.clone());
        if let Err(error) = filling.shared.file.truncate(filling.kept.offset) {
            // Harmless: it is cut when it is opened again, and overwritten until then.
            tracing::warn!(digest = %filling.digest, %error, "cannot cut a file back");
        }
    }

    /// Forgets all bytes.
    pub(crate) fn restart_filling(&self, filling: &mut Filling) -> Result<()> {
        let path = self.keys.filling(&filling.digest);
        self.forget_filling_state(&filling.digest)?;
        filling.kept = Point::start(&filling.digest);
        filling.go_to(filling.kept.clone());
        filling.shared.file.truncate(0).doing("cut", &path)
    }

    /// Makes all bytes durable; says how they are to be had under their digest, or under which
    /// other one they would belong.
    pub(crate) fn seal_filling(
        &self,
        filling: &Filling,
    ) -> Result<std::result::Result<Filled, Digest>> {
        let actual = filling.now.hasher.clone().finish();
        if actual != filling.digest {
            return Ok(Err(actual));
        }
        let path = self.keys.filling(&filling.digest);
        let (file, len) = (&filling.shared.file, filling.now.offset);
        // Longer only where it could not be cut after a fault.
        if file.len().doing("look at", &path)? != len {
            file.truncate(len).doing("cut", &path)?;
        }
        file.sync().doing("sync", &path)?;
        Ok(Ok(Filled(actual)))
    }

    /// Puts `links`, and then turns a filled file into a blob, over whatever stood there. When this
    /// returns all of it is durable.
    pub(crate) fn commit_filled(&self, filled: &Filled, links: &[(Key<'_>, &[u8])]) -> Result<()> {
        let digest = &filled.0;
        let (from, to) = (self.keys.filling(digest), self.keys.path(Key::Blob(digest)));
        self.put_all(links)?;
        self.move_durably(&from, &to)?;
        // Without its file it says nothing.
        self.discard(&self.keys.filling_state(digest));
        Ok(())
    }

    /// Removes a file that was being filled, if there is one. Not durably.
    pub(crate) fn discard_filling(&self, digest: &Digest) -> Result<()> {
        for path in [self.keys.filling_state(digest), self.keys.filling(digest)] {
            self.disk.unlink(&path).doing("remove", &path)?;
        }
        Ok(())
    }

    /// All files that are there, those that are open among them.
    pub(crate) fn fillings(&self) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        for digest in self.names_of_fillings(unflat)? {
            let path = self.keys.filling(&digest);
            let changed = self.disk.modified(&path).doing("look at", &path)?;
            let size = self.disk.len(&path).doing("look at", &path)?;
            if let (Some(changed), Some(size)) = (changed, size) {
                found.push(Leftover {
                    digest,
                    changed,
                    size,
                });
            }
        }
        Ok(found)
    }

    /// Removes what is noted about files that have become blobs, or have gone.
    pub(crate) fn drop_filling_states(&self) -> Result<()> {
        let state_of = |name: &str| name.strip_suffix(STATE).and_then(unflat);
        for digest in self.names_of_fillings(state_of)? {
            let (path, state) = (self.keys.filling(&digest), self.keys.filling_state(&digest));
            if self.disk.len(&path).doing("look at", &path)?.is_none() {
                self.disk.unlink(&state).doing("remove", &state)?;
            }
        }
        Ok(())
    }

    fn names_of_fillings(&self, read: impl Fn(&str) -> Option<Digest>) -> Result<Vec<Digest>> {
        let (folder, mut found) = (self.keys.fillings(), Vec::new());
        let mut look = |name: &str, _: bool| {
            found.extend(read(name));
            ControlFlow::Continue(())
        };
        self.disk.each(&folder, &mut look).doing("list", &folder)?;
        Ok(found)
    }
}

/// The state of the hash of a file's bytes before a point.
fn hash_start(file: &File, path: &Path, point: &Point) -> Result<Vec<u8>> {
    let (mut hasher, mut offset) = (Hasher::new(point.hasher.algorithm()), 0);
    while offset < point.offset {
        let left = point.offset - offset;
        let len = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        let bytes = file.read(offset, len).doing("read", path)?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
        offset += bytes.len() as u64;
    }
    Ok(hasher.state())
}
