//! Upload sessions: bytes on their way in.
//!
//! A session's bytes lie where the stock registry keeps them; how many of them are durable, and
//! their hash, lies in a file of ours. After a crash the bytes are cut to that point, since a power
//! cut can leave a tail of zeros; where our file is missing, as for a session that a stock registry
//! began, they are hashed again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Algorithm, Digest, Hasher, Repository};

use super::disk::File;
use super::error::{Doing, Result};
use super::state::Point;
use super::{Key, Store, clock};

/// More than a state ever has.
const MAX_STATE_BYTES: usize = 64 * 1024;
/// How much is read at a time to be hashed again.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// An open session, at the end of what it holds. Only one may be open per session.
pub(crate) struct Upload {
    repository: Repository,
    id: UploadId,
    file: File,
    /// What was written so far.
    now: Point,
    /// What will be there after a crash.
    kept: Point,
}

/// All that a session held, durable and with its digest.
pub(crate) struct Sealed {
    data: PathBuf,
    digest: Digest,
}

impl Sealed {
    /// The digest of the bytes.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Upload {
    /// How many bytes the session holds, durable or not.
    pub(crate) fn offset(&self) -> u64 {
        self.now.offset
    }

    /// How many bytes are safely held.
    pub(crate) fn kept(&self) -> u64 {
        self.kept.offset
    }
}

impl Store {
    /// Opens a new session. When this returns, the session is durable.
    /// `algorithm` is that of the digest it will end with, as far as that is known; `owner` the user
    /// whose session it is.
    pub(crate) fn open_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        algorithm: Algorithm,
        owner: Option<&str>,
    ) -> Result<()> {
        let point = Point::start(algorithm, owner);
        let result = self.make_upload(repository, id, &point);
        if result.is_err() {
            // What cannot be removed is purged with other old sessions.
            let _ = self.cancel_upload(repository, id);
        }
        result
    }

    fn make_upload(&self, repository: &Repository, id: UploadId, start: &Point) -> Result<()> {
        let folder = self.keys.upload(repository, id);
        self.folders.ensure(&folder)?;
        let started = self.keys.upload_started(repository, id);
        let now = clock::rfc3339(SystemTime::now());
        let written = self
            .disk
            .create(&started)
            .and_then(|file| file.write(0, now.as_bytes()));
        written.doing("write", &started)?;
        let data = self.keys.upload_data(repository, id);
        self.disk.create(&data).doing("write", &data)?;
        self.disk
            .sync_folder(&folder)
            .doing("sync the folder", &folder)?;
        self.put_at(self.keys.upload_state(id), &start.to_json(repository))
    }

    /// How many bytes a session safely holds; `None` where there is no such session.
    pub(crate) fn upload_offset(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<u64>> {
        let data = self.keys.upload_data(repository, id);
        let held = match self.disk.len(&data).doing("look at", &data)? {
            Some(held) => held,
            None if self.is_started(repository, id)? => 0,
            None => return Ok(None),
        };
        Ok(Some(match self.read_point(repository, id)? {
            Some(point) if point.offset <= held => point.offset,
            Some(_) | None => held,
        }))
    }

    /// The user who opened a session; `None` where that is not known, as for a session of a stock
    /// registry.
    pub(crate) fn upload_owner(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<Arc<str>>> {
        Ok(self
            .read_point(repository, id)?
            .and_then(|point| point.owner))
    }

    /// Whether a session without data has begun and not ended: what had bytes became a blob.
    fn is_started(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let point = self.read_point(repository, id)?;
        if point.is_some_and(|point| point.offset > 0) {
            return Ok(false);
        }
        let started = self.keys.upload_started(repository, id);
        Ok(self
            .disk
            .len(&started)
            .doing("look at", &started)?
            .is_some())
    }

    fn read_point(&self, repository: &Repository, id: UploadId) -> Result<Option<Point>> {
        let json = self.read_at(&self.keys.upload_state(id), MAX_STATE_BYTES)?;
        Ok(json.and_then(|json| Point::from_json(&json, repository)))
    }

    /// Opens a session to append to it; `None` where there is no such session. What lies beyond its
    /// last durable point is cut off.
    pub(crate) fn append(&self, repository: &Repository, id: UploadId) -> Result<Option<Upload>> {
        let data = self.keys.upload_data(repository, id);
        let file = match self.disk.open(&data).doing("open", &data)? {
            Some(file) => file,
            None if self.is_started(repository, id)? => {
                self.disk.create(&data).doing("write", &data)?
            }
            None => return Ok(None),
        };
        let held = file.len().doing("look at", &data)?;
        let point = match self.read_point(repository, id)? {
            Some(point) if point.offset <= held => point,
            Some(_) | None => {
                let hasher = hash(&file, &data, Algorithm::Sha256)?;
                Point {
                    offset: held,
                    hasher,
                    owner: None,
                }
            }
        };
        if point.offset < held {
            file.truncate(point.offset).doing("cut", &data)?;
        }
        let (repository, kept) = (repository.clone(), point.clone());
        Ok(Some(Upload {
            repository,
            id,
            file,
            now: point,
            kept,
        }))
    }

    /// Appends bytes. They count once [`Store::keep`] returns; when this fails the session is back
    /// at its last durable point, and what came after it is off the disk.
    pub(crate) fn write(&self, upload: &mut Upload, bytes: &[u8]) -> Result<()> {
        let path = self.keys.upload_data(&upload.repository, upload.id);
        if let Err(error) = upload
            .file
            .write(upload.now.offset, bytes)
            .doing("write", &path)
        {
            self.undo(upload);
            return Err(error);
        }
        upload.now.hasher.update(bytes);
        upload.now.offset += bytes.len() as u64;
        Ok(())
    }

    /// Makes durable what was appended; when this fails the session is back at its last durable
    /// point.
    pub(crate) fn keep(&self, upload: &mut Upload) -> Result<()> {
        if upload.now.offset == upload.kept.offset {
            return Ok(());
        }
        let path = self.keys.upload_data(&upload.repository, upload.id);
        let kept = upload.file.sync().doing("sync", &path).and_then(|()| {
            let json = upload.now.to_json(&upload.repository);
            self.put_at(self.keys.upload_state(upload.id), &json)
        });
        match kept {
            Ok(()) => upload.kept = upload.now.clone(),
            Err(_) => self.undo(upload),
        }
        kept
    }

    /// Goes back to the last durable point.
    pub(crate) fn undo(&self, upload: &mut Upload) {
        upload.now = upload.kept.clone();
        if let Err(error) = upload.file.truncate(upload.kept.offset) {
            // Harmless: the next one to open the session cuts again.
            tracing::warn!(id = %upload.id, %error, "cannot cut an upload back");
        }
    }

    /// Makes everything durable that the session holds, and computes its digest. Reads it all
    /// again, unless `algorithm` is the one that was computed on the way.
    pub(crate) fn seal(&self, upload: Upload, algorithm: Algorithm) -> Result<Sealed> {
        let data = self.keys.upload_data(&upload.repository, upload.id);
        if upload.now.offset != upload.kept.offset {
            upload.file.sync().doing("sync", &data)?;
        }
        let digest = match upload.now.hasher {
            hasher if hasher.algorithm() == algorithm => hasher.finish(),
            _ => hash(&upload.file, &data, algorithm)?.finish(),
        };
        Ok(Sealed { data, digest })
    }

    /// Puts `links`, and then turns what a session holds into a blob, over whatever stood there.
    /// When this returns all of it is durable; the rest of the session is left for
    /// [`Store::forget_upload`]. The links come first: one without bytes counts as absent, while
    /// bytes that have left their session without being linked would have to be sent again.
    pub(crate) fn commit(&self, sealed: &Sealed, links: &[(Key<'_>, &[u8])]) -> Result<()> {
        self.put_all(links)?;
        let blob = self.keys.path(Key::Blob(&sealed.digest));
        self.move_durably(&sealed.data, &blob)
    }

    /// Forgets a session and the bytes that it still holds, durably; false where there is none.
    pub(crate) fn cancel_upload(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let folder = self.keys.upload(repository, id);
        if !self.disk.is_folder(&folder).doing("look at", &folder)? {
            return Ok(false);
        }
        self.take_away(&folder)?;
        let state = self.keys.upload_state(id);
        self.disk.unlink(&state).doing("remove", &state)?;
        Ok(true)
    }

    /// Forgets a session that became a blob. A crash may leave it open, empty.
    pub(crate) fn forget_upload(&self, repository: &Repository, id: UploadId) -> Result<()> {
        let folder = self.keys.upload(repository, id);
        // A stock registry has more than we know there.
        for path in [
            self.keys.upload_data(repository, id),
            self.keys.upload_state(id),
        ] {
            self.disk.unlink(&path).doing("remove", &path)?;
        }
        self.remove_all(&folder)
    }
}

fn hash(file: &File, path: &Path, algorithm: Algorithm) -> Result<Hasher> {
    let (mut hasher, mut offset) = (Hasher::new(algorithm), 0);
    loop {
        let bytes = file.read(offset, READ_BYTES).doing("read", path)?;
        if bytes.is_empty() {
            return Ok(hasher);
        }
        hasher.update(&bytes);
        offset += bytes.len() as u64;
    }
}
