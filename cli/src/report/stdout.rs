//! What goes to stdout, and whether it came through.

use std::io::{self, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use crate::exit::{Failure, FailureKind};

/// The way to stdout. It remembers what went wrong, so that a command that has its say along the
/// way ends with the right exit code.
#[derive(Debug, Default)]
pub struct StdoutWriter {
    first_error: Mutex<Option<io::Error>>,
}

impl StdoutWriter {
    /// A line of data.
    pub fn print(&self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Data as it is.
    pub fn write(&self, bytes: &[u8]) {
        self.write_or_record(|out| out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// Whether all data came through, or to a reader that went away because it had seen enough.
    ///
    /// # Errors
    /// Why it did not, such as a full disk.
    pub fn finish(&self) -> Result<(), Failure> {
        self.write_or_record(|out| out.flush());
        let mut fault = self
            .first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match fault.take() {
            None => Ok(()),
            Some(error) => {
                let what = format!("cannot write to standard output: {error}");
                let hint = "what was done is done; only what there was to say of it is lost";
                Err(Failure::new(FailureKind::Source, what).with_hint(hint))
            }
        }
    }

    /// Writes, and keeps the first error.
    fn write_or_record(&self, write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
        let result = write(&mut io::stdout().lock());
        let Err(error) = result else { return };
        if error.kind() == ErrorKind::BrokenPipe {
            return;
        }
        let mut fault = self
            .first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(error);
    }
}
