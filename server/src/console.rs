//! Prints results and errors, and returns exit codes.

use std::io::{self, Write as _};
use std::process::ExitCode;

use imgsync_server::CommandOutput;

/// The exit code when the operation failed.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// The exit code when the arguments or the configuration are invalid.
pub(crate) const EXIT_USAGE: u8 = 2;
/// The exit code when a signal interrupts a prompt.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Prints what a command of the operator prints.
pub(crate) struct ConsoleOutput;

impl CommandOutput for ConsoleOutput {
    fn output(&mut self, line: &str) {
        // The exit code cannot tell any more: the command goes on.
        let _ = write_stdout(&format!("{line}\n"));
    }

    fn detail(&mut self, line: &str) {
        write_stderr(&format!("{line}\n"));
    }
}

pub(crate) fn print_result(text: &str) -> ExitCode {
    match write_stdout(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(
            &format!("cannot write to standard output: {error}"),
            None,
            EXIT_FAILURE,
        ),
    }
}

pub(crate) fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints an error and its hint, and returns the exit code.
pub(crate) fn fail(text: &str, hint: Option<&str>, code: u8) -> ExitCode {
    let mut message = format!("error: {text}\n");
    if let Some(hint) = hint {
        message.push_str(&format!("hint: {hint}\n"));
    }
    write_stderr(&message);
    ExitCode::from(code)
}

pub(crate) fn write_stderr(text: &str) {
    // A failure could be reported nowhere.
    let _ = io::stderr().write_all(text.as_bytes());
}
