//! Counts the lines of a list that could not be read, and decides when a list ends early.
//!
//! This module sends no requests. Start reading at [`LineErrors::add`].

use std::sync::Arc;

use crate::exit::{Failure, FailureKind};
use crate::report::Report;

/// The number of lines in a row that fail on the network before the list ends.
const MAX_NETWORK_FAILURES: usize = 3;

/// The number of lines so far, and of those that could not be read.
#[derive(Debug, Default)]
pub(super) struct LineErrors {
    line_count: usize,
    failed_count: usize,
    first_kind: Option<FailureKind>,
    /// The number of lines until now that failed on the network, without one that did not.
    network_failures: usize,
}

impl LineErrors {
    /// Counts a line, and shows why it could not be read.
    ///
    /// # Errors
    /// Returns the failure of the line if the list must end: on a rate limit, and if the network
    /// fails again and again.
    pub(super) fn add<T>(
        &mut self,
        line: &Result<T, Failure>,
        report: &Arc<dyn Report>,
    ) -> Result<(), Failure> {
        self.line_count += 1;
        let Err(failure) = line else {
            self.network_failures = 0;
            return Ok(());
        };
        self.network_failures = match failure.kind {
            FailureKind::Network => self.network_failures + 1,
            _ => 0,
        };
        if failure.is_rate_limited || self.network_failures == MAX_NETWORK_FAILURES {
            return Err(failure.clone());
        }
        report.show_failure(failure);
        self.failed_count += 1;
        self.first_kind.get_or_insert(failure.kind);
        Ok(())
    }

    /// Returns the failure of a list of which some lines could not be read. `lines` is the plural of
    /// what the list has.
    pub(super) fn finish(&self, lines: &str) -> Result<(), Failure> {
        let (failed, count) = (self.failed_count, self.line_count);
        let kind = match self.first_kind {
            None => return Ok(()),
            Some(first) if failed == count => first,
            Some(_) => FailureKind::Partial,
        };
        let what = format!("{failed} of {count} {lines} could not be read");
        Err(Failure::new(kind, what))
    }
}
