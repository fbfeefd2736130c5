//! The format of a record: one JSON object, and further lines behind it.
//!
//! This module does not access files. Start reading at [`RecordFile`].

use std::collections::{BTreeMap, BTreeSet};

use imgsync_oci::{Digest, Tag};
use serde::{Deserialize, Serialize};

/// The version of the format.
pub(super) const FORMAT_VERSION: u64 = 1;

/// The content of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RecordFile {
    pub(super) version: u64,
    /// The digests of tags, by pair of source and target and by tag. The last digest is the current
    /// one. Earlier ones are kept while it is unknown whether the last one arrived.
    pub(super) mirrors: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// The images that referrer tags belong to, by pair and by tag. Files of older versions have
    /// none: then the images are unknown.
    #[serde(default, rename = "about")]
    pub(super) subjects: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

/// A line: the digest that a tag is about to get.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordLine {
    pub(super) mirror: String,
    pub(super) tag: String,
    pub(super) digest: String,
    #[serde(default, rename = "about", skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
}

impl Default for RecordFile {
    /// Returns an empty record.
    fn default() -> Self {
        Self {
            version: FORMAT_VERSION,
            mirrors: BTreeMap::new(),
            subjects: BTreeMap::new(),
        }
    }
}

impl RecordFile {
    /// Applies a line, and returns whether the record has changed.
    pub(super) fn apply(&mut self, line: &RecordLine) -> bool {
        let RecordLine {
            mirror,
            tag,
            digest,
            subject,
        } = line;
        let is_new_subject = subject
            .as_ref()
            .is_some_and(|subject| self.add_subject(mirror, tag, subject));
        let tags = self.mirrors.entry(mirror.clone()).or_default();
        let digests = tags.entry(tag.clone()).or_default();
        if digests.last() == Some(digest) {
            return is_new_subject;
        }
        digests.retain(|earlier| earlier != digest);
        digests.push(digest.clone());
        true
    }

    /// Returns the digests of a tag, the current one last.
    pub(super) fn digests(&mut self, pair: &str, tag: &Tag) -> Option<&mut Vec<String>> {
        self.mirrors.get_mut(pair)?.get_mut(tag.as_str())
    }

    /// Adds the image that a referrer tag belongs to, and returns whether it was unknown.
    pub(super) fn add_subject(&mut self, pair: &str, tag: &str, image: &str) -> bool {
        let tags = self.subjects.entry(pair.to_owned()).or_default();
        let images = tags.entry(tag.to_owned()).or_default();
        images.insert(image.to_owned())
    }
}

/// Parses tags and digests, and ignores invalid ones.
pub(super) fn parse_tags<'a, D, C>(tags: Option<&'a BTreeMap<String, D>>) -> BTreeMap<Tag, C>
where
    &'a D: IntoIterator<Item = &'a String>,
    C: FromIterator<Digest>,
{
    let tags = tags.into_iter().flatten().filter_map(|(tag, digests)| {
        let digests = digests.into_iter().filter_map(|text| text.parse().ok());
        Some((tag.parse().ok()?, digests.collect()))
    });
    tags.collect()
}

/// Parses a file.
///
/// # Errors
/// Fails if the file is not one object with lines behind it.
pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<RecordFile> {
    let mut objects = serde_json::Deserializer::from_slice(bytes).into_iter::<RecordFile>();
    let Some(record) = objects.next() else {
        return serde_json::from_slice(bytes);
    };
    let mut record = record?;
    let lines = bytes.get(objects.byte_offset()..).unwrap_or_default();
    // A line without an end was being written when the run was killed, so its tag was not written.
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if line.ends_with(b"\n") && !line.trim_ascii().is_empty() {
            record.apply(&serde_json::from_slice(line)?);
        }
    }
    Ok(record)
}
