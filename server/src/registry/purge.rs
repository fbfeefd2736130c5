//! Upload sessions that nobody goes on with.

use std::ops::ControlFlow;
use std::time::SystemTime;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::Registry;
use super::error::{Error, Result};
use super::turns;
use crate::store::List;

/// How many names of repositories are held at a time.
const PAGE: usize = 100;

impl Registry {
    /// Looks whether one more upload session may be opened.
    ///
    /// # Errors
    /// [`Error::TooManyUploads`] where there are `most` already.
    pub(crate) fn check_uploads(&self, most: usize) -> Result<()> {
        match self.store.count_uploads(most)? < most {
            true => Ok(()),
            false => Err(Error::TooManyUploads),
        }
    }

    /// Ends the sessions that began before a moment, but for those that are being written to;
    /// yields how many. With `is_dry_run` it only tells which it would end.
    ///
    /// # Errors
    /// Those of the store; what comes after the one that failed is left for the next time.
    pub(crate) fn purge_uploads(&self, before: SystemTime, is_dry_run: bool) -> Result<usize> {
        let (mut after, mut count) = (String::new(), 0);
        loop {
            let names = self.store.list(List::Uploading, &after, PAGE)?;
            for name in &names {
                if let Ok(repository) = name.parse() {
                    count += self.purge_repository(&repository, before, is_dry_run)?;
                }
            }
            match names.last() {
                Some(last) => after.clone_from(last),
                None => break,
            }
        }
        if !is_dry_run {
            self.store.forget_lost_uploads(before)?;
        }
        Ok(count)
    }

    fn purge_repository(
        &self,
        repository: &Repository,
        before: SystemTime,
        is_dry_run: bool,
    ) -> Result<usize> {
        let (mut count, mut result) = (0, Ok(()));
        self.store.each_upload(repository, &mut |id| match self
            .purge_upload(repository, id, before, is_dry_run)
        {
            Ok(is_purged) => {
                count += usize::from(is_purged);
                ControlFlow::Continue(())
            }
            Err(error) => {
                result = Err(error);
                ControlFlow::Break(())
            }
        })?;
        result.map(|()| count)
    }

    fn purge_upload(
        &self,
        repository: &Repository,
        id: UploadId,
        before: SystemTime,
        is_dry_run: bool,
    ) -> Result<bool> {
        let began = self.store.upload_began(repository, id)?;
        if began.is_none_or(|began| began >= before) {
            return Ok(false);
        }
        let Some(_turn) = turns::take(&self.turns, id) else {
            return Ok(false);
        };
        if is_dry_run {
            tracing::info!(%repository, %id, "an old upload would be purged");
            return Ok(true);
        }
        tracing::info!(%repository, %id, "an old upload is purged");
        Ok(self.store.cancel_upload(repository, id)?)
    }
}
