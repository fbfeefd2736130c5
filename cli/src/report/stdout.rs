//! Writes to stdout, and records whether that succeeded.
//!
//! This module does not format anything. Start reading at [`StdoutWriter`].

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::exit::{Failure, FailureKind};

/// A writer for stdout that records the first error, so that a command that prints its results as
/// it goes still ends with the right exit code.
#[derive(Debug, Default)]
pub struct StdoutWriter {
    first_error: Mutex<Option<io::Error>>,
}

impl StdoutWriter {
    /// Returns whether a person reads the data.
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Prints a line of data.
    pub fn print(&self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Writes bytes without a line break.
    pub fn write(&self, bytes: &[u8]) {
        self.write_or_record(|out| out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// Checks that all data was written. Data that was not read because the reader has closed the
    /// pipe counts as written.
    ///
    /// # Errors
    /// Returns the first write error, for example of a full disk.
    pub fn finish(&self) -> Result<(), Failure> {
        self.write_or_record(|out| out.flush());
        let Some(error) = self.first_error().take() else {
            return Ok(());
        };
        let what = format!("cannot write to standard output: {error}");
        let hint = "the command itself has succeeded; only its output is incomplete";
        Err(Failure::new(FailureKind::Source, what).with_hint(hint))
    }

    /// Writes, and records the first error. A closed pipe is no error.
    fn write_or_record(&self, write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
        match write(&mut io::stdout().lock()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                self.first_error().get_or_insert(error);
            }
            _ => {}
        }
    }

    fn first_error(&self) -> MutexGuard<'_, Option<io::Error>> {
        let first_error = self.first_error.lock();
        first_error.unwrap_or_else(PoisonError::into_inner)
    }
}
