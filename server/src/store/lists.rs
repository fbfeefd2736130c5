//! Lists of names, in the order of their bytes.

use std::path::{Path, PathBuf};

use imgsync_oci::Repository;

use super::Store;
use super::error::{IoContext, Result};
use super::paths::StorePaths;

/// What can be listed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ListScope<'a> {
    /// The tags of a repository, those among them that point nowhere as well.
    Tags(&'a Repository),
    /// The repositories.
    Repositories,
    /// What holds blobs, with or without a manifest.
    RepositoriesWithBlobs,
    /// What has, or had, upload sessions.
    RepositoriesWithUploads,
    /// What has, or had, something from an upstream.
    RepositoriesWithMarks,
}

impl Store {
    /// Whether a repository exists: the stock registry's rule, that it has or had a manifest.
    pub(crate) fn has_repository(&self, repository: &Repository) -> Result<bool> {
        let folder = self.paths.manifests(repository);
        self.disk.is_folder(&folder).context("look at", &folder)
    }

    /// Up to `limit` names that come after `after`, in order.
    pub(crate) fn list(
        &self,
        list: ListScope<'_>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>> {
        match list {
            ListScope::Tags(repository) => {
                let mut names = self.folders_in(&self.paths.tags(repository))?;
                names.retain(|name| name.as_str() > after);
                names.sort_unstable();
                names.truncate(limit);
                Ok(names)
            }
            ListScope::Repositories
            | ListScope::RepositoriesWithBlobs
            | ListScope::RepositoriesWithUploads
            | ListScope::RepositoriesWithMarks => {
                let top = match list {
                    ListScope::RepositoriesWithMarks => self.paths.marked_repositories(),
                    ListScope::Repositories
                    | ListScope::RepositoriesWithBlobs
                    | ListScope::RepositoriesWithUploads
                    | ListScope::Tags(_) => self.paths.repositories(),
                };
                let mut walk = RepositoryWalk {
                    store: self,
                    marker_folder: match list {
                        ListScope::RepositoriesWithBlobs => StorePaths::layers_below,
                        ListScope::RepositoriesWithUploads => StorePaths::uploads_below,
                        ListScope::RepositoriesWithMarks => StorePaths::marks_below,
                        ListScope::Tags(_) | ListScope::Repositories => StorePaths::manifests_below,
                    },
                    after,
                    limit,
                    found: Vec::new(),
                };
                walk.walk_folder(&top, "")?;
                Ok(walk.found)
            }
        }
    }

    fn folders_in(&self, folder: &Path) -> Result<Vec<String>> {
        let names = self
            .disk
            .list(folder)
            .context("list", folder)?
            .unwrap_or_default();
        let folders = names.into_iter().filter(|(_, is_folder)| *is_folder);
        Ok(folders.map(|(name, _)| name).collect())
    }
}

/// Finds repositories, holding only the names of the folders on its way and those it found.
struct RepositoryWalk<'a> {
    store: &'a Store,
    /// The folder that makes a folder count.
    marker_folder: fn(&StorePaths, &Path) -> PathBuf,
    after: &'a str,
    limit: usize,
    found: Vec<String>,
}

impl RepositoryWalk<'_> {
    /// Looks through what lies below `folder`; `prefix` is empty or ends with a slash.
    fn walk_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
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
                    self.walk_folder(&folder.join(&step), &name)?;
                }
            } else if name.as_str() > self.after && self.is_repository(&folder.join(&step))? {
                self.found.push(name);
            }
        }
        Ok(())
    }

    fn is_repository(&self, folder: &Path) -> Result<bool> {
        let sign = (self.marker_folder)(&self.store.paths, folder);
        self.store.disk.is_folder(&sign).context("look at", &sign)
    }
}
