//! The record of a mirror: the tags that it has copied, on disk. Only these tags may be pruned.
//!
//! The digest of a tag is recorded before the tag is written to the target, and the digest before
//! is kept until the next run. The record therefore has every tag that the mirror wrote, whenever
//! the mirror is killed, and no tag that it did not write. Between two runs the file is one JSON
//! object. During a run a line is appended for each tag, so that the cost of a write does not grow
//! with the number of tags.
//!
//! This module does not decide what is pruned. Start reading at [`MirrorRecord`].

mod file;
mod format;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Tag};

use crate::disk::LockedFile;
use crate::exit::Failure;
use format::{RecordFile, RecordLine};

/// The record of one pair of source and target.
#[derive(Debug)]
pub struct MirrorRecord {
    /// `None` for a record that is only read.
    path: Option<PathBuf>,
    pair: String,
    contents: Mutex<RecordFile>,
    /// The file, if lines can be appended to it.
    lines: Mutex<Option<File>>,
    _lock: Option<LockedFile>,
}

impl MirrorRecord {
    /// Opens the record of a pair of source and target for a run that changes the target. A missing
    /// file is an empty record. Returns `None` if the user may not write there.
    ///
    /// # Errors
    /// Fails if the file cannot be read or written, if it is not a record, or while another run uses
    /// it.
    pub fn open(path: &Path, pair: &str) -> Result<Option<Self>, Failure> {
        let Some(lock) = file::lock(path)? else {
            return Ok(None);
        };
        let record = Self {
            path: Some(path.to_owned()),
            _lock: Some(lock),
            ..Self::open_read_only(path, pair)?
        };
        // A record that cannot be written is found now, and not after the first image was copied.
        record.write()?;
        Ok(Some(record))
    }

    /// Opens the record of a pair of source and target for a run that changes nothing.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if it is not a record.
    pub fn open_read_only(path: &Path, pair: &str) -> Result<Self, Failure> {
        Ok(Self {
            path: None,
            pair: pair.to_owned(),
            contents: Mutex::new(file::read(path)?),
            lines: Mutex::new(None),
            _lock: None,
        })
    }

    /// Returns whether this mirror has copied no tags yet.
    pub fn is_empty(&self) -> bool {
        self.mirrored_tags().is_empty()
    }

    /// Returns the tags that this mirror has copied, with the digests that it wrote.
    pub fn mirrored_tags(&self) -> BTreeMap<Tag, Vec<Digest>> {
        format::parse_tags(self.contents().mirrors.get(&self.pair))
    }

    /// Returns the images that the copied referrer tags belong to.
    pub fn tag_subjects(&self) -> BTreeMap<Tag, HashSet<Digest>> {
        format::parse_tags(self.contents().subjects.get(&self.pair))
    }

    /// Records that a tag is about to be written with this digest. `subject` is the image that a
    /// referrer tag belongs to. The record is on the disk when this returns.
    ///
    /// # Errors
    /// Fails if the record cannot be written; then the tag must not be written.
    pub fn record_tag(
        &self,
        tag: &Tag,
        digest: &Digest,
        subject: Option<&Digest>,
    ) -> Result<(), Failure> {
        let line = RecordLine {
            mirror: self.pair.clone(),
            tag: tag.to_string(),
            digest: digest.to_string(),
            subject: subject.map(Digest::to_string),
        };
        if !self.contents().apply(&line) {
            return Ok(());
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let file = lines.as_mut();
        if file.is_some_and(|file| file::append_line(file, &line).is_ok()) {
            return Ok(());
        }
        drop(lines);
        self.write()
    }

    /// Notes that a tag of the target has this digest. If it is the last one that was recorded,
    /// earlier digests are dropped. `subject` is the image that a referrer tag belongs to. The next
    /// [`MirrorRecord::write`] saves this.
    pub fn settle_tag(&self, tag: &Tag, digest: &Digest, subject: Option<&Digest>) {
        let mut contents = self.contents();
        let Some(digests) = contents.digests(&self.pair, tag) else {
            return;
        };
        if digests.last() == Some(&digest.to_string()) {
            digests.drain(..digests.len() - 1);
        }
        if let Some(image) = subject {
            contents.add_subject(&self.pair, tag.as_str(), &image.to_string());
        }
    }

    /// Removes a tag from the record. The next [`MirrorRecord::write`] saves this.
    pub fn forget(&self, tag: &Tag) {
        let mut contents = self.contents();
        if let Some(tags) = contents.mirrors.get_mut(&self.pair) {
            tags.remove(tag.as_str());
        }
        if let Some(tags) = contents.subjects.get_mut(&self.pair) {
            tags.remove(tag.as_str());
        }
    }

    /// Writes the whole record in one step.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn write(&self) -> Result<(), Failure> {
        if let Some(path) = &self.path {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            *lines = None;
            *lines = Some(file::replace(path, &self.contents())?);
        }
        Ok(())
    }

    fn contents(&self) -> MutexGuard<'_, RecordFile> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
