//! Imports the content that a stock registry cached in proxy mode.
//!
//! The stock registry records in `scheduler-state.json` what it fetched, to delete it later: an
//! object with a member `repository@digest` for each item (distribution,
//! `registry/proxy/scheduler`). The import marks these items as cached, together with the tags that
//! point at them. It marks nothing else, because everything else may have been pushed. Start
//! reading at [`Registry::import_stock_proxy`].

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::time::SystemTime;

use imgsync_oci::{Digest, Repository};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::super::manifests::child_digests;
use super::tags::{TagMark, TagState};
use super::{from_unix_seconds, scan};
use crate::store::{LinkKind, MarkKey, ObjectKey, ObjectReader, Walk};

/// Size of the read buffer for the file.
const READ_BUFFER_BYTES: usize = 64 * 1024;

impl Registry {
    /// Marks the content that a stock registry cached from an upstream. Returns the number of blobs
    /// and manifests marked. Does nothing after the first import, because later pushes may have
    /// claimed the content. Call it before the first request is served. `now` is in Unix seconds.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn import_stock_proxy(&self, upstream: &str, now: u64) -> Result<usize> {
        if self.store.is_proxy_imported()? {
            return Ok(0);
        }
        let Some((file, file_modified_at)) = self.store.scheduler_state()? else {
            return Ok(0);
        };
        let mut import = ProxyImport {
            registry: self,
            upstream,
            file_modified_at,
            now,
            marked_count: 0,
            repositories: BTreeSet::new(),
            error: None,
        };
        let reader = io::BufReader::with_capacity(
            READ_BUFFER_BYTES,
            SchedulerStateReader { file, offset: 0 },
        );
        let mut json = serde_json::Deserializer::from_reader(reader);
        let read = json.deserialize_map(&mut import);
        if let Some(error) = import.error {
            return Err(error);
        }
        if let Err(error) = read {
            tracing::warn!(%error, "scheduler-state.json is damaged; the items after the damage count as pushed");
        }
        for repository in &import.repositories {
            self.unmark_children_of_pushed(repository)?;
            self.mark_cached_tags(repository, upstream)?;
        }
        self.store.record_proxy_import()?;
        Ok(import.marked_count)
    }

    /// Removes the marks of everything that an unmarked manifest names.
    fn unmark_children_of_pushed(&self, repository: &Repository) -> Result<()> {
        loop {
            let mut is_done = true;
            for manifest in self.manifests(repository) {
                let (digest, manifest) = manifest?;
                let mark = MarkKey::Revision(repository, &digest);
                if self.store.mark_time(mark)?.is_some() {
                    continue;
                }
                for child in child_digests(&manifest.children()) {
                    let revision = MarkKey::Revision(repository, child);
                    is_done &= self.store.mark_time(revision)?.is_none();
                    self.store
                        .delete_marks(&[MarkKey::Layer(repository, child), revision])?;
                }
            }
            if is_done {
                return Ok(());
            }
        }
    }

    /// Marks the tags that point at marked manifests. Their last confirmation by the upstream is
    /// unknown and set to 0.
    fn mark_cached_tags(&self, repository: &Repository, upstream: &str) -> Result<()> {
        for tag in self.all_tags(repository, &Walk::unbounded())? {
            let _lock = self.lock_keys([LockKey::Tag(repository.clone(), tag.clone())]);
            let Some(digest) = self.read_link(ObjectKey::TagCurrent(repository, &tag))? else {
                continue;
            };
            let mark = MarkKey::Revision(repository, &digest);
            let is_cached = self.store.mark_time(mark)?.is_some();
            let is_marked = self.tag_state_locked(repository, &tag)? != TagState::Pushed;
            if is_cached && !is_marked {
                let mark = TagMark::new(vec![digest], 0, upstream);
                self.put_tag_mark(repository, &tag, &mark)?;
            }
        }
        Ok(())
    }
}

/// Imports the members of the file one by one.
struct ProxyImport<'a> {
    registry: &'a Registry,
    /// The address of the upstream.
    upstream: &'a str,
    /// When the file was written. The file does not list links that are newer.
    file_modified_at: SystemTime,
    now: u64,
    marked_count: usize,
    repositories: BTreeSet<Repository>,
    error: Option<super::super::Error>,
}

impl ProxyImport<'_> {
    /// Imports one member, named `repository@digest`. Ignores other names.
    fn import_entry(&mut self, name: &str) -> Result<()> {
        let Some((repository, digest)) = name.split_once('@') else {
            return Ok(());
        };
        let (Ok(repository), Ok(digest)) = (repository.parse::<Repository>(), digest.parse())
        else {
            return Ok(());
        };
        // The file also records whether the item is a blob or a manifest, but the links show it as
        // well.
        for links in [LinkKind::Layers, LinkKind::Revisions] {
            if self.mark_if_linked(&repository, links, &digest)? {
                self.marked_count += 1;
                self.repositories.insert(repository.clone());
            }
        }
        Ok(())
    }

    /// Marks an item as cached if it was linked before the file was written.
    fn mark_if_linked(
        &self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> Result<bool> {
        let store = &self.registry.store;
        let _lock = self.registry.lock_digests([digest.clone()]);
        let linked = store.object_modified_at(scan::link_key(repository, links, digest))?;
        if linked.is_none_or(|linked| linked > self.file_modified_at) {
            return Ok(false);
        }
        let mark = scan::mark_key(repository, links, digest);
        let content = match links {
            LinkKind::Layers => self.upstream,
            LinkKind::Revisions => "",
        };
        store.put_mark(mark, content.as_bytes(), from_unix_seconds(self.now))?;
        Ok(true)
    }
}

impl<'de> Visitor<'de> for &mut ProxyImport<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a member for each cached item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if let Err(error) = self.import_entry(&name) {
                self.error = Some(error);
                return Err(serde::de::Error::custom("cannot write a mark"));
            }
        }
        Ok(())
    }
}

/// Reads the file from its start.
struct SchedulerStateReader {
    file: ObjectReader,
    offset: u64,
}

impl io::Read for SchedulerStateReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_into(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}
