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

use super::disk::DiskFile;
use super::error::{IoContext, Result};
use super::upload_state::UploadCheckpoint;
use super::{ObjectKey, Store, rfc3339};

/// More than a state ever has.
const MAX_UPLOAD_STATE_BYTES: usize = 64 * 1024;
/// How much is read at a time to be hashed again.
pub(super) const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// An open session, at the end of what it holds. Only one may be open per session.
pub(crate) struct UploadIngest {
    repository: Repository,
    id: UploadId,
    file: DiskFile,
    /// What was written so far.
    written: UploadCheckpoint,
    /// What will be there after a crash.
    durable: UploadCheckpoint,
}

/// All that a session held, durable and with its digest.
pub(crate) struct SealedUpload {
    data_path: PathBuf,
    digest: Digest,
}

impl SealedUpload {
    /// The digest of the bytes.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl UploadIngest {
    /// How many bytes the session holds, durable or not.
    pub(crate) fn offset(&self) -> u64 {
        self.written.offset
    }

    /// How many bytes are safely held.
    pub(crate) fn durable_offset(&self) -> u64 {
        self.durable.offset
    }
}

impl Store {
    /// Opens a new session. When this returns, the session is durable.
    /// `algorithm` is that of the digest it will end with, as far as that is known; `owner` the user
    /// whose session it is.
    pub(crate) fn create_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        algorithm: Algorithm,
        owner: Option<&str>,
    ) -> Result<()> {
        let point = UploadCheckpoint::initial(algorithm, owner);
        let result = self.write_new_upload(repository, id, &point);
        if result.is_err() {
            // What cannot be removed is purged with other old sessions.
            let _ = self.cancel_upload(repository, id);
        }
        result
    }

    fn write_new_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        start: &UploadCheckpoint,
    ) -> Result<()> {
        let folder = self.paths.upload(repository, id);
        self.folders.ensure(&folder)?;
        let started = self.paths.upload_started(repository, id);
        let now = rfc3339::format(SystemTime::now());
        let written = self
            .disk
            .create(&started)
            .and_then(|file| file.write(0, now.as_bytes()));
        written.context("write", &started)?;
        let data = self.paths.upload_data(repository, id);
        self.disk.create(&data).context("write", &data)?;
        self.disk
            .sync_folder(&folder)
            .context("sync the folder", &folder)?;
        self.put_file(self.paths.upload_state(id), &start.to_json(repository))
    }

    /// How many bytes a session safely holds; `None` where there is no such session.
    pub(crate) fn upload_offset(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<u64>> {
        let data = self.paths.upload_data(repository, id);
        let held = match self.disk.len(&data).context("look at", &data)? {
            Some(held) => held,
            None if self.is_empty_upload_open(repository, id)? => 0,
            None => return Ok(None),
        };
        Ok(Some(match self.read_upload_checkpoint(repository, id)? {
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
            .read_upload_checkpoint(repository, id)?
            .and_then(|point| point.owner))
    }

    /// Whether a session without data has begun and not ended: what had bytes became a blob.
    fn is_empty_upload_open(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let point = self.read_upload_checkpoint(repository, id)?;
        if point.is_some_and(|point| point.offset > 0) {
            return Ok(false);
        }
        let started = self.paths.upload_started(repository, id);
        Ok(self
            .disk
            .len(&started)
            .context("look at", &started)?
            .is_some())
    }

    fn read_upload_checkpoint(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<UploadCheckpoint>> {
        let json = self.read_file(&self.paths.upload_state(id), MAX_UPLOAD_STATE_BYTES)?;
        Ok(json.and_then(|json| UploadCheckpoint::from_json(&json, repository)))
    }

    /// Opens a session to append to it; `None` where there is no such session. What lies beyond its
    /// last durable point is cut off.
    pub(crate) fn resume_upload(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<UploadIngest>> {
        let data = self.paths.upload_data(repository, id);
        let file = match self.disk.open(&data).context("open", &data)? {
            Some(file) => file,
            None if self.is_empty_upload_open(repository, id)? => {
                self.disk.create(&data).context("write", &data)?
            }
            None => return Ok(None),
        };
        let held = file.len().context("look at", &data)?;
        let point = match self.read_upload_checkpoint(repository, id)? {
            Some(point) if point.offset <= held => point,
            Some(_) | None => {
                let hasher = hash_file(&file, &data, Algorithm::Sha256)?;
                UploadCheckpoint {
                    offset: held,
                    hasher,
                    owner: None,
                }
            }
        };
        if point.offset < held {
            file.truncate(point.offset).context("cut", &data)?;
        }
        let (repository, kept) = (repository.clone(), point.clone());
        Ok(Some(UploadIngest {
            repository,
            id,
            file,
            written: point,
            durable: kept,
        }))
    }

    /// Appends bytes. They count once [`Store::keep`] returns; when this fails the session is back
    /// at its last durable point, and what came after it is off the disk.
    pub(crate) fn write(&self, upload: &mut UploadIngest, bytes: &[u8]) -> Result<()> {
        let path = self.paths.upload_data(&upload.repository, upload.id);
        if let Err(error) = upload
            .file
            .write(upload.written.offset, bytes)
            .context("write", &path)
        {
            self.roll_back_upload(upload);
            return Err(error);
        }
        upload.written.hasher.update(bytes);
        upload.written.offset += bytes.len() as u64;
        Ok(())
    }

    /// Makes durable what was appended; when this fails the session is back at its last durable
    /// point.
    pub(crate) fn sync_upload(&self, upload: &mut UploadIngest) -> Result<()> {
        if upload.written.offset == upload.durable.offset {
            return Ok(());
        }
        let path = self.paths.upload_data(&upload.repository, upload.id);
        let kept = upload.file.sync().context("sync", &path).and_then(|()| {
            let json = upload.written.to_json(&upload.repository);
            self.put_file(self.paths.upload_state(upload.id), &json)
        });
        match kept {
            Ok(()) => upload.durable = upload.written.clone(),
            Err(_) => self.roll_back_upload(upload),
        }
        kept
    }

    /// Goes back to the last durable point.
    pub(crate) fn roll_back_upload(&self, upload: &mut UploadIngest) {
        upload.written = upload.durable.clone();
        if let Err(error) = upload.file.truncate(upload.durable.offset) {
            // Harmless: the next one to open the session cuts again.
            tracing::warn!(id = %upload.id, %error, "cannot cut an upload back");
        }
    }

    /// Makes everything durable that the session holds, and computes its digest. Reads it all
    /// again, unless `algorithm` is the one that was computed on the way.
    pub(crate) fn seal_upload(
        &self,
        upload: UploadIngest,
        algorithm: Algorithm,
    ) -> Result<SealedUpload> {
        let data = self.paths.upload_data(&upload.repository, upload.id);
        if upload.written.offset != upload.durable.offset {
            upload.file.sync().context("sync", &data)?;
        }
        let digest = match upload.written.hasher {
            hasher if hasher.algorithm() == algorithm => hasher.finish(),
            _ => hash_file(&upload.file, &data, algorithm)?.finish(),
        };
        Ok(SealedUpload {
            data_path: data,
            digest,
        })
    }

    /// Puts `links`, and then turns what a session holds into a blob, over whatever stood there.
    /// When this returns all of it is durable; the rest of the session is left for
    /// [`Store::forget_upload`]. The links come first: one without bytes counts as absent, while
    /// bytes that have left their session without being linked would have to be sent again.
    pub(crate) fn commit_upload(
        &self,
        sealed: &SealedUpload,
        links: &[(ObjectKey<'_>, &[u8])],
    ) -> Result<()> {
        self.put_all(links)?;
        let blob = self.paths.object(ObjectKey::Blob(&sealed.digest));
        self.rename_durably(&sealed.data_path, &blob)
    }

    /// Forgets a session and the bytes that it still holds, durably; false where there is none.
    pub(crate) fn cancel_upload(&self, repository: &Repository, id: UploadId) -> Result<bool> {
        let folder = self.paths.upload(repository, id);
        if !self.disk.is_folder(&folder).context("look at", &folder)? {
            return Ok(false);
        }
        self.remove_durably(&folder)?;
        let state = self.paths.upload_state(id);
        self.disk.unlink(&state).context("remove", &state)?;
        Ok(true)
    }

    /// Forgets a session that became a blob. A crash may leave it open, empty.
    pub(crate) fn delete_finished_upload(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<()> {
        let folder = self.paths.upload(repository, id);
        // A stock registry has more than we know there.
        for path in [
            self.paths.upload_data(repository, id),
            self.paths.upload_state(id),
        ] {
            self.disk.unlink(&path).context("remove", &path)?;
        }
        self.remove_all(&folder)
    }
}

fn hash_file(file: &DiskFile, path: &Path, algorithm: Algorithm) -> Result<Hasher> {
    let (mut hasher, mut offset) = (Hasher::new(algorithm), 0);
    loop {
        let bytes = file.read(offset, HASH_BUFFER_BYTES).context("read", path)?;
        if bytes.is_empty() {
            return Ok(hasher);
        }
        hasher.update(&bytes);
        offset += bytes.len() as u64;
    }
}
