//! What a mirror brought, on disk: only that may ever be pruned.
//!
//! A tag's digest is written down before the tag is put, and what it named before is kept beside it
//! until the next run: whenever the mirror ends, what it brought is known, and what it did not is
//! not claimed. Between two runs the file is one JSON object; while one is at work, a line for every tag
//! follows it, so that what is written does not grow with the number of tags.

mod file;
mod format;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Tag};

use crate::exit::Failure;
use file::{append_line, broken, folder_of, lock, lock_file, none_if_unwritable, read, replace};
use format::{RecordFile, RecordLine};

/// What one mirror brought to its target.
#[derive(Debug)]
pub struct MirrorRecord {
    /// `None` for one that is only read.
    path: Option<PathBuf>,
    pair: String,
    contents: Mutex<RecordFile>,
    /// The file, where lines can be added to it.
    lines: Mutex<Option<File>>,
    /// Held until this goes.
    _lock: Option<File>,
}

impl MirrorRecord {
    /// Opens the record of this pair of source and target for a run that changes the target. A file
    /// that is not there is an empty one; `None` where this user may write nothing there.
    ///
    /// # Errors
    /// The file cannot be read or written, or makes no sense; another run has it.
    pub fn open(path: &Path, pair: &str) -> Result<Option<Self>, Failure> {
        if let Err(error) = crate::disk::create_private_folder(folder_of(path)) {
            return none_if_unwritable(path, &error);
        }
        let lock = match lock_file(path) {
            Ok(file) => lock(path, file)?,
            Err(error) => return none_if_unwritable(path, &error),
        };
        let record = Self {
            path: Some(path.to_owned()),
            pair: pair.to_owned(),
            contents: Mutex::new(read(path)?),
            lines: Mutex::new(None),
            _lock: Some(lock),
        };
        // Whether it can be written shows now, and not after the first image has moved.
        record.write()?;
        Ok(Some(record))
    }

    /// The same, for a run that changes nothing.
    ///
    /// # Errors
    /// The file cannot be read, or makes no sense.
    pub fn open_read_only(path: &Path, pair: &str) -> Result<Self, Failure> {
        Ok(Self {
            path: None,
            pair: pair.to_owned(),
            contents: Mutex::new(read(path)?),
            lines: Mutex::new(None),
            _lock: None,
        })
    }

    /// Whether this mirror ever brought anything.
    pub fn is_empty(&self) -> bool {
        self.mirrored_tags().is_empty()
    }

    /// The tags that this mirror brought, with the digests that it gave them.
    pub fn mirrored_tags(&self) -> BTreeMap<Tag, Vec<Digest>> {
        let book = self.contents();
        let tags = book.mirrors.get(&self.pair).into_iter().flatten();
        let tags = tags.filter_map(|(tag, digests)| {
            let digests = digests.iter().filter_map(|digest| digest.parse().ok());
            Some((tag.parse().ok()?, digests.collect()))
        });
        tags.collect()
    }

    /// The images that the tags speak about which this mirror brought with them.
    pub fn tag_subjects(&self) -> BTreeMap<Tag, HashSet<Digest>> {
        let book = self.contents();
        let tags = book.subjects.get(&self.pair).into_iter().flatten();
        let tags = tags.filter_map(|(tag, images)| {
            let images = images.iter().filter_map(|digest| digest.parse().ok());
            Some((tag.parse().ok()?, images.collect()))
        });
        tags.collect()
    }

    /// A tag is about to name this; `about` is the image that it speaks about, if it does. On disk
    /// when this yields.
    ///
    /// # Errors
    /// It cannot be written down; then the tag must not be put.
    pub fn record_tag(
        &self,
        tag: &Tag,
        digest: &Digest,
        about: Option<&Digest>,
    ) -> Result<(), Failure> {
        let line = RecordLine {
            mirror: self.pair.clone(),
            tag: tag.to_string(),
            digest: digest.to_string(),
            subject: about.map(Digest::to_string),
        };
        let is_new = self.contents().apply(&line);
        match is_new {
            true => self.append(&line),
            false => Ok(()),
        }
    }

    /// Adds a line to the file; where that does not work, all of it is written anew.
    fn append(&self, line: &RecordLine) -> Result<(), Failure> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let added = lines
            .as_mut()
            .is_some_and(|file| append_line(file, line).is_ok());
        drop(lines);
        match added {
            true => Ok(()),
            false => self.write(),
        }
    }

    /// A tag was found, or put, to name this; `about` is the image that it speaks about, if it
    /// does. If it is what this mirror gave it last, earlier digests of it no longer count. Kept by
    /// the next [`Record::write`].
    pub fn settle_tag(&self, tag: &Tag, digest: &Digest, about: Option<&Digest>) {
        let mut book = self.contents();
        if let Some(image) = about
            && book.has(&self.pair, tag)
        {
            book.add_subject(&self.pair, tag, image);
        }
        let tags = book.mirrors.get_mut(&self.pair);
        if let Some(digests) = tags.and_then(|tags| tags.get_mut(tag.as_str()))
            && digests.last() == Some(&digest.to_string())
        {
            let last = digests.len() - 1;
            digests.drain(..last);
        }
    }

    /// A tag is this mirror's no more. Kept by the next [`Record::write`].
    pub fn forget(&self, tag: &Tag) {
        let mut book = self.contents();
        if let Some(tags) = book.mirrors.get_mut(&self.pair) {
            tags.remove(tag.as_str());
        }
        if let Some(tags) = book.subjects.get_mut(&self.pair) {
            tags.remove(tag.as_str());
        }
    }

    /// Puts all of it on the disk, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        *lines = None;
        let replaced = replace(path, &self.contents());
        *lines = Some(replaced.map_err(|error| broken(path, &error))?);
        Ok(())
    }

    fn contents(&self) -> MutexGuard<'_, RecordFile> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
