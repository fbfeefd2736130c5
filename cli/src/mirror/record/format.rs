//! What the record's file says: one object, and the lines behind it.

use std::collections::{BTreeMap, BTreeSet};

use imgsync_oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

/// The form that is written here.
pub(super) const FORMAT_VERSION: u64 = 1;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RecordFile {
    pub(super) version: u64,
    /// By source and target.
    pub(super) mirrors: BTreeMap<String, TagDigests>,
    /// The same, of tags that speak about images: the digests of these. A file of an imgsync that
    /// did not write this down has none, and nobody knows.
    #[serde(default, rename = "about")]
    pub(super) subjects: BTreeMap<String, TagSubjects>,
}

/// By tag the digests that it was given: the last counts; those before count too while nobody can
/// say whether the last one arrived.
type TagDigests = BTreeMap<String, Vec<String>>;

/// By tag the images that it was brought with.
type TagSubjects = BTreeMap<String, BTreeSet<String>>;

/// A line: what a tag is about to name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordLine {
    pub(super) mirror: String,
    pub(super) tag: String,
    pub(super) digest: String,
    #[serde(default, rename = "about", skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
}

impl RecordFile {
    /// Whether this mirror brought the tag.
    pub(super) fn has(&self, pair: &str, tag: &Tag) -> bool {
        let tags = self.mirrors.get(pair);
        tags.is_some_and(|tags| tags.contains_key(tag.as_str()))
    }

    /// Takes note of a line; yields whether it says anything new.
    pub(super) fn apply(&mut self, line: &RecordLine) -> bool {
        let RecordLine {
            mirror,
            tag,
            digest,
            subject: about,
        } = line;
        let is_new = about.as_ref().is_some_and(|image| {
            let tags = self.subjects.entry(mirror.clone()).or_default();
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
    pub(super) fn add_subject(&mut self, pair: &str, tag: &Tag, image: &Digest) {
        let tags = self.subjects.entry(pair.to_owned()).or_default();
        let images = tags.entry(tag.to_string()).or_default();
        images.insert(image.to_string());
    }
}

/// Understands a whole file.
///
/// # Errors
/// It is not one object with lines behind it.
pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<RecordFile> {
    let mut books = serde_json::Deserializer::from_slice(bytes).into_iter::<RecordFile>();
    let book = books.next();
    let rest = bytes.get(books.byte_offset()..).unwrap_or_default();
    let Some(book) = book else {
        return serde_json::from_slice(bytes);
    };
    let mut book = book?;
    // A line that does not end was being written when the run was cut off: its tag was not put.
    for line in rest.split_inclusive(|byte| *byte == b'\n') {
        if line.ends_with(b"\n") && !line.trim_ascii().is_empty() {
            book.apply(&serde_json::from_slice(line)?);
        }
    }
    Ok(book)
}
