//! Lists of names, in the order of their bytes.

use std::path::{Path, PathBuf};

use imgsync_oci::Repository;

use super::Store;
use super::error::{Doing, Result};
use super::keys::Keys;

/// What can be listed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum List<'a> {
    /// The tags of a repository, those among them that point nowhere as well.
    Tags(&'a Repository),
    /// The repositories.
    Repositories,
    /// What holds blobs, with or without a manifest.
    Holders,
    /// What has, or had, upload sessions.
    Uploading,
    /// What has, or had, something from an upstream.
    Marked,
}

impl Store {
    /// Whether a repository exists: the stock registry's rule, that it has or had a manifest.
    pub(crate) fn has_repository(&self, repository: &Repository) -> Result<bool> {
        let folder = self.keys.manifests(repository);
        self.disk.is_folder(&folder).doing("look at", &folder)
    }

    /// Up to `limit` names that come after `after`, in order.
    pub(crate) fn list(&self, list: List<'_>, after: &str, limit: usize) -> Result<Vec<String>> {
        match list {
            List::Tags(repository) => {
                let mut names = self.folders_in(&self.keys.tags(repository))?;
                names.retain(|name| name.as_str() > after);
                names.sort_unstable();
                names.truncate(limit);
                Ok(names)
            }
            List::Repositories | List::Holders | List::Uploading | List::Marked => {
                let top = match list {
                    List::Marked => self.keys.marked(),
                    List::Repositories | List::Holders | List::Uploading | List::Tags(_) => {
                        self.keys.repositories()
                    }
                };
                let mut walk = Walk {
                    store: self,
                    sign: match list {
                        List::Holders => Keys::layers_below,
                        List::Uploading => Keys::uploads_below,
                        List::Marked => Keys::marks_below,
                        List::Tags(_) | List::Repositories => Keys::manifests_below,
                    },
                    after,
                    limit,
                    found: Vec::new(),
                };
                walk.below(&top, "")?;
                Ok(walk.found)
            }
        }
    }

    fn folders_in(&self, folder: &Path) -> Result<Vec<String>> {
        let names = self
            .disk
            .list(folder)
            .doing("list", folder)?
            .unwrap_or_default();
        let folders = names.into_iter().filter(|(_, is_folder)| *is_folder);
        Ok(folders.map(|(name, _)| name).collect())
    }
}

/// Finds repositories, holding only the names of the folders on its way and those it found.
struct Walk<'a> {
    store: &'a Store,
    /// The folder that makes a folder count.
    sign: fn(&Keys, &Path) -> PathBuf,
    after: &'a str,
    limit: usize,
    found: Vec<String>,
}

impl Walk<'_> {
    /// Looks through what lies below `folder`; `prefix` is empty or ends with a slash.
    fn below(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let names = self.store.folders_in(folder)?;
        // A name's folder `a` stands for the repository `a` and for all `a/…`, and `a-b` comes
        // between them.
        let mut steps: Vec<String> = Vec::with_capacity(names.len() * 2);
        for name in names.into_iter().filter(|name| !name.starts_with('_')) {
            steps.push(format!("{name}/"));
            steps.push(name);
        }
        steps.sort_unstable();
        for step in steps {
            if self.found.len() >= self.limit {
                return Ok(());
            }
            let name = format!("{prefix}{step}");
            if step.ends_with('/') {
                if name.as_str() > self.after || self.after.starts_with(&name) {
                    self.below(&folder.join(&step), &name)?;
                }
            } else if name.as_str() > self.after && self.is_repository(&folder.join(&step))? {
                self.found.push(name);
            }
        }
        Ok(())
    }

    fn is_repository(&self, folder: &Path) -> Result<bool> {
        let sign = (self.sign)(&self.store.keys, folder);
        self.store.disk.is_folder(&sign).doing("look at", &sign)
    }
}
