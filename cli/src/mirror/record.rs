//! What a mirror brought, on disk: only that may ever be pruned.
//!
//! A tag's digest is written down before the tag is put, and what it named before is kept beside it
//! until the next run: whenever the mirror ends, what it brought is known, and what it did not is
//! not claimed. Between two runs the file is one JSON object; while one is at work, a line for every tag
//! follows it, so that what is written does not grow with the number of tags.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Kind};

/// No record is larger, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The form that is written here.
const VERSION: u64 = 1;

/// What one mirror brought to its target.
#[derive(Debug)]
pub struct Record {
    /// `None` for one that is only read.
    path: Option<PathBuf>,
    pair: String,
    book: Mutex<Book>,
    /// The file, where lines can be added to it.
    lines: Mutex<Option<File>>,
    /// Held until this goes.
    _lock: Option<File>,
}

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Book {
    version: u64,
    /// By source and target.
    mirrors: BTreeMap<String, Brought>,
    /// The same, of tags that speak about images: the digests of these. A file of an imgsync that
    /// did not write this down has none, and nobody knows.
    #[serde(default)]
    about: BTreeMap<String, About>,
}

/// By tag the digests that it was given: the last counts; those before count too while nobody can
/// say whether the last one arrived.
type Brought = BTreeMap<String, Vec<String>>;

/// By tag the images that it was brought with.
type About = BTreeMap<String, BTreeSet<String>>;

/// A line: what a tag is about to name.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    mirror: String,
    tag: String,
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<String>,
}

impl Record {
    /// Opens the record of this pair of source and target for a run that changes the target. A file
    /// that is not there is an empty one; `None` where this user may write nothing there.
    ///
    /// # Errors
    /// The file cannot be read or written, or makes no sense; another run has it.
    pub fn open(path: &Path, pair: &str) -> Result<Option<Self>, Failure> {
        if let Err(error) = crate::settings::make_folder(folder_of(path)) {
            return if_closed(path, &error);
        }
        let lock = match lock_file(path) {
            Ok(file) => lock(path, file)?,
            Err(error) => return if_closed(path, &error),
        };
        let record = Self {
            path: Some(path.to_owned()),
            pair: pair.to_owned(),
            book: Mutex::new(read(path)?),
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
    pub fn look(path: &Path, pair: &str) -> Result<Self, Failure> {
        Ok(Self {
            path: None,
            pair: pair.to_owned(),
            book: Mutex::new(read(path)?),
            lines: Mutex::new(None),
            _lock: None,
        })
    }

    /// Whether this mirror ever brought anything.
    pub fn is_empty(&self) -> bool {
        self.brought().is_empty()
    }

    /// The tags that this mirror brought, with the digests that it gave them.
    pub fn brought(&self) -> BTreeMap<Tag, Vec<Digest>> {
        let book = self.book();
        let tags = book.mirrors.get(&self.pair).into_iter().flatten();
        let tags = tags.filter_map(|(tag, digests)| {
            let digests = digests.iter().filter_map(|digest| digest.parse().ok());
            Some((tag.parse().ok()?, digests.collect()))
        });
        tags.collect()
    }

    /// The images that the tags speak about which this mirror brought with them.
    pub fn about(&self) -> BTreeMap<Tag, HashSet<Digest>> {
        let book = self.book();
        let tags = book.about.get(&self.pair).into_iter().flatten();
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
    pub fn before(
        &self,
        tag: &Tag,
        digest: &Digest,
        about: Option<&Digest>,
    ) -> Result<(), Failure> {
        let line = Line {
            mirror: self.pair.clone(),
            tag: tag.to_string(),
            digest: digest.to_string(),
            about: about.map(Digest::to_string),
        };
        let is_new = self.book().take(&line);
        match is_new {
            true => self.append(&line),
            false => Ok(()),
        }
    }

    /// Adds a line to the file; where that does not work, all of it is written anew.
    fn append(&self, line: &Line) -> Result<(), Failure> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let added = lines.as_mut().is_some_and(|file| add(file, line).is_ok());
        drop(lines);
        match added {
            true => Ok(()),
            false => self.write(),
        }
    }

    /// A tag was found, or put, to name this; `about` is the image that it speaks about, if it
    /// does. If it is what this mirror gave it last, earlier digests of it no longer count. Kept by
    /// the next [`Record::write`].
    pub fn settled(&self, tag: &Tag, digest: &Digest, about: Option<&Digest>) {
        let mut book = self.book();
        if let Some(image) = about
            && book.has(&self.pair, tag)
        {
            book.add(&self.pair, tag, image);
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
        let mut book = self.book();
        if let Some(tags) = book.mirrors.get_mut(&self.pair) {
            tags.remove(tag.as_str());
        }
        if let Some(tags) = book.about.get_mut(&self.pair) {
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
        let replaced = replace(path, &self.book());
        *lines = Some(replaced.map_err(|error| broken(path, &error))?);
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn has(&self, pair: &str, tag: &Tag) -> bool {
        let tags = self.mirrors.get(pair);
        tags.is_some_and(|tags| tags.contains_key(tag.as_str()))
    }

    /// Takes note of a line; yields whether it says anything new.
    fn take(&mut self, line: &Line) -> bool {
        let Line {
            mirror,
            tag,
            digest,
            about,
        } = line;
        let is_new = about.as_ref().is_some_and(|image| {
            let tags = self.about.entry(mirror.clone()).or_default();
            tags.entry(tag.clone()).or_default().insert(image.clone())
        });
        let tags = self.mirrors.entry(mirror.clone()).or_default();
        let digests = tags.entry(tag.clone()).or_default();
        if digests.last() == Some(digest) {
            return is_new;
        }
        digests.retain(|it| it != digest);
        digests.push(digest.clone());
        true
    }

    /// Adds an image that a tag speaks about.
    fn add(&mut self, pair: &str, tag: &Tag, image: &Digest) {
        let tags = self.about.entry(pair.to_owned()).or_default();
        let images = tags.entry(tag.to_string()).or_default();
        images.insert(image.to_string());
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Nothing, where the error says that nothing may be written there.
fn if_closed<T>(path: &Path, error: &std::io::Error) -> Result<Option<T>, Failure> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => Ok(None),
        _ => Err(broken(path, error)),
    }
}

/// The lock has a file of its own, since the record's is replaced.
fn lock_file(path: &Path) -> std::io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true).open(name)
}

/// Keeps other runs out.
fn lock(path: &Path, file: File) -> Result<File, Failure> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let shown = path.display();
            let what = format!("another imgsync mirror is at work with the same record, {shown}");
            Err(Failure::new(Kind::Source, what).hint("wait for it to end, then try again"))
        }
        Err(TryLockError::Error(error)) => Err(broken(path, &error)),
    }
}

fn read(path: &Path) -> Result<Book, Failure> {
    let empty = Book {
        version: VERSION,
        mirrors: BTreeMap::new(),
        about: BTreeMap::new(),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty),
        Err(error) => return Err(broken(path, &error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| broken(path, &error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(senseless(path, "it is too large"));
    }
    // A file that CI made before the first run.
    if bytes.is_empty() {
        return Ok(empty);
    }
    let book = parse(&bytes).map_err(|error| senseless(path, &error.to_string()))?;
    match book.version == VERSION {
        true => Ok(book),
        false => Err(senseless(path, "a newer imgsync wrote it")),
    }
}

fn parse(bytes: &[u8]) -> serde_json::Result<Book> {
    let mut books = serde_json::Deserializer::from_slice(bytes).into_iter::<Book>();
    let book = books.next();
    let rest = bytes.get(books.byte_offset()..).unwrap_or_default();
    let Some(book) = book else {
        return serde_json::from_slice(bytes);
    };
    let mut book = book?;
    // A line that does not end was being written when the run was cut off: its tag was not put.
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        if line.ends_with(b"\n") && !line.trim_ascii().is_empty() {
            book.take(&serde_json::from_slice(line)?);
        }
    }
    Ok(book)
}

/// Puts a line behind what is there, on the disk.
fn add(file: &mut File, line: &Line) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_data()
}

/// Puts a book in place of the file; yields it, at its end.
fn replace(path: &Path, book: &Book) -> std::io::Result<File> {
    let folder = folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut bytes = serde_json::to_vec_pretty(book)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.as_file().sync_all()?;
    let file = file.persist(path)?;
    // A folder can be synced where it can be opened.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn broken(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let what = format!(
        "the record of what was mirrored, {}, cannot be used: {error}",
        path.display()
    );
    Failure::new(Kind::Source, what).hint("--state FILE keeps it elsewhere")
}

fn senseless(path: &Path, why: &str) -> Failure {
    let what = format!(
        "the record of what was mirrored, {}, makes no sense: {why}",
        path.display()
    );
    let hint =
        "remove the file to begin anew: then nothing that was mirrored before is ever pruned";
    Failure::new(Kind::Source, what).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_brought_is_known_whenever_the_mirror_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/record.json");
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let record = Record::open(&path, "a → b").unwrap().unwrap();
        assert!(record.is_empty());
        record.before(&tag("v1"), &one, None).unwrap();
        record.before(&tag("v1"), &two, None).unwrap();
        record.before(&tag("v2"), &one, Some(&two)).unwrap();
        // Killed: nothing more is said.
        drop(record);

        let record = Record::open(&path, "a → b").unwrap().unwrap();
        let brought = record.brought();
        assert_eq!(brought[&tag("v1")], [one.clone(), two.clone()]);
        assert_eq!(brought[&tag("v2")], std::slice::from_ref(&one));
        assert_eq!(record.about()[&tag("v2")], HashSet::from([two.clone()]));
        record.settled(&tag("v1"), &one, None);
        assert_eq!(record.brought()[&tag("v1")].len(), 2, "not the last one");
        record.settled(&tag("v1"), &two, None);
        record.settled(&tag("v2"), &one, Some(&one));
        assert_eq!(record.about()[&tag("v2")].len(), 2);
        record.settled(&tag("v3"), &two, Some(&two));
        record.forget(&tag("v2"));
        assert!(record.about().is_empty(), "others' tags are not noted");
        record.write().unwrap();
        drop(record);

        let record = Record::look(&path, "a → b").unwrap();
        assert_eq!(record.brought(), BTreeMap::from([(tag("v1"), vec![two])]));
        assert!(Record::look(&path, "a → c").unwrap().is_empty());
    }

    #[test]
    fn a_line_that_was_cut_off_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let one = Digest::of(b"1");
        let record = Record::open(&path, "a → b").unwrap().unwrap();
        record.before(&tag("v1"), &one, None).unwrap();
        record.before(&tag("v2"), &one, Some(&one)).unwrap();
        drop(record);
        let text = std::fs::read(&path).unwrap();
        let known = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let record = Record::look(&path, "a → b").unwrap();
            (record.brought().len(), record.about().len())
        };
        assert_eq!(known(&text), (2, 1));
        assert_eq!(known(&text[..text.len() - 1]), (1, 0));
        assert_eq!(known(&[&text[..], &[0; 20]].concat()), (2, 1));
        // A failed line is not added to: all is written anew.
        let record = Record::open(&path, "a → b").unwrap().unwrap();
        *record.lines.lock().unwrap() = Some(File::open(&path).unwrap());
        record.before(&tag("v3"), &one, None).unwrap();
        let text = std::fs::read(&path).unwrap();
        assert_eq!(known(&text), (3, 1));
    }

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let first = Record::open(&path, "a → b").unwrap().unwrap();
        let failure = Record::open(&path, "c → d").unwrap_err();
        assert!(failure.what.contains("another"), "{}", failure.what);
        Record::look(&path, "a → b").unwrap();
        drop(first);
        Record::open(&path, "c → d").unwrap();
    }

    #[test]
    fn a_file_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        for bad in ["{", "[]", r#"{"version":2,"mirrors":{}}"#] {
            std::fs::write(&path, bad).unwrap();
            let failure = Record::open(&path, "a").unwrap_err();
            assert!(failure.what.contains("makes no sense"), "{}", failure.what);
            assert_eq!(
                std::fs::read_to_string(&path).unwrap(),
                bad,
                "left as it was"
            );
        }
        std::fs::write(&path, "").unwrap();
        Record::open(&path, "a").unwrap();
    }
}
